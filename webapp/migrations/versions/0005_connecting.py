"""What Sage offered to an admin who authorised, and why an authorisation was not taken."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sage_connection", sa.Column("offered", postgresql.JSONB(), nullable=True))
    op.add_column("sage_connection", sa.Column("problem", sa.Text(), nullable=True))
