"""What is read about companies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Row, Table, any_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from webapp.companies.forms import TYPE_NAMES, CompanyQuery, read_query
from webapp.companies.models import PROSPECT, Company
from webapp.listing.counts import MOST, read_counts
from webapp.listing.pages import Conditions, Listing, Page, last_synchronised_key, owned_by, read_page
from webapp.text import read_id
from webapp.users.models import User

_COMPANY: Table = Company.__table__  # type: ignore[assignment]


@dataclass(frozen=True)
class ListRow:
    """A company as a row of the list."""

    id: int
    sync_version: int
    sync_reason: str
    sync_detail: dict[str, Any]
    name: str
    code: str
    type: str
    city: str
    country: str
    owner_id: int | None
    last_synchronised_at: datetime | None


def _filters(query: CompanyQuery, of: FromClause) -> list[ColumnElement[bool]]:
    limits: list[ColumnElement[bool]] = []
    if 0 < len(query.type) < len(TYPE_NAMES):
        limits.append(of.c.type.in_(query.type))
    if query.owner:
        limits.append(owned_by(query.owner, of))
    if query.country:
        limits.append(of.c.country.in_(query.country))
    return [*limits, *_apart(query, of)]


def _beginnings(query: CompanyQuery) -> list[Conditions]:
    city = _apart(query, _COMPANY)
    if query.sort == "city" and (query.country or city):
        return [[_COMPANY.c.country == country, *city] for country in query.country] or [city]
    if query.sort == "country":
        return [_in_place_of(country) for country in query.country]
    if query.type == (PROSPECT,) and query.sort in ("name", "last_synchronised_at"):
        return [[_COMPANY.c.type == PROSPECT]]
    return []


def _apart(query: CompanyQuery, of: FromClause) -> Conditions:
    return [of.c.city_key == func.fold(query.city)] if query.city else []


def _in_place_of(country: str) -> Conditions:
    """The condition for the companies of a country by its place in the order of countries."""
    # By their cities, because the first of them is the first entry of an index.
    one = select(_COMPANY.c.country_rank).where(_COMPANY.c.country == country).order_by(_COMPANY.c.city_key)
    # One of a list of one: the planner knows how many have a place, and does not take them for out of order.
    return [_COMPANY.c.country_rank == any_(array([one.limit(1).correlate(None).scalar_subquery()]))]


LISTING = Listing(
    table=_COMPANY,
    row=ListRow,
    # As the indexes of migration 0002 have them.
    keys={
        "name": _COMPANY.c.name_key,
        "city": _COMPANY.c.city_key,
        "country": _COMPANY.c.country_rank,
        "last_synchronised_at": last_synchronised_key(_COMPANY),
    },
    # One index for each order would cost every change of a status more.
    by_status=frozenset({"name", "last_synchronised_at"}),
    filters=_filters,
    looked_at=("city_key",),
    beginnings=_beginnings,
    apart=_apart,
)


def list_companies(session: Session, query: CompanyQuery) -> Page[ListRow]:
    """One page of the companies that `query` asks for; see webapp.listing.pages.read_page."""
    return read_page(session, LISTING, query)


@dataclass(frozen=True)
class Finder:
    """A search for a company to choose: what was asked, and the first of what it found."""

    search: str
    found: Sequence[ListRow]


# As many companies as a form can show under its search.
_FOUND = 8


def search_companies(session: Session, words: str) -> Finder:
    """The first companies by name that have all these words; none where there is no word of two letters."""
    query = read_query(MultiDict({"q": words}), {}, ())
    found = list_companies(session, query).rows[:_FOUND] if query.words else []
    return Finder(query.search, found)


def company_names(session: Session, ids: Iterable[str]) -> dict[str, str]:
    """The names of those of these companies that there are, by their ids as texts; any text may be among `ids`."""
    numbers = {read_id(one) for one in ids} - {None}
    if not numbers:
        return {}
    found = session.execute(select(Company.id, Company.name).where(Company.id.in_(numbers)))
    return {str(row.id): row.name for row in found}


def named_companies(session: Session, ids: Iterable[int]) -> dict[int, Row[int, str, int]]:
    """The id, name and sync_version of these companies, by id: a list that shows their names follows their renaming."""
    return {row.id: row for row in session.execute(_NAMED, {"ids": [*ids]})}


_NAMED = select(Company.id, Company.name, Company.sync_version).where(Company.id.in_(bindparam("ids", expanding=True)))


def find_company(session: Session, company_id: int, *, lock: bool = False) -> Company | None:
    """A company by its id; with `lock`, nobody else changes it until this transaction ends."""
    return session.get(Company, company_id, with_for_update=lock or None)


def owner_names(session: Session) -> dict[int, str]:
    """The names of all people by id, in the order of their names; companies can belong to each of them."""
    people = session.execute(select(User.id, User.name).order_by(func.lower(User.name), User.id))
    return {row.id: row.name for row in people}


# One look-up for each country in use, where DISTINCT would read the whole index; one statement, because each costs a
# round trip.
_CHOICES = text(
    """
    WITH RECURSIVE used(code) AS (
        SELECT min(country) FROM company WHERE country > ''
        UNION ALL
        SELECT (SELECT min(country) FROM company WHERE country > used.code) FROM used WHERE used.code IS NOT NULL
    )
    SELECT NULL::bigint AS owner_id, code AS name FROM used WHERE code IS NOT NULL
    UNION ALL
    (SELECT id, name FROM app_user ORDER BY lower(name), id)
    """
)


def filter_choices(session: Session) -> tuple[dict[int, str], set[str]]:
    """What the list can be filtered by: the names of all people by id, and the codes of the countries in use."""
    found = session.execute(_CHOICES).all()
    owners = {row.owner_id: row.name for row in found if row.owner_id is not None}
    return owners, {row.name for row in found if row.owner_id is None}


_COUNTS = text(
    """
    WITH RECURSIVE used(code) AS (
        SELECT min(country) FROM company WHERE country > ''
        UNION ALL
        SELECT (SELECT min(country) FROM company WHERE country > used.code) FROM used WHERE used.code IS NOT NULL
    )
    SELECT 'country:' || used.code AS choice,
           (SELECT count(*) FROM (SELECT FROM company WHERE country = used.code LIMIT :most) AS few) AS n
    FROM used WHERE used.code IS NOT NULL
    UNION ALL
    SELECT 'owner:' || id, (SELECT count(*) FROM (SELECT FROM company WHERE owner_id = app_user.id LIMIT :most) AS few)
    FROM app_user
    UNION ALL
    SELECT 'owner:none', (SELECT count(*) FROM (SELECT FROM company WHERE owner_id IS NULL LIMIT :most) AS few)
    UNION ALL
    SELECT 'type:prospect', (SELECT count(*) FROM (SELECT FROM company WHERE type = 'prospect' LIMIT :most) AS few)
    UNION ALL
    SELECT 'type:customer', (SELECT count(*) FROM (
        SELECT FROM (SELECT type FROM company ORDER BY id DESC LIMIT 20 * :most) AS newest WHERE type = 'customer' LIMIT :most
    ) AS few)
    """
)


def count_choices(session: Session, total: int) -> dict[str, int]:
    """How many companies each choice of the filters has, up to one more than webapp.listing.counts.MOST.

    `total` is how many there are. No index leads to customers: beside few prospects they are the rest, else they are
    looked for among the newest companies, and left out where that does not tell.
    """
    counts = read_counts(session, _COUNTS)
    customers = counts.pop("type:customer")
    if counts["type:prospect"] <= MOST:
        customers = min(max(total - counts["type:prospect"], 0), MOST + 1)
    elif customers <= MOST and total > 20 * MOST:
        return counts
    return counts | {"type:customer": customers}


# As many as a list under a field can show.
_MOST_CITIES = 12

# One look-up for each city, in the index of their order.
_CITIES = text(
    """
    WITH RECURSIVE met(city_key, city, n) AS (
        (SELECT city_key, city, 1 FROM company WHERE city_key >= fold(:begin) ORDER BY city_key, id LIMIT 1)
        UNION ALL
        SELECT next.city_key, next.city, met.n + 1
        FROM met, LATERAL (
            SELECT city_key, city FROM company WHERE city_key > met.city_key ORDER BY city_key, id LIMIT 1
        ) AS next
        WHERE met.n < :most
    )
    SELECT city FROM met WHERE starts_with(city_key, fold(:begin)) AND city <> ''
    """
)


def cities(session: Session, begin: str) -> Sequence[str]:
    """The first cities of companies that begin with these letters, whatever their case and accents."""
    return session.scalars(_CITIES, {"begin": begin, "most": _MOST_CITIES}).all()
