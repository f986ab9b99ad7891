"""Slows down the guessing of passwords: counts the tries for each account and for each address."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from functools import cached_property

import structlog
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import Redis, RedisError

log = structlog.get_logger()

# A person mistypes a few times; an office shares one address.
PER_ACCOUNT = tuple(parse_many("5/minute; 30/hour"))
PER_ADDRESS = tuple(parse_many("30/minute; 300/hour"))


class Throttle:
    """Counters in Redis, shared by all web processes; in this process's memory while Redis is away.

    A try is counted before the password is looked at, so that many at once cannot slip through together, and given back
    when the password was right, so that nobody is slowed down by signing in.
    """

    def __init__(self, redis: Redis) -> None:
        self._shared = FixedWindowRateLimiter(
            RedisStorage("redis://", connection_pool=redis.connection_pool, key_prefix="synclight:tries")
        )

    @cached_property
    def _own(self) -> FixedWindowRateLimiter:
        # It starts a thread, which belongs into the process that counts, not into the one that is forked for it.
        return FixedWindowRateLimiter(MemoryStorage())

    def count(self, email: str, address: str) -> int | None:
        """Count one try. Returns None if it may go on, else the seconds until the next one may."""
        try:
            return _count(self._shared, email, address)
        except RedisError as error:
            log.warning("tries_counted_in_memory", error=type(error).__name__)
            return _count(self._own, email, address)

    def give_back(self, email: str, address: str) -> None:
        """Take back one try that was counted."""
        try:
            _give_back(self._shared, email, address)
        except RedisError as error:
            log.warning("tries_counted_in_memory", error=type(error).__name__)
            _give_back(self._own, email, address)


def _counters(email: str, address: str) -> Iterator[tuple[RateLimitItem, str, str]]:
    # As the look-up compares it, so that another spelling is no other account; hashed, so that whatever was typed takes
    # the same little room.
    account = hashlib.sha256(email.strip().lower().encode()).hexdigest()
    for limit in PER_ACCOUNT:
        yield limit, "account", account
    for limit in PER_ADDRESS:
        yield limit, "address", address


def _count(limiter: FixedWindowRateLimiter, email: str, address: str) -> int | None:
    full = [counter for counter in _counters(email, address) if not limiter.hit(*counter)]
    if not full:
        return None
    return max(1, round(max(limiter.get_window_stats(*counter).reset_time for counter in full) - time.time()))


def _give_back(limiter: FixedWindowRateLimiter, email: str, address: str) -> None:
    for counter in _counters(email, address):
        limiter.hit(*counter, cost=-1)
