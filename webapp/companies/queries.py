"""What is read about companies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Integer,
    Select,
    SQLColumnExpression,
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
    "city": func.city_key(Company.city).collate("C"),
    "country": func.country_rank(Company.country, type_=Integer),
    "last_synchronised_at": func.coalesce(
        Company.last_synchronised_at, literal_column("'-infinity'::timestamptz"), type_=DateTime(timezone=True)
    ),
}

# The orders in which each status has an index of its own.
_BY_STATUS = frozenset({"name", "last_synchronised_at"})

_PLAN_FOR_VALUES = text("SET LOCAL plan_cache_mode = force_custom_plan")

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
    """One page of the companies that `query` asks for: one statement, as fast at any depth."""
    cursor = query.cursor
    backwards = cursor is not None and cursor.backwards
    # What is fast depends on the values: a plan made for any country would walk past all others to find a rare one.
    session.execute(_PLAN_FOR_VALUES)
    found = list(session.execute(_page(query)))
    rows, more = found[:PAGE], len(found) > PAGE
    if backwards:
        rows.reverse()
    first, last = (_cursor(rows[0], True), _cursor(rows[-1], False)) if rows else (None, None)
    return Page(
        [ListRow(*row[: len(_SHOWN)]) for row in rows],
        first if (more if backwards else cursor is not None) else None,
        last if (cursor is not None if backwards else more) else None,
    )


def _cursor(row: Any, backwards: bool) -> Cursor:
    return Cursor(row.sort_text, row.id, backwards)


def _page(query: CompanyQuery) -> Select[*tuple[Any, ...]]:
    """The statement for one page and the row after it.

    Where each status has an index, several statuses have a walk each, and the first of all these rows are the page: a
    single walk past the other statuses could be long.
    """
    key = _KEYS[query.sort]
    down = query.descending != (query.cursor is not None and query.cursor.backwards)
    limits = _limits(query)
    if query.cursor is not None:
        here = tuple_(_bound(query.sort, query.cursor.key), query.cursor.id)
        place = tuple_(key, Company.id)
        limits.append(place < here if down else place > here)
    statuses = query.statuses if len(query.statuses) < len(Status) else ()
    if len(statuses) > 1 and query.sort in _BY_STATUS:
        walks = (
            select(*_SHOWN, cast(key, Text).label("sort_text"), key.label("sort_key"))
            .where(Company.sync_status == status, *limits)
            .order_by(*_order(key, Company.id, down))
            .limit(PAGE + 1)
            .subquery()
            for status in statuses
        )
        found = union_all(*(select(walk) for walk in walks)).subquery()
        # The key itself is not read: Python has no time for -infinity.
        columns = [column for column in found.c if column.name != "sort_key"]
        return select(*columns).order_by(*_order(found.c.sort_key, found.c.id, down)).limit(PAGE + 1)
    if statuses:
        limits.append(Company.sync_status.in_(statuses))
    return (
        select(*_SHOWN, cast(key, Text).label("sort_text"))
        .where(*limits)
        .order_by(*_order(key, Company.id, down))
        .limit(PAGE + 1)
    )


def _order(key: SQLColumnExpression[Any], id_: Any, down: bool) -> tuple[ColumnElement[Any], ...]:
    return (key.desc(), id_.desc()) if down else (key.asc(), id_.asc())


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
