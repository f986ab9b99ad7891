"""From a connection's row to its connector, and from a person's consent to tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sqlalchemy import select

from webapp.config import Settings
from webapp.connection.models import Connection
from webapp.services import Services
from workers.sage import tokens as token_store
from workers.sage.accounting.connector import AccountingConnector, businesses
from workers.sage.budget import CALLS_A_MINUTE, Budget, Limits
from workers.sage.connector import AuthoriseAgain, Business, Connector, Unreachable
from workers.sage.http import Api
from workers.sage.tokens import StoredTokens, TokenEndpoint, TokenSet
from workers.settings import SAGE_API_URL, WorkerSettings

SAGE_TOKEN_URL = "https://oauth.accounting.sage.com/token"  # noqa: S105 - an address.


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
    query = select(Connection.api_url, Connection.business_id).where(Connection.id == connection_id)
    with services.database.engine.connect() as database:
        row = database.execute(query).one()
    if not row.business_id:
        raise AuthoriseAgain("no business in Sage has been chosen yet")
    base_url = allowed_address(row.api_url, services.settings)
    with closing(_endpoint(base_url, services.settings, worker)) as endpoint:
        tokens = StoredTokens(services.database, connection_id, worker.cipher, endpoint)
        spend = _budget(services, connection_id, base_url, worker, reads_only)
        with closing(Api(base_url, tokens, row.business_id, before_write, spend=spend)) as api:
            yield AccountingConnector(api)


def _budget(
    services: Services, connection_id: int, base_url: str, worker: WorkerSettings, reads_only: bool
) -> Callable[[], None]:
    """What each call is taken out of."""
    calls = worker.sage_calls_a_minute or (CALLS_A_MINUTE if base_url == SAGE_API_URL else None)
    if calls is None:
        return lambda: None
    return Budget(services.redis, connection_id, Limits.a_minute(calls), reads_only=reads_only).spend


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
    worker = WorkerSettings.load(services.settings)
    query = select(Connection.api_url).where(Connection.id == connection_id)
    with services.database.engine.connect() as database:
        base_url = allowed_address(database.execute(query).scalar_one(), services.settings)
    with closing(_endpoint(base_url, services.settings, worker)) as endpoint:
        tokens = endpoint.exchange(code, redirect_uri, code_verifier)
    with closing(Api(base_url, _Fresh(tokens), None)) as api:
        return Grant(tokens, tuple(businesses(api)))


def keep(services: Services, connection_id: int, grant: Grant) -> None:
    """Store the tokens of a grant for a connection, once it is known that they are for the right business."""
    worker = WorkerSettings.load(services.settings)
    token_store.keep(services.database, connection_id, worker.cipher, grant.tokens)


def give_back(services: Services, connection_id: int) -> None:
    """Have Sage end the consent for a connection, and forget its tokens. Does nothing where there are none.

    Raises AuthoriseAgain, Transient or Unreachable; the tokens are forgotten all the same.
    """
    worker = WorkerSettings.load(services.settings)
    query = select(Connection.api_url).where(Connection.id == connection_id)
    with services.database.engine.connect() as database:
        base_url = allowed_address(database.execute(query).scalar_one(), services.settings)
    tokens = token_store.forget(services.database, connection_id, worker.cipher)
    if tokens is not None:
        with closing(_endpoint(base_url, services.settings, worker)) as endpoint:
            endpoint.revoke(tokens.refresh_token)


def allowed_address(api_url: str, settings: Settings) -> str:
    """The base URL of a connection, if it is Sage's own or the one in the settings.

    Tokens and the application's secret go there, so no other address is taken from a row. Raises Unreachable.
    """
    if api_url.rstrip("/") in (SAGE_API_URL, settings.sage_api_url):
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


def _endpoint(base_url: str, settings: Settings, worker: WorkerSettings) -> TokenEndpoint:
    """Sage's own endpoint for Sage's own API; the sandbox has it at the root of its address."""
    parts = urlsplit(base_url)
    url = SAGE_TOKEN_URL if base_url == SAGE_API_URL else f"{parts.scheme}://{parts.netloc}/token"
    return TokenEndpoint(url, settings.sage_client_id, worker.sage_client_secret.get_secret_value())
