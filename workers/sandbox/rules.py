"""What the sandbox decides without touching anything: validation, paging, projection, times, money.

Nothing here does I/O. Facts about Sage are from its Swagger file (v3.1) and its developer guides.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from workers.sandbox.resources import Choice, Day, Email, Fields, Flag, Id, Ids, Kind, Lines, Money, Part, Text, Whole

MOST_PER_PAGE = 200
DEFAULT_PER_PAGE = 20
IDEMPOTENCY_ID = re.compile(r"[0-9a-f]{32}")
IDEMPOTENCY_SECONDS = 7 * 24 * 3600

# JSON can escape half of a surrogate pair; no encoding of Unicode can carry it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_MONEY = 10**12
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of an error answer. `source` is the dotted path of the field, empty for the request as a whole."""

    code: str
    message: str
    source: str = ""

    def as_json(self) -> dict[str, str]:
        """The entry with Sage's key names."""
        return {"$severity": "error", "$dataCode": self.code, "$message": self.message, "$source": self.source}


class Refused(Exception):
    """A request that Sage answers with an error. `status` is the HTTP status."""

    def __init__(self, status: int, *problems: Problem) -> None:
        super().__init__(f"{status}: {'; '.join(f'{one.source} {one.message}' for one in problems)}")
        self.status = status
        self.problems = problems


def invalid(message: str, source: str = "") -> Refused:
    """A 422 with one entry."""
    return Refused(422, Problem("RecordInvalid", message, source))


def not_found() -> Refused:
    """A 404: no such record in this business."""
    return Refused(404, Problem("RecordNotFound", "The record could not be found.", ""))


# --- bodies -----------------------------------------------------------------------------------------------------------

IsKnown = Callable[[str, str], bool]
"""Answers whether a collection or fixed list holds an id: `is_known("countries", "GB")`."""


def clean(
    fields: Fields,
    body: Mapping[str, Any],
    is_known: IsKnown,
    *,
    creating: bool,
    existing: frozenset[str] = frozenset(),
    prefix: str = "",
) -> tuple[dict[str, Any], list[Problem]]:
    """Check a body against its fields.

    `creating` asks for the required fields; `existing` names the parts that are there already, in which nothing is
    required again. Returns the values to store, by field name, and every problem found. Blank text and null mean
    "empty it". A key that the resource does not know, or that only Sage may set, is a problem.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in body:
        if name not in fields:
            problems.append(Problem("RecordInvalid", "This field does not exist or cannot be set.", prefix + name))
    for name, kind in fields.items():
        source = prefix + name
        if isinstance(kind, Part):
            _clean_part(name, kind, body, is_known, creating, existing, source, values, problems)
            continue
        if name not in body:
            if creating and kind.required:
                problems.append(Problem("RecordInvalid", "This field is required.", source))
            continue
        value = body[name]
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            if kind.required:
                problems.append(Problem("RecordInvalid", "This field is required.", source))
            else:
                values[name] = None
            continue
        if isinstance(kind, Lines):
            values[name], found = _clean_lines(kind, value, is_known, source)
            problems.extend(found)
            continue
        values[name], complaint = _clean_value(kind, value, is_known)
        if complaint:
            problems.append(Problem("RecordInvalid", complaint, source))
    return values, problems


def _clean_part(
    name: str,
    part: Part,
    body: Mapping[str, Any],
    is_known: IsKnown,
    creating: bool,
    existing: frozenset[str],
    source: str,
    values: dict[str, Any],
    problems: list[Problem],
) -> None:
    inner = body.get(name)
    if inner is None:
        if not (creating and part.required):
            return
        inner = {}
    if not isinstance(inner, Mapping):
        problems.append(Problem("RecordInvalid", "This field must be an object.", source))
        return
    values[name], found = clean(part.fields, inner, is_known, creating=name not in existing, prefix=f"{source}.")
    problems.extend(found)


def _clean_lines(kind: Lines, value: Any, is_known: IsKnown, source: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The lines to store, without what is empty, and every problem found. Sage does not say in which line one is."""
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        return [], [Problem("RecordInvalid", "This field must be a list of objects.", source)]
    lines, problems = [], []
    for one in value:
        line, found = clean(kind.fields, one, is_known, creating=True, prefix=f"{source}.")
        lines.append({name: inner for name, inner in line.items() if inner is not None})
        problems.extend(found)
    return lines, problems


def _clean_value(kind: Kind, value: Any, is_known: IsKnown) -> tuple[Any, str | None]:
    """The value to store and what is wrong with it, if anything."""
    match kind:
        case Text(longest) | Email(longest):
            if not isinstance(value, str) or _LONE_SURROGATE.search(value):
                return None, "This field must be text."
            if len(value) > longest:
                return None, f"This field is too long: at most {longest} characters."
            if isinstance(kind, Email) and not _EMAIL.fullmatch(value):
                return None, "This is not a valid e-mail address."
            return value, None
        case Choice(words):
            if value not in words:
                return None, f"This field must be one of: {', '.join(sorted(words))}."
            return value, None
        case Whole(low, high):
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                return None, f"This field must be a whole number from {low} to {high}."
            return value, None
        case Money():
            read = amount(value)
            return (None, "This field must be an amount of zero or more.") if read is None else (money(read), None)
        case Flag():
            return (value, None) if isinstance(value, bool) else (None, "This field must be true or false.")
        case Id(of):
            known = isinstance(value, str) and is_known(of, value)
            return (value, None) if known else (None, "The record that this field names could not be found.")
        case Ids(of):
            if not isinstance(value, list) or not all(isinstance(one, str) and is_known(of, one) for one in value):
                return None, "The record that this field names could not be found."
            return list(dict.fromkeys(value)), None
        case Day():
            if isinstance(value, str) and _DATE.fullmatch(value) and _is_day(value):
                return value, None
            return None, "This field must be a date, such as 2026-11-02."
        case Part() | Lines():
            raise AssertionError("a part is checked as a body of its own")


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def amount(value: Any) -> Decimal | None:
    """A number or the text of one as an amount of zero or more, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number < _MOST_MONEY else None


def money(number: Decimal) -> str:
    """An amount as Sage writes it in JSON: a string with at least one decimal, "2000.0"."""
    text = f"{number.normalize():f}"
    return text if "." in text else f"{text}.0"


def body_hash(method: str, path: str, body: Any) -> str:
    """Hex digest that two requests share when they ask for the same, whatever the order of keys."""
    return hashlib.sha256(json.dumps([method, path, body], sort_keys=True, default=str).encode()).hexdigest()


# --- lists ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its number from 1, its size, where it starts, and whether another precedes or follows."""

    number: int
    size: int
    offset: int
    has_back: bool
    has_next: bool


def page_of(total: int, number: int, size: int) -> Page:
    """The page to give. A number past the end gives the last page once more, as Sage does."""
    last = max(1, -(-total // size))
    number = min(number, last)
    return Page(number, size, (number - 1) * size, has_back=number > 1, has_next=number < last)


def whole_parameter(query: Mapping[str, str], name: str, default: int, high: int) -> int:
    """A number from 1 to `high` of the query string. Raises Refused (422) for anything else."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= high:
        raise invalid(f"This parameter must be a whole number from 1 to {high}.", name)
    return int(text)


def time_parameter(query: Mapping[str, str], name: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 time with its zone, or of a date, which is midnight in UTC.

    Raises Refused (422) for anything else, a time without a zone included: a `+` that was not escaped arrives as a
    space and must not be taken for UTC.
    """
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("This parameter must be an ISO 8601 date or a time with its zone.", name) from None
    if _DATE.fullmatch(text):
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise invalid("This parameter must be an ISO 8601 date or a time with its zone.", name)
    return moment.timestamp()


def names_parameter(query: Mapping[str, str], name: str) -> frozenset[str] | None:
    """The comma-separated names of a parameter; `{"all"}` for everything; None where it is absent."""
    text = query.get(name)
    return None if text is None else frozenset(part.strip() for part in text.split(",") if part.strip())


_ALWAYS = frozenset({"id", "displayed_as", "$path"})


def chosen(item: dict[str, Any], names: frozenset[str] | None) -> dict[str, Any]:
    """An item reduced to what a request asked for: id, displayed_as and $path always, the rest by name or by `all`."""
    if names is not None and "all" in names:
        return item
    wanted = _ALWAYS if names is None else _ALWAYS | names
    return {name: value for name, value in item.items() if name in wanted}


@lru_cache(maxsize=4096)
def iso(seconds: int | None) -> str | None:
    """A moment as Sage writes it: UTC, whole seconds, Z."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
