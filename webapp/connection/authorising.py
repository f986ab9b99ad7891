"""OAuth's authorisation request: to Sage's page of consent and back. Pure: builds addresses, checks what came back.

What Sage gives at the end, a code, goes to a worker, which alone can exchange it (docs/architecture.md).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import urlencode

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from webapp.config import Settings
from webapp.connection.products import Product


@dataclass(frozen=True)
class AuthorisationRequest:
    """One way of a person to Sage, kept in the session: `state` comes back with the code, `verifier` never leaves us."""

    connection_id: int
    state: str
    verifier: str

    @classmethod
    def begin(cls, connection_id: int) -> Self:
        """A new one, with secrets of its own."""
        return cls(connection_id, secrets.token_urlsafe(24), secrets.token_urlsafe(48))

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> Self | None:
        """The one that a session holds, None where it holds none."""
        return cls(**kept) if kept else None

    def kept(self) -> dict[str, Any]:
        """This, as a session holds it."""
        return asdict(self)

    def address(self, product: Product, settings: Settings, redirect_uri: str) -> str:
        """The page on which a person in Sage agrees, with what it must know."""
        asked = {
            **product.asked,
            "response_type": "code",
            "client_id": settings.sage_client_id,
            "redirect_uri": redirect_uri,
            "state": self.state,
            "code_challenge": create_s256_code_challenge(self.verifier),
            "code_challenge_method": "S256",
        }
        return f"{product.consent_address(settings)}?{urlencode(asked)}"

    def is_answered_by(self, state: str) -> bool:
        """Whether `state` is that of this request, so that the code is for the person who asked for it."""
        return hmac.compare_digest(self.state.encode(), state.encode())
