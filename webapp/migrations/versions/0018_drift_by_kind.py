"""What a reading of all of Sage found out of step is counted by kind and by what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sync_event_drift", "sync_event", ["at"], postgresql_where=sa.text("cause = 'drift'"))
