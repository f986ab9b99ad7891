"""What an admin decides about a connection: that there is one, which company in Sage it is for, and its end."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, CONNECTING, Connection
from webapp.db import UnitOfWork


def businesses_of_others(session: Session, connection: Connection) -> set[str]:
    """The companies in Sage that other connections belong to: this one cannot have them too."""
    others = select(Connection.business_id).where(
        Connection.id != connection.id, Connection.product == connection.product, Connection.business_id.is_not(None)
    )
    return {str(business_id) for business_id in session.scalars(others)}


def add_connection(work: UnitOfWork, settings: Settings) -> Connection:
    """Add a connection to the Sage of the settings, which is to be authorised next."""
    connection = Connection(api_url=settings.sage_api_url, cycle_seconds=settings.cycle_seconds)
    work.session.add(connection)
    work.touch(connection)
    return connection


def choose_business(work: UnitOfWork, connection: Connection, business_id: str) -> bool:
    """Have a connection belong to one of the offered companies in Sage, and begin; commits.

    False where it was not offered, where something else was chosen meanwhile, or where another connection has it. The
    caller has Sage read then. Raises IntegrityError where another connection takes it at this moment.
    """
    chosen = next((one for one in connection.offered or () if one["id"] == business_id), None)
    if chosen is None or business_id in businesses_of_others(work.session, connection):
        return False
    connection.business_id = chosen["id"]
    connection.business_name = chosen["name"]
    connection.offered = None
    change_state(work, connection, CONNECTED)
    return True


def end_connection(work: UnitOfWork, connection: Connection) -> None:
    """Stop a connection; commits. The caller has its tokens given back.

    Its records keep what they know of Sage. It can be authorised again, for the same company in Sage only.
    """
    connection.offered = None
    connection.problem = None
    change_state(work, connection, CONNECTING)
