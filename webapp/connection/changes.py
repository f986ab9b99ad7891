"""What an admin decides about a connection: that there is one, which company in Sage it is for, and its end."""

from __future__ import annotations

from webapp.config import Settings
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, CONNECTING, Connection
from webapp.db import UnitOfWork


def add_connection(work: UnitOfWork, settings: Settings) -> Connection:
    """Add a connection to the Sage of the settings, which is to be authorised next."""
    connection = Connection(api_url=settings.sage_api_url, cycle_seconds=settings.cycle_seconds)
    work.session.add(connection)
    work.touch(connection)
    return connection


def choose_business(work: UnitOfWork, connection: Connection, business_id: str) -> bool:
    """Have a connection belong to one of the offered companies in Sage, and begin; commits.

    False where it was not offered, or where something else was chosen meanwhile. The caller has Sage read then.
    """
    chosen = next((one for one in connection.offered or () if one["id"] == business_id), None)
    if chosen is None:
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
