"""The list's query and the form of an order: what an address and a form mean, with no database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from urllib.parse import parse_qsl

import pytest
from werkzeug.datastructures import MultiDict

from webapp.languages import speaking
from webapp.orders.amounts import LineValues
from webapp.orders.forms import (
    FIELDS,
    OrderQuery,
    TypedLine,
    lines_value,
    nothing,
    read_lines_value,
    read_order_form,
    read_query,
    read_typed_lines,
    stored_values,
    sums,
    with_products,
    words_of,
)

STORED = nothing(date(2026, 11, 22)) | {
    "company_id": "1",
    "number": "S-1",
    "lines": '[["", "Tea", "1", "3.00", "", ""]]',
}


@dataclass
class Made:
    """A product that stands in no database."""

    id: int
    code: str
    name: str
    unit_price: Decimal


CHAI = Made(1, "1", "Chai", Decimal(18))
CHANG = Made(2, "2", "Chang", Decimal(19))
OTHER_CHAI = Made(3, "C-3", "Chai", Decimal(20))


def typed(description: str, unit_price: str = "", product_id: str = "") -> TypedLine:
    return {
        "product_id": product_id,
        "description": description,
        "quantity": "1",
        "unit_price": unit_price,
        "discount": "",
        "tax_rate": "",
    }


def read(address: str) -> OrderQuery:
    return read_query(MultiDict(parse_qsl(address)), {1: "Mara Owen"}, {"42"})


def test_an_empty_address_is_everything_the_newest_first() -> None:
    query = read("")
    assert query.pairs() == []
    assert (query.sort, query.descending) == ("ordered_on", True)


def test_an_address_is_read_in_full_and_written_again() -> None:
    query = read(
        "phase=validated&owner=1&company=42&ordered_from=1/2/2026&ordered_to=2026-02-28&total_from=£1,250&total_to=1,250.50"
        "&q=tea&sort=total"
    )
    assert not query.problems
    assert (query.phase, query.owner, query.company) == (("validated",), ("1",), ("42",))
    assert (query.total_from, query.total_to) == ("1250", "1250.50")
    assert (query.ordered_from, query.ordered_to) == ("2026-02-01", "2026-02-28")
    assert read("&".join(f"{name}={value}" for name, value in query.pairs())) == query


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ordered_from=soon", "The first day cannot be read"),
        ("ordered_to=31/02/2026", "The last day cannot be read"),
        ("ordered_from=2026-02-01&ordered_to=2026-01-01", "ends before it begins"),
        ("total_from=much", "The lowest total cannot be read"),
        ("total_to=1000000000000", "The highest total cannot be read"),
        ("total_from=9.5&total_to=9", "The highest total is below the lowest"),
        ("phase=done", "“Phase” has no choice “done”"),
        ("company=43", "“Company” has no choice “43”"),
    ],
)
def test_what_cannot_be_is_left_out_and_said(address: str, words: str) -> None:
    query = read(f"{address}&owner=1")
    (problem,) = query.problems
    assert words in problem
    assert query.owner == ("1",)
    assert not query.ordered_to
    assert not query.total_to


def test_a_total_is_read_in_the_reader_s_language_and_means_the_same_to_everybody() -> None:
    with speaking("de"):
        query = read("total_from=1.250&total_to=1.250,5")
    assert query.pairs() == [("total_from", "1250"), ("total_to", "1250.50")]
    with speaking("de"):
        assert read("total_from=1250&total_to=1250.50") == query == read("total_from=1250&total_to=1250.50")


def test_lines_are_read_in_their_columns_even_where_some_are_missing() -> None:
    form = MultiDict([("description", "Tea"), ("quantity", "2"), ("description", "Milk"), ("tax_rate", "20")])
    first, second = read_typed_lines(form)
    assert (first["description"], first["quantity"], first["tax_rate"]) == ("Tea", "2", "20")
    assert (second["description"], second["quantity"], second["product_id"]) == ("Milk", "", "")


@pytest.mark.parametrize(
    ("button", "left"),
    [
        (("remove", "1"), ["Milk"]),
        (("remove", "3"), ["Tea", "Milk"]),
        (("remove", "0"), ["Tea", "Milk"]),
        (("remove", "x"), ["Tea", "Milk"]),
        (("add", "1"), ["Tea", "Milk", ""]),
    ],
)
def test_the_buttons_of_lines(button: tuple[str, str], left: list[str]) -> None:
    form = MultiDict([("description", "Tea"), ("description", "Milk"), ("tax_rate", "5"), ("tax_rate", "20"), button])
    lines = read_typed_lines(form)
    assert [one["description"] for one in lines] == left
    if button[0] == "add":
        assert (lines[-1]["quantity"], lines[-1]["tax_rate"]) == ("1", "20"), "as the line before"


@pytest.mark.parametrize(
    ("line", "product_id", "description", "unit_price"),
    [
        (typed("chang"), "2", "Chang", "19.00"),
        (typed("2"), "2", "Chang", "19.00"),
        (typed("Chang", "5"), "2", "Chang", "5"),
        (typed("Chai"), "", "Chai", ""),
        (typed("C-3"), "3", "Chai", "20.00"),
        (typed("Chai", "17", "3"), "3", "Chai", "17"),
        (typed("Chang", "18.00", "1"), "2", "Chang", "19.00"),
        (typed("Chang", "17.00", "1"), "2", "Chang", "17.00"),
        (typed("Chai as a gift", "18.00", "1"), "1", "Chai as a gift", "18.00"),
        (typed("Chai as a gift", "18.00", "99"), "", "Chai as a gift", "18.00"),
        (typed("", "", ""), "", "", ""),
    ],
)
def test_a_line_and_its_product(line: TypedLine, product_id: str, description: str, unit_price: str) -> None:
    (made,) = with_products([line], [CHAI, CHANG, OTHER_CHAI])
    assert (made["product_id"], made["description"], made["unit_price"]) == (product_id, description, unit_price)


def test_lines_as_one_text_are_read_again() -> None:
    lines = [
        LineValues("Tea “1”", Decimal("1.500"), Decimal("3.00"), Decimal("0.50"), Decimal("5.500"), 7),
        LineValues("Free", Decimal(1), Decimal(0)),
    ]
    text = lines_value(lines)
    assert lines_value(read_lines_value(text)) == text
    assert read_lines_value(text)[0].product_id == 7
    assert lines_value([]) == "[]"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["x"]]', '[["x", "Tea", "1", "3", "", ""]]', "null", "[" * 5_000])
def test_what_is_no_text_of_lines_is_no_lines(text: str) -> None:
    assert read_lines_value(text) == []


def test_sums_count_what_is_complete() -> None:
    lines = [typed("Tea", "3.50"), typed("Milk", "x"), typed("", "")]
    made = sums(lines, "1,5")
    assert made.nets == ["3.50", "", ""]
    assert (made.net, made.tax, made.total) == ("5.00", "0.00", "5.00")
    assert sums([], "much").total == "0.00"


def test_what_was_not_sent_stays() -> None:
    form = MultiDict([("contact_id", "5")])
    read = read_order_form(form, [], STORED, companies={"1"}, contacts=[5], owners=[2])
    assert not read.fields.errors
    assert read.fields.values == STORED | {"contact_id": "5"}


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("number", " "), "Every order needs a number. It was S-1."),
        (("contact_id", "6"), "no contact of the company"),
        (("owner_id", "x"), "no longer uses Synclight"),
        (("company_id", "2"), "An order stays with its company."),
    ],
)
def test_what_an_order_cannot_have(pair: tuple[str, str], words: str) -> None:
    read = read_order_form(MultiDict([pair]), [], STORED, companies={"1"}, contacts=[5], owners=[2])
    assert list(read.fields.errors) == [pair[0]]
    assert words in read.fields.errors[pair[0]]


def test_of_a_closed_order_only_what_stays_here_is_taken_and_the_rest_is_told() -> None:
    form = MultiDict(
        [
            ("lines", "typed"),
            ("description", "Milk"),
            ("quantity", "1"),
            ("number", "S-2"),
            ("ordered_on", "never"),
            ("notes", STORED["notes"]),
            ("internal_notes", "Ours"),
        ]
    )
    read = read_order_form(
        form, read_typed_lines(form), STORED, companies={"1"}, contacts=[], owners=[], is_closed=True
    )
    assert {field.name: words for field, words in read.lost} == {
        "number": "S-2",
        "ordered_on": "never",
        "lines": '[["", "Milk", "1", "", "", ""]]',
    }
    assert read.fields.values == STORED | {"internal_notes": "Ours"}
    assert not read.fields.errors


def test_values_are_stored_as_what_they_are() -> None:
    made = stored_values(STORED | {"shipping": "4.50", "owner_id": "2"})
    assert made == {
        "company_id": 1,
        "contact_id": None,
        "owner_id": 2,
        "number": "S-1",
        "ordered_on": date(2026, 11, 22),
        "valid_until": date(2026, 12, 22),
        "shipping": Decimal("4.50"),
        "notes": "",
        "internal_notes": "",
    }
    assert set(made) | {"lines"} == set(FIELDS)


def test_days_and_amounts_have_words() -> None:
    words = words_of({"ordered_on": "2026-11-02", "shipping": "1032.50"}, {"ordered_on": "soon", "notes": "2026-01-01"})
    assert words == {"ordered_on": [("2026-11-02", "2 Nov 2026")], "shipping": [("1032.50", "1,032.50")]}
