"""What a person asked for goes to Sage before what an import or a resync of everything has queued."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("company", "contact", "sales_order"):
        op.add_column(table, sa.Column("urgent", sa.Boolean(), server_default=sa.text("false"), nullable=False))
        op.drop_index(f"ix_{table}_due", table)
        op.create_index(
            f"ix_{table}_due",
            table,
            ["connection_id", sa.text("urgent DESC"), "next_attempt_at", "id"],
            postgresql_where=sa.text("sync_status = 'pending'"),
        )
