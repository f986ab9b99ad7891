"""What people type or export as a product, made clean: the same rules for the form and for the import.

Pure: asks no database and no network, and so does not know whether a code is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from webapp.companies.clean import Cleaned, too_long
from webapp.languages import gettext as _
from webapp.numbers import PRICE_PLACES, plain_price, read_number, without_noise
from webapp.sync.details import AVAILABILITY
from webapp.text import clean_line

# The most characters that a text may have: as many as Sage takes, but for the unit, which stays here.
LIMITS = {"code": 255, "name": 255, "unit": 100}
# What the column of the database can hold, and no price comes near.
HIGHEST_PRICE = Decimal("999999999999.99")


def clean_product(raw: Mapping[str, str]) -> Cleaned:
    """Make the fields of a product clean, as webapp.companies.clean does those of a company.

    The price becomes that of webapp.numbers.plain_price, 0.00 where none is written; `discontinued` is yes or no. Cleaning what
    came out once more changes nothing.
    """
    values = {field: clean_line(raw.get(field, "")) for field in LIMITS}
    errors = too_long(values, LIMITS)
    if not values["name"]:
        errors["name"] = _("Every product needs a name: give it one.")
    values["unit_price"] = clean_line(raw.get("unit_price", ""))
    price = read_number(values["unit_price"] or "0")
    if price is None or not is_price(price):
        errors["unit_price"] = _(
            "Enter the price as an amount from 0 with %(places)s decimals at most, or leave it empty.",
            places=PRICE_PLACES,
        )
    else:
        values["unit_price"] = plain_price(price)
    values["discontinued"] = raw.get("discontinued", "") or "no"
    if values["discontinued"] not in AVAILABILITY:
        errors["discontinued"] = _("Choose whether it is still sold.")
    return Cleaned(values, errors)


def is_price(price: Decimal) -> bool:
    """Whether a number can be the price of a product."""
    return 0 <= price <= HIGHEST_PRICE and without_noise(price) == price
