"""Pages of Sage Accounting's lists."""

from __future__ import annotations

import pytest

from workers.sage.accounting.lists import NotAList, items_of, next_page

BASE = "https://api.accounting.sage.com/v3.1"


@pytest.mark.parametrize(
    "link",
    [
        "/contacts?page=3&items_per_page=25",
        "contacts?items_per_page=25&page=3",
        "/v3.1/contacts?page=3",
        f"{BASE}/contacts?page=3&items_per_page=25",
        "https://API.accounting.sage.com/v3.1/contacts?page=3",
    ],
)
def test_the_next_page_is_named_by_its_number(link: str) -> None:
    assert next_page({"$next": link}, 2, BASE) == 3


@pytest.mark.parametrize("page", [{"$next": None}, {"$next": ""}, {}])
def test_the_last_page_names_none(page: dict[str, object]) -> None:
    assert next_page(page, 2, BASE) is None


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/v3.1/contacts?page=3",
        "//elsewhere.example/contacts?page=3",
        "http://api.accounting.sage.com/v3.1/contacts?page=3",
        "https://api.accounting.sage.com:8443/v3.1/contacts?page=3",
        "https://api.accounting.sage.com@elsewhere.example/contacts?page=3",
        "https://[/contacts?page=3",
        "/contacts",
        "/contacts?page=three",
        "/contacts?page=2",
        "/contacts?page=1",
        7,
    ],
)
def test_a_link_to_elsewhere_or_to_nowhere_is_refused(link: object) -> None:
    with pytest.raises(NotAList):
        next_page({"$next": link}, 2, BASE)


def test_entries_that_are_no_objects_are_left_out() -> None:
    assert items_of({"$items": [{"id": "a"}, None, "b", 3, {"id": "c"}]}) == [{"id": "a"}, {"id": "c"}]


@pytest.mark.parametrize("page", [{}, {"$items": None}, {"$items": {"id": "a"}}, {"error": "x"}])
def test_an_answer_without_entries_is_no_list(page: dict[str, object]) -> None:
    with pytest.raises(NotAList):
        items_of(page)
