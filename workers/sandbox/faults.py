"""What goes wrong on demand, and which requests it strikes. Nothing here does I/O.

A fault strikes requests of Sage's own paths only; the page for people and /_sandbox are never struck. Without a `match`
it strikes what it is about: a fault that refuses or loses a write strikes writes under /v3.1, one about answers strikes
answers under /v3.1, one about the network strikes everything, tokens included.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

WRITES = frozenset({"POST", "PUT", "DELETE"})
READS = frozenset({"GET"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: its words for people, where it strikes by default, and its options with their defaults."""

    name: str
    group: str
    title: str
    explanation: str
    methods: frozenset[str] | None = None
    api_only: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


_ALL = (
    Kind("offline", "Connection", "Offline", "Every connection is dropped without an answer.", api_only=False),
    Kind("latency", "Connection", "Slow", "Every answer takes longer.", api_only=False, options={"seconds": 2.0}),
    Kind(
        "unavailable",
        "Connection",
        "Down for maintenance",
        "Every request is answered 503.",
        api_only=False,
        options={"retry_after": None},
    ),
    Kind(
        "rate_limited",
        "Connection",
        "Too many requests",
        "Every request is answered 429, with the time to wait.",
        options={"retry_after": "seconds", "seconds": 5},
    ),
    Kind(
        "slow_drip",
        "Connection",
        "Dripping answers",
        "Answers arrive in small pieces.",
        api_only=False,
        options={"seconds": 5.0},
    ),
    Kind("reset", "Connection", "Broken answers", "The connection breaks in the middle of an answer.", api_only=False),
    Kind(
        "reject",
        "Saving",
        "Refuse changes",
        "A write is refused with a message and nothing is saved.",
        methods=WRITES,
        options={"status": 422, "code": "RecordInvalid", "message": "This record cannot be saved.", "source": ""},
    ),
    Kind("error_before", "Saving", "Error, not saved", "A write is answered 500 and nothing is saved.", methods=WRITES),
    Kind(
        "error_after", "Saving", "Error, yet saved", "A write is saved and answered 500 all the same.", methods=WRITES
    ),
    Kind(
        "no_answer_after",
        "Saving",
        "Saved, no answer",
        "A write is saved and the connection drops before the answer.",
        methods=WRITES,
    ),
    Kind("truncated", "Answers", "Cut-off answers", "The JSON of an answer ends half-way."),
    Kind("html", "Answers", "HTML instead of JSON", "A web page stands in for the answer and nothing is saved."),
    Kind(
        "stale_read",
        "Answers",
        "Stale reads",
        "For some seconds after a write, reads show the state before it.",
        methods=READS,
        options={"seconds": 5.0},
    ),
    Kind(
        "shifting_pages",
        "Answers",
        "Shifting pages",
        "From the second page on, a list skips records, or repeats them with a negative number.",
        methods=READS,
        options={"by": 1},
    ),
    Kind(
        "clock_skew",
        "Answers",
        "Wrong clock",
        "Sage's clock is ahead, or behind with a negative number.",
        options={"seconds": 90},
    ),
    Kind("tokens_revoked", "Access", "Access withdrawn", "Every token dies at once: Sage must be authorised again."),
)
KINDS: Mapping[str, Kind] = MappingProxyType({one.name: one for one in _ALL})
_RETRY_AFTER = {"seconds", "date", "absent"}


class FaultError(Exception):
    """A fault that cannot be switched on. The text says what is allowed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is switched on. `times` counts down with each strike; None is until it is switched off."""

    id: str
    kind: str
    method: str | None
    path: str | None
    body_contains: str | None
    times: int | None
    options: Mapping[str, Any]

    def strikes(self, method: str, path: str, body: bytes) -> bool:
        """Whether it strikes this request. `path` is the whole path without the query."""
        kind = KINDS[self.kind]
        if self.method is not None:
            if method != self.method:
                return False
        elif kind.methods is not None and method not in kind.methods:
            return False
        if self.path is not None:
            if not (path.startswith(self.path) or fnmatchcase(path, self.path)):
                return False
        elif kind.api_only and not path.startswith("/v3.1/"):
            return False
        return self.body_contains is None or self.body_contains.encode() in body

    def as_json(self) -> dict[str, Any]:
        """The fault in the form in which it is asked for, with its id."""
        match = {"method": self.method, "path": self.path, "body_contains": self.body_contains}
        return {
            "id": self.id,
            "kind": self.kind,
            "match": {name: value for name, value in match.items() if value is not None},
            "times": self.times,
            **self.options,
        }


def parse(asked: Mapping[str, Any]) -> Fault:
    """The fault that a request body asks for. Raises FaultError, saying what is allowed."""
    kind = KINDS.get(asked.get("kind", ""))
    if kind is None:
        raise FaultError(f"kind must be one of: {', '.join(KINDS)}.")
    match = asked.get("match") or {}
    if not isinstance(match, Mapping) or match.keys() - {"method", "path", "body_contains"}:
        raise FaultError("match may hold method, path and body_contains.")
    if not all(isinstance(value, str) for value in match.values()):
        raise FaultError("method, path and body_contains must be text.")
    times = asked.get("times")
    if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
        raise FaultError("times must be a whole number of at least 1, or null for until it is switched off.")
    unknown = asked.keys() - {"id", "kind", "match", "times", *kind.options}
    if unknown:
        raise FaultError(f"{', '.join(sorted(unknown))}: {kind.name} takes {', '.join(kind.options) or 'no options'}.")
    options = {name: asked.get(name, default) for name, default in kind.options.items()}
    for name in ("seconds", "by", "status"):
        if name in options and (not isinstance(options[name], int | float) or isinstance(options[name], bool)):
            raise FaultError(f"{name} must be a number.")
    if kind.name == "rate_limited" and options["retry_after"] not in _RETRY_AFTER:
        raise FaultError(f"retry_after must be one of: {', '.join(sorted(_RETRY_AFTER))}.")
    method = match.get("method")
    return Fault(
        str(asked.get("id") or uuid.uuid4().hex[:8]),
        kind.name,
        method.upper() if method else None,
        match.get("path"),
        match.get("body_contains"),
        times,
        options,
    )


def struck(faults: Iterable[Fault], fault: Fault) -> list[Fault]:
    """The faults after one strike of `fault`: counted down, or gone when that was its last."""
    left: list[Fault] = []
    for one in faults:
        if one.id != fault.id or one.times is None:
            left.append(one)
        elif one.times > 1:
            left.append(replace(one, times=one.times - 1))
    return left
