"""What a failed attempt means for the record: a table as data, and a pure function that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from webapp.status import Reason
from workers.sage.connector import NotFound, OutcomeUnknown, Rejected, SageError

# Seconds until the next try after the first, second, ... failed one. When they are used up, a person must look.
RETRY_SECONDS = (10, 60, 300, 1_800, 7_200)
# Each wait is stretched by up to this share, so that records that failed together do not return together.
JITTER = 0.2


@dataclass(frozen=True)
class Verdict:
    """The status that follows. `due` is when a pending record is tried again; `attempts` what its counter becomes."""

    reason: Reason
    detail: dict[str, Any]
    attempts: int
    due: datetime | None = None


def verdict(error: SageError, attempts: int, now: datetime, chance: float) -> Verdict:
    """What follows when an attempt failed with `error` after `attempts` failed ones before it.

    `chance` is a number from 0 to 1 that spreads the waits. What Sage said goes along under "raw" for admins. Faults of
    the connection (Unreachable, AuthoriseAgain) are not for here: they are no fault of a record.
    """
    if isinstance(error, Rejected):
        return Verdict(Reason.REJECTED, with_raw(error.detail, error), attempts + 1)
    if isinstance(error, NotFound):
        return Verdict(Reason.DELETED_IN_SAGE, with_raw({"code": "deleted_in_sage"}, error), attempts + 1)
    if attempts >= len(RETRY_SECONDS):
        if isinstance(error, OutcomeUnknown):
            return Verdict(Reason.OUTCOME_UNKNOWN, with_raw({"code": "outcome_unknown"}, error), attempts + 1)
        return Verdict(Reason.GAVE_UP, with_raw({"code": "gave_up", "attempts": attempts + 1}, error), attempts + 1)
    seconds = RETRY_SECONDS[attempts] * (1 + JITTER * chance)
    # Sage's own wish counts where it is longer; a shorter one would only be refused again.
    asked = getattr(error, "after", None)
    due = now + timedelta(seconds=max(seconds, asked or 0))
    detail = {"code": "retrying", "at": due.isoformat(), "attempt": attempts + 1, "of": len(RETRY_SECONDS)}
    return Verdict(Reason.RETRYING, with_raw(detail, error), attempts + 1, due)


def with_raw(detail: Mapping[str, Any], error: SageError) -> dict[str, Any]:
    """A detail together with what Sage literally said, if it said anything."""
    return {**detail, "raw": error.raw} if error.raw else dict(detail)
