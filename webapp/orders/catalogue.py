"""Importing products from a table, see webapp.importing.run. A row means the product that has its code."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    and_,
    case,
    false,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from webapp.db import UnitOfWork
from webapp.importing.columns import Columns
from webapp.importing.report import ImportReport
from webapp.importing.run import Kind, Needed, Progress, Written, batches, columns_of, import_rows, only_import
from webapp.importing.table import Table as File
from webapp.importing.writing import STAGED, refuse, says, staged_columns, usable
from webapp.orders.amounts import rounded
from webapp.orders.columns import PRODUCT_LABELS, PRODUCTS
from webapp.orders.models import Product
from webapp.orders.notation import Notation, notation_of
from webapp.services import Services
from webapp.text import clean_line

_TEMPORARY = MetaData()

_ROWS = Table(
    "import_product",
    _TEMPORARY,
    *staged_columns(),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("unit_price", Numeric(14, 2)),
    Column("discontinued", Boolean),
    **STAGED,
)
_SEEN = Table(
    "import_seen_product",
    _TEMPORARY,
    Column("line", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
    Index("ix_import_seen_product", "code", "line"),
    prefixes=["TEMPORARY"],
)
_PRODUCT = cast(Table, Product.__table__)

_HIGHEST = Decimal("999999999999.99")
_LIMITS = {"code": 50, "name": 200, "unit": 100}
_YES = frozenset({"1", "true", "yes", "y", "x", "wahr", "ja", "vrai", "oui", "verdadero", "si", "sí", "sim"})
_NO = frozenset({"0", "false", "no", "n", "falsch", "nein", "faux", "non", "falso", "não"})

_NEEDED = (
    Needed(("code",), "the codes of products", "Call one of them product code or SKU."),
    Needed(("name",), "the names of products", "Call one of them product name."),
)


def import_products(
    services: Services, path: Path, dry_run: bool = False, progress: Progress = lambda file, done, total: None
) -> ImportReport:
    """Create and change products from a CSV file, as webapp.companies.importing does companies. Raises ImportRefused."""
    with only_import(services) as connection:
        return import_catalogue(services, connection, path, dry_run, progress)


def import_catalogue(
    services: Services, connection: Connection, path: Path, dry_run: bool, progress: Progress
) -> ImportReport:
    """The same within an import that goes on."""
    file, columns, kind = _read(path)
    return import_rows(services, connection, kind, file, columns, dry_run=dry_run, progress=progress)


def products_in(path: Path) -> dict[str, Known]:
    """The products that an import of a file would make or change, by their codes, as far as they have all they need."""
    file, columns, kind = _read(path)
    found: dict[str, Known] = {}
    for batch in batches(file, columns.used, kind.clean):
        for _, code, name, _, price, _ in batch.rows:
            if name and price is not None:
                found.setdefault(code, Known(None, name, price))
    return found


def _read(path: Path) -> tuple[File, Columns, _Products]:
    """A file of products, and how it is read. Raises ImportRefused."""
    file = File.open(path)
    columns = columns_of(file, PRODUCTS, *_NEEDED)
    return file, columns, _Products(notation_of(file, columns, numbers=("unit_price",)))


class Known(NamedTuple):
    """A product as a line needs it. It has no id before it is stored."""

    id: int | None
    name: str
    unit_price: Decimal


def known_products(session: Session) -> dict[str, Known]:
    """The products that there are, by their codes."""
    found = session.execute(select(Product.code, Product.id, Product.name, Product.unit_price))
    return {code: Known(id_, name, price) for code, id_, name, price in found}


class _Products(Kind):
    """See webapp.importing.run.Kind."""

    # Products belong to no connection.
    connection_id = None
    made = Product
    things = "products"
    columns = PRODUCTS
    labels = PRODUCT_LABELS
    tables = _TEMPORARY
    rows = _ROWS
    copied = ("code", "name", "unit", "unit_price", "discontinued")

    def __init__(self, notation: Notation) -> None:
        self._notation = notation

    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of `copied`, and what is wrong with it."""
        texts = {field: clean_line(raw.get(field, "")) for field in self.copied}
        errors = [
            f"The {field} has {len(texts[field]):,} characters: shorten it to {limit:,}."
            for field, limit in _LIMITS.items()
            if len(texts[field]) > limit
        ]
        if not texts["code"]:
            errors.append("Every product needs a code: give it one.")
        price = self._notation.number(texts["unit_price"]) if texts["unit_price"] else None
        if texts["unit_price"] and (price is None or not 0 <= price <= _HIGHEST or rounded(price) != price):
            errors.append(
                f"The price “{texts['unit_price']}” is not an amount from 0 with two decimals at most: correct it."
            )
        word = texts["discontinued"].casefold()
        if word and word not in _YES | _NO:
            errors.append(f"“{texts['discontinued']}” does not say whether it is still sold: write yes or no.")
        discontinued = word in _YES if word else None
        return (texts["code"], texts["name"], texts["unit"], price, discontinued), errors

    def stage(self, session: Session) -> None:
        """Refuse rows that mean the product of an earlier row."""
        session.execute(insert(_SEEN).from_select(["line", "code"], select(_ROWS.c.line, _ROWS.c.code)))
        same = (
            select(func.min(_SEEN.c.line))
            .where(_SEEN.c.code == _ROWS.c.code, _SEEN.c.line < _ROWS.c.line)
            .scalar_subquery()
        )
        refuse(session, _ROWS, same.is_not(None), "Line ", same, " has the same code: keep one of the two.")

    def write(self, work: UnitOfWork) -> Written:
        """Match the rows with the products that there are, and write them. Nobody else watches products."""
        session = work.session
        session.execute(update(_ROWS).where(_PRODUCT.c.code == _ROWS.c.code).values(record_id=_PRODUCT.c.id))
        is_new = _ROWS.c.record_id.is_(None)
        refuse(session, _ROWS, and_(is_new, _ROWS.c.name == ""), "Every product needs a name: give it one.")
        refuse(session, _ROWS, and_(is_new, _ROWS.c.unit_price.is_(None)), "Every product needs a price: give it one.")
        said = says(_ROWS, "name", "unit", "unit_price", "discontinued")
        changed = session.execute(
            update(_PRODUCT)
            .where(
                _PRODUCT.c.id == _ROWS.c.record_id,
                usable(_ROWS),
                or_(*(and_(is_said, _ROWS.c[name] != _PRODUCT.c[name]) for name, is_said in said.items())),
            )
            .values({name: case((is_said, _ROWS.c[name]), else_=_PRODUCT.c[name]) for name, is_said in said.items()})
            .returning(_PRODUCT.c.id)
        ).all()
        values = {
            **{name: _ROWS.c[name] for name in self.copied},
            "discontinued": func.coalesce(_ROWS.c.discontinued, false()),
        }
        created = session.execute(
            insert(_PRODUCT)
            .from_select(list(values), select(*values.values()).where(usable(_ROWS), is_new).order_by(_ROWS.c.line))
            .returning(_PRODUCT.c.id)
        ).all()
        return Written(len(created), len(changed), [])
