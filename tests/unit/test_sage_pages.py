"""Which address may lead people from a record to Sage, with no network."""

from __future__ import annotations

from typing import Any

import pytest

from webapp.config import Settings
from webapp.connection.products import ACCOUNTING, PRODUCTS
from workers.sage.accounting.objects import page_of

SAGE = Settings(sage_base_url="https://api.accounting.sage.com/v3.1")
SANDBOX = Settings(sandbox_port=8010)


@pytest.mark.parametrize("settings", [SAGE, SANDBOX])
@pytest.mark.parametrize(
    ("address", "is_shown"),
    [
        ("https://accounting.na.sageone.com/contacts/customers/7f3a", True),
        ("https://accounting.sageone.com/invoicing/sales_quotes/7f3a?locale=en-GB#top", True),
        ("https://accounting.sage.com/contacts/1", True),
        ("", False),
        ("http://accounting.sageone.com/contacts/1", False),
        ("https://accounting.sageone.com.example.com/contacts/1", False),
        ("https://evilsageone.com/contacts/1", False),
        ("https://example.com/?accounting.sageone.com/", False),
        ("https://accounting.sageone.com@example.com/contacts/1", False),
        ("https://accounting.sageone.com:8443/contacts/1", False),
        ("https://example.com\\.sageone.com/contacts/1", False),
        ("https://accounting.sageone.com/a b", False),
        ("https://accounting.sageone.com/a\n", False),
        ('https://accounting.sageone.com/"><script>', False),
        ("//accounting.sageone.com/contacts/1", False),
        ("javascript:alert(1)//https://accounting.sageone.com/", False),
        ("http://127.0.0.1:8011/customers/1", False),
        ("http://127.0.0.1:8010@example.com/customers/1", False),
        ("http://127.0.0.1:80100/customers/1", False),
        ("https://127.0.0.1:8010/customers/1", False),
    ],
)
def test_only_pages_of_the_product_are_shown(address: str, is_shown: bool, settings: Settings) -> None:
    assert PRODUCTS[ACCOUNTING].page_of(address, settings) == (address if is_shown else "")


def test_the_sandbox_s_pages_are_shown_where_it_is_used() -> None:
    address = "http://127.0.0.1:8010/customers/7f3a"
    assert PRODUCTS[ACCOUNTING].page_of(address, SANDBOX) == address
    assert PRODUCTS[ACCOUNTING].page_of(address, SAGE) == ""
    assert PRODUCTS[ACCOUNTING].page_of("http://127.0.0.1:8010/a b", SANDBOX) == ""


@pytest.mark.parametrize(
    ("links", "page"),
    [
        ([{"href": "https://a.example/1", "rel": "alternate", "type": "text/html"}], "https://a.example/1"),
        (
            [{"href": "/v3.1/x", "rel": "self"}, {"href": "https://a.example/1", "rel": "alternate"}],
            "https://a.example/1",
        ),
        ([{"href": "https://a.example/" + "x" * 500, "rel": "alternate"}], ""),
        ([{"href": "https://a.example/\0", "rel": "alternate"}], ""),
        ([{"href": None, "rel": "alternate"}, "https://a.example/1", {}], ""),
        ([], ""),
        (None, ""),
        ("https://a.example/1", ""),
    ],
)
def test_the_link_for_people_is_taken_and_nothing_else(links: Any, page: str) -> None:
    assert page_of({"links": links}) == page
