"""The product's own servers for a benchmark: PostgreSQL and Redis with the settings that `synclight up` gives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from webapp.config import Settings
from webapp.migrations import create_database, migrate
from webapp.run import embedded, programs
from webapp.services import Services


@contextmanager
def own_servers(folder: Path, postgres: dict[str, str] | None = None, **settings: int) -> Iterator[Services]:
    """Servers with their data in `folder`, and a migrated database that is empty.

    `postgres` are settings of that server in place of the embedded one's, `settings` further ones of ours.
    """
    sockets = folder / "run"
    chosen = Settings(
        DATABASE_URL=f"postgresql+psycopg://postgres@/synclight?host={sockets}",
        REDIS_URL=f"unix://{sockets / 'redis.sock'}",
        var=folder / "var",
        **settings,
    )
    with ExitStack() as ends:
        for program in (
            embedded.postgres(folder / "postgres", sockets, folder / "postgres.log", settings=postgres),
            embedded.redis(folder / "redis", sockets, folder / "redis.log"),
        ):
            process = programs.start(program)
            ends.callback(process.wait)
            ends.callback(process.send_signal, program.stop_signal)
            Retrying(retry=retry_if_result(lambda ready: not ready), wait=wait_fixed(0.05), stop=stop_after_delay(30))(
                program.ready
            )
        create_database(chosen.database_url)
        migrate(chosen.database_url)
        services = Services.open(chosen, application_name="synclight-bench")
        ends.callback(services.database.engine.dispose)
        yield services
