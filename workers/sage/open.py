"""From a connection's row to its connector, and from a person's consent to tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sqlalchemy import select

from webapp.config import Settings
from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.services import Services
from workers.sage import tokens as token_store
from workers.sage.budget import Budget, Limits
from workers.sage.connector import AuthoriseAgain, Business, Connector, Unreachable
from workers.sage.package import Package
from workers.sage.products import PACKAGES
from workers.sage.tokens import StoredTokens, TokenEndpoint, TokenSet
from workers.settings import WorkerSettings


@contextmanager
def connect(
    services: Services, connection_id: int, before_write: Callable[[], None] = lambda: None, *, reads_only: bool = False
) -> Iterator[Connector]:
    """The connector of a connection, for one job: it keeps one HTTP connection and closes it at the end.

    With `reads_only` its calls give way to those of a writer where calls are scarce.

    Nothing is sent before a method of the connector is called. Raises AuthoriseAgain where there is nothing to talk to
    yet, Unreachable for an address that the settings do not allow, and SettingsError.
    """
    worker = WorkerSettings.load(services.settings)
    place = _place(services, connection_id, worker)
    if not place.business_id:
        raise AuthoriseAgain("no business in Sage has been chosen yet")
    with closing(place.endpoint()) as endpoint:
        spare = place.package.spare_seconds
        tokens = StoredTokens(services.database, connection_id, worker.cipher, endpoint, spare)
        calls = _budget(services, connection_id, place, reads_only)
        package, business_id = place.package, place.business_id
        with package.open(place.base_url, tokens, business_id, place.orders_as, before_write, calls) as sage:
            yield sage


@dataclass(frozen=True)
class _Place:
    """Where a connection leads to."""

    package: Package
    base_url: str
    business_id: str
    orders_as: str
    settings: Settings
    worker: WorkerSettings = field(repr=False)

    def endpoint(self) -> TokenEndpoint:
        """Sage's own endpoint of tokens for Sage's own API; the sandbox has it at the root of its address."""
        parts = urlsplit(self.base_url)
        own = self.base_url == self.package.api_url
        url = self.package.token_url if own else f"{parts.scheme}://{parts.netloc}/token"
        secret = self.worker.sage_client_secret.get_secret_value()
        return TokenEndpoint(url, self.settings.sage_client_id, secret)


def _place(services: Services, connection_id: int, worker: WorkerSettings) -> _Place:
    query = select(Connection.product, Connection.api_url, Connection.business_id, Connection.orders_as)
    with services.database.engine.connect() as database:
        row = database.execute(query.where(Connection.id == connection_id)).one()
    try:
        package = PACKAGES[row.product]
    except KeyError:
        raise Unreachable(f"this release has no package for {row.product}") from None
    base_url = allowed_address(row.api_url, package, services.settings)
    return _Place(package, base_url, row.business_id or "", row.orders_as, services.settings, worker)


def _budget(services: Services, connection_id: int, place: _Place, reads_only: bool) -> Budget | None:
    """What each call is taken out of; None where calls are not counted."""
    is_sage = place.base_url == place.package.api_url
    calls = place.worker.sage_calls_a_minute or (place.package.calls_a_minute if is_sage else None)
    if calls is None:
        return None
    return Budget(services.redis, connection_id, Limits.a_minute(calls), reads_only=reads_only)


@dataclass(frozen=True)
class Grant:
    """What a person's consent gave: tokens, which are not stored yet, and the businesses that they open."""

    tokens: TokenSet = field(repr=False)
    businesses: tuple[Business, ...]


def exchange(services: Services, connection_id: int, code: str, redirect_uri: str, code_verifier: str) -> Grant:
    """Exchange the code of Sage's authorise page, and ask which businesses it opens. Stores nothing.

    Raises AuthoriseAgain, Transient, Unreachable or SettingsError; after any of them a person must authorise once more,
    since a code works only once.
    """
    place = _place(services, connection_id, WorkerSettings.load(services.settings))
    with closing(place.endpoint()) as endpoint:
        tokens = endpoint.exchange(code, redirect_uri, code_verifier)
    return Grant(tokens, place.package.businesses(place.base_url, _Fresh(tokens)))


def keep(services: Services, work: UnitOfWork, connection_id: int, grant: Grant) -> None:
    """Store the tokens of a grant for a connection, once it is known that they are for the right business.

    The caller commits, together with what the connection is from then on.
    """
    worker = WorkerSettings.load(services.settings)
    token_store.keep(work.session.connection(), connection_id, worker.cipher, grant.tokens)


def give_back(services: Services, connection_id: int) -> None:
    """Have Sage end the consent for a connection that has ended, and forget its tokens. Does nothing where there are none.

    Raises AuthoriseAgain, Transient or Unreachable; the tokens are forgotten all the same.
    """
    worker = WorkerSettings.load(services.settings)
    tokens = token_store.forget(services.database, connection_id, worker.cipher)
    if tokens is not None:
        with closing(_place(services, connection_id, worker).endpoint()) as endpoint:
            endpoint.revoke(tokens.refresh_token)


def allowed_address(api_url: str, package: Package, settings: Settings) -> str:
    """The base URL of a connection, if it is that of its product or the one in the settings.

    Tokens and the application's secret go there, so no other address is taken from a row. Raises Unreachable.
    """
    if api_url.rstrip("/") in (package.api_url, settings.sage_api_url):
        return api_url.rstrip("/")
    raise Unreachable(f"{api_url} is neither Sage's address nor the one in SYNCLIGHT_SAGE_BASE_URL")


class _Fresh:
    """The bearer of tokens that were given this moment: there is nothing to renew yet."""

    def __init__(self, tokens: TokenSet) -> None:
        self._tokens = tokens

    def access(self) -> str:
        return self._tokens.access_token

    def renewed(self, refused: str) -> str:
        raise AuthoriseAgain("Sage refuses the token that it gave this moment")
