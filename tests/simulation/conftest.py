"""Tells in the end what the stories had in them: faults by kind, and how often each promise was looked at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tests.simulation.story import Told
from workers.engine import pull


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull of few records takes several transactions, between which things happen."""
    monkeypatch.setattr(pull, "PAGE", 3)
    monkeypatch.setattr(pull, "WHOLE_PAGE", 3)


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """A story has many errors, and to write one out with all its variables takes longer than a step."""
    with capture_logs():
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sum up the stories of all processes."""
    stories, told = 0, Told()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "stories":
                    stories += value
                elif name == "told":
                    told.add(Told.of(value))
    if not stories:
        return
    terminalreporter.section(f"{stories:,} stories")
    for title, counter in (("went wrong", told.faults), ("was looked at", told.checks)):
        terminalreporter.line(f"{title}: {', '.join(f'{count:,} x {name}' for name, count in counter.most_common())}")
    moves = sorted(told.moves.items())
    terminalreporter.line(f"changed: {', '.join(f'{count:,} x {name}' for name, count in moves)}")
    terminalreporter.line(f"passed: {len(told.points)} points of the engine, {told.points.total():,} times")
