"""Which status a record gets when it is saved or resynced: the rules of the business on what goes to Sage.

A prospect and all that belongs to it stay out. What belongs to a company waits until that company is in Sage; the
workers let it go on then. An order goes nowhere before somebody has it sent. A product belongs to no company.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.orders.amounts import price_problem
from webapp.orders.models import CONFIRMED, VALIDATED, Order
from webapp.products.models import Product
from webapp.status import Reason, Status
from webapp.sync.models import Conflict, Json, Synced, WriteIntent
from webapp.sync.transitions import move, move_all, queue, queued_as

# Records that are taken over by one statement.
_AT_ONCE = 5_000
# With these, Sage has a record no more, though it is still known which it was there.
GONE = (Reason.DELETED_IN_SAGE, Reason.UNLINKED)


def have_sent(
    work: UnitOfWork, record: Synced, connection: Connection | None, *, cause: str, user_id: int | None
) -> None:
    """Give a record the status that the rules say, and have it compared with Sage where they allow it.

    A company or a product goes through its own connection, and what belongs to a company through that one too.
    `connection` is for one that has none yet. An order must have its lines loaded.
    """
    owner = record if isinstance(record, Company | Product) else _company_of(work, record)
    if owner.connection_id is not None:
        connection = work.session.get_one(Connection, owner.connection_id)
    record.connection_id = connection.id if connection else None
    match record, owner:
        case Company(), _:
            reason, detail = company_standing(record.type, connection)
        case Order(), Company():
            reason, detail = order_standing(record, owner, connection)
        case _, Company():
            reason, detail = child_standing(owner, connection)
        case _:
            reason, detail = queued_as(connection)
    if (reason, detail) == queued_as(connection):
        queue(work, record, connection, cause=cause, user_id=user_id)
        return
    move(work, record, reason, detail, cause=cause, user_id=user_id)


def _company_of(work: UnitOfWork, record: Synced) -> Company:
    assert isinstance(record, Contact | Order)
    return work.session.get_one(Company, record.company_id)


def company_standing(type_: str, connection: Connection | None) -> tuple[Reason, Json]:
    """The reason and the detail of a company of this type."""
    return (Reason.EXCLUDED, {"code": "excluded"}) if type_ == PROSPECT else queued_as(connection)


def child_standing(company: Company, connection: Connection | None) -> tuple[Reason, Json]:
    """The reason and the detail of a contact or a confirmed order of `company`."""
    if company.type == PROSPECT:
        return Reason.EXCLUDED, {"code": "excluded_with_company"}
    if connection is None:
        return queued_as(None)
    if not is_in_sage(company):
        return Reason.WAITING_FOR_PARENT, waiting_for_parent(company)
    return queued_as(connection)


def order_standing(order: Order, company: Company, connection: Connection | None) -> tuple[Reason, Json]:
    """The reason and the detail of an order: nothing of it is sent before its prices are valid and somebody said so."""
    if order.phase == CONFIRMED:
        return child_standing(company, connection)
    problem = price_problem(order.lines)
    if problem is None:
        return Reason.NEVER_SENT, {"code": "validated"}
    return Reason.NEVER_SENT, {"code": problem.code, **({"line": problem.line} if problem.line else {})}


def is_in_sage(company: Company) -> bool:
    """Whether Sage has the company, so that what belongs to it can follow."""
    return company.sage_id is not None and company.sync_reason not in GONE


def has_company_in_sage() -> ColumnElement[bool]:
    """The same as a condition on Company, for statements."""
    return and_(Company.sage_id.is_not(None), *(Company.sync_reason != gone for gone in GONE))


def waiting_for_parent(company: Company) -> Json:
    """The detail of a record that cannot be sent before `company` is in Sage."""
    return {"code": "waiting_for_parent", "parent": company.key, "name": company.name}


def may_be_in_sage(session: Session, record: Synced) -> bool:
    """Whether Sage has a record, or may have got it by a create whose answer nobody has seen.

    Then it stays with its connection, and a contact with its company: elsewhere it would be made a second time. The row
    must be locked by whoever acts on the answer.
    """
    return record.sage_id is not None or may_have_been_made(session, record)


def may_have_been_made(session: Session, record: Synced) -> bool:
    """Whether a create of a record was begun of which nobody knows what became."""
    begun = exists().where(
        WriteIntent.kind == record.kind,
        WriteIntent.record_id == record.id,
        WriteIntent.operation == "create",
        WriteIntent.state.in_(["open", "unknown"]),
    )
    return bool(session.scalar(select(begun)))


def _is_lonely(model: type[Synced]) -> ColumnElement[bool]:
    """Whether a record belongs to no connection, and was not left to a person."""
    return model.connection_id.is_(None) & (model.sync_reason != Reason.REJECTED)


_KINDS: tuple[type[Company | Contact | Product | Order], ...] = (Company, Contact, Product, Order)
# Made once, because nearly always there is none, and making the statements that follow takes longer than asking this.
_ANYTHING_LONELY = select(or_(*(exists().where(_is_lonely(model)) for model in _KINDS)))


def adopt(work: UnitOfWork, connection: Connection) -> None:
    """Have what was saved before there was a connection belong to the first one and be sent; commits as often as needed.

    A company or a product whose code another one of the connection has by now is left to a person, and so is each order
    where sending it would book it: when it was confirmed, nobody knew that. Does nothing where all records belong to
    a connection.
    """
    if not work.session.scalar(_ANYTHING_LONELY):
        return
    reason, detail = queued_as(connection)
    for model in _KINDS:
        lonely = _is_lonely(model)
        if model in (Company, Product):
            _leave_doubled_codes(work, model, connection)
        sent = lonely & (model.sync_reason == Reason.NEVER_SENT) & (model.sync_detail["code"].astext == "never_sent")
        if model is Order and connection.books_orders:
            while have_confirmed_again(work, lonely, connection, cause="connection"):
                work.commit()
        while move_all(work, model, sent, reason, detail, cause="connection", connection=connection):
            work.commit()
        others = select(model.id).where(lonely).order_by(model.id).limit(_AT_ONCE).with_for_update()
        taken = {"connection_id": connection.id, "sync_version": model.sync_version + 1}
        while work.session.execute(update(model).where(model.id.in_(others)).values(taken).returning(model.id)).first():
            work.commit()


def have_confirmed_again(work: UnitOfWork, orders: ColumnElement[bool], connection: Connection, *, cause: str) -> int:
    """Have the next batch of these orders, which are in no Sage, go back to where somebody has each sent.

    They belong to `connection` then. Returns how many there were.
    """
    confirmed = orders & (Order.phase == CONFIRMED)
    some = select(Order.id).where(confirmed).order_by(Order.id).limit(_AT_ONCE).with_for_update()
    back = update(Order).where(Order.id.in_(some)).values(phase=VALIDATED).returning(Order.id)
    ids = work.session.scalars(back, execution_options={"synchronize_session": False}).all()
    detail = {"code": "validated"}
    these = Order.id.in_(ids)
    move_all(work, Order, these, Reason.NEVER_SENT, detail, cause=cause, connection=connection, limit=_AT_ONCE)
    return len(ids)


def _leave_doubled_codes(work: UnitOfWork, model: type[Any], connection: Connection) -> None:
    """`model` is Company or Product."""
    mine = aliased(model)
    has_it = exists().where(mine.connection_id == connection.id, mine.code == model.code)
    doubled = select(model).where(
        model.connection_id.is_(None), model.code != "", model.sync_reason != Reason.REJECTED, has_it
    )
    for record in work.session.scalars(doubled.with_for_update(of=model)).all():
        detail = {"code": "code_doubled", "field": "code", "value": record.code}
        move(work, record, Reason.REJECTED, detail, cause="connection")
    work.commit()


def connection_changed(work: UnitOfWork, company: Company, *, user_id: int | None) -> None:
    """Have what belongs to a company follow it to its new connection.

    A company that may move is in no Sage, and neither is what belongs to it: what it was linked to went with the
    customer. So it begins anew, and what was doubtful about it there is no more. Whoever has a record of it in hand
    finds its claim gone and writes nothing.
    """
    connection = work.session.get(Connection, company.connection_id) if company.connection_id else None
    nowhere = dict.fromkeys(("sage_id", "sage_number", "sage_page", "sage_updated_at", "agreed"))
    for model in (Contact, Order):
        belongs = model.company_id == company.id
        ids = select(model.id).where(belongs)
        of_it = (WriteIntent.kind == model.kind) & WriteIntent.record_id.in_(ids)
        work.session.execute(
            update(WriteIntent).where(of_it, WriteIntent.state.in_(["open", "unknown"])).values(state="refused")
        )
        in_doubt = (Conflict.kind == model.kind) & Conflict.record_id.in_(ids)
        work.session.execute(
            update(Conflict)
            .where(in_doubt, Conflict.resolved_at.is_(None))
            .values(resolved_at=func.now(), taken="ours")
        )
        work.session.execute(
            update(model)
            .where(belongs)
            .values(
                connection_id=company.connection_id,
                claim=None,
                claimed_until=None,
                sync_version=model.sync_version + 1,
                **nowhere,
            )
        )
        if model is Order and connection is not None and connection.books_orders:
            # What was confirmed was meant for another company's books, or for none.
            while have_confirmed_again(work, belongs, connection, cause="edit"):
                pass
        begun = model.sync_status.in_([Status.SYNCHRONISED, Status.PENDING, Status.REVIEW])
        detail = waiting_for_parent(company)
        while move_all(
            work,
            model,
            belongs & begun & (model.sync_reason != Reason.WAITING_FOR_PARENT),
            Reason.WAITING_FOR_PARENT,
            detail,
            cause="edit",
            user_id=user_id,
        ):
            pass


def type_changed(work: UnitOfWork, company: Company, *, user_id: int | None) -> None:
    """Have what belongs to a company follow its new type: out of Sage with a prospect, and back with a customer."""
    children: tuple[tuple[type[Synced], ColumnElement[bool]], ...] = (
        (Contact, Contact.company_id == company.id),
        (Order, (Order.company_id == company.id) & (Order.phase == CONFIRMED)),
    )
    for model, belongs in children:
        if company.type == PROSPECT:
            before, reason, detail = Reason.WAITING_FOR_PARENT, Reason.EXCLUDED, {"code": "excluded_with_company"}
        else:
            before, reason, detail = Reason.EXCLUDED, Reason.WAITING_FOR_PARENT, waiting_for_parent(company)
        move_all(work, model, belongs & (model.sync_reason == before), reason, detail, cause="edit", user_id=user_id)
