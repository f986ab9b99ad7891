"""What may be saved of a list's address, and under which names."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.filters.saved import MOST, NameTaken, Refused, Saved, filters_of, read_query, renamed, with_filter, without
from webapp.modules import COMPANIES, CONTACTS


def test_the_place_in_the_list_is_not_saved() -> None:
    assert read_query("/companies?status=review&after=abc&q=z%C3%BCrich") == "status=review&q=z%C3%BCrich"


@pytest.mark.parametrize("text", ["", "/companies", "?", "after=abc", "/companies?before=x"])
def test_nothing_cannot_be_saved(text: str) -> None:
    with pytest.raises(Refused, match="Set a filter first"):
        read_query(text)


def test_too_much_cannot_be_saved() -> None:
    with pytest.raises(Refused, match="more filters than"):
        read_query("q=" + "x" * 2_000)


@given(st.text(max_size=200))
def test_whatever_is_saved_is_read_the_same_again(text: str) -> None:
    try:
        query = read_query(text)
    except Refused:
        return
    assert read_query(query) == query
    assert not {name for name, _ in parse_qsl(query)} & {"after", "before"}


def test_a_name_is_one_whatever_its_case_and_can_be_replaced() -> None:
    saved = with_filter({}, COMPANIES, " Red  ones ", "status=review")
    with pytest.raises(NameTaken, match="“Red ones”"):
        with_filter(saved, COMPANIES, "RED ONES", "status=pending")
    saved = with_filter(saved, COMPANIES, "RED ONES", "status=pending", replace=True)
    assert filters_of(saved, COMPANIES) == {"Red ones": "status=pending"}
    # Another module has names of its own.
    assert filters_of(with_filter(saved, CONTACTS, "Red ones", "q=a"), CONTACTS) == {"Red ones": "q=a"}


def test_filters_are_in_the_order_in_which_people_count() -> None:
    in_order = [
        "",
        "2025 first",
        "2026 x 9",
        "2026 x 10",
        "äpfel 2",
        "Apfel 3",
        "apfel 12",
        "Birnen",
        "zürich 3",
        "Zürich 12",
    ]
    assert list(filters_of({COMPANIES.name: dict.fromkeys(sorted(in_order), "q=a")}, COMPANIES)) == in_order
    # Names that count as one keep an order of their own.
    alike = ["Cafe 1", "Café 01", "Café 1"]
    for order in (alike, alike[::-1]):
        assert list(filters_of({COMPANIES.name: dict.fromkeys(order, "q=a")}, COMPANIES)) == alike


@given(st.lists(st.text(max_size=60), unique=True))
def test_any_names_have_an_order(names: list[str]) -> None:
    saved = {COMPANIES.name: dict.fromkeys(names, "q=a")}
    again = {COMPANIES.name: dict.fromkeys(reversed(names), "q=a")}
    assert list(filters_of(saved, COMPANIES)) == list(filters_of(again, COMPANIES))


@pytest.mark.parametrize("name", ["", "   ", "\u200b", "x" * 61])
def test_a_name_has_some_letters_and_not_too_many(name: str) -> None:
    with pytest.raises(Refused):
        with_filter({}, COMPANIES, name, "q=a")


def test_so_many_and_no_more() -> None:
    saved: Saved = {}
    for number in range(MOST):
        saved = with_filter(saved, COMPANIES, f"filter {number}", "q=a")
    with pytest.raises(Refused, match="Delete one"):
        with_filter(saved, COMPANIES, "one more", "q=a")
    assert len(filters_of(with_filter(saved, COMPANIES, "FILTER 3", "q=b", replace=True), COMPANIES)) == MOST


def test_a_new_name_stands_in_the_same_place() -> None:
    saved: Saved = {COMPANIES.name: {"a": "q=a", "b": "q=b", "c": "q=c"}}
    assert list(filters_of(renamed(saved, COMPANIES, "b", "B"), COMPANIES)) == ["a", "B", "c"]
    with pytest.raises(NameTaken):
        renamed(saved, COMPANIES, "b", "C")
    with pytest.raises(KeyError):
        renamed(saved, COMPANIES, "d", "e")
    assert list(filters_of(without(saved, COMPANIES, "b"), COMPANIES)) == ["a", "c"]
    assert without(saved, COMPANIES, "d") == saved
