"""Every list at a million companies, two million contacts and a million orders, while a sync writes 200 changes a second.

And what the panel of filters asks for beside the list: how many records each choice has, and cities that begin so.

Milliseconds in the server, from the request to the compressed answer, as bench/lists.py takes them. Two other processes
change the status of records meanwhile, by what the workers do it with: one row, its history, the counters, and the word to
the browsers, each change in a transaction of its own. PostgreSQL has the settings that a server of this size is given.

Beside it in the same run: the same pages with OFFSET for the place and COUNT(*) for how many there are and for the
counters, on the same indexes; the same pages at a hundredth of the size; and each page 10,000 beside its page 1 (the
middle of the list, where it has fewer pages).

BENCH_COMPANIES is the number of companies, 1,000,000 unless the environment says otherwise.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import Flask
from sqlalchemy import ColumnElement, Text, cast, func, make_url, select, text
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from bench.lists import planned_the_usual_way, quantile
from bench.seed import seed_companies, seed_contacts_and_orders, seed_lines
from bench.servers import own_servers
from tests.people import add_person, sign_in
from webapp import create_app
from webapp import interpreter as web_interpreter
from webapp.companies import forms as company_forms
from webapp.companies import queries as company_queries
from webapp.companies import views as company_views
from webapp.companies.countries import country_choices
from webapp.config import Settings
from webapp.contacts import forms as contact_forms
from webapp.contacts import queries as contact_queries
from webapp.contacts import views as contact_views
from webapp.listing.pages import Listing, Page
from webapp.listing.query import PAGE, Cursor, ListQuery
from webapp.migrations import create_database, migrate
from webapp.orders import forms as order_forms
from webapp.orders import queries as order_queries
from webapp.orders import views as order_views
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import SyncCursor
from webapp.sync.transitions import move
from workers import interpreter as worker_interpreter
from workers.engine import kinds
from workers.engine.claim import record_in_step, take_in_hand
from workers.engine.due import First
from workers.engine.kinds import Kind
from workers.engine.lease import SECONDS, Lease
from workers.sage.connector import RemoteRecord

COMPANIES = int(os.environ.get("BENCH_COMPANIES", 1_000_000))
SMALL = COMPANIES // 100
PAGES_DEEP = 10_000
ROUNDS = 3
CHANGES_A_SECOND = 200
WRITERS = 2
WRITTEN = (kinds.COMPANIES, kinds.CONTACTS, kinds.ORDERS)
TARGET = 50  # ms
MOST_GROWTH = 1.5

# The embedded server's settings are for a machine that it shares with the product, and for thousands of records. With
# more it is given what the README says: the tables and indexes of these are 4 GB, and what sync writes touches new pages
# of them all the time, each of which goes to the log whole once after each checkpoint: so these are seldom.
SERVER = {
    "shared_buffers": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 4 >> 20}MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
}

ANYBODY = {number: f"Person {number}" for number in range(1, 13)}


@dataclass(frozen=True)
class Module:
    """A list as the benchmark asks for it: its filters by the name that the table shows, each in all orders.

    `panel` are the addresses that the panel of filters asks for, by the same kind of name. `usual` are functions of the
    module's views that the peer has in place of ours, beside `reads_by`.
    """

    name: str
    listing: Listing[Any, Any]
    read: Callable[[MultiDict[str, str]], ListQuery]
    views: ModuleType
    reads_by: str
    filters: dict[str, list[str]]
    panel: dict[str, list[str]]
    usual: dict[str, Callable[..., Any]]


def _count_the_usual_way(table: str, *columns: str) -> Callable[..., dict[str, int]]:
    """What counts the records of each value of these columns, all of them."""

    def count(session: Session, *_total: int) -> dict[str, int]:
        return {
            f"{column}:{value}": n
            for column in columns
            for value, n in session.execute(text(f"SELECT {column}, count(*) FROM {table} GROUP BY 1")).all()
        }

    return count


def _cities_the_usual_way(session: Session, begin: str) -> Sequence[str]:
    asked = text("SELECT DISTINCT city FROM company WHERE fold(city) LIKE fold(:begin) || '%' ORDER BY city LIMIT 12")
    return session.scalars(asked, {"begin": begin}).all()


MODULES = (
    Module(
        "companies",
        company_queries.LISTING,
        lambda args: company_forms.read_query(args, ANYBODY, dict(country_choices())),
        company_views,
        "list_companies",
        {
            "everything": [""],
            "status": ["status=pending", "status=review", "status=pending&status=review&status=not_synchronised"],
            "filters": ["type=prospect", "owner=3", "owner=none", "country=DE", "country=VE", "country=DE&owner=4"],
            "search": ["q=zu", "q=gmbh", "q=lodz+tea", "q=office4711", "q=C000815", "q=ember", "q=nobody+has+this"],
            "search with filters": ["status=review&q=gmbh", "status=pending&status=review&country=DE&q=ember"],
            "several choices": [
                "owner=3&owner=4&owner=none",
                "country=DE&country=VE",
                "country=AR&country=VE&owner=2",
                "type=customer&type=prospect",
                "status=pending&status=review&owner=1&owner=none&country=PL&country=PT",
            ],
            "several choices with search": [
                "owner=3&owner=4&owner=none&q=tea",
                "country=DE&country=VE&q=ember",
                "type=prospect&owner=1&owner=2&q=gmbh",
                "country=AR&country=VE&q=nobody",
            ],
            "city": ["city=lodz", "city=Berlin&country=DE&country=AT", "city=nowhere"],
            "city with search": ["city=lodz&q=tea", "city=Berlin&owner=3&q=gmbh", "city=Zürich&q=c00081"],
        },
        {
            "counts of the panel": ["/companies/counts"],
            "suggestions of cities": [
                "/companies/cities?begin=",
                "/companies/cities?begin=l",
                "/companies/cities?begin=são",
            ],
        },
        {
            "count_choices": _count_the_usual_way("company", "country", "owner_id", "type"),
            "cities": _cities_the_usual_way,
        },
    ),
    Module(
        "contacts",
        contact_queries.LISTING,
        lambda args: contact_forms.read_query(args, {"4711", "815", "99"}),
        contact_views,
        "list_contacts",
        {
            "everything": [""],
            "status": ["status=pending", "status=review", "status=pending&status=not_synchronised"],
            "filters": ["company=4711"],
            "search": ["q=ana", "q=accountant+lodz", "q=person4711", "q=nobody+has+this"],
            "search with filters": ["status=review&q=buyer", "company=4711&q=example"],
            "several choices": ["company=4711&company=815&company=99", "company=4711&company=815&status=synchronised"],
            "several choices with search": ["company=4711&company=815&company=99&q=buyer"],
        },
        {"counts of the panel": ["/contacts/counts"]},
        {},
    ),
    Module(
        "orders",
        order_queries.LISTING,
        lambda args: order_forms.read_query(args, ANYBODY, {"4711", "815", "99"}, products={"1", "2", "17"}),
        order_views,
        "list_orders",
        {
            "everything": [""],
            "status": ["status=pending", "status=review", "status=pending&status=not_synchronised"],
            "filters": [
                "phase=validating",
                "phase=validated&owner=1",
                "phase=synchronising",
                "owner=3",
                "owner=none",
                "company=4711",
                "ordered_from=2021-03-01&ordered_to=2021-03-05",
                "ordered_to=2020-01-20&owner=none",
            ],
            "search": ["q=s-00047", "q=zu", "q=train+lodz", "q=nobody+has+this"],
            "search with filters": ["status=review&q=tea", "owner=3&q=ember"],
            "several choices": [
                "phase=validating&phase=validated",
                "phase=validated&phase=synchronising",
                "phase=validating&phase=synchronised",
                "owner=1&owner=2&owner=none",
                "company=4711&company=815&company=99",
            ],
            "several choices with search": [
                "phase=validating&phase=validated&q=tea",
                "owner=1&owner=2&owner=none&q=ember",
                "phase=validated&phase=synchronising&owner=3&q=lodz",
            ],
            "by a product of the lines": ["product=1", "product=2", "product=17", "product=2&product=17&status=review"],
            "totals from and to": [
                "total_from=4999.5",
                "total_from=100&total_to=101",
                "total_to=4000",
                "total_to=4000&owner=1",
                "total_from=2500&ordered_from=2024-01-01&ordered_to=2024-01-31",
            ],
            "totals with search": [
                "total_from=100&total_to=300&q=ember",
                "total_from=4990&q=train",
                "total_to=4000&q=tea",
            ],
        },
        {"counts of the panel": ["/orders/counts"]},
        {"count_choices": _count_the_usual_way("sales_order", "owner_id", "phase")},
    ),
)


@dataclass(frozen=True)
class Asked:
    """An address of a list; `deep` is the same list's page far inside, None where it has one page.

    The peer is asked for the `by_peer` alone: one that takes a second for a page would take all the time there is.
    """

    group: str
    first: str
    deep: str | None
    by_peer: bool


@dataclass
class Times:
    """Milliseconds of each request by its place in the list, of all addresses of one module and group."""

    first: list[float]
    deep: list[float]

    @property
    def all(self) -> list[float]:
        """Both."""
        return self.first + self.deep


def run() -> list[dict[str, Any]]:
    """The figures: {name, ours, peer, ratio, target}."""
    with tempfile.TemporaryDirectory() as folder, own_servers(Path(folder), SERVER) as services, ExitStack() as ends:
        large = ends.enter_context(_filled(services.settings, "large", COMPANIES))
        small = ends.enter_context(_filled(services.settings, "small", SMALL))
        return list(_measured(large, small))


def _measured(large: Filled, small: Filled) -> Iterator[dict[str, Any]]:
    many: dict[tuple[str, str], Times] = {}
    few: dict[tuple[str, str], Times] = {}
    peers: dict[tuple[str, str], Times] = {}
    places = {module.name: (large.places(module), small.places(module)) for module in MODULES}
    with large.sync() as changes:
        # What is not yet in memory is read by the first.
        for module in MODULES:
            _time(large, module, places[module.name][0], 1, {})
        for module in MODULES:
            _time(large, module, places[module.name][0], ROUNDS, many)
        with ExitStack() as usual:
            usual.enter_context(planned_the_usual_way(large.app.extensions["synclight"].database.engine))
            for module in MODULES:
                usual.enter_context(_usual_way(module))
                _time(large, module, [asked for asked in places[module.name][0] if asked.by_peer], 1, peers)
    with small.sync():
        for module in MODULES:
            _time(small, module, places[module.name][1], 1, {})
        for module in MODULES:
            _time(small, module, places[module.name][1], ROUNDS, few)
    yield from _rows(many, few, peers)
    yield _row(f"changes a second beside it, wanted {CHANGES_A_SECOND}", changes())


def _rows(
    many: dict[tuple[str, str], Times], few: dict[tuple[str, str], Times], peers: dict[tuple[str, str], Times]
) -> Iterator[dict[str, Any]]:
    at = f"at {COMPANIES:,} companies and {CHANGES_A_SECOND} changes/s"
    for (module, group), times in many.items():
        other = peers[module, group].all
        yield _row(
            f"list of {module} {at}, {group}, p50, ms; peer: OFFSET and COUNT(*)", median(times.all), median(other)
        )
        yield _row(
            f"list of {module} {at}, {group}, p95, ms; peer: OFFSET and COUNT(*)",
            quantile(times.all, 0.95),
            quantile(other, 0.95),
            TARGET,
        )
    everything = [one for times in many.values() for one in times.all]
    others = [one for times in peers.values() for one in times.all]
    yield _row("all of these, p50, ms; peer: OFFSET and COUNT(*)", median(everything), median(others))
    yield _row(
        "all of these, p95, ms; peer: OFFSET and COUNT(*)", quantile(everything, 0.95), quantile(others, 0.95), TARGET
    )
    first = median([one for times in many.values() for one in times.first])
    deep = median([one for times in many.values() for one in times.deep])
    yield _row(f"page {PAGES_DEEP:,} of all of these, p50, ms; peer: our page 1", deep, first)
    smaller = median([one for times in few.values() for one in times.all])
    yield _row(
        f"all of these, p50, ms; peer: ours at {SMALL:,} companies; target: the ratio",
        median(everything),
        smaller,
        MOST_GROWTH,
    )


def _row(name: str, ours: float, peer: float | None = None, target: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": round(ours, 1),
        "peer": None if peer is None else round(peer, 1),
        "ratio": None if peer is None else round(ours / peer, 3),
        "target": target,
    }


@dataclass(frozen=True)
class Filled:
    """A database with many records, the app on it, and a browser of somebody who is signed in."""

    settings: Settings
    app: Flask
    get: Callable[[str], float]

    def places(self, module: Module) -> list[Asked]:
        """The addresses of the first page and of one that is deep inside, for each filter in each order; those of the panel."""
        asked = []
        for group, filters in module.filters.items():
            for one in filters:
                matching: int | None = None
                for number, sort in enumerate(module.listing.keys):
                    query = module.read(MultiDict(parse_qsl(f"{one}&sort={sort}")))
                    assert not query.problems, query.problems
                    matching = self._matching(module.listing, query) if matching is None else matching
                    deep = None if matching <= PAGE else self._deep(module.listing, query, matching)
                    first = f"/{module.name}?{urlencode(query.pairs())}"
                    asked.append(Asked(group, first, deep and f"/{module.name}?{deep}", by_peer=number == 0))
        return asked + [
            Asked(group, address, None, by_peer=True) for group, panel in module.panel.items() for address in panel
        ]

    def _matching(self, listing: Listing[Any, Any], query: ListQuery) -> int:
        counted = select(func.count()).select_from(listing.table).where(*_usual_limits(listing, query))
        with Session(self.app.extensions["synclight"].database.engine) as session:
            return session.scalar(counted) or 0

    def _deep(self, listing: Listing[Any, Any], query: ListQuery, matching: int) -> str:
        key = cast(listing.keys[query.sort], Text).label("sort_text")
        place = listing.keys[query.sort], listing.table.c.id
        offset = min(PAGES_DEEP * PAGE, matching // 2)
        found = select(key, listing.table.c.id).where(*_usual_limits(listing, query)).order_by(*place)
        with Session(self.app.extensions["synclight"].database.engine) as session:
            at = session.execute(found.offset(offset).limit(1)).one()
        return urlencode(query.changed(cursor=Cursor(at.sort_text, at.id)).pairs())

    @contextmanager
    def sync(self) -> Iterator[Callable[[], float]]:
        """While it is open, others write; what it gives says afterwards how many changes a second they made."""
        url, redis = self.settings.database_url, self.settings.redis_url
        command = [sys.executable, "-m", "bench.million", "write", url, redis, str(self.settings.var)]
        made: list[float] = []
        with ExitStack() as ends:
            writers = [
                ends.enter_context(subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True))
                for number in range(WRITERS)
            ]
            try:
                for writer in writers:
                    assert writer.stdout is not None
                    assert writer.stdout.readline() == "writing\n"
                yield lambda: sum(made)
            finally:
                for writer in writers:
                    writer.send_signal(signal.SIGTERM)
                made += [json.loads(writer.communicate()[0]) for writer in writers]


@contextmanager
def _filled(settings: Settings, name: str, companies: int) -> Iterator[Filled]:
    url = make_url(settings.database_url).set(database=name).render_as_string(hide_password=False)
    create_database(url)
    migrate(url)
    seed_companies(url, companies)
    seed_contacts_and_orders(url)
    seed_lines(url)
    chosen = settings.model_copy(update={"database_url_setting": url})
    services = Services.open(chosen, application_name="synclight-bench")
    app = create_app(chosen)
    client = app.test_client()
    assert sign_in(client, add_person(services)).status_code == 303
    with services.database.unit_of_work() as work:
        # Nothing is due before it was read once.
        work.session.add_all(
            SyncCursor(connection_id=1, entity=kind.cursor, watermark=datetime.now(UTC)) for kind in WRITTEN
        )
        work.commit()
    services.database.engine.dispose()
    web_interpreter.settle()

    def get(address: str) -> float:
        began = time.perf_counter()
        answer = client.get(address, headers={"Accept-Encoding": "br"})
        took = (time.perf_counter() - began) * 1000
        assert answer.status_code == 200
        return took

    yield Filled(chosen, app, get)
    app.extensions["synclight"].database.engine.dispose()


def _time(filled: Filled, module: Module, places: list[Asked], rounds: int, into: dict[tuple[str, str], Times]) -> None:
    """Ask for each of these places so many times, and note how long each request took."""
    for asked in places:
        times = into.setdefault((module.name, asked.group), Times([], []))
        for address, there in ((asked.first, times.first), (asked.deep, times.deep)):
            if address is not None:
                there += [filled.get(address) for _ in range(rounds)]


@contextmanager
def _usual_way(module: Module) -> Iterator[None]:
    """While it is open, the pages of the module are built the usual way."""
    listing = module.listing

    def read(session: Session, query: ListQuery) -> Page[Any]:
        limits = _usual_limits(listing, query)
        key, row = listing.keys[query.sort], listing.table.c.id
        order = (key.desc(), row.desc()) if query.descending else (key, row)
        counted = session.scalar(select(func.count()).select_from(listing.table).where(*limits)) or 0
        offset = min(PAGES_DEEP * PAGE, counted // 2) if query.cursor else 0
        columns = [listing.table.c[one.name] for one in fields(listing.row)]
        page = select(*columns).where(*limits).order_by(*order).offset(offset).limit(PAGE)
        found = session.execute(page).all()
        status = listing.table.c.sync_status
        session.execute(select(status, func.count()).group_by(status)).all()
        return Page([listing.row(*one) for one in found], None, None)

    usual = {**module.usual, module.reads_by: read}
    ours = {name: getattr(module.views, name) for name in usual}
    for name, function in usual.items():
        setattr(module.views, name, function)
    try:
        yield
    finally:
        for name, function in ours.items():
            setattr(module.views, name, function)


def _usual_limits(listing: Listing[Any, Any], query: ListQuery) -> list[ColumnElement[bool]]:
    table, texts = listing.table, listing.texts
    words = [texts.c.search_text.like(func.fold(f"%{word}%")) for word in query.words]
    limits = [table.c.id.in_(select(texts.c.id).where(*words))] if words else []
    if query.statuses:
        limits.append(table.c.sync_status.in_(query.statuses))
    return [*listing.filters(query, table), *listing.moving(query, table), *limits]


def write(url: str, redis: str, folder: str, seed: str) -> None:
    """Change records until SIGTERM, as one of WRITERS; then print how many a second it were."""
    settings = Settings(DATABASE_URL=url, REDIS_URL=redis, var=Path(folder))
    services = Services.open(settings, application_name="synclight-bench")
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    chance = random.Random(seed)
    with Session(services.database.engine) as session:
        highest = {kind: session.scalar(select(func.max(kind.model.id))) or 1 for kind in WRITTEN}
    worker_interpreter.settle()
    print("writing", flush=True)
    began, changes = time.monotonic(), 0
    with services.database.kept_connection():
        while not stopping:
            kind = chance.choice(WRITTEN)
            for _ in _synchronise(services, kind, chance.randint(1, highest[kind])):
                changes += 1
                time.sleep(max(0.0, began + changes * WRITERS / CHANGES_A_SECOND - time.monotonic()))
    print(json.dumps(changes / (time.monotonic() - began)))


def _synchronise(services: Services, kind: Kind, record_id: int) -> Iterator[None]:
    """Queue a record that is in step, take it in hand, and record that it is in step again; comes back after each commit."""
    with services.database.unit_of_work() as work:
        record = work.session.get_one(kind.model, record_id, with_for_update=True)
        if record.sync_reason != Reason.IN_STEP or record.connection_id is None or record.sage_id is None:
            return
        connection_id, sage_id = record.connection_id, record.sage_id
        move(work, record, Reason.QUEUED, {"code": "queued"}, cause="worker")
        work.commit()
    yield
    # The lease of the one process that may write; the writers stand for several companies in Sage.
    lease = Lease(services.database, connection_id, 0, time.monotonic() + SECONDS)
    claimed = take_in_hand(services, First(kind, record_id, True, {}), lease)
    if claimed is None:
        return
    yield
    there = RemoteRecord(sage_id, str(record_id), datetime.now(UTC), claimed.fields)
    assert record_in_step(services, claimed, there, None)
    yield


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(*sys.argv[2:])
    else:
        for measured in run():
            print(measured)
