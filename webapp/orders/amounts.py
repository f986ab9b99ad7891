"""What the lines of an order come to, and what is wrong with their prices. Pure.

Amounts are Decimals of two places, rounded half up, as Sage rounds them. Quantities and the prices of one unit are exact.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Protocol

from webapp.numbers import plain, plain_price, rounded


class Line(Protocol):
    """What is read of a line: see webapp.orders.models.OrderLine."""

    description: str
    quantity: Decimal
    unit_price: Decimal
    discount: Decimal
    tax_rate: Decimal


@dataclass
class LineValues:
    """A line that stands in no database. `product_id` is None where it was written freely."""

    description: str
    quantity: Decimal
    unit_price: Decimal
    discount: Decimal = Decimal(0)
    tax_rate: Decimal = Decimal(0)
    product_id: int | None = None


@dataclass(frozen=True)
class LineAmounts:
    """A line without tax, after its discount, and its tax."""

    net: Decimal
    tax: Decimal


@dataclass(frozen=True)
class Totals:
    """An order without tax (shipping included), its tax, and both together."""

    net: Decimal
    tax: Decimal
    total: Decimal


@dataclass(frozen=True)
class PriceProblem:
    """What keeps an order's prices from being valid: a code of webapp.sync.details, and the line, counted from 1."""

    code: str
    line: int | None = None


def line_amounts(line: Line) -> LineAmounts:
    """The amounts of one line. A discount that is higher than the line gives a negative one."""
    net = rounded(line.quantity * line.unit_price) - rounded(line.discount)
    return LineAmounts(net, rounded(net * line.tax_rate / 100))


def totals(lines: Sequence[Line], shipping: Decimal) -> Totals:
    """The totals of an order. Shipping has no tax of its own."""
    amounts = [line_amounts(line) for line in lines]
    net = sum((one.net for one in amounts), rounded(shipping))
    tax = sum((one.tax for one in amounts), Decimal(0))
    return Totals(net, tax, net + tax)


def price_problem(lines: Sequence[Line]) -> PriceProblem | None:
    """The first thing that a person must mend before an order can be sent, None where its prices are valid."""
    if not lines:
        return PriceProblem("no_lines")
    for place, line in enumerate(lines, start=1):
        if line.unit_price == 0:
            return PriceProblem("no_price", place)
        if line_amounts(line).net < 0:
            return PriceProblem("discount_too_high", place)
    return None


def lines_text(lines: Sequence[Line], products: Sequence[str] = ()) -> str:
    """Lines as the one text by which both sides are compared: JSON in which equal lines are equal letter by letter.

    `products` are the ids in Sage of what the lines are about, in their order, empty for a line that names none. Such a
    text is sent and never compared: a line is the same, whether Sage knows its product or not.
    """
    told = [
        {
            "description": line.description,
            "quantity": plain(line.quantity),
            "unit_price": plain_price(line.unit_price),
            "discount": f"{rounded(line.discount):f}",
            "tax_rate": plain(line.tax_rate),
        }
        for line in lines
    ]
    for line, sage_id in zip(told, products, strict=False):
        if sage_id:
            line["product"] = sage_id
    return json.dumps(told, ensure_ascii=False)


def products_in(text: str) -> list[str]:
    """The ids in Sage of the products that the lines of such a text name, empty for a line that names none.

    Raises ValueError where it is no such text.
    """
    try:
        return [str(line.get("product", "")) for line in json.loads(text or "[]")]
    except AttributeError as error:
        raise ValueError("not the lines of an order") from error


def read_lines(text: str) -> list[LineValues]:
    """The lines of such a text. Raises ValueError where it is none."""
    try:
        return [
            LineValues(
                line["description"],
                Decimal(line["quantity"]),
                Decimal(line["unit_price"]),
                Decimal(line["discount"]),
                Decimal(line["tax_rate"]),
            )
            for line in json.loads(text or "[]")
        ]
    except (KeyError, TypeError, InvalidOperation) as error:
        raise ValueError("not the lines of an order") from error
