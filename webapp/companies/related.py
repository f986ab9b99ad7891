"""The contacts and the orders of a company, as the company's page lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.modules import CONTACTS, ORDERS, Module
from webapp.numbers import amount_text
from webapp.orders.models import Order
from webapp.screens import live_row
from webapp.sync.details import day
from webapp.zone import Glance

# More stand in the module's own list.
_FIRST = 10


@dataclass(frozen=True)
class Related:
    """The first records of a module that belong to a company, with their texts, and how many there are in all.

    Each row is what webapp.screens.live_row gives, with `name` and, by their names in the live state, its `facts`.
    """

    module: Module
    rows: list[dict[str, Any]]
    total: int


def related_to(session: Session, company: Company, reader: Glance) -> tuple[Related, Related]:
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
        return Related(module, rows, total)

    return (
        read(CONTACTS, Contact, (Contact.name_key.asc(), Contact.id.asc()), lambda one: (one.name, {"role": one.role})),
        read(
            ORDERS,
            Order,
            (Order.ordered_on.desc(), Order.id.desc()),
            lambda one: (one.number, {"ordered_on": day(one.ordered_on), "total": amount_text(one.total)}),
        ),
    )
