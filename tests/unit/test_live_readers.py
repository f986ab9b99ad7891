"""Who gets which state in which frame."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

from webapp.live.readers import Frame, Readers

BERLIN = ZoneInfo("Europe/Berlin")


class Sink:
    """A socket that has room, until it says otherwise."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.is_free = True

    def write(self, data: bytes) -> None:
        raise AssertionError("frames are given out, not written")


def state(key: str, version: int) -> dict[str, Any]:
    return {"key": key, "version": version}


def sent(frames: list[Frame]) -> dict[str, list[tuple[str, int]]]:
    """What each socket gets."""
    return {
        sink.sid: [(thing["key"], thing["version"]) for thing in frame.states]
        for frame in frames
        for sink in frame.sinks
        if isinstance(sink, Sink)
    }


def watching(**sids: dict[str, int]) -> Readers:
    readers = Readers()
    for sid, things in sids.items():
        readers.add(sid, 1, UTC, "en", Sink(sid))
        readers.watch(sid, things)
    return readers


def test_only_who_watches_a_thing_gets_it() -> None:
    readers = watching(a={"company:1": 1}, b={"company:2": 1})
    readers.offer([state("company:1", 2), state("company:3", 2)], 0.0)
    assert sent(readers.take(0.0)) == {"a": [("company:1", 2)]}


def test_an_older_or_equal_version_is_not_sent() -> None:
    readers = watching(a={"company:1": 5})
    readers.offer([state("company:1", 4), state("company:1", 5)], 0.0)
    assert readers.next_due() is None
    assert readers.take(0.0) == []


def test_what_was_sent_once_is_not_sent_again() -> None:
    readers = watching(a={"company:1": 1})
    readers.offer([state("company:1", 2)], 0.0)
    readers.take(0.0)
    readers.offer([state("company:1", 2)], 0.0)
    assert readers.take(1.0) == []


def test_what_waits_is_the_newest_state_of_each_key() -> None:
    readers = watching(a={"company:1": 1, "company:2": 1})
    for version in (2, 3):
        readers.offer([state("company:1", version)], 0.0)
        assert len(readers.take(0.0)) == 1
    readers.offer([state("company:1", 4)], 0.0)
    readers.offer([state("company:1", 5), state("company:2", 9)], 0.0)
    readers.offer([state("company:1", 4)], 0.0)
    assert readers.take(0.03) == []
    due = readers.next_due()
    assert due is not None
    assert sent(readers.take(due)) == {"a": [("company:1", 5), ("company:2", 9)]}
    assert readers.next_due() is None


def test_equal_frames_are_one_for_all_who_read_in_one_zone() -> None:
    readers = watching(a={"company:1": 1}, b={"company:1": 1}, c={"company:1": 1, "company:2": 1})
    readers.add("d", 1, BERLIN, "en", Sink("d"))
    readers.watch("d", {"company:1": 1})
    readers.offer([state("company:1", 2), state("company:2", 2)], 0.0)
    frames = readers.take(0.0)
    assert sorted(sorted(sent([frame])) for frame in frames) == [["a", "b"], ["c"], ["d"]]


def test_people_of_two_languages_get_frames_of_their_own() -> None:
    readers = watching(a={"company:1": 1})
    readers.add("b", 2, UTC, "de", Sink("b"))
    readers.watch("b", {"company:1": 1})
    readers.offer([state("company:1", 2)], 0.0)
    frames = readers.take(0.0)
    assert {(frame.language, *sent([frame])) for frame in frames} == {("en", "a"), ("de", "b")}
    assert (readers.language("b"), readers.language("gone")) == ("de", "en")


def test_a_new_watch_replaces_the_one_before() -> None:
    readers = watching(a={"company:1": 1})
    readers.watch("a", {"company:2": 1})
    readers.offer([state("company:1", 2), state("company:2", 2)], 0.0)
    assert sent(readers.take(0.0)) == {"a": [("company:2", 2)]}
    assert readers.keys() == ["company:2"]


def test_what_waits_for_a_key_that_is_no_longer_watched_is_dropped() -> None:
    readers = watching(a={"company:1": 1, "company:2": 1})
    readers.offer([state("company:1", 2)], 0.0)
    readers.take(0.0)
    readers.offer([state("company:1", 3), state("company:2", 3)], 0.0)
    readers.watch("a", {"company:2": 1})
    assert sent(readers.take(1.0)) == {"a": [("company:2", 3)]}


def test_what_the_answer_to_a_watch_brought_does_not_come_again() -> None:
    readers = watching(a={"company:1": 1})
    readers.told("a", {"company:1": 7})
    readers.offer([state("company:1", 7)], 0.0)
    assert readers.take(0.0) == []
    assert readers.oldest("company:1") == 7


def test_a_closed_socket_gets_nothing_and_leaves_nothing() -> None:
    readers = watching(a={"company:1": 1})
    readers.offer([state("company:1", 2)], 0.0)
    readers.remove("a")
    assert readers.take(1.0) == []
    assert readers.keys() == []
    readers.remove("a")
    readers.watch("a", {"company:1": 1})
    assert readers.keys() == []


def test_the_oldest_version_counts_for_catching_up() -> None:
    readers = watching(a={"company:1": 4}, b={"company:1": 2})
    assert readers.oldest("company:1") == 2
    assert readers.oldest("company:2") == -1


def test_sockets_are_found_by_their_person() -> None:
    readers = Readers()
    readers.add("a", 1, UTC, "en", Sink("a"))
    readers.add("b", 2, UTC, "en", Sink("b"))
    readers.add("c", 1, UTC, "en", Sink("c"))
    assert readers.sids_of(1) == ["a", "c"]


def test_a_socket_that_is_not_free_waits_and_then_gets_the_newest() -> None:
    readers = Readers()
    slow = Sink("a")
    readers.add("a", 1, UTC, "en", slow)
    readers.watch("a", {"company:1": 1})
    slow.is_free = False
    readers.offer([state("company:1", 2)], 0.0)
    assert readers.take(0.0) == []
    readers.offer([state("company:1", 3)], 0.0)
    assert readers.take(5.0) == []
    slow.is_free = True
    due = readers.next_due()
    assert due is not None
    assert sent(readers.take(due)) == {"a": [("company:1", 3)]}
