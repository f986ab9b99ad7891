"""The forms in which people edit records of Sage: their fields, their values, and what a form changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.sandbox.documents import DOCUMENTS

Section = tuple[str, tuple[tuple[str, str], ...]]
"""A title, and names of fields with their labels. The names are those that Sandbox.edit takes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Records that have a form. `path` is where their pages are; `needed` are the fields that must not be empty."""

    path: str
    collection: str
    noun: str
    gone: str
    needed: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    one.path: one
    for one in (
        Kind(
            "customers",
            "contacts",
            "customer",
            "It is deleted in Sage, with its address, its contact persons and its quotes.",
            ("name", "country_id"),
        ),
        Kind("persons", "contact_persons", "contact person", "It is deleted in Sage.", ("name",)),
        Kind("quotes", "sales_quotes", "quote", "It is deleted in Sage, which keeps no trace of it.", ()),
        Kind("products", "products", "product", "It is deleted in Sage.", ("description",)),
        Kind("invoices", "sales_invoices", "invoice", "It is made void in Sage, which keeps it to be read.", ()),
    )
}
OF_COLLECTION: Mapping[str, Kind] = {one.collection: one for one in KINDS.values()}

_CUSTOMER: tuple[Section, ...] = (
    ("Customer", (("name", "Name"), ("reference", "Reference"), ("tax_number", "VAT number"), ("notes", "Notes"))),
    (
        "Main address",
        (
            ("address_line_1", "Address line 1"),
            ("address_line_2", "Address line 2"),
            ("city", "Town or city"),
            ("region", "County or region"),
            ("postal_code", "Postcode"),
            ("country_id", "Country"),
        ),
    ),
    (
        "Main contact person",
        (
            ("contact_name", "Name"),
            ("job_title", "Job title"),
            ("telephone", "Telephone"),
            ("mobile", "Mobile"),
            ("email", "E-mail"),
        ),
    ),
)
_PERSON: tuple[Section, ...] = (
    (
        "Contact person",
        (
            ("name", "Name"),
            ("job_title", "Job title"),
            ("telephone", "Telephone"),
            ("mobile", "Mobile"),
            ("email", "E-mail"),
        ),
    ),
)
_PRODUCT: tuple[Section, ...] = (
    (
        "Product",
        (
            ("item_code", "Item code"),
            ("description", "Description"),
            ("price", "Sales price"),
            ("active", "Active"),
            ("notes", "Notes"),
        ),
    ),
)
_OF_DOCUMENT = (("reference", "Reference"), ("notes", "Notes"))
_OF_LINE = (("quantity", "Quantity"), ("unit_price", "Price"))


def form_of(kind: Kind, shown: Mapping[str, Any] | None) -> tuple[Section, ...]:
    """The form of a record, or of a new one. A quote or an invoice has two fields for each line: `quantity-0`, ..."""
    if kind.path == "customers":
        return _CUSTOMER
    if kind.path == "persons":
        return _PERSON
    if kind.path == "products":
        return _PRODUCT
    lines = shown[DOCUMENTS[kind.collection].lines] if shown else []
    return (
        (kind.noun.capitalize(), _OF_DOCUMENT),
        *(
            (line["description"], tuple((f"{name}-{position}", label) for name, label in _OF_LINE))
            for position, line in enumerate(lines)
        ),
    )


def values_of(kind: Kind, shown: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the form of a record."""
    if document := DOCUMENTS.get(kind.collection):
        lines = {
            f"{name}-{position}": line[name]
            for position, line in enumerate(shown[document.lines])
            for name, _ in _OF_LINE
        }
        return {**shown, **lines}
    if kind.path == "persons":
        return dict(shown)
    if kind.path == "products":
        price = next((one["price"] for one in shown["sales_prices"]), "")
        return {**shown, "price": price, "active": "yes" if shown["active"] else "no"}
    address, person = shown["main_address"] or {}, shown["main_contact_person"] or {}
    flat = {**shown, **person, **address, "name": shown["name"], "contact_name": person.get("name")}
    flat["country_id"] = (address.get("country") or {}).get("id")
    return flat


def changes_of(kind: Kind, shown: Mapping[str, Any] | None, typed: Mapping[str, str]) -> dict[str, Any]:
    """What Sandbox.edit takes for what somebody typed: the lines of a document in their order, each with what changes."""
    document = DOCUMENTS.get(kind.collection)
    if document is None or shown is None:
        return dict(typed)
    lines = [
        {name: typed[f"{name}-{position}"] for name, _ in _OF_LINE if f"{name}-{position}" in typed}
        for position in range(len(shown[document.lines]))
    ]
    whole = {name: value for name, value in typed.items() if name in ("reference", "notes")}
    return {**whole, document.lines: lines} if any(lines) else whole


def field_of(source: str) -> str:
    """The field of a form that Sage complains about; "" for a line, since Sage does not say which."""
    group, _, name = source.rpartition(".")
    if group in [one.lines for one in DOCUMENTS.values()]:
        return ""
    if group == "sales_prices":
        return "price"
    return "contact_name" if (group, name) == ("main_contact_person", "name") else name


def title_of(kind: Kind, shown: Mapping[str, Any] | None) -> str:
    """What a page about a record is called."""
    if shown is None:
        return f"New {kind.noun}"
    document = DOCUMENTS.get(kind.collection)
    if kind.path == "products":
        return str(shown["description"])
    return f"{kind.noun.capitalize()} {shown[document.number]}" if document else str(shown["name"])
