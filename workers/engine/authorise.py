"""From a person's consent in Sage to a connection that works, and the end of it."""

from __future__ import annotations

import structlog

from webapp.connection.changes import businesses_of_others, choose_business
from webapp.connection.models import Connection
from webapp.services import Services
from workers.sage.connector import AuthoriseAgain, SageError, Transient, Unreachable
from workers.sage.open import exchange, give_back, keep

log = structlog.get_logger()


def authorise(services: Services, connection_id: int, code: str, redirect_uri: str, code_verifier: str) -> None:
    """Exchange a code for tokens, and keep them.

    A connection stays with the business that it was made for: consent for another one is not taken, and nothing is
    stored. For a new connection an admin chooses the business on its page. Where Sage does not give tokens, the
    connection stays as it is and says why, and a person authorises once more.
    """
    with services.database.unit_of_work() as work:
        if work.session.get(Connection, connection_id) is None:
            # It was removed after the person left for Sage's page.
            log.warning("connection_gone", connection=connection_id)
            return
    try:
        grant = exchange(services, connection_id, code, redirect_uri, code_verifier)
    except (AuthoriseAgain, Transient, Unreachable) as error:
        log.warning("not_authorised", connection=connection_id, error=type(error).__name__, code=error.raw.get("code"))
        _note_problem(services, connection_id, "not_authorised" if isinstance(error, AuthoriseAgain) else "no_answer")
        return
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id)
        known, taken = connection.business_id, businesses_of_others(work.session, connection)
    problem = _problem({business.id for business in grant.businesses}, known, taken)
    if problem:
        log.warning("business_not_taken", connection=connection_id, problem=problem)
        _note_problem(services, connection_id, problem)
        return
    with services.database.unit_of_work() as work:
        keep(services, work, connection_id, grant)
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        connection.problem = None
        connection.offered = [{"id": business.id, "name": business.name} for business in grant.businesses]
        work.touch(connection)
        if known:
            choose_business(work, connection, known)
        work.commit()
    if known:
        services.jobs.pull(connection_id)


def disconnect(services: Services, connection_id: int) -> None:
    """Give the tokens of a connection that an admin has disconnected back to Sage, and forget them.

    Where Sage does not answer they are forgotten all the same: they run out there by themselves. One that a person has
    authorised anew before this could run keeps what it has now.
    """
    try:
        give_back(services, connection_id)
    except SageError as error:
        log.warning("tokens_not_revoked", connection=connection_id, error=type(error).__name__)


def _problem(opened: set[str], known: str | None, taken: set[str]) -> str:
    """Why a consent that opens these businesses is not taken for a connection, empty where it is."""
    if not opened:
        return "no_business"
    if known:
        return "" if known in opened else "other_business"
    return "all_taken" if opened <= taken else ""


def _note_problem(services: Services, connection_id: int, problem: str) -> None:
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        connection.problem = problem
        work.touch(connection)
        work.commit()
