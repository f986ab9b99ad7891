"""Which way a page of a list is looked for, by what the planner expects."""

from __future__ import annotations

import pytest

from webapp.listing.pages import Expected, Found, not_worth_asking, spellings


@pytest.mark.parametrize(
    ("expected", "leaves_words", "read"),
    [
        # Contacts to be reviewed who are buyers: one in a hundred, and one in four.
        (
            Expected(5_000, 2_000_000, Found(20_000, 0), Found(500_000, 500_000), looked_up=True),
            True,
            40_000,
        ),
        # Companies of three owners with a word that one in twelve has: to read so many places takes a while, too.
        (Expected(18_000, 1_000_000, Found(230_000, 0), Found(20_000, 320_000)), False, 30_000),
        # In an order that the status moves, the record of each has to be looked up.
        (Expected(18_000, 1_000_000, Found(230_000, 0), Found(20_000, 320_000), looked_up=True), False, 80_000),
        # One company's contacts, whatever they are looked for by.
        (Expected(1, 2_000_000, Found(2, 2), Found(1_000_000, 1_000_000)), True, 4),
        # A rare word beside a filter that most records pass.
        (Expected(95, 1_000_000, Found(900_000, 0), Found(100, 100), looked_up=True), False, 325),
        # Few records by three filters that each leave many.
        (Expected(300, 1_000_000, Found(300, 260_000)), False, 13_600),
        # Words alone, and filters that leave nothing out.
        (Expected(4_000, 1_000_000, None, Found(4_000, 4_000)), False, 3_000),
        (Expected(1_000_000, 1_000_000, Found(1_000_000, 0)), False, 2_000_000),
    ],
)
def test_finding_all_is_weighed_by_what_is_read(expected: Expected, leaves_words: bool, read: int) -> None:
    """The index of the search is asked where that is shorter."""
    assert (expected.leaves_words, round(expected.read)) == (leaves_words, read)


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


@pytest.mark.parametrize(
    ("word", "ways"),
    [
        ("Müller", ["Mueller"]),
        ("KÖLN", ["KOeLN"]),
        ("Häuser", ["Haeuser"]),
        ("muenchen", ["munchen"]),
        ("Müllerbuero", ["Müllerburo", "Muellerbuero"]),
        # What has the two letters at its end has the one, too.
        ("Malmö", []),
        ("Köbö", ["Koebö"]),
        ("ü", []),
        # Two letters stand for a beginning, however they are written.
        ("Öl", [" Oel"]),
        ("Tö", []),
        ("Bauer", []),
        ("Łódź", []),
    ],
)
def test_a_word_is_looked_for_in_each_way_it_may_be_written(word: str, ways: list[str]) -> None:
    assert [*spellings(word)] == [word, *ways]
