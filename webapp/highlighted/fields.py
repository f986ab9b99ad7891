"""Which fields of a record can be highlighted, and what an admin chose. Pure: text of a request goes in, sentences come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from webapp.modules import COMPANIES, CONTACTS, ORDERS, Module
from webapp.sync.details import listed

# As many as stand above the fold of a phone.
MOST = 8

# By module, in the order of its page; the names are those of the live state of a record. `company` is the one that a
# contact or an order belongs to.
FIELDS: Mapping[str, Mapping[str, str]] = {
    COMPANIES.name: {
        "code": "Code",
        "type": "Type",
        "owner": "Owner",
        "phone": "Phone",
        "email": "E-mail",
        "tax_number": "Tax number",
        "address_line_1": "Address line 1",
        "address_line_2": "Address line 2",
        "postal_code": "Postal code",
        "city": "City",
        "region": "Region",
        "country": "Country",
    },
    CONTACTS.name: {
        "company": "Company",
        "role": "Role",
        "email": "E-mail",
        "phone": "Phone",
        "mobile": "Mobile",
    },
    ORDERS.name: {
        "company": "Company",
        "total": "Total",
        "net_total": "Net",
        "tax_total": "Tax",
        "shipping": "Shipping",
        "ordered_on": "Date",
        "valid_until": "Valid until",
        "owner": "Owner",
    },
}

# What is highlighted until an admin chooses.
STANDARD: Mapping[str, tuple[str, ...]] = {
    COMPANIES.name: ("type", "owner", "phone", "country", "email", "city"),
    CONTACTS.name: ("company", "role", "email", "phone"),
    ORDERS.name: ("company", "total", "ordered_on", "owner"),
}


@dataclass(frozen=True)
class Choice:
    """The highlighted fields as an admin sent them: what was chosen at each place, "" for nothing, and what is wrong."""

    places: tuple[str, ...]
    errors: Sequence[str] = field(default=())

    @property
    def fields(self) -> list[str]:
        """The fields in their order."""
        return [name for name in self.places if name]


def read_choice(module: Module, sent: Iterable[str]) -> Choice:
    """The choice of a form that has one field for each place, in the order of the places."""
    known = FIELDS[module.name]
    places = tuple(name.strip() for name in sent)[:MOST]
    chosen = [name for name in places if name]
    errors = []
    if any(name not in known for name in chosen):
        errors.append("One of these fields cannot be highlighted. Choose from the list.")
    twice = [known[name] for name in dict.fromkeys(chosen) if name in known and chosen.count(name) > 1]
    if twice:
        errors.append(f"{listed(twice)} can stand in one place only. Choose another field, or none.")
    if not chosen:
        errors.append("Choose at least one field.")
    return Choice(places, tuple(errors))
