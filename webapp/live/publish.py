"""Telling the browsers what a commit changed, as far as anybody is looking.

A change that nobody watches costs one look-up in Redis for its whole batch, and nothing else.
"""

from __future__ import annotations

import json

import structlog
from redis import Redis, RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from webapp.db import Changes
from webapp.live.interest import watched_of
from webapp.live.states import keys_moved_by, read_states

log = structlog.get_logger()

# All web processes listen here; a message is {"v": 1, "things": [state, ...]} or {"v": 1, "close_user": id}.
CHANNEL = "synclight:live"


class Publisher:
    """Sends states to the web processes through Redis. Used by every process that commits."""

    def __init__(self, redis: Redis, engine: Engine) -> None:
        self._redis = redis
        # Single statements need no transaction, whose beginning and end would take a round trip each.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    def publish(self, changes: Changes) -> bool:
        """Send the present states of what was touched, and of the counters that moved with it, if they are watched.

        The states are read anew from the database: they may be newer than this commit, never older. Never raises
        because Redis or the database is away: a browser that misses a message finds the difference at its next check.
        False where Redis did not answer.
        """
        try:
            watched = watched_of(self._redis, keys_moved_by(changes.touched.values()))
            if not watched:
                return True
            with Session(self._engine) as session:
                states = read_states(session, watched)
            self._redis.publish(CHANNEL, json.dumps({"v": 1, "things": list(states.values())}))
        except (RedisError, SQLAlchemyError) as error:
            log.warning("not_published", things=len(changes.touched), error=type(error).__name__)
            return not isinstance(error, RedisError)
        return True

    def close_user(self, user_id: int) -> None:
        """Have every web process close the open sockets of a person who must sign in again or has lost the right.

        Never raises because Redis is away: then each socket is closed at its own next check, at most 30 s later.
        """
        try:
            self._redis.publish(CHANNEL, json.dumps({"v": 1, "close_user": user_id}))
        except RedisError as error:
            log.warning("sockets_not_closed", user=user_id, error=type(error).__name__)
