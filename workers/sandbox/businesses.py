"""The businesses that the sandbox's one user may open. Their ids never change, so that a reset keeps connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Business:
    """A set of books. `id` is 32 hex digits, what X-Business carries."""

    id: str
    name: str
    country_id: str


LEAD = Business("a1c05c0f6a364bf1a1b8c2d3e4f50001", "Northwind Traders Ltd", "GB")
BUSINESSES = (
    LEAD,
    Business("b2d16d1f7b475ca2b2c9d3e4f5a60002", "Southwind Wholesale Ltd", "GB"),
    Business("d4f38f3a9d697ec4d4ebf5a6b7c80004", "Eastwind Imports Ltd", "GB"),
    Business("e5a49a4b0e7a8fd5e5fca6b7c8d90005", "Westwind Foods Ltd", "GB"),
)
BY_ID = {one.id: one for one in BUSINESSES}
USER_ID = "c3e27e2f8c586db3c3dae4f5a6b70003"
