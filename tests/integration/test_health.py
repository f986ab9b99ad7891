"""What machines ask: /healthz, /readyz, /metrics."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from rq import Queue, Worker
from rq.utils import utcformat

from tests.integration.test_cli import add_company
from tests.people import add_person, post, sign_in
from webapp import create_app
from webapp.config import Settings
from webapp.connection.models import Connection
from webapp.queue import PUSH_QUEUE
from webapp.services import Services

TOKEN = "a token for metrics"


@pytest.fixture
def worker(redis: Redis) -> Iterator[Worker]:
    """A worker as Redis knows it, though it does no work."""
    made = Worker([Queue(PUSH_QUEUE, connection=redis)], connection=redis, name="quiet")
    made.register_birth()
    yield made
    made.register_death()


def figures(client: FlaskClient, **headers: str) -> dict[tuple[str, ...], float]:
    """The metrics: name and values of the labels -> figure."""
    text = client.get("/metrics", headers=headers).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def body_of(page: str) -> str:
    """The tag of the body, with its attributes."""
    return page[page.index("<body") : page.index(">", page.index("<body"))]


def test_ready_with_all_that_it_needs(client: FlaskClient, worker: Worker) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"ready": True, "reasons": {}})


def test_not_ready_without_a_worker(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {"ready": False, "reasons": {"worker": "None has given a sign of life for 30 s."}}


def test_not_ready_when_the_workers_fell_silent(client: FlaskClient, worker: Worker, redis: Redis) -> None:
    redis.hset(worker.key, "last_heartbeat", utcformat(datetime.now(UTC) - timedelta(seconds=31)))
    assert client.get("/readyz").status_code == 503
    redis.hset(worker.key, "last_heartbeat", utcformat(datetime.now(UTC) - timedelta(seconds=25)))
    assert client.get("/readyz").status_code == 200


def test_people_see_it_too_when_the_workers_fell_silent(
    browser_of_sam: FlaskClient,
    connection: Connection,
    worker: Worker,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = ("/connection", "/companies", "/orders")
    for page in pages:
        assert "data-still" not in body_of(browser_of_sam.get(page).text)
    redis.hset(worker.key, "last_heartbeat", utcformat(datetime.now(UTC) - timedelta(seconds=31)))
    monkeypatch.setattr("webapp.pulse.ASK_SECONDS", 0)
    for page in pages:
        shown = browser_of_sam.get(page).text
        assert "data-still" in body_of(shown)
        assert "a part of Synclight has stopped" in shown
        assert ">Stopped<" in shown


def test_what_an_admin_begins_while_nobody_works_is_said_to_wait(
    browser_of_admin: FlaskClient, connection: Connection, worker: Worker, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = "This begins as soon as a worker of Synclight runs again."

    def told(action: str) -> str:
        post(browser_of_admin, f"/connection/{connection.id}/{action}")
        return browser_of_admin.get("/connection").text

    assert "Changes are fetched from Sage now." in told("fetch")
    redis.hset(worker.key, "last_heartbeat", utcformat(datetime.now(UTC) - timedelta(seconds=31)))
    monkeypatch.setattr("webapp.pulse.ASK_SECONDS", 0)
    for action in ("fetch", "compare"):
        page = told(action)
        assert waits in page
        assert "from Sage now" not in page
    assert waits not in told("pause")
    assert waits in told("resume")


def test_pages_ask_for_the_workers_once_in_a_while_and_do_not_wait_for_a_silent_redis(
    settings: Settings, services: Services, connection: Connection, worker: Worker, redis: Redis
) -> None:
    def told() -> int:
        return int(redis.info("commandstats").get("cmdstat_smembers", {"calls": 0})["calls"])

    sam = add_person(services)
    client = create_app(settings).test_client()
    sign_in(client, sam)
    before = told()
    for _ in range(10):
        assert "data-still" not in body_of(client.get("/companies").text)
    assert told() == before + 1

    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = settings.model_copy(update={"redis_url_setting": f"redis://127.0.0.1:{silent.getsockname()[1]}"})
        lonely = create_app(away).test_client()
        held = client.get_cookie(client.application.config["SESSION_COOKIE_NAME"])
        assert held is not None
        lonely.set_cookie(held.key, held.value)
        began = monotonic()
        for _ in range(10):
            assert "data-still" in body_of(lonely.get("/companies").text)
        assert monotonic() - began < 2


@pytest.fixture
def lonely(settings: Settings) -> Flask:
    """The app where neither its database nor its Redis are."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    away = {
        "database_url_setting": f"postgresql+psycopg://nobody@127.0.0.1:{port}/nothing",
        "redis_url_setting": f"redis://127.0.0.1:{port}",
    }
    return create_app(settings.model_copy(update=away))


def test_not_ready_without_database_and_redis(lonely: Flask) -> None:
    answer = lonely.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json is not None
    assert set(answer.json["reasons"]) == {"database", "redis"}
    assert "nobody" not in answer.text


def test_lives_without_database_and_redis(lonely: Flask) -> None:
    assert lonely.test_client().get("/healthz").status_code == 200


def test_metrics_without_database_and_redis(lonely: Flask) -> None:
    found = figures(lonely.test_client())
    assert found["synclight_up", "database"] == found["synclight_up", "redis"] == 0
    assert not [name for name in found if name[0] == "synclight_records"]


def test_metrics(client: FlaskClient, services: Services, worker: Worker, redis: Redis) -> None:
    add_company(services)
    Queue(PUSH_QUEUE, connection=redis).empty()
    services.jobs.pull(1)
    found = figures(client)
    assert found["synclight_records", "companies", "pending"] == 1
    assert found["synclight_records", "companies", "synchronised"] == 0
    assert found["synclight_records", "orders", "review"] == 0
    assert found["synclight_jobs_waiting", "push"] == 0
    assert found["synclight_jobs_waiting", "pull"] == 1
    assert found["synclight_workers",] == 1
    states = {name[2]: figure for name, figure in found.items() if name[0] == "synclight_connection_state"}
    assert [state for state, figure in states.items() if figure] == ["connected"]
    assert found["synclight_web_resident_memory_bytes",] > 10_000_000
    assert found["synclight_up", "database"] == found["synclight_up", "redis"] == 1


def test_metrics_are_for_this_machine(client: FlaskClient) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403
    assert client.get("/metrics", environ_base={"REMOTE_ADDR": "::1"}).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_metrics_are_not_for_whoever_comes_through_a_proxy_of_this_machine(client: FlaskClient, header: str) -> None:
    assert client.get("/metrics", headers={header: "192.0.2.7"}).status_code == 403


def test_metrics_with_a_token(settings: Settings, redis: Redis) -> None:
    app = create_app(Settings.model_validate({**settings.model_dump(by_alias=True), "metrics_token": TOKEN}))
    far = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
    client = app.test_client()
    assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, **far).status_code == 200
    for wrong in (f"Bearer {TOKEN}x", "Bearer ", TOKEN):
        assert client.get("/metrics", headers={"Authorization": wrong}, **far).status_code == 403
