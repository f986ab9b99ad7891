"""The list page at 100,000 companies: milliseconds in the server, from the request to the compressed answer.

Beside it in the same run the same page as it is often built: OFFSET for the place, COUNT(*) for how many there are and
for the counters, ILIKE for the search. Requests are made in this process, one after the other, so that the figure holds
neither a network nor a queue. Each variant is asked for at its beginning and deep inside.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import ColumnElement, Engine, event, func, select
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from bench.seed import seed_companies
from bench.servers import own_servers
from tests.people import add_person, sign_in
from webapp import create_app
from webapp.companies import views
from webapp.companies.countries import country_choices
from webapp.companies.forms import CompanyQuery, read_query
from webapp.companies.models import Company
from webapp.companies.queries import ListRow, filter_choices, list_companies
from webapp.listing.pages import Page, owned_by
from webapp.listing.query import PAGE
from webapp.services import Services

COMPANIES = 100_000
ROUNDS = 8
PAGES_DEEP = 20
TARGET = 20  # ms

# What is asked for, by the name that the table shows.
VARIANTS = {
    "everything": [""],
    "one status": ["status=pending", "status=review", "status=synchronised"],
    "several statuses": ["status=pending&status=review", "status=pending&status=review&status=not_synchronised"],
    "type, owner or country": ["type=prospect", "owner=3", "owner=none", "country=DE", "country=VE"],
    "several owners or countries, a city": [
        "owner=3&owner=4&owner=none",
        "country=DE&country=VE",
        "city=lodz",
        "city=Nowhere",
    ],
    "search": ["q=zu", "q=lodz+tea", "q=office4711", "q=C0815", "q=nobody+has+this"],
    "search with filters": ["status=review&q=gmbh", "status=pending&status=review&country=DE&q=ember"],
}
SORTS = ["name", "city", "-country", "-last_synchronised_at"]


def run() -> list[dict[str, Any]]:
    """The figures in milliseconds: {name, ours, peer, ratio, target}."""
    with tempfile.TemporaryDirectory() as folder, own_servers(Path(folder)) as services:
        seed_companies(services.settings.database_url, COMPANIES)
        app = create_app(services.settings)
        client = app.test_client()
        assert sign_in(client, add_person(services)).status_code == 303
        rows = []
        everything: tuple[list[float], list[float]] = ([], [])
        for name, filters in VARIANTS.items():
            addresses = [address for one in filters for sort in SORTS for address in _places(services, one, sort)]
            times = _by_turns(app, client, addresses)
            for mine, all_of_them in zip(times, everything, strict=True):
                all_of_them.extend(mine)
            rows += _rows(name, *times)
        rows += _rows("all of these", *everything, target=TARGET)
        app.extensions["synclight"].database.engine.dispose()
    return rows


def _places(services: Services, filters: str, sort: str) -> Iterator[str]:
    """The addresses of the first page and of one that is deep inside."""
    address = f"{filters}&sort={sort}".lstrip("&")
    yield address
    with Session(services.database.engine) as session:
        query = read_query(MultiDict(parse_qsl(address)), filter_choices(session)[0], dict(country_choices()))
        page = list_companies(session, query)
        for _ in range(PAGES_DEEP):
            if page.next is not None:
                query = query.changed(cursor=page.next)
                page = list_companies(session, query)
    if query.cursor is not None:
        yield urlencode(query.pairs())


def _by_turns(app: Flask, client: FlaskClient, addresses: list[str]) -> tuple[list[float], list[float]]:
    """How long each request took, of ours and of the peer's, in the same minute on the same data."""
    ours: list[float] = []
    peers: list[float] = []
    for address in addresses:
        _get(client, address)  # What is not yet in memory is read by the first.
        ours += [_get(client, address) for _ in range(ROUNDS)]
    with _usual_way(app.extensions["synclight"].database.engine):
        for address in addresses:
            _get(client, address)
            peers += [_get(client, address) for _ in range(2)]
    return ours, peers


def _get(client: FlaskClient, address: str) -> float:
    began = time.perf_counter()
    answer = client.get(f"/companies?{address}", headers={"Accept-Encoding": "br"})
    took = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200
    return took


def _rows(name: str, ours: list[float], peers: list[float], target: float | None = None) -> Iterator[dict[str, Any]]:
    for share, mine, other in (
        ("p50", median(ours), median(peers)),
        ("p95", quantile(ours, 0.95), quantile(peers, 0.95)),
    ):
        yield {
            "name": f"list page at {COMPANIES:,} companies, {name}, {share}, ms; peer: OFFSET and COUNT(*)",
            "ours": round(mine, 1),
            "peer": round(other, 1),
            "ratio": round(mine / other, 3),
            "target": target if share == "p95" else None,
        }


def quantile(values: list[float], share: float) -> float:
    """The lowest value that `share` of all are not above."""
    return sorted(values)[ceil(share * len(values)) - 1]


@contextmanager
def _usual_way(engine: Engine) -> Iterator[None]:
    """While it is open, the page is built the usual way."""
    ours = views.list_companies
    views.list_companies = _list_the_usual_way
    try:
        with planned_the_usual_way(engine):
            yield
    finally:
        views.list_companies = ours


@contextmanager
def planned_the_usual_way(engine: Engine) -> Iterator[None]:
    """While it is open, connections have the settings that PostgreSQL comes with, and not those for our lists."""
    event.listen(engine, "connect", _plan_the_usual_way)
    engine.dispose()
    try:
        yield
    finally:
        event.remove(engine, "connect", _plan_the_usual_way)
        engine.dispose()


def _plan_the_usual_way(connection: Any, _record: Any) -> None:
    connection.execute("SET plan_cache_mode TO auto")
    connection.execute("SET enable_seqscan TO on")
    connection.execute("SET max_parallel_workers_per_gather TO 2")
    connection.execute("SET random_page_cost TO 4")
    connection.commit()


def _list_the_usual_way(session: Session, query: CompanyQuery) -> Page[ListRow]:
    """The page that `query` asks for, or the one that is as deep, with an exact count and counted counters."""
    key = {
        "name": func.lower(Company.name),
        "city": func.lower(Company.city),
        "country": Company.country,
        "last_synchronised_at": Company.last_synchronised_at,
    }[query.sort]
    limits = _usual_limits(query)
    order = (key.desc(), Company.id.desc()) if query.descending else (key, Company.id)
    offset = PAGE * PAGES_DEEP if query.cursor else 0
    columns = [getattr(Company, name) for name in ListRow.__dataclass_fields__]
    found = session.execute(select(*columns).where(*limits).order_by(*order).offset(offset).limit(PAGE)).all()
    session.scalar(select(func.count()).select_from(Company).where(*limits))
    session.execute(select(Company.sync_status, func.count()).group_by(Company.sync_status)).all()
    return Page([ListRow(*row) for row in found], None, None)


def _usual_limits(query: CompanyQuery) -> list[ColumnElement[bool]]:
    limits: list[ColumnElement[bool]] = []
    if query.statuses:
        limits.append(Company.sync_status.in_(query.statuses))
    if query.type:
        limits.append(Company.type.in_(query.type))
    if query.owner:
        limits.append(owned_by(query.owner, Company.__table__))
    if query.country:
        limits.append(Company.country.in_(query.country))
    if query.city:
        limits.append(func.lower(Company.city) == query.city.lower())
    searched = (Company.name, Company.code, Company.city, Company.email, Company.tax_number)
    for word in query.words:
        limits.append(func.concat_ws(" ", *searched).ilike(f"%{word}%"))
    return limits


if __name__ == "__main__":
    for measured in run():
        print(measured)
