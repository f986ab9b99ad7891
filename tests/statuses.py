"""Giving records a status for tests."""

from __future__ import annotations

from typing import Any

from webapp.db import UnitOfWork
from webapp.status import COMES_FROM, STATUS_OF, Reason
from webapp.sync.models import Synced
from webapp.sync.transitions import move


def give_status(
    work: UnitOfWork, record: Synced, reason: Reason, detail: dict[str, Any], cause: str = "worker"
) -> None:
    """Give a record a status as a worker does, as if it had been in hand before where nothing else leads there."""
    before = COMES_FROM.get(reason)
    if before is not None and record.sync_reason not in before:
        record.sync_reason, record.sync_status = before[0], STATUS_OF[before[0]]
    move(work, record, reason, detail, cause=cause)
