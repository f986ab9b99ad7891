"""An admin chooses which fields the page of a record shows first."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "highlighted_fields",
        sa.Column("module", sa.Text, primary_key=True),
        sa.Column("fields", ARRAY(sa.Text), nullable=False),
    )
