"""A browser without a page: a Socket.IO client that speaks the live protocol and remembers what it got."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition
from typing import Any, Self

import socketio

State = dict[str, Any]

LONG_ENOUGH = 30  # seconds; nothing here asks again by itself, so that what comes was sent


class LiveClient:
    """One socket. `frames` are the `changes` that came, each with its time; `states` the newest state of each key;
    `answers` what came to a `watch` that nobody waited for.

    A context manager that disconnects at the end. Connects again by itself as browsers do, and watches anew then.
    """

    transport = "websocket"

    def __init__(self, url: str, cookie: str | None, zone: str = "UTC", origin: str | None = None) -> None:
        self.frames: list[tuple[float, list[State]]] = []
        self.states: dict[str, State] = {}
        self.connected = 0
        self.ended: list[str] = []
        self.answers: list[tuple[Any, ...]] = []
        self._url = url
        self._headers = {} if cookie is None else {"Cookie": cookie}
        self._auth = {"tz": zone}
        self._things: dict[str, int] = {}
        self._changed = Condition()
        self._socket = socketio.Client(
            reconnection_delay=0.1, reconnection_delay_max=0.5, websocket_extra_options={"origin": origin or url}
        )
        self._socket.on("connect", self._on_connect)
        self._socket.on("disconnect", self._on_disconnect)
        self._socket.on("changes", self._on_changes)

    def connect(self) -> Self:
        """Raises socketio.exceptions.ConnectionError where it is refused."""
        self._socket.connect(self._url, headers=self._headers, auth=self._auth, transports=[self.transport])
        return self

    def watch(self, things: dict[str, int]) -> dict[str, Any]:
        """Watch these keys, of which the page shows these versions. Returns the answer."""
        self._things = dict(things)
        return self.send({"v": 1, "things": things})

    def send(self, message: object) -> dict[str, Any]:
        """Send any `watch`. Returns the answer; raises socketio.exceptions.TimeoutError where none comes."""
        answer: dict[str, Any] = self._socket.call("watch", message, timeout=LONG_ENOUGH)
        with self._changed:
            self._take(answer.get("things", []))
        return answer

    def watch_without_waiting(self, things: dict[str, int]) -> None:
        """Watch these keys; the answer goes into `answers`."""
        self._things = dict(things)
        self._socket.emit("watch", {"v": 1, "things": things}, callback=self._on_answer)

    def wait_for(self, met: Callable[[], bool], seconds: float = LONG_ENOUGH) -> None:
        """Wait until something that came makes `met` true."""
        with self._changed:
            assert self._changed.wait_for(met, seconds), f"not within {seconds} s; so far {self.states}"

    def wait_for_version(self, key: str, version: int, seconds: float = LONG_ENOUGH) -> State:
        """Wait until the state of a key has at least this version. Returns it."""
        self.wait_for(lambda: self.version(key) >= version, seconds)
        return self.states[key]

    def wait_until_ended(self, seconds: float = LONG_ENOUGH) -> None:
        """Wait until the socket was closed."""
        self.wait_for(lambda: bool(self.ended), seconds)

    def version(self, key: str) -> int:
        """The newest version that came; -1 where none did."""
        return int(self.states.get(key, {"version": -1})["version"])

    def leave(self) -> None:
        """Disconnect, and do not connect again."""
        self._socket.shutdown()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _on_connect(self) -> None:
        with self._changed:
            self.connected += 1
            self._changed.notify_all()
        if self._things:
            self.watch_without_waiting(self._things)

    def _on_answer(self, *answer: dict[str, Any]) -> None:
        with self._changed:
            self.answers.append(answer)
            for message in answer:
                self._take(message.get("things", []))
            self._changed.notify_all()

    def _on_disconnect(self, reason: str) -> None:
        with self._changed:
            self.ended.append(reason)
            self._changed.notify_all()

    def _on_changes(self, message: dict[str, Any]) -> None:
        with self._changed:
            self.frames.append((time.monotonic(), message["things"]))
            self._take(message["things"])
            self._changed.notify_all()

    def _take(self, states: list[State]) -> None:
        for state in states:
            if state["version"] > self.version(state["key"]):
                self.states[state["key"]] = state
