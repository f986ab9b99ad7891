"""Connectors of Sage Accounting for tests: to a sandbox, or to whatever answers at a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from tests.sandbox_process import SandboxProcess
from workers.sage.accounting.connector import AccountingConnector
from workers.sage.connector import AuthoriseAgain
from workers.sage.http import Api
from workers.sage.wire import Wire

BUSINESS = "a1c05c0f6a364bf1a1b8c2d3e4f50001"
OTHER_BUSINESS = "b2d16d1f7b475ca2b2c9d3e4f5a60002"


class GivenToken:
    """A bearer of one token, which is taken for the newest there is."""

    def __init__(self, token: str) -> None:
        self._token = token

    def access(self) -> str:
        return self._token

    def renewed(self, refused: str) -> str:
        raise AuthoriseAgain("there is no newer token")


@contextmanager
def accounting(
    base_url: str,
    token: str = "token",
    *,
    business: str = BUSINESS,
    before_write: Callable[[], None] = lambda: None,
    call_seconds: float = 30.0,
    most_bytes: int = 20_000_000,
) -> Iterator[AccountingConnector]:
    """The connector of a business."""
    wire = Wire(base_url, call_seconds=call_seconds, most_bytes=most_bytes)
    with closing(Api(base_url, GivenToken(token), business, before_write, wire)) as api:
        yield AccountingConnector(api)


def token_of(sandbox: SandboxProcess) -> str:
    """An access token for all businesses of a sandbox."""
    return str(sandbox.connect()["access_token"])
