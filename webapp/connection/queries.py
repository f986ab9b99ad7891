"""Reading connections."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.connection.models import Connection


def main_connection(session: Session) -> Connection | None:
    """The connection that new records belong to: the first one; None while Sage is not connected."""
    return session.scalar(select(Connection).order_by(Connection.id).limit(1))
