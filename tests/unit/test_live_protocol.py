"""What a watch may hold, and the texts that a reader gets."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from webapp.live.protocol import MOST_THINGS, BadWatch, read_watch, shown

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def company_state(reason: str, detail: dict[str, object]) -> dict[str, object]:
    return {
        "key": "company:42",
        "version": 17,
        "reason": reason,
        "detail": detail,
        "at": "2026-11-22T09:12:00+00:00",
        "attempt_at": None,
        "next_at": None,
        "sage_number": "ALFKI",
        "values": {"name": "Alfreds Futterkiste", "type": "customer", "country": "DE", "owner": ""},
    }


def connection_state(state: str) -> dict[str, object]:
    return {
        "key": "connection:1",
        "version": 5,
        "state": state,
        "since": "2026-11-22T08:12:00+00:00",
        "product": "accounting",
        "business": "Northwind",
        "cycle_seconds": 60,
        "at": None,
        "next_at": None,
        "waiting": 3,
    }


def test_a_watch_gives_keys_and_versions() -> None:
    assert read_watch({"v": 1, "things": {"company:42": 17, "module:companies": 0}}) == {
        "company:42": 17,
        "module:companies": 0,
    }


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "watch",
        {},
        {"things": {}},
        {"v": 2, "things": {}},
        {"v": 1},
        {"v": 1, "things": ["company:42"]},
        {"v": 1, "things": {"company:42": "17"}},
        {"v": 1, "things": {"company:42": True}},
        {"v": 1, "things": {"company:42": 1.5}},
        {"v": 1, "things": {"company:42": -1}},
        {"v": 1, "things": {"company:42": 2**63}},
        {"v": 1, "things": {"company:" + "4" * 40: 1}},
        {"v": 1, "things": {f"company:{number}": 1 for number in range(MOST_THINGS + 1)}},
    ],
)
def test_what_is_no_watch_is_refused(message: object) -> None:
    with pytest.raises(BadWatch):
        read_watch(message)


def test_as_many_things_as_allowed_are_taken() -> None:
    things = {f"company:{number}": 1 for number in range(MOST_THINGS)}
    assert read_watch({"v": 1, "things": things}) == things


def test_a_record_gets_its_texts() -> None:
    state = shown(company_state("in_step", {"code": "in_step"}), UTC, NOW)
    assert state["status"] == "synchronised"
    assert state["reason"] == "in_step"
    assert state["variant"] == "ok"
    assert state["label"] == "Synchronised"
    assert state["detail"] == "Synchronised: the account is correctly synchronised with Sage."
    assert state["brief"] == ""
    assert state["values"]["country"] == "Germany"


def test_times_in_sentences_are_in_the_readers_zone() -> None:
    detail = {"code": "retrying", "at": "2026-11-22T09:45:00+00:00", "attempt": 2, "of": 5}
    assert "at 10:45 (2 of 5)" in shown(company_state("retrying", detail), BERLIN, NOW)["detail"]
    assert shown(company_state("retrying", detail), UTC, NOW)["brief"] == "Again at 09:45 (2 of 5)"


def test_a_connection_that_works_has_no_banner() -> None:
    state = shown(connection_state("connected"), BERLIN, NOW)
    assert state["state_text"] == "Connected"
    assert state["product"] == "Sage Accounting"
    assert state["banner"] == ""
    assert state["summary"] == (
        "Two-way: companies, contacts, products and orders saved here are sent to Sage at once, "
        "and changes made in Sage arrive every minute."
    )


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("unreachable", "Sage cannot be reached"),
        ("authorise_again", "Must be authorised again"),
        ("paused", "Paused"),
    ],
)
def test_a_connection_that_does_not_work_says_so_and_since_when(state: str, text: str) -> None:
    shown_state = shown(connection_state(state), BERLIN, NOW)
    assert shown_state["state_text"] == text
    assert "since 09:12" in shown_state["banner"]
    assert shown_state["summary"] == (
        "Two-way: companies, contacts, products and orders are saved here at once. "
        "Each is sent to Sage as soon as its connection works, and changes made in Sage arrive then."
    )
