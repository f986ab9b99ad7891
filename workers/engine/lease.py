"""The lease of the one process that may write to a business.

Sage numbers customers in sequence and forbids two writes at a time, so one process writes for a connection. The lease
has a number that is given once. Whoever lost it (killed, or stopped for longer than it lasts) may come back, but finds
another number in the row and writes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import text

from webapp.db import Database

# How long a lease lasts. Another process takes over this long after the holder died.
SECONDS = 45.0
# A call to Sage lasts at most this long (workers.sage.http), so a write must not begin with less of the lease left.
NEEDED_FOR_A_CALL = 31.0
# Renewed before each record when less than this is left.
RENEW_BELOW = 40.0

_TAKE = text(
    """
    UPDATE sage_connection
    SET writer = nextval('claim_number'), writer_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id = :connection AND (writer_until IS NULL OR writer_until < clock_timestamp())
    RETURNING writer
    """
)
_RENEW = text(
    """
    UPDATE sage_connection SET writer_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id = :connection AND writer = :writer AND writer_until > clock_timestamp()
    """
)
_RELEASE = text(
    """
    UPDATE sage_connection SET writer_until = clock_timestamp() + make_interval(secs => :seconds)
    WHERE id = :connection AND writer = :writer
    """
)


class LeaseLostError(Exception):
    """Another process may be writing to this business now: stop, and write nothing."""


@dataclass
class Lease:
    """A lease that this process holds.

    `ends` is by this machine's monotonic clock, read before the database was asked.
    """

    database: Database
    connection_id: int
    number: int
    ends: float

    @classmethod
    def take(cls, database: Database, connection_id: int) -> Lease | None:
        """Take the lease of a connection; None where another process holds it."""
        asked = time.monotonic()
        with database.engine.begin() as connection:
            number = connection.execute(_TAKE, {"connection": connection_id, "seconds": SECONDS}).scalar()
        return None if number is None else cls(database, connection_id, number, asked + SECONDS)

    @property
    def left(self) -> float:
        """Seconds until it ends."""
        return self.ends - time.monotonic()

    def renew(self) -> None:
        """Make sure that enough of it is left for one record. Raises LeaseLostError."""
        if self.left > RENEW_BELOW:
            return
        asked = time.monotonic()
        values = {"connection": self.connection_id, "writer": self.number, "seconds": SECONDS}
        with self.database.engine.begin() as connection:
            if connection.execute(_RENEW, values).rowcount != 1:
                raise LeaseLostError(f"connection {self.connection_id}")
        self.ends = asked + SECONDS

    def check(self) -> None:
        """Call this right before each write. Raises LeaseLostError where the lease could end during the call.

        A read that took long leaves too little of it: then it is renewed, if nobody else has taken it.
        """
        if 0 < self.left < NEEDED_FOR_A_CALL:
            self.renew()
        if self.left < NEEDED_FOR_A_CALL:
            raise LeaseLostError(f"connection {self.connection_id}")

    def release(self, rest: float = 0.0) -> None:
        """Let the next process write after `rest` seconds. Does nothing where the lease was lost."""
        values = {"connection": self.connection_id, "writer": self.number, "seconds": rest}
        with self.database.engine.begin() as connection:
            connection.execute(_RELEASE, values)
