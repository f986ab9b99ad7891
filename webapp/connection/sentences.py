"""What people read about a connection: its state in words, what it does, and the one banner when it does not work."""

from __future__ import annotations

from datetime import datetime, tzinfo

from webapp.connection.models import AUTHORISE_AGAIN, CONNECTED, CONNECTING, PAUSED, UNREACHABLE
from webapp.sync.details import clock, every
from webapp.sync.models import SyncRun

STATE_TEXT = {
    CONNECTED: "Connected",
    UNREACHABLE: "Sage cannot be reached",
    AUTHORISE_AGAIN: "Must be authorised again",
    PAUSED: "Paused",
    CONNECTING: "Not connected yet",
}

# Why an authorisation was not taken, and what to do.
PROBLEMS = {
    "not_authorised": "Sage did not accept the authorisation. Begin once more.",
    "no_answer": "Sage did not answer the authorisation in time. Begin once more.",
    "no_business": "The person who authorised has no company in Sage. Authorise with a login that has one.",
    "other_business": (
        "The person who authorised has no access to the company in Sage that this connection belongs to. Nothing was "
        "sent. Authorise with a login of that company."
    ),
    "all_taken": (
        "Each company in Sage of the person who authorised is connected already. "
        "Authorise with a login that has another one."
    ),
}

# How a reading from Sage ended that did not come to its end.
RUN_ENDS = {
    "Unreachable": "Sage could not be reached.",
    "AuthoriseAgain": "Sage must be authorised again.",
    "Transient": "Sage broke it off. The next run begins where this one did.",
    "BrokenOff": "It was interrupted. The next run begins where this one did.",
}


def run_sentence(run: SyncRun) -> str:
    """What a reading from Sage did, and how it ended."""
    said = [f"{run.seen:,} read"]
    said += [f"{number:,} {word}" for number, word in ((run.created, "new"), (run.changed, "changed")) if number]
    if run.failed:
        said.append(f"{run.failed:,} not taken")
    counted = ", ".join(said) + "."
    if run.finished_at and not run.error and len(said) == 1:
        counted = "Nothing had changed."
    if run.finished_at is None:
        return f"Running: {counted}"
    # An end that is not among these is a fault of ours, and the log has it.
    end = RUN_ENDS.get(run.error, "It failed here. The next run begins where this one did.") if run.error else ""
    return end if end and not run.seen else f"{counted} {end}".rstrip()


def state_text(state: str, alike: int, among: int, business: str) -> str:
    """A state in words; of several connections, also how many of them are in it where that is not all."""
    text = "Disconnected" if state == CONNECTING and business else STATE_TEXT[state]
    return text if alike == among else f"{text} ({alike} of {among})"


def summary(cycle_seconds: int) -> str:
    """The type of synchronisation in one sentence."""
    return (
        "Two-way: companies, contacts and orders saved here are sent to Sage at once, "
        f"and changes made in Sage arrive every {every(cycle_seconds)}."
    )


def banner(state: str, since: datetime, cycle_seconds: int, zone: tzinfo, now: datetime, business: str = "") -> str:
    """What all pages say while a connection does not work; the empty text while it works or was never made.

    `business` is the company in Sage that is meant, where there are several.
    """
    sage = f"Sage for {business}" if business else "Sage"
    match state:
        case "unreachable":
            return (
                f"{sage} cannot be reached since {clock(since, zone, now)}; it is tried every {every(cycle_seconds)}. "
                "What you save is kept and sent as soon as Sage answers."
            )
        case "authorise_again":
            return (
                f"{sage} must be authorised again since {clock(since, zone, now)}. An admin can do so on the page "
                "Connection to Sage; what you save is kept and sent after that."
            )
        case "paused":
            return (
                f"Synchronisation with {sage} is paused since {clock(since, zone, now)}. "
                "What you save is kept and sent when an admin resumes it."
            )
        case _:
            return ""
