"""What the pages of products are asked for: the list's query, whose state is the address, and the form of one product.

Pure: text of a request goes in, typed values and messages come out. No database and no network is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import ClassVar

from werkzeug.datastructures import MultiDict

from webapp.companies.clean import Cleaned
from webapp.forms import Field, Form, Groups, by_name
from webapp.forms import read_form as read_any_form
from webapp.languages import N_
from webapp.languages import gettext as _
from webapp.listing.query import AMOUNT, TIME, ListQuery, Sort, read_list_query
from webapp.numbers import price_text, read_number, typed_number
from webapp.products.clean import LIMITS, clean_product
from webapp.products.models import NO, YES, Product

# The orders that the list can have, as the address names them.
SORTS = {
    "name": Sort(N_("Name")),
    "code": Sort(N_("Code")),
    "unit_price": Sort(N_("Price"), AMOUNT, highest_first=True),
    "last_synchronised_at": Sort(N_("Last synchronisation"), TIME, highest_first=True),
}


@dataclass(frozen=True)
class ProductQuery(ListQuery):
    """What the list of products shows; `discontinued` are some of YES and NO."""

    SORTS: ClassVar[Mapping[str, Sort]] = SORTS
    SORT: ClassVar[str] = "name"
    LABELS: ClassVar[Mapping[str, str]] = {**ListQuery.LABELS, "discontinued": N_("Availability")}

    discontinued: tuple[str, ...] = ()


def read_query(args: MultiDict[str, str], connections: Collection[str] = (), zone: tzinfo = UTC) -> ProductQuery:
    """The query that an address asks for, of somebody in `zone`; `connections` are the ids of all connections.

    Never raises: what cannot be is left out and becomes a problem.
    """
    return read_list_query(ProductQuery, args, {"discontinued": (NO, YES), "connection": connections}, zone)


# The form in groups, in the order in which people fill it in.
GROUPS: Groups = (
    (
        N_("Product"),
        (
            Field("name", N_("Name"), limit=LIMITS["name"], needed=True),
            Field("code", N_("Code"), hint=N_("Unique. Sage shows it as the item code."), limit=LIMITS["code"]),
            Field("unit_price", N_("Price"), hint=N_("Without tax, for one unit."), limit=40, live="unit_price"),
            Field("unit", N_("Unit"), hint=N_("It is not sent to Sage."), limit=LIMITS["unit"]),
            Field(
                "discontinued",
                N_("Availability"),
                kind="choice",
                hint=N_("What is no longer sold is not offered for new orders."),
                live="discontinued",
            ),
            Field("connection_id", N_("Company in Sage"), kind="choice", live=None),
        ),
    ),
)
FIELDS = by_name(GROUPS)

STAYS_WITH_CONNECTION = N_(
    "Sage has this product, or may have it, so it stays there: elsewhere it would be made a second time. "
    "It can go over once it was deleted in Sage and an admin has unlinked it here."
)

# The fields of a product that is not there yet.
NOTHING: dict[str, str] = dict.fromkeys(FIELDS, "") | {"discontinued": NO}


def read_form(
    form: Mapping[str, str], stored: Mapping[str, str], connections: Collection[int] = (), *, stays: bool = False
) -> Form:
    """A form as it was sent, cleaned. `connections` are the ids of the connections that it can belong to.

    `stored` is what the fields are now, for what the form does not hold: a field that was not sent stays as it is. With
    `stays`, the connection can no longer be changed.
    """

    def clean(typed: dict[str, str]) -> Cleaned:
        connection = typed["connection_id"].strip()
        cleaned = clean_product({name: value for name, value in typed.items() if name != "connection_id"})
        errors = dict(cleaned.errors)
        if connection and connection not in {str(one) for one in connections}:
            errors["connection_id"] = _("This company in Sage is no longer connected. Choose another one.")
        return Cleaned({**cleaned.values, "connection_id": connection}, errors)

    return read_any_form(FIELDS, form, stored, clean, {"connection_id": STAYS_WITH_CONNECTION} if stays else {})


def texts(product: Product) -> dict[str, str]:
    """The fields of a product as they are stored, as texts: the price as plain_price has it."""
    shared = {name: product.shared(name) for name in ("code", "name", "unit_price", "discontinued")}
    return shared | {"unit": product.unit, "connection_id": str(product.connection_id or "")}


def as_typed(fields: Mapping[str, str]) -> dict[str, str]:
    """Such texts as the reader would type them: no price where it is zero, and a comma where that divides decimals."""
    price = fields["unit_price"]
    return {**fields, "unit_price": "" if price == "0.00" else typed_number(price)}


def words_of(*fields: Mapping[str, str]) -> list[tuple[str, str]]:
    """The prices among these texts of forms, each with the words in which a page shows it."""
    read = {text: read_number(text) for one in fields if (text := one.get("unit_price"))}
    return [(text, price_text(price)) for text, price in read.items() if price is not None]


def stored_values(values: Mapping[str, str]) -> dict[str, object]:
    """The fields of a form as a product holds them."""
    connection = values["connection_id"]
    return {
        **values,
        "unit_price": Decimal(values["unit_price"]),
        "discontinued": values["discontinued"] == YES,
        "connection_id": int(connection) if connection else None,
    }
