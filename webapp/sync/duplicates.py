"""Records that may be the same: which they are, and what a person who knows decides."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.orders.models import Order, OrderLine
from webapp.products.models import Product
from webapp.status import Reason, Status
from webapp.sync.conflicts import keep_lost
from webapp.sync.models import Synced
from webapp.sync.sending import have_sent
from webapp.sync.transitions import queue

# What people tell two records of a kind apart by.
COMPARED: dict[type[Synced], tuple[str, ...]] = {
    Company: ("name", "code", "tax_number", "email", "phone", "address_line_1", "postal_code", "city", "country"),
    Contact: ("name", "role", "email", "phone", "mobile"),
    Product: ("code", "name", "unit_price", "discontinued", "unit"),
    Order: ("number", "ordered_on", "valid_until", "shipping"),
}


def candidates(session: Session, record: Synced) -> Sequence[Synced]:
    """The records that `record` may be the same as, oldest first; none where it is in no doubt."""
    if record.sync_reason != Reason.POSSIBLE_DUPLICATE:
        return ()
    model = type(record)
    wanted = select(model).where(model.id.in_(record.sync_detail["ids"]), model.id != record.id).order_by(model.id)
    return session.scalars(wanted).all()


def in_doubt_about(session: Session, record: Synced) -> Sequence[Synced]:
    """The records that were left to a person because they may be the same as `record`, oldest first."""
    model = type(record)
    doubtful = (model.sync_status == Status.REVIEW) & (model.sync_reason == Reason.POSSIBLE_DUPLICATE)
    names_it = model.sync_detail["ids"].contains([record.id])
    return session.scalars(select(model).where(doubtful, names_it).order_by(model.id)).all()


def can_be_one(record: Synced, other: Synced) -> bool:
    """Whether two records can become one: exactly one of them is in Sage already, and both belong to the same Sage.

    Where the other one may have been made there, too (`may_have_been_made`), they cannot yet: Sage would have two.
    """
    return record.connection_id == other.connection_id and (record.sage_id is None) != (other.sage_id is None)


def make_one(work: UnitOfWork, record: Synced, other: Synced, connection: Connection | None, user_id: int) -> Synced:
    """Have two records be one. Returns the one that stays: ours, with all that people know of it.

    It is linked to what the other one is in Sage and compared with that: where both have a value and they differ, a
    person is asked. What was edited here of the one that goes can be taken back. The contacts, the orders or the lines of
    the other one go over to it, and whoever was in the same doubt is out of it. Both rows must be locked, and `can_be_one`.
    """
    stays, goes = (record, other) if record.sage_id is None else (other, record)
    assert goes.sage_id is not None
    if isinstance(stays, Company):
        for child in (Contact, Order):
            work.session.execute(
                update(child)
                .where(child.company_id == goes.id)
                .values(company_id=stays.id, sync_version=child.sync_version + 1)
            )
    if isinstance(stays, Product):
        # Pages of its orders show the product of a line, so that they are told.
        orders = update(Order).where(Order.id.in_(select(OrderLine.order_id).where(OrderLine.product_id == goes.id)))
        work.session.execute(orders.values(sync_version=Order.sync_version + 1))
        lines = update(OrderLine).where(OrderLine.product_id == goes.id)
        work.session.execute(lines.values(product_id=stays.id))
    for name, agreed in (goes.agreed or {}).items():
        edited, kept = goes.shared(name), stays.shared(name)
        if edited not in (agreed, kept):
            keep_lost(work, stays, name, base=agreed, ours=edited, theirs=kept, user_id=user_id)
    others = [one for one in candidates(work.session, goes) if one.id != stays.id]
    sage_id, number, updated_at, page = goes.sage_id, goes.sage_number, goes.sage_updated_at, goes.sage_page
    work.session.delete(goes)
    # The other row must be gone before: no two records have the same counterpart in Sage.
    work.session.flush()
    stays.sage_id, stays.sage_number, stays.sage_updated_at, stays.agreed = sage_id, number, updated_at, None
    stays.sage_page = page
    queue(work, stays, connection, cause="choice", user_id=user_id)
    for one in others:
        if one.sync_reason == Reason.POSSIBLE_DUPLICATE and goes.id in one.sync_detail["ids"]:
            have_sent(work, one, connection, cause="choice", user_id=user_id)
    return stays
