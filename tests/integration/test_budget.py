"""The budget of calls to Sage, on the real Redis."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from limits import RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerSecond
from redis import Redis

from workers.sage.budget import Budget, Limits
from workers.sage.connector import Transient


def test_all_workers_together_stay_within_the_limit(redis: Redis) -> None:
    began = time.monotonic()

    def call(worker: int) -> float:
        Budget(redis, 1, Limits(RateLimitItemPerSecond(5)), reads_only=False).spend()
        return time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        at = sorted(pool.map(call, range(12)))
    for first, sixth in zip(at, at[5:], strict=False):
        # Each call is noted a moment after Redis counted it.
        assert sixth - first > 0.8, at


def test_a_writer_that_would_wait_for_long_gives_up_and_says_for_how_long(redis: Redis) -> None:
    budget = Budget(redis, 1, Limits(RateLimitItemPerHour(2)), reads_only=False)
    budget.spend()
    budget.spend()
    with pytest.raises(Transient) as refused:
        budget.spend()
    assert refused.value.after is not None
    assert 3_500 < refused.value.after <= 3_600


def test_reading_leaves_room_for_the_writers(redis: Redis) -> None:
    limits = Limits(RateLimitItemPerSecond(10, 3))
    reader = Budget(redis, 1, limits, reads_only=True)
    for _ in range(8):
        reader.spend()
    began = time.monotonic()
    writer = Budget(redis, 1, limits, reads_only=False)
    writer.spend()
    writer.spend()
    assert time.monotonic() - began < 1, "the writer did not wait"
    reader.spend()
    assert time.monotonic() - began > 1.5, "the reader did"


def test_businesses_have_budgets_of_their_own_and_share_the_day(redis: Redis) -> None:
    limits = Limits(RateLimitItemPerHour(1), RateLimitItemPerDay(2))
    for connection_id in (1, 2):
        Budget(redis, connection_id, limits, reads_only=False).spend()
    with pytest.raises(Transient, match="day"):
        Budget(redis, 3, limits, reads_only=False).spend()


def test_nothing_is_sent_uncounted() -> None:
    nowhere = Redis(host="127.0.0.1", port=1)
    with pytest.raises(Transient, match="Redis"):
        Budget(nowhere, 1, Limits.a_minute(100), reads_only=False).spend()
