"""Which way a page of a list is looked for, by what the planner expects."""

from __future__ import annotations

import pytest

from webapp.listing.pages import Expected, not_worth_asking


@pytest.mark.parametrize(
    ("expected", "leaves_words", "read"),
    [
        # Contacts to be reviewed who are buyers: one in a hundred, and one in four.
        (Expected(5_000, 2_000_000, with_words=500_000, without_words=20_000), True, 20_000),
        # Companies of three owners with a word that one in twelve has.
        (Expected(18_000, 1_000_000, with_words=18_000, without_words=230_000), False, 18_000),
        # One company's contacts, whatever they are looked for by.
        (Expected(1, 2_000_000, with_words=1_000_000, without_words=2), True, 2),
        # A rare word beside a filter that most records pass.
        (Expected(95, 1_000_000, with_words=100, without_words=900_000), False, 95),
        # Words alone, or filters alone.
        (Expected(4_000, 1_000_000), False, 4_000),
    ],
)
def test_the_index_of_the_search_is_asked_where_that_spares_reading(
    expected: Expected, leaves_words: bool, read: int
) -> None:
    assert (expected.leaves_words, expected.read) == (leaves_words, read)


@pytest.mark.parametrize(
    ("shares", "spared"),
    [
        # Every order has it, and one in thirty has the other.
        ({"train": 1.0, "lodz": 0.033}, {"train"}),
        # Both leave out enough.
        ({"tea": 0.05, "lodz": 0.066}, set()),
        ({"accou": 0.25, "lodz": 0.033}, set()),
        # No text of the statistics has it.
        ({"umber": 0.033, "e4711": 0.0, "gmbh": 0.08}, {"gmbh"}),
        # Each asks for something.
        ({"train": 1.0}, set()),
        ({"train": 1.0, "example": 1.0}, {"example"}),
        ({}, set()),
    ],
)
def test_the_index_is_not_asked_for_a_word_that_nearly_all_have(shares: dict[str, float], spared: set[str]) -> None:
    assert not_worth_asking(shares) == spared
