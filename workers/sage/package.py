"""What one Sage product is to workers: data, with the two functions that talk to it. See workers.sage.products."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from workers.sage.connector import Business, Connector
from workers.sage.http import Bearer, Calls


class Open(Protocol):
    """Opens a business: the address, where tokens come from, its id, what orders are there, what is asked before a write,
    how many calls."""

    def __call__(
        self,
        base_url: str,
        bearer: Bearer,
        business_id: str,
        orders_as: str,
        before_write: Callable[[], None],
        calls: Calls | None,
    ) -> AbstractContextManager[Connector]: ...


@dataclass(frozen=True)
class Package:
    """A Sage product. Calls go to the hosts of these two addresses, and of the one in the settings, and to no other.

    `spare_seconds` is how long before its end a token is renewed. `calls_a_minute` may go to one business.
    """

    api_url: str
    token_url: str
    spare_seconds: float
    calls_a_minute: int
    open: Open
    businesses: Callable[[str, Bearer], tuple[Business, ...]]
