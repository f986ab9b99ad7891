"""Numbers, days and lines of orders as people type them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.numbers import read_number
from webapp.orders.clean import MOST_LINES, clean_order_header, clean_order_lines, read_day

LINE = {"description": "Chai", "quantity": "2", "unit_price": "18", "discount": "", "tax_rate": "20"}
HEADER = {"ordered_on": "2026-11-22", "valid_until": "2026-12-22"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50", "1234.50"),
        ("1234,50", "1234.50"),
        ("1234.5", "1234.5"),
        ("12,5", "12.5"),
        ("1,234", "1234"),
        ("0,500", "0.500"),
        ("1234,567", "1234.567"),
        ("1.234", "1.234"),
        ("1,234,567", "1234567"),
        ("1.234.567,8", "1234567.8"),
        (" £ 12.00", "12.00"),
        ("12,00 €", "12.00"),
        ("EUR 12", "12"),
        ("12.00 GBP", "12.00"),
        ("US$ 5", None),
        ("1 234,5", "1234.5"),
        ("1\u202f234", "1234"),
        ("1'234.50", "1234.50"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-3", "-3"),
        ("", None),
        (",", None),
        ("twelve", None),
        ("1,23,4", None),
        ("12,34.5", None),
        ("1,2.3,4", None),
        ("1e5", None),
        ("٣", None),
        ("--1", None),
    ],
)
def test_numbers_are_read_as_they_are_meant(text: str, number: str | None) -> None:
    assert read_number(text) == (None if number is None else Decimal(number))


@given(st.text(max_size=30))
def test_no_text_breaks_the_reading_of_a_number(text: str) -> None:
    read_number(text)
    read_day(text)


@given(st.decimals(min_value=0, max_value=10**12, places=2))
def test_what_is_shown_is_read_again(amount: Decimal) -> None:
    assert read_number(f"{amount:,.2f}") == amount
    assert read_number(f"£{amount:f}") == amount


@pytest.mark.parametrize(
    "text", ["1996-07-04", "1996-07-04 00:00:00.000", "4/7/1996", "04.07.1996", "4 Jul 1996", " 4 July 1996 "]
)
def test_days_are_read_in_the_usual_forms(text: str) -> None:
    assert read_day(text) == date(1996, 7, 4)


@pytest.mark.parametrize("text", ["", "31/02/2026", "tomorrow", "13/13/2026"])
def test_what_is_no_day_is_none(text: str) -> None:
    assert read_day(text) is None


def test_lines_are_made_clean() -> None:
    cleaned = clean_order_lines([{**LINE, "description": "  Chai\u00a0 tea ", "quantity": "2,5", "tax_rate": "20 %"}])
    (line,) = cleaned.lines
    assert (line.description, line.quantity, line.unit_price) == ("Chai tea", Decimal("2.5"), Decimal(18))
    assert (line.discount, line.tax_rate) == (Decimal(0), Decimal(20))
    assert not cleaned.errors
    assert not cleaned.problem


def test_lines_in_which_nothing_was_written_are_left_out_and_the_others_keep_their_number() -> None:
    blank = {"quantity": "1", "tax_rate": "20", "description": " "}
    cleaned = clean_order_lines([blank, LINE, blank, {**LINE, "quantity": "0"}])
    assert cleaned.kept == [1, 3]
    assert cleaned.errors == {(3, "quantity"): "Line 4: enter the quantity as a number above 0."}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"quantity": "two"}, "Line 1: enter the quantity as a number above 0."),
        ({"quantity": ""}, "Line 1: enter the quantity as a number above 0."),
        ({"quantity": "-1"}, "Line 1: enter the quantity as a number above 0."),
        ({"quantity": "1.12345678901"}, "Line 1: enter the quantity with 10 decimals at most."),
        ({"unit_price": "abc"}, "Line 1: enter the price as a number from 0."),
        ({"unit_price": "1.12345678901"}, "Line 1: enter the price with 10 decimals at most."),
        ({"unit_price": "9" * 13}, "Line 1: the price is too high: enter 999,999,999,999.99 at most."),
        ({"discount": "-1"}, "Line 1: enter the discount as a number from 0."),
        ({"tax_rate": "101"}, "Line 1: the tax is too high: enter 100 at most."),
        ({"description": ""}, "Line 1: choose a product or write what is ordered."),
        ({"description": "x" * 501}, "Line 1: shorten the description to 500 characters."),
    ],
)
def test_each_line_says_what_to_do(change: dict[str, str], sentence: str) -> None:
    assert list(clean_order_lines([LINE | change]).errors.values()) == [sentence]


def test_a_line_without_a_price_is_kept_for_later() -> None:
    cleaned = clean_order_lines([LINE | {"unit_price": "", "discount": "5"}])
    assert cleaned.lines[0].unit_price == 0
    assert not cleaned.errors


def test_an_order_that_no_column_can_hold_is_refused() -> None:
    huge = LINE | {"quantity": "10,000,000,000", "unit_price": "10,000,000,000"}
    assert "check its quantities and prices" in clean_order_lines([huge]).problem
    assert "300 lines at most" in clean_order_lines([LINE] * (MOST_LINES + 1)).problem


def test_a_header_is_made_clean() -> None:
    cleaned = clean_order_header(HEADER | {"number": " S-1 ", "shipping": "£12,50", "notes": "a \r\n b\r\n"})
    assert not cleaned.errors
    assert cleaned.values == {
        "number": "S-1",
        "ordered_on": "2026-11-22",
        "valid_until": "2026-12-22",
        "shipping": "12.50",
        "notes": "a\nb",
        "internal_notes": "",
    }


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"ordered_on": ""}, "ordered_on", "such as 31/12/2026"),
        ({"valid_until": "soon"}, "valid_until", "such as 31/12/2026"),
        ({"valid_until": "2026-11-21"}, "valid_until", "choose a later day"),
        ({"shipping": "-1"}, "shipping", "an amount from 0"),
        ({"shipping": "1.234"}, "shipping", "two decimals"),
        ({"number": "x" * 51}, "number", "shorten it to 50"),
        ({"internal_notes": "x" * 10_001}, "internal_notes", "10,001 characters"),
    ],
)
def test_each_field_says_what_to_do(change: dict[str, str], name: str, words: str) -> None:
    cleaned = clean_order_header(HEADER | change)
    assert list(cleaned.errors) == [name]
    assert words in cleaned.errors[name]
    assert cleaned.values[name] == change[name]
