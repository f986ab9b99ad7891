"""What a sales quote or invoice comes to, what is wrong with one, and when it can change. Nothing here does I/O.

Amounts are texts in Sage's form, "12.5", as the store keeps them; everything is rounded half up to two places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from workers.sandbox import reference
from workers.sandbox.rules import Problem, amount, money

_CENT = Decimal("0.01")

DRAFT, UNPAID, PAID, VOID = "DRAFT", "UNPAID", "PAID", "VOID"
"""The states of an invoice that the sandbox knows; Sage has more, of part payments and disputes."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a quote and an invoice are called in. `until` is its last day, and `first` the status that it begins in."""

    noun: str
    lines: str
    number: str
    prefix: str
    until: str
    last_day: str
    first: str
    page: str


QUOTE = Document("quote", "quote_lines", "quote_number", "SQ-", "expiry_date", "expiry date", DRAFT, "quotes")
INVOICE = Document("invoice", "invoice_lines", "invoice_number", "SI-", "due_date", "due date", UNPAID, "invoices")
DOCUMENTS: Mapping[str, Document] = {"sales_quotes": QUOTE, "sales_invoices": INVOICE}
"""The collections that hold documents with lines."""

_DAYS_TO_PAY = 30

Line = Mapping[str, Any]
"""A line as a body holds it, checked."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Without tax, the tax, and both together."""

    net: Decimal
    tax: Decimal

    @property
    def total(self) -> Decimal:
        """With tax."""
        return self.net + self.tax


def gross_of(line: Line) -> Decimal:
    """Quantity times price, before the discount."""
    return _rounded(_number(line, "quantity") * _number(line, "unit_price"))


def amounts_of(line: Line) -> Amounts:
    """A line after its discount. Its tax is what was written, as Sage takes it."""
    return Amounts(gross_of(line) - _number(line, "discount_amount"), _number(line, "tax_amount"))


def shipping_of(document: Line) -> Amounts:
    """The shipping of a document; its tax Sage computes itself."""
    net = _number(document, "shipping_net_amount")
    return Amounts(net, _tax(net, document.get("shipping_tax_rate_id")))


def total_of(kind: Document, document: Line) -> Amounts:
    """A document with its shipping."""
    parts = [*map(amounts_of, document[kind.lines]), shipping_of(document)]
    return Amounts(sum((one.net for one in parts), Decimal(0)), sum((one.tax for one in parts), Decimal(0)))


def settled(lines: Sequence[Line], before: Sequence[Line], new_id: Callable[[], str]) -> list[dict[str, Any]]:
    """Lines with an id and a tax each. A line that is as it was in its place keeps its id.

    Without a rate that has a percentage the tax is zero, whatever was sent.
    """
    made = []
    for position, line in enumerate(lines):
        taxed = Decimal(reference.percentage(line.get("tax_rate_id"))) > 0
        whole = {"discount_amount": "0.0", **line, "tax_amount": line.get("tax_amount") if taxed else "0.0"}
        old = before[position] if position < len(before) else {}
        same = {name: value for name, value in old.items() if name != "id"} == whole
        made.append({"id": old["id"] if same else new_id(), **whole})
    return made


TAXED = ("quantity", "unit_price", "discount_amount", "tax_rate_id")
"""What the tax of a line follows from."""


def with_tax(line: dict[str, Any]) -> dict[str, Any]:
    """A line with the tax that follows from its rate, as Sage's own form fills it in; as it is where one is no line."""
    rates = reference.lists()["tax_rates"]
    if any(amount(line.get(name) or 0) is None for name in TAXED[:3]) or line.get("tax_rate_id") not in (None, *rates):
        return line
    net = gross_of(line) - _number(line, "discount_amount")
    return {**line, "tax_amount": money(max(_tax(net, line.get("tax_rate_id")), Decimal(0)))}


def problems(kind: Document, document: Line) -> list[Problem]:
    """What Sage refuses in a document whose fields are each valid."""
    found = []
    if document[kind.until] < document["date"]:
        found.append((f"The {kind.last_day} cannot be before the date.", kind.until))
    if _number(document, "shipping_net_amount") and not document.get("shipping_tax_rate_id"):
        found.append(("This field is required.", "shipping_tax_rate_id"))
    for line in document[kind.lines]:
        if Decimal(reference.percentage(line.get("tax_rate_id"))) > 0 and line.get("tax_amount") is None:
            found.append(("This field is required.", f"{kind.lines}.tax_amount"))
        if _number(line, "discount_amount") > gross_of(line):
            found.append(("The discount cannot be higher than the line.", f"{kind.lines}.discount_amount"))
    return [Problem("RecordInvalid", message, source) for message, source in found]


def until_of(day: str) -> str:
    """The last day of a document that was sent without one: Sage's file asks for that of a quote, not of an invoice."""
    return (date.fromisoformat(day) + timedelta(days=_DAYS_TO_PAY)).isoformat()


def number_of(state: Line) -> str | None:
    """The number that Sage gave a document; None for what is none."""
    return state.get(QUOTE.number) or state.get(INVOICE.number)


def is_open(document: Line) -> bool:
    """Whether a document can still be changed: one that is paid or void cannot."""
    return document["status_id"] not in (PAID, VOID)


def _tax(net: Decimal, tax_rate_id: str | None) -> Decimal:
    return _rounded(net * Decimal(reference.percentage(tax_rate_id)) / 100)


def _number(holder: Line, name: str) -> Decimal:
    return Decimal(holder.get(name) or 0)


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)
