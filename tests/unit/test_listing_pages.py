"""Which way a page of a list is looked for, by what the planner expects."""

from __future__ import annotations

import pytest

from webapp.listing.pages import Expected


@pytest.mark.parametrize(
    ("expected", "leaves_words", "read"),
    [
        # Contacts to be reviewed who are buyers: one in a hundred, and one in four.
        (Expected(5_000, 2_000_000, with_words=500_000, without_words=20_000), True, 20_000),
        # Companies of three owners with a word that one in twelve has.
        (Expected(18_000, 1_000_000, with_words=80_000, without_words=230_000), False, 37_375),
        # One company's contacts, whatever they are looked for by.
        (Expected(1, 2_000_000, with_words=1_000_000, without_words=2), True, 2),
        # A rare word beside a filter that most records pass.
        (Expected(95, 1_000_000, with_words=100, without_words=900_000), False, 100),
        # Words alone, or filters alone.
        (Expected(4_000, 1_000_000), False, 4_000),
    ],
)
def test_the_index_of_the_search_is_asked_where_that_spares_reading(
    expected: Expected, leaves_words: bool, read: int
) -> None:
    assert (expected.leaves_words, expected.read) == (leaves_words, read)
