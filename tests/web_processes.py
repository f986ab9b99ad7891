"""The web app as it runs in earnest: gunicorn with its two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx2
import psutil
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from webapp.config import Settings

ROOT = Path(__file__).resolve().parent.parent


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

    def kill_one(self) -> None:
        """Kill (SIGKILL) one of the two; gunicorn starts another."""
        self._workers()[0].kill()

    def kill_all(self) -> None:
        """Kill (SIGKILL) both; gunicorn starts others."""
        for worker in self._workers():
            worker.kill()

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
        until_true = Retrying(
            retry=retry_if_result(lambda up: not up), stop=stop_after_delay(60), wait=wait_fixed(0.05)
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
            return httpx2.get(f"{self.url}/login", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False
