"""Reading connections."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.connection.models import Connection


def list_connections(session: Session) -> Sequence[Connection]:
    """All connections, the oldest first."""
    return session.scalars(select(Connection).order_by(Connection.id)).all()


def main_connection(session: Session, *, lock: bool = False) -> Connection | None:
    """The connection that a company belongs to for which none was chosen: the first one; None while there is none.

    With `lock`, nobody else changes it until this transaction ends.
    """
    found = select(Connection).order_by(Connection.id).limit(1)
    return session.scalar(found.with_for_update() if lock else found)
