"""What RQ calls: open the services of this process, call the engine, nothing else. Jobs take ids and load afresh."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import cache, partial

from sqlalchemy import func, select

from webapp.config import Settings
from webapp.connection.models import CONNECTED, CONNECTING, ENDED, PAUSED, Connection
from webapp.services import Services
from workers.engine.authorise import authorise as authorise_connection
from workers.engine.authorise import disconnect as disconnect_connection
from workers.engine.due import is_anything_due
from workers.engine.pull import pull as pull_connection
from workers.engine.push import drain
from workers.sage.open import connect

# A sign that a due push was lost: it is this much overdue and nobody has it in hand.
_OVERDUE = timedelta(seconds=2)


# One waits for Sage, which is asked one call at a time, while the other one does what is to be done here.
_HANDS = 2


@cache
def _services(process: int) -> Services:
    """The services of one process: a forked job must not share its parent's connections."""
    # Of each hand one that it keeps, and one for what takes more than a statement.
    return Services.open(Settings.load(), application_name="synclight-worker", pool_size=2 * _HANDS)


def services() -> Services:
    """The services of the process that runs this job."""
    return _services(os.getpid())


def push(connection_id: int) -> None:
    """Bring in step what is due of a connection."""
    services().jobs.push_begins(connection_id)
    drain(services(), connection_id, connect, hands=_HANDS)


def pull(connection_id: int, user_id: int | None = None) -> None:
    """Take over what changed in Sage."""
    services().jobs.pull_begins(connection_id)
    pull_connection(services(), connection_id, partial(connect, reads_only=True), user_id)


def authorise(connection_id: int, code: str, redirect_uri: str, code_verifier: str) -> None:
    """Exchange the code of Sage's authorise page for tokens, and start."""
    authorise_connection(services(), connection_id, code, redirect_uri, code_verifier)


def disconnect(connection_id: int) -> None:
    """Give the tokens of a connection that has ended back to Sage."""
    services().jobs.disconnect_begins(connection_id)
    disconnect_connection(services(), connection_id)


def start_due() -> None:
    """Start what is due: the cycle of each connection, and every push and every disconnection that was lost on the way.

    Runs every few seconds; a doubled run does no harm.
    """
    with services().database.unit_of_work() as work:
        now = datetime.now(UTC)
        has_writer = func.coalesce(Connection.writer_until > func.clock_timestamp(), False)
        active = select(Connection, has_writer).where(Connection.state.not_in([CONNECTING, PAUSED]))
        for connection, is_sent_to in work.session.execute(active):
            if connection.next_run_at is None or connection.next_run_at <= now:
                services().jobs.pull(connection.id)
            # One more push would only find that another one has the lease.
            is_idle = connection.state == CONNECTED and not is_sent_to
            if is_idle and is_anything_due(work.session, connection.id, _OVERDUE):
                services().jobs.push(connection.id)
        for connection_id in work.session.scalars(select(Connection.id).where(ENDED, Connection.tokens.is_not(None))):
            services().jobs.disconnect(connection_id)
