"""How a record's status changes: one function, so that no change is without its history row.

Each call is part of the caller's unit of work. The row's version is checked by the UPDATE itself (see Synced), so a
transition made on an older state than the database holds raises StaleDataError and nothing of it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, false, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB

from webapp.connection.models import CONNECTED, Connection
from webapp.db import UnitOfWork
from webapp.status import STATUS_OF, Reason, Status
from webapp.sync.models import Json, Synced, SyncEvent

# The cause of what is compared anew because all of Sage was read and it was not in step, though it was shown so.
DRIFT = "drift"
# What nobody waits for in particular.
_NOT_URGENT = ("sage", DRIFT)


def move(
    work: UnitOfWork,
    record: Synced,
    reason: Reason,
    detail: Json,
    *,
    cause: str,
    user_id: int | None = None,
    due: datetime | None = None,
) -> None:
    """Give `record` a new reason, and with it its status; write the history row; have browsers told after the commit.

    `detail` is {"code": str, ...parameters}, a sentence that webapp.sync.details can render. `due` is when a pending
    record is to be tried next (default: now) and is dropped for any other status. A move that would change nothing but
    the time of the next attempt writes no history row; what was taken from Sage is told each time.
    """
    status = STATUS_OF[reason]
    before = (record.sync_reason, record.sync_detail)
    record.sync_status = status
    record.sync_reason = reason
    record.sync_detail = detail
    # "Now" by the database's clock, which also says what is due: those of the machines may differ.
    record.next_attempt_at = (due or func.now()) if status is Status.PENDING else None
    if before != (reason, detail) or "taken" in detail:
        if record.id is None:
            work.session.flush()
        # Before the record is touched, so that both go to the database together.
        work.session.add(
            SyncEvent(
                kind=record.kind,
                record_id=record.id,
                from_reason=before[0],
                to_reason=reason,
                detail=detail,
                cause=cause,
                user_id=user_id,
            )
        )
    work.touch(record)


def queue(
    work: UnitOfWork, record: Synced, connection: Connection | None, *, cause: str, user_id: int | None = None
) -> None:
    """Have `record` compared with Sage and sent where it differs: at once, or as soon as `connection` works again.

    The count of attempts starts anew, because somebody asked. What people asked for goes first; what is queued because
    of Sage waits with the rest. Without a connection there is nowhere to send it to.
    """
    record.attempts = 0
    record.urgent = cause not in _NOT_URGENT
    if connection is not None:
        record.connection_id = connection.id
        work.pushes.add(connection.id)
    reason, detail = queued_as(connection)
    move(work, record, reason, detail, cause=cause, user_id=user_id)


def queued_as(connection: Connection | None) -> tuple[Reason, Json]:
    """The reason and the detail of a record that is to be sent through `connection`."""
    if connection is None:
        return Reason.NEVER_SENT, {"code": "never_sent"}
    if connection.state == CONNECTED:
        return Reason.QUEUED, {"code": "queued"}
    return Reason.WAITING_FOR_SAGE, waiting_for_sage(connection)


def waiting_for_sage(connection: Connection) -> Json:
    """The detail of a record that cannot be sent because `connection` does not work now."""
    return {
        "code": "waiting_for_sage",
        "state": connection.state,
        "since": connection.state_since.isoformat(),
        "every": connection.cycle_seconds,
    }


@dataclass(frozen=True)
class Moved:
    """A record that was moved without being loaded: enough to tell browsers that it changed."""

    kind: str
    module: str
    id: int
    connection_id: int | None

    @property
    def key(self) -> str:
        """Its name as a live thing."""
        return f"{self.kind}:{self.id}"


def move_all(
    work: UnitOfWork,
    model: type[Synced],
    where: ColumnElement[bool],
    reason: Reason,
    detail: Json,
    *,
    cause: str,
    due: datetime | None = None,
    user_id: int | None = None,
    connection: Connection | None = None,
    limit: int = 5_000,
) -> int:
    """`move` for many records in one statement: up to `limit` that fit `where`, lowest id first. Returns how many.

    The attempts of each start anew. All belong to `connection` then, if one is given. Records that another transaction
    holds are waited for, so that none is left out.
    """
    status = STATUS_OF[reason]
    chosen = (
        select(model.id, model.sync_reason.label("before"))
        .where(where)
        .order_by(model.id)
        .limit(limit)
        .with_for_update()
        .cte("chosen")
    )
    moved = (
        update(model)
        .where(model.id == chosen.c.id)
        .values(
            sync_status=status,
            sync_reason=reason,
            sync_detail=detail,
            sync_version=model.sync_version + 1,
            attempts=0,
            # Whoever resyncs everything waits for nothing in particular.
            urgent=false() if cause == "resync" else model.urgent,
            next_attempt_at=(due or func.now()) if status is Status.PENDING else None,
            connection_id=model.connection_id if connection is None else connection.id,
        )
        .returning(model.id, model.connection_id, chosen.c.before)
        .cte("moved")
    )
    noted = (
        insert(SyncEvent)
        .from_select(
            ["kind", "record_id", "from_reason", "to_reason", "detail", "cause", "user_id"],
            select(
                literal(model.kind),
                moved.c.id,
                moved.c.before,
                literal(str(reason)),
                literal(detail, JSONB),
                literal(cause),
                literal(user_id, BigInteger),
            ),
        )
        .cte("noted")
    )
    rows = work.session.execute(select(moved.c.id, moved.c.connection_id).add_cte(noted)).all()
    for record_id, connection_id in rows:
        thing = Moved(model.kind, model.module, record_id, connection_id)
        work.touched[thing.key] = thing
        if status is Status.PENDING and connection_id is not None:
            work.pushes.add(connection_id)
    return len(rows)
