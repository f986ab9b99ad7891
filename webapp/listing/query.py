"""What a list is asked for. Its whole state is the address: statuses, filters of the module, search, order and place.

Pure: text of a request goes in, typed values and sentences come out. No database and no network is asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, tzinfo
from functools import cache, partial
from typing import Any, ClassVar, Self, TypeVar

from werkzeug.datastructures import MultiDict

from webapp.addresses import HIGHEST_ID
from webapp.languages import N_, ngettext
from webapp.languages import gettext as _
from webapp.status import FILTER_TEXT, Status
from webapp.text import one_line, read_day

# Rows of one page of a list.
PAGE = 50

# The owner of records that have none, as the address names it.
NOBODY = "none"

_LONGEST_SEARCH = 100
# So many values that a filter does not have are named; an address can hold a thousand.
_MOST_NAMED = 3
_LONGEST_TEXT = 100
_LONGEST_KEY = 1_000
# A time as PostgreSQL writes it. Python reads more: weeks, and zones that are further away than there are any.
_TIME = re.compile(r"[0-9-]{10} [0-9:]{8}(\.[0-9]{1,6})?[+-](0[0-9]|1[0-5])(:[0-9]{2}){0,2}")

# The columns of the list's keys as Python has them; a time is PostgreSQL's text, because Python has none for -infinity.
TEXT, WHOLE, AMOUNT, DAY, TIME = "text", "whole", "amount", "day", "time"


@dataclass(frozen=True)
class Sort:
    """One order that a list can have: the column's heading, what its keys are, and which end comes first."""

    heading: str
    keys: str = TEXT
    highest_first: bool = False


@dataclass(frozen=True)
class Range:
    """Two filters that are the first and the last value of what is shown, both included.

    `read` makes the value that the address has of what was typed, None where it is none; `value` is what such values are
    compared by. The three messages say that the first or the last cannot be read, and that the last is below the first.
    """

    first: str
    last: str
    read: Callable[[str], str | None]
    value: Callable[[str], Any]
    no_first: str
    no_last: str
    crossed: str


def _day(typed: str) -> str | None:
    day = read_day(typed)
    return day.isoformat() if day else None


def days(first: str, last: str) -> Range:
    """A range of days, in ISO 8601."""
    return Range(
        first,
        last,
        _day,
        date.fromisoformat,
        N_("The first day cannot be read: write it like 31/12/2026. The list is shown without it."),
        N_("The last day cannot be read: write it like 31/12/2026. The list is shown without it."),
        N_("The range of days ends before it begins. The list is shown without its end."),
    )


@dataclass(frozen=True)
class Cursor:
    """Where a page of the list begins: behind the record with this sort key and id, or before it (`backwards`).

    `key` is PostgreSQL's text form of the sort key, checked to be one of the sort in question.
    """

    key: str
    id: int
    backwards: bool = False

    def token(self) -> str:
        """The cursor as it stands in the address."""
        return base64.urlsafe_b64encode(json.dumps([self.key, self.id]).encode()).decode().rstrip("=")


@dataclass(frozen=True)
class ListQuery:
    """What a list shows; an empty value means no limit.

    A module's query is a subclass: each field that it adds is a filter of its own, which the address names as the field
    is named. A field that is a tuple holds the values that were chosen, in the order of their texts: a record must have
    one of them. Any other field is a text, two of them at a time the ends of one of the RANGES. LABELS are the filters
    as people call them. SORTS are the module's orders by the names that the address has; SORT is the one that needs no
    word.
    `connection` are ids as texts: only the records of these connections are shown. `synced_from` and `synced_to` are the
    days, in `zone`, in which the last synchronisation was.
    `problems` are sentences about what the address asked for and cannot be; the rest of the query stands without it.
    """

    SORTS: ClassVar[Mapping[str, Sort]]
    SORT: ClassVar[str]
    RANGES: ClassVar[tuple[Range, ...]] = (days("synced_from", "synced_to"),)
    LABELS: ClassVar[Mapping[str, str]] = {"connection": N_("Company in Sage")}

    statuses: tuple[Status, ...] = ()
    connection: tuple[str, ...] = ()
    synced_from: str = ""
    synced_to: str = ""
    search: str = ""
    sort: str = ""
    descending: bool = False
    cursor: Cursor | None = None
    problems: tuple[str, ...] = field(default=(), compare=False)
    zone: tzinfo = field(default=UTC, compare=False)

    def __post_init__(self) -> None:
        if not self.sort:
            object.__setattr__(self, "sort", self.SORT.removeprefix("-"))
            object.__setattr__(self, "descending", self.SORT.startswith("-"))

    @classmethod
    @cache
    def filter_names(cls) -> tuple[str, ...]:
        """The module's own filters, and those of all modules."""
        own = (one.name for one in fields(cls)[len(fields(ListQuery)) :])
        return (*own, "connection", "synced_from", "synced_to")

    @classmethod
    @cache
    def chosen_filters(cls) -> frozenset[str]:
        """Those of them that take several values."""
        return frozenset(name for name in cls.filter_names() if cls.__dataclass_fields__[name].default == ())

    @property
    def own_filters(self) -> list[tuple[str, str]]:
        """The module's own filters that are set, each with its values."""
        found: list[tuple[str, str]] = []
        for name in self.filter_names():
            value = getattr(self, name)
            found += [(name, one) for one in value] if isinstance(value, tuple) else [(name, value)] if value else []
        return found

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a record must have. A single letter is no word: nearly every record has it."""
        return tuple(word for word in self.search.split() if len(word) > 1)

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves records out."""
        return bool(self.statuses or self.own_filters or self.words)

    @property
    def filters(self) -> int:
        """How many filters are set; the search is not one of them."""
        return len(self.statuses) + len(self.own_filters)

    @property
    def counts_by_status(self) -> bool:
        """Whether the module's counters say how many records it has."""
        return not (self.own_filters or self.words)

    def pairs(self) -> list[tuple[str, str]]:
        """The query as the pairs of an address; reading them gives this query again."""
        pairs = [("status", str(status)) for status in self.statuses]
        pairs += self.own_filters
        if self.search:
            pairs.append(("q", self.search))
        if self.sort_name != self.SORT:
            pairs.append(("sort", self.sort_name))
        if self.cursor:
            pairs.append(("before" if self.cursor.backwards else "after", self.cursor.token()))
        return pairs

    @property
    def sort_name(self) -> str:
        """The order as the address names it: `city`, or `-city` for the other way round."""
        return f"-{self.sort}" if self.descending else self.sort

    def changed(self, **changes: Any) -> Self:
        """This query with other values, from its first page on."""
        return replace(self, **{"cursor": None, "problems": (), **changes})

    @property
    def cleared(self) -> Self:
        """This query without filters and search, in the same order."""
        empty = {name: () if name in self.chosen_filters() else "" for name in self.filter_names()}
        return self.changed(statuses=(), search="", **empty)

    def without(self, name: str, value: str) -> Self:
        """This query without one of the values that were chosen of a filter."""
        return self.changed(**{name: tuple(one for one in getattr(self, name) if one != value)})

    def toggled(self, status: Status) -> Self:
        """This query with `status` added to the chosen ones, or taken from them."""
        chosen = set(self.statuses) ^ {status}
        return self.changed(statuses=tuple(one for one in Status if one in chosen))

    def sorted_by(self, sort: str) -> Self:
        """This query in another order; the other way round where it has that order already.

        Times begin with the newest, names with the first letter: as each order says.
        """
        highest_first = self.SORTS[sort].highest_first
        return self.changed(sort=sort, descending=not self.descending if sort == self.sort else highest_first)


Query = TypeVar("Query", bound=ListQuery)


def read_list_query(
    of: type[Query], args: MultiDict[str, str], choices: Mapping[str, Collection[str]], zone: tzinfo = UTC
) -> Query:
    """The query of the module `of` that an address asks for, of somebody in `zone`.

    `choices` holds for each filter of several values all those that there are. Never raises: what cannot be is left out
    and becomes a problem.
    """
    problems: list[str] = []
    chosen = _chosen(args, "status")
    statuses = tuple(status for status in Status if status in chosen)
    problems += _impossible(sorted(chosen - set(Status)), _no_status)
    own: dict[str, Any] = {}
    for ends in of.RANGES:
        own |= _read_range(ends, args, problems)
    ranged = {name for ends in of.RANGES for name in (ends.first, ends.last)}
    for name in of.filter_names():
        if name in of.chosen_filters():
            chosen, possible = _chosen(args, name), choices.get(name, ())
            own[name] = tuple(sorted(value for value in chosen if value in possible))
            no_choice = partial(_no_choice, _(of.LABELS[name]))
            problems += _impossible(sorted(chosen.difference(own[name])), no_choice)
        elif name not in ranged:
            own[name] = one_line(args.get(name, ""))[:_LONGEST_TEXT].strip()
    search = one_line(args.get("q", ""))
    if len(search) > _LONGEST_SEARCH:
        problems.append(
            _("A search has %(limit)s characters at most. Only its beginning is used.", limit=_LONGEST_SEARCH)
        )
        search = search[:_LONGEST_SEARCH].strip()
    sort_name = args.get("sort", "").strip() or of.SORT
    if sort_name.removeprefix("-") not in of.SORTS:
        usual = _(of.SORTS[of.SORT.removeprefix("-")].heading)
        problems.append(
            _(
                "The list cannot be sorted by “%(sort)s”. It is sorted by: %(usual)s.",
                sort=_shortened(sort_name),
                usual=usual,
            )
        )
        sort_name = of.SORT
    sort, descending = sort_name.removeprefix("-"), sort_name.startswith("-")
    token = args.get("after") or args.get("before")
    cursor = _read_cursor(token, of.SORTS[sort], backwards="after" not in args) if token else None
    if token and cursor is None:
        problems.append(_("This page of the list does not exist. The list is shown from its beginning."))
    return of(
        statuses=statuses,
        search=search,
        sort=sort,
        descending=descending,
        cursor=cursor,
        problems=tuple(problems),
        zone=zone,
        **own,
    )


def _chosen(args: MultiDict[str, str], name: str) -> set[str]:
    """The values of a filter that an address names, once or several times."""
    return {value.strip() for value in args.getlist(name)} - {""}


def _impossible(values: Sequence[str], sentence: Callable[[str], str]) -> list[str]:
    """The sentence for each of the first values that a filter does not have, and one for all others."""
    told = [sentence(_shortened(value)) for value in values[:_MOST_NAMED]]
    if rest := len(values[_MOST_NAMED:]):
        told.append(
            ngettext(
                "1 more choice of this address does not exist. The list is shown without it.",
                "%(num)s more choices of this address do not exist. The list is shown without them.",
                rest,
            )
        )
    return told


def _no_status(value: str) -> str:
    return _("There is no status “%(value)s”. The list is shown without it.", value=value)


def _no_choice(filter_: str, value: str) -> str:
    return _(
        "The filter “%(filter)s” has no choice “%(value)s”. The list is shown without it.", filter=filter_, value=value
    )


def _read_range(ends: Range, args: MultiDict[str, str], problems: list[str]) -> dict[str, str]:
    """The ends of a range that an address names, as every reader understands them."""
    read: dict[str, str] = {}
    for name, problem in ((ends.first, ends.no_first), (ends.last, ends.no_last)):
        typed = one_line(args.get(name, ""))
        value = ends.read(typed)
        if value is not None:
            read[name] = value
        elif typed:
            problems.append(_(problem))
    if len(read) == 2 and ends.value(read[ends.first]) > ends.value(read[ends.last]):
        problems.append(_(ends.crossed))
        del read[ends.last]
    return read


def _read_cursor(token: str, sort: Sort, *, backwards: bool) -> Cursor | None:
    try:
        key, id_ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return None
    if not isinstance(key, str) or type(id_) is not int or not 0 < id_ <= HIGHEST_ID or not _is_key(key, sort.keys):
        return None
    return Cursor(key, id_, backwards)


def _is_key(key: str, kind: str) -> bool:
    """Whether the database can read `key` as a value of this kind."""
    try:
        match kind:
            case "whole":
                return key.isascii() and key.isdigit() and len(key) < 6
            case "amount":
                return re.fullmatch(r"-?[0-9]{1,14}(\.[0-9]{1,10})?", key) is not None
            case "day":
                return date.fromisoformat(key).isoformat() == key
            case "time":
                return key == "-infinity" or (_TIME.fullmatch(key) is not None and bool(datetime.fromisoformat(key)))
            case _:
                return (
                    len(key) <= _LONGEST_KEY
                    and "\0" not in key
                    and not any("\ud800" <= letter <= "\udfff" for letter in key)
                )
    except ValueError:
        return False


def _shortened(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= 40 else f"{text[:40]}…"


def status_choices() -> list[tuple[Status, str]]:
    """The statuses as the filter lists them."""
    return list(FILTER_TEXT.items())


def owner_choices(owners: Mapping[int, str]) -> list[tuple[str, str]]:
    """Whom a list can be filtered by, as the filter lists them: nobody first."""
    return [(NOBODY, _("Nobody")), *((str(id_), name) for id_, name in owners.items())]
