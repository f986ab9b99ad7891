"""The figures of the whole product: for `synclight status`, and for whoever collects metrics."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TypedDict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.connection.queries import compared_at, list_connections
from webapp.modules import MODULES
from webapp.status import Status
from webapp.sync.models import StatusCount


class ConnectionOverview(TypedDict):
    """A connection; `waiting` is the number of records that wait for it, `compared_at` when all were last compared."""

    id: int
    product: str
    business: str
    state: str
    last_synchronised_at: datetime | None
    compared_at: datetime | None
    waiting: int


class Overview(TypedDict):
    """How many records of each module have each status, and the connections."""

    modules: dict[str, dict[str, int]]
    connections: list[ConnectionOverview]


def read_overview(session: Session) -> Overview:
    """Read the figures. They come from counters, so that the number of records does not matter."""
    modules = {module.name: {str(status): 0 for status in Status} for module in MODULES}
    waiting: Counter[int] = Counter()
    counted = select(
        StatusCount.module, StatusCount.status, StatusCount.connection_id, func.sum(StatusCount.n)
    ).group_by(StatusCount.module, StatusCount.status, StatusCount.connection_id)
    for module, status, connection_id, number in session.execute(counted):
        modules[module][status] += int(number)
        if status == Status.PENDING:
            waiting[connection_id] += int(number)
    return {
        "modules": modules,
        "connections": [
            {
                "id": connection.id,
                "product": connection.product,
                "business": connection.business_name,
                "state": connection.state,
                "last_synchronised_at": connection.last_synchronised_at,
                "compared_at": compared_at(session, connection),
                "waiting": waiting[connection.id],
            }
            for connection in list_connections(session)
        ],
    }
