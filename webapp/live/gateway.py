"""The Socket.IO side: rights, `watch`, and the frames of one web process.

Each web process listens to Redis itself. What it misses while Redis is away, it reads from the database afterwards for
all that is watched here; what is lost even so, a browser finds at its next `watch`, at most 30 s later.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import gevent
import structlog
from flask import Flask, request
from flask_socketio import ConnectionRefusedError, SocketIO
from gevent.event import Event
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.frame import chosen_language
from webapp.languages import speaking
from webapp.live import protocol
from webapp.live.interest import RENEW_SECONDS, Interest
from webapp.live.publish import CHANNEL
from webapp.live.readers import Readers
from webapp.live.states import State, read_states, read_versions
from webapp.live.stream import CONNECTION, Stream, encode, wrap_connections
from webapp.pulse import ASK_SECONDS, Pulse
from webapp.services import Services
from webapp.users.access import user_of_socket
from webapp.zone import named_zone

log = structlog.get_logger()

# What a client is told when its connection is refused.
SIGNED_OUT = "signed_out"
UNAVAILABLE = "unavailable"

_NAMESPACE = "/"

# After a failure Redis is asked again within this time; each process waits a random part of it.
_LONGEST_PAUSE_SECONDS = 2.0

# Keys that one query takes.
_BATCH = 500


def init_app(app: Flask) -> SocketIO:
    """Have `app` answer /socket.io for browsers on its own origin. Nothing is started before the first socket opens.

    `app.extensions["live"]` is the Gateway.
    """
    services: Services = app.extensions["synclight"]
    socketio = SocketIO(
        app,
        async_mode="gevent",
        # Without polling, any of several web processes can take a connection.
        transports=["websocket"],
        cors_allowed_origins=_origins(services.settings),
        # A `watch` of 500 keys has 20 kB.
        max_http_buffer_size=32_768,
        # Either side notices within 20 s that a connection is dead.
        ping_interval=10,
        ping_timeout=10,
        # The messages of one socket are served one after the other, so that the last `watch` is the one that holds.
        async_handlers=False,
    )
    app.wsgi_app = wrap_connections(app.wsgi_app)  # type: ignore[method-assign]
    app.extensions["live"] = Gateway(socketio, services, app.extensions["pulse"])
    return socketio


class Gateway:
    """The open sockets of this process, and what keeps them up to date."""

    def __init__(self, socketio: SocketIO, services: Services, pulse: Pulse) -> None:
        self._socketio = socketio
        self._engine = services.database.engine
        self._redis = Redis.from_url(
            services.settings.redis_url,
            socket_connect_timeout=2,
            socket_timeout=2,
            health_check_interval=RENEW_SECONDS,
            # A listener that quietly connected anew would not know that it has missed something.
            retry=Retry(NoBackoff(), 0),
        )
        self._interest = Interest(self._redis)
        self._readers = Readers()
        self._missed = True
        self._more_is_due = Event()
        self._pulse = pulse
        self._started = False
        socketio.on_event("connect", self._connect)
        socketio.on_event("disconnect", self._disconnect)
        socketio.on_event("watch", self._watch)

    def close_all(self) -> None:
        """Close every socket, as a process that stops must; the browsers connect again elsewhere. Takes 2 s at most."""
        engine_io = self._socketio.server.eio
        gevent.joinall([gevent.spawn(engine_io.disconnect, sid) for sid in list(engine_io.sockets)], timeout=2)

    # What a socket sends.

    def _connect(self, auth: object = None) -> None:
        """Let in who is signed in. `auth` may be {"tz": an IANA name}."""
        try:
            user = user_of_socket()
        except SQLAlchemyError as error:
            log.warning("socket_refused", error=type(error).__name__)
            raise ConnectionRefusedError(UNAVAILABLE) from error
        if user is None:
            raise ConnectionRefusedError(SIGNED_OUT)
        name = auth.get("tz") if isinstance(auth, dict) else None
        zone = named_zone(name if isinstance(name, str) else "")
        self._readers.add(_sid(), user.id, zone, chosen_language(user.language), _stream())
        if not self._started:
            self._started = True
            gevent.spawn(self._for_ever, self._listen)
            gevent.spawn(self._for_ever, self._send_when_due)
            gevent.spawn(self._for_ever, self._tell_still)

    def _disconnect(self, reason: object = None) -> None:
        self._readers.remove(_sid())

    def _watch(self, asked: object = None) -> dict[str, Any] | None:
        """Answer with what differs from the versions that a page shows, and send what changes from now on."""
        try:
            things = protocol.read_watch(asked)
        except protocol.BadWatch as error:
            return protocol.refusal(str(error))
        sid = _sid()
        try:
            if user_of_socket() is None:
                self._close([sid])
                return None
            # In this order a change that is too late for the answer comes in a frame.
            self._readers.watch(sid, things)
            self._enter(things)
            with Session(self._engine) as session:
                versions = read_versions(session, things)
                states = read_states(session, [key for key, version in versions.items() if version != things[key]])
        except SQLAlchemyError as error:
            log.warning("watch_not_answered", error=type(error).__name__)
            return protocol.refusal(UNAVAILABLE)
        self._readers.told(sid, {key: state["version"] for key, state in states.items()})
        zone, now = self._readers.zone(sid), datetime.now(UTC)
        with speaking(self._readers.language(sid)):
            shown = [protocol.shown(state, zone, now) for state in states.values()]
        return protocol.message(
            shown + [protocol.gone(key, version) for key, version in things.items() if key not in versions]
        ) | protocol.still(self._pulse.stands_still())

    def _enter(self, keys: Iterable[str]) -> None:
        try:
            self._interest.enter(keys)
        except RedisError as error:
            log.warning("watch_not_entered", error=type(error).__name__)
            self._missed = True

    # What Redis brings.

    def _listen(self) -> None:
        """Hear what is published until Redis fails, which raises RedisError."""
        with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(CHANNEL)
            self._missed = True
            renewed = None
            while True:
                heard = channel.get_message(timeout=1.0)
                if heard is not None and heard["type"] == "message":
                    self._hear(json.loads(heard["data"]))
                elif heard is not None and heard["type"] == "subscribe":
                    renewed = float("-inf")  # The subscription holds: what is read from now on misses nothing.
                if renewed is not None and (self._missed or monotonic() - renewed > RENEW_SECONDS):
                    had = self._interest.renew(self._readers.keys())
                    renewed = monotonic()
                    if self._missed or not had:
                        self._catch_up()

    def _hear(self, published: dict[str, Any]) -> None:
        if published["v"] != protocol.VERSION:
            return
        if "close_user" in published:
            self._close(self._readers.sids_of(published["close_user"]))
        else:
            self._offer(published["things"])

    def _catch_up(self) -> None:
        """Read everything that is watched here, and send what is newer than what its watchers show."""
        self._missed = False
        keys = self._readers.keys()
        try:
            for start in range(0, len(keys), _BATCH):
                with Session(self._engine) as session:
                    versions = read_versions(session, keys[start : start + _BATCH])
                    newer = [key for key, version in versions.items() if version > self._readers.oldest(key)]
                    states = read_states(session, newer)
                self._offer(states.values())
        except SQLAlchemyError as error:
            log.warning("not_caught_up", error=type(error).__name__)
            self._missed = True

    # What leaves.

    def _offer(self, states: Iterable[State]) -> None:
        """Have these states sent to who watches them: at once where the pace of a socket allows it."""
        self._readers.offer(states, monotonic())
        self._send()
        self._more_is_due.set()

    def _send(self) -> None:
        """Send the frames that may leave now."""
        for frame in self._readers.take(monotonic()):
            now = datetime.now(UTC)
            with speaking(frame.language):
                things = protocol.message(protocol.shown(state, frame.zone, now) for state in frame.states)
            encoded = encode("changes", things)
            for sink in frame.sinks:
                sink.write(encoded)

    def _send_when_due(self) -> None:
        while True:
            due = self._readers.next_due()
            self._more_is_due.wait(None if due is None else max(0.0, due - monotonic()))
            self._more_is_due.clear()
            self._send()

    def _tell_still(self) -> None:
        """Tell all sockets when the last worker fell silent, and when one is back."""
        told = self._pulse.stands_still()
        while True:
            gevent.sleep(ASK_SECONDS)
            if (now := self._pulse.stands_still()) != told:
                told = now
                self._socketio.emit("still", protocol.still(now))

    def _close(self, sids: Iterable[str]) -> None:
        for sid in sids:
            # Each on its own, because closing waits until the socket has taken what was sent before.
            gevent.spawn(self._close_one, sid)

    def _close_one(self, sid: str) -> None:
        server = self._socketio.server
        engine_sid = server.manager.eio_sid_from_sid(sid, _NAMESPACE)
        # To Engine.IO, no socket would mean all of them.
        if engine_sid is not None:
            server.disconnect(sid)
            server.eio.disconnect(engine_sid)

    def _for_ever(self, work: Callable[[], None]) -> None:
        """Do `work` again whenever it fails: without it the sockets would stay open and hear nothing."""
        pause = 0.1
        while True:
            began = monotonic()
            try:
                work()
            except RedisError as error:
                log.warning("redis_away", error=type(error).__name__)
            except Exception:
                log.exception("live_failed")
            pause = 0.1 if monotonic() - began > _LONGEST_PAUSE_SECONDS else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            gevent.sleep(random.uniform(0, pause))  # noqa: S311


def _sid() -> str:
    """The socket whose event is being served."""
    sid: str = request.sid  # type: ignore[attr-defined]
    return sid


def _stream() -> Stream:
    """The connection of the socket whose event is being served."""
    stream: Stream = request.environ[CONNECTION]
    return stream


def _origins(settings: Settings) -> list[str]:
    """Where pages may come from that open a socket: this machine under both its names, or the public origin alone."""
    if settings.public_origin is not None:
        return [settings.public_origin]
    return [settings.origin, f"http://localhost:{settings.port}"]
