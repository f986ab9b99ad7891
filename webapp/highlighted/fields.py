"""Which fields of a record can be highlighted, and what an admin chose. Pure: text of a request goes in, sentences come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from webapp.languages import N_, listed
from webapp.languages import gettext as _
from webapp.modules import COMPANIES, CONTACTS, ORDERS, PRODUCTS, Module

# As many as stand above the fold of a phone.
MOST = 8

# By module, in the order of its page; the names are those of the live state of a record. `company` is the one that a
# contact or an order belongs to.
FIELDS: Mapping[str, Mapping[str, str]] = {
    COMPANIES.name: {
        "code": N_("Code"),
        "type": N_("Type"),
        "owner": N_("Owner"),
        "phone": N_("Phone"),
        "email": N_("E-mail"),
        "tax_number": N_("Tax number"),
        "address_line_1": N_("Address line 1"),
        "address_line_2": N_("Address line 2"),
        "postal_code": N_("Postal code"),
        "city": N_("City"),
        "region": N_("Region"),
        "country": N_("Country"),
    },
    CONTACTS.name: {
        "company": N_("Company"),
        "role": N_("Role"),
        "email": N_("E-mail"),
        "phone": N_("Phone"),
        "mobile": N_("Mobile"),
    },
    PRODUCTS.name: {
        "code": N_("Code"),
        "unit_price": N_("Price"),
        "unit": N_("Unit"),
        "discontinued": N_("Availability"),
    },
    ORDERS.name: {
        "company": N_("Company"),
        "total": N_("Total"),
        "net_total": N_("Net"),
        "tax_total": N_("Tax"),
        "shipping": N_("Shipping"),
        "ordered_on": N_("Date"),
        "valid_until": N_("Valid until"),
        "owner": N_("Owner"),
    },
}

# What is highlighted until an admin chooses.
STANDARD: Mapping[str, tuple[str, ...]] = {
    COMPANIES.name: ("type", "owner", "phone", "country", "email", "city"),
    CONTACTS.name: ("company", "role", "email", "phone"),
    PRODUCTS.name: ("code", "unit_price", "unit", "discontinued"),
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
        errors.append(_("One of these fields cannot be highlighted. Choose from the list."))
    twice = [_(known[name]) for name in dict.fromkeys(chosen) if name in known and chosen.count(name) > 1]
    if twice:
        errors.append(_("%(fields)s can stand in one place only. Choose another field, or none.", fields=listed(twice)))
    if not chosen:
        errors.append(_("Choose at least one field."))
    return Choice(places, tuple(errors))
