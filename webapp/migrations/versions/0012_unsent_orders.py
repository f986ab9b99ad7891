"""The few orders whose prices are being validated are found among millions that were sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_sales_order_unsent",
        "sales_order",
        ["phase", "ordered_on", "id"],
        postgresql_where=sa.text("sync_status = 'not_synchronised'"),
    )
