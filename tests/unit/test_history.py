"""The history of a record, and what a reading of all of Sage found, as sentences."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from webapp.connection.sentences import drift_sentence
from webapp.status import Status
from webapp.sync.details import sentence
from webapp.sync.history import event_sentence
from webapp.sync.models import SyncEvent
from webapp.zone import Reader

READER = Reader(UTC, datetime(2026, 11, 22, 10, 45, tzinfo=UTC))


def say(cause: str, who: str | None = None, **detail: Any) -> str:
    return event_sentence(SyncEvent(kind="company", cause=cause, to_reason="", detail=detail), who, READER)


@pytest.mark.parametrize(
    ("cause", "who", "detail", "sentence"),
    [
        ("edit", "M. Owen", {"code": "queued"}, "Saved by M. Owen; queued for Sage"),
        ("import", None, {"code": "queued"}, "Imported; queued for Sage"),
        ("resync", "M. Owen", {"code": "queued"}, "Resync asked for by M. Owen; queued for Sage"),
        ("edit", "J. Lind", {"code": "excluded"}, "Saved by J. Lind; kept out of Sage, because it is a prospect"),
        ("worker", None, {"code": "running"}, "Being compared with Sage"),
        ("worker", None, {"code": "in_step"}, "In step with Sage"),
        ("sage", None, {"code": "in_step", "taken": ["phone"]}, "Phone taken from Sage"),
        ("sage", None, {"code": "in_step", "taken": ["email", "city"]}, "E-mail and city taken from Sage"),
        ("connection", None, {"code": "queued"}, "Sage answers again; queued for Sage"),
        (
            "drift",
            None,
            {"code": "queued"},
            "Found out of step when everything was compared with Sage; queued for Sage",
        ),
        (
            "worker",
            None,
            {"code": "missing", "field": "country"},
            "Sage needs a country for this company. Add the country and save.",
        ),
        (
            "edit",
            "J. Lind",
            {"code": "waiting_for_sage", "state": "paused", "since": "2026-11-22T09:12:00+00:00", "every": 60},
            "Saved by J. Lind. Synchronisation with Sage is paused. It is sent as soon as an admin resumes it.",
        ),
    ],
)
def test_what_happened_is_told(cause: str, who: str | None, detail: dict[str, Any], sentence: str) -> None:
    assert say(cause, who, **detail) == sentence


@pytest.mark.parametrize(
    ("waited", "sentence"),
    [
        ({"code": "waiting_for_sage", "state": "paused"}, "Synchronisation with Sage resumed; queued for Sage"),
        ({"code": "waiting_for_sage", "state": "authorise_again"}, "Authorised in Sage again; queued for Sage"),
        ({"code": "waiting_for_sage", "state": "connecting"}, "Connected to Sage; queued for Sage"),
        ({"code": "never_sent"}, "Connected to Sage; queued for Sage"),
        ({"code": "waiting_for_sage", "state": "unreachable"}, "Sage answers again; queued for Sage"),
    ],
)
def test_why_a_record_goes_on_is_told_by_what_it_waited_for(waited: dict[str, Any], sentence: str) -> None:
    event, before = (SyncEvent(kind="company", cause="connection", detail=one) for one in ({"code": "queued"}, waited))
    assert event_sentence(event, None, READER, before) == sentence


def test_what_sage_said_literally_is_not_told() -> None:
    assert "RecordInvalid" not in say("worker", code="refused", raw={"code": "RecordInvalid"})


def test_a_code_of_a_newer_release_still_gives_a_sentence() -> None:
    assert say("worker", code="not known yet").endswith(".")


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        ("company", {"code": "code_taken", "field": "code", "value": "ALFKI"}, "Another customer in Sage already has"),
        (
            "order",
            {"code": "code_taken", "field": "number", "value": "1"},
            "Another order in Sage already has the number",
        ),
        ("order", {"code": "no_tax_rate", "field": "lines", "percentage": "17.5"}, "Sage has no tax rate of 17.5%"),
        ("contact", {"code": "company_gone"}, "The company of this contact was deleted in Sage."),
        ("order", {"code": "company_refused"}, "Sage takes no order for this company"),
    ],
)
def test_what_sage_refuses_of_each_kind_is_told(kind: str, detail: dict[str, Any], said: str) -> None:
    assert sentence(kind, detail, UTC, READER.now).startswith(said)


def test_what_became_of_what_was_out_of_step_is_told_as_long_as_it_is_there() -> None:
    found = [("orders", Status.PENDING, 2), ("companies", Status.SYNCHRONISED, 1)]
    told_of = "Companies: 1 Synchronised; Orders: 2 Pending synchronisation"
    assert drift_sentence(found) == f"What was out of step, by now: {told_of}"
    assert drift_sentence([]) == ""
