"""The budget of calls to Sage, on the real Redis."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from limits import RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute, RateLimitItemPerSecond
from redis import Redis

from workers.sage import budget as budget_module
from workers.sage.budget import Budget, Limits
from workers.sage.connector import Transient


def spend(budget: Budget) -> None:
    """Make a call that takes no time."""
    with budget.turn():
        pass


def test_all_workers_together_stay_within_the_limit(redis: Redis) -> None:
    began = time.monotonic()

    def call(worker: int) -> float:
        spend(Budget(redis, 1, Limits(RateLimitItemPerSecond(5)), reads_only=False))
        return time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        at = sorted(pool.map(call, range(12)))
    # Each is noted some time after Redis counted it, so that none was counted later than it is noted.
    assert all(second > number // 5 for number, second in enumerate(at)), at


def test_a_writer_that_would_wait_for_long_gives_up_and_says_for_how_long(redis: Redis) -> None:
    budget = Budget(redis, 1, Limits(RateLimitItemPerHour(2)), reads_only=False)
    spend(budget)
    spend(budget)
    with pytest.raises(Transient) as refused:
        spend(budget)
    assert refused.value.after is not None
    assert 3_500 < refused.value.after <= 3_600


def test_reading_leaves_room_for_the_writers(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(RateLimitItemPerHour(10))
    reader = Budget(redis, 1, limits, reads_only=True)
    writer = Budget(redis, 1, limits, reads_only=False)
    waited: list[float] = []

    def the_hour_is_over(seconds: float) -> None:
        waited.append(seconds)
        redis.flushdb()

    monkeypatch.setattr(budget_module, "time", mock.Mock(wraps=time, sleep=the_hour_is_over))
    for _ in range(8):
        spend(reader)
    spend(writer)
    assert waited == []
    # One call is left, and that is not for reading.
    spend(reader)
    (seconds,) = waited
    assert 3_500 < seconds <= 3_600


def test_businesses_have_budgets_of_their_own_and_share_the_day(redis: Redis) -> None:
    limits = Limits(RateLimitItemPerHour(1), RateLimitItemPerDay(2))
    for connection_id in (1, 2):
        spend(Budget(redis, connection_id, limits, reads_only=False))
    with pytest.raises(Transient, match="day"):
        spend(Budget(redis, 3, limits, reads_only=False))


def test_nothing_is_sent_uncounted() -> None:
    nowhere = Redis(host="127.0.0.1", port=1)
    with pytest.raises(Transient, match="Redis"):
        spend(Budget(nowhere, 1, Limits.a_minute(100), reads_only=False))


@pytest.mark.parametrize("of_business", [True, False])
def test_no_more_calls_run_at_once_than_are_allowed(redis: Redis, of_business: bool) -> None:
    """Eight workers at a time; the limit is that of one business, or that of all."""
    limits = Limits(
        RateLimitItemPerMinute(1_000), business_at_once=3 if of_business else 8, all_at_once=8 if of_business else 3
    )
    inside, most, lock = 0, 0, threading.Lock()
    three = threading.Barrier(3)

    def call(worker: int) -> None:
        nonlocal inside, most
        with Budget(redis, 1 if of_business else worker, limits, reads_only=False).turn():
            with lock:
                inside += 1
                most = max(most, inside)
            three.wait(timeout=30)
            # Time for one more, which must not come.
            time.sleep(0.02)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(24)))
    assert most == 3
    assert not redis.keys("synclight:at-once:*"), "all places are free"


def test_a_place_whose_worker_died_is_free_again(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "_PLACE_SECONDS", 1)
    limits = Limits(RateLimitItemPerMinute(100), business_at_once=1)
    began = time.monotonic()
    died = Budget(redis, 1, limits, reads_only=False).turn()
    died.__enter__()
    spend(Budget(redis, 1, limits, reads_only=False))
    assert time.monotonic() - began > 0.9
    died.__exit__(None, None, None)


def test_whoever_waits_too_long_for_a_place_gives_up(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_module, "_WRITER_WAITS", 0.1)
    limits = Limits(RateLimitItemPerMinute(100), business_at_once=1)
    with (
        Budget(redis, 1, limits, reads_only=False).turn(),
        pytest.raises(Transient, match="at once"),
        Budget(redis, 1, limits, reads_only=False).turn(),
    ):
        pass


def test_what_is_kept_for_people_is_no_room_for_the_rest(redis: Redis) -> None:
    writer = Budget(redis, 1, Limits(RateLimitItemPerMinute(10)), reads_only=False)
    for _ in range(8):
        assert writer.has_room()
        spend(writer)
    assert not writer.has_room()
    spend(writer)
    assert Budget(redis, 2, Limits(RateLimitItemPerMinute(10)), reads_only=False).has_room(), "each has its own"
