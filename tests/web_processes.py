"""The web app as it runs in earnest, gunicorn with its two processes, and what a test gives it: a database, a Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from uuid import uuid4

import httpx2
import psutil
import psycopg
from sqlalchemy import URL
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.sandbox_process import free_port
from webapp.config import Settings
from webapp.run import embedded, programs

ROOT = Path(__file__).resolve().parent.parent


def until_true(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Raises tenacity.RetryError when `seconds` have passed."""
    Retrying(retry=retry_if_result(lambda met: not met), stop=stop_after_delay(seconds), wait=wait_fixed(0.05))(
        condition
    )


@contextmanager
def own_settings(server: URL, template_database: str, redis_url: str, folder: Path) -> Iterator[Settings]:
    """Settings with a database of their own, for all tests of a module, and a port: it is part of the cookie's name."""
    name = f"synclight_web_{uuid4().hex[:12]}"
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY file_copy")  # type: ignore[call-overload]
        yield Settings(
            DATABASE_URL=server.set(database=name).render_as_string(hide_password=False),
            REDIS_URL=redis_url,
            PORT=free_port(),
            var=folder,
            secret_key="only for tests",
        )
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


class OwnRedis:
    """A Redis that tests may kill. A context manager: it runs when it is entered."""

    def __init__(self, folder: Path) -> None:
        self._program = embedded.redis(folder / "redis", folder / "run", folder / "redis.log")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'run' / 'redis.sock'}"

    def start(self) -> None:
        """Start it, with what it had on disk, and wait until it answers."""
        self._process = programs.start(self._program)
        until_true(self._program.ready)

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class WebProcesses:
    """A context manager: it answers when it is entered, and is stopped at the end."""

    def __init__(self, settings: Settings) -> None:
        assert settings.secret_key is not None
        self.url = settings.origin
        self._log = settings.var / "web.log"
        self._environment = {
            **os.environ,
            "PORT": str(settings.port),
            "DATABASE_URL": settings.database_url.replace("postgresql+psycopg://", "postgresql://"),
            "REDIS_URL": settings.redis_url,
            "SYNCLIGHT_VAR": str(settings.var),
            "SYNCLIGHT_SECRET_KEY": settings.secret_key.get_secret_value(),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Both are killed (SIGKILL) when it is entered, and gunicorn starts others when it is left and not before."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            workers = self._workers()
            for worker in workers:
                worker.kill()
            until_true(lambda: all(worker.status() == psutil.STATUS_ZOMBIE for worker in workers))
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop them in order (SIGTERM). Raises subprocess.TimeoutExpired where that takes longer than 20 s."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=20)
            self._process = None

    def told(self) -> str:
        """What they have logged."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", "python:webapp.server", "webapp.wsgi:app"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until_true(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _workers(self) -> list[psutil.Process]:
        assert self._process is not None
        return psutil.Process(self._process.pid).children()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.told()
        try:
            return httpx2.get(f"{self.url}/login", timeout=5, verify=False).status_code == 200
        except httpx2.TransportError:
            return False
