"""Reading connections."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.connection.models import Connection


def main_connection(session: Session, *, lock: bool = False) -> Connection | None:
    """The connection that new records belong to: the first one; None while there is none.

    With `lock`, nobody else changes it until this transaction ends.
    """
    found = select(Connection).order_by(Connection.id).limit(1)
    return session.scalar(found.with_for_update() if lock else found)
