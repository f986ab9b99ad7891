"""The kinds of records that are kept in step with Sage, by the names that keys and addresses have."""

from __future__ import annotations

from sqlalchemy.orm import Session, selectinload

from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.orders.models import Order
from webapp.products.models import Product
from webapp.sync.models import Synced

# Parents first: a contact and an order can reach Sage only after their company.
SYNCED: tuple[type[Synced], ...] = (Company, Contact, Product, Order)
OF_KIND: dict[str, type[Synced]] = {model.kind: model for model in SYNCED}
OF_MODULE: dict[str, type[Synced]] = {model.module: model for model in SYNCED}


def find_record(session: Session, key: str, *, lock: bool = False) -> Synced | None:
    """The record of a key such as `company:42`; None where the key names none.

    With `lock`, nobody else changes it. An order comes with its lines.
    """
    kind, _, number = key.partition(":")
    model = OF_KIND.get(kind)
    # Eighteen digits always fit a bigint.
    if model is None or not (number.isascii() and number.isdigit() and len(number) <= 18):
        return None
    options = [selectinload(Order.lines)] if model is Order else []
    return session.get(model, int(number), options=options, with_for_update=lock or None)
