"""What of a connection is due, and which contacts and orders wait for their company.

What is due is told by the clock of the database alone. What people asked for goes first, so that an edit does not wait
behind a resync of everything; then oldest first, of whatever kind. A record that waits for its company is never
due; it is let go when Sage has the company.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Interval,
    Select,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import CONNECTED, Connection
from webapp.db import Database, Prepared, UnitOfWork
from webapp.status import Reason, Status
from webapp.sync.models import SyncCursor
from webapp.sync.sending import has_company_in_sage, waiting_for_parent
from webapp.sync.transitions import move_all, queued_as
from workers.engine.kinds import CHILDREN, KINDS, Kind, kind_named

# What the statements below are given. They are made once, because making one takes longer than running it.
_CONNECTION = bindparam("connection", type_=BigInteger)
_OVERDUE = bindparam("overdue", timedelta(0), type_=Interval)
# Written out, because a plan that is made for any value cannot use the indexes of these values alone.
_PENDING = literal_column(f"'{Status.PENDING}'", Text)
_WAITING = literal_column(f"'{Reason.WAITING_FOR_PARENT}'", Text)


def is_due(kind: Kind) -> list[ColumnElement[bool]]:
    """Conditions on a record that is due, and that nobody has in hand. They are given `connection` and `overdue`.

    None is due while the connection does not work: a pause stops a drain at the next record. And none of a kind before
    that kind was read from Sage once: until then nobody knows which of ours Sage has already.
    """
    model = kind.model
    state = select(Connection.state).where(Connection.id == _CONNECTION).scalar_subquery()
    was_read = exists().where(SyncCursor.connection_id == _CONNECTION, SyncCursor.entity == kind.cursor)
    return [
        state == CONNECTED,
        was_read,
        model.connection_id == _CONNECTION,
        model.sync_status == _PENDING,
        model.sync_reason != _WAITING,
        model.next_attempt_at <= func.now() - _OVERDUE,
        or_(model.claimed_until.is_(None), model.claimed_until < func.now()),
    ]


def _waits_in_vain(kind: Kind, connection_id: int | BindParameter[int]) -> list[ColumnElement[bool]]:
    """Conditions on a contact or an order that waits for a company which Sage has.

    Or for a prospect: that the drain finds when it looks at the record.
    """
    assert kind.company_id is not None
    model = kind.model
    there = select(Company.id).where(or_(has_company_in_sage(), Company.type == PROSPECT))
    return [
        model.connection_id == connection_id,
        model.sync_reason == _WAITING,
        kind.company_id.in_(there),
    ]


def has_its_company(kind: Kind) -> ColumnElement[bool]:
    """Whether a record can be in Sage because its company is: always for a company itself."""
    if kind.company_id is None:
        return true()
    is_there = has_company_in_sage() & (Company.type != PROSPECT)
    return exists().where(Company.id == kind.company_id, is_there).correlate(kind.model)


@dataclass(frozen=True)
class First:
    """The record that is next, whether it `can_go` by its company, and the fields of its kind on which one side has the
    word (webapp.connection.directions)."""

    kind: Kind
    id: int
    can_go: bool
    directions: Mapping[str, str]


def _anything() -> Select[bool]:
    connected = exists().where(Connection.id == _CONNECTION, Connection.state == CONNECTED)
    found = [exists().where(*is_due(kind)) for kind in KINDS]
    found += [exists().where(connected, *_waits_in_vain(kind, _CONNECTION)) for kind in CHILDREN]
    return select(or_(*found))


def _first(*, only_urgent: bool) -> Select[str, int, bool, dict[str, dict[str, str]]]:
    def first_of(kind: Kind) -> Select[str, int, bool, datetime | None, bool]:
        model = kind.model
        due = (
            select(model.id, model.urgent, model.next_attempt_at, has_its_company(kind).label("can_go"))
            .where(*is_due(kind), *([model.urgent] if only_urgent else []))
            .order_by(model.urgent.desc(), model.next_attempt_at, model.id)
            .limit(1)
            .cte(f"due_{kind.name}")
        )
        return select(literal(kind.name).label("kind"), due.c.id, due.c.urgent, due.c.next_attempt_at, due.c.can_go)

    directions = select(Connection.directions).where(Connection.id == _CONNECTION).scalar_subquery()
    found = union_all(*(first_of(kind) for kind in KINDS)).subquery()
    return (
        select(found.c.kind, found.c.id, found.c.can_go, directions.label("directions"))
        .order_by(found.c.urgent.desc(), found.c.next_attempt_at, found.c.id)
        .limit(1)
    )


_ANYTHING = _anything()
_ANYTHING_IN_VAIN = select(or_(*(exists().where(*_waits_in_vain(kind, _CONNECTION)) for kind in CHILDREN)))
_FIRST = {only_urgent: Prepared(_first(only_urgent=only_urgent)) for only_urgent in (False, True)}


def is_anything_due(session: Session, connection_id: int, overdue: timedelta = timedelta(0)) -> bool:
    """Whether a drain has something to do: a record is due, for `overdue` at least, or one can be let go."""
    return bool(session.scalar(_ANYTHING, {"connection": connection_id, "overdue": overdue}))


def first_due(database: Database, connection_id: int, *, only_urgent: bool = False) -> First | None:
    """The next record that is due and in nobody's hand; None where there is none.

    With `only_urgent`, only what a person asked for comes into question. It is not locked: whoever takes it in hand asks
    in the same statement whether it is due still.
    """
    row = database.read_one(_FIRST[only_urgent], {"connection": connection_id})
    if row is None:
        return None
    return First(kind_named(row.kind), row.id, row.can_go, row.directions.get(row.kind, {}))


def let_children_go(work: UnitOfWork, connection_id: int) -> None:
    """Queue the contacts and orders whose company has reached Sage, and commit."""
    if not work.session.scalar(_ANYTHING_IN_VAIN, {"connection": connection_id}):
        return
    connection = work.session.get_one(Connection, connection_id)
    reason, detail = queued_as(connection)
    for kind in CHILDREN:
        where = and_(*_waits_in_vain(kind, connection_id))
        while move_all(work, kind.model, where, reason, detail, cause="worker"):
            work.commit()


def hold_children(work: UnitOfWork, company: Company, cause: str) -> None:
    """Have the contacts and orders of a company that Sage no longer has wait for it: nobody knows what is left of them.

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
