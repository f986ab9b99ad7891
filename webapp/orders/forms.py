"""What the pages of orders are asked for: the list's query, whose state is the address, and the form with its lines.

Pure: text of a request goes in, typed values and messages come out. No database and no network is asked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta, tzinfo
from decimal import Decimal
from typing import ClassVar, Protocol, Self

from werkzeug.datastructures import MultiDict

from webapp.connection.products import OrderDocument
from webapp.forms import Field, Form, Groups, by_name, is_taken, read_form
from webapp.languages import N_
from webapp.languages import gettext as _
from webapp.listing.query import AMOUNT, DAY, NOBODY, TIME, ListQuery, Range, Sort, days, read_list_query
from webapp.numbers import amount_text, plain, plain_price, read_number, rounded, typed_number
from webapp.orders.amounts import Line, LineValues, line_amounts, totals
from webapp.orders.changes import EDITABLE, STAYING
from webapp.orders.clean import LIMITS, CleanedLines, clean_order_header, clean_order_lines
from webapp.orders.models import Order
from webapp.orders.phases import STEPS
from webapp.sync.details import day
from webapp.text import letters, read_day

# The phases as the address names them, in the order in which an order goes through them.
PHASES = dict(zip(("validating", "validated", "synchronising", "synchronised"), STEPS, strict=True))

# The orders that the list can have, as the address names them.
SORTS = {
    "number": Sort(N_("Number")),
    "company": Sort(N_("Company")),
    "ordered_on": Sort(N_("Date"), DAY, highest_first=True),
    "total": Sort(N_("Total"), AMOUNT, highest_first=True),
    "last_synchronised_at": Sort(N_("Last synchronisation"), TIME, highest_first=True),
}


# More than any total that the database holds.
_HIGHEST_TOTAL = Decimal(10) ** 12


def _total(typed: str) -> str | None:
    amount = read_number(typed)
    if amount is None or abs(amount) >= _HIGHEST_TOTAL:
        return None
    return f"{rounded(amount):f}".removesuffix(".00")


@dataclass(frozen=True)
class OrderQuery(ListQuery):
    """What the list of orders shows.

    `phase` are some of PHASES, `owner` ids of people as texts, and NOBODY, `company` and `product` ids of companies and
    of products that a line names, as texts; `ordered_from` and `ordered_to` are days in ISO 8601, `total_from` and
    `total_to` amounts such as 12 and 12.50, all included.
    """

    SORTS: ClassVar[Mapping[str, Sort]] = SORTS
    SORT: ClassVar[str] = "-ordered_on"
    RANGES: ClassVar[tuple[Range, ...]] = (
        days("ordered_from", "ordered_to"),
        Range(
            "total_from",
            "total_to",
            _total,
            Decimal,
            N_("The lowest total cannot be read: write it like 1,234.50. The list is shown without it."),
            N_("The highest total cannot be read: write it like 1,234.50. The list is shown without it."),
            N_("The highest total is below the lowest. The list is shown without the highest."),
        ),
        *ListQuery.RANGES,
    )
    LABELS: ClassVar[Mapping[str, str]] = {
        **ListQuery.LABELS,
        "phase": N_("Phase"),
        "owner": N_("Owner"),
        "company": N_("Company"),
        "product": N_("Product"),
    }

    phase: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    company: tuple[str, ...] = ()
    product: tuple[str, ...] = ()
    ordered_from: str = ""
    ordered_to: str = ""
    total_from: str = ""
    total_to: str = ""


def read_query(
    args: MultiDict[str, str],
    owners: Mapping[int, str],
    companies: Collection[str],
    connections: Collection[str] = (),
    products: Collection[str] = (),
    zone: tzinfo = UTC,
) -> OrderQuery:
    """The query that an address asks for, of somebody in `zone`.

    `owners` are the names of all people by id; `companies` and `products` have the ids of those that the address names,
    as far as there are such; `connections` are the ids of all connections. Never raises: what cannot be is left out and becomes
    a problem.
    """
    choices: dict[str, Collection[str]] = {"phase": PHASES, "owner": {NOBODY, *map(str, owners)}}
    choices |= {"company": companies, "product": products, "connection": connections}
    return read_list_query(OrderQuery, args, choices, zone)


# The form in groups, in the order in which people fill it in. All lines together are one field: what others made of
# them is kept or taken as a whole.
_COMPANY = Field("company_id", N_("Company"), kind="company", needed=True, live=None)
_CONTACT = Field("contact_id", N_("Contact"), kind="choice", hint=N_("One of the company's contacts."), live=None)
_OWNER = Field("owner_id", N_("Owner"), kind="choice", live="owner")
_INTERNAL_NOTES = Field(
    "internal_notes",
    N_("Internal notes"),
    kind="long",
    hint=N_("For colleagues only. They are not sent to Sage."),
    limit=LIMITS["internal_notes"],
    live=None,
)
GROUPS: Groups = (
    (
        N_("Order"),
        (
            _COMPANY,
            _CONTACT,
            _OWNER,
            Field(
                "number",
                N_("Number"),
                hint=N_("Unique. A new order without one gets the next."),
                limit=LIMITS["number"],
            ),
            Field("ordered_on", N_("Date"), kind="date", live="ordered_on"),
            Field(
                "valid_until",
                N_("Valid until"),
                kind="date",
                hint=N_("The last day on which it holds."),
                live="valid_until",
            ),
        ),
    ),
    (
        N_("Lines"),
        (Field("lines", N_("Lines"), kind="lines", live="total"), Field("shipping", N_("Shipping"), live="shipping")),
    ),
    (
        N_("Notes"),
        (
            Field(
                "notes", N_("Notes"), kind="long", hint=N_("Sage shows them on the document."), limit=LIMITS["notes"]
            ),
            _INTERNAL_NOTES,
        ),
    ),
)
FIELDS = by_name(GROUPS)


def groups_as(document: OrderDocument | None) -> Groups:
    """The groups of the form of an order that is, or becomes, this document in Sage; None while nobody has chosen that."""
    if document is None:
        return GROUPS
    last_day = replace(FIELDS["valid_until"], label=document.last_day, hint=document.last_day_means)
    return tuple((title, tuple(last_day if one.name == last_day.name else one for one in of)) for title, of in GROUPS)


# Why another company cannot be chosen later.
STAYS_WITH_COMPANY = N_("An order stays with its company.")

# What can still be edited when Sage has the order.
STAYING_GROUPS: Groups = ((N_("Only here"), (_CONTACT, _OWNER, _INTERNAL_NOTES)),)

# A line as it stands in the form: a text for each of these names, which the form repeats for each line.
LINE_FIELDS = ("product_id", "description", "quantity", "unit_price", "discount", "tax_rate")
TypedLine = dict[str, str]


def blank_line(lines: Sequence[TypedLine] = ()) -> TypedLine:
    """A line to be filled in. Its tax is that of the line before: most orders have one rate."""
    return dict.fromkeys(LINE_FIELDS, "") | {"quantity": "1", "tax_rate": lines[-1]["tax_rate"] if lines else ""}


class Catalogued(Protocol):
    """What is read of a product: see webapp.products.models.Product."""

    id: int
    code: str
    name: str
    unit_price: Decimal


def read_typed_lines(form: MultiDict[str, str]) -> list[TypedLine]:
    """The lines of a form as they were typed, without the one to be removed and with one more where that was asked for."""
    columns = {name: form.getlist(name) for name in LINE_FIELDS}
    number = len(columns["description"])
    padded = {name: (texts + [""] * number)[:number] for name, texts in columns.items()}
    lines = [{name: padded[name][index] for name in LINE_FIELDS} for index in range(number)]
    removed = form.get("remove", "")
    if removed.isascii() and removed.isdigit() and len(removed) < 6 and 0 < int(removed) <= number:
        del lines[int(removed) - 1]
    if "add" in form:
        lines.append(blank_line(lines))
    return lines


def with_products(lines: Sequence[TypedLine], products: Sequence[Catalogued]) -> list[TypedLine]:
    """Lines with their products: a description that is a product's name or code stands for that product.

    The product's price is filled in where none was typed, or where the price is that of the product before. A line keeps
    its product when its description is worded differently. Products that are not among `products` are not there.
    """
    by_id = {str(one.id): one for one in products}
    named: dict[str, list[Catalogued]] = {}
    for one in products:
        for text in {letters(one.name), letters(one.code)}:
            named.setdefault(text, []).append(one)
    made = []
    for line in lines:
        before = by_id.get(line["product_id"])
        meant = named.get(letters(line["description"]), [])
        # Where two products share a name, nobody can tell which one is meant, unless it was chosen before.
        now = meant[0] if len(meant) == 1 else before
        price = line["unit_price"]
        if now is not None and now is not before:
            old = "" if before is None else typed_number(plain_price(before.unit_price))
            if price.strip() in ("", old):
                price = typed_number(plain_price(now.unit_price))
        description = line["description"] if now is None or now is before else now.name
        made.append(
            line | {"product_id": "" if now is None else str(now.id), "description": description, "unit_price": price}
        )
    return made


@dataclass(frozen=True)
class Sums:
    """What lines come to as they are typed, as texts: the net of each, empty where it cannot be told, and the totals."""

    nets: list[str]
    net: str
    tax: str
    total: str


def sums(lines: Sequence[TypedLine], shipping: str) -> Sums:
    """What lines come to as they are typed. Those that are not complete yet do not count."""
    nets, whole = [], []
    for line in lines:
        cleaned = clean_order_lines([line])
        whole += [] if cleaned.errors else cleaned.lines
        nets.append("" if cleaned.errors or not cleaned.lines else amount_text(line_amounts(cleaned.lines[0]).net))
    made = totals(whole, _amount(shipping))
    return Sums(nets, amount_text(made.net), amount_text(made.tax), amount_text(made.total))


def typed_lines(lines: Sequence[Line]) -> list[TypedLine]:
    """Lines that are stored, as a form holds them: nothing where there is no price, and none of the zeros that say nothing."""
    return [
        {
            "product_id": str(getattr(line, "product_id", None) or ""),
            "description": line.description,
            "quantity": typed_number(plain(line.quantity)),
            "unit_price": typed_number(plain_price(line.unit_price)) if line.unit_price else "",
            "discount": typed_number(f"{line.discount:.2f}") if line.discount else "",
            "tax_rate": typed_number(plain(line.tax_rate)) if line.tax_rate else "",
        }
        for line in lines
    ]


def lines_value(lines: Sequence[Line]) -> str:
    """Lines as the one text of the field `lines`, equal letter by letter where the lines are."""
    return json.dumps([list(line.values()) for line in typed_lines(lines)], ensure_ascii=False)


def read_lines_value(text: str) -> list[LineValues]:
    """The lines of such a text; of a text that is none, as only somebody sends who made up the form, no lines."""
    try:
        typed = [dict(zip(LINE_FIELDS, map(str, one), strict=True)) for one in json.loads(text)]
        cleaned = clean_order_lines(typed)
    except (ValueError, TypeError, RecursionError):
        return []
    return [] if cleaned.errors else cleaned.lines


@dataclass(frozen=True)
class OrderForm:
    """A form of an order as it was sent.

    `fields` is its fields, of which `lines` is one; `lines` are the lines exactly as they were typed, and `line_errors`
    what is wrong with them, by index and field. `lost` are the fields, with the words that were typed, that can no
    longer be changed since the form was opened.
    """

    fields: Form
    lines: list[TypedLine]
    line_errors: dict[tuple[int, str], str]
    lost: tuple[tuple[Field, str], ...] = ()

    def with_error(self, name: str, sentence: str) -> Self:
        """This form with an error that only the database could find."""
        return replace(self, fields=self.fields.with_error(name, sentence))


@dataclass(frozen=True)
class _Cleaned:
    values: dict[str, str]
    errors: dict[str, str]


def read_order_form(
    form: MultiDict[str, str],
    lines: list[TypedLine],
    stored: Mapping[str, str],
    *,
    companies: Collection[str],
    contacts: Collection[int],
    owners: Collection[int],
    is_closed: bool = False,
) -> OrderForm:
    """A form as it was sent, cleaned. `lines` are its lines with their products.

    `companies`, `contacts` and `owners` are the ids that may be chosen. `stored` is what the fields are now: see `texts`.
    Of an order that `is_closed`, what Sage has stays as it is.
    """
    # What is not in the form stays: a closed order's has no lines.
    kept = is_taken(form, "lines") or "lines" not in form
    cleaned = CleanedLines([], [], {}) if kept else clean_order_lines(lines, _amount(form.get("shipping", "")))
    typed_as = {} if kept else {"lines": lines_value(cleaned.lines)}
    sent = {name: text for name, text in form.items() if name != "lines"} | typed_as

    def clean(typed: dict[str, str]) -> _Cleaned:
        header = clean_order_header(typed)
        values, errors = {**header.values, "lines": typed["lines"]}, dict(header.errors)
        for name, allowed, sentence in (
            ("company_id", companies, _("Search for the company of the order, then choose it.")),
            ("contact_id", {0, *contacts}, _("This is no contact of the company. Choose another one, or nobody.")),
            ("owner_id", {0, *owners}, _("This person no longer uses Synclight. Choose another owner.")),
        ):
            values[name] = typed[name].strip()
            if (values[name] or "0") not in {str(one) for one in allowed}:
                errors[name] = sentence
        if stored["number"] and not values["number"]:
            errors["number"] = _("Every order needs a number. It was %(number)s.", number=stored["number"])
        if cleaned.problem or cleaned.errors:
            errors["lines"] = cleaned.problem or _("Some lines are not complete.")
        return _Cleaned(values, errors)

    read = read_form(FIELDS, sent, stored, clean, {"company_id": STAYS_WITH_COMPANY} if stored["company_id"] else None)
    if is_closed:
        return _without_what_sage_has(read, lines, stored)
    shown = typed_lines(read_lines_value(stored["lines"])) if form.get("now-lines") == "take" else lines
    return OrderForm(read, shown, cleaned.errors)


def _without_what_sage_has(read: Form, lines: list[TypedLine], stored: Mapping[str, str]) -> OrderForm:
    closed = [name for name in FIELDS if name not in STAYING]
    lost = tuple(
        (FIELDS[name], read.typed[name])
        for name in closed
        if name in read.errors or read.values[name] not in (read.before[name], stored[name])
    )
    kept = {name: stored[name] for name in closed}
    errors = {name: sentence for name, sentence in read.errors.items() if name in STAYING}
    return OrderForm(
        replace(read, typed=read.typed | kept, values=read.values | kept, before=read.before | kept, errors=errors),
        lines,
        {},
        lost,
    )


def _amount(text: str) -> Decimal:
    header = clean_order_header({"shipping": text})
    return Decimal(0) if "shipping" in header.errors else Decimal(header.values["shipping"])


def texts(order: Order) -> dict[str, str]:
    """The fields of an order as a form holds them. Its lines must be loaded."""
    names = ("company_id", *EDITABLE)
    found = {name: "" if (value := getattr(order, name)) is None else str(value) for name in names}
    return found | {"shipping": f"{order.shipping:.2f}", "lines": lines_value(order.lines)}


def total_text(fields: Mapping[str, str]) -> str:
    """The total of an order as a page shows it, of the fields as `texts` gives them; empty where they hold no lines."""
    return amount_text(totals(read_lines_value(fields["lines"]), _amount(fields["shipping"])).total) if fields else ""


def words_of(*fields: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The days and the amounts among these texts of forms, each with the words in which a page shows it."""
    found: dict[str, dict[str, str]] = {}
    for one in fields:
        for name, text in one.items():
            if name in ("ordered_on", "valid_until") and (when := read_day(text)):
                found.setdefault(name, {})[text] = day(when)
            elif name == "shipping" and (amount := read_number(text)) is not None:
                found.setdefault(name, {})[text] = amount_text(amount)
    return {name: list(words.items()) for name, words in found.items()}


def as_typed(fields: Mapping[str, str]) -> dict[str, str]:
    """Such fields as the reader would type them: with a comma where that divides decimals."""
    return {**fields, "shipping": typed_number(fields["shipping"])}


def nothing(today: date) -> dict[str, str]:
    """The fields of an order that is not there yet. It holds for thirty days."""
    days = {"ordered_on": today.isoformat(), "valid_until": (today + timedelta(days=30)).isoformat()}
    return dict.fromkeys(FIELDS, "") | days | {"shipping": "0.00", "lines": "[]"}


def stored_values(values: Mapping[str, str]) -> dict[str, object]:
    """The fields of a form, but its lines, as an order holds them."""
    made: dict[str, object] = {name: values[name] for name in ("number", "notes", "internal_notes")}
    made |= {name: date.fromisoformat(values[name]) for name in ("ordered_on", "valid_until")}
    made |= {name: int(values[name]) if values[name] else None for name in ("company_id", "contact_id", "owner_id")}
    return made | {"shipping": Decimal(values["shipping"])}
