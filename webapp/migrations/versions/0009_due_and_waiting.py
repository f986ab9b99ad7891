"""What waits for its company is no longer in the way of what is due, and is found by itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("company", "contact", "sales_order"):
        op.drop_index(f"ix_{table}_due", table)
        op.create_index(
            f"ix_{table}_due",
            table,
            ["connection_id", sa.text("urgent DESC"), "next_attempt_at", "id"],
            postgresql_where=sa.text("sync_status = 'pending' AND sync_reason <> 'waiting_for_parent'"),
        )
    for table in ("contact", "sales_order"):
        op.create_index(
            f"ix_{table}_waiting",
            table,
            ["company_id"],
            postgresql_where=sa.text("sync_reason = 'waiting_for_parent'"),
        )
