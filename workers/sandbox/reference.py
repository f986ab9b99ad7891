"""The fixed lists that writes refer to by id: countries, currencies, types, tax rates and ledger accounts.

Countries and currencies are ISO 3166-1 alpha-2 and ISO 4217. A real business may have other types, rates and accounts
than these; a client reads them when it connects.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

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
# Of a business in the United Kingdom: id -> name and percentage. The last three have no tax to be named on a line.
_TAX_RATES = {
    "GB_STANDARD": ("Standard", "20.0"),
    "GB_LOWER": ("Lower Rate", "5.0"),
    "GB_ZERO": ("Zero Rated", "0.0"),
    "GB_EXEMPT": ("Exempt", "0.0"),
    "GB_NO_TAX": ("No Tax", "0.0"),
}
# Nominal code -> name, type, and whether it can be chosen in sales, in purchases, and is a control account.
_ACCOUNTS = {
    1100: ("Trade Debtors", "CURRENT_ASSETS", False, False, True),
    4000: ("Sales - Products", "SALES", True, False, False),
    4010: ("Sales - Services", "SALES", True, False, False),
    4900: ("Other income", "OTHER_INCOME", True, False, False),
    5000: ("Cost of sales - goods", "DIRECT_EXPENSES", False, True, False),
}
_ACCOUNT_ID = "1edcea0{code:04}11f0a1b8c2d3e4f5{code:05}"


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
            "tax_rates": {key: f"{name} {percentage}%" for key, (name, percentage) in _TAX_RATES.items()},
            "ledger_accounts": {account_id(code): f"{account[0]} ({code})" for code, account in _ACCOUNTS.items()},
        }
    )


def account_id(code: int) -> str:
    """The id of the ledger account with this nominal code: 32 hex digits."""
    return _ACCOUNT_ID.format(code=code)


def percentage(tax_rate_id: str | None) -> str:
    """The percentage of a tax rate, "20.0"; zero for none."""
    return _TAX_RATES[tax_rate_id][1] if tax_rate_id else "0.0"


def base(collection: str, key: str | None) -> dict[str, str] | None:
    """An entry as every answer shows it (`id`, `displayed_as`, `$path`), or None without a key.

    Raises KeyError for an id that the list does not hold: writes were checked, so that is a fault of ours.
    """
    if key is None:
        return None
    return {"id": key, "displayed_as": lists()[collection][key], "$path": f"/{collection}/{key}"}


def in_full(collection: str, key: str) -> dict[str, Any]:
    """An entry with all of its attributes. Raises KeyError as `base`."""
    return {**(base(collection, key) or {}), **_details(collection).get(key, {})}


@cache
def _details(collection: str) -> Mapping[str, Mapping[str, Any]]:
    times = {"created_at": "2015-01-01T00:00:00Z", "updated_at": "2015-01-01T00:00:00Z"}
    if collection == "tax_rates":
        return {
            key: {**times, "name": name, "percentage": percentage, "is_visible": True, "retailer": False}
            for key, (name, percentage) in _TAX_RATES.items()
        }
    if collection == "ledger_accounts":
        return {
            account_id(code): {
                **times,
                "name": name,
                "display_name": name,
                "nominal_code": code,
                "included_in_chart": True,
                "is_control_account": control,
                "visible_in_sales": sales,
                "visible_in_expenses": expenses,
                "ledger_account_type": {
                    "id": kind,
                    "displayed_as": kind.replace("_", " ").capitalize(),
                    "$path": f"/ledger_account_types/{kind}",
                },
            }
            for code, (name, kind, sales, expenses, control) in _ACCOUNTS.items()
        }
    return {}


def narrowed(collection: str, query: Mapping[str, str]) -> list[str]:
    """The ids that a list gives: ledger accounts may be asked for by where they can be chosen (`visible_in`)."""
    wanted = query.get("visible_in") if collection == "ledger_accounts" else None
    return [
        key for key in lists()[collection] if wanted is None or _details(collection)[key].get(f"visible_in_{wanted}")
    ]
