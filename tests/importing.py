"""What the tests of imports share: a Sage, what was counted, and what became of a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, select

from webapp.connection.models import Connection
from webapp.importing.report import ImportReport
from webapp.services import Services
from webapp.sync.models import Synced, SyncEvent

# Data of others for tests, where they stand beside the project.
NORTHWIND = Path(__file__).resolve().parents[2] / "shared/data/northwind"


def connect(services: Services, state: str) -> Connection:
    with services.database.unit_of_work() as work:
        made = Connection(api_url="http://127.0.0.1:1/v3.1", state=state)
        work.session.add(made)
        work.session.commit()
        work.session.refresh(made)
        return made


def events(services: Services) -> list[SyncEvent]:
    with services.database.unit_of_work() as work:
        return list(work.session.scalars(select(SyncEvent).order_by(SyncEvent.id)))


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    return report.created, report.changed, report.unchanged, len(report.refused)


def status(record: Synced) -> dict[str, Any]:
    return {
        "status": record.sync_status,
        "reason": record.sync_reason,
        "detail": record.sync_detail,
        "due": record.next_attempt_at is not None,
        "attempts": record.attempts,
        "connection": record.connection_id,
    }


def history(services: Services, record: Synced) -> list[tuple[object, ...]]:
    return [
        (made.kind, made.from_reason, made.to_reason, made.detail, made.cause)
        for made in events(services)
        if (made.kind, made.record_id) == (record.kind, record.id)
    ]


@contextmanager
def before(services: Services, part: str, nth: int, do: Callable[[], None]) -> Iterator[None]:
    """Do something right before the `nth` statement that has this part."""
    seen = 0

    def on_statement(_: object, __: object, statement: str, *rest: object) -> None:
        nonlocal seen
        if part in statement:
            seen += 1
            if seen == nth:
                do()

    event.listen(services.database.engine, "before_cursor_execute", on_statement)
    yield
    event.remove(services.database.engine, "before_cursor_execute", on_statement)
    assert seen >= nth, f"there was no such statement: {part}"
