"""Connectors of Sage Accounting for tests, to a sandbox or to whatever answers at a URL, and records that fill every field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal

from tests.sandbox_process import SandboxProcess
from webapp.orders.amounts import LineValues, lines_text
from workers.sage.accounting.connector import AccountingConnector
from workers.sage.accounting.documents import QUOTES, Document
from workers.sage.connector import AuthoriseAgain
from workers.sage.http import Api
from workers.sage.wire import Wire

BUSINESS = "a1c05c0f6a364bf1a1b8c2d3e4f50001"
OTHER_BUSINESS = "b2d16d1f7b475ca2b2c9d3e4f5a60002"

CUSTOMER = {
    "name": "Alfreds Futterkiste",
    "code": "ALFKI",
    "email": "maria@alfreds.example",
    "phone": "030-0074321",
    "tax_number": "DE123456789",
    "address_line_1": "Obere Str. 57",
    "address_line_2": "Hof 2",
    "city": "Berlin",
    "region": "Berlin",
    "postal_code": "12209",
    "country": "DE",
    "notes": "Pays late.\nAsk for Maria.",
}
PERSON = {"name": "Ann Devon", "role": "Buyer", "email": "ann@alfreds.example", "phone": "030-1", "mobile": "0170-2"}
PRODUCT = {"code": "CHAI-10", "name": "Chai", "unit_price": "18.00", "discontinued": "no"}
LINES = [
    LineValues("Chai", Decimal(3), Decimal("18.00"), Decimal("1.50"), Decimal(20)),
    LineValues("Tofu", Decimal("0.125"), Decimal("23.25"), Decimal(0), Decimal(5)),
    LineValues("A book", Decimal(1), Decimal("9.99")),
]
ORDER = {
    "number": "10248",
    "ordered_on": "1996-07-04",
    "valid_until": "1996-08-01",
    "notes": "Ring twice.\nThen wait.",
    "shipping": "32.38",
    "lines": lines_text(LINES),
}


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
    document: Document = QUOTES,
    before_write: Callable[[], None] = lambda: None,
    call_seconds: float = 30.0,
    most_bytes: int = 20_000_000,
) -> Iterator[AccountingConnector]:
    """The connector of a business."""
    wire = Wire(base_url, call_seconds=call_seconds, most_bytes=most_bytes)
    with closing(Api(base_url, GivenToken(token), business, before_write, wire)) as api:
        yield AccountingConnector(api, document)


def token_of(sandbox: SandboxProcess) -> str:
    """An access token for all businesses of a sandbox."""
    return str(sandbox.connect()["access_token"])
