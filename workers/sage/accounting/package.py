"""Sage Accounting as one of Sage's products: where it is, how long its tokens live, and what opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from webapp.connection.models import INVOICES, QUOTES
from workers.sage.accounting import documents
from workers.sage.accounting.connector import AccountingConnector, businesses
from workers.sage.connector import Business, Connector
from workers.sage.http import Api, Bearer, Calls
from workers.sage.package import Package

_DOCUMENTS = {QUOTES: documents.QUOTES, INVOICES: documents.INVOICES}


@contextmanager
def _open(
    base_url: str,
    bearer: Bearer,
    business_id: str,
    orders_as: str,
    before_write: Callable[[], None],
    calls: Calls | None,
) -> Iterator[Connector]:
    with closing(Api(base_url, bearer, business_id, before_write, calls=calls)) as api:
        yield AccountingConnector(api, _DOCUMENTS[orders_as])


def _businesses(base_url: str, bearer: Bearer) -> tuple[Business, ...]:
    with closing(Api(base_url, bearer, None)) as api:
        return tuple(businesses(api))


PACKAGE = Package(
    api_url="https://api.accounting.sage.com/v3.1",
    token_url="https://oauth.accounting.sage.com/token",  # noqa: S106 - an address.
    # They live 300 s.
    spare_seconds=30.0,
    calls_a_minute=100,
    open=_open,
    businesses=_businesses,
)
