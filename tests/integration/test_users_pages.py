"""The pages about people: what admins change for others, and everybody for themselves."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.locks import waits_for_a_lock
from tests.people import PASSWORD, add_admin, add_person, csrf_token, post, sign_in
from tests.stack import wait_until
from webapp.live.publish import CHANNEL
from webapp.services import Services
from webapp.users import accounts
from webapp.users.models import ADMIN, SALES, AuditEvent, User
from webapp.users.passwords import is_password

NEW_PASSWORD = "something else entirely"


@pytest.fixture
def admin(services: Services) -> User:
    return add_admin(services)


@pytest.fixture
def sam(services: Services) -> User:
    return add_person(services)


@pytest.fixture
def admins(client: FlaskClient, admin: User) -> FlaskClient:
    """A browser in which an admin is signed in."""
    assert sign_in(client, admin).status_code == 303
    return client


@pytest.fixture
def sams(app: Flask, sam: User) -> FlaskClient:
    """Another browser, in which Sam is signed in."""
    client = app.test_client()
    assert sign_in(client, sam).status_code == 303
    return client


def stored(services: Services, user: User) -> User:
    with Session(services.database.engine) as session:
        return session.get_one(User, user.id)


def last_event(services: Services) -> tuple[int | None, str, str, dict[str, Any]]:
    with Session(services.database.engine) as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
        return event.user_id, event.action, event.subject, event.data


def test_everybody_is_listed(admins: FlaskClient, services: Services, sam: User) -> None:
    with services.database.unit_of_work() as work:
        accounts.disable_user(work, work.session.get_one(User, sam.id))
        work.commit()
    page = admins.get("/users").text
    assert "Ada Admin" in page
    assert "(you)" in page
    assert page.index("Ada Admin") < page.index("Sam Sales"), "those who cannot sign in come last"
    assert "Sales, disabled" in page
    assert "Never" in page


def test_an_admin_adds_a_person_who_can_sign_in(
    app: Flask, admins: FlaskClient, admin: User, services: Services
) -> None:
    form = {"name": "  Noor   New ", "email": " noor@example.com", "role": SALES, "password": NEW_PASSWORD}
    answer = post(admins, "/users/new", form)
    assert (answer.status_code, answer.location) == (303, "/users")
    assert "Noor New was added" in admins.get("/users").text
    by, action, subject, data = last_event(services)
    assert (by, action, data) == (admin.id, "user_created", {"role": SALES})
    assert NEW_PASSWORD not in json.dumps(data) + subject
    assert sign_in(app.test_client(), "noor@example.com", NEW_PASSWORD).status_code == 303


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "  "}, "Enter a name."),
        ({"name": "x" * 101}, "Shorten the name to 100 letters."),
        ({"name": "\u200b"}, "Enter a name."),
        ({"email": ""}, "Enter an e-mail address."),
        ({"email": "noor"}, "Enter an e-mail address such as name@example.com."),
        ({"email": "noor@a@example.com"}, "Enter an e-mail address such as name@example.com."),
        ({"email": "SALES@example.com"}, "Somebody has this e-mail address already."),
        ({"role": "owner"}, "Choose a role."),
        ({"password": "elevenchars"}, "Use at least 12 characters."),
        ({"password": "x" * 257}, "Use at most 256 characters."),
        ({"password": "aaaaaaaaaaaaaaaa"}, "Use more than a few different characters."),
        ({"password": "Noor@example.com"}, "Use something other than the e-mail address."),
    ],
)
def test_a_form_that_is_wrong_says_why_and_keeps_what_was_typed(
    admins: FlaskClient, sam: User, wrong: dict[str, str], sentence: str
) -> None:
    form = {"name": "Noor New", "email": "noor@example.com", "role": ADMIN, "password": NEW_PASSWORD, **wrong}
    answer = post(admins, "/users/new", form)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert 'aria-invalid="true"' in answer.text
    if wrong.keys() != {"email"}:
        assert 'value="noor@example.com"' in answer.text
    assert form["password"] not in answer.text.replace(form["email"], ""), "a password is never sent back"


def test_an_admin_changes_a_role(admins: FlaskClient, admin: User, services: Services, sam: User) -> None:
    answer = post(admins, f"/users/{sam.id}/role", {"role": ADMIN})
    assert answer.status_code == 303
    assert "Sam Sales now has the role Admin." in admins.get("/users").text
    assert stored(services, sam).role == ADMIN
    assert last_event(services) == (admin.id, "role_changed", f"user:{sam.id}", {"role": ADMIN})
    assert post(admins, f"/users/{sam.id}/role", {"role": "owner"}).status_code == 422


def test_the_same_role_again_signs_nobody_out(admins: FlaskClient, sams: FlaskClient, sam: User) -> None:
    assert post(admins, f"/users/{sam.id}/role", {"role": SALES}).status_code == 303
    assert sams.get("/me").status_code == 200


def test_an_admin_disables_and_enables(
    app: Flask, admins: FlaskClient, admin: User, services: Services, sam: User
) -> None:
    assert post(admins, f"/users/{sam.id}/disable").status_code == 303
    assert last_event(services) == (admin.id, "user_disabled", f"user:{sam.id}", {})
    assert sign_in(app.test_client(), sam).status_code == 422
    assert post(admins, f"/users/{sam.id}/enable").status_code == 303
    assert last_event(services) == (admin.id, "user_enabled", f"user:{sam.id}", {})
    assert sign_in(app.test_client(), sam).status_code == 303


def test_an_admin_sets_a_password(app: Flask, admins: FlaskClient, admin: User, services: Services, sam: User) -> None:
    assert post(admins, f"/users/{sam.id}/password", {"password": "short"}).status_code == 422
    assert post(admins, f"/users/{sam.id}/password", {"password": NEW_PASSWORD}).status_code == 303
    assert last_event(services) == (admin.id, "password_set", f"user:{sam.id}", {})
    assert sign_in(app.test_client(), sam, PASSWORD).status_code == 422
    assert sign_in(app.test_client(), sam, NEW_PASSWORD).status_code == 303


def test_somebody_who_is_not_there_is_not_found(admins: FlaskClient) -> None:
    assert admins.get("/users/4711").status_code == 404
    assert admins.get("/users/47114711471147114711").status_code == 404
    for action in ("role", "password", "disable", "enable"):
        assert post(admins, f"/users/4711/{action}", {"role": SALES, "password": NEW_PASSWORD}).status_code == 404


@pytest.mark.parametrize(("action", "form"), [("disable", {}), ("role", {"role": SALES})])
def test_the_last_admin_stays(
    admins: FlaskClient, admin: User, services: Services, action: str, form: dict[str, str]
) -> None:
    answer = post(admins, f"/users/{admin.id}/{action}", form)
    assert answer.status_code == 422
    assert "This is the last admin." in answer.text
    assert stored(services, admin).is_admin
    assert admins.get("/users").status_code == 200, "and stays signed in"
    other = add_admin(services, "other@example.com")
    with services.database.unit_of_work() as work:
        accounts.disable_user(work, work.session.get_one(User, other.id))
        work.commit()
    assert post(admins, f"/users/{admin.id}/{action}", form).status_code == 422, "a disabled admin does not count"
    with services.database.unit_of_work() as work:
        accounts.enable_user(work, work.session.get_one(User, other.id))
        work.commit()
    assert post(admins, f"/users/{admin.id}/{action}", form).status_code == 303
    assert admins.get("/users").status_code == 302


def test_two_admins_who_demote_each_other_at_once_do_not_both_succeed(services: Services, admin: User) -> None:
    other = add_admin(services, "other@example.com")
    both_have_read = threading.Barrier(2)
    outcomes: list[str] = []

    def demote(victim: User) -> None:
        with services.database.unit_of_work() as work:
            user = work.session.get_one(User, victim.id)
            both_have_read.wait(timeout=10)
            try:
                accounts.change_role(work, user, SALES)
                work.commit()
                outcomes.append("done")
            except accounts.LastAdmin:
                outcomes.append("refused")

    threads = [threading.Thread(target=demote, args=(victim,)) for victim in (admin, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes) == ["done", "refused"]
    assert stored(services, admin).is_admin != stored(services, other).is_admin


def test_one_changes_ones_own_name(sams: FlaskClient, sam: User, services: Services) -> None:
    assert post(sams, "/me/name", {"name": "Samira"}).status_code == 303
    assert "Your name was changed." in sams.get("/me").text
    assert stored(services, sam).name == "Samira"
    assert last_event(services) == (sam.id, "user_renamed", f"user:{sam.id}", {})
    answer = post(sams, "/me/name", {"name": ""})
    assert answer.status_code == 422
    assert "Enter a name." in answer.text


def test_ones_own_password_ends_ones_other_sessions(app: Flask, sams: FlaskClient, sam: User) -> None:
    elsewhere = app.test_client()
    sign_in(elsewhere, sam)
    form = {"present_password": PASSWORD, "password": NEW_PASSWORD}
    assert post(sams, "/me/password", form).status_code == 303
    assert "Your password was changed." in sams.get("/me").text
    assert elsewhere.get("/me").status_code == 302
    assert sign_in(elsewhere, sam, NEW_PASSWORD).status_code == 303


def test_a_password_that_an_admin_sets_at_the_same_moment_stands(
    sams: FlaskClient, sam: User, services: Services
) -> None:
    """Somebody else who knows the old password must not get in by it a moment later."""
    token = csrf_token(sams, "/me")
    form = {"present_password": PASSWORD, "password": "chosen by somebody else", "csrf_token": token}
    with services.database.unit_of_work() as work, ThreadPoolExecutor(1) as other:
        accounts.set_password(work, work.session.get_one(User, sam.id), NEW_PASSWORD)
        work.session.flush()
        answer = other.submit(sams.post, "/me/password", data=form)
        wait_until(lambda: waits_for_a_lock(services))
        work.commit()
    assert answer.result().status_code == 422
    assert is_password(stored(services, sam).password_hash, NEW_PASSWORD)
    assert sams.get("/me").status_code == 302


def test_sessions_end_by_each_of_two_changes_at_once(services: Services, sam: User) -> None:
    """What began after the first of them ends by the second."""
    with services.database.unit_of_work() as second:
        user = second.session.get_one(User, sam.id)
        with services.database.unit_of_work() as first:
            accounts.change_role(first, first.session.get_one(User, sam.id), ADMIN)
            first.commit()
        began_in = stored(services, sam).session_epoch
        accounts.set_password(second, user, NEW_PASSWORD)
        second.commit()
    assert stored(services, sam).session_epoch > began_in


def test_ones_own_password_needs_the_present_one(sams: FlaskClient, sam: User, services: Services) -> None:
    before = stored(services, sam).password_hash
    answer = post(sams, "/me/password", {"present_password": "wrong", "password": NEW_PASSWORD})
    assert answer.status_code == 422
    assert "This is not your present password." in answer.text
    answer = post(sams, "/me/password", {"present_password": PASSWORD, "password": "short"})
    assert answer.status_code == 422
    assert "Use at least 12 characters." in answer.text
    assert stored(services, sam).password_hash == before


def test_a_name_is_text_and_never_markup(admins: FlaskClient, sam: User, services: Services) -> None:
    with services.database.unit_of_work() as work:
        accounts.rename_user(work, work.session.get_one(User, sam.id), "<img src=x onerror=alert(1)>")
        work.commit()
    for path in ("/users", f"/users/{sam.id}"):
        assert "<img src=x" not in admins.get(path).text
    answer = post(admins, f"/users/{sam.id}/disable")
    assert answer.status_code == 303
    assert "<img src=x" not in admins.get("/users").text


@pytest.mark.parametrize("change", ["disable", "role", "password", "logout", "own password"])
def test_open_sockets_are_closed_after_the_commit(
    admins: FlaskClient, sams: FlaskClient, sam: User, services: Services, change: str
) -> None:
    with services.redis.pubsub() as channel:
        channel.subscribe(CHANNEL)
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        if change == "logout":
            post(sams, "/logout")
        elif change == "own password":
            post(sams, "/me/password", {"present_password": PASSWORD, "password": NEW_PASSWORD})
        else:
            post(admins, f"/users/{sam.id}/{change}", {"role": ADMIN, "password": NEW_PASSWORD})
        told = channel.get_message(timeout=5)
        assert told is not None
        assert json.loads(told["data"])["close_user"] == sam.id


def test_what_was_rolled_back_closes_no_socket(services: Services, sam: User) -> None:
    with services.redis.pubsub() as channel:
        channel.subscribe(CHANNEL)
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        with services.database.unit_of_work() as work:
            accounts.disable_user(work, work.session.get_one(User, sam.id))
        services.redis.publish(CHANNEL, "the end")
        assert channel.get_message(timeout=5)["data"] == b"the end"
    assert stored(services, sam).active
