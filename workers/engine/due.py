"""What of a connection is due, and which contacts and orders wait for their company.

What is due is told by the clock of the database alone. What people asked for goes first, so that an edit does not wait
behind a resync of everything; then oldest first, of whatever kind. A record that waits for its company is never
due; it is let go when Sage has the company.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, or_, select, union_all
from sqlalchemy.orm import Session

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import CONNECTED, Connection
from webapp.db import UnitOfWork
from webapp.status import Reason, Status
from webapp.sync.models import SyncCursor
from webapp.sync.sending import has_company_in_sage, waiting_for_parent
from webapp.sync.transitions import move_all, queued_as
from workers.engine.kinds import CHILDREN, KINDS, Kind, kind_named


def _is_due(kind: Kind, connection_id: int, overdue: timedelta) -> list[ColumnElement[bool]]:
    """None is due while the connection does not work (a pause stops a drain at the next record), and none of a kind
    before that kind was read from Sage once: until then nobody knows which of ours Sage has already."""
    model = kind.model
    state = select(Connection.state).where(Connection.id == connection_id).scalar_subquery()
    was_read = exists().where(SyncCursor.connection_id == connection_id, SyncCursor.entity == kind.cursor)
    return [
        state == CONNECTED,
        was_read,
        model.connection_id == connection_id,
        model.sync_status == Status.PENDING,
        model.sync_reason != Reason.WAITING_FOR_PARENT,
        model.next_attempt_at <= func.now() - overdue,
        or_(model.claimed_until.is_(None), model.claimed_until < func.now()),
    ]


def _waits_in_vain(kind: Kind, connection_id: int) -> list[ColumnElement[bool]]:
    """Conditions on a contact or an order that waits for a company which Sage has.

    Or for a prospect: that the drain finds when it looks at the record. What came out of Sage with a prospect and is to
    go back with it may belong to no connection yet.
    """
    assert kind.company_id is not None
    model = kind.model
    there = select(Company.id).where(or_(has_company_in_sage(), Company.type == PROSPECT))
    return [
        or_(model.connection_id == connection_id, model.connection_id.is_(None)),
        model.sync_status == Status.PENDING,
        model.sync_reason == Reason.WAITING_FOR_PARENT,
        kind.company_id.in_(there),
    ]


def is_anything_due(session: Session, connection_id: int, overdue: timedelta = timedelta(0)) -> bool:
    """Whether a drain has something to do: a record is due, for `overdue` at least, or one can be let go."""
    connected = exists().where(Connection.id == connection_id, Connection.state == CONNECTED)
    found = [exists().where(*_is_due(kind, connection_id, overdue)) for kind in KINDS]
    found += [exists().where(connected, *_waits_in_vain(kind, connection_id)) for kind in CHILDREN]
    return bool(session.scalar(select(or_(*found))))


def take_first(session: Session, connection_id: int) -> tuple[Kind, int, int] | None:
    """Lock the next record that is due and that nobody else holds: its kind, its id, and a number for its claim."""

    def first(kind: Kind) -> Select[tuple[str, int, bool, object]]:
        model = kind.model
        due = (
            select(model.id, model.urgent, model.next_attempt_at)
            .where(*_is_due(kind, connection_id, timedelta(0)))
            .order_by(model.urgent.desc(), model.next_attempt_at, model.id)
            .limit(1)
            .with_for_update(of=model, skip_locked=True)
            .cte(f"due_{kind.name}")
        )
        return select(literal(kind.name).label("kind"), due.c.id, due.c.urgent, due.c.next_attempt_at)

    found = union_all(*(first(kind) for kind in KINDS)).subquery()
    row = session.execute(
        select(found.c.kind, found.c.id, func.nextval("claim_number"))
        .order_by(found.c.urgent.desc(), found.c.next_attempt_at, found.c.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else (kind_named(row[0]), row[1], row[2])


def let_children_go(work: UnitOfWork, connection_id: int) -> None:
    """Queue the contacts and orders whose company has reached Sage, and commit."""
    connection = work.session.get_one(Connection, connection_id)
    reason, detail = queued_as(connection)
    for kind in CHILDREN:
        where = and_(*_waits_in_vain(kind, connection_id))
        while move_all(work, kind.model, where, reason, detail, cause="worker", connection=connection):
            work.commit()


def hold_children(work: UnitOfWork, company: Company, cause: str) -> None:
    """Have the contacts and orders of a company that Sage no longer has wait for it: nothing of them is there now.

    What waits for another decision of a person keeps waiting for that.
    """
    detail = waiting_for_parent(company)
    for kind in CHILDREN:
        assert kind.company_id is not None
        model = kind.model
        where = (
            (kind.company_id == company.id)
            & (model.sync_status.in_([Status.SYNCHRONISED, Status.PENDING]) | (model.sync_reason == Reason.REJECTED))
            & (model.sync_reason != Reason.WAITING_FOR_PARENT)
        )
        while move_all(work, model, where, Reason.WAITING_FOR_PARENT, detail, cause=cause):
            pass
