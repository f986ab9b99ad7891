"""What is read about synchronisation for the pages: the counters, the connection, the history of a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal, select, tuple_
from sqlalchemy.orm import Session

from webapp.languages import gettext as _
from webapp.live.protocol import shown
from webapp.live.states import ALL_CONNECTIONS, State, read_counted
from webapp.status import Reason, Status
from webapp.sync.models import StatusCount, Synced, SyncEvent
from webapp.sync.records import SYNCED
from webapp.users.models import User
from webapp.zone import Reader

# Counting further would cost more than it tells.
MOST_COUNTED = 1_000


@dataclass(frozen=True)
class PageContext:
    """What each page about synchronised records shows around them, in the very form that live messages bring it.

    `module` has the counters. `connections` are those that matter to the page, and `connection` is what its indicator
    shows: the only one of them, or all taken together; None while Sage was never connected.
    """

    module: dict[str, Any]
    connection: dict[str, Any] | None
    connections: list[dict[str, Any]]

    @property
    def connection_names(self) -> dict[str, str]:
        """The companies in Sage of these connections, by the connection's id as a text."""
        return {one["key"].partition(":")[2]: one["business"] or _("No company chosen yet") for one in self.connections}


def read_page_context(session: Session, module: str, reader: Reader, connection_id: int | None = None) -> PageContext:
    """The counters of `module` and the state of the connections, in the words for this reader.

    With `connection_id` only that connection counts: the one of a record.
    """
    found = read_counted(session, module)
    counters, together = found.pop(f"module:{module}"), found.pop(ALL_CONNECTIONS, None)
    states = [found.get(f"connection:{connection_id}")] if connection_id is not None else [*found.values()]

    def told(state: State) -> dict[str, Any]:
        return shown(state, reader.zone, reader.now)

    own = [told(state) for state in states if state is not None]
    indicated = own[0] if len(own) == 1 else told(together) if together and own else None
    return PageContext(told(counters), indicated, own)


def read_counters(session: Session, module: str) -> dict[tuple[int, str], int]:
    """How many records of `module` each connection has in each status; connection 0 stands for those that belong to none."""
    counted = (
        select(StatusCount.connection_id, StatusCount.status, func.sum(StatusCount.n))
        .where(StatusCount.module == module)
        .group_by(StatusCount.connection_id, StatusCount.status)
    )
    return {(connection, status): int(n) for connection, status, n in session.execute(counted)}


def place_in_queue(session: Session, record: Synced) -> int | None:
    """How many records of its connection go to Sage before `record`, up to MOST_COUNTED; None where it is not queued."""
    if record.sync_reason != Reason.QUEUED:
        return None
    place = tuple_(~literal(record.urgent), record.next_attempt_at, record.id)
    ahead = 0
    for model in SYNCED:
        before = (
            select(literal(1))
            .where(
                model.connection_id == record.connection_id,
                model.sync_status == Status.PENDING,
                model.sync_reason == Reason.QUEUED,
                tuple_(~model.urgent, model.next_attempt_at, model.id) < place,
            )
            .limit(MOST_COUNTED)
        )
        ahead += session.scalar(select(func.count()).select_from(before.subquery())) or 0
    return min(ahead, MOST_COUNTED)


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
