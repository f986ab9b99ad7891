"""What products are found by while somebody types: folded names and codes, as the lists of records have them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, made_of, type_ in (
        ("name_key", "fold(name)", sa.Text(collation="C")),
        ("code_key", "fold(code)", sa.Text(collation="C")),
        ("search_text", "fold(' ' || code || ' ' || name)", sa.Text()),
    ):
        op.add_column("product", sa.Column(name, type_, sa.Computed(made_of, persisted=True), nullable=False))
    op.create_index(
        "ix_product_on_sale", "product", ["name_key", "id"], postgresql_where=sa.text("discontinued IS FALSE")
    )
    op.create_index("ix_product_code_key", "product", ["code_key"])
    op.execute("CREATE INDEX ix_product_search ON product USING gin (search_text gin_trgm_ops)")
