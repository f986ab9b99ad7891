"""What becomes of a change that is committed while the answer to a `watch` is being made."""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from flask_socketio import SocketIO

from webapp.config import Settings
from webapp.db import Database
from webapp.live import gateway as gateway_module
from webapp.live.gateway import Gateway
from webapp.pulse import Pulse
from webapp.queue import Jobs
from webapp.services import Services

KEY = "module:companies"


class Sink:
    """A socket that notes what is written to it."""

    is_free = True

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def test_a_change_that_is_too_late_for_the_answer_comes_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Settings(DATABASE_URL="postgresql+psycopg://nowhere/none", REDIS_URL="unix:///nowhere/redis.sock")
    database = Database(nowhere.database_url)
    live = Gateway(SocketIO(), Services(nowhere, database, cast(Any, None), cast(Jobs, None)), Pulse(nowhere.redis_url))
    sink, known_in_redis = Sink(), list[str]()

    def read_versions(_: object, things: dict[str, int]) -> dict[str, int]:
        # Whoever commits from here on asks Redis who watches, and this process what of it is watched here.
        assert known_in_redis == [KEY]
        live._offer([{"key": KEY, "version": 2}])
        return dict.fromkeys(things, 1)

    monkeypatch.setattr(gateway_module, "_sid", lambda: "sid")
    monkeypatch.setattr(gateway_module, "user_of_socket", lambda: "somebody")
    monkeypatch.setattr(gateway_module, "read_versions", read_versions)
    monkeypatch.setattr(
        gateway_module, "read_states", lambda _, keys: {key: {"key": key, "version": 1} for key in keys}
    )
    monkeypatch.setattr(live._interest, "enter", known_in_redis.extend)
    live._readers.add("sid", 1, ZoneInfo("UTC"), "en", sink)
    answer = live._watch({"v": 1, "things": {KEY: 0}})
    assert answer == {"v": 1, "things": [{"key": KEY, "version": 1}], "still": True}
    (frame,) = sink.written
    assert b'"version":2' in frame
