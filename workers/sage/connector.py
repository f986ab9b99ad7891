"""What the sync engine asks of Sage, whichever Sage it is, and how Sage can fail.

The words are those of ERP sync: a connector translates between the neutral shape of a customer, which the engine
compares and merges, and one product's API. It decides nothing about statuses and knows no database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

# The neutral shape of each kind of record: every field a text, the unknown one empty. `country` is an ISO 3166 alpha-2
# code, days are ISO 8601, the price of a product is the text of webapp.numbers.plain_price, `shipping` has two places,
# `lines` is the text of webapp.orders.amounts.lines_text, and whether something is so, is YES or NO.
CUSTOMER_FIELDS = (
    "name",
    "code",
    "email",
    "phone",
    "tax_number",
    "address_line_1",
    "address_line_2",
    "city",
    "region",
    "postal_code",
    "country",
    "notes",
)
PERSON_FIELDS = ("name", "role", "email", "phone", "mobile")
PRODUCT_FIELDS = ("code", "name", "unit_price", "discontinued")
ORDER_FIELDS = ("number", "ordered_on", "valid_until", "notes", "shipping", "lines")
Fields = Mapping[str, str]
YES, NO = "yes", "no"
# The code of a refusal because of a product that a line names and Sage does not have: without it the line is taken.
PRODUCT_GONE = "product_gone"

# Texts that may have more than one line.
_WITH_LINES = frozenset({"notes"})
# PostgreSQL stores neither NUL nor half of a surrogate pair, and nobody means the other control characters.
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = re.compile(r"\s*[\r\n]\s*")


def tidied(fields: Fields, names: Sequence[str] = CUSTOMER_FIELDS) -> dict[str, str]:
    """Each of `names` as it survives the way to Sage and back, an absent one as the empty text.

    Both sides are compared in this form: no blanks around a text, none of the characters that nobody can see, one kind
    of line break, and one line where there is room for only one. Doing it twice changes nothing more. What a connector
    reads and what it sends is tidied already.
    """
    return {name: tidy(fields.get(name) or "", name in _WITH_LINES) for name in names}


def tidy(text: str, with_lines: bool = False) -> str:
    """One text in that form. What Sage says is stored, so all that a connector hands on goes through here."""
    if not text.isprintable():
        text = _UNWANTED.sub("", text)
        text = text.replace("\r\n", "\n").replace("\r", "\n") if with_lines else _LINE_BREAKS.sub(" ", text)
    return text.strip()


@dataclass(frozen=True)
class RemoteRecord:
    """A record as Sage holds it now: a customer, a person of a customer, a product, or an order.

    `fields` has each field of its kind, tidied. `number` is what people in Sage call it by, and may be empty.
    `updated_at` is the newest change of any part of it: of a customer, its address and its contact person are parts.
    `parent` is the id of the customer that a person or an order belongs to, empty for a customer and a product.
    `origin` is the idempotency key of the create that made it, where Sage gives that back (Accounting: source_guid),
    else the empty text: a record that we made is recognised by it even where the answer to the create was lost.
    `page` is where people see it in Sage, empty where Sage does not say; whoever shows it checks it.
    `products` are of an order the ids of the products that its lines name, in their order, empty for a line that names
    none: they are taken over with the lines, and not compared.
    `rest` is what else an update must send along so that Sage keeps it; only the connector reads it.
    """

    id: str
    number: str
    updated_at: datetime
    fields: Fields
    parent: str = ""
    origin: str = ""
    page: str = ""
    products: tuple[str, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Listed:
    """What a list tells of a record of which it does not tell all: its id, and the time of its last change.

    `agrees` says whether whatever else the list tells is true of a record with such fields. It need not tell of a change.
    """

    id: str
    updated_at: datetime
    agrees: Callable[[Fields], bool]


Unchanged = Callable[[Sequence[Listed]], Container[str]]
"""Given what a page of a list tells, the ids of those records that need no call of their own."""


def none_is_known(listed: Sequence[Listed]) -> Container[str]:
    """That of nobody who knows nothing: each needs a call."""
    return ()


@dataclass(frozen=True)
class Tombstone:
    """A record that was deleted in Sage."""

    id: str
    deleted_at: datetime


@dataclass(frozen=True)
class Business:
    """One company in Sage that the tokens give access to."""

    id: str
    name: str


class SageError(Exception):
    """Sage did not do what was asked.

    `raw` is what Sage said, for admins: {"status", "code", "message", "source", "request_id"}, each a text or absent.
    """

    def __init__(self, text: str, raw: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.raw = dict(raw or {})


class Rejected(SageError):
    """A person must mend the record. `detail` is the code and parameters of the sentence that says how."""

    def __init__(self, detail: Mapping[str, Any], raw: Mapping[str, Any] | None = None) -> None:
        super().__init__(str(detail.get("code")), raw)
        self.detail = dict(detail)


class Transient(SageError):
    """Heals by itself, and Sage surely did not apply the write.

    `after` is how many seconds Sage asked to wait, if it did.
    """

    def __init__(self, text: str, raw: Mapping[str, Any] | None = None, after: float | None = None) -> None:
        super().__init__(text, raw)
        self.after = after


class OutcomeUnknown(SageError):
    """A write was sent and no answer came that says whether Sage applied it. `after` is as in Transient."""

    def __init__(self, text: str, raw: Mapping[str, Any] | None = None, after: float | None = None) -> None:
        super().__init__(text, raw)
        self.after = after


class Unreachable(SageError):
    """Sage cannot be reached at all, and nothing was sent: a fault of the connection, not of a record."""


class AuthoriseAgain(SageError):
    """Sage no longer accepts our tokens: a person must authorise again."""


class NotFound(SageError):
    """There is no such object in Sage (any more)."""


class Collection(Protocol):
    """All records of one kind in a business: its customers, their persons, its products, or its orders.

    Every method that talks to Sage may raise Transient, Unreachable or AuthoriseAgain; the writing ones also Rejected
    and OutcomeUnknown, and whatever `before_write` raised: a connector is opened with that function and calls it right
    before each request that writes, so that it can be stopped there.
    A collection repeats nothing by itself, except a call that Sage refused because the access token had run out.

    `tells_deletions` says whether Sage tells of each of these that goes. Where it does not, all have to be read often to
    find that out: quotes go without a trace, and so do persons with their customer.

    `not_understood` are the ids of the records that a list has shown and that cannot be understood.
    """

    tells_deletions: bool
    not_understood: set[str]

    def read(self, sage_id: str) -> RemoteRecord:
        """One record as Sage holds it now.

        Raises NotFound, and Rejected where the record cannot be understood.
        """

    def changed(self, since: datetime | None, unchanged: Unchanged = none_is_known) -> Iterator[list[RemoteRecord]]:
        """All records, or those created or changed at `since` or later, a page at a time.

        Sage can shift its pages while they are read, so a record may come twice; ask again with an overlap for what
        may have been missed. A record that cannot be understood is left out, noted and logged; it never stops the rest.

        Where a list does not tell all of its records, each costs a call of its own, but for those that `unchanged`
        names: they are left out, and a page may be empty then. It is asked from another thread than the caller's, about
        pages that come later. Where a list tells all, it is not asked.
        """

    def deleted(self, since: datetime) -> Iterator[list[Tombstone]]:
        """Records that were deleted after `since`; nothing where Sage keeps no tombstones of this kind (quotes).

        What Sage keeps but takes for nothing any more (a void invoice) is deleted, for all other methods too.
        """

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        """The body that creates a record, to be stored before it is sent.

        `parent` is the id of the customer that it belongs to, where it belongs to one. Asks Sage for no more than what
        stays the same all day: the customer's address for a person, tax rates and ledger accounts for an order, these for a
        product. For a customer it asks nothing, and may be made while another call runs.
        The lines of an order may name products, see webapp.orders.amounts.lines_text. Where Sage then refuses it because
        it has no such product, the detail of Rejected is PRODUCT_GONE.
        Raises Rejected where Sage would surely refuse it: something required is missing, too long or malformed.
        """

    def create(self, body: Mapping[str, Any]) -> RemoteRecord:
        """Send a body of `create_body`.

        The same body again gives the same record and creates no second one, for 7 days.
        """

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        """The body that gives the record `remote` the `fields`. Raises Rejected as above."""

    def update(self, sage_id: str, body: Mapping[str, Any]) -> RemoteRecord:
        """Send a body of `update_body`. Raises NotFound too."""

    def find(self, fields: Fields, parent: str = "") -> list[RemoteRecord]:
        """Records that could be the one with these fields, at most 20, compared without case.

        A customer by code, e-mail and name; a person of `parent` by e-mail and name; a product by code and name; an
        order of `parent` by number.
        Fields that are empty or absent are not looked for.
        """


class Connector(Protocol):
    """One business in Sage. One thread at a time uses it."""

    @property
    def customers(self) -> Collection:
        """The customers: our companies."""

    @property
    def persons(self) -> Collection:
        """The persons of customers, but for the main one, whose phone and e-mail are the customer's: our contacts."""

    @property
    def products(self) -> Collection:
        """What the lines of orders are about: our products."""

    @property
    def orders(self) -> Collection:
        """The orders, as the documents that Sage has for them (Accounting: sales quotes or invoices)."""

    def has_room(self) -> bool:
        """Whether calls are left beyond those that are kept for what people wait for. Asks Sage nothing."""

    def check(self) -> Business:
        """The business as Sage has it now: the cheapest call that tells whether Sage works for us.

        Any lack of an answer here is Unreachable, since nothing but the connection can be at fault.
        """
