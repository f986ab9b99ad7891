"""What the bodies of writes may hold, as data.

Names, required fields and lengths are those of Sage's Swagger file for v3.1. One rule is ours and harsher: an address
needs a country, which Sage's file does not mark as required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Text:
    """A string of at most `longest` characters; blank counts as absent."""

    longest: int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Email:
    """A string of at most `longest` characters with one @ between two parts."""

    longest: int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed set of words."""

    words: frozenset[str]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    required: bool = False


@dataclass(frozen=True, slots=True)
class Money:
    """An amount of zero or more, as a JSON number or a string."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class Id:
    """The id of an entry of the fixed list `of`, or of a record of the collection `of`."""

    of: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Ids:
    """One or more ids of the fixed list `of`."""

    of: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """An object inside the body that becomes a record of its own.

    A required part is checked as if it were empty when it is absent, so that its own required fields are reported.
    """

    fields: Fields
    required: bool = False


@dataclass(frozen=True, slots=True)
class Day:
    """A date without a time, as ISO 8601 writes it."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """One or more objects, each checked as the body of a create: a write replaces all of them."""

    fields: Fields
    required: bool = False


Kind = Text | Email | Choice | Whole | Money | Flag | Id | Ids | Part | Day | Lines
Fields = Mapping[str, Kind]


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection that can be written.

    `namespace` is the one key of a write's body. `sequential` collections take one POST at a time, because Sage
    numbers them. `filters` are the query parameters of its list that the store has an answer to. Without `tombstones`
    nothing tells what was deleted. Only some lists take `nested_attributes`.
    """

    name: str
    namespace: str
    fields: Fields
    sequential: bool = False
    filters: tuple[str, ...] = ()
    tombstones: bool = True
    nested_in_lists: bool = False


_ADDRESS_LINES: dict[str, Kind] = {
    "address_line_1": Text(50),
    "address_line_2": Text(50),
    "city": Text(50),
    "region": Text(50),
    "postal_code": Text(10),
    "country_id": Id("countries", required=True),
}

ADDRESS_PART: Fields = MappingProxyType(
    {**_ADDRESS_LINES, "name": Text(50), "address_type_id": Id("address_types"), "is_main_address": Flag()}
)

_REACHED_AT: dict[str, Kind] = {
    "job_title": Text(50),
    "telephone": Text(50),
    "mobile": Text(50),
    "email": Email(100),
    "fax": Text(50),
    "is_main_contact": Flag(),
    "is_preferred_contact": Flag(),
}

PERSON_PART: Fields = MappingProxyType(
    {
        "name": Text(50),
        "contact_person_type_ids": Ids("contact_person_types"),
        "address_id": Id("addresses"),
        **_REACHED_AT,
    }
)

CONTACTS = Resource(
    "contacts",
    "contact",
    MappingProxyType(
        {
            "name": Text(100, required=True),
            "contact_type_ids": Ids("contact_types", required=True),
            "reference": Text(10),
            "tax_number": Text(255),
            "notes": Text(4000),
            "locale": Text(10),
            "credit_limit": Money(),
            "credit_days": Whole(0, 365),
            "credit_terms": Choice(
                frozenset(
                    {
                        "month_end_invoice",
                        "date_from_invoice",
                        "immediate_invoice",
                        "month_end_payment",
                        "date_from_payment",
                        "immediate_payment",
                    }
                )
            ),
            "credit_terms_and_conditions": Text(2000),
            "currency_id": Id("currencies"),
            "source_guid": Text(255),
            "registered_number": Text(25),
            "aux_reference": Text(4),
            "auxiliary_account": Text(25),
            "main_address": Part(ADDRESS_PART, required=True),
            "delivery_address": Part(ADDRESS_PART),
            "main_contact_person": Part(PERSON_PART),
        }
    ),
    sequential=True,
    filters=("search", "email", "contact_type_id"),
    nested_in_lists=True,
)

ADDRESSES = Resource(
    "addresses",
    "address",
    MappingProxyType(
        {
            "address_type_id": Id("address_types", required=True),
            "name": Text(50, required=True),
            "is_main_address": Flag(required=True),
            "contact_id": Id("contacts"),
            **_ADDRESS_LINES,
        }
    ),
    filters=("contact_id",),
)

CONTACT_PERSONS = Resource(
    "contact_persons",
    "contact_person",
    MappingProxyType(
        {
            "address_id": Id("addresses", required=True),
            "name": Text(50, required=True),
            "contact_person_type_ids": Ids("contact_person_types", required=True),
            **_REACHED_AT,
        }
    ),
    filters=("contact_id", "address_id"),
)

PRODUCTS = Resource(
    "products",
    "product",
    MappingProxyType(
        {
            "description": Text(255, required=True),
            "sales_ledger_account_id": Id("ledger_accounts", required=True),
            "purchase_ledger_account_id": Id("ledger_accounts", required=True),
            "item_code": Text(255),
            "notes": Text(500),
            "sales_tax_rate_id": Id("tax_rates"),
            "purchase_tax_rate_id": Id("tax_rates"),
            "cost_price": Money(),
            "source_guid": Text(255),
            "purchase_description": Text(250),
            "active": Flag(),
            "sales_prices": Lines(
                MappingProxyType({"price_name": Text(255), "price": Money(), "price_includes_tax": Flag()})
            ),
        }
    ),
    sequential=True,
    filters=("search",),
)

DOCUMENT_LINE: Fields = MappingProxyType(
    {
        # Sage's file names no length; a description is a text of the database.
        "description": Text(2000, required=True),
        "ledger_account_id": Id("ledger_accounts", required=True),
        "product_id": Id("products"),
        "quantity": Money(required=True),
        "unit_price": Money(required=True),
        "discount_amount": Money(),
        "tax_rate_id": Id("tax_rates"),
        "tax_amount": Money(),
    }
)

SALES_QUOTES = Resource(
    "sales_quotes",
    "sales_quote",
    MappingProxyType(
        {
            "contact_id": Id("contacts", required=True),
            "date": Day(required=True),
            "expiry_date": Day(required=True),
            "reference": Text(25),
            "notes": Text(2000),
            "terms_and_conditions": Text(2000),
            "shipping_net_amount": Money(),
            "shipping_tax_rate_id": Id("tax_rates"),
            "quote_lines": Lines(DOCUMENT_LINE, required=True),
        }
    ),
    sequential=True,
    filters=("contact_id", "search"),
    tombstones=False,
)

# Sage's file asks for no quantity in the line of an invoice; what it takes an absent one for is not documented.
SALES_INVOICES = Resource(
    "sales_invoices",
    "sales_invoice",
    MappingProxyType(
        {
            "contact_id": Id("contacts", required=True),
            "date": Day(required=True),
            "due_date": Day(),
            "reference": Text(25),
            "notes": Text(2000),
            "terms_and_conditions": Text(2000),
            "shipping_net_amount": Money(),
            "shipping_tax_rate_id": Id("tax_rates"),
            "status_id": Choice(frozenset({"DRAFT", "UNPAID"})),
            "invoice_lines": Lines(DOCUMENT_LINE, required=True),
        }
    ),
    sequential=True,
    filters=("contact_id", "search"),
)

RESOURCES: Mapping[str, Resource] = MappingProxyType(
    {one.name: one for one in (CONTACTS, ADDRESSES, CONTACT_PERSONS, SALES_QUOTES, SALES_INVOICES, PRODUCTS)}
)
