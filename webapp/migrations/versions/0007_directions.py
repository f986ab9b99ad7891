"""Which side has the word on a field, where an admin has said so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sage_connection",
        sa.Column("directions", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
    )
