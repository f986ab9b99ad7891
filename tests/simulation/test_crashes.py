"""A crash at each point of the engine, once alone: one journey through all that it does, and a process that dies there.

The points are those of tests.simulation.story: the beginning and the end of each commit, and of each call to Sage.
Pairs of them that chance picks follow: the process that makes good what the first crash left behind dies too.
`PAIRS=n START=s` in the environment tells other pairs.
"""

from __future__ import annotations

import ast
import os
import random
import re
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.simulation.story import COLLECTIONS, Story, calls_of, empty
from webapp import ROOT
from webapp.services import Services
from workers.sage.connector import Transient

ENGINE = ROOT / "workers" / "engine"
COMMITS = sorted(
    f"{module}.{function.name}"
    for module in ("claim", "due", "pull", "push")
    for function in ast.walk(ast.parse((ENGINE / f"{module}.py").read_text(encoding="utf-8")))
    if isinstance(function, ast.FunctionDef)
    # A pull that is put off because no worker is free has not begun anything.
    and function.name != "_postpone"
    and re.search(r"work\.commit\(\)|\.commit_one\(|note_state\(work", ast.unparse(function))
)
# A product goes the way of a company, so that of products none is on the journey, and they are only looked for.
CALLS = [
    *calls_of(COLLECTIONS, "create", "update", "read", "changed", "deleted", "find"),
    *calls_of(["products"], "changed", "deleted"),
    "check",
]
POINTS = [f"{point} {end}" for point in ("a person", *COMMITS, *CALLS) for end in ("before", "after")]
DAYS = {"ordered_on": "2026-11-02", "valid_until": "2026-12-02", "shipping": "0.00"}
# So many journeys are made by one test: to begin and to end a test takes longer than a journey.
BATCH = 10
START, PAIRS = int(os.environ.get("START", "1")), int(os.environ.get("PAIRS", "20"))


class Over(Exception):
    """The process has died where it was to: what follows is what others make of it."""


def journey(story: Story, *later: str) -> None:
    """A company, its contact and its order meet everything that the engine has a way for.

    Each time that something broke, others come when the lease has run out, and die at the next of the points `later`.
    Raises Over where something broke and none of them is left.
    """
    to_come = list(later)
    engine, sage = story.engine, story.engine.sage

    def then(*actions: Callable[[], object]) -> None:
        for action in actions:
            known = len(story.breaks.broke)
            story.survive(action)
            broke = len(story.breaks.broke) > known
            story.promises(complete=not broke)
            if broke and not to_come:
                raise Over
            if broke:
                story.time_passes()
                story.breaks.arm(to_come.pop(0))

    def first_of(kind: str) -> str:
        return next((one.sage_id for one in story.records.values() if one.kind == kind and one.sage_id), "")

    def in_sage(kind: str, **fields: str) -> Callable[[], object]:
        def edit() -> None:
            there = {"company": sage.customers, "contact": sage.persons, "order": sage.orders}[kind]
            if first_of(kind) in there.by_id:
                there.edit(first_of(kind), **fields)

        return edit

    def strangers() -> None:
        sage.customers.add(name="Stranger")
        if first_of("company") in sage.customers.by_id:
            sage.persons.add(first_of("company"), name="Strange Person")
            sage.orders.add(first_of("company"), **{**DAYS, "number": "", "lines": story.value("lines")})

    def number_of_another() -> None:
        """Numbers of orders are unique here, and references are not in Sage."""
        other = next(
            (one.sage_id for one in story.records.values() if one.kind == "company" and one.id > 1 and one.sage_id), ""
        )
        order = story.records.get("order:1")
        if other in sage.customers.by_id and order is not None:
            sage.orders.add(other, **{**DAYS, "number": order.shared("number"), "lines": story.value("lines")})

    def delete(kind: str) -> Callable[[], object]:
        def gone() -> None:
            there = {"company": sage.customers, "contact": sage.persons, "order": sage.orders}[kind]
            if first_of(kind) in there.by_id:
                there.delete(first_of(kind))

        return gone

    def a_week_passes() -> None:
        story.time_passes()
        engine.sql("UPDATE write_intent SET created_at = created_at - interval '8 days'")

    def everything_again() -> None:
        engine.sql("DELETE FROM sync_cursor WHERE entity LIKE '%whole'")

    # Created, then changed on either side, on both, and in the same field.
    then(story.begin, lambda: engine.add_contact(1), lambda: engine.add_order(1), story.push, story.pull)
    then(lambda: engine.edit_contact(1, role="Owner"), in_sage("order", shipping="3.00"), story.push, story.pull)
    then(lambda: engine.edit(1, phone="1"), story.push, in_sage("company", city="Leeds"), story.pull)
    then(lambda: engine.edit(1, phone="2"), in_sage("company", city="York"), story.push)
    then(lambda: engine.edit(1, phone="3"), in_sage("company", phone="4"), story.push, story.choose, story.push)
    then(strangers, story.pull, story.push)
    then(number_of_another, story.pull)
    # What is queued while its company becomes a prospect.
    then(lambda: engine.add_contact(1, name="Early"), lambda: engine.edit(1, type="prospect"), story.push)
    then(lambda: engine.edit(1, type="customer"), story.push)
    # Refused, tried again, and never answered.
    then(lambda: engine.add(name="No Country", code="", country=""), story.push, story.mend, story.push)
    sage.will_fail_next("customers.update", Transient("503", {"status": "503"}))
    then(lambda: engine.edit(1, phone="5"), story.push, story.time_passes, story.push)
    sage.will_lose_the_answer("customers.create", applied=True)
    then(lambda: engine.add(name="Unheard", code="UNHRD"), story.push, story.time_passes, story.push)
    for name in COLLECTIONS:
        sage.will_lose_the_answer(f"{name}.create", applied=True)
    then(lambda: engine.add(name="Forgotten", code="FRGTN"), lambda: engine.add_contact(1, name="F", email=""))
    then(lambda: engine.add_order(1), story.push, a_week_passes, story.push)
    # Away, and back.
    sage.go_away()
    then(lambda: engine.edit(1, phone="6"), story.push, story.pull)
    sage.come_back()
    then(story.time_passes, story.pull, story.push)
    # Deleted in Sage, with and without a tombstone, and restored.
    then(delete("contact"), delete("order"), story.pull, everything_again, story.pull, story.push)
    then(story.restore_or_unlink, story.push, story.restore_or_unlink, story.push)
    then(
        delete("company"),
        lambda: engine.add_contact(1, name="Late"),
        story.push,
        story.pull,
        story.push,
        story.restore_or_unlink,
        story.push,
    )


def tell(services: Services, *points: str) -> Story:
    """The journey with a crash at these points, one after the other. Raises AssertionError where a promise is broken."""
    empty(services.database)
    story = Story(services, 1)
    with story.told_in(services):
        story.add(type="customer", country="DE")
        if points:
            story.breaks.arm(points[0])
        try:
            with suppress(Over):
                journey(story, *points[1:])
            story.time_passes()
            story.become_quiet()
            story.all_is_well()
        except AssertionError as error:
            trace = "\n".join(story.trace)
            raise AssertionError(f"after a crash at {' and '.join(points)}:\n{trace}\n{error}") from error
    return story


def test_the_journey_passes_each_point(services: Services) -> None:
    """A function of the engine that commits, or a call of the connector, that is new has to be on the way."""
    reached = set(tell(services).breaks.reached)
    assert (reached - set(POINTS), set(POINTS) - reached) == (set(), set())


@pytest.mark.parametrize("first", range(0, len(POINTS), BATCH))
@pytest.mark.timeout(300)
def test_a_crash_at_each_point_breaks_no_promise(services: Services, first: int) -> None:
    for point in POINTS[first : first + BATCH]:
        story = tell(services, point)
        assert story.breaks.broke == [point]


@pytest.mark.parametrize("first", range(START, START + PAIRS, BATCH))
@pytest.mark.timeout(300)
def test_two_crashes_break_no_promise(services: Services, first: int) -> None:
    both = 0
    for seed in range(first, min(first + BATCH, START + PAIRS)):
        # What a person did not save, nobody goes on with.
        pair = random.Random(seed).choices([point for point in POINTS if not point.startswith("a person")], k=2)
        story = tell(services, *pair)
        # What comes once only may lie behind the journey when its turn comes.
        assert story.breaks.broke in (pair, pair[:1])
        both += story.breaks.broke == pair
    assert both > 0


def test_a_story_is_told_the_same_way_each_time(services: Services) -> None:
    for seed in range(5):
        traces = []
        for _ in range(2):
            empty(services.database)
            story = Story(services, seed)
            story.tell()
            ledger = [(one.operation, one.id, one.by, dict(one.fields)) for one in story.engine.sage.ledger]
            traces.append((story.trace, story.engine.sage.calls, ledger, sorted(story.owners)))
        assert traces[0] == traces[1]
