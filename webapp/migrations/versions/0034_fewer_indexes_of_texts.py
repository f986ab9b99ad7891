"""Indexes of the texts that no list reads any more are gone: each new record is spared them.

The owner stands in the index of the search, and the days and totals of orders in those that walks go along.
"""

from __future__ import annotations

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, columns in {"company": ("owner_id",), "sales_order": ("owner_id", "ordered_on", "total")}.items():
        for column in columns:
            op.drop_index(f"ix_{table}_text_{column}", f"{table}_text")
