"""The running product, for tests: what `synclight up` starts, on free ports and with data of its own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil
import psycopg
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.people import sign_in_over_http
from tests.sandbox_process import free_port
from webapp.config import Settings

ROOT = Path(__file__).resolve().parent.parent
SYNCLIGHT = Path(sys.executable).with_name("synclight")

# Whoever runs the tests may have set up a product of their own.
OUR_SETTINGS = ("SYNCLIGHT_", "DATABASE_URL", "REDIS_URL", "PORT")


class Stack:
    """One `synclight up`. A context manager: it starts and is ready, and at the end it is stopped.

    `environment` sets further settings, such as SYNCLIGHT_CYCLE_SECONDS (3 where nothing is said).
    """

    admin = "admin@example.com"
    sales = "sales@example.com"

    def __init__(self, folder: Path, **environment: str) -> None:
        self.var = folder / "var"
        self.port = free_port()
        self.sandbox_port = free_port()
        self.password = secrets.token_urlsafe(12)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_SETTINGS)}
        self.environment = {
            **kept,
            "PORT": str(self.port),
            "SYNCLIGHT_VAR": str(self.var),
            "SYNCLIGHT_SANDBOX_PORT": str(self.sandbox_port),
            "SYNCLIGHT_DEMO_PASSWORD": self.password,
            "SYNCLIGHT_CYCLE_SECONDS": "3",
            **environment,
        }
        self.output = folder / "up.txt"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the web app is, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def sandbox_url(self) -> str:
        """Where the sandbox is, without a slash at the end: its page, /_sandbox and /v3.1."""
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def runs(self) -> bool:
        """Whether `synclight up` runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of `synclight up` itself."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it says that it is ready."""
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [str(SYNCLIGHT), "up"], cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

        def said_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"synclight up ended:\n{self.told()}{self._last_words()}"
            return "Synclight is ready at" in self.told()

        wait_until(said_ready, 90)
        return self

    def stop(self) -> int:
        """Stop it as an operator would (SIGTERM). Returns its exit status."""
        return self._end(signal.SIGTERM)

    def kill_itself(self) -> None:
        """End `synclight up` itself as a crash would (SIGKILL)."""
        self._end(signal.SIGKILL)

    def told(self) -> str:
        """What `synclight up` has printed so far."""
        return self.output.read_text(errors="replace")

    def cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command such as `cli("status", "--json")` against this product."""
        return subprocess.run(
            [str(SYNCLIGHT), *arguments],
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def browser(self, email: str | None = None) -> httpx2.Client:
        """A client that is signed in, by default as the admin. To be closed by the caller."""
        return sign_in_over_http(self.url, email or self.admin, self.password)

    def get(self, path: str) -> httpx2.Response:
        """Ask for a page over a connection of its own, as nobody in particular."""
        # Nothing here is encrypted, and to read the certificates takes longer than to answer.
        return httpx2.get(f"{self.url}{path}", timeout=30, verify=False)

    def database(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Its embedded database. To be closed by the caller."""
        return psycopg.connect(host=str(Settings(var=self.var).run_dir), dbname="synclight", user="postgres")

    def process(self, name: str) -> psutil.Process:
        """The process that runs now as web, worker, cron, sandbox, postgres or redis; its children hang below it."""
        settings = Settings(var=self.var)
        return psutil.Process(int((settings.run_dir / f"{name}.pid").read_text()))

    def kill(self, name: str, *, child: bool = False) -> psutil.Process:
        """Kill (SIGKILL) one of them, or with `child` one process below it, such as a single web process.

        Does not wait for the new one. Returns the process that was killed.
        """
        victim = self.process(name)
        if child:
            victim = victim.children()[0]
        victim.kill()
        return victim

    def wait_started_again(self, name: str, victim: psutil.Process, seconds: float = 30) -> None:
        """Wait until another process does the work of `victim`, which ran as `name`."""

        def runs_again() -> bool:
            try:
                return self.process(name).pid != victim.pid
            except (FileNotFoundError, psutil.NoSuchProcess):
                return False

        wait_until(runs_again, seconds)

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until /readyz says that all of it works."""

        def ready() -> bool:
            try:
                return self.get("/readyz").status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(ready, seconds)

    def _last_words(self) -> str:
        """The end of each log, as nobody can look at them when the tests are over."""
        logs = sorted((self.var / "log").glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)
        status = self._process.wait(timeout=30)
        self._process = None
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()


def has_ended(process: psutil.Process) -> bool:
    """Whether a process runs no more, be it that its parent has not yet asked how it ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Ask again and again until it is true. Raises tenacity.RetryError when `seconds` have passed."""
    Retrying(retry=retry_if_result(lambda met: not met), stop=stop_after_delay(seconds), wait=wait_fixed(0.05))(
        condition
    )
