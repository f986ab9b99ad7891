"""Times as a reader sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from webapp.zone import Reader, named_zone

NOW = datetime(2026, 11, 22, 10, 45, tzinfo=UTC)
READER = Reader(UTC, NOW)


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=-5), "Just now"),
        (timedelta(seconds=59), "Just now"),
        (timedelta(minutes=1), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=1), "1 h ago"),
        (timedelta(hours=10), "10 h ago"),
        (timedelta(hours=11), "Yesterday, 23:45"),
        (timedelta(days=2), "20 Nov, 10:45"),
        (timedelta(days=365), "22 Nov 2025, 10:45"),
    ],
)
def test_an_age_is_as_short_as_it_can_be(ago: timedelta, words: str) -> None:
    assert READER.age(NOW - ago) == words


def test_what_never_was_says_so() -> None:
    assert (READER.age(None), READER.exact(None), READER.until(None)) == ("Never", "Never", "Not planned")
    assert READER.age(None, "") == ""


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(), "Today, 10:45:00"),
        (timedelta(days=1, seconds=7), "Yesterday, 10:44:53"),
        (timedelta(days=200), "6 May, 10:45:00"),
        (timedelta(days=400), "18 Oct 2025, 10:45:00"),
    ],
)
def test_an_exact_time_has_its_seconds(ago: timedelta, words: str) -> None:
    assert READER.exact(NOW - ago) == words


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(seconds=-1), "Now"),
        (timedelta(milliseconds=900), "Now"),
        (timedelta(seconds=38), "In 38 s"),
        (timedelta(minutes=4, seconds=50), "In 4 min"),
        (timedelta(hours=2), "At 12:45"),
        (timedelta(days=1), "23 Nov, 10:45"),
    ],
)
def test_the_time_until_something(ahead: timedelta, words: str) -> None:
    assert READER.until(NOW + ahead) == words


def test_the_day_is_the_reader_s_own() -> None:
    reader = Reader(ZoneInfo("Pacific/Auckland"), NOW)
    assert reader.age(NOW - timedelta(hours=2)) == "2 h ago"
    assert reader.exact(NOW) == "Today, 23:45:00"
    assert Reader(ZoneInfo("America/New_York"), NOW).age(NOW - timedelta(hours=6)) == "Yesterday, 23:45"


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "Europe"])
def test_a_zone_that_is_none_is_utc(name: str) -> None:
    assert named_zone(name) == ZoneInfo("UTC")
    assert named_zone("Europe/London") == ZoneInfo("Europe/London")
