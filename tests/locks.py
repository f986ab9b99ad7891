"""Two transactions at the same moment: the test goes on when one of them waits for the other."""

from __future__ import annotations

from sqlalchemy import text

from webapp.services import Services

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def waits_for_a_lock(services: Services) -> bool:
    """Whether some statement waits for another transaction."""
    with services.database.engine.connect() as connection:
        return bool(connection.execute(text(_WAITING)).scalar_one())
