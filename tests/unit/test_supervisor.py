"""When a program that ended is started again."""

from __future__ import annotations

import pytest

from webapp.run.supervisor import pause_before_restart


@pytest.mark.parametrize("failures", [0, 1, 5, 50])
def test_what_did_its_work_comes_back_at_once(failures: int) -> None:
    assert pause_before_restart(lived=10.0, failures=failures) == 0.0


def test_what_keeps_ending_waits_longer_each_time_and_never_more_than_half_a_minute() -> None:
    pauses = [pause_before_restart(lived=0.1, failures=failures) for failures in range(40)]
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert max(pauses) == 30.0
