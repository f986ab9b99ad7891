"""When a frame may leave for one socket: an isolated change at once, a storm of changes as ten frames a second."""

from __future__ import annotations

FRAMES_A_SECOND = 10
_SPACING = 1 / FRAMES_A_SECOND


class Pace:
    """The pace of one socket. Times are seconds of one clock that never goes back.

    The generic cell rate algorithm (ITU-T I.371) with room for one frame that is early: ten changes a second that come
    unevenly do not wait for each other, and what began late does not stay late. So after a quiet time one frame more
    than ten may leave in a second, and never more than that.
    """

    __slots__ = ("_planned",)

    def __init__(self) -> None:
        self._planned = float("-inf")

    def earliest(self) -> float:
        """When the next frame may leave; a time that is past means at once."""
        return self._planned - _SPACING

    def left(self, now: float) -> None:
        """Note that a frame leaves `now`."""
        self._planned = max(self._planned, now) + _SPACING
