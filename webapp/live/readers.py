"""Who watches what in this web process, and which frame is to leave when. In memory only, no I/O.

Times are seconds of one clock that never goes back, given by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from itertools import count
from typing import Protocol

from webapp.languages import ENGLISH
from webapp.live.pace import Pace
from webapp.live.states import State

# When a socket is looked at again that has not taken its last frame yet, in seconds.
_AGAIN = 0.1


class Sink(Protocol):
    """Where the frames of a socket go."""

    @property
    def is_free(self) -> bool:
        """Whether it has taken everything so far."""

    def write(self, data: bytes) -> None:
        """Take a frame."""


@dataclass(slots=True, eq=False)
class Reader:
    """One open socket. `versions` are what it shows or was sent; `pending` is what the next frame brings. It came up at
    `since`; `late` says that it has to wait and is still all from that time."""

    sid: str
    user_id: int
    zone: tzinfo
    language: str
    sink: Sink
    versions: dict[str, int] = field(default_factory=dict)
    pending: dict[str, State] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    since: float = 0.0
    late: bool = False


@dataclass(frozen=True)
class Frame:
    """What is sent now: the same states to each of these sockets, whose people read in the same zone and language."""

    sinks: list[Sink]
    states: list[State]
    zone: tzinfo
    language: str


class Readers:
    """All open sockets of this process."""

    def __init__(self) -> None:
        self._by_sid: dict[str, Reader] = {}
        self._by_key: dict[str, set[Reader]] = {}
        # Who has something pending: those whose frame may leave now, and the others by the time at which theirs may. A
        # number keeps equal times apart.
        self._ready: list[Reader] = []
        self._due: list[tuple[float, int, Reader]] = []
        self._number = count()

    def add(self, sid: str, user_id: int, zone: tzinfo, language: str, sink: Sink) -> None:
        """A socket was opened; it watches nothing yet. `language` is a code of webapp.languages."""
        self._by_sid[sid] = Reader(sid, user_id, zone, language, sink)

    def zone(self, sid: str) -> tzinfo:
        """The zone in which a socket's person reads; UTC for a socket that was closed meanwhile."""
        reader = self._by_sid.get(sid)
        return UTC if reader is None else reader.zone

    def language(self, sid: str) -> str:
        """The language of a socket's person; English for a socket that was closed meanwhile."""
        reader = self._by_sid.get(sid)
        return ENGLISH if reader is None else reader.language

    def remove(self, sid: str) -> None:
        """A socket was closed. One that is not known, because it was refused, is left out."""
        reader = self._by_sid.pop(sid, None)
        if reader is not None:
            self._unwatch(reader, reader.versions)
            reader.pending.clear()

    def watch(self, sid: str, things: Mapping[str, int]) -> None:
        """From now on a socket watches these keys, of which it shows these versions, and no others."""
        reader = self._by_sid.get(sid)
        if reader is None:  # It was closed while its rights were read.
            return
        self._unwatch(reader, [key for key in reader.versions if key not in things])
        for key in things:
            self._by_key.setdefault(key, set()).add(reader)
        reader.versions = dict(things)
        reader.pending = {
            key: state for key, state in reader.pending.items() if key in things and state["version"] > things[key]
        }
        self.told(sid, {key: state["version"] for key, state in reader.pending.items()})

    def told(self, sid: str, versions: Mapping[str, int]) -> None:
        """A socket is sent these versions in the answer to its `watch`."""
        reader = self._by_sid.get(sid)
        if reader is None:
            return
        for key, version in versions.items():
            if key in reader.versions:
                reader.versions[key] = max(version, reader.versions[key])

    def keys(self) -> list[str]:
        """Everything that is watched in this process."""
        return list(self._by_key)

    def oldest(self, key: str) -> int:
        """The oldest version of a thing that one of its watchers shows; -1 where nobody watches it."""
        return min((reader.versions[key] for reader in self._by_key.get(key, ())), default=-1)

    def sids_of(self, user_id: int) -> list[str]:
        """All open sockets of a person."""
        return [reader.sid for reader in self._by_sid.values() if reader.user_id == user_id]

    def offer(self, states: Iterable[State], now: float) -> None:
        """Have each state sent to those who watch it and show an older version."""
        for state in states:
            key, version = state["key"], state["version"]
            for reader in self._by_key.get(key, ()):
                if reader.versions[key] < version:
                    reader.versions[key] = version
                    if not reader.pending:
                        due = reader.pace.earliest()
                        reader.since, reader.late = now, due > now
                        if due <= now:
                            self._ready.append(reader)
                        else:
                            heapq.heappush(self._due, (due, next(self._number), reader))
                    elif reader.since != now:
                        reader.late = False
                    reader.pending[key] = state

    def next_due(self) -> float | None:
        """When the next frame may leave of those that may not leave yet; None where nothing waits."""
        return self._due[0][0] if self._due else None

    def take(self, now: float) -> list[Frame]:
        """The frames that leave now. What is equal for several sockets is one frame, so that it is encoded once.

        A socket that has not taken its last frame yet waits; what waits for it is the newest state of each key, so that
        a slow reader never has more on its way than it can take.
        """
        while self._due and self._due[0][0] <= now:
            self._ready.append(heapq.heappop(self._due)[2])
        frames: dict[tuple[object, ...], Frame] = {}
        for reader in self._ready:
            if not reader.pending:  # Closed, or told by the answer to a `watch`.
                continue
            if not reader.sink.is_free:
                heapq.heappush(self._due, (now + _AGAIN, next(self._number), reader))
                continue
            states = reader.pending.values()
            same = (reader.zone, reader.language, *map(id, states))
            frame = frames.get(same)
            if frame is None:
                frame = frames[same] = Frame([], list(states), reader.zone, reader.language)
            frame.sinks.append(reader.sink)
            reader.pending.clear()
            reader.pace.left(now, late=reader.late)
        self._ready.clear()
        return list(frames.values())

    def _unwatch(self, reader: Reader, keys: Iterable[str]) -> None:
        for key in keys:
            watchers = self._by_key[key]
            watchers.discard(reader)
            if not watchers:
                del self._by_key[key]
