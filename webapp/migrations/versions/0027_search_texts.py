"""What a search reads stands apart from the status: a narrow table of texts for each module, with the index of the search.

Each change of a status writes the row of a record anew and touches every index of its table, and the index of the search
has an entry for each three letters in a row. The texts do not change then. And a search reads all that have its words:
three of these rows stand where one of a record does. The records keep their search text, which a walk along an order reads.
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_KEY = 'text COLLATE "C" NOT NULL'

# What is copied: the keys of the orders and what lists are filtered by, as far as no status moves it.
COLUMNS = {
    "company": {
        "owner_id": "bigint",
        "country_rank": "integer NOT NULL",
        "type": "text NOT NULL",
        "country": "text NOT NULL",
        "name_key": _KEY,
        "city_key": _KEY,
    },
    "contact": {"company_id": "bigint NOT NULL", "name_key": _KEY, "company_key": _KEY},
    "product": {
        "unit_price": "numeric(14, 2) NOT NULL",
        "discontinued": "boolean NOT NULL",
        "name_key": _KEY,
        "code_key": _KEY,
    },
    "sales_order": {
        "company_id": "bigint NOT NULL",
        "owner_id": "bigint",
        "ordered_on": "date NOT NULL",
        "total": "numeric(14, 2) NOT NULL",
        "phase": "text NOT NULL",
        "number_key": _KEY,
        "company_key": _KEY,
    },
}
# Every column that lists are filtered by; the cities' index is made below.
FILTERED = (
    ("company", "owner_id"),
    ("company", "country"),
    ("company", "type"),
    ("contact", "company_id"),
    ("product", "discontinued"),
    ("sales_order", "company_id"),
    ("sales_order", "owner_id"),
    ("sales_order", "ordered_on"),
    ("sales_order", "total"),
)


def upgrade() -> None:
    # Of a million records the index is made in a third of the time.
    op.execute("SET LOCAL maintenance_work_mem TO '256MB'")
    for table, keys in COLUMNS.items():
        columns = {**keys, "search_text": "text NOT NULL"}
        names = ", ".join(columns)
        columns_as = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        op.execute(f"CREATE TABLE {table}_text (id bigint CONSTRAINT pk_{table}_text PRIMARY KEY, {columns_as})")
        op.execute(
            f"INSERT INTO {table}_text (id, {names}) "  # noqa: S608 - names of ours.
            f"SELECT id, {names} FROM {table} ORDER BY id"
        )
        op.execute(f"CREATE INDEX ix_{table}_text_search ON {table}_text USING gin (search_text gin_trgm_ops)")
        op.create_foreign_key(op.f(f"fk_{table}_text_id"), f"{table}_text", table, ["id"], ["id"], ondelete="CASCADE")
        op.drop_index(f"ix_{table}_search", table)
        _follow(table, list(columns))
    # The few orders that were not sent have an index of their own, in which the places of those need not be looked for.
    op.execute(
        "CREATE INDEX ix_sales_order_text_unsent ON sales_order_text USING gin (search_text gin_trgm_ops) "
        "WHERE phase <> 'confirmed'"
    )
    # All companies of a city may stand in one place of the order of countries, and anywhere in it.
    op.create_index("ix_company_text_city", "company_text", ["city_key", "country_rank", "id"])
    # Where many have a word, those that a filter leaves are put together by the indexes of both.
    for table, column in FILTERED:
        op.create_index(f"ix_{table}_text_{column}", f"{table}_text", [column])
    for table in COLUMNS:
        op.execute(f"ANALYZE {table}_text")


def _follow(table: str, columns: list[str]) -> None:
    """Have the texts follow the records: whole statements that add some, and each row of which a text changes."""
    names = ", ".join(columns)
    op.execute(
        f"""
        CREATE FUNCTION keep_{table}_text() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO {table}_text (id, {names}) SELECT id, {names} FROM new_rows;
            ELSE
                UPDATE {table}_text SET {", ".join(f"{name} = NEW.{name}" for name in columns)} WHERE id = NEW.id;
            END IF;
            RETURN NULL;
        END
        $$
        """  # noqa: S608 - names of ours.
    )
    op.execute(
        f"CREATE TRIGGER keep_text_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows "
        f"FOR EACH STATEMENT EXECUTE FUNCTION keep_{table}_text()"
    )
    # A generated column counts as named where one is that it is made of; a company's name comes with the company.
    before, after = (", ".join(f"{row}.{name}" for name in columns) for row in ("OLD", "NEW"))
    op.execute(
        f"CREATE TRIGGER keep_text_update AFTER UPDATE OF {names} ON {table} FOR EACH ROW "
        f"WHEN (({before}) IS DISTINCT FROM ({after})) EXECUTE FUNCTION keep_{table}_text()"
    )
