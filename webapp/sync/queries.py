"""What is read about synchronisation for the pages: the counters, the connection, the history of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.connection.models import Connection
from webapp.connection.queries import main_connection
from webapp.live.protocol import shown
from webapp.live.states import read_states
from webapp.sync.models import Synced, SyncEvent
from webapp.users.models import User


@dataclass(frozen=True)
class Surroundings:
    """What each page about synchronised records shows around them, in the very form that live messages bring it.

    `module` has the counters. `connection` is None while Sage was never connected.
    """

    module: dict[str, Any]
    connection: dict[str, Any] | None


def read_surroundings(session: Session, module: str, zone: tzinfo, now: datetime) -> Surroundings:
    """The counters of `module` and the state of the connection, for a reader in `zone`."""
    connection = main_connection(session)
    keys = [f"module:{module}"] + ([connection.key] if connection else [])
    states = {key: shown(state, zone, now) for key, state in read_states(session, keys).items()}
    return Surroundings(states[keys[0]], states[connection.key] if connection else None)


def read_connection(session: Session, connection: Connection, zone: tzinfo, now: datetime) -> dict[str, Any]:
    """The state of one connection, in the form that live messages bring it."""
    return shown(read_states(session, [connection.key])[connection.key], zone, now)


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
