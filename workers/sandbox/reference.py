"""The fixed lists that writes refer to by id: countries, currencies and the types of contacts, persons and addresses.

Countries and currencies are ISO 3166-1 alpha-2 and ISO 4217. A real business may have other types than these; a client
reads them when it connects.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import pycountry

_TYPES: dict[str, dict[str, str]] = {
    "contact_types": {"CUSTOMER": "Customer", "VENDOR": "Vendor"},
    "contact_person_types": {
        "ACCOUNTS": "Accounts",
        "PURCHASING": "Purchasing",
        "SALES": "Sales",
        "CUSTOMER_MAIN": "Customer",
    },
    "address_types": {
        "ACCOUNTS": "Accounts",
        "DELIVERY": "Delivery",
        "PURCHASING": "Purchasing",
        "REGISTERED": "Registered Office",
        "SALES": "Sales",
    },
}


@cache
def lists() -> Mapping[str, Mapping[str, str]]:
    """Collection name -> id -> the text that people see, each in the order in which lists give it."""
    countries = {one.alpha_2: f"{getattr(one, 'common_name', one.name)} ({one.alpha_2})" for one in pycountry.countries}
    currencies = {one.alpha_3: f"{one.name} ({one.alpha_3})" for one in pycountry.currencies}
    return MappingProxyType(
        {
            **_TYPES,
            "countries": dict(sorted(countries.items(), key=lambda item: item[1])),
            "currencies": dict(sorted(currencies.items())),
        }
    )


def base(collection: str, key: str | None) -> dict[str, str] | None:
    """An entry as every answer shows it (`id`, `displayed_as`, `$path`), or None without a key.

    Raises KeyError for an id that the list does not hold: writes were checked, so that is a fault of ours.
    """
    if key is None:
        return None
    return {"id": key, "displayed_as": lists()[collection][key], "$path": f"/{collection}/{key}"}
