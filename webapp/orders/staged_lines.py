"""The lines of orders from a table: found, made clean and staged where the orders of the same import find them.

A line that cannot be taken is staged with its fault, so that its order is kept back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.orm import Session

from webapp.importing.columns import Columns, recognise
from webapp.importing.notation import Notation, Share, notation_of
from webapp.importing.report import LinesReport
from webapp.importing.run import (
    Needed,
    Progress,
    batches,
    columns_of,
    copy_in,
    described,
)
from webapp.importing.table import ImportRefused
from webapp.importing.table import Table as File
from webapp.numbers import plain, rounded
from webapp.orders.amounts import LineValues, line_amounts, price_problem
from webapp.orders.clean import clean_order_lines
from webapp.orders.columns import LINE_LABELS, LINES
from webapp.orders.models import Amount
from webapp.prefetch import prefetch
from webapp.products.importing import Known
from webapp.text import clean_line, letters

_SHOWN_FAULTS = 3

NUMBER = Needed(("number",), "the numbers of orders", "Call one of them order number or order ID.")
_NEEDED = (
    NUMBER,
    Needed(("product_code", "description"), "what was ordered", "Call one of them product code or product name."),
    Needed(("quantity",), "the quantities", "Call one of them quantity."),
)

_TEMPORARY = MetaData()

# All lines of the file. What is not written of one does not count when it is compared with the line here: `says_price`
# and the like. `fault` says why it cannot be taken; `problem` what a person must mend before its order can be sent.
STAGED_LINES = Table(
    "import_order_line",
    _TEMPORARY,
    Column("line", BigInteger, nullable=False),
    Column("number", Text, nullable=False),
    Column("product_id", BigInteger),
    Column("description", Text, nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("unit_price", Numeric, nullable=False),
    Column("discount", Amount, nullable=False),
    Column("tax_rate", Numeric(6, 3), nullable=False),
    Column("net", Numeric, nullable=False),
    Column("tax", Numeric, nullable=False),
    Column("says_description", Boolean, nullable=False),
    Column("says_price", Boolean, nullable=False),
    Column("says_discount", Boolean, nullable=False),
    Column("says_tax", Boolean, nullable=False),
    Column("problem", Text),
    Column("fault", Text),
    Column("position", Integer),
    Index("ix_import_order_line", "number", "line"),
    prefixes=["TEMPORARY"],
)
_COPIED = tuple(column.name for column in STAGED_LINES.c if column.name != "position")
LINE_VALUES = ("product_id", "description", "quantity", "unit_price", "discount", "tax_rate")

_DISCOUNTS = ("discount", "discount_percent", "discount_amount")
_NO_LINE = LineValues("", Decimal(0), Decimal(0))


def lines_table(file: File, given: Path | None) -> File:
    """The table with the lines of the orders of `file`. Raises ImportRefused where there is none, or several."""
    if given is not None:
        return File.open(given)
    if "quantity" in recognise(file.header, LINES).used:
        return file
    stem = letters(file.path.stem)
    called = {
        f"{start}{end}"
        for start in (stem, stem.removesuffix("s"), "order", "orders", "salesorder", "salesorders", "")
        for end in ("details", "lines", "items", "lineitems", "positions", "products")
        # A file of products is no file of lines.
        if (start, end) != ("", "products")
    }
    found = [path for path in tables_beside(file.path) if letters(path.stem) in called]
    if len(found) == 1:
        return File.open(found[0])
    if found:
        names = " and ".join(path.name for path in found)
        raise ImportRefused(f"{names} may all hold the lines of these orders: name one of them with --lines.")
    raise ImportRefused(
        f"{file.path} has no quantities, so the lines of its orders are in another file, and none beside it is called "
        "order-details.csv or order-lines.csv. Name it with --lines."
    )


def tables_beside(path: Path) -> list[Path]:
    """The other tables in the folder of a file."""
    return sorted(
        other for other in path.parent.iterdir() if other.suffix.lower() in (".csv", ".tsv", ".txt") and other != path
    )


@dataclass(frozen=True)
class Reading:
    """How a file of lines is read, told by all of it."""

    file: File
    columns: Columns
    notation: Notation
    taxes: Share
    product_codes: set[str]
    note: str

    @classmethod
    def of(cls, file: File) -> Reading:
        """Look at all of a file. Raises ImportRefused where a column is absent or values leave open what they mean."""
        columns = columns_of(file, LINES, *_NEEDED)
        if {"discount_percent", "discount_amount"} & columns.used.keys() and "discount" in columns.used:
            # The other column says what its numbers mean.
            used = {name: index for name, index in columns.used.items() if name != "discount"}
            columns = Columns(used, [*columns.left_out, file.header[columns.used["discount"]]])
        used = columns.used
        numbers = ("quantity", "unit_price", "discount", "discount_percent", "discount_amount", "tax_rate")
        notation = notation_of(file, columns, numbers=numbers)
        discounts, taxes = Share(), Share()
        codes: set[str] = set()
        for row in file.rows():
            if not row.cells:
                continue
            for name, share in (("discount", discounts), ("tax_rate", taxes)):
                if name in used and "%" not in row.cells[used[name]]:
                    share.add(row.line, notation.number(row.cells[used[name]]))
            codes.add(clean_line(row.cells[used["product_code"]]) if "product_code" in used else "")
        note = ""
        if "discount" in used:
            name = file.header[used["discount"]]
            if not discounts.is_fraction:
                raise ImportRefused(
                    f"{file.path.name} cannot be read: the {plain(discounts.highest)} in line {discounts.line} may be "
                    f"a percentage or an amount. Call the column {name} either discount % or discount amount."
                )
            note = f"{name} was read as a fraction: 0.15 is 15 % off the line."
        return cls(file, columns, notation, taxes, codes - {""}, note)


class _Cleaning:
    """Makes the rows of a file of lines clean. `products` are those that there are, by their codes."""

    def __init__(self, reading: Reading, products: Mapping[str, Known]) -> None:
        self._reading = reading
        self._products = products

    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of _COPIED after the line; nothing at all where the row has no line.

        What is wrong with a line is its fault, among the columns; what is returned as wrong is that no order is known.
        """
        texts = {name: clean_line(raw.get(name, "")) for name in LINES}
        if not any(texts[name] for name in ("product_code", "description", "quantity", "unit_price")):
            return (), []
        if not texts["number"]:
            return (), ["It has no number of an order."]
        says_price, says_discount = texts["unit_price"] != "", any(texts[name] for name in _DISCOUNTS)
        line, by_share, fault = self._line(texts)
        amounts, problem = line_amounts(line), price_problem([line])
        return (
            texts["number"],
            *(getattr(line, name) for name in LINE_VALUES),
            amounts.net,
            amounts.tax,
            texts["description"] != "",
            says_price,
            # A share of a price that the file does not say.
            says_discount and (says_price or not by_share),
            texts["tax_rate"] != "",
            problem.code if problem else None,
            fault or None,
        ), []

    def _line(self, texts: Mapping[str, str]) -> tuple[LineValues, bool, str]:
        """The line, whether its discount is a share of it, and what is wrong with it: the line is empty then."""
        product = self._products.get(texts["product_code"])
        if product is None and not texts["description"]:
            named = (
                f"There is no product {texts['product_code']} here" if texts["product_code"] else "It has no product"
            )
            return _NO_LINE, False, f"{named}: import the products first, or give the line a description."
        amount, share = self._discount(texts)
        price = self._plain(texts["unit_price"])
        cleaned = clean_order_lines(
            [
                {
                    "description": texts["description"] or (product.name if product else ""),
                    "quantity": self._plain(texts["quantity"]),
                    "unit_price": price or (str(product.unit_price) if product else ""),
                    "discount": amount,
                    "tax_rate": self._tax(texts["tax_rate"]),
                    "product_id": str(product.id) if product and product.id else "",
                }
            ]
        )
        if cleaned.problem or cleaned.errors:
            sentences = [sentence.removeprefix("Line 1: ") for sentence in cleaned.errors.values()]
            return _NO_LINE, False, " ".join(f"{one[0].upper()}{one[1:]}" for one in sentences) or cleaned.problem
        line = cleaned.lines[0]
        if share is not None:
            gross = line.quantity * line.unit_price
            # So that the line comes to its share rounded to the cent, and not to the line less a rounded discount.
            line.discount = rounded(gross) - rounded(gross * (1 - share))
        return line, share is not None, ""

    def _discount(self, texts: Mapping[str, str]) -> tuple[str, Decimal | None]:
        """The discount as an amount, or as a share of the line; what is no number from 0 is left as it is written."""
        if texts["discount_amount"]:
            return self._plain(texts["discount_amount"]), None
        written = texts["discount_percent"] or texts["discount"]
        number = self._reading.notation.number(written.removesuffix("%"))
        if number is None or number < 0:
            return written, None
        return "", number / 100 if texts["discount_percent"] or "%" in written else number

    def _tax(self, text: str) -> str:
        """A tax rate in percent."""
        number = self._reading.notation.number(text.removesuffix("%"))
        if number is None:
            return text
        return plain(number * 100 if self._reading.taxes.is_fraction and "%" not in text else number)

    def _plain(self, text: str) -> str:
        """A number as webapp.orders.clean reads it in any file; what is none as it is written."""
        number = self._reading.notation.number(text)
        return text if number is None else f"{number:f}"


def stage_lines(
    connection: Connection, reading: Reading, products: Mapping[str, Known], progress: Progress
) -> LinesReport:
    """Put all lines of a file where the orders find them. Raises ImportRefused where one belongs to no order."""
    file, columns = reading.file, reading.columns
    report = LinesReport(**described(file, columns, LINE_LABELS), notes=[reading.note] if reading.note else [])
    _TEMPORARY.create_all(connection, checkfirst=False)
    connection.commit()
    lost: list[tuple[int, str]] = []
    for batch in prefetch(batches(file, columns.used, _Cleaning(reading, products).clean)):
        with Session(connection) as session:
            copy_in(session, STAGED_LINES, _COPIED, (row for row in batch.rows if len(row) > 1))
            session.commit()
        report.mended += batch.mended
        lost += batch.refused
        progress(report.file, batch.last_line, file.lines)
    if lost:
        shown = " ".join(f"Line {line}: {reason}" for line, reason in lost[:_SHOWN_FAULTS])
        raise ImportRefused(
            f"Nobody can tell to which orders {len(lost):,} rows of {file.path.name} belong, so an order could reach "
            f"Sage without one of its lines. {shown} Mend that, then import the file again."
        )
    # Nothing else looks at temporary tables for the planner's sake.
    connection.execute(text(f"ANALYZE {STAGED_LINES.name}"))
    connection.commit()
    return report
