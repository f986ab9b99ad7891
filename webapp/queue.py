"""How the web side asks the workers for something: by the name of the job, never by importing it.

A job that cannot be enqueued because Redis is away is not lost: the sweep finds what is due in the database. Only of an
authorisation nothing stands there, and a person begins it once more.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import structlog
from redis import Redis, RedisError
from rq import Queue, Worker
from rq.serializers import JSONSerializer
from rq.utils import utcparse

log = structlog.get_logger()

# Two queues, so that neither keeps the other waiting: a worker takes from one after the other, and of long reads from
# Sage there are always fewer than workers (readers_at_most).
PUSH_QUEUE = "push"
PULL_QUEUE = "pull"

# A worker gives a sign of life every 10 s at least (workers.process); one that missed two of them is gone.
WORKER_SILENCE = timedelta(seconds=30)

# Seconds after which a job is taken for hung. Reading a large Sage for the first time takes an hour, and would begin
# anew if it were ended; each call to Sage in it has an end of its own.
_TIMEOUT = 600
_PULL_TIMEOUT = 6 * 3600
_FAILURE_TTL = 300
# Seconds after which a waiting job is believed lost and another one may be put into the queue.
_WAITS_AT_MOST = 60


class Jobs:
    """The job queues. Each job takes ids only and does what is still undone, so that a doubled one does no harm."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._push = Queue(PUSH_QUEUE, connection=redis, serializer=JSONSerializer)
        self._pull = Queue(PULL_QUEUE, connection=redis, serializer=JSONSerializer)

    def push(self, connection_id: int) -> None:
        """Have what is due of a connection sent to Sage. One such job waits at a time; one more may be running."""
        self._enqueue_once(self._push, "workers.jobs.push", connection_id)

    def push_begins(self, connection_id: int) -> None:
        """The waiting job has begun: what becomes due from now on needs another one."""
        self._begins("workers.jobs.push", connection_id)

    def should_make_way(self) -> bool:
        """Whether a job that could go on is to end: another one waits for a worker, or its own was asked to stop.

        Also where Redis is away and nobody knows.
        """
        try:
            worker = Worker.redis_worker_namespace_prefix + os.environ.get("RQ_WORKER_ID", "")
            is_asked_to_stop = bool(self._redis.hexists(worker, "shutdown_requested_date"))
            return is_asked_to_stop or self._push.count + self._pull.count > 0
        except RedisError:
            return True

    def pull(self, connection_id: int, user_id: int | None = None) -> None:
        """Have what changed in Sage fetched now. One such job waits at a time, whoever asked for it."""
        self._enqueue_once(self._pull, "workers.jobs.pull", connection_id, user_id, timeout=_PULL_TIMEOUT)

    def pull_begins(self, connection_id: int) -> None:
        """The waiting job has begun: who asks from now on gets another one."""
        self._begins("workers.jobs.pull", connection_id)

    def readers_at_most(self) -> int:
        """How many pulls may run at a time, so that one worker is free for pushes. Raises RedisError."""
        return max(Worker.count(connection=self._redis, queue=self._pull) - 1, 1)

    def living_workers(self) -> int:
        """How many workers gave a sign of life lately. Raises RedisError."""
        now = datetime.now(UTC)
        return sum(now - at < WORKER_SILENCE for at in self._signs_of_life())

    def last_sign_of_life(self) -> datetime | None:
        """When a worker last gave a sign of life; None where there is none. Raises RedisError."""
        return max(self._signs_of_life(), default=None)

    def _signs_of_life(self) -> list[datetime]:
        """The last one of each worker: two questions, however many workers there are."""
        asked = self._redis.pipeline(transaction=False)
        for key in Worker.all_keys(connection=self._redis):
            asked.hget(key, "last_heartbeat")
        return [utcparse(at.decode()) for at in asked.execute() if at]

    def authorise(self, connection_id: int, code: str, redirect_uri: str, code_verifier: str) -> bool:
        """Have the code that Sage's authorise page gave exchanged for tokens. The code lives 60 s and works once.

        False where Redis is away: nobody has it then.
        """
        return self._enqueue(self._push, "workers.jobs.authorise", connection_id, code, redirect_uri, code_verifier)

    def disconnect(self, connection_id: int) -> None:
        """Have the tokens of a connection that has ended given back to Sage and forgotten. One such job waits at a time."""
        self._enqueue_once(self._push, "workers.jobs.disconnect", connection_id)

    def disconnect_begins(self, connection_id: int) -> None:
        """The waiting job has begun: who ends the connection once more from now on gets another one."""
        self._begins("workers.jobs.disconnect", connection_id)

    def _enqueue_once(
        self, queue: Queue, name: str, connection_id: int, *args: object, timeout: int = _TIMEOUT
    ) -> None:
        """Put a job of a connection into a queue, unless one waits there already."""
        flag = _waits(name, connection_id)
        try:
            if self._redis.set(flag, 1, nx=True, ex=_WAITS_AT_MOST) and not self._enqueue(
                queue, name, connection_id, *args, timeout=timeout
            ):
                self._redis.delete(flag)
        except RedisError as error:
            log.warning("job_not_enqueued", job=name, error=type(error).__name__)

    def _begins(self, name: str, connection_id: int) -> None:
        try:
            self._redis.delete(_waits(name, connection_id))
        except RedisError as error:
            log.warning("begin_not_noted", job=name, error=type(error).__name__)

    def _enqueue(self, queue: Queue, name: str, *args: object, timeout: int = _TIMEOUT) -> bool:
        """Put a job into a queue. False where Redis is away."""
        try:
            queue.enqueue_call(
                name,
                args=args,
                timeout=timeout,
                result_ttl=0,
                failure_ttl=_FAILURE_TTL,
                # The default description holds the arguments, and an authorisation code belongs in no log.
                description=name,
            )
        except RedisError as error:
            log.warning("job_not_enqueued", job=name, error=type(error).__name__)
            return False
        return True


def _waits(name: str, connection_id: int) -> str:
    return f"synclight:waits:{name}:{connection_id}"
