"""The modules of records: how the screens call them and their records. Their addresses begin with their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Module:
    """A module: `name` stands in its addresses, its keys and its endpoints, `noun` is one of its records.

    `named_by` is the value that names a record to people.
    """

    name: str
    noun: str
    icon: str
    named_by: str = "name"

    @property
    def title(self) -> str:
        """The name as a heading."""
        return self.name.capitalize()


COMPANIES = Module("companies", "company", "building-2")
CONTACTS = Module("contacts", "contact", "user-round")
ORDERS = Module("orders", "order", "receipt-text", named_by="number")

# In the order of the navigation.
MODULES = (COMPANIES, CONTACTS, ORDERS)
