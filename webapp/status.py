"""The vocabulary of the product: which statuses and reasons there are, and how each one looks.

This is the single place that says so. Pages, live messages, filters and the sync engine all read it; the schema's check
constraint has it as a function (migration 0030). It imports nothing of ours, so that everything may import it. The
sentences that explain a status are not here: webapp.sync.details renders them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What a person filters by."""

    SYNCHRONISED = "synchronised"
    PENDING = "pending"
    REVIEW = "review"
    NOT_SYNCHRONISED = "not_synchronised"


class Reason(StrEnum):
    """Why a record has its status. Each reason belongs to exactly one status."""

    IN_STEP = "in_step"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    WAITING_FOR_PARENT = "waiting_for_parent"
    WAITING_FOR_SAGE = "waiting_for_sage"
    REJECTED = "rejected"
    GAVE_UP = "gave_up"
    CONFLICT = "conflict"
    POSSIBLE_DUPLICATE = "possible_duplicate"
    DELETED_IN_SAGE = "deleted_in_sage"
    OUTCOME_UNKNOWN = "outcome_unknown"
    NEVER_SENT = "never_sent"
    EXCLUDED = "excluded"
    UNLINKED = "unlinked"


@dataclass(frozen=True)
class Mark:
    """How a status and reason are shown: never by colour alone.

    `label` is the text on a record, `role` names the pair of colours in the style sheet, and `icon` the symbol in the
    icon sheet, different in outline for each role.
    """

    label: str
    role: str
    icon: str


STATUS_OF: dict[Reason, Status] = {
    Reason.IN_STEP: Status.SYNCHRONISED,
    Reason.QUEUED: Status.PENDING,
    Reason.RUNNING: Status.PENDING,
    Reason.RETRYING: Status.PENDING,
    Reason.WAITING_FOR_PARENT: Status.PENDING,
    Reason.WAITING_FOR_SAGE: Status.PENDING,
    Reason.REJECTED: Status.REVIEW,
    Reason.GAVE_UP: Status.REVIEW,
    Reason.CONFLICT: Status.REVIEW,
    Reason.POSSIBLE_DUPLICATE: Status.REVIEW,
    Reason.DELETED_IN_SAGE: Status.REVIEW,
    Reason.OUTCOME_UNKNOWN: Status.REVIEW,
    Reason.NEVER_SENT: Status.NOT_SYNCHRONISED,
    Reason.EXCLUDED: Status.NOT_SYNCHRONISED,
    Reason.UNLINKED: Status.NOT_SYNCHRONISED,
}

# What a record must have been for these reasons to follow; the others can follow upon any. Green is what was compared, or
# was read from Sage just now; what a try ended with was in hand; and only what Sage no longer has is unlinked.
COMES_FROM: dict[Reason, tuple[Reason, ...]] = {
    Reason.IN_STEP: (Reason.RUNNING, Reason.IN_STEP, Reason.NEVER_SENT),
    Reason.RUNNING: (Reason.QUEUED, Reason.RETRYING, Reason.WAITING_FOR_SAGE, Reason.RUNNING),
    Reason.RETRYING: (Reason.RUNNING,),
    Reason.GAVE_UP: (Reason.RUNNING,),
    Reason.CONFLICT: (Reason.RUNNING,),
    Reason.OUTCOME_UNKNOWN: (Reason.RUNNING,),
    Reason.UNLINKED: (Reason.DELETED_IN_SAGE,),
}

FILTER_TEXT: dict[Status, str] = {
    Status.SYNCHRONISED: "Synchronised",
    Status.PENDING: "Pending synchronisation",
    Status.REVIEW: "Pending review",
    Status.NOT_SYNCHRONISED: "Not synchronised",
}

ERRORS = frozenset({Reason.REJECTED, Reason.GAVE_UP})

_MARKS: dict[str, Mark] = {
    "ok": Mark("Synchronised", "ok", "circle-check"),
    "wait": Mark("Pending synchronisation", "wait", "clock"),
    "running": Mark("Pending synchronisation", "wait", "refresh-cw"),
    "error": Mark("Synchronisation error", "error", "octagon-x"),
    "choose": Mark("Pending review", "choose", "flag"),
    "off": Mark("Not synchronised", "off", "circle-dashed"),
}


def variant(reason: Reason) -> str:
    """The name of the mark that shows `reason`: one of ok, wait, running, error, choose, off."""
    if reason is Reason.RUNNING:
        return "running"
    if reason in ERRORS:
        return "error"
    return {
        Status.SYNCHRONISED: "ok",
        Status.PENDING: "wait",
        Status.REVIEW: "choose",
        Status.NOT_SYNCHRONISED: "off",
    }[STATUS_OF[reason]]


def mark(reason: Reason) -> Mark:
    """The mark that shows `reason`."""
    return _MARKS[variant(reason)]


VARIANTS: tuple[str, ...] = tuple(_MARKS)


def mark_of(name: str) -> Mark:
    """The mark of a variant by its name.

    Raises KeyError for a name that is not in VARIANTS.
    """
    return _MARKS[name]
