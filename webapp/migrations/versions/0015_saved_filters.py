"""People save filters of the lists under names of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("app_user", sa.Column("saved_filters", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")))
