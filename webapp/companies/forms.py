"""What the pages of companies are asked for: the list's query, whose state is the address, and the form of one company.

Pure: text of a request goes in, typed values and messages come out. No database and no network is asked.
"""

from __future__ import annotations

import base64
import binascii
import json
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from werkzeug.datastructures import MultiDict

from webapp.companies.clean import LIMITS, clean_company
from webapp.companies.models import CUSTOMER, PROSPECT
from webapp.status import FILTER_TEXT, Status

# Rows of one page of the list.
PAGE = 50

TYPE_NAMES = {CUSTOMER: "Customer", PROSPECT: "Prospect"}

# The orders that the list can have, as the address names them, with the column's heading.
SORTS = {"name": "Name", "city": "City", "country": "Country", "last_synchronised_at": "Last synchronisation"}

# The owner of companies that have none, as the address names it.
NOBODY = "none"

_LONGEST_SEARCH = 100
_LONGEST_KEY = 1_000
_HIGHEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Cursor:
    """Where a page of the list begins: behind the company with this sort key and id, or before it (`backwards`).

    `key` is PostgreSQL's text form of the sort key, checked to be one of the sort in question.
    """

    key: str
    id: int
    backwards: bool = False

    def token(self) -> str:
        """The cursor as it stands in the address."""
        return base64.urlsafe_b64encode(json.dumps([self.key, self.id]).encode()).decode().rstrip("=")


@dataclass(frozen=True)
class CompanyQuery:
    """What the list shows. An empty value means no limit; `owner` is a person's id as text or NOBODY.

    `problems` are sentences about what the address asked for and cannot be; the rest of the query stands without it.
    """

    statuses: tuple[Status, ...] = ()
    type: str = ""
    owner: str = ""
    country: str = ""
    search: str = ""
    sort: str = "name"
    descending: bool = False
    cursor: Cursor | None = None
    problems: tuple[str, ...] = field(default=(), compare=False)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a company must have. A single letter is no word: nearly every company has it."""
        return tuple(word for word in self.search.split() if len(word) > 1)

    @property
    def is_narrowed(self) -> bool:
        """Whether it leaves companies out."""
        return bool(self.statuses or self.type or self.owner or self.country or self.words)

    @property
    def filters(self) -> int:
        """How many filters are set; the search is not one of them."""
        return len(self.statuses) + bool(self.type) + bool(self.owner) + bool(self.country)

    @property
    def counts_by_status(self) -> bool:
        """Whether the module's counters say how many companies it has."""
        return not (self.type or self.owner or self.country or self.words)

    def pairs(self) -> list[tuple[str, str]]:
        """The query as the pairs of an address; reading them gives this query again."""
        pairs = [("status", str(status)) for status in self.statuses]
        pairs += [
            (name, value)
            for name, value in (
                ("type", self.type),
                ("owner", self.owner),
                ("country", self.country),
                ("q", self.search),
                ("sort", "" if (self.sort, self.descending) == ("name", False) else self.sort_name),
            )
            if value
        ]
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

    def toggled(self, status: Status) -> Self:
        """This query with `status` added to the chosen ones, or taken from them."""
        chosen = set(self.statuses) ^ {status}
        return self.changed(statuses=tuple(one for one in Status if one in chosen))

    def sorted_by(self, sort: str) -> Self:
        """This query in another order; the other way round where it has that order already.

        Times begin with the newest, everything else with the first letter.
        """
        newest_first = sort == "last_synchronised_at"
        return self.changed(sort=sort, descending=not self.descending if sort == self.sort else newest_first)


def read_query(args: MultiDict[str, str], owners: Mapping[int, str], countries: Collection[str]) -> CompanyQuery:
    """The query that an address asks for.

    `owners` are the names of all people by id, `countries` all codes that there are. Never raises: what cannot be is left
    out and becomes a problem.
    """
    problems: list[str] = []

    def choice(name: str, allowed: Collection[str], word: str) -> str:
        value = args.get(name, "").strip()
        if value and value not in allowed:
            problems.append(f"There is no {word} “{_shortened(value)}”. The list is shown without it.")
            return ""
        return value

    chosen = {value.strip() for value in args.getlist("status")} - {""}
    statuses = tuple(status for status in Status if status in chosen)
    for value in sorted(chosen - set(Status)):
        problems.append(f"There is no status “{_shortened(value)}”. The list is shown without it.")
    type_ = choice("type", TYPE_NAMES, "type")
    owner = choice("owner", {NOBODY, *map(str, owners)}, "owner")
    country = choice("country", countries, "country")
    search = _printable(args.get("q", ""))
    if len(search) > _LONGEST_SEARCH:
        problems.append(f"A search has {_LONGEST_SEARCH} characters at most. Only its beginning is used.")
        search = search[:_LONGEST_SEARCH].strip()
    sort_name = args.get("sort", "").strip() or "name"
    if sort_name.removeprefix("-") not in SORTS:
        problems.append(f"The list cannot be sorted by “{_shortened(sort_name)}”. It is sorted by name.")
        sort_name = "name"
    sort, descending = sort_name.removeprefix("-"), sort_name.startswith("-")
    token = args.get("after") or args.get("before")
    cursor = _read_cursor(token, sort, backwards="after" not in args) if token else None
    if token and cursor is None:
        problems.append("This page of the list does not exist. The list is shown from its beginning.")
    return CompanyQuery(statuses, type_, owner, country, search, sort, descending, cursor, tuple(problems))


def _read_cursor(token: str, sort: str, *, backwards: bool) -> Cursor | None:
    try:
        key, id_ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return None
    if not isinstance(key, str) or type(id_) is not int or not 0 < id_ <= _HIGHEST_ID or not _is_key(key, sort):
        return None
    return Cursor(key, id_, backwards)


def _is_key(key: str, sort: str) -> bool:
    """Whether the database can read `key` as a value of this order."""
    if sort == "country":
        return key.isascii() and key.isdigit() and len(key) < 6
    if sort == "last_synchronised_at":
        try:
            return key == "-infinity" or datetime.fromisoformat(key).tzinfo is not None
        except ValueError:
            return False
    return len(key) <= _LONGEST_KEY and "\0" not in key and not any("\ud800" <= letter <= "\udfff" for letter in key)


def _printable(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _shortened(text: str) -> str:
    text = _printable(text)
    return text if len(text) <= 40 else f"{text[:40]}…"


@dataclass(frozen=True)
class Field:
    """One field of the form: its label and how a browser can help to fill it in."""

    name: str
    label: str
    autocomplete: str
    kind: str = "text"
    hint: str = ""

    @property
    def limit(self) -> int:
        """The most characters that it takes."""
        return LIMITS[self.name]


# The form in groups, in the order in which people fill it in. Type, country and owner are choices and have no limit.
GROUPS: tuple[tuple[str, tuple[Field, ...]], ...] = (
    (
        "Company",
        (
            Field("name", "Name", "organization"),
            Field("code", "Code", "off", hint="Short and unique. Sage shows it as the reference."),
            Field("type", "Type", "off", "choice", "Only a customer is sent to Sage."),
            Field("owner_id", "Owner", "off", "choice"),
            Field("tax_number", "Tax number", "off"),
        ),
    ),
    (
        "Contact",
        (
            Field("email", "E-mail", "email", "email"),
            Field("phone", "Phone", "tel", "tel"),
        ),
    ),
    (
        "Address",
        (
            Field("address_line_1", "Address line 1", "address-line1"),
            Field("address_line_2", "Address line 2", "address-line2"),
            Field("postal_code", "Postal code", "postal-code"),
            Field("city", "City", "address-level2"),
            Field("region", "Region", "address-level1"),
            Field("country", "Country", "country", "choice", "Sage needs it."),
        ),
    ),
    ("Notes", (Field("notes", "Notes", "off", "long", "For colleagues only. Notes are not sent to Sage."),)),
)

FIELDS: dict[str, Field] = {one.name: one for _, group in GROUPS for one in group}

# The fields of a company that is not there yet.
NOTHING: dict[str, str] = dict.fromkeys(FIELDS, "")


@dataclass(frozen=True)
class Difference:
    """A field that somebody else changed while it was edited: what it was, what they made of it, what was typed here."""

    name: str
    before: str
    theirs: str
    yours: str


@dataclass(frozen=True)
class CompanyForm:
    """A form of a company as it was sent.

    `typed` is every field exactly as it came, to be shown again; `values` are the cleaned ones, to be stored. `errors`
    maps a field to a sentence. `before` holds what the fields were when the form was opened, `taken` the fields for which
    the person took the newer value of somebody else.
    """

    typed: dict[str, str]
    values: dict[str, str]
    errors: dict[str, str]
    before: dict[str, str]
    taken: frozenset[str]
    once: str = ""

    def with_error(self, name: str, sentence: str) -> Self:
        """This form with an error that only the database could find."""
        return replace(self, errors={**self.errors, name: sentence})


def read_form(form: Mapping[str, str], owners: Collection[int], stored: Mapping[str, str]) -> CompanyForm:
    """A form as it was sent, cleaned. `owners` are the ids of the people who can own a company.

    `stored` is what the fields are now, for what the form does not hold: a field that was not sent stays as it is.
    Values are texts; that of `owner_id` is the number as text, empty for nobody.
    """
    before = {name: _lines(form.get(f"was-{name}", stored[name])) for name in FIELDS}
    taken = frozenset(name for name in FIELDS if form.get(f"take-{name}") == "theirs")
    typed = {name: before[name] if name in taken else _lines(form.get(name, stored[name])) for name in FIELDS}
    cleaned = clean_company({name: value for name, value in typed.items() if name != "owner_id"})
    owner = typed["owner_id"].strip()
    errors = dict(cleaned.errors)
    if owner and owner not in {str(one) for one in owners}:
        errors["owner_id"] = "This person no longer uses Synclight. Choose another owner."
    in_order = {name: errors[name] for name in FIELDS if name in errors}
    values = {**cleaned.values, "owner_id": owner}
    return CompanyForm(typed, values, in_order, before, taken, _printable(form.get("once", ""))[:64])


def _lines(text: str) -> str:
    """Text of a form with the line ends that are stored; browsers send CRLF."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def merged(form: CompanyForm, stored: Mapping[str, str]) -> tuple[dict[str, str], list[Difference], list[str]]:
    """What to store of `form` where the company is `stored` by now: three ways, field by field.

    Returns the values; the fields that both changed to different values, for the person to choose; and the fields that
    only others changed, whose newer value stands.
    """
    values: dict[str, str] = {}
    both: list[Difference] = []
    theirs: list[str] = []
    for name in FIELDS:
        before, now, typed = form.before[name], stored[name], form.values[name]
        if now == before or typed == now:
            values[name] = typed
        elif typed == before:
            values[name] = now
            theirs.append(name)
        else:
            values[name] = typed
            both.append(Difference(name, before, now, typed))
    return values, both, theirs


def status_choices() -> list[tuple[Status, str]]:
    """The statuses as the filter lists them."""
    return list(FILTER_TEXT.items())
