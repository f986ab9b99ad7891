"""What workers send out goes to the hosts of the chosen product, and to nobody else."""

from __future__ import annotations

import socket
from dataclasses import replace
from functools import partial

import pytest
from cryptography.fernet import Fernet

from tests.scripted_server import answer, serving
from webapp.config import Settings, SettingsError
from webapp.connection.changes import end_connection
from webapp.connection.models import CONNECTED, Connection
from webapp.connection.products import PRODUCTS
from webapp.services import Services
from workers.keys import Keys
from workers.sage.connector import Transient, Unreachable
from workers.sage.open import connect, exchange, give_back
from workers.sage.products import PACKAGES
from workers.sage.tokens import TokenSet, sealed

KEY = Fernet.generate_key().decode()
NEVER = 4_000_000_000.0


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that somebody looked up or connected to. None of them is real but 127.0.0.1."""
    hosts: list[str] = []
    real = socket.create_connection

    def create_connection(address: tuple[str, int], *arguments: object, **more: object) -> socket.socket:
        hosts.append(address[0])
        if address[0] != "127.0.0.1":
            raise ConnectionRefusedError("no test leaves this machine")
        return real(address, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_connection", create_connection)
    monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", KEY)
    monkeypatch.setenv("SYNCLIGHT_SAGE_CLIENT_SECRET", "of the application")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    return hosts


def connected(services: Services, api_url: str, product: str = "accounting", expires_at: float = NEVER) -> int:
    tokens = sealed(TokenSet("access", "refresh", expires_at, NEVER), Keys([KEY]))
    with services.database.unit_of_work() as work:
        made = Connection(product=product, api_url=api_url, state=CONNECTED, business_id="b" * 32, tokens=tokens)
        work.session.add(made)
        work.commit()
        return made.id


def end_and_give_back(services: Services, connection_id: int) -> None:
    with services.database.unit_of_work() as work:
        end_connection(work, work.session.get_one(Connection, connection_id))
    give_back(services, connection_id)


def test_each_product_has_a_package_and_a_page_and_only_https(services: Services) -> None:
    assert PACKAGES.keys() == PRODUCTS.keys()
    for package in PACKAGES.values():
        assert package.api_url.startswith("https://")
        assert package.token_url.startswith("https://")
    assert all(product.consent_page.startswith("https://") for product in PRODUCTS.values())


def test_calls_go_to_the_hosts_of_the_product_and_no_proxy(services: Services, asked: list[str]) -> None:
    fresh = connected(services, PACKAGES["accounting"].api_url)
    with connect(services, fresh) as sage, pytest.raises(Unreachable):
        sage.check()
    assert set(asked) == {"api.accounting.sage.com"}
    asked.clear()
    with pytest.raises(Unreachable):
        exchange(services, fresh, "code", "http://127.0.0.1/callback", "x" * 43)
    with pytest.raises(Unreachable):
        end_and_give_back(services, fresh)
    assert set(asked) == {"oauth.accounting.sage.com"}


@pytest.mark.parametrize(
    "api_url",
    [
        "https://api.accounting.sage.com.evil.example/v3.1",
        "https://evil.example/v3.1",
        "http://api.accounting.sage.com/v3.1",
        "https://api.accounting.sage.com@evil.example/v3.1",
        "https://api.accounting.sage.com:8443/v3.1",
        "http://169.254.169.254/v3.1",
        "http://localhost:8010/v3.1",
        "http://[::1]:8010/v3.1",
        "file:///etc/passwd",
    ],
)
def test_no_other_address_is_taken_from_a_row(services: Services, asked: list[str], api_url: str) -> None:
    """Whoever can write to the database alone gets neither a token nor the application's secret."""
    stored = connected(services, api_url)
    with pytest.raises(Unreachable), connect(services, stored):
        pass
    for send in (
        lambda: exchange(services, stored, "code", "http://x/", "x" * 43),
        lambda: end_and_give_back(services, stored),
    ):
        with pytest.raises(Unreachable):
            send()
    assert asked == []


def test_the_sandbox_is_asked_only_where_the_settings_say_so(services: Services, asked: list[str]) -> None:
    sandbox = services.settings.sage_api_url
    stored = connected(services, sandbox)
    with connect(services, stored) as sage, pytest.raises(Unreachable):
        sage.check()
    assert asked == ["127.0.0.1"]
    real = services.settings.model_copy(update={"sage_base_url": PACKAGES["accounting"].api_url})
    with pytest.raises(Unreachable), connect(replace(services, settings=real), stored):
        pass
    assert asked == ["127.0.0.1"]


def test_a_product_that_this_release_does_not_know_is_no_crash(services: Services, asked: list[str]) -> None:
    stored = connected(services, PACKAGES["accounting"].api_url, product="intacct")
    with pytest.raises(Unreachable, match="no package for intacct"), connect(services, stored):
        pass
    assert asked == []


@pytest.mark.parametrize("path", ["token", "revoke"])
def test_the_endpoint_of_tokens_follows_no_redirect(services: Services, asked: list[str], path: str) -> None:
    """The answer names another host; the application's secret would go there."""
    elsewhere = answer({}, 307, Location="http://evil.example/token")
    with serving(elsewhere) as server:
        here = replace(services, settings=services.settings.model_copy(update={"sage_base_url": server.base_url}))
        stored = connected(here, server.base_url, expires_at=0)
        code = ("code", "http://127.0.0.1/callback", "x" * 43)
        send = partial(exchange, here, stored, *code) if path == "token" else partial(end_and_give_back, here, stored)
        with pytest.raises(Transient):
            send()
        assert len(server.requests) == 1
    assert set(asked) == {"127.0.0.1"}


@pytest.mark.parametrize("url", ["http://sage.example/v3.1", "ftp://127.0.0.1/v3.1", "sage.example", "https:///v3.1"])
def test_an_operator_sends_no_token_in_the_clear(url: str) -> None:
    with pytest.raises(SettingsError, match="SYNCLIGHT_SAGE_BASE_URL"):
        _load(url)
    assert _load("https://sage.example/v3.1").sage_api_url == "https://sage.example/v3.1"
    assert _load("http://127.0.0.1:9/v3.1/").sage_api_url == "http://127.0.0.1:9/v3.1"


def _load(url: str) -> Settings:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SYNCLIGHT_SAGE_BASE_URL", url)
        return Settings.load()
