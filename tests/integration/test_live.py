"""From a commit to the sockets of the web processes: what comes, what does not, and who gets it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis
from socketio.exceptions import ConnectionError as SocketRefused
from sqlalchemy import URL, text

from tests.live_client import LiveClient
from tests.people import add_admin, add_person, post, sign_in
from tests.sandbox_process import free_port
from tests.statuses import give_status
from tests.web_processes import OwnRedis, WebProcesses, own_settings
from webapp.companies.models import Company
from webapp.config import Settings
from webapp.connection.models import Connection
from webapp.live.publish import CHANNEL
from webapp.services import Services
from webapp.status import Reason
from webapp.users import accounts
from webapp.users.models import User


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    with OwnRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(own_redis: OwnRedis) -> Iterator[Redis]:
    with Redis.from_url(own_redis.url) as connection:
        yield connection


@pytest.fixture(scope="module")
def settings(
    database_server: URL, template_database: str, own_redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    with own_settings(database_server, template_database, own_redis.url, tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest.fixture(scope="module")
def web(settings: Settings) -> Iterator[WebProcesses]:
    with WebProcesses(settings) as running:
        yield running


@pytest.fixture
def sam(services: Services) -> User:
    return add_person(services, email=f"{uuid4().hex}@example.com")


@pytest.fixture
def cookie(client: FlaskClient, sam: User) -> str:
    return signed_in_cookie(client, sam)


def signed_in_cookie(client: FlaskClient, user: User) -> str:
    """The session cookie of somebody who signs in now."""
    assert sign_in(client, user).status_code == 303
    name = client.application.config["SESSION_COOKIE_NAME"]
    held = client.get_cookie(name)
    assert held is not None
    return f"{name}={held.value}"


@pytest.fixture
def companies(services: Services) -> list[Company]:
    """Three companies of a connection."""
    with services.database.unit_of_work() as work:
        connection = Connection(api_url="http://127.0.0.1:1/v3.1", state="connected", business_name="Northwind")
        work.session.add(connection)
        work.session.flush()
        made = [Company(name=f"Company {number}", connection_id=connection.id, country="DE") for number in range(3)]
        work.session.add_all(made)
        work.commit()
    return made


@pytest.fixture
def change(services: Services) -> Callable[..., int]:
    """Give a company a new reason in a transaction of its own, as a worker does. Returns its new version."""

    def move_one(company: Company, reason: Reason = Reason.IN_STEP, detail: dict[str, Any] | None = None) -> int:
        with services.database.unit_of_work() as work:
            record = work.session.get_one(Company, company.id)
            give_status(work, record, reason, detail or {"code": str(reason)})
            work.commit()
            return record.version

    return move_one


@contextmanager
def listening(redis: Redis) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is published from now on: the function returns what came, up to a fence that it publishes itself."""
    with redis.pubsub() as channel:
        channel.subscribe(CHANNEL)
        channel.get_message(timeout=5)

        def heard() -> list[dict[str, Any]]:
            redis.publish(CHANNEL, json.dumps({"v": 1, "close_user": -1}))
            messages: list[dict[str, Any]] = []
            while True:
                message = channel.get_message(timeout=5)
                assert message is not None
                messages.append(json.loads(message["data"]))
                if messages[-1].get("close_user") == -1:
                    return messages[:-1]

        yield heard


def test_a_watch_is_answered_with_what_differs(
    web: WebProcesses, cookie: str, companies: list[Company], change: Callable[..., int]
) -> None:
    first, second, _ = companies
    newest = change(first)
    with LiveClient(web.url, cookie) as socket:
        answer = socket.watch({first.key: newest - 1, second.key: second.version, "company:999": 4, "nonsense": 0})
    assert answer["v"] == 1
    states = {state["key"]: state for state in answer["things"]}
    assert set(states) == {first.key, "company:999", "nonsense"}
    assert states[first.key]["version"] == newest
    assert states[first.key]["status"] == "synchronised"
    assert states[first.key]["values"]["country"] == "Germany"
    assert states["company:999"] == {"key": "company:999", "version": 4, "gone": True}


def test_a_committed_change_comes_with_its_counters_and_its_connection(
    web: WebProcesses, cookie: str, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    connection = f"connection:{company.connection_id}"
    with LiveClient(web.url, cookie, zone="Europe/Berlin") as socket:
        socket.watch({company.key: company.version, "module:companies": 0, connection: 0})
        before = socket.states["module:companies"]
        waiting = socket.states[connection]["waiting"]
        assert before["counts"]["not_synchronised"] >= 3
        version = change(company, Reason.QUEUED)
        assert socket.wait_for_version(company.key, version)["brief"] == "Queued"
        after = socket.wait_for_version("module:companies", before["version"] + 1)
        assert after["total"] == before["total"] == sum(after["counts"].values())
        assert after["counts"]["pending"] == before["counts"]["pending"] + 1
        assert after["counts"]["not_synchronised"] == before["counts"]["not_synchronised"] - 1
        socket.wait_for(lambda: socket.states[connection]["waiting"] == waiting + 1)


def test_each_socket_is_told_in_the_language_of_its_person(
    web: WebProcesses, cookie: str, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    german, french = f"{cookie}; language=de", f"{cookie}; language=fr"
    with LiveClient(web.url, german) as one, LiveClient(web.url, french) as other:
        # In the answer to a watch, and in a frame.
        one.watch({company.key: 0})
        other.watch({company.key: company.version})
        assert one.states[company.key]["values"]["country"] == "Deutschland"
        version = change(company, Reason.QUEUED)
        told = one.wait_for_version(company.key, version), other.wait_for_version(company.key, version)
    assert [state["label"] for state in told] == ["Synchronisierung ausstehend", "Synchronisation en attente"]
    assert told[0]["detail"].startswith("In der Warteschlange")
    assert told[1]["detail"].startswith("En file d\u2019attente")


def test_a_socket_gets_only_what_it_watches(
    web: WebProcesses, cookie: str, companies: list[Company], change: Callable[..., int]
) -> None:
    first, second, third = companies
    with LiveClient(web.url, cookie) as one, LiveClient(web.url, cookie) as other:
        one.watch({first.key: first.version, second.key: second.version})
        one.watch({first.key: first.version})
        other.watch({second.key: second.version})
        other.wait_for_version(second.key, change(second))
        change(third)
        one.wait_for_version(first.key, change(first))
        assert [state["key"] for _, things in one.frames for state in things] == [first.key]
        assert [state["key"] for _, things in other.frames for state in things] == [second.key]


def test_what_nobody_watches_is_not_published(
    services: Services, redis: Redis, companies: list[Company], change: Callable[..., int]
) -> None:
    redis.delete("synclight:watched")  # What the tests before watched is known for some seconds more.
    with listening(redis) as heard:
        change(companies[0])
        assert heard() == []


def test_what_is_watched_is_published_once_for_all(
    web: WebProcesses, cookie: str, redis: Redis, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    redis.delete("synclight:watched")
    with LiveClient(web.url, cookie) as one, LiveClient(web.url, cookie) as other, listening(redis) as heard:
        one.watch({company.key: company.version})
        other.watch({company.key: company.version})
        version = change(company)
        assert [[state["key"] for state in message["things"]] for message in heard()] == [[company.key]]
        one.wait_for_version(company.key, version)
        other.wait_for_version(company.key, version)


def test_what_is_no_longer_watched_ends_in_redis_by_itself(
    web: WebProcesses, cookie: str, redis: Redis, companies: list[Company]
) -> None:
    with LiveClient(web.url, cookie) as socket:
        socket.watch({companies[0].key: 0})
        seconds: int = redis.time()[0]
        end = redis.zscore("synclight:watched", companies[0].key)
        assert end is not None
        assert 0 < end - seconds <= 31


def test_an_older_state_never_replaces_a_newer_one(
    web: WebProcesses, cookie: str, redis: Redis, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    with LiveClient(web.url, cookie) as socket, listening(redis) as heard:
        socket.watch({company.key: company.version})
        socket.wait_for_version(company.key, change(company, Reason.QUEUED))
        late = heard()[0]
        socket.wait_for_version(company.key, change(company))
        redis.publish(CHANNEL, json.dumps(late))
        newest = change(company, Reason.QUEUED)
        socket.wait_for_version(company.key, newest)
        versions = [state["version"] for _, things in socket.frames for state in things]
        assert versions == sorted(set(versions))


def test_what_sage_said_literally_stays_in_the_server(
    web: WebProcesses, cookie: str, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    detail = {"code": "refused", "field": "email", "raw": {"$message": "LITERAL WORDS"}}
    with LiveClient(web.url, cookie) as socket:
        socket.watch({company.key: company.version})
        version = change(company, Reason.REJECTED, detail)
        state = socket.wait_for_version(company.key, version)
        assert state["detail"] == "Sage refused this company because of the e-mail. Correct it and save."
        answer = socket.watch({company.key: 0})
        assert "LITERAL" not in json.dumps([socket.frames, answer])


def test_a_storm_comes_as_ten_frames_a_second_and_ends_with_the_newest(
    web: WebProcesses, cookie: str, redis: Redis, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    with LiveClient(web.url, cookie) as socket:
        socket.watch({company.key: company.version})
        with listening(redis) as heard:
            socket.wait_for_version(company.key, change(company))
            state = heard()[0]["things"][0]
        before, began = len(socket.frames), time.monotonic()
        storm = 1000
        for number in range(1, storm + 1):
            redis.publish(CHANNEL, json.dumps({"v": 1, "things": [state | {"version": state["version"] + number}]}))
        socket.wait_for_version(company.key, state["version"] + storm)
        # From before the first was sent until the last has come: those between may have come late and close together.
        frames = socket.frames[before:]
        assert len(frames) <= 2 + 10 * (frames[-1][0] - began)
        assert all(len(things) == 1 for _, things in socket.frames)


def test_a_watch_that_is_none_is_refused_and_the_socket_stays(
    web: WebProcesses, cookie: str, companies: list[Company]
) -> None:
    with LiveClient(web.url, cookie) as socket:
        assert "error" in socket.send("everything")
        assert "500" in socket.send({"v": 1, "things": {f"company:{number}": 1 for number in range(501)}})["error"]
        assert socket.watch({companies[0].key: 0})["things"]
        assert socket.ended == []


def test_who_is_not_signed_in_is_refused(web: WebProcesses, cookie: str) -> None:
    name = cookie.partition("=")[0]
    for wrong in (None, f"{name}=forged", f"{cookie[:-6]}AAAAAA"):
        with pytest.raises(SocketRefused, match="namespaces failed to connect"):
            LiveClient(web.url, wrong).connect()


def test_a_page_of_another_site_is_refused(web: WebProcesses, cookie: str) -> None:
    with LiveClient(web.url, cookie, origin=web.url) as own:
        assert own.connected == 1
    with pytest.raises(SocketRefused, match="Connection error"):
        LiveClient(web.url, cookie, origin="https://elsewhere.example").connect()


def test_polling_is_refused(web: WebProcesses, cookie: str) -> None:
    client = LiveClient(web.url, cookie)
    client.transport = "polling"
    with pytest.raises(SocketRefused):
        client.connect()


def test_disabling_a_person_closes_their_sockets_at_once_and_no_others(
    app: Flask, web: WebProcesses, cookie: str, services: Services, sam: User, companies: list[Company]
) -> None:
    admin_cookie = signed_in_cookie(app.test_client(), add_admin(services, f"{uuid4().hex}@example.com"))
    # Four, so that both web processes have some.
    sockets = [LiveClient(web.url, cookie) for _ in range(4)]
    with LiveClient(web.url, admin_cookie) as others:
        for socket in sockets:
            socket.connect()
            socket.watch({companies[0].key: 0})
        with services.database.unit_of_work() as work:
            accounts.disable_user(work, work.session.get_one(User, sam.id))
            work.commit()
        for socket in sockets:
            socket.wait_until_ended()
        with pytest.raises(SocketRefused):
            LiveClient(web.url, cookie).connect()
        assert others.watch({companies[0].key: 0})["things"]
        assert others.ended == []


def test_closing_a_persons_sockets_twice_closes_no_others(
    app: Flask, web: WebProcesses, cookie: str, services: Services, sam: User, redis: Redis, companies: list[Company]
) -> None:
    admin_cookie = signed_in_cookie(app.test_client(), add_admin(services, f"{uuid4().hex}@example.com"))
    everybody = [LiveClient(web.url, admin_cookie).connect() for _ in range(4)]
    with LiveClient(web.url, cookie) as socket:
        socket.watch({companies[0].key: 0})
        with redis.pipeline(transaction=False) as both:
            for _ in range(2):
                both.publish(CHANNEL, json.dumps({"v": 1, "close_user": sam.id}))
            both.execute()
        socket.wait_until_ended()
    for other in everybody:
        assert other.watch({companies[0].key: 0})["things"]
        assert other.ended == []
        other.leave()


def test_signing_out_ends_the_sockets_of_that_session(
    web: WebProcesses, client: FlaskClient, cookie: str, companies: list[Company]
) -> None:
    with LiveClient(web.url, cookie) as socket:
        socket.watch({companies[0].key: 0})
        assert post(client, "/logout").status_code in (302, 303)
        socket.wait_until_ended()
        with pytest.raises(SocketRefused):
            LiveClient(web.url, cookie).connect()


def test_rights_are_read_at_each_watch(
    web: WebProcesses, cookie: str, services: Services, sam: User, companies: list[Company]
) -> None:
    with LiveClient(web.url, cookie) as socket:
        assert socket.watch({companies[0].key: 0})["things"]
        # Behind the back of everything that would tell the web processes.
        with services.database.engine.begin() as connection:
            connection.execute(text("UPDATE app_user SET active = false WHERE id = :id"), {"id": sam.id})
        socket.watch_without_waiting({companies[0].key: 0})
        socket.wait_until_ended()
        assert not any(answer for answer in socket.answers)


def test_what_redis_missed_while_it_was_away_comes_when_it_is_back(
    web: WebProcesses, cookie: str, own_redis: OwnRedis, companies: list[Company], change: Callable[..., int]
) -> None:
    first, second, _ = companies
    with LiveClient(web.url, cookie) as socket:
        socket.watch({first.key: first.version})
        own_redis.kill()
        missed = change(first)
        # A watch is answered from the database meanwhile.
        assert socket.watch({first.key: missed, second.key: 0})["things"][0]["key"] == second.key
        newer = change(first, Reason.QUEUED)
        own_redis.start()
        socket.wait_for_version(first.key, newer)
        socket.wait_for_version(second.key, change(second))
        assert socket.connected == 1


def test_an_emptied_redis_is_filled_again_and_what_was_missed_comes(
    web: WebProcesses, cookie: str, redis: Redis, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    with LiveClient(web.url, cookie) as socket:
        socket.watch({company.key: company.version})
        redis.flushall()
        missed = change(company)
        socket.wait_for_version(company.key, missed)
        assert redis.zscore("synclight:watched", company.key) is not None


def test_a_client_of_a_killed_web_process_is_right_again_by_itself(
    web: WebProcesses, cookie: str, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    with LiveClient(web.url, cookie) as socket:
        socket.watch({company.key: company.version})
        with web.killed():
            missed = change(company)
        socket.wait_for_version(company.key, missed)
        assert socket.connected == 2
        socket.wait_for_version(company.key, change(company, Reason.QUEUED))


def test_open_sockets_do_not_hold_up_a_stop(settings: Settings, web: WebProcesses, cookie: str) -> None:
    other = settings.model_copy(update={"port": free_port()})
    name, _, value = cookie.partition("=")
    with WebProcesses(other) as stopped:
        socket = LiveClient(stopped.url, f"{name.replace(str(settings.port), str(other.port))}={value}")
        socket.connect()
        stopped.stop()
        # Gunicorn's complaint where something was still open at the end of its patience.
        assert "graceful timeout" not in stopped.told()
        socket.wait_until_ended()
        socket.leave()
