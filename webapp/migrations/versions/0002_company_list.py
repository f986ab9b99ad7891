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

# The orders of the list. None is ever NULL, because a keyset page leaves NULLs out, and a company that lacks the value
# comes last: U+FFFF stands behind every letter, -infinity before every time.
ORDERS = {
    "name": "name_key",
    "city": 'city_key(city) COLLATE "C"',
    "country": "country_rank(country)",
    "last": "coalesce(last_synchronised_at, '-infinity'::timestamptz)",
}


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION city_key(city text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN coalesce(nullif(fold(city), ''), U&'\\FFFF')
        """
    )
    # People look for Spain under S, not under its code ES. The names are those of the day of this migration: a name that
    # changes later moves by a few lines at most until a migration ranks anew.
    ranks = {code: rank for rank, (code, _) in enumerate(country_choices(), start=1)}
    op.execute(
        f"""
        CREATE FUNCTION country_rank(code text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN coalesce(('{json.dumps(ranks)}'::jsonb -> code)::integer, 1000)
        """
    )
    op.add_column("company", sa.Column("made_by_form", sa.Text(), nullable=True))
    op.create_index(
        "uq_company_made_by_form",
        "company",
        ["made_by_form"],
        unique=True,
        postgresql_where=sa.text("made_by_form IS NOT NULL"),
    )
    for name, key in ORDERS.items():
        op.execute(f"CREATE INDEX ix_company_by_{name} ON company (({key}), id)")
    # A status of few records may stand at the far end of these two orders; the other two have nothing to do with it.
    for name in ("name", "last"):
        op.execute(f"CREATE INDEX ix_company_status_by_{name} ON company (sync_status, ({ORDERS[name]}), id)")
    # For values that few companies have; where many have it, the walk along an order finds them soon.
    op.execute("CREATE INDEX ix_company_prospects ON company (name_key, id) WHERE type = 'prospect'")
    op.execute("CREATE INDEX ix_company_owner ON company (owner_id)")
    op.execute("CREATE INDEX ix_company_country ON company (country)")
    op.execute("CREATE INDEX ix_company_search ON company USING gin (search_text gin_trgm_ops)")
