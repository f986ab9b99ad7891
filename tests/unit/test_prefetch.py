"""Reading ahead of the consumer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.stack import wait_until
from webapp.prefetch import prefetch


def test_the_next_item_is_made_while_one_is_in_use() -> None:
    begun = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        yield 2

    read = prefetch(items())
    assert next(read) == 1
    assert begun.wait(timeout=10)
    assert list(read) == [2]


def test_no_more_are_made_than_asked_for() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            made.append(number)
            yield number

    read = prefetch(items(), most=3)
    assert next(read) == 0
    wait_until(lambda: made == [0, 1, 2, 3])
    assert list(read) == list(range(1, 9))


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the file was cut")

    read = prefetch(items())
    assert next(read) == 1
    with pytest.raises(ValueError, match="the file was cut"):
        next(read)


def test_a_consumer_that_stops_leaves_no_thread_behind() -> None:
    read = prefetch(iter(range(3)))
    assert next(read) == 0
    read.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
