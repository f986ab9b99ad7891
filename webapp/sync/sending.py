"""Which status a record gets when it is saved or resynced: the rules of the business on what goes to Sage.

A prospect and all that belongs to it stay out. What belongs to a company waits until that company is in Sage; the
workers let it go on then. An order goes nowhere before somebody has it sent.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.orders.amounts import price_problem
from webapp.orders.models import CONFIRMED, Order
from webapp.status import Reason
from webapp.sync.models import Json, Synced
from webapp.sync.transitions import move, move_all, queue, queued_as

# What a company's people wait with when it has lost its customer in Sage.
_GONE = (Reason.DELETED_IN_SAGE, Reason.UNLINKED)


def have_sent(
    work: UnitOfWork, record: Synced, connection: Connection | None, *, cause: str, user_id: int | None
) -> None:
    """Give a record the status that the rules say, and have it compared with Sage where they allow it.

    An order must have its lines loaded.
    """
    match record:
        case Company():
            reason, detail = company_standing(record.type, connection)
        case Contact():
            company = work.session.get_one(Company, record.company_id)
            reason, detail = child_standing(company, connection)
        case Order():
            company = work.session.get_one(Company, record.company_id)
            reason, detail = order_standing(record, company, connection)
        case _:
            raise AssertionError(record)
    if (reason, detail) == queued_as(connection):
        queue(work, record, connection, cause=cause, user_id=user_id)
        return
    if reason is Reason.WAITING_FOR_PARENT and connection is not None:
        record.connection_id = connection.id
    move(work, record, reason, detail, cause=cause, user_id=user_id)


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
    return company.sage_id is not None and company.sync_reason not in _GONE


def has_company_in_sage() -> ColumnElement[bool]:
    """The same as a condition on Company, for statements."""
    return Company.sage_id.is_not(None) & Company.sync_reason.not_in(_GONE)


def waiting_for_parent(company: Company) -> Json:
    """The detail of a record that cannot be sent before `company` is in Sage."""
    return {"code": "waiting_for_parent", "parent": company.key, "name": company.name}


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
