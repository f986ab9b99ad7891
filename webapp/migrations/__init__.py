"""The schema's versions. Each one leaves a schema on which the previous release of the code still runs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

# Any number will do, as long as every process of this product asks for the same one.
_MIGRATION_LOCK = 5_117_001


def create_database(database_url: str) -> None:
    """Make the database that the URL names where its server does not have it yet.

    Where the server cannot be reached, nothing is done: what comes next finds that. Raises ProgrammingError where we
    may not make it.
    """
    url = make_url(database_url)
    # Every server has this one; a managed one may keep us out of it, and then it has ours.
    server = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    try:
        connection = server.connect()
    except OperationalError:
        return
    with connection:
        if connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": url.database}):
            return
        name = connection.dialect.identifier_preparer.quote(url.database or "")
        connection.execute(text(f"CREATE DATABASE {name}"))


def migrate(database_url: str) -> None:
    """Bring the database to the newest version. Two at a time are harmless: the second one waits.

    A statement that cannot get its lock within 5 s fails rather than stop everybody who reads; run it again.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    engine = create_engine(database_url, connect_args={"application_name": "synclight-migrate"})
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
