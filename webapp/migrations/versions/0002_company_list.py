"""What the list of companies is read from: an index for each order and filter, and one for the search.

And the mark of the form that a company was made with.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from webapp.companies.countries import country_choices

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The orders of the list. None is ever NULL, because a keyset page leaves NULLs out.
ORDERS = {
    "name": "name_key",
    "city": "city_key",
    "country": "country_rank",
    "last": "coalesce(last_synchronised_at, '-infinity'::timestamptz)",
}


def upgrade() -> None:
    # People look for Spain under S, not under its code ES. The names are those of the day of this migration: a name
    # that changes later moves by a few lines at most until a migration ranks anew.
    ranks = {code: rank for rank, (code, _) in enumerate(country_choices(), start=1)}
    # A company that lacks the value comes last: U+FFFF stands behind every letter.
    op.execute(
        f"""
        ALTER TABLE company
        ADD COLUMN city_key text COLLATE "C" NOT NULL
            GENERATED ALWAYS AS (coalesce(nullif(fold(city), ''), U&'\\FFFF')) STORED,
        ADD COLUMN country_rank integer NOT NULL
            GENERATED ALWAYS AS (coalesce(('{json.dumps(ranks)}'::jsonb -> country)::integer, 1000)) STORED,
        ADD COLUMN made_by_form text
        """
    )
    op.create_index(
        "uq_company_made_by_form",
        "company",
        ["made_by_form"],
        unique=True,
        postgresql_where=sa.text("made_by_form IS NOT NULL"),
    )
    for name, key in ORDERS.items():
        op.execute(f"CREATE INDEX ix_company_by_{name} ON company (({key}), id)")
    for name in ("name", "last"):
        key = ORDERS[name]
        # A status of few records, or the prospects, which Sage has never seen, may stand at the far end of an order.
        op.execute(f"CREATE INDEX ix_company_status_by_{name} ON company (sync_status, ({key}), id)")
        op.execute(f"CREATE INDEX ix_company_prospects_by_{name} ON company (({key}), id) WHERE type = 'prospect'")
    op.execute("CREATE INDEX ix_company_owner ON company (owner_id)")
    # The cities of a country stand in one place of their order.
    op.execute("CREATE INDEX ix_company_country ON company (country, city_key, id)")
    op.execute("CREATE INDEX ix_company_search ON company USING gin (search_text gin_trgm_ops)")
