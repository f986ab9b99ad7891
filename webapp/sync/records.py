"""The kinds of records that are kept in step with Sage, by the names that keys and addresses have."""

from __future__ import annotations

from sqlalchemy.orm import Session, selectinload

from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.orders.models import Order
from webapp.products.models import Product
from webapp.sync.models import Synced
from webapp.text import read_id

# Parents first: a contact and an order can reach Sage only after their company.
SYNCED: tuple[type[Synced], ...] = (Company, Contact, Product, Order)
OF_KIND: dict[str, type[Synced]] = {model.kind: model for model in SYNCED}
OF_MODULE: dict[str, type[Synced]] = {model.module: model for model in SYNCED}


def find_record(session: Session, key: str, *, lock: bool = False) -> Synced | None:
    """The record of a key such as `company:42`; None where the key names none.

    With `lock`, nobody else changes it. An order comes with its lines.
    """
    kind, _, number = key.partition(":")
    model, record_id = OF_KIND.get(kind), read_id(number)
    if model is None or record_id is None:
        return None
    options = [selectinload(Order.lines)] if model is Order else []
    return session.get(model, record_id, options=options, with_for_update=lock or None)
