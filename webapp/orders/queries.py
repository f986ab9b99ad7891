"""What is read about orders, and about the products that their lines can name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, and_, func, or_, select, text
from sqlalchemy.orm import Session, selectinload

from webapp.companies.models import Company
from webapp.connection.queries import list_connections
from webapp.contacts.models import Contact
from webapp.listing.counts import read_counts
from webapp.listing.pages import Conditions, Listing, Page, has_words, last_synchronised_key, owned_by, read_page
from webapp.orders.forms import OrderQuery, TypedLine
from webapp.orders.models import CONFIRMED, VALIDATED, VALIDATING, Order, OrderLine
from webapp.products.models import Product
from webapp.products.queries import LISTING as PRODUCTS
from webapp.status import Status
from webapp.text import one_line, read_id

_ORDER: Table = Order.__table__  # type: ignore[assignment]
_LINE: Table = OrderLine.__table__  # type: ignore[assignment]

# As many products as a list under a field can show at once, and as many words as a search for one needs.
_MOST_PRODUCTS = 20
_MOST_WORDS = 8


@dataclass(frozen=True)
class ListRow:
    """An order as a row of the list."""

    id: int
    sync_version: int
    sync_reason: str
    sync_detail: dict[str, Any]
    number: str
    company_id: int
    ordered_on: date
    total: Decimal
    owner_id: int | None
    last_synchronised_at: datetime | None


def _filters(query: OrderQuery, of: FromClause) -> list[ColumnElement[bool]]:
    limits: list[ColumnElement[bool]] = []
    if query.owner:
        limits.append(owned_by(query.owner, of))
    if query.company:
        limits.append(of.c.company_id.in_([int(one) for one in query.company]))
    if query.product:
        named = _LINE.c.product_id.in_([int(one) for one in query.product])
        line = select(_LINE.c.id).where(_LINE.c.order_id == of.c.id, named)
        # A walk asks so for each order that it comes by, and ends where the page is full. Put together with all lines of
        # the products, which is shorter where all that match are looked for, it would go as far as it may.
        is_walk = of is LISTING.hits or of is LISTING.nearest
        limits.append(line.limit(1).scalar_subquery().is_not(None) if is_walk else line.exists())
    return [*limits, *_ordered_between(query, of), *_total_between(query, of)]


def _moving(query: OrderQuery, of: FromClause) -> Conditions:
    return [or_(*(_in_phase(phase, of) for phase in query.phase))] if query.phase else []


def _in_phase(phase: str, of: FromClause) -> ColumnElement[bool]:
    if phase == "synchronising":
        # Named one by one, because an index leads to what something is, and not to what it is not.
        on_the_way = [status for status in Status if status is not Status.SYNCHRONISED]
        return and_(of.c.sync_status.in_(on_the_way), of.c.phase == CONFIRMED)
    if phase == "synchronised":
        return of.c.sync_status == Status.SYNCHRONISED
    # Nothing of it was sent, so that the index of the unsent ones leads to the few of them.
    return and_(of.c.sync_status == Status.NOT_SYNCHRONISED, of.c.phase == phase)


def _ordered_between(query: OrderQuery, of: FromClause) -> list[ColumnElement[bool]]:
    limits: list[ColumnElement[bool]] = []
    if query.ordered_from:
        limits.append(of.c.ordered_on >= date.fromisoformat(query.ordered_from))
    if query.ordered_to:
        limits.append(of.c.ordered_on <= date.fromisoformat(query.ordered_to))
    return limits


def _total_between(query: OrderQuery, of: FromClause) -> list[ColumnElement[bool]]:
    limits: list[ColumnElement[bool]] = []
    if query.total_from:
        limits.append(of.c.total >= Decimal(query.total_from))
    if query.total_to:
        limits.append(of.c.total <= Decimal(query.total_to))
    return limits


def _beginnings(query: OrderQuery) -> list[Conditions]:
    if query.phase == ("synchronised",) and query.sort in _BY_STATUS:
        return [[_in_phase("synchronised", _ORDER)]]
    between: Conditions = []
    if query.sort == "total":
        between = _total_between(query, _ORDER)
    elif query.sort == "ordered_on":
        if query.company:
            return [[_ORDER.c.company_id == int(one)] for one in query.company]
        if _only_unsent(query):
            return [[_in_phase(phase, _ORDER)] for phase in query.phase]
        between = _ordered_between(query, _ORDER)
    return [between] if between else []


def _apart(query: OrderQuery, of: FromClause) -> Conditions:
    # Word for word as the index has it.
    return [of.c.phase != CONFIRMED] if _only_unsent(query) else []


def _only_unsent(query: OrderQuery) -> bool:
    return bool(query.phase) and {VALIDATING, VALIDATED}.issuperset(query.phase)


_BY_STATUS = frozenset({"ordered_on", "last_synchronised_at"})

LISTING = Listing(
    table=_ORDER,
    row=ListRow,
    # As the indexes of migration 0004 have them; that of the unsent ones is of 0025.
    keys={
        "number": _ORDER.c.number_key,
        "company": _ORDER.c.company_key,
        "ordered_on": _ORDER.c.ordered_on,
        "total": _ORDER.c.total,
        "last_synchronised_at": last_synchronised_key(_ORDER),
    },
    by_status=_BY_STATUS,
    filters=_filters,
    looked_at=("phase",),
    beginnings=_beginnings,
    moving=_moving,
    apart=_apart,
)


def list_orders(session: Session, query: OrderQuery) -> Page[ListRow]:
    """One page of the orders that `query` asks for; see webapp.listing.pages.read_page."""
    return read_page(session, LISTING, query)


def count_naming(session: Session, product_id: int, most: int) -> int:
    """How many orders have a line that names a product, counted up to `most`."""
    naming = select(_LINE.c.order_id).where(_LINE.c.product_id == product_id).distinct().limit(most)
    return session.scalar(select(func.count()).select_from(naming.subquery())) or 0


# Of an order that is on its way, the phase is confirmed; of those that were not sent, an index leads to each phase.
_COUNTS = text(
    """
    SELECT 'owner:' || id AS choice,
           (SELECT count(*) FROM (SELECT FROM sales_order WHERE owner_id = app_user.id LIMIT :most) AS few) AS n
    FROM app_user
    UNION ALL
    SELECT 'owner:none', (SELECT count(*) FROM (SELECT FROM sales_order WHERE owner_id IS NULL LIMIT :most) AS few)
    UNION ALL
    SELECT 'phase:' || one, (SELECT count(*) FROM (
        SELECT FROM sales_order WHERE sync_status = 'not_synchronised' AND phase = one LIMIT :most
    ) AS few)
    FROM unnest(ARRAY['validating', 'validated']) AS phases(one)
    UNION ALL
    SELECT 'phase:synchronising', (SELECT count(*) FROM (
        (SELECT FROM sales_order WHERE sync_status = 'not_synchronised' AND phase = 'confirmed' LIMIT :most)
        UNION ALL
        (SELECT FROM sales_order WHERE sync_status IN ('pending', 'review') AND phase = 'confirmed' LIMIT :most)
        LIMIT :most
    ) AS few)
    """
)


def count_choices(session: Session) -> dict[str, int]:
    """How many orders each choice of the filters has, up to one more than webapp.listing.counts.MOST.

    Not of the phase of those that Sage has: the counters by status hold it.
    """
    return read_counts(session, _COUNTS)


def find_order(session: Session, order_id: int, *, lock: bool = False) -> Order | None:
    """An order with its lines and their products, its company and its contact; with `lock`, nobody else changes it."""
    statement = (
        select(Order)
        .where(Order.id == order_id)
        .options(
            selectinload(Order.lines).joinedload(OrderLine.product),
            selectinload(Order.company),
            selectinload(Order.contact),
        )
    )
    return session.scalar(statement.with_for_update() if lock else statement)


def contact_names(session: Session, company_id: int) -> dict[int, str]:
    """The contacts of a company by id, in the order of their names."""
    found = session.execute(
        select(Contact.id, Contact.name).where(Contact.company_id == company_id).order_by(Contact.name_key, Contact.id)
    )
    return {row.id: row.name for row in found}


def sold_through(session: Session, company_ids: Collection[str]) -> int | None:
    """The connection whose products an order can name: that of the one company that a form names, else the first one.

    0, which no connection is, where there are several and no company says which.
    """
    found = session.scalar(select(Company.connection_id).where(Company.id.in_([int(one) for one in company_ids])))
    if found is not None:
        return found
    connections = list_connections(session)
    if len(connections) > 1 and not company_ids:
        return 0
    return connections[0].id if connections else None


def products_of(session: Session, lines: Sequence[TypedLine], connection_id: int | None) -> Sequence[Product]:
    """The products that lines of a form are about, or may be: by their ids, and by what was typed as a name or a code.

    Those that are named are products of this connection; those that a line has already may be another one's.
    """
    ids = {read_id(line["product_id"]) for line in lines} - {None}
    typed = {line["description"].strip() for line in lines} - {""}
    if not ids and not typed:
        return []
    named = [func.fold(text) for text in sorted(typed)]
    called = or_(Product.name_key.in_(named), Product.code_key.in_(named))
    on_sale = Product.discontinued.is_(False) & _sold_by(connection_id) & called
    return session.scalars(select(Product).where(or_(Product.id.in_(ids), on_sale)).order_by(Product.id)).all()


def search_products(session: Session, typed: str, connection_id: int | None) -> Sequence[Product]:
    """The first products on sale in a connection whose name or code has the words of `typed`, by name."""
    on_sale = select(Product).where(Product.discontinued.is_(False), _sold_by(connection_id))
    if words := tuple(one_line(typed).split()[:_MOST_WORDS]):
        texts = PRODUCTS.texts
        on_sale = on_sale.join(texts, texts.c.id == Product.id).where(*has_words(words, texts))
    return session.scalars(on_sale.order_by(Product.name_key, Product.id).limit(_MOST_PRODUCTS)).all()


def _sold_by(connection_id: int | None) -> ColumnElement[bool]:
    return Product.connection_id.is_not_distinct_from(connection_id)
