"""Many records at once, for benchmarks and for tests of query plans: invented, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.sql import SQL, Identifier

_FIRST = [
    "Alder",
    "Birch",
    "Cedar",
    "Delta",
    "Ember",
    "Fjord",
    "Gable",
    "Harbour",
    "Isar",
    "Juniper",
    "Kestrel",
    "Linden",
    "Müller",
    "Norden",
    "Österberg",
    "Piñón",
    "Quarry",
    "Rowan",
    "São",
    "Tårn",
    "Umber",
    "Våga",
    "Wexel",
    "Ypsilon",
    "Zürich",
    "Ångström",
    "Château",
    "Dómer",
    "Étoile",
    "Łódź",
]
_SECOND = [
    "Foods",
    "Trading",
    "Import",
    "Export",
    "Supplies",
    "Logistics",
    "Wines",
    "Cheese",
    "Seafood",
    "Bakery",
    "Coffee",
    "Tea",
    "Spices",
    "Grains",
    "Orchard",
    "Dairy",
    "Garden",
    "Market",
    "Kitchen",
    "Pantry",
]
_FORM = ["Ltd", "GmbH", "SA", "SARL", "AB", "Oy", "BV", "SpA", "Lda", "ApS", "Inc", "Kft"]
_PLACES = [
    ("DE", "Berlin"), ("DE", "München"), ("DE", "Köln"), ("GB", "London"), ("GB", "Leeds"), ("FR", "Nantes"), ("FR", "Orléans"),
    ("ES", "Madrid"), ("ES", "A Coruña"), ("IT", "Torino"), ("SE", "Luleå"), ("SE", "Malmö"), ("NO", "Ålesund"),
    ("DK", "Århus"),
    ("FI", "Jyväskylä"), ("PL", "Łódź"), ("PT", "São João"), ("BR", "São Paulo"), ("MX", "México"), ("US", "Portland"),
    ("CA", "Québec"), ("CH", "Zürich"), ("AT", "Graz"), ("BE", "Liège"), ("NL", "Delft"),
    ("IE", "Cork"), ("AR", "Córdoba"), ("VE", "Mérida"),
]  # fmt: skip
_STATUSES = (
    # status, reason, detail, weight
    ("synchronised", "in_step", {"code": "in_step"}, 940),
    ("pending", "queued", {"code": "queued"}, 20),
    (
        "pending",
        "waiting_for_sage",
        {"code": "waiting_for_sage", "state": "unreachable", "since": "2026-11-22T09:12:00+00:00", "every": 60},
        5,
    ),
    ("review", "rejected", {"code": "missing", "field": "country"}, 8),
    ("review", "conflict", {"code": "conflict", "fields": ["phone"]}, 2),
    ("not_synchronised", "excluded", {"code": "excluded"}, 25),
)  # fmt: skip
_COLUMNS = [
    "name",
    "code",
    "type",
    "email",
    "phone",
    "tax_number",
    "address_line_1",
    "address_line_2",
    "city",
    "region",
    "postal_code",
    "country",
    "notes",
    "owner_id",
    "sync_status",
    "sync_reason",
    "sync_detail",
    "sync_version",
    "last_synchronised_at",
    "last_attempt_at",
    "attempts",
    "next_attempt_at",
    "connection_id",
    "sage_id",
    "sage_number",
    "agreed",
]


# Two contacts and an order for each company, alike but for what lists are sorted and filtered by.
_CONTACTS = """
INSERT INTO contact (company_id, company_name, name, role, email, phone, mobile, notes, connection_id, attempts,
                     sync_status, sync_reason, sync_detail, sync_version, last_synchronised_at, next_attempt_at, sage_id)
SELECT id, name, (ARRAY['Ana','Bo','Chloé','Dörte','Emil','Fiona','Gil','Hanne','Iñigo','José'])[1 + id * which % 10]
         || ' ' || (ARRAY['Abel','Brandt','Costa','Dubois','Evans','Fuchs','García'])[1 + (id + which) % 7] || ' ' || id,
       (ARRAY['Owner','Sales Manager','Accountant','Buyer'])[1 + (id + which) % 4],
       'person' || id || '.' || which || '@example.com', '+44 20 ' || lpad(id::text, 7, '0'), '', '', connection_id, 0,
       sync_status, sync_reason, sync_detail, 1, last_synchronised_at - which * interval '1 second', next_attempt_at,
       sage_id || which
FROM company, generate_series(1, 2) AS which
"""
_ORDERS = """
INSERT INTO sales_order (number, company_id, company_name, owner_id, ordered_on, valid_until, phase, shipping, net_total,
                         tax_total, total, notes, internal_notes, connection_id, attempts,
                         sync_status, sync_reason, sync_detail, sync_version, last_synchronised_at, next_attempt_at, sage_id)
SELECT 'S-' || lpad(id::text, 7, '0'), id, name, owner_id, date '2020-01-01' + (id * 7919 % 2400)::int, '2030-01-01',
       CASE WHEN sync_status <> 'not_synchronised' THEN 'confirmed' WHEN id % 9 = 0 THEN 'validating' ELSE 'validated' END,
       0, id * 31 % 500000 / 100.0, 0, id * 31 % 500000 / 100.0, 'By train ' || id % 977, '', connection_id, 0,
       sync_status, sync_reason, sync_detail, 1, last_synchronised_at, next_attempt_at, sage_id
FROM company
"""


# A product that half of the orders name, one that one in a hundred names, and others that one in a thousand names.
_PRODUCTS = """
INSERT INTO product (name, code, unit_price, unit, discontinued, connection_id, attempts,
                     sync_status, sync_reason, sync_detail, sync_version)
SELECT 'Product ' || n, 'P' || n, n, '', false, 1, 0, 'not_synchronised', 'never_sent', '{"code": "never_sent"}', 1
FROM generate_series(1, 1000) AS n
"""
_LINES = """
INSERT INTO sales_order_line (order_id, position, product_id, description, quantity, unit_price, discount, tax_rate)
SELECT id, which, CASE WHEN which = 1 THEN CASE WHEN id % 2 = 0 THEN 1 ELSE 3 + id * 7919 % 998 END
                  WHEN id % 100 = 0 THEN 2 END, 'Line ' || which, 1, 10, 0, 0
FROM sales_order, generate_series(1, 2) AS which
"""


def seed_companies(database_url: str, n: int, *, seed: int = 1) -> None:
    """Put `n` companies, twelve owners and one connection into a migrated database that has none.

    `database_url` is SQLAlchemy's. Ends with ANALYZE, as autovacuum would, so that plans are made on what is there.
    """
    chance = random.Random(seed)
    now = datetime.now(UTC).replace(microsecond=0)
    with _connect(database_url) as connection:
        owners = [
            connection.execute(
                "INSERT INTO app_user (email, name, role, password_hash, active, session_epoch) "
                "VALUES (%s, %s, 'sales', '', true, 1) RETURNING id",
                (f"person{number}@example.com", f"Person {number}"),
            ).fetchone()[0]  # type: ignore[index]
            for number in range(12)
        ]
        connection.execute(
            "INSERT INTO sage_connection (id, product, api_url, business_name, state, direction, cycle_seconds, own_version) "
            "VALUES (1, 'accounting', 'http://127.0.0.1:1/v3.1', 'Many Companies Ltd', 'connected', 'two_way', 60, 1)"
        )
        weights = [weight for *_, weight in _STATUSES]
        with (
            _in_bulk(connection, "company"),
            connection.cursor().copy(f"COPY company ({', '.join(_COLUMNS)}) FROM STDIN") as copy,
        ):
            for number in range(n):
                country, city = chance.choice(_PLACES)
                status, reason, detail, _ = chance.choices(_STATUSES, weights)[0]
                name = f"{chance.choice(_FIRST)} {chance.choice(_SECOND)} {chance.choice(_FORM)} {number}"
                sent = status == "synchronised" or (status != "not_synchronised" and chance.random() < 0.5)
                at = now - timedelta(seconds=chance.randrange(90 * 86_400)) if sent else None
                values = {"name": name, "city": city, "country": country, "reference": f"C{number:06}"}
                copy.write_row(
                    (
                        name,
                        f"C{number:06}",
                        "prospect" if reason == "excluded" else "customer",
                        f"office{number}@{city.encode('ascii', 'ignore').decode().lower().replace(' ', '') or 'post'}.example",
                        f"+49 30 {number:07}",
                        f"DE{number:09}",
                        f"Street {number % 400}",
                        "",
                        city,
                        "",
                        f"{number % 90_000 + 10_000}",
                        "" if reason == "rejected" else country,
                        "",
                        chance.choice([*owners, None]),
                        status,
                        reason,
                        json.dumps(detail),
                        chance.randrange(1, 9),
                        at,
                        at,
                        0,
                        now if status == "pending" else None,
                        1,
                        f"{number:032x}" if sent else None,
                        f"{number}" if sent else None,
                        json.dumps(values) if sent else None,
                    )
                )
        connection.execute("VACUUM ANALYZE company, company_text")


def seed_contacts_and_orders(database_url: str) -> None:
    """Give each company of `seed_companies` two contacts and an order without lines, in the company's status."""
    with _connect(database_url) as connection:
        for table, insert in (("contact", _CONTACTS), ("sales_order", _ORDERS)):
            with _in_bulk(connection, table):
                connection.execute(insert)
            connection.execute(SQL("VACUUM ANALYZE {}, {}").format(Identifier(table), Identifier(f"{table}_text")))


def seed_lines(database_url: str) -> None:
    """Give each order of `seed_contacts_and_orders` two lines, and these the products 1 to 1,000."""
    with _connect(database_url) as connection:
        connection.execute(_PRODUCTS)
        connection.execute("ALTER TABLE sales_order_line DISABLE TRIGGER ALL")
        connection.execute(_LINES)
        connection.execute("ALTER TABLE sales_order_line ENABLE TRIGGER ALL")
        connection.execute("VACUUM ANALYZE product, sales_order_line")


def _connect(database_url: str) -> psycopg.Connection:
    return psycopg.connect(
        database_url.replace("postgresql+psycopg://", "postgresql://"),
        autocommit=True,
        # What a commit has not brought to the disk yet, VACUUM does not mark as visible to all.
        options="-c maintenance_work_mem=256MB",
    )


@contextmanager
def _in_bulk(connection: psycopg.Connection, table: str) -> Iterator[None]:
    """While it is open, only counters and texts follow `table`: the indexes are made afterwards, each in one go."""
    filled = (table, f"{table}_text")
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = ANY(%s::regclass[]) "
        "AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        [[*filled]],
    ).fetchall()
    for index, _ in indexes:
        connection.execute(SQL("DROP INDEX {}").format(Identifier(index)))
    for name in filled:
        connection.execute(SQL("ALTER TABLE {} DISABLE TRIGGER ALL").format(Identifier(name)))
    for trigger in ("count_status_insert", "keep_text_insert"):
        connection.execute(SQL("ALTER TABLE {} ENABLE TRIGGER {}").format(Identifier(table), Identifier(trigger)))
    yield
    for name in filled:
        connection.execute(SQL("ALTER TABLE {} ENABLE TRIGGER ALL").format(Identifier(name)))
    for _, definition in indexes:
        connection.execute(definition)
