"""Sage's tokens: encrypted at rest, and refreshed by one process at a time.

Sage gives a new refresh token with each access token, and the old one dies at once: two processes that refresh at the
same time would lose the connection. So whoever refreshes holds a lock of the database, reads again inside it, and
stores both tokens before either is used. The lock is an advisory one, not one on the connection's row: a call to Sage
must not keep anybody from changing that row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import cast
from urllib.parse import urlencode, urlsplit

import structlog
from cryptography.fernet import InvalidToken, MultiFernet
from sqlalchemy import Connection as DatabaseConnection
from sqlalchemy import Table, select, text, update
from sqlalchemy.exc import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from webapp.connection.models import ENDED, Connection
from webapp.db import Database
from workers.keys import Keys, id_of
from workers.sage.connector import AuthoriseAgain, SageError, Transient, Unreachable
from workers.sage.http import parsed, raw_of, retry_after
from workers.sage.wire import NoAnswer, NotSent, Reply, Wire

log = structlog.get_logger(__name__)

# A token is renewed when it has no more than this left, so that it does not run out on its way to Sage; a product whose
# tokens live longer or shorter says so (workers.sage.package).
SPARE_SECONDS = 30.0
# Two of these calls, one after a lost answer, fit into the wait of the others for the lock.
_CALL_SECONDS = 12.0
_LOCK_SECONDS = 30
_STORE_SECONDS = 20.0
# The tokens are 2,048 bytes each at most (Sage's guide).
_MOST_BYTES = 50_000

_ROW = cast(Table, Connection.__table__)


@dataclass(frozen=True)
class TokenSet:
    """Both tokens as Sage gave them, with the times when they run out, in seconds since 1970."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    refresh_expires_at: float

    def lasts(self, seconds: float) -> bool:
        """Whether the access token can be used for longer than this."""
        return self.expires_at - time.time() > seconds


def sealed(tokens: TokenSet, cipher: MultiFernet) -> bytes:
    """The tokens as they are stored."""
    return cipher.encrypt(json.dumps(asdict(tokens)).encode())


def opened(stored: bytes, cipher: MultiFernet) -> TokenSet:
    """The tokens that were stored. Raises AuthoriseAgain where no key of ours opens them."""
    try:
        return TokenSet(**json.loads(cipher.decrypt(stored)))
    except InvalidToken:
        log.error("tokens_not_decrypted", remedy="put the key that encrypted them back into SYNCLIGHT_TOKEN_KEYS")
        raise AuthoriseAgain("no key in SYNCLIGHT_TOKEN_KEYS opens the stored tokens") from None


class TokenEndpoint:
    """Sage's endpoint that gives tokens (OAuth 2, RFC 6749)."""

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self._wire = Wire(url, call_seconds=_CALL_SECONDS, most_bytes=_MOST_BYTES)
        self._target = urlsplit(url).path
        self._client = {"client_id": client_id, "client_secret": client_secret}

    def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> TokenSet:
        """The tokens for the code that Sage's authorise page gave. The code lives 60 s and works once.

        Raises AuthoriseAgain, Transient (the outcome is not known: authorise once more) or Unreachable.
        """
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        return self._ask({**asked, "code_verifier": code_verifier})

    def refresh(self, refresh_token: str) -> TokenSet:
        """New tokens for a refresh token, which is used up by that.

        Where the answer is lost, it is asked once more: Sage need not have applied it. Raises AuthoriseAgain,
        Transient or Unreachable.
        """
        asked = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        try:
            return self._ask(asked)
        except _LostError:
            log.warning("token_answer_lost")
            return self._ask(asked)

    def revoke(self, refresh_token: str) -> None:
        """End the consent that a refresh token belongs to: it stands beside this endpoint, at /revoke.

        The access token lives out its minutes. Raises AuthoriseAgain, Transient or Unreachable.
        """
        reply = self._send(f"{self._target.rpartition('/')[0]}/revoke", {"token": refresh_token})
        log.info("sage_revoke_call", status=reply.status)
        if reply.status != 200:
            raise _refusal(reply)

    def close(self) -> None:
        """Close the connection to it."""
        self._wire.close()

    def _send(self, target: str, asked: Mapping[str, str]) -> Reply:
        body = urlencode({**self._client, **asked}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        try:
            return self._wire.send("POST", target, headers, body)
        except NotSent as error:
            raise Unreachable(str(error)) from error
        except NoAnswer as error:
            raise _LostError(str(error)) from error

    def _ask(self, asked: Mapping[str, str]) -> TokenSet:
        began = time.time()
        reply = self._send(self._target, asked)
        log.info("sage_token_call", grant=asked["grant_type"], status=reply.status)
        if reply.status != 200:
            raise _refusal(reply)
        tokens = _tokens(parsed(reply.body), began)
        if tokens is None:
            raise _LostError("the answer holds no tokens")
        return tokens


class _LostError(Transient):
    """It is not known whether Sage gave tokens."""


def _tokens(value: object, began: float) -> TokenSet | None:
    if not isinstance(value, dict):
        return None
    access, refresh = value.get("access_token"), value.get("refresh_token")
    seconds, refresh_seconds = value.get("expires_in"), value.get("refresh_token_expires_in", 0)
    if not (isinstance(access, str) and access and isinstance(refresh, str) and refresh and isinstance(seconds, int)):
        return None
    # A token goes into a header: what is not printable ASCII could only be an attack or an accident.
    if not (access.isascii() and access.isprintable()):
        return None
    return TokenSet(
        access, refresh, began + seconds, began + (refresh_seconds if isinstance(refresh_seconds, int) else 0)
    )


def _refusal(reply: Reply) -> SageError:
    """What an answer without tokens means. The code is OAuth's word, such as invalid_grant."""
    value = parsed(reply.body)
    said = value.get("error") if isinstance(value, dict) else None
    code = said[:100] if isinstance(said, str) and said.isprintable() else ""
    raw = {**raw_of(reply, ()), **({"code": code} if code else {})}
    if reply.status in (400, 401, 403):
        if code != "invalid_grant":
            log.error(
                "sage_refuses_this_application", code=code, remedy="check SYNCLIGHT_SAGE_CLIENT_ID and its secret"
            )
        return AuthoriseAgain(code or str(reply.status), raw)
    return Transient(f"{reply.status} {code}".rstrip(), raw, retry_after(reply.headers, datetime.now(UTC)))


class StoredTokens:
    """The tokens of one connection. One thread at a time uses it."""

    def __init__(
        self,
        database: Database,
        connection_id: int,
        cipher: MultiFernet,
        endpoint: TokenEndpoint,
        spare_seconds: float = SPARE_SECONDS,
    ) -> None:
        self._spare = spare_seconds
        self._engine = database.engine
        self._id = connection_id
        self._cipher = cipher
        self._endpoint = endpoint
        self._tokens: TokenSet | None = None

    def access(self) -> str:
        """An access token that has at least `spare_seconds` left.

        Raises AuthoriseAgain, Transient or Unreachable.
        """
        if self._tokens is None:
            with self._engine.connect() as connection:
                self._tokens = self._stored(connection)[1]
        if not self._tokens.lasts(self._spare):
            self._tokens = self._renewed("")
        return self._tokens.access_token

    def renewed(self, refused: str) -> str:
        """Another access token than `refused`, which Sage no longer takes. Raises as `access`."""
        self._tokens = self._renewed(refused)
        return self._tokens.access_token

    def _renewed(self, refused: str) -> TokenSet:
        before = b""
        tokens: TokenSet | None = None
        try:
            with self._engine.begin() as connection:
                _lock(connection, self._id)
                before, stored = self._stored(connection)
                if stored.lasts(self._spare) and stored.access_token != refused:
                    return stored
                tokens = self._refreshed(stored.refresh_token, before)
                _store(connection, self._id, sealed(tokens, self._cipher))
        except OperationalError as error:
            if tokens is None:
                log.warning("tokens_not_renewed", error=type(error.orig).__name__)
                raise Transient("the tokens are being renewed by another process") from error
            # The old tokens are used up, so these must not be lost with the transaction.
            self._store_late(tokens, before)
        return tokens

    def _refreshed(self, refresh_token: str, before: bytes) -> TokenSet:
        try:
            return self._endpoint.refresh(refresh_token)
        except AuthoriseAgain:
            # The lock is lost when the database restarts: somebody may have been faster then, and stored what counts.
            with self._engine.connect() as connection:
                now, stored = self._stored(connection)
            if now != before and stored.lasts(self._spare):
                return stored
            raise

    def _store_late(self, tokens: TokenSet, before: bytes) -> None:
        attempts = Retrying(
            retry=retry_if_exception_type(OperationalError),
            stop=stop_after_delay(_STORE_SECONDS),
            wait=wait_exponential(multiplier=0.1, max=2),
            reraise=True,
        )
        for attempt in attempts:
            with attempt, self._engine.begin() as connection:
                _lock(connection, self._id)
                if self._stored(connection)[0] == before:
                    _store(connection, self._id, sealed(tokens, self._cipher))

    def _stored(self, connection: DatabaseConnection) -> tuple[bytes, TokenSet]:
        stored = connection.execute(select(_ROW.c.tokens).where(_ROW.c.id == self._id)).scalar()
        if stored is None:
            raise AuthoriseAgain("there are no tokens yet")
        return bytes(stored), opened(bytes(stored), self._cipher)


def keep(connection: DatabaseConnection, connection_id: int, cipher: MultiFernet, tokens: TokenSet) -> None:
    """Store tokens that a person's consent gave, in place of those that are there.

    It is the first thing in the transaction that says what the connection is by this consent: `forget` sees both or none.
    """
    _lock(connection, connection_id)
    _store(connection, connection_id, sealed(tokens, cipher))


def rotate(database: Database, keys: Keys) -> tuple[int, list[int]]:
    """Encrypt all stored tokens with the first key that another one encrypted, each under the lock of its renewal.

    Returns how many, and the ids of the connections whose tokens no key opens; those stay as they are.
    """
    done, failed = 0, []
    with database.engine.connect() as connection:
        ids = (
            connection.execute(select(_ROW.c.id).where(_ROW.c.tokens.is_not(None)).order_by(_ROW.c.id)).scalars().all()
        )
    for connection_id in ids:
        with database.engine.begin() as connection:
            _lock(connection, connection_id)
            stored = connection.execute(select(_ROW.c.tokens).where(_ROW.c.id == connection_id)).scalar()
            if stored is None or id_of(bytes(stored)) == keys.ids[0]:
                continue
            try:
                _store(connection, connection_id, keys.encrypt(keys.decrypt(bytes(stored))))
                done += 1
            except InvalidToken:
                failed.append(connection_id)
    return done, failed


def forget(database: Database, connection_id: int, cipher: MultiFernet) -> TokenSet | None:
    """Take the tokens of a connection that has ended out of the database.

    Returns them, None where there are none that can be opened. Those of a connection that a person has authorised anew
    meanwhile stay: whoever asked for this meant the ones before.
    """
    with database.engine.begin() as connection:
        _lock(connection, connection_id)
        stored = connection.execute(select(_ROW.c.tokens).where(_ROW.c.id == connection_id, ENDED)).scalar()
        if stored is not None:
            _store(connection, connection_id, None)
    try:
        return None if stored is None else opened(bytes(stored), cipher)
    except AuthoriseAgain:
        return None


def _lock(connection: DatabaseConnection, connection_id: int) -> None:
    """Wait until nobody else renews these tokens; the end of the transaction lets the next one in."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
    connection.execute(text(f"SET LOCAL statement_timeout = '{_LOCK_SECONDS}s'"))
    name = f"sage-tokens:{connection_id}"
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def _store(connection: DatabaseConnection, connection_id: int, stored: bytes | None) -> None:
    """Past the model on purpose: new tokens are no change that a browser or another writer of the row must see."""
    connection.execute(update(_ROW).where(_ROW.c.id == connection_id).values(tokens=stored))
