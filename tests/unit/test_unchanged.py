"""Which records need no call of their own where a list shows them as they are known."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from webapp.contacts.models import Contact
from webapp.status import Reason
from workers.engine.kinds import fields_of
from workers.engine.unchanged import Settled
from workers.sage.connector import Listed

CHANGED = datetime(2026, 11, 2, 9, tzinfo=UTC)
SETTLED = Settled(until=CHANGED + timedelta(hours=1), whole_at=CHANGED, began=None)


def in_step() -> Contact:
    contact = Contact(name="Ann", role="Buyer", email="", phone="", mobile="")
    contact.agreed = fields_of(contact)
    contact.sync_reason = Reason.IN_STEP
    contact.sage_updated_at = CHANGED
    return contact


def listed(updated_at: datetime = CHANGED, *, agrees: bool = True) -> Listed:
    return Listed("a" * 32, updated_at, lambda fields: agrees and fields["name"] == "Ann")


def test_what_is_in_step_and_shown_as_it_is_known_needs_no_call() -> None:
    assert SETTLED.needs_no_call(in_step(), listed())


@pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.IN_STEP])
def test_what_is_not_in_step_is_read(reason: Reason) -> None:
    record = in_step()
    record.sync_reason = reason
    assert not SETTLED.needs_no_call(record, listed())


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(lambda record: setattr(record, "name", "Anna"), id="changed here past us"),
        pytest.param(
            lambda record: setattr(record, "agreed", {**record.agreed, "role": ""}), id="agreed on another state"
        ),
        pytest.param(lambda record: setattr(record, "agreed", None), id="never agreed"),
        pytest.param(lambda record: setattr(record, "sage_updated_at", None), id="its time is not known"),
    ],
)
def test_what_is_not_as_was_agreed_is_read(happens: Callable[[Contact], None]) -> None:
    record = in_step()
    happens(record)
    assert not SETTLED.needs_no_call(record, listed())


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(listed(CHANGED + timedelta(seconds=1)), id="a newer time"),
        pytest.param(listed(CHANGED - timedelta(seconds=1)), id="an older time, as of a backup"),
        pytest.param(listed(agrees=False), id="the same time, and something else"),
    ],
)
def test_what_a_list_shows_in_another_way_is_read(shown: Listed) -> None:
    assert not SETTLED.needs_no_call(in_step(), shown)


def test_what_had_not_settled_when_it_was_read_is_read() -> None:
    """A second change within one second has the same time."""
    assert not Settled(CHANGED, CHANGED, None).needs_no_call(in_step(), listed())
    assert Settled(CHANGED + timedelta(microseconds=1), CHANGED, None).needs_no_call(in_step(), listed())


def test_each_is_read_once_a_day_whatever_the_list_shows() -> None:
    """By one of the readings of that day, however far they are apart; all by one that comes a day after the last."""
    hours = [0, 1.5, 2, 7, 13, 20.25, 24]
    moments = [CHANGED + timedelta(hours=one) for one in hours]
    record = in_step()
    turns = []
    for number in range(500):
        shown = Listed(uuid.UUID(int=number * 7919).hex, CHANGED, lambda fields: True)
        settled = [Settled(SETTLED.until, *both) for both in pairwise(moments)]
        turns.append([one.needs_no_call(record, shown) for one in settled].index(False))
        assert [one.needs_no_call(record, shown) for one in settled].count(False) == 1
        assert not Settled(SETTLED.until, moments[0], moments[-1]).needs_no_call(record, shown)
    # They are spread over the day.
    assert 0.1 < turns.count(5) / len(turns) < 0.25
