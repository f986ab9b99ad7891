"""The unsent orders of one person are found without looking at all others: the index has the owner beside the day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_sales_order_unsent", "sales_order")
    op.create_index(
        "ix_sales_order_unsent",
        "sales_order",
        ["phase", "ordered_on", "id", "owner_id"],
        postgresql_where=sa.text("sync_status = 'not_synchronised'"),
    )
