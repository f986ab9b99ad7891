"""How frames are written to a browser's connection: whole, in order, encoded once for all, no more than it takes.

Engine.IO gives each message to a queue and a greenlet of the socket, frames it there, and hands it to the system once,
whether all of it was taken or not. With one change at a thousand sockets that is nearly all of the work, and a slow
reader can get half a frame. So the connection is wrapped before Engine.IO gets it: what its WebSocket writes passes
through here, and the frames with changes are written straight to it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import gevent
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket
from gevent.event import Event
from socketio.packet import EVENT
from socketio.packet import Packet as SocketPacket
from wsproto.frame_protocol import FrameProtocol

# Where gunicorn puts the connection, and simple-websocket, which Engine.IO uses, takes it from.
CONNECTION = "gunicorn.socket"

# What a browser may send: in a second, and at once. A page that is drawn anew again and again stays far below it;
# without a limit a single message could grow until the memory is full.
_BYTES_A_SECOND = 64 * 1024
_BYTES_AT_ONCE = 128 * 1024


def wrap_connections(wsgi_app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Have each WebSocket stand on a Stream, and take the browser's offer to compress away.

    Compression would make every socket's frames different, and cost each of them 300 kB.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if CONNECTION in environ and environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            environ = {**environ, CONNECTION: Stream(environ[CONNECTION])}
            environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        return wsgi_app(environ, start_response)

    return answer


def encode(event: str, data: object) -> bytes:
    """An event of Socket.IO as a WebSocket frame, the same for every socket that gets it."""
    text = EnginePacket(MESSAGE, SocketPacket(EVENT, [event, data], namespace="/").encode()).encode()
    # The server's frames are not masked, and nothing of them depends on those before (RFC 6455, 5.2).
    return bytes(FrameProtocol(client=False, extensions=[]).send_data(text, fin=True))


class Stream:
    """A connection that several greenlets write to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = bytearray()
        self._free = Event()
        self._free.set()
        self._allowed = float(_BYTES_AT_ONCE)
        self._received_at = monotonic()

    @property
    def is_free(self) -> bool:
        """Whether the system has taken all that was written."""
        return not self._rest

    def write(self, data: bytes) -> None:
        """Write all of `data`: now what the system takes, the rest as soon as it takes more. Does not wait."""
        if self._rest:
            self._rest += data
            return
        taken = self._offer(data)
        if taken < len(data):
            self._rest += data[taken:]
            self._free.clear()
            gevent.spawn(self._write_rest)

    def send(self, data: bytes) -> int:
        """Write all of `data`, and wait until the system has taken it. For the WebSocket that stands on this stream."""
        self.write(data)
        self._free.wait()
        return len(data)

    def recv(self, size: int) -> bytes:
        """What the browser sends; empty at the end, and where it sends more than it may."""
        data = self._connection.recv(size)
        now = monotonic()
        self._allowed = min(_BYTES_AT_ONCE, self._allowed + (now - self._received_at) * _BYTES_A_SECOND) - len(data)
        self._received_at = now
        return data if self._allowed >= 0 else b""

    def close(self) -> None:
        """Close the connection; what it has not taken is dropped."""
        self._connection.close()

    def _offer(self, data: bytes | bytearray) -> int:
        try:
            return self._connection.send(data, 0, 0.0)  # type: ignore[call-arg]  # gevent's takes a time-out
        except BlockingIOError:
            return 0
        except OSError:
            # It is broken: whoever reads from it gets to know, and ends the socket.
            return len(data)

    def _write_rest(self) -> None:
        try:
            while self._rest:
                # Under gevent this waits until the system takes something, and fails when the connection is closed.
                del self._rest[: self._connection.send(self._rest)]
        except OSError:
            # As above: the reader gets to know.
            self._rest.clear()
        self._free.set()
