"""Importing products from a table, see webapp.importing.run.

A row means the product that has its code, else the only one of its name that has no code yet, compared without case and
accents. An empty cell says nothing: it leaves what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Connection,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    and_,
    false,
    func,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from webapp.connection.models import Connection as Sage
from webapp.db import UnitOfWork
from webapp.importing.columns import Columns
from webapp.importing.notation import Notation, notation_of
from webapp.importing.report import ImportReport
from webapp.importing.run import (
    Kind,
    Needed,
    Progress,
    Written,
    batches,
    chosen_connection,
    columns_of,
    import_rows,
    only_import,
)
from webapp.importing.table import Table as File
from webapp.importing.writing import (
    STAGED,
    Standing,
    belongs,
    change,
    create,
    point_to_only,
    refuse,
    says,
    staged_columns,
    usable,
)
from webapp.numbers import PRICE_PLACES
from webapp.products.changes import HERE_ONLY
from webapp.products.clean import LIMITS, is_price
from webapp.products.columns import COLUMNS, LABELS
from webapp.products.models import Product
from webapp.services import Services
from webapp.sync.saving import STAYS
from webapp.sync.transitions import queued_as
from webapp.text import clean_line

_TEMPORARY = MetaData()

_ROWS = Table(
    "import_product",
    _TEMPORARY,
    *staged_columns(),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("unit_price", Numeric),
    Column("discontinued", Boolean),
    Column("name_key", Text(collation="C"), Computed("fold(name)", persisted=True)),
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
_YES = frozenset({"1", "true", "yes", "y", "x", "wahr", "ja", "vrai", "oui", "verdadero", "si", "sí", "sim"})
_NO = frozenset({"0", "false", "no", "n", "falsch", "nein", "faux", "non", "falso", "não"})

_NEEDED = (
    Needed(("code",), "the codes of products", "Call one of them product code or SKU."),
    Needed(("name",), "the names of products", "Call one of them product name."),
)


def import_products(
    services: Services,
    path: Path,
    dry_run: bool = False,
    progress: Progress = lambda file, done, total: None,
    *,
    connection_id: int | None = None,
) -> ImportReport:
    """Create and change products from a CSV file, as webapp.companies.importing does companies. Raises ImportRefused."""
    with only_import(services) as connection:
        chosen = chosen_connection(services, connection_id)
        return import_catalogue(services, connection, path, dry_run, progress, connection_id=chosen)


def import_catalogue(
    services: Services,
    connection: Connection,
    path: Path,
    dry_run: bool,
    progress: Progress,
    *,
    connection_id: int | None,
) -> ImportReport:
    """The same within an import that goes on, with the connection that it is about."""
    file, columns, kind = _read(path, connection_id)
    return import_rows(services, connection, kind, file, columns, dry_run=dry_run, progress=progress)


def products_in(path: Path) -> dict[str, Known]:
    """The products that an import of a file would make or change, by their codes, as far as they have all they need."""
    file, columns, kind = _read(path, None)
    found: dict[str, Known] = {}
    for batch in batches(file, columns.used, kind.clean):
        for _, code, name, _, price, _ in batch.rows:
            if name and price is not None:
                found.setdefault(code, Known(None, name, price))
    return found


def _read(path: Path, connection_id: int | None) -> tuple[File, Columns, _Products]:
    """A file of products, and how it is read. Raises ImportRefused."""
    file = File.open(path)
    columns = columns_of(file, COLUMNS, *_NEEDED)
    return file, columns, _Products(connection_id, notation_of(file, columns, numbers=("unit_price",)))


class Known(NamedTuple):
    """A product as a line needs it. It has no id before it is stored."""

    id: int | None
    name: str
    unit_price: Decimal


def known_products(session: Session, connection_id: int | None) -> dict[str, Known]:
    """The products of a connection, by their codes; without one, those that belong to none."""
    sage = None if connection_id is None else session.get_one(Sage, connection_id)
    found = session.execute(
        select(Product.code, Product.id, Product.name, Product.unit_price).where(
            Product.code != "", belongs(Product, sage)
        )
    )
    return {code: Known(id_, name, price) for code, id_, name, price in found}


class _Products(Kind):
    """See webapp.importing.run.Kind."""

    made = Product
    things = "products"
    columns = COLUMNS
    labels = LABELS
    tables = _TEMPORARY
    rows = _ROWS
    copied = ("code", "name", "unit", "unit_price", "discontinued")

    def __init__(self, connection_id: int | None, notation: Notation) -> None:
        self.connection_id = connection_id
        self._notation = notation

    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of `copied`, and what is wrong with it."""
        texts = {field: clean_line(raw.get(field, "")) for field in self.copied}
        errors = [
            f"The {field} has {len(texts[field]):,} characters: shorten it to {limit:,}."
            for field, limit in LIMITS.items()
            if len(texts[field]) > limit
        ]
        if not texts["code"]:
            errors.append("Every product needs a code: give it one.")
        price = self._notation.number(texts["unit_price"]) if texts["unit_price"] else None
        if texts["unit_price"] and (price is None or not is_price(price)):
            errors.append(
                f"The price “{texts['unit_price']}” is not an amount from 0 with {PRICE_PLACES} decimals at most: correct it."
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
        """Match the rows with the products that there are, and write them."""
        session = work.session
        sage = self.sage(session)
        _match(session, sage)
        is_new = _ROWS.c.record_id.is_(None)
        refuse(session, _ROWS, and_(is_new, _ROWS.c.name == ""), "Every product needs a name: give it one.")
        refuse(session, _ROWS, and_(is_new, _ROWS.c.unit_price.is_(None)), "Every product needs a price: give it one.")
        standings = [Standing(true(), *queued_as(sage))]
        changed = change(
            session,
            Product,
            _ROWS,
            says(_ROWS, *self.copied),
            sage,
            standings,
            here_only=HERE_ONLY,
            stays=Product.sync_reason.in_(STAYS),
        )
        values = {
            **{name: _ROWS.c[name] for name in self.copied},
            "discontinued": func.coalesce(_ROWS.c.discontinued, false()),
        }
        created, moved = create(session, Product, _ROWS, _ROWS, values, sage, standings)
        return Written(created, len(changed), [*changed, *moved])


def _match(session: Session, sage: Sage | None) -> None:
    """Note for each staged row which product it means."""
    coded = and_(usable(_ROWS), Product.code == _ROWS.c.code, belongs(Product, sage))
    session.execute(update(_ROWS).where(coded).values(record_id=Product.id))
    # Two rows of one name are two products, and nobody knows which of them has no code yet.
    other = _ROWS.alias("other")
    namesake = select(other.c.line).where(other.c.name_key == _ROWS.c.name_key, other.c.line != _ROWS.c.line).exists()
    named = and_(_ROWS.c.name != "", Product.name_key == _ROWS.c.name_key, Product.code == "", belongs(Product, sage))
    remedy = " products here have this name and no code: give the one that is meant its code."
    point_to_only(session, _ROWS, "record_id", Product, and_(named, ~namesake), remedy)
