"""People for tests, and how they sign in over HTTP."""

from __future__ import annotations

import re
from html import unescape

import httpx2
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.sandbox_process import local_client
from webapp.services import Services
from webapp.users.accounts import create_user
from webapp.users.models import ADMIN, SALES, User

PASSWORD = "correct horse battery"


def add_person(services: Services, role: str = SALES, email: str | None = None, name: str = "Sam Sales") -> User:
    """Somebody who can sign in with PASSWORD, by default as sales@example.com or admin@example.com."""
    with services.database.unit_of_work() as work:
        user = create_user(work, email or f"{role}@example.com", name, role, PASSWORD)
        work.commit()
    return user


def add_admin(services: Services, email: str | None = None) -> User:
    """An admin who can sign in with PASSWORD."""
    return add_person(services, ADMIN, email, "Ada Admin")


def csrf_token(client: FlaskClient, path: str = "/login") -> str:
    """The token that the first form of a page carries."""
    return _token(client.get(path, follow_redirects=True).text)


def _token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found, f"no form on {page}"
    return unescape(found[1])


def shown_version(page: str) -> str:
    """What a page with a question about a record says of the version that it shows."""
    found = re.search(r'name="version" value="(\d+)"', page)
    assert found, "the page asks nothing"
    return found[1]


def sign_in(client: FlaskClient, user: User | str, password: str = PASSWORD, **form: str) -> TestResponse:
    """Send the form of the page to sign in; the answer to it."""
    email = user if isinstance(user, str) else user.email
    token = csrf_token(client)
    return client.post("/login", data={"email": email, "password": password, "csrf_token": token, **form})


def sign_in_over_http(url: str, email: str, password: str = PASSWORD) -> httpx2.Client:
    """A client of a running product that is signed in. To be closed by the caller."""
    client = local_client(base_url=url, timeout=30)
    form = {"email": email, "password": password, "csrf_token": _token(client.get("/login").text)}
    answer = client.post("/login", data=form)
    assert answer.status_code == 303, answer.text
    return client


def post(client: FlaskClient, path: str, form: dict[str, str] | None = None, page: str = "/me") -> TestResponse:
    """Send a form as somebody who is signed in, with the token of `page`."""
    return client.post(path, data={"csrf_token": csrf_token(client, page), **(form or {})})
