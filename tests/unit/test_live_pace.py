"""At most ten frames a second, without holding up what comes slowly enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webapp.live.pace import FRAMES_A_SECOND, Pace


def frames(changes: list[float]) -> list[float]:
    """When frames leave for changes at these times: what comes up while one waits goes with it."""
    pace, left = Pace(), []
    waiting: list[float] = []
    for at in [*sorted(changes), float("inf")]:
        while waiting and (due := max(waiting[0], pace.earliest())) <= at:
            pace.left(due, late=due > waiting[0] and len(waiting) == 1)
            left.append(due)
            waiting = []
        waiting.append(at)
    return left


def most_within(seconds: float, times: list[float]) -> int:
    return max(sum(1 for other in times if start <= other < start + seconds) for start in times)


def test_an_isolated_change_leaves_at_once() -> None:
    assert frames([5.0]) == [5.0]
    assert frames([5.0, 7.0]) == [5.0, 7.0]


def test_a_storm_is_ten_frames_a_second() -> None:
    left = frames([number / 1000 for number in range(5000)])
    # A hair less than a second, because tenths are not exact in binary; one more at the beginning.
    assert most_within(0.9999, left) == FRAMES_A_SECOND + 1
    assert most_within(0.9999, left[2:]) == FRAMES_A_SECOND
    assert left[0] == 0.0
    assert left[-1] >= 4.9


def test_ten_uneven_changes_a_second_do_not_wait() -> None:
    # Early and late by turns, up to 20 ms.
    changes = [
        number / 10 + (0.02 if number % 3 == 0 else -0.02 if number % 3 == 1 else 0.0) for number in range(1, 60)
    ]
    assert frames(changes) == changes


def test_what_began_late_does_not_stay_late() -> None:
    # For half a second nothing comes, then everything at once, and then it goes on as before.
    changes = [max(number / 10, 0.5) for number in range(60)]
    left = frames(changes)
    assert left[-20:] == changes[-20:]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=400))
def test_no_second_has_much_more_than_ten_frames_and_nothing_waits_longer_than_two(changes: list[float]) -> None:
    left = frames(changes)
    assert most_within(1.0, left) <= FRAMES_A_SECOND + 2
    for at in changes:
        assert any(at <= frame <= at + 2 / FRAMES_A_SECOND + 1e-9 for frame in left)
