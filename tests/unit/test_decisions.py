"""What the engine decides, without any database or Sage: merge, decide, match, outcome."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.connection.directions import FIELDS
from webapp.status import STATUS_OF, Reason, Status
from workers.engine.decide import Action, Remote, RemoteState, decide
from workers.engine.match import match, plain
from workers.engine.merge import merge
from workers.engine.outcome import JITTER, RETRY_SECONDS, verdict
from workers.sage.connector import (
    CUSTOMER_FIELDS,
    PERSON_FIELDS,
    PRODUCT_FIELDS,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Transient,
)

NOW = datetime(2026, 11, 22, 10, 45, tzinfo=UTC)
VALUES = st.sampled_from(["", "a", "b"])
STATES = st.fixed_dictionaries({"name": VALUES, "city": VALUES})


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged", "conflict"),
    [
        ("a", "a", "a", "a", False),
        ("a", "b", "a", "b", False),
        ("a", "a", "b", "b", False),
        ("a", "b", "b", "b", False),
        ("a", "b", "c", "b", True),
        ("a", "", "a", "", False),
        ("a", "a", "", "", False),
        ("a", "", "b", "", True),
        (None, "a", "a", "a", False),
        (None, "a", "", "a", False),
        (None, "", "b", "b", False),
        (None, "a", "b", "a", True),
    ],
)
def test_merge_of_one_field(base: str | None, ours: str, theirs: str, merged: str, conflict: bool) -> None:
    result = merge(None if base is None else {"name": base}, {"name": ours}, {"name": theirs})
    assert result.fields == {"name": merged}
    assert bool(result.conflicts) is conflict


@given(st.none() | STATES, STATES, STATES)
def test_merge_keeps_every_change_or_says_that_it_cannot(
    agreed: dict[str, str] | None, ours: dict[str, str], theirs: dict[str, str]
) -> None:
    merged = merge(agreed, ours, theirs)
    conflicts = {conflict.field for conflict in merged.conflicts}
    for name in ours:
        base = agreed[name] if agreed else ""
        if ours[name] != theirs[name] and name not in conflicts:
            changed = [side for side in (ours[name], theirs[name]) if side != base]
            assert [merged.fields[name]] == changed
        assert (name in merged.to_sage) == (merged.fields[name] != theirs[name] and name not in conflicts)
        assert (name in merged.from_sage) == (merged.fields[name] != ours[name])


@given(st.none() | STATES, STATES, STATES)
def test_merge_is_fair(agreed: dict[str, str] | None, ours: dict[str, str], theirs: dict[str, str]) -> None:
    one, other = merge(agreed, ours, theirs), merge(agreed, theirs, ours)
    assert {c.field for c in one.conflicts} == {c.field for c in other.conflicts}
    assert set(one.to_sage) == set(other.from_sage)
    assert set(one.from_sage) == set(other.to_sage)


@given(st.none() | STATES, STATES, STATES)
def test_after_a_merge_both_sides_are_equal(
    agreed: dict[str, str] | None, ours: dict[str, str], theirs: dict[str, str]
) -> None:
    merged = merge(agreed, ours, theirs)
    if not merged.conflicts:
        again = decide(merged.fields, RemoteState(merged.fields, NOW), merged.fields)
        assert again.action is Action.NOTHING


@given(STATES, st.none() | STATES, st.sampled_from(list(Remote)) | STATES, st.none() | st.integers(-2, 2))
def test_decide_is_total_and_never_makes_a_second_customer(
    local: dict[str, str], agreed: dict[str, str] | None, remote: Remote | dict[str, str], known: int | None
) -> None:
    side = remote if isinstance(remote, Remote) else RemoteState(remote, NOW)
    plan = decide(local, side, agreed, None if known is None else NOW + timedelta(seconds=known))
    assert (plan.action is Action.CREATE) == (remote is Remote.NEVER)
    assert (plan.action is Action.ASK_DELETED) == (remote is Remote.DELETED)
    if isinstance(remote, dict):
        assert (plan.action is Action.READ_AGAIN) == (known is not None and known > 0)
    if plan.action is Action.NOTHING:
        assert local == remote
    if plan.action is Action.TAKE:
        assert plan.fields == remote
        assert plan.take


def test_a_full_table_of_one_field() -> None:
    actions = {
        (base, ours, theirs): decide(
            {"name": ours}, RemoteState({"name": theirs}, NOW), None if base is None else {"name": base}
        ).action.value
        for base in (None, "a")
        for ours in ("a", "b")
        for theirs in ("a", "b", "c")
    }
    assert actions == {
        (None, "a", "a"): "nothing",
        (None, "a", "b"): "ask_conflict",
        (None, "a", "c"): "ask_conflict",
        (None, "b", "a"): "ask_conflict",
        (None, "b", "b"): "nothing",
        (None, "b", "c"): "ask_conflict",
        ("a", "a", "a"): "nothing",
        ("a", "a", "b"): "take",
        ("a", "a", "c"): "take",
        ("a", "b", "a"): "send",
        ("a", "b", "b"): "nothing",
        ("a", "b", "c"): "ask_conflict",
    }


def _customer(**fields: str) -> dict[str, str]:
    return {name: fields.get(name, "") for name in CUSTOMER_FIELDS}


@pytest.mark.parametrize(
    ("theirs", "ours", "ids"),
    [
        ({"code": "ALFKI", "name": "x"}, [{"code": "alfki", "name": "y"}], (0,)),
        ({"tax_number": "GB 123-456"}, [{"tax_number": "gb123456"}], (0,)),
        ({"email": "A@x.example"}, [{"email": "a@X.example"}], (0,)),
        ({"name": "Café  Olé", "postal_code": "12 3"}, [{"name": "CAFE OLE", "postal_code": "123"}], (0,)),
        ({"name": "Twin", "postal_code": "1"}, [{"name": "Twin", "postal_code": "1"}] * 2, (0, 1)),
        ({"name": "Same name"}, [{"name": "Same name"}], ()),
        # A better key decides before a weaker one is looked at.
        ({"code": "A", "email": "e@x"}, [{"code": "A"}, {"email": "e@x"}], (0,)),
        # Numbers are given by people who mean them.
        ({"code": "A", "email": "e@x"}, [{"code": "B", "email": "e@x"}], ()),
        ({}, [{}], ()),
    ],
)
def test_match(theirs: dict[str, str], ours: list[dict[str, str]], ids: tuple[int, ...]) -> None:
    found = match(_customer(**theirs), [(n, _customer(**one)) for n, one in enumerate(ours)])
    assert found.ids == ids
    assert found.sure == (ids[0] if len(ids) == 1 else None)


@given(st.text())
def test_plain_is_stable(text: str) -> None:
    assert plain(plain(text)) == plain(text)


@given(st.integers(0, len(RETRY_SECONDS) - 1), st.floats(0, 1))
def test_a_passing_fault_says_when_it_is_tried_again(attempts: int, chance: float) -> None:
    found = verdict(Transient("503"), attempts, NOW, chance)
    assert STATUS_OF[found.reason] is Status.PENDING
    assert found.due is not None
    wait = (found.due - NOW).total_seconds()
    assert RETRY_SECONDS[attempts] - 1 <= wait <= RETRY_SECONDS[attempts] * (1 + JITTER) + 1
    assert found.detail["at"] == found.due.isoformat()
    assert found.attempts == attempts + 1


def test_when_the_tries_are_used_up_a_person_looks() -> None:
    tries = len(RETRY_SECONDS)
    found = verdict(Transient("503"), tries, NOW, 0)
    assert (found.reason, found.detail) == (Reason.GAVE_UP, {"code": "gave_up", "attempts": tries + 1})
    assert verdict(OutcomeUnknown("no answer"), tries, NOW, 0).reason is Reason.OUTCOME_UNKNOWN


def test_what_a_person_must_mend_is_not_tried_again() -> None:
    found = verdict(Rejected({"code": "missing", "field": "country"}, {"status": "422"}), 0, NOW, 0)
    assert (found.reason, found.due) == (Reason.REJECTED, None)
    assert found.detail == {"code": "missing", "field": "country", "raw": {"status": "422"}}
    assert verdict(NotFound("gone"), 0, NOW, 0).reason is Reason.DELETED_IN_SAGE


def test_sage_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() -> None:
    longer, shorter = verdict(Transient("", after=500), 0, NOW, 0), verdict(Transient("", after=1), 0, NOW, 0)
    assert longer.due == NOW + timedelta(seconds=500)
    assert shorter.due == NOW + timedelta(seconds=RETRY_SECONDS[0])


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "direction", "merged", "overruled"),
    [
        ("a", "b", "c", "to_sage", "b", True),
        ("a", "b", "c", "from_sage", "c", True),
        ("a", "a", "c", "to_sage", "a", True),
        ("a", "b", "a", "from_sage", "a", True),
        ("a", "b", "a", "to_sage", "b", False),
        ("a", "a", "c", "from_sage", "c", False),
        ("a", "", "c", "to_sage", "", True),
        ("a", "b", "b", "to_sage", "b", False),
        (None, "a", "b", "to_sage", "a", True),
        (None, "a", "b", "from_sage", "b", True),
        # What nobody ever set gives way, whoever has the word.
        (None, "", "b", "to_sage", "b", False),
        (None, "a", "", "from_sage", "a", False),
    ],
)
def test_the_side_that_has_the_word_wins(
    base: str | None, ours: str, theirs: str, direction: str, merged: str, overruled: bool
) -> None:
    agreed = None if base is None else {"name": base}
    result = merge(agreed, {"name": ours}, {"name": theirs}, {"name": direction})
    assert result.fields == {"name": merged}
    assert result.conflicts == ()
    assert bool(result.overruled) is overruled
    assert (result.to_sage == ("name",)) is (merged != theirs)
    assert (result.from_sage == ("name",)) is (merged != ours)


def test_the_fields_of_an_admin_are_those_of_the_connector() -> None:
    assert FIELDS == {"company": CUSTOMER_FIELDS, "contact": PERSON_FIELDS, "product": PRODUCT_FIELDS}
