"""The records that belong to a record, as its page lists them: a company's contacts and orders, and a product's orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.companies.queries import named_companies
from webapp.contacts.models import Contact
from webapp.languages import number
from webapp.listing.counts import MOST, count_text
from webapp.modules import CONTACTS, ORDERS, Module
from webapp.numbers import amount_text
from webapp.orders.forms import OrderQuery
from webapp.orders.models import Order
from webapp.orders.queries import count_naming, list_orders
from webapp.products.models import Product
from webapp.screens import live_row
from webapp.sync.details import day
from webapp.zone import Reader

# More stand in the module's own list.
_FIRST = 10


@dataclass(frozen=True)
class Related:
    """The first records of a module that belong to a record, with their texts, and how many there are in all.

    Each row is what webapp.screens.live_row gives, with `name` and, by their names in the live state, its `facts`. `by`
    is the filter of the module's list that shows all of them, and `can_begin` whether a new one can begin with it.
    """

    module: Module
    by: str
    rows: list[dict[str, Any]]
    total: str
    has_more: bool
    can_begin: bool = True


def of_company(session: Session, company: Company, reader: Reader) -> tuple[Related, Related]:
    """The contacts of a company by name, and its orders, the newest first."""

    def read(
        module: Module,
        model: type[Contact] | type[Order],
        order: tuple[ColumnElement[Any], ...],
        told: Callable[[Any], tuple[str, dict[str, str]]],
    ) -> Related:
        mine = select(model).where(model.company_id == company.id)
        records: Sequence[Any] = session.scalars(mine.order_by(*order).limit(_FIRST)).all()
        total = len(records)
        if total == _FIRST:
            total = session.scalar(select(func.count()).where(model.company_id == company.id)) or 0
        rows = []
        for record in records:
            name, facts = told(record)
            rows.append(live_row(module, record, reader) | {"name": name, "facts": facts})
        return Related(module, "company", rows, number(total), total > len(rows))

    return (
        read(CONTACTS, Contact, (Contact.name_key.asc(), Contact.id.asc()), lambda one: (one.name, {"role": one.role})),
        read(
            ORDERS,
            Order,
            (Order.ordered_on.desc(), Order.id.desc()),
            lambda one: (one.number, {"ordered_on": day(one.ordered_on), "total": amount_text(one.total)}),
        ),
    )


def of_product(session: Session, product: Product, reader: Reader) -> Related:
    """The orders that name a product in a line, the newest first.

    They are read as the list reads them, which is quick for a product that nearly all name and for one that few do.
    """
    orders = list_orders(session, OrderQuery(product=(str(product.id),))).rows[:_FIRST]
    companies = named_companies(session, {one.company_id for one in orders})
    rows = [
        live_row(ORDERS, one, reader)
        | {
            "name": one.number,
            "facts": {"company_name": companies[one.company_id].name, "ordered_on": day(one.ordered_on)},
        }
        for one in orders
    ]
    total = len(rows) if len(rows) < _FIRST else count_naming(session, product.id, MOST + 1)
    return Related(ORDERS, "product", rows, count_text(total), total > len(rows), can_begin=False)
