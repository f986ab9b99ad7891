"""How many calls may go to Sage: a budget for each business and one for all of them, shared by all workers.

Sage allows an application 1,296,000 calls a day (its developer guide on limits). The limit a minute is ours: it keeps one
business from being a burden, and can be set. Reading for a pull leaves a part of each minute to the edits that people
wait for. How many calls run at once needs no count: a worker makes one at a time, and Sage allows 150.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog
from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from redis import Redis, RedisError

from workers.sage.connector import Transient

log = structlog.get_logger()

CALLS_A_DAY = 1_296_000
CALLS_A_MINUTE = 100
# Of each minute, reading leaves so much to the writers.
_LEFT_TO_WRITERS = 0.2
# A writer holds a lease and keeps others from writing, so it gives up rather than wait for long.
_WRITER_WAITS = 20.0


@dataclass(frozen=True)
class Limits:
    """The calls to one business in a time, and those to all of them in a day."""

    business: RateLimitItem
    all: RateLimitItem = RateLimitItemPerDay(CALLS_A_DAY)  # noqa: RUF009 - it never changes.

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

    def spend(self) -> None:
        """Take one call out of the budget; wait for it where there is none left, for a writer 20 s at most.

        Raises Transient with the time to wait where that is longer, where the day's calls are used up, and where Redis
        is away: uncounted calls could be too many.
        """
        gives_up = time.monotonic() + _WRITER_WAITS
        try:
            while not self._take():
                wait = self._until_next()
                if not self._reads_only and time.monotonic() + wait > gives_up:
                    raise Transient("the calls of this minute are used up", after=wait)
                time.sleep(wait)
            if not self._of_all.hit(self._limits.all, "all"):
                reset = self._of_all.get_window_stats(self._limits.all, "all").reset_time
                raise Transient("the calls of this day are used up", after=max(reset - time.time(), 1.0))
        except RedisError as error:
            log.warning("calls_not_counted", connection=self._business, error=type(error).__name__)
            raise Transient("Redis is away, and calls cannot be counted", after=1.0) from error

    def _take(self) -> bool:
        if self._reads_only:
            left = self._of_business.get_window_stats(self._limits.business, self._business).remaining
            if left <= self._limits.business.amount * _LEFT_TO_WRITERS:
                return False
        return self._of_business.hit(self._limits.business, self._business)

    def _until_next(self) -> float:
        """Seconds until the oldest call of the window no longer counts."""
        reset = self._of_business.get_window_stats(self._limits.business, self._business).reset_time
        return max(reset - time.time(), 0.05)
