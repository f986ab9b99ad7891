"""When a frame may leave for one socket: an isolated change at once, a storm of changes as ten frames a second."""

from __future__ import annotations

FRAMES_A_SECOND = 10
_SPACING = 1 / FRAMES_A_SECOND
# A change that comes this soon after a frame is part of a storm, and waits for the next tenth of a second.
_SOON = _SPACING / 2


class Pace:
    """The pace of one socket. Times are seconds of one clock that never goes back.

    On average no more than ten frames a second leave, by the generic cell rate algorithm (ITU-T I.371). A frame may be
    one spacing early: ten changes a second that come unevenly then pass without waiting for each other. In a storm that
    would be an eleventh frame in the first second, so there a frame waits for the full spacing after the one before.
    """

    __slots__ = ("_last", "_planned")

    def __init__(self) -> None:
        self._last = float("-inf")
        self._planned = float("-inf")

    def earliest(self, now: float) -> float:
        """When a frame with something that came up `now` may leave; a time that is past means at once."""
        after_last = self._last + _SPACING if now - self._last < _SOON else now
        return max(after_last, self._planned - _SPACING)

    def left(self, now: float) -> None:
        """Note that a frame leaves `now`."""
        self._last = now
        self._planned = max(self._planned, now) + _SPACING
