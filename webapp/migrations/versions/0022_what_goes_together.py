"""The planner knows which cities are in a country, and that an order which was sent is in the phase of those that were.

It multiplies how often each is met, as if they had nothing to do with each other, and takes the companies of a city and
its country for one in thirty of what they are. ANALYZE, which also runs by itself, counts what stands together.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE STATISTICS st_company_city (mcv) ON country, city_key FROM company")
    op.execute("CREATE STATISTICS st_sales_order_phase (mcv) ON sync_status, phase FROM sales_order")
