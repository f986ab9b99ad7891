"""Which things anybody looks at, known to all processes through Redis.

The sorted set `synclight:watched` holds each watched key with the time at which its entry ends. Times are by the clock
of Redis, so that the clocks of machines do not matter. Web processes write it, whoever publishes reads it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from time import monotonic

from redis import Redis

_WATCHED = "synclight:watched"

# A killed web process leaves nothing behind for longer than this.
_KEPT_SECONDS = 30
RENEW_SECONDS = 5

# Keys that one command takes: a longer one would hold up everybody else's.
_BATCH = 500


def watched_of(redis: Redis, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that somebody looks at now: one round trip. Raises RedisError."""
    asked = list(keys)
    if not asked:
        return []
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.zmscore(_WATCHED, asked)
    (seconds, _), ends = pipeline.execute()
    return [key for key, end in zip(asked, ends, strict=True) if end is not None and end > seconds]


class Interest:
    """What is watched in this web process. All methods raise RedisError where Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        # This process is an entry as well: where Redis no longer has it, it has lost the others too. Named at its first
        # use, after the fork: two processes must not renew each other's entry.
        self._self = ""
        self._entered: set[str] = set()
        self._clock_ahead: float | None = None

    def enter(self, keys: Iterable[str]) -> None:
        """Have it known that `keys` are watched, as far as it is not known already."""
        new = [key for key in keys if key not in self._entered]
        if new:
            if self._clock_ahead is None:
                self._read_clock()
            self._write(new)
            self._entered.update(new)

    def renew(self, keys: Iterable[str]) -> bool:
        """Have it known for another 30 s that `keys` are watched, and clear away what ended.

        Returns whether Redis still had what was entered before. Where it had not, changes may have passed unheard.
        """
        kept = list(keys)
        self._self = self._self or f"process:{uuid.uuid4()}"
        now = self._read_clock()
        had = self._redis.zscore(_WATCHED, self._self) is not None
        self._redis.zremrangebyscore(_WATCHED, "-inf", now)
        self._write([self._self, *kept])
        self._entered = set(kept)
        return had

    def _read_clock(self) -> int:
        seconds: int = self._redis.time()[0]
        self._clock_ahead = seconds - monotonic()
        return seconds

    def _write(self, keys: list[str]) -> None:
        end = monotonic() + (self._clock_ahead or 0) + _KEPT_SECONDS
        for start in range(0, len(keys), _BATCH):
            self._redis.zadd(_WATCHED, dict.fromkeys(keys[start : start + _BATCH], end))
