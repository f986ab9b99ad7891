"""How PostgreSQL reads the lists where there are many companies, each with two contacts and an order.

Never all of them for one page.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL, Engine, event, func, or_, select, text
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from bench.seed import seed_companies, seed_contacts_and_orders, seed_lines
from webapp.companies.countries import country_choices
from webapp.companies.forms import SORTS, read_query
from webapp.companies.models import Company
from webapp.companies.queries import LISTING, cities, filter_choices, list_companies
from webapp.companies.queries import count_choices as company_counts
from webapp.contacts import forms as contacts
from webapp.contacts.queries import LISTING as CONTACTS
from webapp.contacts.queries import list_contacts
from webapp.db import Database
from webapp.listing import pages
from webapp.listing.counts import MOST, count_texts
from webapp.listing.pages import PLANNED, Expected, Found
from webapp.listing.query import PAGE, Cursor
from webapp.orders import forms as orders
from webapp.orders.queries import LISTING as ORDERS_LISTING
from webapp.orders.queries import count_choices as order_counts
from webapp.orders.queries import list_orders
from webapp.sync.queries import read_page_context
from webapp.zone import Reader

COMPANIES = 20_000
PEOPLE = {number: f"Person {number - 1}" for number in range(1, 13)}

FILTERS = (
    "",
    "status=synchronised",
    "status=review",
    "status=pending&status=review",
    "status=pending&status=review&status=not_synchronised",
    "type=customer",
    "type=prospect",
    "owner=1",
    "owner=none",
    "owner=1&owner=2&owner=none",
    "country=DE",
    "country=DE&country=VE",
    "type=customer&type=prospect",
    "city=lodz",
    "city=LODZ&country=PL",
    "city=nowhere",
    "q=zu",
    "q=lodz+tea",
    "q=koeln",
    "q=muenchen+mueller",
    "q=müller",
    "q=de000012345",
    "q=nobody+has+this",
    "status=review&country=DE&owner=1&q=gmbh",
)
ORDERS = tuple(f"sort={sign}{sort}" for sort, sign in product(SORTS, ("", "-")))

FILTERS_OF_CONTACTS = (
    "",
    "status=synchronised",
    "status=pending&status=review",
    "company=17",
    "company=17&company=18",
    "company=17&status=review&q=person",
    "q=zu",
    "q=owner+lodz",
    "synced_from=2026-11-01&synced_to=2026-11-02",
    "q=nobody+has+this",
)

FILTERS_OF_ORDERS = (
    "",
    "status=synchronised",
    "status=pending&status=review",
    "phase=validating",
    "phase=validated&owner=1",
    "phase=synchronising",
    "phase=synchronised",
    "phase=synchronised&status=pending",
    "owner=1",
    "owner=none",
    "owner=1&owner=2&owner=none",
    "phase=validating&phase=validated",
    "phase=validated&phase=synchronising",
    "phase=validating&phase=synchronised",
    "total_from=4999.5",
    "total_from=100&total_to=101",
    "total_to=4000&owner=1",
    "company=17",
    "company=17&company=18",
    "company=17&status=review&q=train",
    "product=1",
    "product=2&status=review",
    "product=17",
    "product=2&product=17&q=train",
    "ordered_from=2021-03-01&ordered_to=2021-03-02",
    "ordered_to=2020-01-02&owner=none",
    "synced_from=2026-11-01&phase=synchronised",
    "synced_to=1970-01-01",
    "q=s-00",
    "q=train+lodz",
    "q=nobody+has+this",
)

# A list, what reads its addresses, and filters and words that many and few records have.
SEARCHED: dict[str, tuple[Any, Any, tuple[str, ...], tuple[str, ...]]] = {
    "companies": (
        LISTING,
        lambda args: read_query(args, PEOPLE, dict(country_choices())),
        (
            "",
            "status=synchronised",
            "status=pending&status=review&owner=none",
            "type=prospect",
            "country=DE&country=VE&owner=2",
            "city=lodz",
            "city=berlin&status=synchronised&type=customer",
            "synced_from=1990-01-01",
        ),
        (
            "zu",
            "umber",
            "tea+gmbh",
            "LODZ",
            "office17",
            "de000012345",
            "nobody",
            "koeln",
            "muenchen+mueller",
            "MÜLLER+köln",
        ),
    ),
    "contacts": (
        CONTACTS,
        lambda args: contacts.read_query(args, {"17", "18"}),
        ("", "status=synchronised", "company=17&company=18", "synced_to=1970-01-01"),
        ("zu", "accountant+łódź", "person47", "44", "nobody"),
    ),
    "orders": (
        ORDERS_LISTING,
        lambda args: orders.read_query(args, PEOPLE, {"17", "18"}),
        (
            "",
            "status=synchronised",
            "phase=validating&phase=validated",
            "phase=synchronised&owner=3",
            "phase=validated&phase=synchronising&owner=1&owner=none",
            "company=17",
            "ordered_from=2021-03-01&ordered_to=2023-03-02&total_from=1000",
        ),
        ("zu", "train+lodz", "tea", "s-0001", "nobody"),
    ),
}


@pytest.fixture(scope="module")
def engine(database_server: URL, template_database: str) -> Iterator[Engine]:
    """A database with many companies. It is only read."""
    name = f"synclight_many_{uuid4().hex[:12]}"
    server = database_server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as outside:
        outside.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        own = database_server.set(database=name).render_as_string(hide_password=False)
        seed_companies(own, COMPANIES)
        seed_contacts_and_orders(own)
        seed_lines(own)
        made = Database(own, server_settings=PLANNED).engine
        yield made
        made.dispose()
        outside.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


@pytest.fixture
def plans(session: Session) -> Iterator[list[dict[str, Any]]]:
    """The plans of the statements that were sent, run for real."""
    found: list[dict[str, Any]] = []
    connection = session.connection()

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, _many: bool) -> None:
        is_run = not context.execution_options.get(pages._EXPLAINED)
        if is_run and statement.lstrip().upper().startswith(("SELECT", "WITH")):
            with cursor.connection.cursor() as beside:
                beside.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
                (plan,) = beside.fetchone()
            found.append((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])

    event.listen(connection, "before_cursor_execute", explain)
    yield found
    event.remove(connection, "before_cursor_execute", explain)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scanned(plans: list[dict[str, Any]]) -> set[str]:
    """The tables that were read from end to end."""
    return {
        node["Relation Name"]
        for plan in plans
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Actual Rows"] + node.get("Rows Removed by Filter", 0) > 100
    }


@pytest.mark.parametrize("address", [f"{filters}&{order}".strip("&") for filters in FILTERS for order in ORDERS])
def test_a_page_of_the_list_scans_no_table(session: Session, plans: list[dict[str, Any]], address: str) -> None:
    query = read_query(MultiDict(parse_qsl(address)), filter_choices(session)[0], dict(country_choices()))
    assert not query.problems
    page = list_companies(session, query)
    if page.next:
        list_companies(session, query.changed(cursor=page.next))
    assert plans
    assert scanned(plans) == set()


@pytest.mark.parametrize("order", ORDERS)
def test_what_many_companies_have_is_met_along_the_order(
    session: Session, plans: list[dict[str, Any]], order: str
) -> None:
    query = read_query(MultiDict(parse_qsl(f"country=DE&{order}")), {}, {"DE"})
    assert list_companies(session, query).next
    assert len(plans) == 1, "the walk, and nothing after it"


@pytest.mark.parametrize("order", ["sort=name", "sort=-city", "sort=country", "sort=-last_synchronised_at"])
@pytest.mark.parametrize("filters", ["type=customer", "owner=1&owner=2&owner=none"])
def test_the_last_page_of_what_many_companies_have_is_met_along_the_order(
    session: Session, plans: list[dict[str, Any]], filters: str, order: str
) -> None:
    query = read_query(MultiDict(parse_qsl(f"{filters}&{order}")), PEOPLE, {"DE"})
    turned = pages._find(session, LISTING, query.changed(descending=not query.descending))[0]
    plans.clear()
    for backwards, at in ((False, query), (True, query.changed(descending=not query.descending))):
        # Nineteen rows are left behind this one.
        page = list_companies(session, at.changed(cursor=Cursor(turned[19].sort_text, turned[19].id, backwards)))
        ids = [row.id for row in turned[:19]]
        assert [row.id for row in page.rows] == (ids if backwards else ids[::-1])
        assert (page.previous if backwards else page.next) is None
    assert max(read(plan, "company") for plan in plans) < 20 * PAGE


@pytest.mark.parametrize("filters", FILTERS_OF_CONTACTS)
def test_a_page_of_contacts_scans_no_table(session: Session, plans: list[dict[str, Any]], filters: str) -> None:
    for sort, sign in product(contacts.SORTS, ("", "-")):
        query = contacts.read_query(MultiDict(parse_qsl(f"{filters}&sort={sign}{sort}")), {"17", "18"})
        assert not query.problems
        page = list_contacts(session, query)
        if page.next:
            list_contacts(session, query.changed(cursor=page.next))
        assert plans
        assert scanned(plans) == set(), (sort, sign)


@pytest.mark.parametrize("filters", FILTERS_OF_ORDERS)
def test_a_page_of_orders_scans_no_table(session: Session, plans: list[dict[str, Any]], filters: str) -> None:
    for sort, sign in product(orders.SORTS, ("", "-")):
        args = MultiDict(parse_qsl(f"{filters}&sort={sign}{sort}"))
        query = orders.read_query(args, PEOPLE, {"17", "18"}, products={"1", "2", "17"})
        assert not query.problems
        page = list_orders(session, query)
        if page.next:
            list_orders(session, query.changed(cursor=page.next))
        assert plans
        assert scanned(plans) == set(), (sort, sign)
        # Half of the orders would be as bad as all of them, by whichever index.
        assert max(read(plan) for plan in plans) < COMPANIES / 2, (sort, sign)
        plans.clear()


@pytest.mark.parametrize("order", ["country", "-country", "city", "-city"])
@pytest.mark.parametrize("filters", ["country=VE&country=AR", "country=VE&country=AR&city=cordoba", "country=VE"])
def test_companies_of_several_countries_are_met_where_they_stand(
    session: Session, plans: list[dict[str, Any]], filters: str, order: str
) -> None:
    query = read_query(MultiDict(parse_qsl(f"{filters}&sort={order}")), {}, {"VE", "AR"})
    way = "DESC" if query.descending else "ASC"
    key = {"country": "country_rank", "city": "city_key"}[query.sort]
    wanted = text(
        f"SELECT id FROM company WHERE country = ANY(:countries) AND :city IN ('', city_key) "
        f"ORDER BY {key} {way}, id {way} LIMIT 2 * {PAGE}"
    )
    page = list_companies(session, query)
    after = list_companies(session, query.changed(cursor=page.next))
    assert max(read(plan, "company") for plan in plans) < 20 * PAGE
    assert [row.id for row in (*page.rows, *after.rows)] == list(
        session.scalars(wanted, {"countries": [*query.country], "city": query.city})
    )


@pytest.mark.parametrize(
    "search",
    [
        "person4711",
        "accountant łódź",
        "PERSON471 Buyer tÅrn",
        "+44 20 0012",
        "100% example",
        "per%n4711",
        "e_ample",
        r"exam\ple.com",
        "person12345.1@example.com",
    ],
)
def test_a_search_finds_what_has_all_its_words_however_they_are_looked_for(
    session: Session, plans: list[dict[str, Any]], search: str
) -> None:
    query = contacts.read_query(MultiDict({"q": search}), set())
    words = [f" {word}" if len(word) == 2 else word for word in query.words]
    condition = " AND ".join(f"strpos(search_text, fold(:word_{n})) > 0" for n in range(len(words)))
    wanted = text(f"SELECT id FROM contact WHERE {condition} ORDER BY name_key, id LIMIT {PAGE}")
    page = list_contacts(session, query)
    assert scanned(plans) == set()
    plans.clear()
    given = {f"word_{n}": word for n, word in enumerate(words)}
    assert [row.id for row in page.rows] == list(session.scalars(wanted, given))


@pytest.mark.parametrize("module", ["companies", "contacts", "orders"])
def test_each_way_of_a_search_finds_the_same_in_the_same_order(session: Session, module: str) -> None:
    """As one statement over the whole table would find it: by walking, by the texts, and by the filters alone."""
    listing, read_one, filters, words = SEARCHED[module]
    chance = random.Random(module)
    addresses = [
        f"{one}&q={word}&sort={sign}{sort}"
        for one, word, sort, sign in product(filters, words, listing.keys, ("", "-"))
    ]
    met = 0
    for address in chance.sample(addresses, 12):
        query = read_one(MultiDict(parse_qsl(address)))
        assert not query.problems
        table, key = listing.table, listing.keys[query.sort]
        has = {word: [pages._place_of(one) for one in pages.spellings(word)] for word in query.words}
        limits = [or_(*(func.strpos(table.c.search_text, func.fold(one)) > 0 for one in ways)) for ways in has.values()]
        limits += pages._limits_but_words(query, listing, table)
        order = (key.desc(), table.c.id.desc()) if query.descending else (key, table.c.id)
        wanted = list(session.scalars(select(table.c.id).where(*limits).order_by(*order)))
        page = pages.read_page(session, listing, query)
        assert [row.id for row in page.rows] == wanted[:PAGE], address
        assert page.matching in (None, len(wanted))
        places = [(query, 0)]
        if page.next is not None:
            places.append((query.changed(cursor=page.next), PAGE))
            assert [row.id for row in pages.read_page(session, listing, places[1][0]).rows] == wanted[PAGE : 2 * PAGE]
        ways = [Expected(1, 1, None, Found(1, 1))]
        if pages._limits_but_words(query, listing, table):
            ways.append(Expected(1, 1, Found(1, 1), Found(9, 9)))
        for expected in ways:
            for at, begins in places:
                sought = pages._sought(session, listing, at, expected)
                assert bool(sought) is not expected.leaves_words
                behind = wanted[begins : begins + PAGE + 1]
                sorted_ = session.execute(pages._all_sorted(listing, at, sought)).all()
                assert [row.id for row in sorted_] == behind, address
                few = session.execute(pages._all_if_few(listing, at, sought, COMPANIES * 2)).all()
                assert [row.id for row in few if row.id is not None] == behind, address
                assert few[0].matching == len(wanted)
        met += len(wanted)
    assert met > 10 * PAGE


@pytest.mark.parametrize(
    ("search", "has"),
    [
        ("müller", "müller|mueller"),
        ("MUELLER", "müller|mueller|muller"),
        ("MU\u0308LLER foods", "(müller|mueller).*foods"),
        ("zürich", "zürich|zuerich"),
        ("mül gmbh", "(mül|muel).*gmbh"),
        ("ös fo", " (ös|oes).* fo"),
        # It has six letters without its accents.
        ("größe gmbh", "grösse.*gmbh"),
    ],
)
def test_what_has_umlauts_is_found_by_either_spelling(session: Session, search: str, has: str) -> None:
    firsts = ("Mueller", "Muellersen", "Muelheim", "Oesch", "Großhandel", "Größen", "Grösse", "Noesis", "Zuerich")
    session.add_all(Company(name=f"{first} Foods GmbH") for first in firsts)
    session.flush()
    query = read_query(MultiDict({"q": search}), PEOPLE, {})
    # What has the accent and what has it not are one, but for the two letters.
    condition = text("SELECT id FROM company WHERE search_text ~ fold(:has) ORDER BY name_key, id")
    wanted = list(session.scalars(condition, {"has": has}))
    assert wanted
    assert [row.id for row in pages.read_page(session, LISTING, query).rows] == wanted[:PAGE]
    sought = pages._sought(session, LISTING, query, Expected(1, 1, None, Found(1, 1)))
    found = session.execute(pages._all_sorted(LISTING, query, sought)).all()
    assert [row.id for row in found] == wanted[: PAGE + 1]
    walked = session.execute(pages._walk(LISTING, query, COMPANIES, may_give_up=False)).all()
    assert [row.id for row in walked] == wanted[: PAGE + 1]


def test_companies_of_a_city_are_sorted_by_country_without_reading_them_all(
    session: Session, plans: list[dict[str, Any]]
) -> None:
    query = read_query(MultiDict(parse_qsl("city=lodz&type=customer&sort=-country")), {}, {})
    found = session.execute(pages._all_sorted(LISTING, query, [])).all()
    assert read(plans.pop(), "company") < 4 * PAGE
    wanted = "SELECT id FROM company WHERE city_key = 'lodz' AND type = 'customer' ORDER BY country_rank DESC, id DESC LIMIT 51"
    assert [row.id for row in found] == list(session.scalars(text(wanted)))


def test_the_texts_know_which_orders_were_not_sent(session: Session, plans: list[dict[str, Any]]) -> None:
    """Of a frequent word only their places are put together, and only these records are read."""
    query = orders.read_query(MultiDict(parse_qsl("phase=validating&phase=validated&q=tea&sort=number")), PEOPLE, ())
    unsent = session.scalar(text("SELECT count(*) FROM sales_order WHERE phase <> 'confirmed'"))
    plans.clear()
    page = list_orders(session, query)
    assert 0 < page.matching < unsent / 4
    assert "ix_sales_order_text_unsent" in {node.get("Index Name") for plan in plans for node in nodes(plan)}
    assert sum(read(plan) for plan in plans) < 2 * page.matching + 2 * PAGE


def test_a_frequent_word_is_looked_for_among_the_few_that_another_filter_leaves(
    session: Session, plans: list[dict[str, Any]]
) -> None:
    """Putting together the places of all that have the word would take longer than looking at these few."""
    query = contacts.read_query(MultiDict(parse_qsl("status=review&q=buyer&sort=company")), set())
    assert list_contacts(session, query).rows
    used = {node.get("Index Name") for plan in plans for node in nodes(plan)}
    assert "ix_contact_status_by_last" in used or "ix_contact_status_by_name" in used
    assert "ix_contact_search" not in used


def test_the_unsent_orders_of_one_person_are_read_alone(session: Session, plans: list[dict[str, Any]]) -> None:
    theirs = "sync_status = 'not_synchronised' AND phase = 'validated' AND owner_id = 1"
    wanted = session.scalar(text(f"SELECT count(*) FROM sales_order WHERE {theirs}"))
    assert wanted
    plans.clear()
    page = list_orders(
        session, orders.read_query(MultiDict(parse_qsl("phase=validated&owner=1&sort=total")), PEOPLE, ())
    )
    assert page.matching == wanted
    # Each is read for its key, and those of the page for what they show.
    assert sum(read(plan) for plan in plans) <= 2 * wanted


def test_a_walk_that_begins_far_from_all_that_match_is_soon_given_up(
    session: Session, plans: list[dict[str, Any]]
) -> None:
    """All companies that are called Umber stand together, behind most others."""
    query = read_query(MultiDict(parse_qsl("q=umber&sort=name")), {}, {})
    for steps in (8_000, 16_000):
        assert session.execute(pages._walk(LISTING, query, steps, may_give_up=True)).all() == []
        assert read(plans.pop(), "company") <= steps / 8
    behind = query.changed(cursor=Cursor("umber", 1))
    assert len(session.execute(pages._walk(LISTING, behind, 8_000, may_give_up=True)).all()) == PAGE + 1


def read(plan: dict[str, Any], table: str = "sales_order") -> int:
    """How many rows of a table a statement looked at."""
    return sum(
        int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in nodes(plan)
        if node.get("Relation Name") == table
    )


def test_counts_beside_the_choices_are_bounded(session: Session, plans: list[dict[str, Any]]) -> None:
    """However many records there are: of each choice no more than a thousand are counted."""
    for table, counted in (("company", company_counts(session, COMPANIES)), ("sales_order", order_counts(session))):
        assert scanned(plans) == set()
        assert sum(read(plan, table) for plan in plans) < (len(counted) + 2) * (MOST + 2)
        plans.clear()
        told = count_texts(counted, {})
        owned = f"SELECT 'owner:' || coalesce(owner_id::text, 'none'), count(*) FROM {table} GROUP BY 1"
        exact = dict(session.execute(text(owned)).all())
        plans.clear()
        for choice, n in exact.items():
            assert told[choice] == (f"{n:,}" if n <= MOST else "1,000+")
    assert told["phase:validating"] == str(
        session.scalar(text("SELECT count(*) FROM sales_order WHERE phase = 'validating'"))
    )


def test_customers_are_counted_beside_few_prospects_and_not_beside_many(session: Session) -> None:
    prospects = session.scalar(text("SELECT count(*) FROM company WHERE type = 'prospect'"))
    assert prospects < MOST
    counts = company_counts(session, COMPANIES)
    assert (counts["type:prospect"], counts["type:customer"]) == (prospects, MOST + 1)
    assert company_counts(session, prospects + 5)["type:customer"] == 5


def test_cities_are_suggested_from_the_index(session: Session, plans: list[dict[str, Any]]) -> None:
    assert len(cities(session, "")) == 12
    assert cities(session, "l") == ["Leeds", "Liège", "Łódź", "London", "Luleå"]
    assert scanned(plans) == set()
    assert max(read(plan, "company") for plan in plans) <= 13


def test_what_stands_around_the_list_scans_no_table(session: Session, plans: list[dict[str, Any]]) -> None:
    owners, countries = filter_choices(session)
    assert (len(owners), len(countries)) == (12, 22)
    read_page_context(session, Company.module, Reader(UTC, datetime.now(UTC)))
    assert scanned(plans) == set()


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        ("q=lodz+tea", "search_text LIKE '%lodz%' AND search_text LIKE '%tea%'"),
        ("q=gmbh&status=review&owner=1", "search_text LIKE '%gmbh%' AND sync_status = 'review' AND owner_id = 1"),
        ("q=nobody+has+this", "false"),
    ],
)
def test_the_number_of_the_few_that_match_is_told_on_each_page(session: Session, filters: str, condition: str) -> None:
    wanted = session.scalar(text(f"SELECT count(*) FROM company WHERE {condition}"))
    query = read_query(MultiDict(parse_qsl(filters)), {1: "Person 0"}, {})
    page = list_companies(session, query)
    assert page.matching == wanted
    met = len(page.rows)
    while page.next:
        page = list_companies(session, query.changed(cursor=page.next))
        assert page.matching == wanted
        met += len(page.rows)
    assert met == wanted


@pytest.mark.parametrize("order", ORDERS)
def test_the_walk_meets_every_company_once_in_order(session: Session, order: str) -> None:
    """All pages in a row are what one sorted query would give, and so they are the other way back."""
    key = {
        "name": "name_key",
        "city": "city_key",
        "country": "country_rank",
        "last_synchronised_at": "coalesce(last_synchronised_at, '-infinity')",
    }[order.removeprefix("sort=").removeprefix("-")]
    way = "DESC" if "=-" in order else "ASC"
    wanted = session.execute(
        text(f"SELECT id FROM company WHERE sync_status IN ('pending', 'review') ORDER BY {key} {way}, id {way}")
    ).scalars()
    query = read_query(MultiDict(parse_qsl(f"status=pending&status=review&{order}")), {}, {})
    met, page = [], list_companies(session, query)
    met += [row.id for row in page.rows]
    while page.next:
        page = list_companies(session, query.changed(cursor=page.next))
        met += [row.id for row in page.rows]
    assert met == list(wanted)
    back = [row.id for row in reversed(page.rows)]
    while page.previous:
        page = list_companies(session, query.changed(cursor=page.previous))
        back += [row.id for row in reversed(page.rows)]
    assert back == met[::-1]
    assert len(met) > 10 * PAGE
