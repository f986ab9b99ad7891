"""Reading connections."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, Text, func, literal, literal_column, or_, select, union_all
from sqlalchemy.orm import Session, aliased

from webapp.connection.models import Connection
from webapp.modules import MODULES
from webapp.status import Status
from webapp.sync.models import READ_WHOLE, StatusCount, SyncCursor, SyncEvent, SyncRun
from webapp.sync.records import SYNCED
from webapp.sync.transitions import DRIFT
from webapp.users.models import AuditEvent, User

# As many readings as the page of a connection shows, out of as many as there are in a day with a cycle of a minute.
_RUNS, _LOOKED_THROUGH = 10, 1_500


def list_connections(session: Session) -> Sequence[Connection]:
    """All connections, the oldest first."""
    return session.scalars(select(Connection).order_by(Connection.id)).all()


def main_connection(session: Session) -> Connection | None:
    """The connection that a company belongs to for which none was chosen: the first one; None while there is none."""
    return session.scalar(select(Connection).order_by(Connection.id).limit(1))


def hold_what_orders_become(session: Session) -> None:
    """Have no admin choose what orders become in Sage until this transaction ends.

    An order that is confirmed at that very moment would be booked otherwise, though nobody was told so. Whoever locks
    orders, too, does so after this, as the choice does.
    """
    session.execute(select(Connection.id).where(Connection.business_id.is_(None)).with_for_update(read=True))


def counts_of(session: Session, connection: Connection) -> dict[str, dict[Status, int]]:
    """How many records of a connection have each status, by module; a module without records is left out."""
    counted: dict[str, dict[Status, int]] = {}
    found = session.execute(
        select(StatusCount.module, StatusCount.status, func.sum(StatusCount.n))
        .where(StatusCount.connection_id == connection.id)
        .group_by(StatusCount.module, StatusCount.status)
    )
    for module, status, number in found:
        if number:
            counted.setdefault(module, dict.fromkeys(Status, 0))[Status(status)] = int(number)
    return counted


def compared_at(session: Session, connection: Connection) -> datetime | None:
    """When all records of a connection had last been compared with all of Sage; None while some never were."""
    found = select(func.min(SyncCursor.watermark), func.count()).where(
        SyncCursor.connection_id == connection.id, SyncCursor.entity.endswith(READ_WHOLE)
    )
    moment, kinds = session.execute(found).one()
    return moment if kinds == len(MODULES) else None


def last_audit_events(session: Session, connection: Connection) -> Sequence[Row[AuditEvent, str | None]]:
    """What admins did to a connection lately, newest first, each with the name of who did it."""
    return session.execute(
        select(AuditEvent, User.name)
        .outerjoin(User, User.id == AuditEvent.user_id)
        .where(AuditEvent.subject == connection.key)
        .order_by(AuditEvent.id.desc())
        .limit(_RUNS)
    ).all()


def last_runs(session: Session, connection: Connection) -> Sequence[SyncRun]:
    """The last readings from Sage of which there is something to tell, newest first.

    Those are the ones that changed something here, failed, go on, or that somebody asked for.
    """
    lately = select(SyncRun).where(SyncRun.connection_id == connection.id).order_by(SyncRun.id.desc())
    run = aliased(SyncRun, lately.limit(_LOOKED_THROUGH).subquery())
    tells = or_(
        run.created + run.changed + run.failed + run.drifted > 0,
        run.error.is_not(None),
        run.finished_at.is_(None),
        run.user_id.is_not(None),
    )
    return session.scalars(select(run).where(tells).order_by(run.id.desc()).limit(_RUNS)).all()


# Written out, because a plan that is made for any cause cannot use the index of this one alone.
_DRIFT = literal_column(f"'{DRIFT}'", Text)


def drift_of(session: Session, run: SyncRun) -> Sequence[tuple[str, Status, int]]:
    """What became of the records that a reading found out of step: the name of a module, a status, and how many of its
    records have that by now."""
    until = func.coalesce(run.finished_at, func.clock_timestamp())
    counted = [
        select(literal(model.module), model.sync_status, func.count(model.id.distinct()))
        .join_from(SyncEvent, model, model.id == SyncEvent.record_id)
        .where(
            SyncEvent.cause == _DRIFT,
            SyncEvent.kind == model.kind,
            SyncEvent.at.between(run.started_at, until),
            model.connection_id == run.connection_id,
        )
        .group_by(model.sync_status)
        for model in SYNCED
    ]
    return [(module, Status(status), n) for module, status, n in session.execute(union_all(*counted))]
