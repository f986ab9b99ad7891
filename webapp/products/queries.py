"""What is read about products."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, false, select, text, true
from sqlalchemy.orm import Session

from webapp.listing.counts import read_counts
from webapp.listing.pages import Conditions, Listing, Page, last_synchronised_key, read_page
from webapp.products.forms import ProductQuery
from webapp.products.models import YES, Product
from webapp.text import read_id

_PRODUCT: Table = Product.__table__  # type: ignore[assignment]


@dataclass(frozen=True)
class ListRow:
    """A product as a row of the list."""

    id: int
    sync_version: int
    sync_reason: str
    sync_detail: dict[str, Any]
    name: str
    code: str
    unit_price: Decimal
    unit: str
    discontinued: bool
    last_synchronised_at: datetime | None


def _filters(query: ProductQuery, of: FromClause) -> list[ColumnElement[bool]]:
    if len(query.discontinued) != 1:
        return []
    # Word for word as the indexes have it, of the few that are no longer sold and of the others.
    return [of.c.discontinued.is_(true() if query.discontinued == (YES,) else false())]


def _beginnings(query: ProductQuery) -> list[Conditions]:
    limits = _filters(query, _PRODUCT) if query.sort == "name" else []
    return [limits] if limits else []


LISTING = Listing(
    table=_PRODUCT,
    row=ListRow,
    # As the indexes of migration 0024 have them.
    keys={
        "name": _PRODUCT.c.name_key,
        "code": _PRODUCT.c.code_key,
        "unit_price": _PRODUCT.c.unit_price,
        "last_synchronised_at": last_synchronised_key(_PRODUCT),
    },
    by_status=frozenset({"name", "last_synchronised_at"}),
    filters=_filters,
    beginnings=_beginnings,
)


def list_products(session: Session, query: ProductQuery) -> Page[ListRow]:
    """One page of the products that `query` asks for; see webapp.listing.pages.read_page."""
    return read_page(session, LISTING, query)


_COUNTS = text(
    """
    SELECT 'discontinued:yes' AS choice,
           (SELECT count(*) FROM (SELECT FROM product WHERE discontinued IS TRUE LIMIT :most) AS few) AS n
    UNION ALL
    SELECT 'discontinued:no',
           (SELECT count(*) FROM (SELECT FROM product WHERE discontinued IS FALSE LIMIT :most) AS few)
    """
)


def count_choices(session: Session) -> dict[str, int]:
    """How many products each choice of the filters has, up to one more than webapp.listing.counts.MOST."""
    return read_counts(session, _COUNTS)


def product_names(session: Session, ids: Iterable[str]) -> dict[str, str]:
    """The names of those of these products that there are, by their ids as texts; any text may be among `ids`."""
    numbers = {read_id(one) for one in ids} - {None}
    if not numbers:
        return {}
    found = session.execute(select(Product.id, Product.name).where(Product.id.in_(numbers)))
    return {str(row.id): row.name for row in found}


def find_product(session: Session, product_id: int, *, lock: bool = False) -> Product | None:
    """A product by its id; with `lock`, nobody else changes it until this transaction ends."""
    return session.get(Product, product_id, with_for_update=lock or None)
