"""Days, amounts and lines of orders as people type them or programs export them, made clean: for the form and the import.

Pure: asks no database and no network. Which contact, owner or product is meant only the database knows, and whether a
number is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from webapp.languages import N_, number
from webapp.languages import gettext as _
from webapp.numbers import PRICE_PLACES, amount_text, decimals, number_text, read_number
from webapp.orders.amounts import LineValues, totals
from webapp.text import clean_line, clean_lines, read_day

# The most characters that a text may have; what Sage takes is less for some, and its connector says so for each order.
LIMITS = {"number": 50, "notes": 10_000, "internal_notes": 10_000, "description": 500}

# Far above what anybody orders at once, and what one page can still show.
MOST_LINES = 300

# What the columns of the database can hold, and no order comes near.
_HIGHEST_AMOUNT = Decimal("999999999999.99")
_HIGHEST_QUANTITY = Decimal("99999999999.999")

_LINE_FIELDS = ("description", "quantity", "unit_price", "discount", "tax_rate")


@dataclass(frozen=True)
class CleanedLines:
    """The lines of an order as they can be stored, and what is wrong with them.

    `errors` maps the index of a line, counted from 0 over all that were given, and the name of its field to a sentence;
    `problem` is what is wrong with all of them together. Lines with errors must not be stored. `kept` has the indices
    of the lines in `lines`: those in which nothing was written are left out.
    """

    lines: list[LineValues]
    kept: list[int]
    errors: dict[tuple[int, str], str]
    problem: str = ""


def clean_order_lines(raw: Sequence[Mapping[str, str]], shipping: Decimal = Decimal(0)) -> CleanedLines:
    """Make the lines of an order clean. `raw` has the texts of each line by the names of LineValues.

    `product_id` is the id of a product that is there, or empty.

    A line without a price or with too high a discount is no error here: the order is kept and waits until it is mended.
    """
    lines: list[LineValues] = []
    kept: list[int] = []
    errors: dict[tuple[int, str], str] = {}
    for index, one in enumerate(raw):
        if is_blank(one):
            continue
        line, wrong = _clean_line(one)
        errors |= {
            (index, name): _("Line %(number)s", number=index + 1) + f": {sentence}" for name, sentence in wrong.items()
        }
        lines.append(line)
        kept.append(index)
    problem = ""
    if len(lines) > MOST_LINES:
        problem = _(
            "An order has %(limit)s lines at most, not %(lines)s: divide it into several orders.",
            limit=MOST_LINES,
            lines=len(lines),
        )
    elif not errors and abs(totals(lines, shipping).total) > _HIGHEST_AMOUNT:
        problem = _(
            "The order comes to more than %(limit)s: check its quantities and prices.",
            limit=amount_text(_HIGHEST_AMOUNT),
        )
    return CleanedLines(lines, kept, errors, problem)


def is_blank(raw: Mapping[str, str]) -> bool:
    """Whether nothing was written in a line. Its quantity and its tax are there from the beginning."""
    return not any(raw.get(name, "").strip() for name in ("description", "unit_price", "discount"))


# What is wrong with a number of a line.
_NO_NUMBER = {
    "quantity": N_("enter the quantity as a number above 0."),
    "unit_price": N_("enter the price as a number from 0."),
    "discount": N_("enter the discount as a number from 0."),
    "tax_rate": N_("enter the tax as a number from 0."),
}
_TOO_HIGH = {
    "quantity": N_("the quantity is too high: enter %(highest)s at most."),
    "unit_price": N_("the price is too high: enter %(highest)s at most."),
    "discount": N_("the discount is too high: enter %(highest)s at most."),
    "tax_rate": N_("the tax is too high: enter %(highest)s at most."),
}
_TOO_EXACT = {
    "quantity": N_("enter the quantity with %(places)s decimals at most."),
    "unit_price": N_("enter the price with %(places)s decimals at most."),
    "discount": N_("enter the discount with %(places)s decimals at most."),
    "tax_rate": N_("enter the tax with %(places)s decimals at most."),
}


def _clean_line(raw: Mapping[str, str]) -> tuple[LineValues, dict[str, str]]:
    text = {name: clean_line(raw.get(name, "")) for name in _LINE_FIELDS}
    errors: dict[str, str] = {}
    if not text["description"]:
        errors["description"] = _("choose a product or write what is ordered.")
    elif len(text["description"]) > LIMITS["description"]:
        errors["description"] = _("shorten the description to %(limit)s characters.", limit=LIMITS["description"])

    def number(name: str, places: int, highest: Decimal) -> Decimal:
        if not text[name] and name != "quantity":
            return Decimal(0)
        found = read_number(text[name].removesuffix("%") if name == "tax_rate" else text[name])
        if found is None or found < 0 or (name == "quantity" and found == 0):
            errors[name] = _(_NO_NUMBER[name])
        elif found > highest:
            errors[name] = _(_TOO_HIGH[name], highest=number_text(highest))
        elif decimals(found) > places:
            errors[name] = _(_TOO_EXACT[name], places=places)
        else:
            return found
        return Decimal(0)

    line = LineValues(
        text["description"],
        number("quantity", PRICE_PLACES, _HIGHEST_QUANTITY),
        number("unit_price", PRICE_PLACES, _HIGHEST_AMOUNT),
        number("discount", 2, _HIGHEST_AMOUNT),
        number("tax_rate", 3, Decimal(100)),
        int(raw["product_id"]) if raw.get("product_id") else None,
    )
    return line, errors


@dataclass(frozen=True)
class CleanedHeader:
    """What an order has beside its lines, and what is wrong with it.

    `values` has number, ordered_on, valid_until, shipping, notes and internal_notes as texts: days in ISO 8601, the
    amount with two places; a field with an error keeps what was written. `errors` maps a field to a sentence that says
    what to do.
    """

    values: dict[str, str]
    errors: dict[str, str]


_NO_DAY = {
    "ordered_on": N_("Enter the date of the order as a day, such as 31/12/2026."),
    "valid_until": N_("Enter the last day on which it holds as a day, such as 31/12/2026."),
}


def clean_order_header(raw: Mapping[str, str]) -> CleanedHeader:
    """Make the fields of an order clean that need no database. An empty number is one that the database gives."""
    values = {name: clean_line(raw.get(name, "")) for name in ("number", "ordered_on", "valid_until", "shipping")}
    values |= {name: "\n".join(clean_lines(raw.get(name, ""))) for name in ("notes", "internal_notes")}
    errors = {
        name: _(
            "It has %(length)s characters: shorten it to %(limit)s.",
            length=number(len(text)),
            limit=number(LIMITS[name]),
        )
        for name, text in values.items()
        if len(text) > LIMITS.get(name, len(text))
    }
    for name, no_day in _NO_DAY.items():
        day = read_day(values[name])
        if day is None:
            errors[name] = _(no_day)
        else:
            values[name] = day.isoformat()
    if not {"ordered_on", "valid_until"} & errors.keys() and values["valid_until"] < values["ordered_on"]:
        errors["valid_until"] = _("It would end before the date of the order: choose a later day.")
    shipping = read_number(values["shipping"]) if values["shipping"] else Decimal(0)
    if shipping is None or not 0 <= shipping <= _HIGHEST_AMOUNT:
        errors["shipping"] = _("Enter the shipping as an amount from 0, or leave it empty.")
    elif decimals(shipping) > 2:
        errors["shipping"] = _("Enter the shipping with two decimals at most.")
    else:
        values["shipping"] = f"{shipping:.2f}"
    return CleanedHeader(values, errors)
