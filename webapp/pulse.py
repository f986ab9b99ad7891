"""Whether anybody is there to send to Sage and to read from it, as the pages and the sockets of one web process tell it."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from webapp.queue import WORKER_SILENCE, Jobs

log = structlog.get_logger()

# What was heard of the workers is asked anew after this time.
ASK_SECONDS = 5.0
# A page waits for the answer, so one that does not come at once is none.
_ANSWER_SECONDS = 0.25


class Pulse:
    """When a worker last gave a sign of life, asked of Redis every few seconds at most, however many pages want to know.

    While Redis says nothing the last word holds, until it is as old as the word of a worker that is gone: nothing goes
    to Sage without Redis.
    """

    def __init__(self, redis_url: str) -> None:
        self._jobs = Jobs(
            Redis.from_url(
                redis_url,
                socket_connect_timeout=_ANSWER_SECONDS,
                socket_timeout=_ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        )
        self._last_sign: datetime | None = None
        self._asked = float("-inf")

    def stands_still(self) -> bool:
        """Whether no worker has given a sign of life for so long that they are gone."""
        if monotonic() - self._asked > ASK_SECONDS:
            try:
                self._last_sign = self._jobs.last_sign_of_life()
            except RedisError as error:
                log.warning("workers_not_asked", error=type(error).__name__)
            self._asked = monotonic()
        return self._last_sign is None or datetime.now(UTC) - self._last_sign >= WORKER_SILENCE
