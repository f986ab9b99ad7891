"""The history of a record as sentences: what happened, why, and who asked for it. Pure."""

from __future__ import annotations

from webapp.sync.details import FIELD_NAMES, listed, sentence
from webapp.sync.models import SyncEvent
from webapp.zone import Glance

# What a person did, by the cause that the event names.
_DEEDS = {
    "edit": "Saved",
    "import": "Imported",
    "resync": "Resync asked for",
    "restore": "Restore in Sage asked for",
    "unlink": "Unlinked",
    "choice": "Chosen between here and Sage",
    "confirm": "Synchronise with Sage asked for",
}

# What followed, by the code of the detail, for all that needs no sentence of its own.
_RESULTS = {
    "queued": "queued for Sage",
    "running": "being compared with Sage",
    "in_step": "in step with Sage",
    "excluded": "kept out of Sage, because it is a prospect",
    "excluded_with_company": "kept out of Sage, because its company is a prospect",
    "validated": "prices validated",
    "never_sent": "not sent, because no Sage company is connected",
    "unlinked": "no longer linked to Sage",
}


def told(event: SyncEvent, who: str | None, reader: Glance) -> str:
    """What an event says to this reader; `who` is the name of the person who caused it, if one did."""
    deed = _DEEDS.get(event.cause, "")
    if deed and who:
        deed = f"{deed} by {who}"
    taken = event.detail.get("taken")
    if taken:
        result = f"{listed([FIELD_NAMES.get(name, name) for name in taken])} taken from Sage"
    else:
        result = _RESULTS.get(event.detail.get("code", ""), "")
    if event.cause == "connection" and event.detail.get("code") == "queued":
        deed = "Sage answers again"
    elif event.cause == "sage" and not taken:
        deed = "Seen in Sage"
    if not result:
        said = sentence(event.kind, event.detail, reader.zone, reader.now)
        return f"{deed}. {said}" if deed else said
    return f"{deed}; {result}" if deed else result[0].upper() + result[1:]
