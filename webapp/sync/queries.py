"""What is read about synchronisation for the pages: the counters, the connection, the history of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.connection.models import Connection
from webapp.live.protocol import shown
from webapp.live.states import read_states
from webapp.sync.models import Synced, SyncEvent
from webapp.users.models import User
from webapp.zone import Glance


@dataclass(frozen=True)
class Surroundings:
    """What each page about synchronised records shows around them, in the very form that live messages bring it.

    `module` has the counters. `connection` is None while Sage was never connected.
    """

    module: dict[str, Any]
    connection: dict[str, Any] | None


def read_surroundings(session: Session, module: str, reader: Glance) -> Surroundings:
    """The counters of `module` and the state of the connection, in the words for this reader."""
    connection = session.scalar(select(func.min(Connection.id)))
    keys = [f"module:{module}", f"connection:{connection or 0}"]
    states = {key: shown(state, reader.zone, reader.now) for key, state in read_states(session, keys).items()}
    return Surroundings(states[keys[0]], states.get(keys[1]))


def history(session: Session, record: Synced, limit: int) -> Sequence[tuple[SyncEvent, str | None]]:
    """The last `limit` changes of a record's status, newest first, each with the name of the person who asked for it."""
    found = session.execute(
        select(SyncEvent, User.name)
        .outerjoin(User, SyncEvent.user_id == User.id)
        .where(SyncEvent.kind == record.kind, SyncEvent.record_id == record.id)
        .order_by(SyncEvent.id.desc())
        .limit(limit)
    )
    return [(event, name) for event, name in found]
