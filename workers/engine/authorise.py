"""From a person's consent in Sage to a connection that works."""

from __future__ import annotations

import structlog

from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, Connection
from webapp.services import Services
from workers.sage.connector import AuthoriseAgain, Business, Transient, Unreachable
from workers.sage.open import exchange, keep

log = structlog.get_logger()


def authorise(services: Services, connection_id: int, code: str, redirect_uri: str, code_verifier: str) -> None:
    """Exchange a code for tokens, keep them, and read the customers of the business for the first time.

    A connection stays with the business that it was made for: consent for another one is not taken, and nothing is
    stored. Where Sage does not give tokens, the connection stays as it is, and a person authorises once more.
    """
    try:
        grant = exchange(services, connection_id, code, redirect_uri, code_verifier)
    except (AuthoriseAgain, Transient, Unreachable) as error:
        log.warning("not_authorised", connection=connection_id, error=type(error).__name__, code=error.raw.get("code"))
        return
    with services.database.unit_of_work() as work:
        known = work.session.get_one(Connection, connection_id).business_id
    business = _business(grant.businesses, known)
    if business is None:
        log.warning("other_business_authorised", connection=connection_id)
        return
    keep(services, connection_id, grant)
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        connection.business_id = business.id
        connection.business_name = business.name
        work.touch(connection)
        change_state(work, connection, CONNECTED)
        work.commit()
    services.jobs.pull(connection_id)


def _business(offered: tuple[Business, ...], known: str | None) -> Business | None:
    """The business to connect: the known one and no other; for a new connection the first, which is Sage's lead one."""
    if known is None:
        return offered[0] if offered else None
    return next((business for business in offered if business.id == known), None)
