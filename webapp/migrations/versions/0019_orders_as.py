"""What orders become in Sage is chosen for each connection; so far all were quotes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sage_connection", sa.Column("orders_as", sa.Text, nullable=False, server_default=sa.text("'quotes'"))
    )
    op.create_check_constraint(
        op.f("ck_sage_connection_orders_as"), "sage_connection", "orders_as IN ('quotes', 'invoices')"
    )
