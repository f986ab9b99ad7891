"""What is read about companies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Select,
    SQLColumnExpression,
    Subquery,
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
from webapp.companies.models import Company
from webapp.status import Status
from webapp.users.models import User

# The keys of the orders, word for word as the indexes of migration 0002 have them.
_KEYS: dict[str, SQLColumnExpression[Any]] = {
    "name": Company.name_key,
    "city": Company.city_key,
    "country": Company.country_rank,
    "last_synchronised_at": func.coalesce(
        Company.last_synchronised_at, literal_column("'-infinity'::timestamptz"), type_=DateTime(timezone=True)
    ),
}

# What is fast depends on the values: a plan made for any country would walk past all others to find a rare one. And
# never is it reading the whole table, even where the planner believes that enough rows stand at its beginning.
_FOR_THESE_VALUES = text(
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true)"
)

# So many hits of a search are read and sorted in a few milliseconds.
_FEW = 4_000

_SHOWN = (
    Company.id,
    Company.sync_version,
    Company.sync_reason,
    Company.sync_detail,
    Company.name,
    Company.code,
    Company.type,
    Company.city,
    Company.country,
    Company.owner_id,
    Company.last_synchronised_at,
)


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


@dataclass(frozen=True)
class Page:
    """One page of the list, with the cursors of its neighbours, None where there is none."""

    rows: list[ListRow]
    previous: Cursor | None
    next: Cursor | None


def list_companies(session: Session, query: CompanyQuery) -> Page:
    """One page of the companies that `query` asks for, as fast at any depth.

    A search with few hits has them sorted; everything else walks along the index of its order until the page is full.
    Which of the two is quick depends on where the hits stand in the order, and that no planner knows: all companies of
    a city stand in one place of the order of cities.
    """
    session.execute(_FOR_THESE_VALUES)
    found = session.execute(_sorted_hits(query)).all() if query.words else None
    if found is None or (found and found[0].hits > _FEW):
        found = session.execute(_walk(query)).all()
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


def _walk(query: CompanyQuery) -> Select[Any]:
    """The statement for one page and the row after it, along the index of the order.

    Several statuses have a walk each, and the first of all these rows are the page: a single walk past the other
    statuses could be long.
    """
    down = _is_down(query)
    statuses = _chosen(query) or (None,)
    walks = [
        _matching(query)
        .where(*([Company.sync_status == status] if status else []))
        .order_by(*_order(_place(query), down))
        .limit(PAGE + 1)
        .subquery()
        for status in statuses
    ]
    found = walks[0] if len(walks) == 1 else union_all(*(select(walk) for walk in walks)).subquery()
    return _first_of(found, down)


def _sorted_hits(query: CompanyQuery) -> Select[Any]:
    """The statement for one page out of all hits, each row with their number; nothing of use where that is over _FEW."""
    statuses = _chosen(query)
    hits = _matching(query).where(*([Company.sync_status.in_(statuses)] if statuses else [])).limit(_FEW + 1).subquery()
    return _first_of(hits, _is_down(query), func.count().over().label("hits"))


def _matching(query: CompanyQuery) -> Select[*tuple[Any, ...]]:
    """What a page shows and is ordered by, of the companies that match; all conditions but the status."""
    key = _KEYS[query.sort]
    limits = _limits(query)
    if query.cursor is not None:
        place = _place(query)
        here = (_bound(query.sort, query.cursor.key), literal(query.cursor.id))[-len(place) :]
        after = tuple_(*place) < tuple_(*here) if _is_down(query) else tuple_(*place) > tuple_(*here)
        limits.append(after)
    return select(*_SHOWN, cast(key, Text).label("sort_text"), key.label("sort_key")).where(*limits)


def _first_of(found: Subquery, down: bool, *more: ColumnElement[Any]) -> Select[Any]:
    """The first rows of these, with `more` columns. The key itself is not read: Python has no time for -infinity."""
    columns = [*(column for column in found.c if column.name != "sort_key"), *more]
    return select(*columns).order_by(*_order((found.c.sort_key, found.c.id), down)).limit(PAGE + 1)


def _chosen(query: CompanyQuery) -> tuple[Status, ...]:
    return query.statuses if len(query.statuses) < len(Status) else ()


def _is_down(query: CompanyQuery) -> bool:
    return query.descending != (query.cursor is not None and query.cursor.backwards)


def _place(query: CompanyQuery) -> tuple[Any, ...]:
    """What the order goes by. Within one country the order of countries is that of the ids."""
    return (Company.id,) if query.country and query.sort == "country" else (_KEYS[query.sort], Company.id)


def _order(place: tuple[Any, ...], down: bool) -> list[ColumnElement[Any]]:
    return [part.desc() if down else part.asc() for part in place]


def _bound(sort: str, key: str) -> ColumnElement[Any]:
    match sort:
        case "country":
            return literal(int(key))
        case "last_synchronised_at":
            return cast(literal(key), DateTime(timezone=True))
        case _:
            return literal(key)


def _limits(query: CompanyQuery) -> list[ColumnElement[bool]]:
    """All conditions but the status and the cursor."""
    limits: list[ColumnElement[bool]] = []
    if query.type:
        limits.append(Company.type == query.type)
    if query.owner:
        limits.append(Company.owner_id.is_(None) if query.owner == NOBODY else Company.owner_id == int(query.owner))
    if query.country:
        limits.append(Company.country == query.country)
    for word in query.words:
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        # Two letters are everywhere inside of words, so they stand for a beginning.
        pattern = f"% {escaped}%" if len(word) == 2 else f"%{escaped}%"
        limits.append(Company.search_text.like(func.fold(pattern)))
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
