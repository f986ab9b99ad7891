"""What a process holds for as long as it lives: settings, database, Redis, the job queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from flask import current_app
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from webapp.config import Settings
from webapp.db import Changes, Database
from webapp.live.publish import Publisher
from webapp.queue import Jobs


@dataclass(frozen=True)
class Services:
    """The same four things in the web, in the workers and in the commands.

    What follows a commit is part of `database`: browsers are told, and jobs are put into the queue.
    """

    settings: Settings
    database: Database
    redis: Redis
    jobs: Jobs

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        application_name: str = "synclight",
        pool_size: int = 5,
        server_settings: Mapping[str, str] | None = None,
    ) -> Services:
        """Make them without connecting to anything yet. For what is optional, see webapp.db.Database."""
        redis = Redis.from_url(
            settings.redis_url,
            socket_connect_timeout=2,
            socket_timeout=5,
            # One quick second try covers a connection that a restart of Redis cut; more would hold up a page. A Redis
            # that takes questions and gives no answers is asked once.
            retry=Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.05), 1, supported_errors=(RedisConnectionError,)),
        )
        database = Database(
            settings.database_url,
            pool_size=pool_size,
            application_name=application_name,
            server_settings=server_settings,
        )
        jobs = Jobs(redis)
        publisher = Publisher(redis, database.engine)

        def after_commit(changes: Changes) -> None:
            if not publisher.publish(changes):
                # Whoever saved waits for it once: the sweep finds what is due, and sockets check their rights themselves.
                return
            for connection_id in changes.pushes:
                jobs.push(connection_id)
            for user_id in changes.signed_out:
                publisher.close_user(user_id)

        database.after_commit = after_commit
        return cls(settings, database, redis, jobs)


def services() -> Services:
    """The services of the Flask app that handles this request."""
    return cast(Services, current_app.extensions["synclight"])
