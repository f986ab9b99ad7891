"""How a file writes its days and numbers, told by all of its values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from webapp.importing.notation import Ambiguous, Notation, NotationSniffer


def told_by(days: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> Notation:
    sniffer = NotationSniffer()
    for day in days:
        sniffer.add_day(day)
    for number in numbers:
        sniffer.add_number(number)
    return sniffer.notation()


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (("1996-07-04 00:00:00.000", "NULL", ""), "year first, such as 1996-07-04"),
        (("2026/07/04", "20260704"), "year first, such as 2026/07/04"),
        (("04.07.1996",), "day first, such as 04.07.1996"),
        (("04/07/1996", "31/07/1996"), "day first, such as 31/07/1996"),
        (("4-7-1996 10:30", "13-7-1996 9:05 PM"), "day first, such as 13-7-1996"),
        (("07/04/1996", "7/31/1996 12:00:00 AM"), "month first, such as 7/31/1996"),
        (("2026-07-04T10:30:00Z", "31/07/1996"), "year first or the day first, such as 31/07/1996"),
    ],
)
def test_the_order_of_day_and_month_is_told_by_all_dates(days: tuple[str, ...], said: str) -> None:
    assert told_by(days).days == f"Dates were read with the {said}."


def test_a_file_without_dates_says_nothing_about_them() -> None:
    assert told_by(("NULL", "soon")).days == ""


@pytest.mark.parametrize(
    ("notation", "text", "day"),
    [
        (Notation(), "1996-07-04 00:00:00.000", date(1996, 7, 4)),
        (Notation(), "2026-07-04T23:30:00+02:00", date(2026, 7, 4)),
        (Notation(), "2026/7/4", date(2026, 7, 4)),
        (Notation(), "4/7/1996", date(1996, 7, 4)),
        (Notation(), "04.07.1996 10:30", date(1996, 7, 4)),
        (Notation(month_first=True), "4/7/1996 1:05 PM", date(1996, 4, 7)),
        (Notation(month_first=True), "04.07.1996", date(1996, 7, 4)),
        (Notation(), "31/02/1996", None),
        (Notation(), "04/07/96", None),
        (Notation(), "", None),
    ],
)
def test_days(notation: Notation, text: str, day: date | None) -> None:
    assert notation.day(text) == day


@pytest.mark.parametrize(
    "days", [("04/07/1996", "05/06/1996"), ("13/07/1996", "07/31/1996"), ("2026-07-04", "04/07/1996")]
)
def test_days_that_can_be_read_in_two_ways_are_refused(days: tuple[str, ...]) -> None:
    with pytest.raises(Ambiguous, match="Write them"):
        told_by(days)


def test_the_same_number_for_day_and_month_needs_no_order() -> None:
    assert told_by(("05/05/1996",)).day("05/05/1996") == date(1996, 5, 5)


@pytest.mark.parametrize(
    ("numbers", "text", "number"),
    [
        (("14.00", "NULL"), "1,234.50", "1234.50"),
        (("14.00",), "1,234", "1234"),
        (("1,234.50",), "1,234", "1234"),
        (("12,5",), "1.234", "1234"),
        (("1.234,50",), "1.234,5", "1234.5"),
        (("1.234.567",), "0,125", "0.125"),
        (("0,125",), "1,125", "1.125"),
        ((), "0.125", "0.125"),
        (("1.125", "2.5"), "1.125", "1.125"),
        (("€ 14,00",), "€ 1.234", "1234"),
        (("USD 14.00",), "USD 1,234.00", "1234"),
        (("1",), "-5", "-5"),
    ],
)
def test_numbers(numbers: tuple[str, ...], text: str, number: str) -> None:
    assert told_by(numbers=numbers).number(text) == Decimal(number)


@pytest.mark.parametrize("numbers", [("1,234", "2,500"), ("1.234", "12"), ("1,50", "2.50")])
def test_numbers_that_can_be_read_in_two_ways_are_refused(numbers: tuple[str, ...]) -> None:
    with pytest.raises(Ambiguous, match=r"1234"):
        told_by(numbers=numbers)
