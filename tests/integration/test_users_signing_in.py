"""Signing in, staying signed in, and the ends of a session."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import argon2
import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from tests.locks import waits_for_a_lock
from tests.people import PASSWORD, add_admin, add_person, csrf_token, post, sign_in
from tests.stack import wait_until
from webapp.services import Services
from webapp.users import accounts
from webapp.users.access import IDLE, LONGEST, user_of_socket
from webapp.users.models import ADMIN, SALES, AuditEvent, EndedSession, User
from webapp.users.passwords import is_password
from webapp.users.throttle import PER_ACCOUNT, PER_ADDRESS, Throttle

TRIES_PER_ACCOUNT = PER_ACCOUNT[0].amount
TRIES_PER_ADDRESS = PER_ADDRESS[0].amount


def is_signed_in(client: FlaskClient) -> bool:
    answer = client.get("/me")
    assert answer.status_code in (200, 302), answer.text
    return answer.status_code == 200


def copy_of(app: Flask, client: FlaskClient) -> FlaskClient:
    """Another browser with a copy of the cookie, as a thief would have it."""
    thief = app.test_client()
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    thief.set_cookie(name, cookie.value)
    return thief


def actions(services: Services) -> list[tuple[str, str]]:
    with Session(services.database.engine) as session:
        events = session.scalars(select(AuditEvent).order_by(AuditEvent.id))
        return [(event.action, event.subject) for event in events]


def reload(services: Services, user: User) -> User:
    with Session(services.database.engine) as session:
        return session.get_one(User, user.id)


@pytest.fixture(autouse=True)
def quick_passwords() -> None:
    """They cost here what they cost in earnest."""


@pytest.fixture
def sam(services: Services) -> User:
    return add_person(services)


def test_signing_in_opens_the_page_that_was_asked_for(client: FlaskClient, services: Services, sam: User) -> None:
    asked = client.get("/me?tab=1")
    assert asked.status_code == 302
    assert asked.location == "/login?next=/me?tab%3D1"
    page = client.get(asked.location)
    assert 'name="next" value="/me?tab=1"' in page.text
    answer = sign_in(client, sam, next="/me?tab=1")
    assert (answer.status_code, answer.location) == (303, "/me?tab=1")
    assert is_signed_in(client)
    assert reload(services, sam).last_login_at is not None
    assert client.get("/login").location == "/"


def test_the_address_may_be_written_in_any_case(client: FlaskClient, sam: User) -> None:
    assert sign_in(client, "  SALES@Example.com ").status_code == 303


def test_another_way_to_write_the_same_letters_is_the_same_password(client: FlaskClient, services: Services) -> None:
    with services.database.unit_of_work() as work:
        accounts.create_user(work, "umlaut@example.com", "Una", SALES, "schöne Grüße")
        work.commit()
    decomposed = "scho\u0308ne Gru\u0308ße"
    assert sign_in(client, "umlaut@example.com", decomposed).status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "/\t/evil.example/",
        "/\n/evil.example/",
        "javascript:alert(1)",
        "evil",
        "",
    ],
)
def test_after_signing_in_no_other_site_can_be_named(client: FlaskClient, sam: User, target: str) -> None:
    assert sign_in(client, sam, next=target).location == "/"


def test_a_wrong_password_and_an_unknown_address_look_the_same(
    client: FlaskClient, services: Services, sam: User
) -> None:
    wrong = sign_in(client, sam, "wrong password")
    unknown = sign_in(client, "nobody@example.com", "wrong password")
    assert wrong.status_code == unknown.status_code == 422

    def without_what_differs(page: str, email: str) -> str:
        return page.replace(email, "EMAIL").split("csrf_token")[0]

    assert without_what_differs(wrong.text, sam.email) == without_what_differs(unknown.text, "nobody@example.com")
    assert "is not right" in wrong.text
    assert "wrong password" not in wrong.text
    assert not is_signed_in(client)
    assert actions(services)[-1] == ("sign_in_refused", f"user:{sam.id}")


def test_an_unknown_address_takes_as_long_as_a_wrong_password(
    services: Services, sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash takes nearly all of the time, so what counts is that one of the same cost is computed for both."""
    costs: list[argon2.Parameters] = []
    verify = PasswordHasher.verify

    def noted(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
        costs.append(argon2.extract_parameters(password_hash))
        return verify(hasher, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", noted)
    with services.database.unit_of_work() as work:
        assert accounts.sign_in(work, sam.email, "wrong password") is None
        assert accounts.sign_in(work, "nobody@example.com", "wrong password") is None
    known, unknown = costs
    assert known == unknown


def test_a_disabled_person_cannot_sign_in(client: FlaskClient, services: Services, sam: User) -> None:
    with services.database.unit_of_work() as work:
        accounts.disable_user(work, work.session.get_one(User, sam.id))
        work.commit()
    assert sign_in(client, sam).status_code == 422
    assert not is_signed_in(client)


def test_a_hash_with_old_parameters_is_made_anew(client: FlaskClient, services: Services, sam: User) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    with services.database.unit_of_work() as work:
        work.session.get_one(User, sam.id).password_hash = old
        work.commit()
    assert sign_in(client, sam, "wrong password").status_code == 422
    assert reload(services, sam).password_hash == old
    assert sign_in(client, sam).status_code == 303
    assert reload(services, sam).password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_a_password_that_is_set_while_somebody_signs_in_with_the_old_one_stands(services: Services, sam: User) -> None:
    with services.database.unit_of_work() as work:
        old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
        work.session.get_one(User, sam.id).password_hash = old
        work.commit()
    with services.database.unit_of_work() as work, ThreadPoolExecutor(1) as other:
        accounts.set_password(work, work.session.get_one(User, sam.id), "something else entirely")
        work.session.flush()

        def sign_in_meanwhile() -> None:
            with services.database.unit_of_work() as signing_in:
                accounts.sign_in(signing_in, sam.email, PASSWORD)
                signing_in.commit()

        done = other.submit(sign_in_meanwhile)
        wait_until(lambda: waits_for_a_lock(services))
        work.commit()
    done.result()
    assert is_password(reload(services, sam).password_hash, "something else entirely")


def test_nothing_of_the_session_before_survives_signing_in(client: FlaskClient, sam: User) -> None:
    before = csrf_token(client)
    sign_in(client, sam)
    assert client.post("/me/name", data={"name": "Sam", "csrf_token": before}).status_code == 400


def test_a_copy_of_the_cookie_ends_with_its_session(
    app: Flask, client: FlaskClient, services: Services, sam: User
) -> None:
    sign_in(client, sam)
    other = app.test_client()
    sign_in(other, sam)
    thief = copy_of(app, client)
    assert is_signed_in(thief)
    answer = post(client, "/logout")
    assert (answer.status_code, answer.location) == (303, "/login")
    assert answer.headers["Clear-Site-Data"] == '"storage"', "nothing that was typed stays in the browser"
    assert not is_signed_in(client)
    assert not is_signed_in(thief)
    assert is_signed_in(other), "another browser of the same person stays signed in"
    assert actions(services)[-1] == ("signed_out", f"user:{sam.id}")


def test_ended_sessions_are_forgotten_when_they_would_have_ended_anyway(services: Services, sam: User) -> None:
    with services.database.unit_of_work() as work:
        user = work.session.get_one(User, sam.id)
        accounts.end_session(work, user, "old", user.created_at - timedelta(days=1))
        accounts.end_session(work, user, "new", user.created_at + LONGEST)
        work.commit()
        assert work.session.scalars(select(EndedSession.id)).all() == ["new"]


def test_a_session_ends_after_the_idle_time(
    app: Flask, client: FlaskClient, sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, sam)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + IDLE.total_seconds() - 60)
    assert is_signed_in(client)
    # The request before was a sign of life, and it stamped the cookie anew.
    monkeypatch.setattr(time, "time", lambda: now + 2 * IDLE.total_seconds() - 120)
    assert is_signed_in(client)
    monkeypatch.setattr(time, "time", lambda: now + 3 * IDLE.total_seconds())
    assert not is_signed_in(client)


def test_a_session_ends_after_its_longest_time_however_busy(
    app: Flask, client: FlaskClient, sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, sam)
    now = time.time()
    step = IDLE.total_seconds() / 2
    hours = 0.0
    while hours + step < LONGEST.total_seconds():
        hours += step
        monkeypatch.setattr(time, "time", lambda hours=hours: now + hours)
        assert is_signed_in(client)
    monkeypatch.setattr(time, "time", lambda: now + LONGEST.total_seconds() + 2)
    assert not is_signed_in(client)


def test_the_cookie_is_not_written_with_every_answer(client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    client.get("/me")
    assert "Set-Cookie" not in client.get("/me").headers


@pytest.mark.parametrize("change", ["disable", "role", "password"])
def test_what_an_admin_changes_ends_all_sessions_of_a_person(
    app: Flask, client: FlaskClient, services: Services, sam: User, change: str
) -> None:
    admin = add_admin(services)
    sign_in(client, sam)
    admins_browser = app.test_client()
    sign_in(admins_browser, admin)
    forms = {
        "disable": ("disable", {}),
        "role": ("role", {"role": ADMIN}),
        "password": ("password", {"password": "something else entirely"}),
    }
    path, form = forms[change]
    assert post(admins_browser, f"/users/{sam.id}/{path}", form).status_code == 303
    answer = client.get("/me")
    assert (answer.status_code, answer.location) == (302, "/login?next=/me")
    assert is_signed_in(admins_browser)


def test_enabling_a_person_revives_no_session(client: FlaskClient, services: Services, sam: User) -> None:
    sign_in(client, sam)
    with services.database.unit_of_work() as work:
        user = work.session.get_one(User, sam.id)
        accounts.disable_user(work, user)
        accounts.enable_user(work, user)
        work.commit()
    assert not is_signed_in(client)
    assert sign_in(client, sam).status_code == 303


def test_a_socket_knows_its_person_only_as_long_as_the_session_holds(
    app: Flask, client: FlaskClient, services: Services, sam: User
) -> None:
    sign_in(client, sam)
    cookie = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    assert cookie is not None
    handshake = {"headers": {"Cookie": f"{cookie.key}={cookie.value}"}}

    with app.test_request_context("/socket.io/", **handshake):
        user = user_of_socket()
        assert user is not None
        assert (user.id, user.role) == (sam.id, SALES)
        with services.database.unit_of_work() as work:
            accounts.disable_user(work, work.session.get_one(User, sam.id))
            work.commit()
        # In the same request context: the socket's handshake is as old as the socket.
        assert user_of_socket() is None
    with app.test_request_context("/socket.io/"):
        assert user_of_socket() is None
    with app.test_request_context("/socket.io/", headers={"Cookie": f"{cookie.key}=forged{cookie.value}"}):
        assert user_of_socket() is None


# The throttle.


def test_wrong_passwords_for_one_account_are_slowed_down(app: Flask, client: FlaskClient, sam: User) -> None:
    for number in range(TRIES_PER_ACCOUNT):
        # From another address each time: the account has a counter of its own.
        answer = sign_in_from(app, f"192.0.2.{number}", sam.email, "wrong password")
        assert answer.status_code == 422
    refused = sign_in_from(app, "192.0.2.99", sam.email, PASSWORD)
    assert refused.status_code == 429
    wait = int(refused.headers["Retry-After"])
    assert 0 < wait <= 60
    assert f"Try again in {wait} seconds." in refused.text
    assert sam.email in refused.text, "what was typed stays"
    other_spelling = sign_in_from(app, "192.0.2.99", sam.email.upper(), PASSWORD)
    assert other_spelling.status_code == 429


def test_one_address_cannot_try_many_accounts(app: Flask, sam: User) -> None:
    for number in range(TRIES_PER_ADDRESS):
        assert sign_in_from(app, "192.0.2.1", f"person{number}@example.com", "wrong password").status_code == 422
    assert sign_in_from(app, "192.0.2.1", sam.email, PASSWORD).status_code == 429
    assert sign_in_from(app, "192.0.2.2", sam.email, PASSWORD).status_code == 303


def test_signing_in_rightly_is_never_slowed_down(app: Flask, sam: User) -> None:
    for _ in range(TRIES_PER_ADDRESS + 1):
        assert sign_in_from(app, "192.0.2.1", sam.email, PASSWORD).status_code == 303


def test_the_present_password_cannot_be_guessed_from_a_session(client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    form = {"present_password": "wrong password", "password": "something else entirely"}
    for _ in range(TRIES_PER_ACCOUNT):
        assert post(client, "/me/password", form).status_code == 422
    refused = post(client, "/me/password", {**form, "present_password": PASSWORD})
    assert refused.status_code == 429
    assert f"Try again in {refused.headers['Retry-After']} seconds." in refused.text
    assert "New password" in refused.text, "it stays on its page"


def test_tries_are_counted_together_by_all_processes(services: Services) -> None:
    one, other = Throttle(services.redis), Throttle(services.redis)
    for _ in range(TRIES_PER_ACCOUNT):
        assert one.count("a@example.com", "192.0.2.1") is None
    assert other.count("a@example.com", "192.0.2.1") is not None


def test_many_guesses_at_once_do_not_slip_through(services: Services) -> None:
    throttle = Throttle(services.redis)
    # All are counted before the first password is looked at.
    answers = [throttle.count("a@example.com", "192.0.2.1") for _ in range(3 * TRIES_PER_ACCOUNT)]
    assert answers.count(None) == TRIES_PER_ACCOUNT


def test_what_is_typed_takes_little_room(client: FlaskClient, services: Services) -> None:
    sign_in(client, "x" * 100_000)
    assert max(len(key) for key in services.redis.keys("synclight:tries:*")) < 200


def test_without_redis_people_sign_in_and_guesses_are_still_counted(app_without_redis: Flask, sam: User) -> None:
    client = app_without_redis.test_client()
    assert sign_in(client, sam).status_code == 303
    assert is_signed_in(client)
    for _ in range(TRIES_PER_ACCOUNT):
        assert sign_in_from(app_without_redis, "192.0.2.1", sam.email, "wrong password").status_code == 422
    assert sign_in_from(app_without_redis, "192.0.2.1", sam.email, PASSWORD).status_code == 429
    assert post(client, "/logout").status_code == 303


def sign_in_from(app: Flask, address: str, email: str, password: str) -> TestResponse:
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    return sign_in(client, email, password)
