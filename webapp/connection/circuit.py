"""When the connection to Sage breaks and heals: a fault that is shown once, on the connection, never red on records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, Connection
from webapp.db import UnitOfWork
from webapp.status import Reason, Status
from webapp.sync.models import Synced
from webapp.sync.records import SYNCED
from webapp.sync.transitions import move_all, waiting_for_sage

# A person ends a pause, and a person's consent begins a connection anew.
_UNTIL_A_PERSON_ENDS_IT = (CONNECTING, PAUSED)


def note_state(work: UnitOfWork, connection: Connection, state: str) -> None:
    """`change_state` to how a worker has found a connection; one that an admin has paused or ended meanwhile stays so."""
    change_state(work, connection, connection.state if connection.state in _UNTIL_A_PERSON_ENDS_IT else state)


def change_state(work: UnitOfWork, connection: Connection, state: str) -> None:
    """Give `connection` a state, and commit; have what waits say so, or go on, and commit as many times as that needs.

    Where the state is the same, it brings along what was saved while the state changed, or what a crash left behind.
    """
    if connection.state != state:
        connection.state = state
        connection.state_since = datetime.now(UTC)
        work.touch(connection)
    work.commit()
    for model in SYNCED:
        while _follow(work, connection, model):
            work.commit()


def _follow(work: UnitOfWork, connection: Connection, model: type[Synced]) -> int:
    """Move the next batch of pending records of `model` to where the state of `connection` puts them."""
    pending = (model.connection_id == connection.id) & (model.sync_status == Status.PENDING)
    if connection.state == CONNECTED:
        return move_all(
            work,
            model,
            pending & (model.sync_reason == Reason.WAITING_FOR_SAGE),
            Reason.QUEUED,
            {"code": "queued"},
            cause="connection",
        )
    detail = waiting_for_sage(connection)
    return move_all(
        work,
        model,
        pending
        & model.sync_reason.in_([Reason.QUEUED, Reason.RUNNING, Reason.RETRYING, Reason.WAITING_FOR_SAGE])
        & (model.sync_detail != detail),
        Reason.WAITING_FOR_SAGE,
        detail,
        cause="connection",
        due=datetime.now(UTC) + timedelta(seconds=connection.cycle_seconds),
    )
