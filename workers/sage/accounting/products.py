"""A product of ours as a product of Sage Accounting v3.1, and back. Pure.

Its price here is without tax, and Sage's first sales price. Names, lengths and required fields are those of Sage's
Swagger file. Ledger accounts, tax rates, the cost price, further sales prices and notes are Sage's own: they are neither
compared nor changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from webapp.numbers import TOO_HIGH, plain_price, without_noise
from workers.sage.accounting import objects
from workers.sage.accounting.documents import Rates
from workers.sage.accounting.objects import NotUnderstood, amount_of, as_number, decimal_of, kept, part_of
from workers.sage.connector import NO, PRODUCT_FIELDS, YES, Fields, Rejected, RemoteRecord, tidied
from workers.sage.http import Complaint

# What a list or a single read must ask for.
ASKED = {"attributes": "item_code,description,active,sales_prices,sales_tax_rate,source_guid,created_at,updated_at"}

_TEXTS = {"code": ("item_code", 255), "name": ("description", 255)}
LIMITS = objects.limits_of(_TEXTS)
REQUIRED = ("name", "unit_price", "discontinued")
# What Sage calls the price of a product that has one.
PRICE_NAME = "Sales Price"
# What a price keeps, beside its amount: key in the answer -> key in the body.
_KEPT_OF_PRICE = {
    "price_name": "price_name",
    "price_includes_tax": "price_includes_tax",
    "product_sales_price_type": "product_sales_price_type_id",
}

# A price without the tax that is in it seldom comes to an end: so many places that a thousand pieces come to the same.
_WITHOUT_TAX = Decimal("0.00001")

_FIELD_OF = {
    **{sage: ours for ours, (sage, _) in _TEXTS.items()},
    **{f"*.{sage}": "unit_price" for sage in ("sales_prices", "price", "price_includes_tax")},
    "active": "discontinued",
}


def remote_product(item: Mapping[str, Any], rates: Callable[[], Rates]) -> RemoteRecord:
    """A product, read with ASKED, in our words. One without a price costs nothing, and Sage says of none where its page is.

    `rates` gives the tax rates of the business, and is asked only for a price that includes tax. Raises NotUnderstood
    where it has no id, name or time, where the price is no amount from 0, or includes a tax that is not known.
    """
    sage_id = objects.id_of(item)
    prices = objects.objects_of(item, "sales_prices")
    fields = tidied(
        {
            **objects.texts_of(sage_id, item, _TEXTS),
            "unit_price": plain_price(_net_price(sage_id, item, prices[0], rates) if prices else Decimal(0)),
            "discontinued": YES if item.get("active") is False else NO,
        },
        PRODUCT_FIELDS,
    )
    if not fields["name"]:
        raise NotUnderstood(sage_id, "a product without a description")
    return RemoteRecord(
        id=sage_id,
        number=fields["code"],
        updated_at=objects.updated_at(sage_id, (item,)),
        fields=fields,
        origin=objects.origin_of(item),
        rest={"sales_prices": [_as_sent(sage_id, price) for price in prices]},
    )


def includes_tax(item: Mapping[str, Any]) -> bool:
    """Whether the price of a product, or of a body, can be told only by a tax rate."""
    return any(price.get("price_includes_tax") is True for price in objects.objects_of(item, "sales_prices")[:1])


def completed(answer: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a write of `body`, with what was sent where it leaves something out."""
    return {**objects.as_read(part_of(body, "product")), **answer}


def purchase_account_of(items: Iterable[Mapping[str, Any]]) -> str:
    """The ledger account of a new product's purchases, which Sage asks for; see objects.ledger_account_of."""
    return objects.ledger_account_of(items, "DIRECT_EXPENSES", "visible_in_expenses")


def _net_price(sage_id: str, item: Mapping[str, Any], price: Mapping[str, Any], rates: Callable[[], Rates]) -> Decimal:
    amount = amount_of(sage_id, price, "price")
    if not 0 <= amount < TOO_HIGH:
        raise NotUnderstood(sage_id, "a negative price, or one beyond any amount")
    if price.get("price_includes_tax") is True:
        for rate in objects.ids_of(part_of(item, "sales_tax_rate")):
            known = rates()
            if rate not in known:
                raise NotUnderstood(sage_id, f"a price with the tax rate {rate}, which Sage does not list")
            amount = (amount * 100 / (100 + known[rate])).quantize(_WITHOUT_TAX, ROUND_HALF_UP).normalize()
    return without_noise(amount)


def _as_sent(sage_id: str, price: Mapping[str, Any]) -> dict[str, Any]:
    """A price as a body holds it, with every digit that Sage has."""
    return {"price": as_number(amount_of(sage_id, price, "price")), **kept(price, _KEPT_OF_PRICE)}


def create_body(
    fields: Fields, idempotency_key: str, sales_account_id: str, purchase_account_id: str
) -> dict[str, Any]:
    """The body of POST /products. Raises Rejected where Sage would refuse it.

    The key goes along twice: Sage forgets idempotency ids after 7 days, and keeps source_guid.
    """
    ours, price = checked(fields)
    priced = {"price_name": PRICE_NAME, "price": as_number(price), "price_includes_tax": False}
    return {
        "product": {
            "idempotency_id": idempotency_key,
            "source_guid": idempotency_key,
            "sales_ledger_account_id": sales_account_id,
            "purchase_ledger_account_id": purchase_account_id,
            **objects.filled_of(ours, _TEXTS),
            "active": ours["discontinued"] == NO,
            **({"sales_prices": [priced]} if price else {}),
        }
    }


def update_body(fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
    """The body of PUT /products/{id}, with all prices that the product holds. An empty text empties a field.

    A price that is as Sage has it goes back letter by letter; another one is without tax. Raises Rejected where Sage
    would refuse it.
    """
    ours, price = checked(fields)
    prices = [dict(one) for one in remote.rest["sales_prices"]]
    if ours["unit_price"] != remote.fields["unit_price"]:
        first = prices[0] if prices else {"price_name": PRICE_NAME}
        prices[:1] = [{**first, "price": as_number(price), "price_includes_tax": False}]
    return {
        "product": {
            **objects.all_of(ours, _TEXTS),
            "active": ours["discontinued"] == NO,
            **({"sales_prices": prices} if prices else {}),
        }
    }


def checked(fields: Fields) -> tuple[dict[str, str], Decimal]:
    """The fields, tidied, and the price. Raises Rejected for the first thing that Sage would refuse."""
    ours = objects.checked(fields, PRODUCT_FIELDS, REQUIRED, LIMITS)
    price = decimal_of(ours["unit_price"])
    if price is None or price < 0:
        raise Rejected({"code": "malformed", "field": "unit_price"})
    if ours["discontinued"] not in (YES, NO):
        raise Rejected({"code": "malformed", "field": "discontinued"})
    return ours, price


def refusal(complaints: Sequence[Complaint], body: Mapping[str, Any]) -> dict[str, Any]:
    """The detail that tells a person what to mend when Sage refused `body`: see objects.refusal."""
    code = str(part_of(body, "product").get("item_code", ""))
    return objects.refusal(complaints, "product", _FIELD_OF, LIMITS, {"code": code})
