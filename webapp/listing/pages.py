"""One page of a list, read from the indexes that its table has for it.

What is fast depends on the values, and never is it reading the whole table, even where the planner believes that enough
rows stand at its beginning. So the connection must have the settings PLANNED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property
from math import inf, isqrt
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    Date,
    DateTime,
    Engine,
    FromClause,
    Numeric,
    Row,
    Select,
    Table,
    TableClause,
    Text,
    and_,
    cast,
    column,
    event,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)
from sqlalchemy import table as named_table
from sqlalchemy.orm import Session

from webapp.listing.query import AMOUNT, DAY, NOBODY, PAGE, TIME, WHOLE, Cursor, ListQuery
from webapp.status import Status

# Settings of PostgreSQL for connections that read lists: a plan made for any country would walk past all others to find
# a rare one; starting parallel workers takes longer than reading a page; a page of a table is mostly in memory, where
# reading through a whole index to spare some of them takes longer than reading them; and the places of half a million
# records that one filter has must fit, or else the rows beside them are read, too.
PLANNED = {
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "off",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
    "work_mem": "32MB",
}

# Letters of a word that the index is asked for: they are three of its entries, and each further one of a frequent word
# costs more than it leaves out.
_PIECE = 5

# Each of them is a part of the walk's statement, which has to be planned.
_MOST_BEGINNINGS = 8

_UMLAUT = re.compile(r"((?<![aeioq])u|(?<![aeiou])[ao])e(?=[^\W\d_])", re.IGNORECASE)
_TWO_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})

# Of the texts that the statistics of a table hold, see migration 0023.
_HALF_A_TEXT = 0.5 / 400

_EVERYTHING: ColumnElement[Any] = literal_column("*")
# Of the rows that the first part of a statement has found, called hits; the key as text, because Python has no time for
# -infinity.
_TEXT_OF_KEY: ColumnElement[Any] = cast(literal_column("hits.sort_key"), Text).label("sort_text")


class Shown(Protocol):
    """What a row of any list has, so that a page can end in a cursor."""

    @property
    def id(self) -> int: ...


Shows = TypeVar("Shows", bound=Shown)
Query = TypeVar("Query", bound=ListQuery)


# Conditions that only together hold for a record.
Conditions = list[ColumnElement[bool]]


def no_beginnings(query: ListQuery) -> list[Conditions]:
    """For a list of which no filter has an index together with an order."""
    return []


def no_conditions(query: ListQuery, of: FromClause) -> Conditions:
    """For a list that has no such conditions."""
    return []


@dataclass(frozen=True)
class Listing(Generic[Query, Shows]):
    """What the list of one module is read from.

    `row` is the dataclass of a row, whose fields are columns of `table`. `keys` are the keys of the orders, word for
    word as the indexes have them; none is ever NULL. `by_status` are the orders in which each status has an index of its
    own. `filters` makes the conditions of the module's own filters on the columns of what it is given, and `moving` those
    on what changes with the status; `looked_at` are the columns that they ask for beside those that a row shows.
    `beginnings` makes conditions that have an index together with the order of the query, so that a walk begins where the
    filter does: one for each value that was chosen, of which each record that matches fulfils exactly one; none where no
    such index is. `apart` makes conditions that follow from all these and for which the texts have an index.

    A further filter is a condition in `filters`. It is fast wherever many records have it; where few may have it, it
    needs an index of its own.
    """

    table: Table
    row: type[Shows]
    keys: Mapping[str, ColumnElement[Any]]
    by_status: frozenset[str]
    filters: Callable[[Query, FromClause], list[ColumnElement[bool]]]
    looked_at: tuple[str, ...] = ()
    beginnings: Callable[[Query], list[Conditions]] = no_beginnings
    moving: Callable[[Query, FromClause], Conditions] = no_conditions
    apart: Callable[[Query, FromClause], Conditions] = no_conditions

    @cached_property
    def shown(self) -> list[ColumnElement[Any]]:
        """The columns that a row shows."""
        return [self.table.c[field.name] for field in fields(self.row)]  # type: ignore[arg-type]

    @cached_property
    def examined(self) -> list[ColumnElement[Any]]:
        """The columns that a row shows, and those that the filters look at."""
        names = [field.name for field in fields(self.row)]  # type: ignore[arg-type]
        names += ["sync_status", "search_text", "connection_id", *self.looked_at]
        return [self.table.c[name] for name in dict.fromkeys(names)]

    @cached_property
    def texts(self) -> TableClause:
        """What a search reads, as migration 0027 has it: of the records what stays as a status changes.

        Beside the id and the search text these are the keys of the orders, but for that by the last synchronisation, and
        the columns that `filters` and `apart` ask for.
        """
        return named_table(f"{self.table.name}_text", *(column(one.name, one.type) for one in self.table.columns))

    @cached_property
    def hits(self) -> TableClause:
        """The rows of a statement's first part, by that name: `examined`, and the key of the order.

        Made once, because a subquery makes all its columns anew for each statement, which takes longer than reading.
        """
        return self._part("hits")

    @cached_property
    def nearest(self) -> TableClause:
        """The first of them, in a part by that name."""
        return self._part("nearest")

    def _part(self, name: str) -> TableClause:
        return named_table(name, *(column(one.name, one.type) for one in self.examined), column("sort_key"))

    @cached_property
    def shown_hits(self) -> list[ColumnElement[Any]]:
        """What a page needs of `hits`."""
        return [*(self.hits.c[one.name] for one in self.shown), _TEXT_OF_KEY]


@dataclass(frozen=True)
class Page(Generic[Shows]):
    """One page of a list, with the cursors of its neighbours, None where there is none.

    `matching` is how many records there are on all pages together, None where only counting them would tell.
    """

    rows: list[Shows]
    previous: Cursor | None
    next: Cursor | None
    matching: int | None = None


def last_synchronised_key(table: FromClause) -> ColumnElement[Any]:
    """The key of the order by the last synchronisation: what never was synchronised is older than everything."""
    never: ColumnElement[Any] = literal_column("'-infinity'::timestamptz")
    return func.coalesce(table.c.last_synchronised_at, never, type_=DateTime(timezone=True))


def read_page(session: Session, listing: Listing[Query, Shows], query: Query) -> Page[Shows]:
    """One page of the records that `query` asks for, as fast at any depth."""
    found, matching = _find(session, listing, query)
    backwards = query.cursor is not None and query.cursor.backwards
    rows, more = list(found[:PAGE]), len(found) > PAGE
    if backwards:
        rows.reverse()
    first, last = (_cursor(rows[0], True), _cursor(rows[-1], False)) if rows else (None, None)
    width = len(listing.shown)
    return Page(
        [listing.row(*row[:width]) for row in rows],
        first if (more if backwards else query.cursor is not None) else None,
        last if (query.cursor is not None if backwards else more) else None,
        matching,
    )


def _find(session: Session, listing: Listing[Query, Shows], query: Query) -> tuple[Sequence[Row[Any]], int | None]:
    """The rows of one page and the row after it, and how many match on all pages where that was seen on the way.

    Everything, or one status in an order that has an index of its own, stands in one piece of an index. Else there are
    two ways: walking along the order until the page is full, which is short where many records match; and finding all
    that match by the indexes of the filters, which is quick where few do. Where one record in sqrt(all / page) matches,
    both read equally many. The planner says how many match, by its statistics, and what is read to find them. It cannot
    choose the way itself, because it does not know that all companies of a city stand in one place of the order of cities.
    So neither way is gone much further than it should be, and then the other one is.
    """
    if query.counts_by_status and (not _chosen(query) or query.sort in listing.by_status):
        return session.execute(_piece(listing, query)).all(), None
    expected = _expected(session, listing, query)
    even, walk = isqrt(PAGE * expected.walked), PAGE * expected.walked // max(expected.matching, 1)
    if expected.matching < 4 * PAGE:
        # Of so few pages each may be the last one, which is not full: that is only known at the end of the walk.
        walk *= 4
    if expected.read <= walk:
        found = session.execute(_all_if_few(listing, query, _sought(session, listing, query, expected), 2 * even)).all()
        matching = found[0].matching
        if matching <= 2 * even:
            # Where nothing is behind the cursor, there is a row all the same, for the number.
            return [row for row in found if row.id is not None], matching
    steps = min(max(even, 4 * walk), 2 * max(even, walk))
    # Where very many match, any walk is shorter than finding them all.
    found = session.execute(_walk(listing, query, steps, may_give_up=expected.read <= 8 * even)).all()
    if len(found) > PAGE:
        return found, None
    if query.cursor is not None and _count_behind(session, listing, query, steps) < steps:
        # On the last page the walk has come to the end of the order, if it was not given up.
        return found or session.execute(_walk(listing, query, steps, may_give_up=False)).all(), None
    return session.execute(_all_sorted(listing, query, _sought(session, listing, query, expected))).all(), None


# What finding by indexes costs, in rows that are read along an order, as measured with a million records in memory: to read
# the place that an index has of a row and to compare it with those of other indexes, to read the text there or the record,
# and to look up the record of a text.
_PLACE, _TEXT, _RECORD, _LOOKED_UP = 0.05, 0.7, 2, 2.5


@dataclass(frozen=True)
class Found:
    """What the planner believes that indexes lead to: so many rows, by so many of their places."""

    rows: int
    places: int


@dataclass(frozen=True)
class Expected:
    """What the planner believes: how many records match, on all pages together, and how many there are to walk along.

    `by_records` is what the indexes of the records lead to, None where only words are asked for; `by_texts` what those
    of the texts do, None where no words are. `looked_up` says whether the record of each text is looked at, too.
    """

    matching: int
    walked: int
    by_records: Found | None = None
    by_texts: Found | None = None
    looked_up: bool = False

    @property
    def leaves_words(self) -> bool:
        """Whether it is shorter not to ask the index of the search."""
        return self.by_texts is not None and self._read_by_records < self._read_by_texts

    @property
    def read(self) -> float:
        """What finding all that match by indexes costs, in rows that are read along an order."""
        return min(self._read_by_records, self._read_by_texts)

    @property
    def _read_by_records(self) -> float:
        found = self.by_records
        return inf if found is None else found.rows * _RECORD + found.places * _PLACE

    @property
    def _read_by_texts(self) -> float:
        found, of_each = self.by_texts, _TEXT + (_LOOKED_UP if self.looked_up else 0)
        return inf if found is None else found.rows * of_each + found.places * _PLACE


# A statement with this option is explained in place of being run. So its SQL is kept as any other's, which takes longer to
# make than the planner needs.
_EXPLAINED = "synclight_explained"


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def _explain(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool
) -> tuple[str, Any]:
    if context is not None and context.execution_options.get(_EXPLAINED):
        statement = f"EXPLAIN (FORMAT JSON) {statement}"
    return statement, parameters


def _expected(session: Session, listing: Listing[Query, Shows], query: Query) -> Expected:
    table, texts = listing.table, listing.texts
    others, beginnings = _limits_but_words(query, listing, table), _beginnings(listing, query)
    asked: dict[str, tuple[FromClause, Conditions]] = {
        "matching": (table, [*others, *has_words(query.words, table)]),
        "walked": (table, [or_(*(and_(*one) for one in beginnings))] if beginnings else []),
    }
    if query.words:
        by_texts = [*has_words(query.words, texts), *listing.filters(query, texts), *listing.apart(query, texts)]
        asked |= {"others": (table, others), "texts": (texts, by_texts)}
    counts = [select(func.count()).select_from(of).where(*limits).scalar_subquery() for of, limits in asked.values()]
    # One column, as the answer has.
    (plan,) = session.execute(select(func.row(*counts)), execution_options={_EXPLAINED: True}).scalar_one()
    # Each count is a plan of its own, on top of the one whose rows it counts, and of those that this one needs first.
    counted = [
        below for count in plan["Plan"]["Plans"] for below in count["Plans"] if below["Parent Relationship"] == "Outer"
    ]
    plans = dict(zip(asked, counted, strict=True))
    return Expected(
        plans["matching"]["Plan Rows"],
        plans["walked"]["Plan Rows"],
        _found(plans.get("others", plans["matching"])) if others or not query.words else None,
        _found(plans["texts"]) if query.words else None,
        looked_up=bool(_limits_that_move(query, listing, table)) or _key_of_texts(listing, query) is None,
    )


def _found(plan: Mapping[str, Any]) -> Found:
    # All rows are read whose places the indexes give, also those that are passed over then.
    given = plan["Plans"][0] if plan["Node Type"] == "Bitmap Heap Scan" else plan
    return Found(max(plan["Plan Rows"], given["Plan Rows"]), sum(_places(plan)))


def _places(plan: Mapping[str, Any]) -> Iterator[int]:
    if plan["Node Type"] == "Bitmap Index Scan":
        yield plan["Plan Rows"]
    for below in plan.get("Plans", ()):
        yield from _places(below)


# Of each word the piece that the fewest texts of the table's statistics have, which is the whole of a short one; where
# several are alike, the one with the rarest letters, for which a quarter of the texts tell enough. And of how many texts
# how many have it.
_PIECES = text(
    """
    WITH sampled(line, number) AS MATERIALIZED (
        SELECT line, number FROM pg_stats, unnest(histogram_bounds::text::text[]) WITH ORDINALITY AS bounds(line, number)
        WHERE schemaname = current_schema() AND tablename = :table AND attname = 'search_text'
    ), folded(word, letters) AS MATERIALIZED (
        SELECT word, fold(word) FROM unnest(CAST(:words AS text[])) AS word
    ), pieces(word, letters, place, piece) AS MATERIALIZED (
        SELECT word, letters, place, substr(letters, place, :length)
        FROM folded, generate_series(1, greatest(length(letters) - :length, 0) + 1) AS place
    )
    SELECT DISTINCT ON (word) word, piece, length(letters) > :length AS is_part, whole, texts
    FROM pieces, LATERAL (
        SELECT count(*) FILTER (WHERE strpos(line, piece) > 0) AS whole, count(*) AS texts FROM sampled
    ) AS met, LATERAL (
        SELECT count(*) FILTER (WHERE strpos(line, substr(piece, 1, 3)) > 0)
               + count(*) FILTER (WHERE strpos(line, substr(piece, 2, 3)) > 0)
               + count(*) FILTER (WHERE strpos(line, substr(piece, 3, 3)) > 0) AS parts
        FROM sampled WHERE number % 4 = 0
    ) AS rarity
    WHERE piece ~ '^[[:alnum:]]+$'
    ORDER BY word, whole, parts, place
    """
)


def _sought(
    session: Session, listing: Listing[Query, Shows], query: Query, expected: Expected
) -> list[ColumnElement[bool]]:
    """Conditions on the texts for finding all that match by their indexes; none where the records are read instead.

    The index of the search holds the records of each three letters in a row, and what it costs is how many these are. So
    of a long word it is asked for the rarest piece only, not for a word that spares less reading than it costs, and not
    at all where the other filters leave fewer records: putting together the places of all that have a frequent word
    takes longer than looking at a few records.
    """
    if not query.words or expected.leaves_words:
        return []
    texts = listing.texts
    filters = [*listing.filters(query, texts), *listing.apart(query, texts)]
    if len(query.words) == 1 and len(query.words[0]) <= _PIECE:
        return [*has_words(query.words, texts), *filters]
    written = {word: spellings(word) for word in query.words}
    asked = {"table": listing.table.name, "words": [one for ways in written.values() for one in ways], "length": _PIECE}
    pieces = {row.word: row for row in session.execute(_PIECES, asked)}
    shares = {
        word: sum(pieces[one].whole / max(pieces[one].texts, 1) for one in ways)
        for word, ways in written.items()
        if pieces.keys() >= set(ways)
    }
    spared = not_worth_asking(shares)
    conditions = []
    for word, ways in written.items():
        if word not in spared:
            conditions.append(or_(*(_is_like(pieces[one].piece if one in pieces else one, texts) for one in ways)))
        if word in spared or any(one in pieces and pieces[one].is_part for one in ways):
            conditions.append(_holds(word, texts))
    return [*conditions, *filters]


def not_worth_asking(shares: Mapping[str, float]) -> set[str]:
    """The words for which the index of the search is not asked beside a rarer one, by the share of texts that have each.

    To look at a text takes as long as to pass over fifty places of the index.
    """
    rarest = min(shares, key=lambda word: shares[word], default=None)
    # A word that no text of the statistics has may be in half of the share of one.
    fewest = max(shares[rarest], _HALF_A_TEXT) if rarest is not None else 0.0
    return {word for word, share in shares.items() if word != rarest and share > 50 * fewest * (1 - share)}


def _holds(word: str, of: FromClause) -> ColumnElement[bool]:
    """The condition that the search text of a record has a word, in a form for which no index is asked."""
    return or_(*(func.strpos(of.c.search_text, func.fold(_place_of(one))) > 0 for one in spellings(word)))


def _cursor(row: Any, backwards: bool) -> Cursor:
    return Cursor(row.sort_text, row.id, backwards)


def _piece(listing: Listing[Query, Shows], query: Query) -> Select[Any]:
    """The statement for one page and the row after it, where nothing but the status is asked for.

    Several statuses have a piece of an index each, and the first of all these rows are the page.
    """
    table, key = listing.table, listing.keys[query.sort]
    pieces = [
        select(*listing.shown, key.label("sort_key"))
        .where(*status, *_behind_cursor(listing, query))
        .order_by(*_order(key, table.c.id, query))
        .limit(PAGE + 1)
        for status in [[table.c.sync_status == status] for status in _chosen(query)] or [[]]
    ]
    return _first(listing, query).add_cte((pieces[0] if len(pieces) == 1 else union_all(*pieces)).cte("hits"))


def _walk(listing: Listing[Query, Shows], query: Query, steps: int, *, may_give_up: bool) -> Select[Any]:
    """The statement for what matches among the next `steps` records of the order, up to one more than a page.

    One that may give up finds nothing where its first eighth holds less than half of what it should if the page is to be
    full at its end: those that match stand together elsewhere, as the companies whose names begin with the word of a
    search do.
    """
    walk = _first(listing, query).where(*_limits(listing, query, listing.hits))
    walk = walk.add_cte(_near(listing, query, steps, listing.examined).cte("hits"))
    if not may_give_up:
        return walk
    table = listing.nearest
    met = select(func.count()).select_from(table).where(*_limits(listing, query, table)).scalar_subquery()
    return walk.where(met >= PAGE // 16).add_cte(_near(listing, query, steps // 8, listing.examined).cte("nearest"))


def _near(
    listing: Listing[Query, Shows], query: Query, steps: int, shown: Sequence[ColumnElement[Any]]
) -> Select[Any] | CompoundSelect[Any]:
    """The next `steps` records of the order: of all, or of those at which the walk begins."""
    key = listing.keys[query.sort]
    pieces = [
        select(*shown, key.label("sort_key"))
        .where(*beginning, *_behind_cursor(listing, query))
        .order_by(*_order(key, listing.table.c.id, query))
        .limit(steps)
        for beginning in _beginnings(listing, query) or [[]]
    ]
    if len(pieces) == 1:
        return pieces[0]
    # Each piece is in order, so that they are read side by side, and none further than it is needed.
    return union_all(*pieces).order_by(*_order(column("sort_key"), column("id"), query)).limit(steps)


def _count_behind(session: Session, listing: Listing[Query, Shows], query: Query, most: int) -> int:
    """How many records are left behind the cursor to walk along, counted up to `most`; mostly, the index alone tells."""
    left = _near(listing, query, most, [listing.table.c.id]).subquery("behind")
    return session.scalar(select(func.count()).select_from(left)) or 0


def _beginnings(listing: Listing[Query, Shows], query: Query) -> list[Conditions]:
    """Conditions that have an index together with the order, so that the walk begins where the filters do."""
    statuses = _chosen(query)
    days = _synchronised_between(query, listing.table) if query.sort == "last_synchronised_at" else []
    if statuses and query.sort in listing.by_status:
        return [[listing.table.c.sync_status == status, *days] for status in statuses]
    beginnings = [days] if days else listing.beginnings(query)
    return beginnings if len(beginnings) <= _MOST_BEGINNINGS else []


def _all_if_few(
    listing: Listing[Query, Shows], query: Query, sought: list[ColumnElement[bool]], most: int
) -> Select[Any]:
    """The statement for one page out of all that match, and the row after it, where no more than `most` do.

    Each row has in `matching` how many do; where that is more than `most`, it is one more, and the rows are any.
    """
    # Materialised, it is planned for reading all that match, and yet read no further than the limit says.
    whole = _matching(listing, query, sought).cte("whole").prefix_with("MATERIALIZED")
    every = select(_EVERYTHING).select_from(whole).limit(most + 1).cte("every")
    number = select(func.count().label("matching")).select_from(every).subquery("number")
    page = _in_order(_behind_in(every, query), query).cte("hits")
    table, hits = listing.table, listing.hits
    return (
        select(*listing.shown, _TEXT_OF_KEY, number.c.matching)
        .select_from(number.outerjoin(hits.join(table, table.c.id == hits.c.id), true()))
        .order_by(*_order(hits.c.sort_key, hits.c.id, query))
        .add_cte(page)
    )


def _all_sorted(listing: Listing[Query, Shows], query: Query, sought: list[ColumnElement[bool]]) -> Select[Any]:
    """The statement for one page out of all that match, and the row after it."""
    table, texts, hits = listing.table, listing.texts, listing.hits
    key, found = _key_of_texts(listing, query), sought
    if not query.words and (apart := listing.apart(query, texts)):
        found = [*apart, *listing.filters(query, texts)]
    page: Select[Any]
    if not found or key is None:
        # The offset keeps the planner from walking along the order after all.
        every = _matching(listing, query, sought).offset(0).cte("every")
        page = _in_order(_behind_in(every, query), query)
    else:
        whole = select(texts.c.id, key.label("sort_key")).where(*found, *_behind(query, key, texts.c.id))
        page = _in_order(whole, query)
        if others := _limits_that_move(query, listing, table):
            # Of the records no more are read than it takes to fill the page.
            rows = whole.order_by(*_order(key, texts.c.id, query)).subquery("every")
            record = _record(listing, rows.c.id, others)
            page = _in_order(select(rows.c.id, rows.c.sort_key).select_from(rows.join(record, true())), query)
    return (
        select(*listing.shown, _TEXT_OF_KEY)
        .select_from(hits.join(table, table.c.id == hits.c.id))
        .order_by(*_order(hits.c.sort_key, hits.c.id, query))
        .add_cte(page.cte("hits"))
    )


def _matching(
    listing: Listing[Query, Shows], query: Query, sought: list[ColumnElement[bool]]
) -> Select[tuple[Any, Any]]:
    """Ids and keys of all that match, on all pages together; `sought` are the conditions on the texts."""
    table, texts, key = listing.table, listing.texts, listing.keys[query.sort].label("sort_key")
    if not sought:
        limits = _limits_but_words(query, listing, table)
        return select(table.c.id, key).where(*limits, *(_holds(word, table) for word in query.words))
    others, own = _limits_that_move(query, listing, table), _key_of_texts(listing, query)
    if not others and own is not None:
        return select(texts.c.id, own.label("sort_key")).where(*sought)
    record = _record(listing, texts.c.id, others, key)
    return select(texts.c.id, record.c.sort_key).select_from(texts.join(record, true())).where(*sought)


def _record(
    listing: Listing[Query, Shows], id_: ColumnElement[Any], limits: Sequence[ColumnElement[bool]], *shown: Any
) -> FromClause:
    """The record of a text, if these conditions hold for it, looked up by its id.

    The offset keeps the planner from looking for all records for which they hold: of those in a status it believes that
    they stand side by side.
    """
    table = listing.table
    return select(table.c.id, *shown).where(table.c.id == id_, *limits).offset(0).lateral("record")


def _key_of_texts(listing: Listing[Query, Shows], query: Query) -> ColumnElement[Any] | None:
    """The key of the order as the texts have it; None where a change of the status moves it."""
    key = listing.keys[query.sort]
    return listing.texts.c[key.name] if isinstance(key, Column) else None


def _behind_in(found: FromClause, query: Query) -> Select[Any]:
    """Of these ids and keys those behind the cursor."""
    return select(_EVERYTHING).select_from(found).where(*_behind(query, column("sort_key"), column("id")))


def _in_order(found: Select[Any], query: Query) -> Select[Any]:
    """The first of these ids and keys, as many as a page and the row after it."""
    return found.order_by(*_order(column("sort_key"), column("id"), query)).limit(PAGE + 1)


def _first(listing: Listing[Query, Shows], query: Query) -> Select[Any]:
    """A page and the row after it of `hits`."""
    order = _order(listing.hits.c.sort_key, listing.hits.c.id, query)
    return select(*listing.shown_hits).order_by(*order).limit(PAGE + 1)


def _chosen(query: ListQuery) -> tuple[Status, ...]:
    return query.statuses if len(query.statuses) < len(Status) else ()


def _order(key: ColumnElement[Any], id_: ColumnElement[Any], query: ListQuery) -> list[ColumnElement[Any]]:
    return [key.desc(), id_.desc()] if is_down(query) else [key.asc(), id_.asc()]


def is_down(query: ListQuery) -> bool:
    """Whether the index is read from its end: the way of the order, turned round for a page before a cursor."""
    return query.descending != (query.cursor is not None and query.cursor.backwards)


def _behind_cursor(listing: Listing[Query, Shows], query: Query) -> list[ColumnElement[bool]]:
    return _behind(query, listing.keys[query.sort], listing.table.c.id)


def _behind(query: ListQuery, key: ColumnElement[Any], id_: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """The condition that a row with this key and id stands behind the cursor."""
    if query.cursor is None:
        return []
    place, here = tuple_(key, id_), tuple_(_bound(query.SORTS[query.sort].keys, query.cursor.key), query.cursor.id)
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


def _limits(listing: Listing[Query, Shows], query: Query, of: FromClause) -> list[ColumnElement[bool]]:
    """All conditions but the cursor, on the columns of `of`."""
    return [*_limits_but_words(query, listing, of), *has_words(query.words, of)]


def _limits_but_words(query: Query, listing: Listing[Query, Shows], of: FromClause) -> list[ColumnElement[bool]]:
    return [*_limits_that_move(query, listing, of), *listing.filters(query, of)]


def _limits_that_move(query: Query, listing: Listing[Query, Shows], of: FromClause) -> list[ColumnElement[bool]]:
    """Conditions on what changes with the status, which only the records have."""
    limits: list[ColumnElement[bool]] = []
    if statuses := _chosen(query):
        limits.append(of.c.sync_status.in_(statuses))
    if query.connection:
        limits.append(of.c.connection_id.in_([int(one) for one in query.connection]))
    return [*limits, *_synchronised_between(query, of), *listing.moving(query, of)]


def _synchronised_between(query: ListQuery, of: FromClause) -> list[ColumnElement[bool]]:
    """Conditions for the days of the last synchronisation; what never was synchronised was so on no day."""
    key = last_synchronised_key(of)
    limits: list[ColumnElement[bool]] = []
    if query.synced_from:
        limits.append(key >= _midnight(query.synced_from, query.zone))
    elif query.synced_to:
        limits.append(key > literal_column("'-infinity'::timestamptz"))
    if query.synced_to:
        limits.append(key < _midnight(query.synced_to, query.zone, days=1))
    return limits


def _midnight(day: str, zone: tzinfo, days: int = 0) -> datetime:
    """The moment at which a day begins, or the one so many days later; the last moment of all where there is none."""
    try:
        return datetime.combine(date.fromisoformat(day) + timedelta(days=days), time.min, zone)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def has_words(words: tuple[str, ...], of: FromClause) -> list[ColumnElement[bool]]:
    """Conditions for the records whose search text has all these words, whatever their case and accents."""
    return [or_(*(_is_like(one, of) for one in spellings(word))) for word in words]


def spellings(word: str) -> tuple[str, ...]:
    """The ways in which a search text may have a word: as it is, where it may stand for one with umlauts, that one, and
    where it has umlauts, with two letters for each.

    Without a German keyboard München is Muenchen, and folded it is munchen. Behind another vowel or a q, and at the end
    of a word, as in Bauer and blue, the two letters are no umlaut. What has them at the end, as Malmoe has, has the one
    letter there, too.
    """
    ways, folded, written = [word], _UMLAUT.sub(r"\1", word), word[:-1].translate(_TWO_LETTERS) + word[-1:]
    if folded != word and len(folded) > 2:
        ways.append(folded)
    if written != word:
        ways.append(written if len(word) > 2 else f" {written}")
    return tuple(ways)


def _is_like(word: str, of: FromClause) -> ColumnElement[bool]:
    """The condition that the search text of a record has a word as it is written, in a form for which the index is asked."""
    escaped = _place_of(word).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return of.c.search_text.like(func.fold(f"%{escaped}%"))


def _place_of(word: str) -> str:
    """What a search text holds where it has a word. Two letters are everywhere inside of words, so they stand for a beginning."""
    return f" {word}" if len(word) == 2 else word


def owned_by(owners: Sequence[str], of: FromClause) -> ColumnElement[bool]:
    """The condition that one of these people owns a record; NOBODY among them stands for records without an owner."""
    limits = [of.c.owner_id.is_(None)] if NOBODY in owners else []
    people = [int(one) for one in owners if one != NOBODY]
    return or_(*limits, of.c.owner_id.in_(people)) if people else limits[0]
