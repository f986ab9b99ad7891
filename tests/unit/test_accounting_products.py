"""A product's price between Sage and here."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workers.sage.accounting.objects import NotUnderstood
from workers.sage.accounting.products import remote_product, update_body
from workers.sage.connector import RemoteRecord

RATES = {"GB_STANDARD": Decimal(20), "DE_STANDARD": Decimal(19)}


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
