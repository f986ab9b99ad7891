"""From a commit to the browsers: frames at 1,000 sockets beside Node's Socket.IO, the changed page, changes unwatched.

Both sides run on the embedded PostgreSQL and Redis of this run, by turns, loaded by the same sockets
(live-peer/sockets.mjs), for changes that one and the same process commits. Node's side is two processes with its Redis
adapter, as its guide sets it up (live-peer/server.mjs); it is handed the finished state and reads no database.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share; of CLOCK_REALTIME for the page.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright
from redis import Redis
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from requirements import npm
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
from webapp.sync.transitions import move, move_all

PEER = Path(__file__).parent / "live-peer"

COMPANIES = 20
SOCKETS = 1_000
CHANGES_A_SECOND = 10
ROUNDS = 5
SECONDS = 10
# Before the time is taken: a process that has just started opens connections, and makes its code fast, at the first
# changes, of which a worker that runs all day has none.
WARM_UP_SECONDS = 2

# Of the changes that nobody watches, so many come in one commit, of one of so many processes.
# A tenth more is asked for than is to be shown: the first commits are slow.
UNWATCHED_A_SECOND = 11_000
BATCH = 500
WRITERS = 2
UNWATCHED = 10_000

_TURNS = (
    (Reason.QUEUED, {"code": "queued"}),
    (Reason.RUNNING, {"code": "running"}),
)


@dataclass
class Commits:
    """When each version was committed, by both clocks, in nanoseconds: {"company:7 12": (monotonic, real)}."""

    times: dict[str, tuple[int, int]]
    seconds: float


@dataclass
class Got:
    """What all sockets together got: how many frames, and when which version came."""

    frames: int
    seen: dict[str, list[int]]

    def delays(self, commits: Commits) -> list[float]:
        """From commit to frame, for each change at each socket, in milliseconds."""
        return [(at - commits.times[name][0]) / 1e6 for name in commits.times for at in self.seen.get(name, [])]


def run() -> list[dict[str, Any]]:
    """The figures: {name, ours, peer, ratio, target}."""
    prepare_peer()
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder)) as settings:
        cookie = prepare_companies(settings)
        with WebProcesses(settings) as web, _peer(settings) as urls:
            ours: list[list[float]] = []
            peers: list[list[float]] = []
            for _ in range(ROUNDS):
                ours.append(_round(settings, [web.url], cookie, "ours"))
                peers.append(_round(settings, urls, None, "peer"))
            # Before the page, which watches the counters that these changes move.
            unwatched = _unwatched_round(settings, web, cookie)
            page = _page_round(settings, web, cookie)
    return [*_beside_node(ours, peers), *_on_the_page(page), *unwatched]


def _beside_node(ours: list[list[float]], peers: list[list[float]]) -> Iterator[dict[str, Any]]:
    load = f"at {SOCKETS:,} sockets, {CHANGES_A_SECOND} changes/s"
    for name, share, target in (("p50", 0.5, None), ("p99", 0.99, 1.2)):
        mine, other = (median(_quantile(delays, share) for delays in rounds) for rounds in (ours, peers))
        yield _row(f"commit to frame {load}, {name}, ms; peer: Node's Socket.IO", mine, target, other)


def _on_the_page(delays: list[float]) -> Iterator[dict[str, Any]]:
    load = f"beside {SOCKETS:,} sockets, {CHANGES_A_SECOND} changes/s"
    yield _row(f"commit to changed page in Chromium {load}, p50, ms", _quantile(delays, 0.5), None)
    yield _row(f"commit to changed page in Chromium {load}, p99, ms", _quantile(delays, 0.99), 150)


def _row(name: str, ours: float, target: float | None, peer: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": round(ours, 1),
        "peer": None if peer is None else round(peer, 1),
        "ratio": None if peer is None else round(ours / peer, 2),
        "target": target,
    }


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


@contextmanager
def running_servers(folder: Path) -> Iterator[Settings]:
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


def prepare_companies(settings: Settings) -> str:
    """Make the companies of a connection and somebody who is signed in. Returns the session's cookie."""
    services = Services.open(settings)
    with services.database.unit_of_work() as work:
        connection = Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED, business_name="Northwind")
        work.session.add(connection)
        work.session.flush()
        made = [
            Company(
                name=f"Company {number:05}",
                code=f"C{number:04}",
                email=f"office@company{number}.example.com",
                phone="+49 30 0074321",
                address_line_1="Obere Str. 57",
                city="Berlin",
                postal_code="12209",
                country="DE",
                connection_id=connection.id,
            )
            for number in range(COMPANIES + UNWATCHED)
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
    return f"{name}={cookie.value}"


@contextmanager
def _peer(settings: Settings) -> Iterator[list[str]]:
    """Two processes of Node's Socket.IO. Gives their addresses."""
    with ExitStack() as ends:
        urls = []
        for port in (free_port(), free_port()):
            process = subprocess.Popen(
                [npm.node(), "server.mjs", str(port), settings.redis_url.removeprefix("unix://")],
                cwd=PEER,
                stdout=subprocess.PIPE,
            )
            ends.callback(process.wait)
            ends.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n", "Node's server did not start"
            urls.append(f"http://127.0.0.1:{port}")
        yield urls


def prepare_peer() -> None:
    """Install what server.mjs and sockets.mjs need, where it is missing."""
    if not (PEER / "node_modules").exists():
        npm.install(PEER)


@contextmanager
def open_sockets(urls: list[str], cookie: str | None) -> Iterator[Callable[[], Got]]:
    """Sockets that watch the first companies. The function that it gives ends them and returns what they got."""
    with subprocess.Popen(
        [npm.node(), "sockets.mjs"],
        cwd=PEER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        things = {f"company:{number}": 0 for number in range(1, COMPANIES + 1)}
        print(json.dumps({"urls": urls, "cookie": cookie, "sockets": SOCKETS, "things": things}), file=process.stdin)
        process.stdin.flush()
        assert process.stdout.readline() == "watching\n", "the sockets did not open"

        def end() -> Got:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            return Got(**json.loads(process.stdout.readline()))

        yield end


def _round(settings: Settings, urls: list[str], cookie: str | None, side: str) -> list[float]:
    """Have changes committed while all sockets watch. Returns the delays in milliseconds."""
    with open_sockets(urls, cookie) as end:
        commits = _commit_elsewhere(settings, side)
        delays = end().delays(commits)
    assert len(delays) > 0.9 * len(commits.times) * SOCKETS, f"only {len(delays)} changes came to the sockets"
    return delays


def _page_round(settings: Settings, web: WebProcesses, cookie: str) -> list[float]:
    """The same with the list of companies open in Chromium. Returns the delays to its rows in milliseconds."""
    name, _, value = cookie.partition("=")
    with sync_playwright() as playwright, open_sockets([web.url], cookie) as end:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = browser.new_context()
        context.add_cookies([{"name": name, "value": value, "url": web.url}])
        page = context.new_page()
        page.goto(f"{web.url}/companies")
        page.wait_for_selector("body[data-live=live]")
        page.evaluate(
            """() => {
                window.seen = {};
                new MutationObserver((changes) => {
                    const at = performance.timeOrigin + performance.now();
                    for (const { target } of changes)
                        if (target.dataset.row) window.seen[`${target.dataset.key} ${target.dataset.version}`] ??= at;
                }).observe(document.body, { subtree: true, attributeFilter: ["data-version"] });
            }"""
        )
        commits = _commit_elsewhere(settings, "ours")
        end()
        seen: dict[str, float] = page.evaluate("window.seen")
        browser.close()
    delays = [at - commits.times[change][1] / 1e6 for change, at in seen.items() if change in commits.times]
    assert len(delays) > 0.9 * len(commits.times), f"only {len(delays)} of {len(commits.times)} came to the page"
    return delays


def _unwatched_round(settings: Settings, web: WebProcesses, cookie: str) -> Iterator[dict[str, Any]]:
    """Have very many changes committed that no socket watches."""
    with Redis.from_url(settings.redis_url) as redis, open_sockets([web.url], cookie) as end:
        redis.config_resetstat()
        with ThreadPoolExecutor(WRITERS) as pool:
            done = pool.map(lambda writer: _commit_elsewhere(settings, "unwatched", writer), range(WRITERS))
            seconds = max(commits.seconds for commits in done)
        stats = redis.info("commandstats")
        frames = end().frames
    rate = SECONDS * UNWATCHED_A_SECOND / seconds
    lookups = stats["cmdstat_zmscore"]["calls"] / seconds
    published = stats.get("cmdstat_publish", {"calls": 0})["calls"]
    load = f"for {rate:,.0f} changes/s that nobody watches"
    return iter(
        (
            _row(f"frames {load}", frames, 0),
            _row(f"messages published in Redis {load}", published, 0),
            _row(f"look-ups in Redis a second {load}, one for each batch of {BATCH}", lookups, None),
        )
    )


def _commit_elsewhere(settings: Settings, side: str, writer: int = 0) -> Commits:
    """Have a process of its own commit changes, as a worker does."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.live", "commit", settings.database_url, settings.redis_url, side, str(writer)],
        cwd=PEER.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Commits(**json.loads(done.stdout))


def commit(database_url: str, redis_url: str, side: str, writer: str) -> Commits:
    """Change companies for SECONDS: those that are watched, one at a time, or very many that are not.

    Of these, `writer` is which of the WRITERS this process is.
    """
    services = Services.open(Settings(DATABASE_URL=database_url, REDIS_URL=redis_url))
    times: dict[str, tuple[int, int]] = {}
    tell = _tell_peer(services) if side == "peer" else services.database.after_commit
    is_warm = False

    def after_commit(work: UnitOfWork) -> None:
        if is_warm and side != "unwatched":
            now = (time.monotonic_ns(), time.time_ns())
            times.update({f"{key} {record.version}": now for key, record in work.touched.items()})
        tell(work)

    services.database.after_commit = after_commit
    if side == "unwatched":
        one, a_second = partial(_change_batch, int(writer)), UNWATCHED_A_SECOND // BATCH // WRITERS
    else:
        one, a_second = _change_one, CHANGES_A_SECOND
    warm_up = 0 if side == "unwatched" else WARM_UP_SECONDS
    began = warm_since = time.monotonic()
    for number in range((warm_up + SECONDS) * a_second):
        if number == warm_up * a_second:
            is_warm, warm_since = True, time.monotonic()
        time.sleep(max(0.0, began + number / a_second - time.monotonic()))
        with services.database.unit_of_work() as work:
            one(work, number)
            work.commit()
    return Commits(times, time.monotonic() - warm_since)


def _change_one(work: UnitOfWork, number: int) -> None:
    """Give one of the watched companies, in turn, a new reason."""
    reason, detail = _TURNS[number // COMPANIES % 2]
    move(work, work.session.get_one(Company, 1 + number % COMPANIES), reason, detail, cause="worker")


def _change_batch(writer: int, work: UnitOfWork, turn: int) -> None:
    """Give a batch of the companies that nobody watches a new reason; each writer has batches of its own."""
    batches, number = UNWATCHED // BATCH, turn * WRITERS + writer
    first = COMPANIES + 1 + number % batches * BATCH
    reason, detail = _TURNS[number // batches % 2]
    moved = move_all(work, Company, Company.id.between(first, first + BATCH - 1), reason, detail, cause="worker")
    assert moved == BATCH


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
        print(json.dumps(asdict(commit(*sys.argv[2:]))))
    else:
        for row in run():
            print(row)
