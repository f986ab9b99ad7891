"""Quantities and the prices of one unit have as many decimals as were given: Sage's have more than two.

A column without a scale is only told of: no row is written anew, and no index is made again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

COLUMNS = (
    ("sales_order_line", "quantity"),
    ("sales_order_line", "unit_price"),
    ("product", "unit_price"),
    ("product_text", "unit_price"),
)


TRIGGER = (
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'keep_text_update' AND tgrelid = 'product'::regclass"
)


def upgrade() -> None:
    # A trigger that names a column holds on to its type.
    made_by = op.get_bind().scalar(sa.text(TRIGGER))
    op.execute("DROP TRIGGER keep_text_update ON product")
    for table, column in COLUMNS:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE numeric")
    op.get_bind().exec_driver_sql(made_by)
