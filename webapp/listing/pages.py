"""One page of a list, read from the indexes that its table has for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import (
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Numeric,
    Select,
    Table,
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

from webapp.listing.query import AMOUNT, DAY, PAGE, TIME, WHOLE, Cursor, ListQuery
from webapp.status import Status

# What is fast depends on the values: a plan made for any country would walk past all others to find a rare one. And
# never is it reading the whole table, even where the planner believes that enough rows stand at its beginning.
_FOR_THESE_VALUES = text(
    "SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true)"
)

# So many records of an order are looked through in two or three milliseconds.
_STEPS = 2_500


class Shown(Protocol):
    """What a row of any list has, so that a page can end in a cursor."""

    @property
    def id(self) -> int: ...


Row = TypeVar("Row", bound=Shown)
Query = TypeVar("Query", bound=ListQuery)


def no_beginning(query: ListQuery) -> list[ColumnElement[bool]]:
    """For a list of which no filter has an index together with an order."""
    return []


@dataclass(frozen=True)
class Listing(Generic[Query, Row]):
    """What the list of one module is read from.

    `row` is the dataclass of a row, whose fields are columns of `table`. `keys` are the keys of the orders, word for
    word as the indexes have them; none is ever NULL. `by_status` are the orders in which each status has an index of its
    own. `filters` makes the conditions of the module's own filters on the columns of what it is given; `looked_at` are
    the columns that it asks for beside those that a row shows. `beginning` makes conditions that have an index together
    with the order of the query, so that a walk begins where the filter does.
    """

    table: Table
    row: type[Row]
    keys: Mapping[str, ColumnElement[Any]]
    by_status: frozenset[str]
    filters: Callable[[Query, FromClause], list[ColumnElement[bool]]]
    looked_at: tuple[str, ...] = ()
    beginning: Callable[[Query], list[ColumnElement[bool]]] = no_beginning

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The columns that a row shows."""
        return tuple(field.name for field in fields(self.row))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list, with the cursors of its neighbours, None where there is none."""

    rows: list[Row]
    previous: Cursor | None
    next: Cursor | None


def last_synchronised_key(table: Table) -> ColumnElement[Any]:
    """The key of the order by the last synchronisation: what never was synchronised is older than everything."""
    never: ColumnElement[Any] = literal_column("'-infinity'::timestamptz")
    return func.coalesce(table.c.last_synchronised_at, never, type_=DateTime(timezone=True))


def read_page(session: Session, listing: Listing[Query, Row], query: Query) -> Page[Row]:
    """One page of the records that `query` asks for, as fast at any depth.

    Everything, or one status in an order that has an index of its own, stands in one piece of an index. Else a short
    walk along the order fills it where many records match; where few do, or where they stand far away, all that match
    are found by the indexes of the filters, and sorted. No planner can choose between the two: it does not know that all
    companies of a city stand in one place of the order of cities.
    """
    session.execute(_FOR_THESE_VALUES)
    if query.counts_by_status and (not _chosen(query) or query.sort in listing.by_status):
        found = session.execute(_piece(listing, query)).all()
    else:
        found = session.execute(_short_walk(listing, query)).all()
        if len(found) <= PAGE:
            found = session.execute(_all_sorted(listing, query)).all()
    backwards = query.cursor is not None and query.cursor.backwards
    rows, more = list(found[:PAGE]), len(found) > PAGE
    if backwards:
        rows.reverse()
    first, last = (_cursor(rows[0], True), _cursor(rows[-1], False)) if rows else (None, None)
    return Page(
        [listing.row(*row[: len(listing.shown)]) for row in rows],
        first if (more if backwards else query.cursor is not None) else None,
        last if (query.cursor is not None if backwards else more) else None,
    )


def _cursor(row: Any, backwards: bool) -> Cursor:
    return Cursor(row.sort_text, row.id, backwards)


def _piece(listing: Listing[Query, Row], query: Query) -> Select[Any]:
    """The statement for one page and the row after it, where nothing but the status is asked for.

    Several statuses have a piece of an index each, and the first of all these rows are the page.
    """
    table, key = listing.table, listing.keys[query.sort]
    statuses = [[table.c.sync_status == status] for status in _chosen(query)] or [[]]
    pieces = [
        select(*_columns(table, listing.shown), key.label("sort_key"))
        .where(*status, *_behind_cursor(listing, query))
        .order_by(*_order(key, table.c.id, query))
        .limit(PAGE + 1)
        .subquery()
        for status in statuses
    ]
    return _first(listing, pieces[0] if len(pieces) == 1 else union_all(*map(select, pieces)).subquery(), query)


def _short_walk(listing: Listing[Query, Row], query: Query) -> Select[Any]:
    """The statement for what matches among the next _STEPS records of the order."""
    table, key = listing.table, listing.keys[query.sort]
    looked_at = (*listing.shown, "sync_status", "search_text", *listing.looked_at)
    near = (
        select(*_columns(table, looked_at), key.label("sort_key"))
        .where(*_beginning(listing, query), *_behind_cursor(listing, query))
        .order_by(*_order(key, table.c.id, query))
        .limit(_STEPS)
        .subquery()
    )
    return _first(listing, near, query).where(*_limits(listing, query, near))


def _beginning(listing: Listing[Query, Row], query: Query) -> list[ColumnElement[bool]]:
    """Conditions that have an index together with the order, so that the walk begins where the filter does."""
    statuses = _chosen(query)
    if len(statuses) == 1 and query.sort in listing.by_status:
        return [listing.table.c.sync_status == statuses[0]]
    return listing.beginning(query)


def _all_sorted(listing: Listing[Query, Row], query: Query) -> Select[Any]:
    """The statement for one page out of all that match, and the row after it."""
    table = listing.table
    hits = (
        select(table.c.id, listing.keys[query.sort].label("sort_key"))
        .where(*_limits(listing, query, table), *_behind_cursor(listing, query))
        # It keeps the planner from walking along the order after all.
        .offset(0)
        .subquery()
    )
    first = select(hits).order_by(*_order(hits.c.sort_key, hits.c.id, query)).limit(PAGE + 1).subquery()
    whole = (
        select(*_columns(table, listing.shown), first.c.sort_key)
        .select_from(first)
        .join(table, table.c.id == first.c.id)
    )
    return _first(listing, whole.subquery(), query)


def _first(listing: Listing[Query, Row], found: FromClause, query: Query) -> Select[Any]:
    """A page and the row after it of these rows. Their key is read as text: Python has no time for -infinity."""
    shown = select(*_columns(found, listing.shown), cast(found.c.sort_key, Text).label("sort_text"))
    return shown.order_by(*_order(found.c.sort_key, found.c.id, query)).limit(PAGE + 1)


def _columns(of: FromClause, names: tuple[str, ...]) -> list[ColumnElement[Any]]:
    return [of.c[name] for name in dict.fromkeys(names)]


def _chosen(query: ListQuery) -> tuple[Status, ...]:
    return query.statuses if len(query.statuses) < len(Status) else ()


def _order(key: ColumnElement[Any], id_: ColumnElement[Any], query: ListQuery) -> list[ColumnElement[Any]]:
    return [key.desc(), id_.desc()] if is_down(query) else [key.asc(), id_.asc()]


def is_down(query: ListQuery) -> bool:
    """Whether the index is read from its end: the way of the order, turned round for a page before a cursor."""
    return query.descending != (query.cursor is not None and query.cursor.backwards)


def _behind_cursor(listing: Listing[Query, Row], query: Query) -> list[ColumnElement[bool]]:
    if query.cursor is None:
        return []
    place = tuple_(listing.keys[query.sort], listing.table.c.id)
    here = tuple_(_bound(query.SORTS[query.sort].keys, query.cursor.key), query.cursor.id)
    return [place < here if is_down(query) else place > here]


def _bound(keys: str, key: str) -> ColumnElement[Any]:
    if keys == WHOLE:
        return literal(int(key))
    if keys == AMOUNT:
        return cast(literal(key), Numeric)
    if keys == DAY:
        return cast(literal(key), Date)
    if keys == TIME:
        return cast(literal(key), DateTime(timezone=True))
    return literal(key)


def _limits(listing: Listing[Query, Row], query: Query, of: FromClause) -> list[ColumnElement[bool]]:
    """All conditions but the cursor, on the columns of `of`."""
    limits: list[ColumnElement[bool]] = []
    if statuses := _chosen(query):
        limits.append(of.c.sync_status.in_(statuses))
    limits += listing.filters(query, of)
    return [*limits, *has_words(query.words, of)]


def has_words(words: tuple[str, ...], of: FromClause) -> list[ColumnElement[bool]]:
    """Conditions for the records whose search text has all these words, whatever their case and accents."""
    limits: list[ColumnElement[bool]] = []
    for word in words:
        escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        # Two letters are everywhere inside of words, so they stand for a beginning.
        pattern = f"% {escaped}%" if len(word) == 2 else f"%{escaped}%"
        limits.append(of.c.search_text.like(func.fold(pattern)))
    return limits
