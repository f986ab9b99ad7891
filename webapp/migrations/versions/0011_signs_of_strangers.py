"""What a stranger in Sage may be is found by an index for each sign, among the companies that it can be alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SIGNS = {"name": "name_key", "code": "lower(code)", "tax_number": "tax_number", "email": "lower(email)"}


def upgrade() -> None:
    for name, sign in SIGNS.items():
        op.create_index(
            f"ix_company_free_{name}",
            "company",
            ["connection_id", sa.text(sign)],
            postgresql_where=sa.text("sage_id IS NULL OR sync_reason = 'deleted_in_sage'"),
        )
