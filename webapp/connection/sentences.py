"""What people read about a connection: its state in words, what it does, and the one banner when it does not work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from webapp.connection.models import AUTHORISE_AGAIN, CONNECTED, CONNECTING, PAUSED, UNREACHABLE
from webapp.languages import N_, ngettext, number
from webapp.languages import gettext as _
from webapp.modules import MODULES
from webapp.status import FILTER_TEXT, Status
from webapp.sync.details import clock, every
from webapp.sync.models import SyncRun

STATE_TEXT = {
    CONNECTED: N_("Connected"),
    UNREACHABLE: N_("Sage cannot be reached"),
    AUTHORISE_AGAIN: N_("Must be authorised again"),
    PAUSED: N_("Paused"),
    CONNECTING: N_("Not connected yet"),
}

# Why an authorisation was not taken, and what to do.
PROBLEMS = {
    "not_authorised": N_("Sage did not accept the authorisation. Begin once more."),
    "no_answer": N_("Sage did not answer the authorisation in time. Begin once more."),
    "no_business": N_("The person who authorised has no company in Sage. Authorise with a login that has one."),
    "other_business": N_(
        "The person who authorised has no access to the company in Sage that this connection belongs to. Nothing was "
        "sent. Authorise with a login of that company."
    ),
    "all_taken": N_(
        "Each company in Sage of the person who authorised is connected already. "
        "Authorise with a login that has another one."
    ),
}

# How a reading from Sage ended that did not come to its end.
RUN_ENDS = {
    "Unreachable": N_("Sage could not be reached."),
    "AuthoriseAgain": N_("Sage must be authorised again."),
    "Transient": N_("Sage broke it off. The next run begins where this one did."),
    "BrokenOff": N_("It was interrupted. The next run begins where this one did."),
}


# What admins do to a connection, by the action under which it is written down.
AUDITED = {
    "connection_added": N_("Added the connection"),
    "connection_authorised": N_("Authorised Synclight in Sage"),
    "business_chosen": N_("Chose the company in Sage and started"),
    "connection_paused": N_("Paused the synchronisation"),
    "connection_resumed": N_("Resumed the synchronisation"),
    "all_compared": N_("Had everything compared with Sage"),
    "directions_set": N_("Changed which side decides"),
    "connection_ended": N_("Disconnected from Sage"),
    "connection_removed": N_("Removed the connection"),
}

FAILED_HERE = N_("It failed here. The next run begins where this one did.")


def run_sentence(run: SyncRun) -> str:
    """What a reading from Sage did, and how it ended."""
    said = [ngettext("%(num)s read", "%(num)s read", run.seen)]
    if run.created:
        said.append(ngettext("%(num)s new", "%(num)s new", run.created))
    if run.changed:
        said.append(ngettext("%(num)s changed", "%(num)s changed", run.changed))
    if run.failed:
        said.append(ngettext("%(num)s not taken", "%(num)s not taken", run.failed))
    if run.drifted:
        said.append(ngettext("%(num)s found out of step", "%(num)s found out of step", run.drifted))
    counted = ", ".join(said) + "."
    if run.finished_at and not run.error and len(said) == 1:
        counted = _("Nothing had changed.")
    if run.compared:
        counted += " " + ngettext(
            "%(num)s record compared with all of Sage.", "%(num)s records compared with all of Sage.", run.compared
        )
    if run.finished_at is None:
        return _("Running: %(counted)s", counted=counted)
    if not run.error:
        return counted
    # An end that is not among these is a fault of ours, and the log has it.
    return f"{counted} {_(RUN_ENDS.get(run.error, FAILED_HERE))}"


def drift_sentence(found: Sequence[tuple[str, Status, int]]) -> str:
    """What became of what a reading found out of step, by module and status; empty where none of it is there any more."""
    of_module = {
        module: [f"{number(n)} {_(FILTER_TEXT[status])}" for name, status, n in found if name == module.name]
        for module in MODULES
    }
    told = "; ".join(f"{_(module.words.title)}: {', '.join(counts)}" for module, counts in of_module.items() if counts)
    return _("What was out of step, by now: %(told)s", told=told) if told else ""


def state_text(state: str, alike: int, among: int, business: str) -> str:
    """A state in words; of several connections, also how many of them are in it where that is not all."""
    text = _("Disconnected") if state == CONNECTING and business else _(STATE_TEXT[state])
    if alike == among:
        return text
    return _("%(state)s (%(alike)s of %(among)s)", state=text, alike=number(alike), among=number(among))


def summary(state: str, cycle_seconds: int) -> str:
    """The type of synchronisation in one sentence or two, true also of several connections of which one is in this state."""
    if state == CONNECTED:
        return _(
            "Two-way: companies, contacts, products and orders saved here are sent to Sage at once, "
            "and changes made in Sage arrive %(often)s.",
            often=every(cycle_seconds),
        )
    return _(
        "Two-way: companies, contacts, products and orders are saved here at once. "
        "Each is sent to Sage as soon as its connection works, and changes made in Sage arrive then."
    )


def banner(
    state: str,
    since: datetime,
    cycle_seconds: int,
    zone: tzinfo,
    now: datetime,
    business: str = "",
    *,
    ended: bool = False,
) -> str:
    """What all pages say while a connection does not work; the empty text while it works or was never made.

    `business` is the company in Sage that is meant, where there are several. `ended` is whether an admin disconnected it.
    """
    values = {"since": clock(since, zone, now), "often": every(cycle_seconds), "company": business}
    match state:
        case "unreachable" if business:
            return _(
                "Sage for %(company)s cannot be reached since %(since)s; it is tried %(often)s. "
                "What you save is kept and sent as soon as Sage answers.",
                **values,
            )
        case "unreachable":
            return _(
                "Sage cannot be reached since %(since)s; it is tried %(often)s. "
                "What you save is kept and sent as soon as Sage answers.",
                **values,
            )
        case "authorise_again" if business:
            return _(
                "Sage for %(company)s must be authorised again: there has been no access since %(since)s. "
                "An admin can authorise it on the page Connection to Sage; what you save is kept and sent after that.",
                **values,
            )
        case "authorise_again":
            return _(
                "Sage must be authorised again: there has been no access since %(since)s. "
                "An admin can authorise it on the page Connection to Sage; what you save is kept and sent after that.",
                **values,
            )
        case "paused" if business:
            return _(
                "Synchronisation with Sage for %(company)s has been paused since %(since)s. "
                "What you save is kept and sent when an admin resumes it.",
                **values,
            )
        case "paused":
            return _(
                "Synchronisation with Sage has been paused since %(since)s. "
                "What you save is kept and sent when an admin resumes it.",
                **values,
            )
        case "connecting" if ended and business:
            return _(
                "Synclight has been disconnected from Sage for %(company)s since %(since)s. "
                "What you save is kept and sent when an admin connects it again.",
                **values,
            )
        case "connecting" if ended:
            return _(
                "Synclight has been disconnected from Sage since %(since)s. "
                "What you save is kept and sent when an admin connects it again.",
                **values,
            )
        case _:
            return ""
