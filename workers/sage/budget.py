"""How many calls may go to Sage: in a time and at once, to each business and to all of them, shared by all workers.

Sage allows an application 1,296,000 calls a day and 150 at once (its developer guide on limits). The limits of a
business are ours: they keep one from being a burden, and the one a minute can be set. A part of each minute is kept for
the edits that people wait for: reading leaves it, and so does a resync (see Budget.has_room).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from redis import Redis, RedisError

from workers.sage.connector import Transient

log = structlog.get_logger()

CALLS_A_DAY = 1_296_000
AT_ONCE = 150
# A push, a pull and an authorisation run side by side, each with one call at a time.
AT_ONCE_TO_BUSINESS = 4
# Of each minute, so much is kept for what people wait for.
_KEPT_FOR_PEOPLE = 0.2
# A writer holds a lease and keeps others from writing, so it gives up rather than wait for long.
_WRITER_WAITS = 20.0
# A place is free again after this time even where its worker died: no call lasts longer (workers.sage.wire).
_PLACE_SECONDS = 40
# How often somebody looks who waits for a place: a call takes longer than this.
_LOOK_SECONDS = 0.02

# Takes a place in two rows at once, or in none: of the business and of all. `limits` counts in a time and not at once,
# and redis-py's locks hold one place alone. The time is Redis's own, because those of the machines differ.
_ENTER = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
for row = 1, 2 do
    redis.call('ZREMRANGEBYSCORE', KEYS[row], '-inf', now)
    if redis.call('ZCARD', KEYS[row]) >= tonumber(ARGV[row]) then return 0 end
end
for row = 1, 2 do
    redis.call('ZADD', KEYS[row], now + tonumber(ARGV[4]), ARGV[3])
    redis.call('EXPIRE', KEYS[row], ARGV[4])
end
return 1
"""
_ROW_OF_ALL = "synclight:at-once:all"


@dataclass(frozen=True)
class Limits:
    """The calls to one business in a time, and those to all of them in a day; then how many of each at once."""

    business: RateLimitItem
    all: RateLimitItem = RateLimitItemPerDay(CALLS_A_DAY)  # noqa: RUF009 - it never changes.
    business_at_once: int = AT_ONCE_TO_BUSINESS
    all_at_once: int = AT_ONCE

    @classmethod
    def a_minute(cls, calls: int) -> Limits:
        """So many calls a minute to one business."""
        return cls(RateLimitItemPerMinute(calls))


class Budget:
    """The calls that one connection may make. `reads_only` says that it is for a pull, which gives way to writers."""

    def __init__(self, redis: Redis, connection_id: int, limits: Limits, *, reads_only: bool) -> None:
        storage = RedisStorage("redis://", connection_pool=redis.connection_pool, key_prefix="synclight:calls")
        self._of_business = MovingWindowRateLimiter(storage)
        self._of_all = FixedWindowRateLimiter(storage)
        self._business = str(connection_id)
        self._limits = limits
        self._reads_only = reads_only
        self._redis = redis
        self._enter = redis.register_script(_ENTER)
        self._rows = (f"synclight:at-once:{connection_id}", _ROW_OF_ALL)

    def has_room(self) -> bool:
        """Whether more calls are left of this minute than are kept for what people wait for.

        Where Redis is away, the call itself says so.
        """
        try:
            left = self._of_business.get_window_stats(self._limits.business, self._business).remaining
        except RedisError:
            return True
        return left > self._limits.business.amount * _KEPT_FOR_PEOPLE

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Take one call out of the budget, and hold a place among those that run at once while it lasts.

        Waits for both where there is none, for a writer 20 s at most. Raises Transient with the time to wait where that
        is longer, where the day's calls are used up, and where Redis is away: uncounted calls could be too many.
        """
        place = uuid.uuid4().hex
        gives_up = time.monotonic() + _WRITER_WAITS
        try:
            self._spend(gives_up)
            self._wait_for_place(place, gives_up)
        except RedisError as error:
            log.warning("calls_not_counted", connection=self._business, error=type(error).__name__)
            raise Transient("Redis is away, and calls cannot be counted", after=1.0) from error
        try:
            yield
        finally:
            try:
                with self._redis.pipeline(transaction=False) as leaving:
                    for row in self._rows:
                        leaving.zrem(row, place)
                    leaving.execute()
            except RedisError as error:
                # It is free by itself a little later.
                log.warning("place_not_left", connection=self._business, error=type(error).__name__)

    def _spend(self, gives_up: float) -> None:
        while not self._take():
            wait = self._until_next()
            if not self._reads_only and time.monotonic() + wait > gives_up:
                raise Transient("the calls of this minute are used up", after=wait)
            time.sleep(wait)
        if not self._of_all.hit(self._limits.all, "all"):
            reset = self._of_all.get_window_stats(self._limits.all, "all").reset_time
            raise Transient("the calls of this day are used up", after=max(reset - time.time(), 1.0))

    def _wait_for_place(self, place: str, gives_up: float) -> None:
        limits = (self._limits.business_at_once, self._limits.all_at_once)
        while not self._enter(self._rows, (*limits, place, _PLACE_SECONDS)):
            if time.monotonic() > gives_up:
                raise Transient("too many calls run at once", after=1.0)
            time.sleep(_LOOK_SECONDS)

    def _take(self) -> bool:
        if self._reads_only and not self.has_room():
            return False
        return self._of_business.hit(self._limits.business, self._business)

    def _until_next(self) -> float:
        """Seconds until the oldest call of the window no longer counts."""
        reset = self._of_business.get_window_stats(self._limits.business, self._business).reset_time
        return max(reset - time.time(), 0.05)
