"""Sage's OAuth: consent, codes, tokens with strict rotation, revocation.

Facts from Sage's developer guides: codes live 60 s and work once, access tokens 300 s, refresh tokens 31 days; a
refresh gives both anew and the old refresh token dies; PKCE with S256; codes begin with the country and a slash.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from workers.sandbox.businesses import BUSINESSES, BY_ID, USER_ID
from workers.sandbox.rules import Problem, Refused
from workers.sandbox.store import Credential, Store, new_id
from workers.sandbox.switches import Switches

REFRESH_TOKEN_SECONDS = 2_678_400
_SCOPES = {"full_access", "readonly"}


class ConsentError(Exception):
    """The authorise page was opened with parameters that Sage does not take. The text is for the person who sees it."""


class TokenError(Exception):
    """The token endpoint refuses. `error` is OAuth's word for why (RFC 6749, 5.2); the status is always 400."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Consent:
    """What an application asks a person for."""

    redirect_uri: str
    state: str
    challenge: str | None
    scope: str

    def back(self, **parameters: str) -> str:
        """The address that the browser is sent back to."""
        if self.state:
            parameters["state"] = self.state
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        return f"{self.redirect_uri}{joint}{urlencode(parameters)}"


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


class OAuth:
    """The one application (`client_id`, `client_secret`) and the tokens that the sandbox's user gave it."""

    def __init__(self, store: Store, client_id: str, client_secret: str, switches: Callable[[], Switches]) -> None:
        self._store = store
        self._client_id = client_id
        self._client_secret = client_secret
        self._switches = switches

    def consent(self, query: Mapping[str, str]) -> Consent:
        """Read the parameters of the authorise page. Raises ConsentError."""
        if query.get("response_type") != "code":
            raise ConsentError("response_type must be code.")
        if query.get("client_id") != self._client_id:
            raise ConsentError("This client_id is not known to the sandbox.")
        redirect_uri = query.get("redirect_uri", "")
        if urlsplit(redirect_uri).scheme not in {"http", "https"} or not urlsplit(redirect_uri).netloc:
            raise ConsentError("redirect_uri must be an http or https address.")
        challenge = query.get("code_challenge")
        if challenge and query.get("code_challenge_method") != "S256":
            raise ConsentError("code_challenge_method must be S256.")
        scope = query.get("scope", "full_access")
        if scope not in _SCOPES:
            raise ConsentError("scope must be full_access or readonly.")
        return Consent(redirect_uri, query.get("state", ""), challenge, scope)

    def approve(self, consent: Consent, business_ids: list[str]) -> str:
        """The person agrees, for these businesses or for all where none is named: the address to send them to."""
        code = f"GB/{secrets.token_hex(20)}"
        self._add(
            "code",
            code,
            new_id(),
            self._switches().code_seconds,
            {
                "redirect_uri": consent.redirect_uri,
                "challenge": consent.challenge,
                "scope": consent.scope,
                "businesses": [one for one in business_ids if one in BY_ID] or [one.id for one in BUSINESSES],
            },
        )
        return consent.back(code=code, country="GB")

    def token(self, form: Mapping[str, str]) -> dict[str, Any]:
        """Answer of POST /token. Raises TokenError."""
        self._check_client(form)
        grant = form.get("grant_type")
        if grant == "authorization_code":
            return self._exchange(form)
        if grant == "refresh_token":
            return self._refresh(form)
        raise TokenError("unsupported_grant_type" if grant else "invalid_request")

    def revoke(self, form: Mapping[str, str]) -> dict[str, str]:
        """Answer of POST /revoke: the grant's refresh tokens die, its access token lives out. Raises TokenError."""
        self._check_client(form)
        if not form.get("token"):
            raise TokenError("invalid_request")
        known = self._store.credential(_digest(form["token"]))
        if known is not None and known.kind == "refresh":
            with self._store.transaction():
                self._store.revoke(known.grant_id)
        return {"success": "ok"}

    def revoke_all(self) -> None:
        """Every token and code dies at once, as when a person withdraws the access."""
        with self._store.transaction():
            self._store.revoke(kinds=("code", "access", "refresh"))

    def expire_access_tokens(self) -> None:
        """Every access token dies at once, as if its time had come; refresh tokens live on."""
        with self._store.transaction():
            self._store.revoke(kinds=("access",))

    def allowed(self, authorization: str) -> Mapping[str, Any]:
        """What the bearer of an Authorization header may do: `businesses` and `scope`. Raises Refused (401)."""
        scheme, _, token = authorization.partition(" ")
        known = self._store.credential(_digest(token)) if scheme == "Bearer" and token else None
        if known is None or known.kind != "access" or known.expires_at <= time.time():
            raise Refused(
                401, Problem("AuthorizationFailure", "The access token is missing, has expired or was revoked.")
            )
        return known.details

    def _check_client(self, form: Mapping[str, str]) -> None:
        if not form.get("client_id") or not form.get("client_secret"):
            raise TokenError("invalid_request")
        known = hmac.compare_digest(form["client_id"].encode(), self._client_id.encode())
        if not hmac.compare_digest(form["client_secret"].encode(), self._client_secret.encode()) or not known:
            raise TokenError("invalid_client")

    def _exchange(self, form: Mapping[str, str]) -> dict[str, Any]:
        if not form.get("code") or not form.get("redirect_uri"):
            raise TokenError("invalid_request")
        code = self._store.credential(_digest(form["code"]))
        if code is None or code.kind != "code" or code.expires_at <= time.time():
            raise TokenError("invalid_grant")
        if code.details["redirect_uri"] != form["redirect_uri"] or not _verified(code.details["challenge"], form):
            raise TokenError("invalid_grant")
        return self._issue(code)

    def _refresh(self, form: Mapping[str, str]) -> dict[str, Any]:
        if not form.get("refresh_token"):
            raise TokenError("invalid_request")
        old = self._store.credential(_digest(form["refresh_token"]))
        if old is None or old.kind != "refresh" or old.expires_at <= time.time():
            raise TokenError("invalid_grant")
        return self._issue(old)

    def _issue(self, spent: Credential) -> dict[str, Any]:
        """Both tokens anew in exchange for a code or refresh token, which is used up in the same transaction."""
        access, refresh = secrets.token_urlsafe(750), secrets.token_urlsafe(750)
        seconds = self._switches().access_token_seconds
        details = {"businesses": spent.details["businesses"], "scope": spent.details["scope"]}
        with self._store.transaction():
            lenient = spent.kind == "refresh" and self._switches().rotation == "lenient"
            if not self._store.use_credential(spent.digest) and not lenient:
                raise TokenError("invalid_grant")
            self._insert("access", access, spent.grant_id, seconds, details)
            self._insert("refresh", refresh, spent.grant_id, REFRESH_TOKEN_SECONDS, details)
        return {
            "access_token": access,
            "scope": spent.details["scope"],
            "token_type": "bearer",
            "expires_in": seconds,
            "refresh_token": refresh,
            "refresh_token_expires_in": REFRESH_TOKEN_SECONDS,
            "requested_by_id": USER_ID,
        }

    def _add(self, kind: str, value: str, grant_id: str, seconds: int, details: Mapping[str, Any]) -> None:
        with self._store.transaction():
            self._insert(kind, value, grant_id, seconds, details)

    def _insert(self, kind: str, value: str, grant_id: str, seconds: int, details: Mapping[str, Any]) -> None:
        self._store.add_credential(Credential(_digest(value), kind, grant_id, time.time() + seconds, False, details))


def _verified(challenge: str | None, form: Mapping[str, str]) -> bool:
    """Whether the verifier fits the challenge (RFC 7636, S256). A code without a challenge takes none."""
    if challenge is None:
        return True
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), challenge)
