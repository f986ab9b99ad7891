"""The orders that name a product are found by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_sales_order_line_product_id",
        "sales_order_line",
        ["product_id", "order_id"],
        postgresql_where=sa.text("product_id IS NOT NULL"),
    )
