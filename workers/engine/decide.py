"""What to do with one record, given both sides and what they last agreed on.

Pure and total: for whatever it is given, it names exactly one plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType

from workers.engine.merge import FieldConflict, Fields, merge


class Action(Enum):
    """What is to be done."""

    CREATE = "create"  # Sage has no such customer: make one.
    NOTHING = "nothing"  # Both sides hold the same.
    SEND = "send"  # Only we changed something, or both did without touching the same field: write to Sage.
    TAKE = "take"  # Only Sage changed something: write it here.
    ASK_CONFLICT = "ask_conflict"  # Both changed the same field: a person chooses.
    ASK_DELETED = "ask_deleted"  # It was deleted in Sage: a person chooses.
    READ_AGAIN = "read_again"  # What was read is older than what we know: it says nothing.


class Remote(Enum):
    """The two ways of not being in Sage."""

    NEVER = "never"
    DELETED = "deleted"


@dataclass(frozen=True)
class RemoteState:
    """What was read from Sage, and when Sage says that it was last changed."""

    fields: Fields
    updated_at: datetime


@dataclass(frozen=True)
class Plan:
    """One action and what it needs.

    `fields` is the state that both sides hold once the plan has been carried out. `take` names the fields that change
    here (also with SEND, where the two sides changed different fields). `overruled` are the changes that gave way because
    the other side has the word on that field.
    """

    action: Action
    fields: Fields
    take: tuple[str, ...] = ()
    conflicts: tuple[FieldConflict, ...] = ()
    overruled: tuple[FieldConflict, ...] = ()


def decide(
    local: Fields,
    remote: RemoteState | Remote,
    agreed: Fields | None,
    known_until: datetime | None = None,
    directions: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """The plan for one record that takes part in synchronisation.

    `known_until` is the time of change of the newest state of Sage that we have seen: a read that is older came from a
    part of Sage that lags behind, and must not undo what we know. `directions` names the fields on which one side has the
    word (webapp.connection.directions).
    """
    if remote is Remote.NEVER:
        return Plan(Action.CREATE, local)
    if remote is Remote.DELETED:
        return Plan(Action.ASK_DELETED, local)
    assert isinstance(remote, RemoteState)
    if known_until is not None and remote.updated_at < known_until:
        return Plan(Action.READ_AGAIN, local)
    merged = merge(agreed, local, remote.fields, directions)
    if merged.conflicts:
        return Plan(Action.ASK_CONFLICT, merged.fields, merged.from_sage, merged.conflicts)
    if merged.to_sage:
        return Plan(Action.SEND, merged.fields, merged.from_sage, overruled=merged.overruled)
    if merged.from_sage:
        return Plan(Action.TAKE, merged.fields, merged.from_sage, overruled=merged.overruled)
    return Plan(Action.NOTHING, merged.fields)
