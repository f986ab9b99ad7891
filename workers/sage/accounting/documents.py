"""An order as a sales quote or a sales invoice of Sage Accounting v3.1, and back. Pure.

Sage has no sales order. Names, lengths and required fields are those of Sage's Swagger file. Amounts come as JSON
numbers or strings and are Decimals here; quantities and prices keep their digits. A document whose
prices include tax, or with a negative line, says what no order here can say and is not understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

from webapp.numbers import TOO_HIGH, rounded, without_noise
from webapp.orders.amounts import LineValues, line_amounts, lines_text, products_in, read_lines
from workers.sage.accounting import objects
from workers.sage.accounting.objects import NotUnderstood, amount_of, as_number, decimal_of, kept, part_of
from workers.sage.connector import (
    ORDER_FIELDS,
    PRODUCT_GONE,
    Fields,
    Listed,
    Rejected,
    RemoteRecord,
    Tombstone,
    tidied,
    tidy,
)
from workers.sage.http import Complaint

_TEXTS = {"number": ("reference", 25), "notes": ("notes", 2000)}
LIMITS = objects.limits_of(_TEXTS)
_DAYS = ("ordered_on", "valid_until")
REQUIRED = (*_DAYS, "lines")
# What is in no line.
_HEAD = tuple(name for name in ORDER_FIELDS if name != "lines")

# What else a line keeps that stays about the same thing: key in the answer -> key in the body.
_KEPT_OF_LINE = {
    "ledger_account": "ledger_account_id",
    "product": "product_id",
    "service": "service_id",
    "trade_of_asset": "trade_of_asset",
    "eu_goods_services_type": "eu_goods_services_type_id",
    "eu_sales_description": "eu_sales_description_id",
}
_AMOUNTS_OF_LINE = ("quantity", "unit_price", "discount_amount", "tax_amount")

_FIELD_OF = {
    **{sage: ours for ours, (sage, _) in _TEXTS.items()},
    **{f"*.{sage}": "shipping" for sage in ("shipping_net_amount", "shipping_tax_rate_id", "shipping_tax_amount")},
    **{
        f"*.{sage}": "lines"
        for sage in ("description", "ledger_account_id", "tax_rate_id", "product_id", "service_id", *_AMOUNTS_OF_LINE)
    },
}

# How the ids of Sage's zero rates end, by which they are told from what is exempt or outside of the tax.
_ZERO_RATED = "_ZERO"

_VOID = "VOID"

# What a list tells of the lines that it only names.
_TOTALS = ("net_amount", "tax_amount", "shipping_tax_amount", "total_quantity", "total_discount_amount")

Rates = Mapping[str, Decimal]
"""Id of a tax rate -> its percentage, in the order in which Sage lists them."""


@dataclass(frozen=True)
class Document:
    """What orders are in Sage, in Sage's names: the list and the key of a body, the lines, the number and the last day.

    What `is_booked`, an invoice, is part of the accounts. It is never deleted but made void, which is the same for an
    order. It is not written to only because it has no reference: its own number is the order's then. And Sage's file
    asks neither for the day on which it is due nor for the quantities of its lines: without one it is due on its date,
    and a line is of one.
    """

    collection: str
    key: str
    lines: str
    number: str
    until: str
    is_booked: bool = False

    @property
    def asked(self) -> dict[str, str]:
        """What a list must ask for. It may name the lines and not say what is in them: only a single read can ask that."""
        names = ["contact", self.number, "date", self.until, "reference", "notes", "shipping_net_amount"]
        names += [
            "shipping_tax_rate",
            self.lines,
            "created_at",
            "updated_at",
            "links",
            *_TOTALS,
            *(["status"] if self.is_booked else []),
        ]
        return {"attributes": ",".join(names)}

    @property
    def asked_of_one(self) -> dict[str, str]:
        """What a single read must ask for."""
        return {**self.asked, "nested_attributes": "all"}

    @property
    def days(self) -> dict[str, str]:
        """Our days -> Sage's."""
        return {"ordered_on": "date", "valid_until": self.until}

    def is_void(self, item: Mapping[str, Any]) -> bool:
        """Whether a document is none any more, though Sage still shows it."""
        return self.is_booked and part_of(item, "status").get("id") == _VOID


QUOTES = Document("sales_quotes", "sales_quote", "quote_lines", "quote_number", "expiry_date")
INVOICES = Document("sales_invoices", "sales_invoice", "invoice_lines", "invoice_number", "due_date", is_booked=True)


# --- what a business has ----------------------------------------------------------------------------------------------


def rates_of(items: Iterable[Mapping[str, Any]]) -> Rates:
    """The tax rates of a business, without those that have no percentage of their own."""
    rates: dict[str, Decimal] = {}
    for item in items:
        percentage = decimal_of(item.get("percentage"))
        for sage_id in objects.ids_of(item):
            if percentage is not None:
                rates[sage_id] = percentage
    return rates


def rate_of(rates: Rates, percentage: Decimal) -> str | None:
    """The id of the tax rate with a percentage; of those without tax the zero rate, then the first. None for none."""
    found = [sage_id for sage_id, one in rates.items() if one == percentage]
    return next((one for one in found if one.endswith(_ZERO_RATED)), found[0] if found else None)


def sales_account_of(items: Iterable[Mapping[str, Any]]) -> str:
    """The ledger account that lines are booked on: the first of the type SALES, then the first visible in sales.

    Empty where there is none. Control accounts take no lines.
    """
    return objects.ledger_account_of(items, "SALES", "visible_in_sales")


# --- from Sage --------------------------------------------------------------------------------------------------------


def has_its_lines(document: Document, item: Mapping[str, Any]) -> bool:
    """Whether an answer says what is in the lines of a document, and not only that there are some."""
    return all("quantity" in line for line in objects.objects_of(item, document.lines))


def remote_order(document: Document, item: Mapping[str, Any], rates: Rates) -> RemoteRecord:
    """A document with its lines, read with `asked_of_one`, in our words. Whether it is void is asked before.

    Raises NotUnderstood where it has no id, time, contact or day, and for lines that no order here can have.
    """
    sage_id = objects.id_of(item)
    contact_id = next(iter(objects.ids_of(part_of(item, "contact"))), "")
    if not contact_id:
        raise NotUnderstood(sage_id, "a document of no contact")
    lines = objects.objects_of(item, document.lines)
    fields = {
        **_without_lines(document, sage_id, item),
        "lines": lines_text([_line(document, sage_id, line, rates) for line in lines]),
    }
    return RemoteRecord(
        id=sage_id,
        number=_number_of(document, sage_id, item),
        updated_at=objects.updated_at(sage_id, (item,)),
        fields=tidied(fields, ORDER_FIELDS),
        parent=contact_id,
        page=objects.page_of(item),
        products=tuple(next(iter(objects.ids_of(part_of(line, "product"))), "") for line in lines),
        rest={
            **kept(item, {"contact": "contact_id", "shipping_tax_rate": "shipping_tax_rate_id"}),
            "reference": objects.text_of(sage_id, item, "reference"),
            "lines": [_as_sent(sage_id, line) for line in lines],
        },
    )


def listed(document: Document, items: Iterable[Mapping[str, Any]]) -> list[Listed]:
    """What a list tells of documents of which it only names the lines; one without an id or a time is left out."""
    return [
        Listed(one["id"], when, partial(agrees, document, one))
        for one in items
        if objects.ids_of(one) and (when := objects.moment(one.get("updated_at")))
    ]


def agrees(document: Document, item: Mapping[str, Any], fields: Fields) -> bool:
    """Whether what a list tells of a document is true of an order with such fields: how many lines it has, what these
    come to, and each of its other fields.

    Sage's file does not say whether the shipping is part of the net amount and of the tax: it is in both, or in neither.
    What the list leaves out, or what is no amount, agrees with nothing.
    """
    sage_id = str(item.get("id"))
    try:
        told = tidied(_without_lines(document, sage_id, item), _HEAD)
        shipping = (amount_of(sage_id, item, "shipping_net_amount"), amount_of(sage_id, item, "shipping_tax_amount"))
        lines = read_lines(fields["lines"])
    except (NotUnderstood, ValueError):
        return False
    amounts = [line_amounts(line) for line in lines]
    net, tax = sum((one.net for one in amounts), Decimal(0)), sum((one.tax for one in amounts), Decimal(0))
    found = {name: decimal_of(item.get(name)) for name in _TOTALS}
    return (
        all(told[name] == fields[name] for name in _HEAD)
        and len(objects.objects_of(item, document.lines)) == len(lines)
        and found["total_quantity"] == sum(line.quantity for line in lines)
        and found["total_discount_amount"] == sum(line.discount for line in lines)
        and (found["net_amount"], found["tax_amount"]) in ((net, tax), (net + shipping[0], tax + shipping[1]))
    )


def tombstone_of_void(item: Mapping[str, Any]) -> Tombstone:
    """What a void document is for an order; it was made void when it changed last. Raises NotUnderstood."""
    sage_id = objects.id_of(item)
    return Tombstone(sage_id, objects.updated_at(sage_id, (item,)))


def completed(document: Document, answer: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a write of `body`, with what was sent where it leaves something out, such as what is in lines."""
    sent = part_of(body, document.key)
    whole = {**objects.as_read(sent), **answer}
    if document.lines not in answer or not has_its_lines(document, answer):
        whole[document.lines] = [objects.as_read(line) for line in objects.objects_of(sent, document.lines)]
    return whole


def _without_lines(document: Document, sage_id: str, item: Mapping[str, Any]) -> dict[str, str]:
    """The fields of an order that a list tells, too. Raises NotUnderstood."""
    texts = objects.texts_of(sage_id, item, _TEXTS)
    number = _number_of(document, sage_id, item)
    until = "date" if document.is_booked and item.get(document.until) is None else document.until
    return {
        **texts,
        "number": tidy(texts["number"]) or (number if document.is_booked else ""),
        "ordered_on": _day(sage_id, item, "date"),
        "valid_until": _day(sage_id, item, until),
        "shipping": f"{rounded(amount_of(sage_id, item, 'shipping_net_amount')):.2f}",
    }


def _number_of(document: Document, sage_id: str, item: Mapping[str, Any]) -> str:
    """The number that Sage gave a document."""
    return tidy(objects.text_of(sage_id, item, document.number))


def _line(document: Document, sage_id: str, line: Mapping[str, Any], rates: Rates) -> LineValues:
    quantity = without_noise(amount_of(sage_id, line, "quantity"))
    if document.is_booked and "quantity" in line and line["quantity"] is None:
        quantity = Decimal(1)
    price, discount = amount_of(sage_id, line, "unit_price"), amount_of(sage_id, line, "discount_amount")
    if quantity <= 0 or price < 0 or discount < 0:
        raise NotUnderstood(sage_id, "a line with a negative amount, or with no quantity")
    if max(quantity, price) >= TOO_HIGH:
        raise NotUnderstood(sage_id, "a line with a quantity or a price beyond any amount")
    if line.get("unit_price_includes_tax") is True:
        raise NotUnderstood(sage_id, "a line whose price includes tax")
    description = tidy(objects.text_of(sage_id, line, "description"))
    return LineValues(description, quantity, without_noise(price), rounded(discount), _percentage(sage_id, line, rates))


def _percentage(sage_id: str, line: Mapping[str, Any], rates: Rates) -> Decimal:
    for rate in objects.ids_of(part_of(line, "tax_rate")):
        if rate not in rates:
            raise NotUnderstood(sage_id, f"a line with the tax rate {rate}, which Sage does not list")
        return rates[rate]
    return Decimal(0)


def _as_sent(sage_id: str, line: Mapping[str, Any]) -> dict[str, Any]:
    """A line as a body holds it, with every digit that Sage has."""
    return {
        "description": objects.text_of(sage_id, line, "description"),
        **{name: as_number(amount_of(sage_id, line, name)) for name in _AMOUNTS_OF_LINE if line.get(name) is not None},
        **kept(line, {**_KEPT_OF_LINE, "tax_rate": "tax_rate_id"}),
    }


def _day(sage_id: str, item: Mapping[str, Any], key: str) -> str:
    try:
        return date.fromisoformat(str(item.get(key))[:10]).isoformat()
    except ValueError as error:
        raise NotUnderstood(sage_id, f"{key} is no day") from error


# --- to Sage ----------------------------------------------------------------------------------------------------------


def create_body(
    document: Document, fields: Fields, idempotency_key: str, contact_id: str, account_id: str, rates: Rates
) -> dict[str, Any]:
    """The body of the POST that makes a document of a contact, its lines on a ledger account.

    An invoice is issued with it: no draft. Raises Rejected where Sage would refuse it, and for a percentage of tax that
    Sage does not have.
    """
    ours, lines, shipping = checked(fields)
    item: dict[str, Any] = {
        "idempotency_id": idempotency_key,
        "contact_id": contact_id,
        **{sage: ours[name] for name, sage in document.days.items()},
        **objects.filled_of(ours, _TEXTS),
        document.lines: [
            {"ledger_account_id": account_id, **_translated(line, rates), **_named(product)}
            for line, product in zip(lines, products_in(ours["lines"]), strict=True)
        ],
    }
    if shipping:
        item |= {
            "shipping_net_amount": as_number(shipping),
            "shipping_tax_rate_id": _rate(rates, Decimal(0), "shipping"),
        }
    return {document.key: item}


def update_body(
    document: Document, fields: Fields, remote: RemoteRecord, account_id: str, rates: Rates
) -> dict[str, Any]:
    """The body of the PUT that changes a document, with all lines, as Sage asks for. An empty text empties a field.

    A line that is as Sage has it goes back letter by letter; one that keeps its description keeps its ledger account,
    its product, and its tax rate while the percentage is the same. One that names no product there names ours. A number
    that is as Sage has it leaves the reference as it is. Raises Rejected as `create_body`.
    """
    ours, lines, shipping = checked(fields)
    known = list(zip(read_lines(remote.fields["lines"]), remote.rest["lines"], strict=True))
    item: dict[str, Any] = {
        "contact_id": remote.rest["contact_id"],
        **{sage: ours[name] for name, sage in document.days.items()},
        **objects.all_of(ours, _TEXTS),
        "shipping_net_amount": as_number(shipping),
        document.lines: [
            {**_named(product), **_updated(line, known, account_id, rates)}
            for line, product in zip(lines, products_in(ours["lines"]), strict=True)
        ],
    }
    if ours["number"] == remote.fields["number"]:
        item["reference"] = remote.rest["reference"]
    if "shipping_tax_rate_id" in remote.rest:
        item["shipping_tax_rate_id"] = remote.rest["shipping_tax_rate_id"]
    elif shipping:
        item["shipping_tax_rate_id"] = _rate(rates, Decimal(0), "shipping")
    return {document.key: item}


def checked(fields: Fields) -> tuple[dict[str, str], list[LineValues], Decimal]:
    """The fields, tidied, their lines and the shipping. Raises Rejected for the first thing that Sage would refuse."""
    ours = objects.checked(fields, ORDER_FIELDS, REQUIRED, LIMITS)
    for name in _DAYS:
        try:
            date.fromisoformat(ours[name])
        except ValueError as error:
            raise Rejected({"code": "malformed", "field": name}) from error
    try:
        lines = read_lines(ours["lines"])
    except ValueError as error:
        raise Rejected({"code": "malformed", "field": "lines"}) from error
    if not lines or not all(line.description for line in lines):
        raise Rejected({"code": "missing", "field": "lines"})
    shipping = decimal_of(ours["shipping"] or "0")
    if shipping is None:
        raise Rejected({"code": "malformed", "field": "shipping"})
    return ours, lines, rounded(shipping)


def refusal(document: Document, complaints: Sequence[Complaint], body: Mapping[str, Any]) -> dict[str, Any]:
    """The detail that tells a person what to mend when Sage refused `body`: see objects.refusal.

    A complaint about the contact is about the company: it may be no customer any more, or made unrecognisable.
    """
    if any(one.source.rpartition(".")[2] in ("product_id", "product") for one in complaints):
        return {"code": PRODUCT_GONE, "field": "lines"}
    if any(one.source.removeprefix(f"{document.key}.") in ("contact_id", "contact") for one in complaints):
        return {"code": "company_refused"}
    number = str(part_of(body, document.key).get("reference", ""))
    field_of = {**_FIELD_OF, **{sage: ours for ours, sage in document.days.items()}, document.lines: "lines"}
    return objects.refusal(complaints, document.key, field_of, LIMITS, {"number": number})


def _updated(
    line: LineValues, known: list[tuple[LineValues, dict[str, Any]]], account_id: str, rates: Rates
) -> dict[str, Any]:
    """A line of an update. What it is made from is taken out of `known`, so that no two lines are made from one."""
    same = next((one for one in known if one[0] == line), None)
    if same:
        known.remove(same)
        return same[1]
    alike = next((one for one in known if one[0].description == line.description), None)
    if alike is None:
        return {"ledger_account_id": account_id, **_translated(line, rates)}
    known.remove(alike)
    before, sent = alike
    named = {name: sent[name] for name in ("description", *_KEPT_OF_LINE.values()) if name in sent}
    rate = sent.get("tax_rate_id") if before.tax_rate == line.tax_rate else None
    return {"ledger_account_id": account_id, **_translated(line, rates, rate), **named}


def _named(product: str) -> dict[str, str]:
    """The product of a line in a body, if it names one."""
    return {"product_id": product} if product else {}


def _translated(line: LineValues, rates: Rates, rate: str | None = None) -> dict[str, Any]:
    """A line as Sage has it, without its ledger account. `rate` is its tax rate where that is known."""
    body: dict[str, Any] = {
        "description": line.description,
        "quantity": as_number(line.quantity),
        "unit_price": as_number(line.unit_price),
        "tax_rate_id": rate or _rate(rates, line.tax_rate, "lines"),
    }
    if line.discount:
        body["discount_amount"] = as_number(rounded(line.discount))
    if line.tax_rate:
        body["tax_amount"] = as_number(line_amounts(line).tax)
    return body


def _rate(rates: Rates, percentage: Decimal, field: str) -> str:
    rate = rate_of(rates, percentage)
    if rate is None:
        raise Rejected({"code": "no_tax_rate", "field": field, "percentage": f"{percentage.normalize():f}"})
    return rate
