"""Where people see a record in Sage, as Sage says it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("company", "contact", "sales_order"):
        op.add_column(table, sa.Column("sage_page", sa.Text(), nullable=True))
