"""What every route and every response must keep to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy import Integer, Text, bindparam, cast, column, select, table
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.people import add_admin, add_person, csrf_token, post, sign_in
from webapp import create_app, errors
from webapp.config import Settings
from webapp.db import Prepared
from webapp.importing.run import copy_in
from webapp.logs import _EXCEPTION_AS_FIELDS
from webapp.security import is_from_other_site, secret_key
from webapp.services import Services
from webapp.users.models import User

# Who may use which route. A route that stands nowhere fails the first test: say here who may use it.
EVERYBODY = {
    "address_too_long",
    "static",
    "theme.choose",
    "theme.choose_language",
    "users.sign_in_page",
    "users.sign_in",
    "offline.worker",
    "offline.page",
    "health.alive",
    "health.ready",
    "health.metrics",
}
ADMINS = {
    "users.people_page",
    "users.new_person_page",
    "users.add_person",
    "users.person_page",
    "users.change_role",
    "users.set_password",
    "users.disable",
    "users.enable",
    "sync.resync_record",
    "sync.make_one_of_two",
    "sync.restore_in_sage",
    "sync.unlink_here",
    "connection.pause",
    "highlighted.page",
    "highlighted.choose",
    "connection.resume",
    "connection.compare",
    "connection.fetch",
    "connection.add",
    "connection.new_page",
    "connection.remove",
    "connection.choose",
    "connection.disconnect",
    "connection.set_directions",
    "connection.authorise",
    "connection.callback",
}
SIGNED_IN = {
    "start",
    "users.sign_out",
    "users.profile",
    "users.change_own_name",
    "users.change_own_language",
    "users.change_own_password",
    "companies.list_page",
    "companies.counts",
    "companies.city_suggestions",
    "companies.record_page",
    "companies.new_page",
    "companies.create",
    "companies.edit_page",
    "companies.edit",
    "contacts.list_page",
    "contacts.counts",
    "contacts.record_page",
    "contacts.new_page",
    "contacts.create",
    "contacts.edit_page",
    "contacts.edit",
    "products.list_page",
    "products.counts",
    "products.record_page",
    "products.new_page",
    "products.create",
    "products.edit_page",
    "products.edit",
    "orders.list_page",
    "orders.counts",
    "orders.record_page",
    "orders.new_page",
    "orders.create",
    "orders.edit_page",
    "orders.edit",
    "orders.confirm",
    "sync.choose_values",
    "sync.take_back",
    "connection.page",
    "connection.one_page",
    "filters.page",
    "filters.save",
    "filters.rename",
    "filters.delete",
}


HTMX = {"HX-Request": "true", "HX-Request-Type": "full"}


@pytest.fixture
def sam(services: Services) -> User:
    return add_person(services)


def rules(app: Flask, endpoints: set[str]) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint in endpoints]


def path_of(app: Flask, rule: Rule) -> str:
    """An address that the rule takes, of something that need not be there."""
    examples = {"IdConverter": 1, "ModuleConverter": "companies"}
    values = {name: examples.get(type(converter).__name__, "x") for name, converter in rule._converters.items()}
    with app.test_request_context():
        return app.url_for(rule.endpoint, **values)


def ask(client: FlaskClient, path: str, method: str, token: str | None = None) -> TestResponse:
    data = {"csrf_token": token} if token else {}
    return client.open(path, method=method, data=data if method == "POST" else None)


def test_every_route_says_who_may_use_it(app: Flask) -> None:
    named = EVERYBODY | ADMINS | SIGNED_IN
    assert {rule.endpoint for rule in app.url_map.iter_rules()} - named == set()


def test_strangers_are_sent_to_sign_in_everywhere_else(app: Flask, client: FlaskClient) -> None:
    token = csrf_token(client)
    asked = 0
    for rule in rules(app, ADMINS | SIGNED_IN):
        path = path_of(app, rule)
        for method in rule.methods & {"GET", "POST"}:
            answer = ask(client, path, method, token)
            if method == "GET":
                assert answer.status_code == 302, (method, path)
                assert answer.location.startswith("/login?next="), path
            else:
                assert answer.status_code == 401, (method, path)
                assert "Sign in" in answer.text
            asked += 1
    assert asked > 10


def test_sales_staff_are_kept_out_of_what_is_for_admins(app: Flask, client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    token = csrf_token(client, "/me")
    for rule in rules(app, ADMINS):
        path = path_of(app, rule)
        for method in rule.methods & {"GET", "POST"}:
            answer = ask(client, path, method, token)
            assert answer.status_code == 403, (method, path)
            assert "For admins only" in answer.text


@pytest.mark.parametrize("sent", ["nothing", "forged", "of another session"])
def test_no_form_is_taken_without_its_token(app: Flask, client: FlaskClient, services: Services, sent: str) -> None:
    sign_in(client, add_admin(services))
    token = {"nothing": None, "forged": "forged", "of another session": csrf_token(app.test_client())}[sent]
    asked = 0
    for rule in app.url_map.iter_rules():
        if "POST" in rule.methods:
            path = path_of(app, rule)
            assert ask(client, path, "POST", token).status_code == 400, path
            asked += 1
    assert asked > 5


def test_the_token_may_come_in_a_header(client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    token = csrf_token(client, "/me")
    assert client.post("/me/name", data={"name": "Sam"}, headers={"X-CSRFToken": token}).status_code == 303
    assert client.post("/me/name", data={"name": "Sam"}, headers={"X-CSRFToken": "forged"}).status_code == 400


def test_no_route_changes_anything_by_another_method(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        assert rule.methods <= {"GET", "HEAD", "OPTIONS", "POST"}, rule


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://localhost.evil.example"}, True),
        ({"Origin": "http://localhost:8001"}, True),
        ({"Origin": "http://localhost"}, False),
        ({}, False),
    ],
)
def test_forms_of_other_sites_are_refused_even_with_a_token(
    client: FlaskClient, sam: User, headers: dict[str, str], refused: bool
) -> None:
    sign_in(client, sam)
    form = {"name": "Somebody Else", "csrf_token": csrf_token(client, "/me")}
    answer = client.post("/me/name", data=form, headers=headers)
    assert answer.status_code == (403 if refused else 303)
    if refused:
        assert "Another site sent this request" in answer.text
        assert "csrf_token" not in answer.text.split('id="page"')[1], "it must not offer to send it again"


def test_a_proxy_may_stand_between_under_another_name() -> None:
    own = ("https://sync.example.com", "http://127.0.0.1:8000")
    assert not is_from_other_site(None, "https://sync.example.com", own)
    assert is_from_other_site(None, "http://sync.example.com", own)


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_was_typed_survives_a_form_that_is_out_of_date(
    client: FlaskClient, services: Services, sam: User, headers: dict[str, str]
) -> None:
    sign_in(client, sam)
    typed = {"name": 'Sam "the <b>Pen"', "csrf_token": "of last week"}
    answer = client.post("/me/name", data=typed, headers=headers)
    assert answer.status_code == 400
    assert "What you typed is kept." in answer.text
    assert 'name="name" value="Sam &#34;the &lt;b&gt;Pen&#34;"' in answer.text
    assert ("<html" in answer.text) == (not headers)
    assert answer.headers.get("HX-Push-Url") == ("false" if headers else None)
    page = answer.text.split('id="page"')[1]
    form = dict(re.findall(r'name="([a-z_]+)" value="([^"]*)"', page))
    assert 'action="/me/name"' in page
    assert client.post("/me/name", data={**form, "name": "Sam the Pen"}).status_code == 303


def test_what_was_typed_survives_the_end_of_a_session(app: Flask, client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    token = csrf_token(client, "/me")
    other_tab = app.test_client()
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    other_tab.set_cookie(name, cookie.value)
    post(other_tab, "/logout")
    answer = client.post("/me/name", data={"name": "Samuel", "csrf_token": token})
    assert answer.status_code == 401
    assert "You were signed out" in answer.text
    assert 'name="name" value="Samuel"' in answer.text


def test_a_password_is_never_sent_back(client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    form = {"present_password": "my old secret", "password": "my new secret", "csrf_token": "old"}
    answer = client.post("/me/password", data=form)
    assert answer.status_code == 400
    assert "secret" not in answer.text.split('id="page"')[1].replace("form_was_secret", "")
    answer = client.post(
        "/login", data={"email": "sales@example.com", "password": "my old secret", "csrf_token": "old"}
    )
    assert answer.status_code == 400
    assert "my old secret" not in answer.text
    assert 'value="sales@example.com"' in answer.text
    assert "Type your password once more" in answer.text


def test_htmx_is_sent_to_the_page_to_sign_in_as_a_whole(client: FlaskClient) -> None:
    answer = client.get("/me", headers=HTMX)
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/me"
    assert answer.text == ""


# Headers and cookies.


def test_all_responses_carry_the_policies(app: Flask, client: FlaskClient) -> None:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self' ws://127.0.0.1:8000; manifest-src 'self'; worker-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    with app.test_request_context():
        style = app.url_for("static", filename="icons/synclight.svg")
    for path in ("/login", "/nothing-here", "/companies", style):
        headers = client.get(path).headers
        assert headers["Content-Security-Policy"] == policy, path
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        assert "Strict-Transport-Security" not in headers, "there is no TLS here"


def test_pages_are_kept_nowhere_and_parts_apart(client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    headers = client.get("/me").headers
    assert headers["Cache-Control"] == "no-store"
    assert "HX-Request" in headers["Vary"]


def test_the_cookie_is_for_http_alone(client: FlaskClient, sam: User) -> None:
    cookie = sign_in(client, sam).headers["Set-Cookie"]
    assert cookie.startswith("synclight-8000=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "Domain" not in cookie


@pytest.fixture
def public_app(settings: Settings) -> Iterator[Flask]:
    made = create_app(settings.model_copy(update={"public_origin": "https://sync.example.com"}))
    yield made
    made.extensions["synclight"].database.engine.dispose()


def test_behind_tls_the_cookie_is_secure_and_the_proxy_is_believed(public_app: Flask, sam: User) -> None:
    client = public_app.test_client()
    client.environ_base["REMOTE_ADDR"] = "127.0.0.1"
    proxy = {
        "X-Forwarded-For": "203.0.113.7, 192.0.2.55",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "sync.example.com",
        "Origin": "https://sync.example.com",
    }
    page = client.get("/login", headers=proxy, base_url="https://sync.example.com")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert token
    form = {"email": sam.email, "password": "wrong", "csrf_token": token[1]}
    answer = client.post("/login", data=form, headers=proxy, base_url="https://sync.example.com")
    assert answer.status_code == 422
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Host-synclight=")
    assert "; Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert page.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    assert "connect-src 'self' wss://sync.example.com;" in page.headers["Content-Security-Policy"]
    tries = public_app.extensions["synclight"].redis.keys("synclight:tries:*")
    assert any(b"192.0.2.55" in key for key in tries), "the address is the one that our own proxy saw"
    assert not any(b"203.0.113.7" in key for key in tries)


def test_without_a_proxy_nobody_is_believed(app: Flask, client: FlaskClient, sam: User, services: Services) -> None:
    token = csrf_token(client)
    form = {"email": sam.email, "password": "wrong", "csrf_token": token}
    client.post("/login", data=form, headers={"X-Forwarded-For": "192.0.2.55"})
    tries = services.redis.keys("synclight:tries:*")
    assert tries
    assert not any(b"192.0.2.55" in key for key in tries)


def test_static_files_are_kept_for_ever_under_their_release(app: Flask, client: FlaskClient) -> None:
    with app.test_request_context():
        path = app.url_for("static", filename="icons/synclight.svg")
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Set-Cookie" not in answer.headers
    other_release = re.sub(r"/static/\w+/", "/static/0123456789ab/", path)
    answer = client.get(other_release)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get(path.replace("icons/", "icons/../../")).status_code == 404


# The key.


def test_the_key_is_made_once_and_only_its_owner_reads_it(settings: Settings, tmp_path: Path) -> None:
    unset = settings.model_copy(update={"secret_key": None, "var": tmp_path / "new" / "var"})
    first = secret_key(unset)
    assert len(first) > 40
    assert secret_key(unset) == first
    kept = list((tmp_path / "new" / "var").iterdir())
    assert [path.name for path in kept] == ["secret_key"]
    assert kept[0].stat().st_mode & 0o777 == 0o600
    assert secret_key(settings) == "only for tests"


# Faults.


def test_every_fault_has_its_page(app: Flask, client: FlaskClient, sam: User) -> None:
    app.add_url_rule("/test/<int:code>", "test", lambda code: abort(code))
    for code in (400, 403, 404, 405, 413, 414, 429, 500, 503):
        answer = client.get(f"/test/{code}")
        assert answer.status_code == code
        assert f'data-role="problem" data-code="{code}"' in answer.text
        assert answer.text.count("<h1") == 1
        assert 'class="bare"' in answer.text
    sign_in(client, sam)
    assert 'data-live="' in client.get("/test/404").text, "whoever is signed in stays in the frame"
    part = client.get("/test/404", headers={"HX-Request": "true"})
    assert 'data-code="404"' in part.text
    assert "<html" not in part.text
    assert 'id="page"' in part.text
    assert (part.headers["HX-Retarget"], part.headers["HX-Reselect"]) == ("#page", "#page")


@pytest.mark.parametrize("path", ["/login?next=%00", "/companies?q=a%00b", "/companies?status=pending&status=%00"])
def test_what_no_database_stores_is_not_understood(client: FlaskClient, sam: User, path: str) -> None:
    sign_in(client, sam)
    assert client.get(path).status_code == 400
    assert client.post(path, data={"email": "a\0@example.com"}).status_code == 400


def test_the_wrong_method_and_too_much_are_told(client: FlaskClient, sam: User) -> None:
    sign_in(client, sam)
    answer = client.get("/me/name")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert "HX-Push-Url" not in answer.headers, "an address that was opened stays what it is"
    answer = client.post("/me/name", data={"name": "x" * 1_000_001, "csrf_token": "x"}, headers=HTMX)
    assert answer.status_code == 413
    assert answer.headers["HX-Push-Url"] == "false"


def test_a_fault_of_ours_tells_a_number_and_nothing_else(
    app: Flask, client: FlaskClient, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down() -> str:
        raise ValueError("a secret from deep inside")

    app.add_url_rule("/test", "test", break_down)
    answer = client.get("/test")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    number = answer.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{12}", number)
    assert f"<code>{number}</code>" in answer.text
    logged = capsys.readouterr().out
    assert number in logged
    assert "a secret from deep inside" in logged


def test_no_log_has_the_values_of_a_row_that_the_database_refuses(
    app: Flask, client: FlaskClient, services: Services, sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL tells them in the details of a broken constraint, of a value, and of a line of a COPY."""
    typed = Prepared(select(cast(bindparam("typed", type_=Text), Integer)))

    def take_the_address_of_sam() -> str:
        with services.database.unit_of_work() as work:
            work.session.add(User(email=sam.email, name="Another", role="sales", password_hash="none"))
            work.commit()
        return ""

    def copy_it() -> str:
        with services.database.unit_of_work() as work:
            copy_in(work.session, table("connection", column("id")), ("id",), [(sam.email,)])
        return ""

    def read_it() -> str:
        return str(services.database.read_one(typed, {"typed": sam.email}))

    lines = StringIO()
    rendering = [_EXCEPTION_AS_FIELDS, structlog.processors.JSONRenderer()]
    monkeypatch.setattr(errors, "log", structlog.wrap_logger(structlog.WriteLogger(lines), processors=rendering))
    for path, breaks in {"/constraint": take_the_address_of_sam, "/copy": copy_it, "/value": read_it}.items():
        app.add_url_rule(path, path[1:], breaks)
    for path in ("/constraint", "/copy", "/value"):
        assert client.get(path).status_code == 500
    logged = lines.getvalue()
    for said in ("violates unique constraint", "invalid input syntax for type"):
        assert said in logged
    assert sam.email not in logged


@pytest.fixture
def app_without_database(settings: Settings, tmp_path: Path) -> Flask:
    away = f"postgresql+psycopg://postgres@/synclight?host={tmp_path}"
    return create_app(settings.model_copy(update={"database_url_setting": away}))


@pytest.mark.parametrize("path", ["/me", "/nothing-here", "/users"])
def test_without_its_database_the_app_says_so(
    app: Flask, app_without_database: Flask, client: FlaskClient, sam: User, path: str
) -> None:
    sign_in(client, sam)
    name = app.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    same_browser = app_without_database.test_client()
    same_browser.set_cookie(name, cookie.value)
    answer = same_browser.get(path)
    assert answer.status_code == 503
    assert "The database cannot be reached" in answer.text
    assert answer.headers["Retry-After"] == "5"
    assert "Traceback" not in answer.text
    assert f'href="{path}"' in answer.text, "the next step is to try again"
    assert sam.email not in answer.text


def test_a_stranger_without_a_database_still_gets_the_page_to_sign_in(app_without_database: Flask) -> None:
    client = app_without_database.test_client()
    assert client.get("/login").status_code == 200
    answer = sign_in(client, "sales@example.com")
    assert answer.status_code == 503
