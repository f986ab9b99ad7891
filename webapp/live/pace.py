"""When a frame may leave for one socket: what comes one by one at once, a storm of changes as ten frames a second."""

from __future__ import annotations

FRAMES_A_SECOND = 10
_SPACING = 1 / FRAMES_A_SECOND
# What a frame takes up that had to wait and gathered nothing meanwhile: it was no storm. Changes that come ten times a
# second would otherwise stay late for ever once one of them was late.
_SPACING_OF_LATE = 0.9 * _SPACING


class Pace:
    """The pace of one socket. Times are seconds of one clock that never goes back.

    The generic cell rate algorithm (ITU-T I.371) with room for one frame that is early, so that what comes unevenly
    does not wait for each other. After a quiet time, a second may therefore have one frame more.
    """

    __slots__ = ("_planned",)

    def __init__(self) -> None:
        self._planned = float("-inf")

    def earliest(self) -> float:
        """When the next frame may leave; a time that is past means at once."""
        return self._planned - _SPACING

    def left(self, now: float, *, late: bool = False) -> None:
        """Note that a frame leaves `now`; `late`, that it had to wait and gathered nothing meanwhile."""
        self._planned = max(self._planned, now) + (_SPACING_OF_LATE if late else _SPACING)
