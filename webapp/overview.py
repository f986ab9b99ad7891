"""The figures of the whole product: for `synclight status`, and for whoever collects metrics."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.connection.models import Connection
from webapp.status import Status
from webapp.sync.models import StatusCount

MODULES = ("companies", "contacts", "orders")


class ConnectionOverview(TypedDict):
    """A connection; `waiting` is the number of records that wait for it."""

    id: int
    product: str
    state: str
    last_synchronised_at: datetime | None
    waiting: int


class Overview(TypedDict):
    """How many records of each module have each status, and the connections."""

    modules: dict[str, dict[str, int]]
    connections: list[ConnectionOverview]


def read_overview(session: Session) -> Overview:
    """Read the figures. They come from counters, so that the number of records does not matter."""
    modules = {module: {str(status): 0 for status in Status} for module in MODULES}
    counted = select(StatusCount.module, StatusCount.status, func.sum(StatusCount.n)).group_by(
        StatusCount.module, StatusCount.status
    )
    for module, status, number in session.execute(counted):
        modules[module][status] = int(number)
    # All records belong to the one connection there is.
    waiting = sum(counts[Status.PENDING] for counts in modules.values())
    return {
        "modules": modules,
        "connections": [
            {
                "id": connection.id,
                "product": connection.product,
                "state": connection.state,
                "last_synchronised_at": connection.last_synchronised_at,
                "waiting": waiting,
            }
            for connection in session.scalars(select(Connection).order_by(Connection.id))
        ],
    }
