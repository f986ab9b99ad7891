"""The list's query and the form of a company: what an address and a form mean, with no database."""

from __future__ import annotations

from datetime import date
from functools import partial
from unicodedata import normalize
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from webapp.companies.forms import FIELDS, SORTS, CompanyQuery, read_form, read_query
from webapp.forms import Form, merged
from webapp.listing.query import Cursor
from webapp.status import Status

OWNERS = {1: "Mara Owen", 2: "Jon Lind"}
COUNTRIES = {"DE", "GB", "SE"}


def read(address: str) -> CompanyQuery:
    return read_query(MultiDict(parse_qsl(address)), OWNERS, COUNTRIES)


def test_an_empty_address_is_everything_by_name() -> None:
    query = read("")
    assert query == CompanyQuery()
    assert not query.is_narrowed
    assert query.pairs() == []


def test_an_address_is_read_in_full() -> None:
    query = read(
        "status=review&status=pending&type=customer&owner=2&country=GB&city=+A++Coruña&q=+futter++kiste&sort=-city"
    )
    assert query.statuses == (Status.PENDING, Status.REVIEW)
    assert (query.type, query.owner, query.country) == (("customer",), ("2",), ("GB",))
    assert (query.city, query.search) == ("A Coruña", "futter kiste")
    assert (query.sort, query.descending) == ("city", True)
    assert query.filters == 6
    assert not query.problems


def test_a_filter_takes_several_values_each_once_and_gives_one_away() -> None:
    query = read("country=SE&owner=none&country=DE&owner=2&country=SE&type=prospect&type=customer&country=")
    assert not query.problems
    assert (query.country, query.owner, query.type) == (("DE", "SE"), ("2", "none"), ("customer", "prospect"))
    assert query.filters == 6
    assert query.without("country", "SE").pairs() == [
        ("type", "customer"),
        ("type", "prospect"),
        ("owner", "2"),
        ("owner", "none"),
        ("country", "DE"),
    ]
    assert query.cleared.pairs() == []


def test_of_several_values_those_stand_that_can_be() -> None:
    query = read("country=DE&country=Atlantis&country=SE&owner=77")
    assert query.country == ("DE", "SE")
    assert query.problems == (
        "The filter “Owner” has no choice “77”. The list is shown without it.",
        "The filter “Country” has no choice “Atlantis”. The list is shown without it.",
    )


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("status=green", "green"),
        ("type=partner", "partner"),
        ("owner=77", "77"),
        ("owner=one", "one"),
        ("country=Germany", "Germany"),
        ("sort=phone", "phone"),
        ("after=nonsense", "beginning"),
        ("before=W10", "beginning"),
        ("q=" + "a" * 101, "100 characters"),
    ],
)
def test_what_cannot_be_is_left_out_and_said(address: str, named: str) -> None:
    query = read(f"{address}&status=review")
    assert len(query.problems) == 1
    assert named in query.problems[0]
    assert query.statuses == (Status.REVIEW,)


def test_of_many_impossible_values_the_first_are_named() -> None:
    """An address can hold a thousand, and nobody reads a thousand sentences."""
    many = [(name, f"x{number}") for name in ("status", "type", "owner", "country") for number in range(1_000, 2_000)]
    query = read_query(MultiDict([*many, ("type", "customer")]), {}, ())
    assert query.type == ("customer",)
    assert len(query.problems) == 4 * 4
    assert query.problems[2:4] == (
        "There is no status “x1002”. The list is shown without it.",
        "997 more choices of this address do not exist. The list is shown without them.",
    )


def test_a_long_impossible_value_is_quoted_in_short() -> None:
    (problem,) = read("status=" + "x" * 5_000).problems
    assert len(problem) < 120


def test_single_letters_are_no_words() -> None:
    assert read("q=a").words == ()
    assert not read("q=a").is_narrowed
    assert read("q=a+fu").words == ("fu",)


def test_the_same_order_again_is_the_other_way_round() -> None:
    query = read("status=review")
    assert query.sorted_by("city").sort_name == "city"
    assert query.sorted_by("city").sorted_by("city").sort_name == "-city"
    assert query.sorted_by("city").sorted_by("city").sorted_by("city").sort_name == "city"
    assert query.sorted_by("last_synchronised_at").sort_name == "-last_synchronised_at"


def test_every_change_begins_at_the_first_page() -> None:
    query = read("status=review").changed(cursor=Cursor("alpha", 3))
    assert query.cursor is not None
    assert query.toggled(Status.PENDING).cursor is None
    assert query.sorted_by("city").cursor is None
    assert query.changed(type=("customer",)).cursor is None
    assert query.without("type", "customer").cursor is None


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("country", "x"),
        ("country", "1000000"),
        ("country", "²"),
        ("last_synchronised_at", "yesterday"),
        ("last_synchronised_at", "2026-11-22 10:45:00"),
        ("name", "a\0b"),
        ("name", "\ud800"),
        ("name", "x" * 1_001),
    ],
)
def test_a_cursor_must_fit_its_order(sort: str, key: str) -> None:
    query = read(f"sort={sort}&after={Cursor(key, 3).token()}")
    assert query.cursor is None
    assert query.problems


@pytest.mark.parametrize("id_", [0, -1, 2**63, 1.5, True, "7", None])
def test_a_cursor_must_name_a_possible_company(id_: object) -> None:
    query = read(f"after={Cursor('a', id_).token()}")  # type: ignore[arg-type]
    assert query.cursor is None
    assert query.problems


def _some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.sets(st.sampled_from(values)).map(lambda chosen: tuple(sorted(chosen)))


_cursors = st.builds(
    Cursor,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.integers(1, 2**63 - 1),
    st.booleans(),
)
# As one_line reads what was typed.
_typed = st.text(st.characters(categories=["L", "N", "P"]), max_size=20).map(partial(normalize, "NFC"))
_queries = st.builds(
    CompanyQuery,
    statuses=st.sets(st.sampled_from(Status)).map(lambda chosen: tuple(one for one in Status if one in chosen)),
    type=_some("customer", "prospect"),
    owner=_some("none", "1", "2"),
    country=_some(*COUNTRIES),
    city=_typed,
    synced_from=st.just("") | st.dates(max_value=date(2026, 1, 1)).map(str),
    synced_to=st.just("") | st.dates(min_value=date(2026, 1, 1)).map(str),
    search=_typed,
    sort=st.just("name"),
    descending=st.booleans(),
    cursor=st.none() | _cursors,
)


@given(_queries)
def test_an_address_gives_its_query_again(query: CompanyQuery) -> None:
    again = read_query(MultiDict(query.pairs()), OWNERS, COUNTRIES)
    assert again == query
    assert not again.problems


NAMES = ("status", "type", "owner", "country", "city", "synced_from", "synced_to", "q", "sort", "after", "before")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.text(),
        )
    )
)
def test_no_address_breaks_the_list(pairs: list[tuple[str, str]]) -> None:
    query = read_query(MultiDict(pairs), OWNERS, COUNTRIES)
    assert query.sort in SORTS
    assert set(query.statuses) <= set(Status)


# ---- The form -------------------------------------------------------------------------------------------------------

STORED = dict.fromkeys(FIELDS, "") | {
    "name": "Alfreds Futterkiste",
    "type": "customer",
    "country": "DE",
    "owner_id": "1",
}


def form(typed: dict[str, str], before: dict[str, str] = STORED, **more: str) -> Form:
    return read_form(
        {**STORED, **typed, **{f"was-{name}": value for name, value in before.items()}, **more}, OWNERS.keys(), STORED
    )


def test_a_form_keeps_what_was_typed_beside_what_it_means() -> None:
    read = form({"name": "  Alfreds   Futterkiste ", "country": "XX"})
    assert read.typed["name"] == "  Alfreds   Futterkiste "
    assert read.values["name"] == "Alfreds Futterkiste"
    assert list(read.errors) == ["country"]


def test_errors_stand_in_the_order_of_the_form() -> None:
    assert list(form({"email": "nobody", "name": "", "country": "Atlantis"}).errors) == ["name", "email", "country"]


def test_an_owner_must_be_somebody() -> None:
    assert "owner_id" in form({"owner_id": "9"}).errors
    assert not form({"owner_id": ""}).errors


def test_a_field_that_was_not_sent_stays() -> None:
    read = read_form({"city": "Berlin"}, OWNERS.keys(), STORED)
    assert merged(read, STORED)[0] == STORED | {"city": "Berlin"}


def test_nothing_changed_elsewhere_saves_what_was_typed() -> None:
    values, both, theirs = merged(form({"city": "Berlin"}), STORED)
    assert values == STORED | {"city": "Berlin"}
    assert (both, theirs) == ([], [])


def test_what_only_others_changed_stands() -> None:
    values, both, theirs = merged(form({"city": "Berlin"}), STORED | {"phone": "030-1"})
    assert values == STORED | {"city": "Berlin", "phone": "030-1"}
    assert (both, theirs) == ([], ["phone"])


def test_both_changed_the_same_field_alike() -> None:
    values, both, theirs = merged(form({"city": "Berlin"}), STORED | {"city": "Berlin"})
    assert values["city"] == "Berlin"
    assert (both, theirs) == ([], [])


def test_both_changed_the_same_field_differently() -> None:
    _, (difference,), _ = merged(form({"city": "Berlin"}), STORED | {"city": "Bonn"})
    assert (difference.name, difference.before, difference.theirs, difference.yours) == ("city", "", "Bonn", "Berlin")


def test_theirs_can_be_taken() -> None:
    now = STORED | {"city": "Bonn"}
    values, both, _ = merged(form({"city": "Berlin"}, before=now, **{"take-city": "theirs"}), now)
    assert values["city"] == "Bonn"
    assert not both


def test_yours_can_be_kept() -> None:
    now = STORED | {"city": "Bonn"}
    values, both, _ = merged(form({"city": "Berlin"}, before=now, **{"take-city": "yours"}), now)
    assert values["city"] == "Berlin"
    assert not both


_texts = st.sampled_from(["", "a", "b", "c"])


@given(before=_texts, typed=_texts, stored=_texts)
def test_a_merge_loses_no_edit(before: str, typed: str, stored: str) -> None:
    """Whatever was changed on one side only is stored, and a choice is asked for exactly where both differ."""
    values, both, theirs = merged(form({"city": typed}, STORED | {"city": before}), STORED | {"city": stored})
    if typed != before and stored != before and typed != stored:
        assert [one.name for one in both] == ["city"]
        return
    assert not both
    assert values["city"] == (stored if typed == before else typed)
    assert theirs == (["city"] if stored != before and typed == before else [])
