"""Fields that both sides changed: which are open, and what a person chose.

A choice moves the base of the merge to Sage's value. Whoever keeps ours has then changed it on this side alone, and it
is sent; whoever takes Sage's has both sides equal. Should Sage change the field once more in between, that is a new
conflict, found when the two are compared again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from webapp.db import UnitOfWork
from webapp.sync.models import Conflict, Synced

Side = Literal["ours", "theirs"]

# So many choices of a record are looked at for what lost by them.
_LAST = 20


def open_conflicts(session: Session, record: Synced) -> Sequence[Conflict]:
    """The fields of a record that wait for a choice, in the order in which they were found."""
    return session.scalars(
        select(Conflict)
        .where(Conflict.kind == record.kind, Conflict.record_id == record.id, Conflict.resolved_at.is_(None))
        .order_by(Conflict.id)
    ).all()


def lost_values(session: Session, record: Synced) -> list[tuple[Conflict, str]]:
    """The last choices that were made for a record, newest first, each with the value that lost by it.

    A value that the record holds by now is left out, and so is an older loss of a field that lost again.
    """
    settled = session.scalars(
        select(Conflict)
        .where(Conflict.kind == record.kind, Conflict.record_id == record.id, Conflict.taken.is_not(None))
        .order_by(Conflict.id.desc())
        .limit(_LAST)
    )
    lost: dict[str, tuple[Conflict, str]] = {}
    for conflict in settled:
        value = conflict.theirs if conflict.taken == "ours" else conflict.ours
        if conflict.field not in lost and value != record.shared(conflict.field):
            lost[conflict.field] = (conflict, value)
    return list(lost.values())


def keep_lost(work: UnitOfWork, record: Synced, field: str, *, base: str, ours: str, theirs: str, user_id: int) -> None:
    """Keep `ours`, a value that gives way to `theirs` by a person's choice, so that it can be taken back."""
    work.session.add(
        Conflict(
            kind=record.kind,
            record_id=record.id,
            field=field,
            base=base,
            ours=ours,
            theirs=theirs,
            resolved_at=datetime.now(UTC),
            taken="theirs",
            user_id=user_id,
        )
    )


def close_others(work: UnitOfWork, record: Synced, fields: Sequence[str]) -> None:
    """End the open conflicts of a record in other fields than these: they healed without a choice."""
    work.session.execute(
        update(Conflict)
        .where(
            Conflict.kind == record.kind,
            Conflict.record_id == record.id,
            Conflict.resolved_at.is_(None),
            Conflict.field.not_in(fields),
        )
        .values(resolved_at=func.clock_timestamp())
    )


def choose(work: UnitOfWork, record: Synced, choices: Mapping[str, Side], user_id: int | None) -> None:
    """Settle the conflicts of the fields in `choices`. The caller has the record compared with Sage again afterwards.

    A value that loses stays in the conflict's row, from where it can be restored. Fields that have no open conflict are
    passed over.
    """
    agreed = dict(record.agreed or {})
    for conflict in open_conflicts(work.session, record):
        side = choices.get(conflict.field)
        if side is None:
            continue
        if side == "theirs":
            record.take(conflict.field, conflict.theirs)
        agreed[conflict.field] = conflict.theirs
        conflict.taken = side
        conflict.resolved_at = datetime.now(UTC)
        conflict.user_id = user_id
    record.agreed = agreed
