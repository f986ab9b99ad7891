"""What the schedule starts: the cycle of each connection, and what was lost between a commit and its job."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from redis import Redis
from rq import Queue, Worker
from rq.serializers import JSONSerializer
from sqlalchemy import text

from webapp.companies.changes import create_company
from webapp.config import Settings
from webapp.connection.changes import end_connection
from webapp.connection.models import CONNECTED, PAUSED, UNREACHABLE, Connection
from webapp.queue import PULL_QUEUE, PUSH_QUEUE, Jobs
from webapp.services import Services
from webapp.sync.models import SyncCursor
from workers import jobs
from workers.engine.lease import Lease


@pytest.fixture
def start_due(services: Services, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The sweep, on the database and the Redis of this test."""
    monkeypatch.setattr(jobs, "services", lambda: services)
    return jobs.start_due


@pytest.fixture
def connection_id(services: Services) -> int:
    """A connection whose customers were read, and whose next cycle is far away."""
    with services.database.unit_of_work() as work:
        far = datetime.now(UTC) + timedelta(hours=1)
        connection = Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED, next_run_at=far)
        work.session.add(connection)
        work.session.flush()
        work.session.add(SyncCursor(connection_id=connection.id, entity="customers", watermark=datetime.now(UTC)))
        work.commit()
        return connection.id


def waiting(services: Services) -> list[str]:
    """The jobs that wait, by name and connection."""
    queues = (Jobs(services.redis)._push, Jobs(services.redis)._pull)
    return [f"{job.func_name} {job.args[0]}" for queue in queues for job in queue.jobs]


def add_company(services: Services, connection_id: int) -> None:
    """Add a company whose process dies right after its commit: nobody is told."""
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id)
        values = {"name": "Alfreds Futterkiste", "country": "DE", "type": "customer"}
        create_company(work, values, connection, user_id=None, cause="edit")
        work.session.commit()


def later(services: Services, seconds: int) -> None:
    """Let this much time pass for what is due."""
    with services.database.unit_of_work() as work:
        moved = text("UPDATE company SET next_attempt_at = next_attempt_at - :seconds * interval '1 second'")
        work.session.execute(moved, {"seconds": seconds})
        work.session.commit()


def test_a_push_that_was_never_enqueued_is_found(
    services: Services, start_due: Callable[[], None], connection_id: int
) -> None:
    add_company(services, connection_id)
    start_due()
    assert waiting(services) == [], "it may still be on its way"
    later(services, 5)
    start_due()
    assert waiting(services) == [f"workers.jobs.push {connection_id}"]
    start_due()
    assert len(waiting(services)) == 1, "a doubled sweep does no harm"


def test_a_commit_waits_once_for_a_redis_that_does_not_answer(settings: Settings, connection_id: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        away = Services.open(settings.model_copy(update={"redis_url_setting": f"redis://127.0.0.1:{port}"}))
        away.redis.connection_pool.connection_kwargs["socket_timeout"] = 0.1
        with away.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, connection_id)
            create_company(work, {"name": "Alder"}, connection, user_id=None, cause="edit")
            work.commit()
        away.database.engine.dispose()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_a_disconnection_that_was_never_enqueued_is_found(
    services: Services, start_due: Callable[[], None], connection_id: int
) -> None:
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id)
        connection.tokens = b"what Sage gave"
        work.commit()
        start_due()
        assert waiting(services) == []
        end_connection(work, connection)
    start_due()
    start_due()
    assert waiting(services) == [f"workers.jobs.disconnect {connection_id}"]


@pytest.mark.parametrize("state", [UNREACHABLE, PAUSED])
def test_nothing_is_pushed_while_the_connection_does_not_work(
    services: Services, start_due: Callable[[], None], connection_id: int, state: str
) -> None:
    add_company(services, connection_id)
    later(services, 5)
    with services.database.unit_of_work() as work:
        work.session.get_one(Connection, connection_id).state = state
        work.session.commit()
    start_due()
    assert waiting(services) == []


def test_no_push_is_started_beside_one_that_is_at_work(
    services: Services, start_due: Callable[[], None], connection_id: int
) -> None:
    add_company(services, connection_id)
    later(services, 5)
    lease = Lease.take(services.database, connection_id)
    assert lease is not None
    start_due()
    assert waiting(services) == []
    lease.release()
    start_due()
    assert waiting(services) == [f"workers.jobs.push {connection_id}"]


def test_a_job_makes_way_for_what_waits_and_where_its_worker_is_to_stop(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RQ_WORKER_ID", "one")
    assert not services.jobs.should_make_way()
    worker = Worker(["push"], name="one", connection=services.redis)
    worker._shutdown_requested_date = datetime.now(UTC)
    worker.set_shutdown_requested_date()
    assert services.jobs.should_make_way()
    monkeypatch.setenv("RQ_WORKER_ID", "another")
    assert not services.jobs.should_make_way()
    services.jobs.pull(1)
    assert services.jobs.should_make_way()


@pytest.mark.parametrize(("queue", "work"), [("push", "drain"), ("pull", "pull_connection")])
def test_what_is_asked_for_while_a_job_is_at_work_gets_a_job_of_its_own(
    services: Services, monkeypatch: pytest.MonkeyPatch, queue: str, work: str
) -> None:
    ask = getattr(services.jobs, queue)
    monkeypatch.setattr(jobs, "services", lambda: services)
    monkeypatch.setattr(jobs, work, lambda *_, **__: ask(1))
    ask(1)
    # A worker takes it.
    services.redis.delete(f"rq:queue:{queue}")
    ask(1)
    assert waiting(services) == [], "one that was taken just now has not begun yet, and will see what is due"
    getattr(jobs, queue)(1)
    assert waiting(services) == [f"workers.jobs.{queue} 1"]


def test_a_cycle_that_is_due_is_started(services: Services, start_due: Callable[[], None], connection_id: int) -> None:
    start_due()
    assert waiting(services) == []
    with services.database.unit_of_work() as work:
        work.session.get_one(Connection, connection_id).next_run_at = datetime.now(UTC)
        work.session.commit()
    start_due()
    assert waiting(services) == [f"workers.jobs.pull {connection_id}"]


def run_worker(settings: Settings, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A worker of its own, until it ends."""
    options = (*options, "--serializer", "json", "--worker-class", "workers.process.Worker")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLIGHT_")}
    url = (settings.database_url_setting or "").replace("+psycopg", "")
    return subprocess.run(
        [Path(sys.executable).with_name("rq"), "worker", *options, PUSH_QUEUE, PULL_QUEUE],
        env={**kept, "RQ_REDIS_URL": settings.redis_url, "DATABASE_URL": url, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("keys", [{}, {"SYNCLIGHT_TOKEN_KEYS": "no key"}], ids=["none", "wrong"])
def test_a_worker_that_opens_no_tokens_does_not_begin(settings: Settings, redis: Redis, keys: dict[str, str]) -> None:
    """It would give signs of life, and all that is queued would stay so."""
    ended = run_worker(settings, "--burst", **keys)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("SYNCLIGHT_TOKEN_KEYS: ")


def test_reading_has_its_turn_while_there_is_always_something_to_send(settings: Settings, redis: Redis) -> None:
    """Each worker takes from both queues in turn. The jobs are of the standard library: each gives back when it ran."""
    queues = [Queue(name, connection=redis, serializer=JSONSerializer) for name in (PUSH_QUEUE, PULL_QUEUE)]
    jobs = [queue.enqueue_call("time.monotonic", result_ttl=60) for queue in queues for _ in range(3)]
    ended = run_worker(settings, "--burst", SYNCLIGHT_TOKEN_KEYS=Fernet.generate_key().decode())
    assert ended.returncode == 0, ended.stderr
    ran = sorted(jobs, key=lambda job: job.latest_result().return_value)
    assert [job.origin for job in ran] == [PUSH_QUEUE, PULL_QUEUE] * 3
