"""A pull that reads all of a kind counts what it compared, and what had drifted apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("compared", "drifted"):
        op.add_column("sync_run", sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0")))
        op.alter_column("sync_run", name, server_default=None)
