"""A product between Sage and here, and its price above all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workers.sage.accounting.objects import NotUnderstood
from workers.sage.accounting.products import completed, create_body, remote_product, update_body
from workers.sage.connector import Rejected, RemoteRecord

RATES = {"GB_STANDARD": Decimal(20), "DE_STANDARD": Decimal(19)}
KEY = "a1" * 16
SCREW = {"code": "S-1", "name": "Screw", "unit_price": "0.0125", "discontinued": "no"}


def read(price: object, *, includes_tax: bool = False, rate: str = "GB_STANDARD") -> RemoteRecord:
    item: dict[str, Any] = {
        "id": "p" * 32,
        "description": "Screw",
        "sales_prices": [{"price_name": "Trade", "price": price, "price_includes_tax": includes_tax}],
        "sales_tax_rate": {"id": rate},
        "updated_at": "2026-11-02T09:00:00Z",
    }
    return remote_product(item, lambda: RATES)


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ("0.0125", "0.0125"),
        ("18", "18.00"),
        (Decimal("0.1250"), "0.125"),
        ("0.30000000000000004", "0.30"),
        (None, "0.00"),
    ],
)
def test_a_price_keeps_what_is_beyond_the_cent(price: object, text: str) -> None:
    """To round it would show a product as in step that costs something else in Sage, and orders of it at a wrong total."""
    product = read(price)
    assert product.fields["unit_price"] == text
    sent = update_body({**product.fields, "unit_price": "0.01255"}, product)["product"]["sales_prices"]
    assert sent == [{"price_name": "Trade", "price": 0.01255, "price_includes_tax": False}]


@pytest.mark.parametrize(("rate", "text"), [("GB_STANDARD", "8.325"), ("DE_STANDARD", "8.39496")])
def test_a_price_with_tax_is_read_without_it_and_goes_back_as_it_was(rate: str, text: str) -> None:
    product = read("9.99", includes_tax=True, rate=rate)
    assert product.fields["unit_price"] == text
    sent = update_body({**product.fields, "name": "Bolt"}, product)["product"]["sales_prices"]
    assert sent == [{"price_name": "Trade", "price": 9.99, "price_includes_tax": True}]


@pytest.mark.parametrize("price", ["-1", "1e13", "much"])
def test_what_is_no_price_is_not_understood(price: str) -> None:
    with pytest.raises(NotUnderstood):
        read(price)


def test_a_new_product() -> None:
    assert create_body(SCREW, KEY, "sales", "purchases") == {
        "product": {
            "idempotency_id": KEY,
            "source_guid": KEY,
            "sales_ledger_account_id": "sales",
            "purchase_ledger_account_id": "purchases",
            "item_code": "S-1",
            "description": "Screw",
            "active": True,
            "sales_prices": [{"price_name": "Sales Price", "price": 0.0125, "price_includes_tax": False}],
        }
    }
    given_away = {**SCREW, "unit_price": "0.00", "discontinued": "yes"}
    body = create_body(given_away, KEY, "sales", "purchases")["product"]
    assert "sales_prices" not in body
    assert body["active"] is False


@pytest.mark.parametrize(("active", "discontinued"), [(True, "no"), (False, "yes"), (None, "no")])
def test_what_an_answer_leaves_out_is_what_was_sent(active: bool | None, discontinued: str) -> None:
    sent = create_body(SCREW, KEY, "sales", "purchases")
    answer = {"id": "p" * 32, "updated_at": "2026-11-02T09:00:00Z", "active": active}
    product = remote_product(completed(answer, sent), lambda: RATES)
    assert product.fields == {**SCREW, "discontinued": discontinued}
    assert (product.number, product.origin) == ("S-1", KEY)


def test_the_first_price_of_a_product_without_one_has_a_name() -> None:
    product = remote_product({"id": "p", "description": "Screw", "updated_at": "2026-11-02T09:00:00Z"}, lambda: RATES)
    body = update_body({**product.fields, "name": "Bolt"}, product)["product"]
    assert body == {"item_code": "", "description": "Bolt", "active": True}
    sent = update_body({**product.fields, "unit_price": "2.00"}, product)["product"]["sales_prices"]
    assert sent == [{"price_name": "Sales Price", "price": 2, "price_includes_tax": False}]


@pytest.mark.parametrize(
    ("name", "value"), [("unit_price", "-0.01"), ("unit_price", "much"), ("discontinued", "perhaps")]
)
def test_what_sage_would_refuse_is_refused(name: str, value: str) -> None:
    with pytest.raises(Rejected) as refused:
        create_body({**SCREW, name: value}, KEY, "sales", "purchases")
    assert refused.value.detail == {"code": "malformed", "field": name}
