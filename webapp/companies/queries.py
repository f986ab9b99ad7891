"""What is read about companies."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
    Select,
    Text,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session

from webapp.companies.forms import NOBODY, PAGE, CompanyQuery, Cursor
from webapp.companies.models import PROSPECT, Company
from webapp.status import Status
from webapp.users.models import User

_COMPANY = Company.__table__

# The keys of the orders, word for word as the indexes of migration 0002 have them.
_KEYS: dict[str, ColumnElement[Any]] = {
    "name": _COMPANY.c.name_key,
    "city": _COMPANY.c.city_key,
    "country": _COMPANY.c.country_rank,
    "last_synchronised_at": func.coalesce(
        _COMPANY.c.last_synchronised_at, literal_column("'-infinity'::timestamptz"), type_=DateTime(timezone=True)
    ),
}

# What is fast depends on the values: a plan made for any country would walk past all others to find a rare one. And
# never is it reading the whole table, even where the planner believes that enough rows stand at its beginning.
_FOR_THESE_VALUES = text(
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true)"
)

# So many companies of an order are looked through in two or three milliseconds.
_STEPS = 2_500

# The orders in which each status has an index of its own. One for each order would cost every change of a status more.
_BY_STATUS = frozenset({"name", "last_synchronised_at"})

# Columns that filters look at, beside those that a row shows.
_LOOKED_AT = ("sync_status", "search_text")


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


_SHOWN = tuple(field.name for field in fields(ListRow))


@dataclass(frozen=True)
class Page:
    """One page of the list, with the cursors of its neighbours, None where there is none."""

    rows: list[ListRow]
    previous: Cursor | None
    next: Cursor | None


def list_companies(session: Session, query: CompanyQuery) -> Page:
    """One page of the companies that `query` asks for, as fast at any depth.

    Everything, or one status by name or time, stands in one piece of an index. Else a short walk along the order fills
    it where many companies match; where few do, or where they stand far away, all that match are found by the indexes
    of the filters, and sorted. No planner can choose between the two: it does not know that all companies of a city
    stand in one place of the order of cities.
    """
    session.execute(_FOR_THESE_VALUES)
    if query.counts_by_status and (not _chosen(query) or query.sort in _BY_STATUS):
        found = session.execute(_piece(query)).all()
    else:
        found = session.execute(_short_walk(query)).all()
        if len(found) <= PAGE:
            found = session.execute(_all_sorted(query)).all()
    backwards = query.cursor is not None and query.cursor.backwards
    rows, more = list(found[:PAGE]), len(found) > PAGE
    if backwards:
        rows.reverse()
    first, last = (_cursor(rows[0], True), _cursor(rows[-1], False)) if rows else (None, None)
    return Page(
        [ListRow(*row[: len(_SHOWN)]) for row in rows],
        first if (more if backwards else query.cursor is not None) else None,
        last if (query.cursor is not None if backwards else more) else None,
    )


def _cursor(row: Any, backwards: bool) -> Cursor:
    return Cursor(row.sort_text, row.id, backwards)


def _piece(query: CompanyQuery) -> Select[Any]:
    """The statement for one page and the row after it, where nothing but the status is asked for.

    Several statuses have a piece of an index each, and the first of all these rows are the page.
    """
    statuses = [[_COMPANY.c.sync_status == status] for status in _chosen(query)] or [[]]
    pieces = [
        select(*_columns(_COMPANY), _KEYS[query.sort].label("sort_key"))
        .where(*status, *_behind_cursor(query))
        .order_by(*_order(_KEYS[query.sort], _COMPANY.c.id, query))
        .limit(PAGE + 1)
        .subquery()
        for status in statuses
    ]
    return _first(pieces[0] if len(pieces) == 1 else union_all(*map(select, pieces)).subquery(), query)


def _short_walk(query: CompanyQuery) -> Select[Any]:
    """The statement for what matches among the next _STEPS companies of the order."""
    near = (
        select(*_columns(_COMPANY, *_LOOKED_AT), _KEYS[query.sort].label("sort_key"))
        .where(*_beginning(query), *_behind_cursor(query))
        .order_by(*_order(_KEYS[query.sort], _COMPANY.c.id, query))
        .limit(_STEPS)
        .subquery()
    )
    return _first(near, query).where(*_limits(query, near))


def _beginning(query: CompanyQuery) -> list[ColumnElement[bool]]:
    """Conditions that have an index together with the order, so that the walk begins where the filter does."""
    statuses = _chosen(query)
    if len(statuses) == 1 and query.sort in _BY_STATUS:
        return [_COMPANY.c.sync_status == statuses[0]]
    if query.country and query.sort == "city":
        return [_COMPANY.c.country == query.country]
    if query.country and query.sort == "country":
        # By their cities, because the first of them is the first entry of an index.
        one = select(_COMPANY.c.country_rank).where(_COMPANY.c.country == query.country).order_by(_COMPANY.c.city_key)
        here = one.limit(1).correlate(None).scalar_subquery()
        return [_COMPANY.c.country_rank <= here if _is_down(query) else _COMPANY.c.country_rank >= here]
    if query.type == PROSPECT and query.sort in ("name", "last_synchronised_at"):
        return [_COMPANY.c.type == PROSPECT]
    return []


def _all_sorted(query: CompanyQuery) -> Select[Any]:
    """The statement for one page out of all that match, and the row after it."""
    hits = (
        select(_COMPANY.c.id, _KEYS[query.sort].label("sort_key"))
        .where(*_limits(query, _COMPANY), *_behind_cursor(query))
        # It keeps the planner from walking along the order after all.
        .offset(0)
        .subquery()
    )
    first = select(hits).order_by(*_order(hits.c.sort_key, hits.c.id, query)).limit(PAGE + 1).subquery()
    whole = select(*_columns(_COMPANY), first.c.sort_key).select_from(first).join(_COMPANY, _COMPANY.c.id == first.c.id)
    return _first(whole.subquery(), query)


def _first(found: FromClause, query: CompanyQuery) -> Select[Any]:
    """A page and the row after it of these rows. Their key is read as text: Python has no time for -infinity."""
    shown = select(*_columns(found), cast(found.c.sort_key, Text).label("sort_text"))
    return shown.order_by(*_order(found.c.sort_key, found.c.id, query)).limit(PAGE + 1)


def _columns(of: FromClause, *more: str) -> list[ColumnElement[Any]]:
    return [of.c[name] for name in (*_SHOWN, *more)]


def _chosen(query: CompanyQuery) -> tuple[Status, ...]:
    return query.statuses if len(query.statuses) < len(Status) else ()


def _order(key: ColumnElement[Any], id_: ColumnElement[Any], query: CompanyQuery) -> list[ColumnElement[Any]]:
    return [key.desc(), id_.desc()] if _is_down(query) else [key.asc(), id_.asc()]


def _is_down(query: CompanyQuery) -> bool:
    return query.descending != (query.cursor is not None and query.cursor.backwards)


def _behind_cursor(query: CompanyQuery) -> list[ColumnElement[bool]]:
    if query.cursor is None:
        return []
    place = tuple_(_KEYS[query.sort], _COMPANY.c.id)
    here = tuple_(_bound(query.sort, query.cursor.key), query.cursor.id)
    return [place < here if _is_down(query) else place > here]


def _bound(sort: str, key: str) -> ColumnElement[Any]:
    match sort:
        case "country":
            return literal(int(key))
        case "last_synchronised_at":
            return cast(literal(key), DateTime(timezone=True))
        case _:
            return literal(key)


def _limits(query: CompanyQuery, of: FromClause) -> list[ColumnElement[bool]]:
    """All conditions but the cursor, on the columns of `of`."""
    limits: list[ColumnElement[bool]] = []
    if statuses := _chosen(query):
        limits.append(of.c.sync_status.in_(statuses))
    if query.type:
        limits.append(of.c.type == query.type)
    if query.owner:
        limits.append(of.c.owner_id.is_(None) if query.owner == NOBODY else of.c.owner_id == int(query.owner))
    if query.country:
        limits.append(of.c.country == query.country)
    for word in query.words:
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        # Two letters are everywhere inside of words, so they stand for a beginning.
        pattern = f"% {escaped}%" if len(word) == 2 else f"%{escaped}%"
        limits.append(of.c.search_text.like(func.fold(pattern)))
    return limits


def find_company(session: Session, company_id: int, *, lock: bool = False) -> Company | None:
    """A company by its id; with `lock`, nobody else changes it until this transaction ends."""
    return session.get(Company, company_id, with_for_update=lock or None)


def find_by_form(session: Session, once: str) -> int | None:
    """The id of the company that the form with this mark has made."""
    return session.scalar(select(Company.id).where(Company.made_by_form == once)) if once else None


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
