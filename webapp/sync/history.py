"""The history of a record as sentences: what happened, why, and who asked for it. Pure."""

from __future__ import annotations

from webapp.languages import N_, listed
from webapp.languages import gettext as _
from webapp.sync.details import field_name, sentence
from webapp.sync.models import SyncEvent
from webapp.sync.transitions import DRIFT
from webapp.zone import Reader

# What a person did, by the cause that the event names: said of somebody, and where nobody is known.
_DEEDS = {
    "edit": (N_("Saved by %(who)s"), N_("Saved")),
    "import": (N_("Imported by %(who)s"), N_("Imported")),
    "resync": (N_("Resync asked for by %(who)s"), N_("Resync asked for")),
    "restore": (N_("Restore in Sage asked for by %(who)s"), N_("Restore in Sage asked for")),
    "unlink": (N_("Unlinked by %(who)s"), N_("Unlinked")),
    "choice": (N_("Chosen between here and Sage by %(who)s"), N_("Chosen between here and Sage")),
    "confirm": (N_("Synchronise with Sage asked for by %(who)s"), N_("Synchronise with Sage asked for")),
}

# What followed, by the code of the detail, for all that needs no sentence of its own.
_RESULTS = {
    "queued": N_("queued for Sage"),
    "running": N_("being compared with Sage"),
    "in_step": N_("in step with Sage"),
    "excluded": N_("kept out of Sage, because it is a prospect"),
    "excluded_with_company": N_("kept out of Sage, because its company is a prospect"),
    "validated": N_("prices validated"),
    "never_sent": N_("not sent, because no Sage company is connected"),
    "unlinked": N_("no longer linked to Sage"),
}


# Why a record goes on by itself, by what it waited for; else because Sage answers again.
_GOES_ON = {
    "paused": N_("Synchronisation with Sage resumed"),
    "authorise_again": N_("Authorised in Sage again"),
    "connecting": N_("Connected to Sage"),
    "never_sent": N_("Connected to Sage"),
}


def event_sentence(event: SyncEvent, who: str | None, reader: Reader, before: SyncEvent | None = None) -> str:
    """What an event says to this reader; `who` is the name of the person who caused it, if one did.

    `before` is the event of the record that came before it.
    """
    by_somebody, by_nobody = _DEEDS.get(event.cause, ("", ""))
    deed = "" if not by_nobody else _(by_somebody, who=who) if who else _(by_nobody)
    code, taken = event.detail.get("code", ""), event.detail.get("taken")
    if taken:
        result = _("%(fields)s taken from Sage", fields=listed([field_name(name) for name in taken]))
    else:
        result = _(_RESULTS[code]) if code in _RESULTS else ""
    if event.cause == "connection" and code == "queued":
        waited = before.detail if before else {}
        deed = _(_GOES_ON.get(waited.get("state") or waited.get("code", ""), N_("Sage answers again")))
    elif event.cause == DRIFT:
        deed = _("Found out of step when everything was compared with Sage")
    elif event.cause == "sage" and not taken:
        deed = _("Seen in Sage")
    if not result:
        said = sentence(event.kind, event.detail, reader.zone, reader.now)
        return f"{deed}. {said}" if deed else said
    return f"{deed}; {result}" if deed else result[0].upper() + result[1:]
