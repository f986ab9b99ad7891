"""One HTTP call after the other to one host, each with an end: a deadline, a size, and a word on what became of it.

A socket and httptools, the parser of Node, because of what the HTTP clients leave open or take too long for. Their
time-outs apply to each read alone: whoever sends a byte every few seconds would hold a call, and with it a record and
the right to write, for ever; here every wait on the network ends with the call's own deadline. And what they do for one
call takes longer than all else that is done for a record. What this never does: follow a redirect, use a proxy, keep a
cookie, repeat.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
CALL_SECONDS = 30.0
MOST_BYTES = 20_000_000
_MOST_OF_HEAD = 100_000
# All that is there: a page of a list takes a quarter of the steps then, and at each of them the threads that work on the
# pages before may keep this one waiting.
_READ_AT_ONCE = 1_000_000
# An idle connection is given up before Sage, or a load balancer before it, does that in the middle of a write.
_IDLE_SECONDS = 4.0
_GZIP = 16 + zlib.MAX_WBITS
_PORTS = {"http": 80, "https": 443}


class NotSent(Exception):
    """The host cannot be reached: nothing was sent."""


class NoAnswer(Exception):
    """The request, or a part of it, was sent, and no whole answer came."""


@dataclass(frozen=True)
class Reply:
    """A whole answer, whatever its status. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """Calls to the origin of `url` (its scheme, host and port), and to no other. One thread at a time uses it."""

    def __init__(self, url: str, *, call_seconds: float = CALL_SECONDS, most_bytes: int = MOST_BYTES) -> None:
        """`url` is http or https; its path and query are of no meaning here. Raises ValueError for any other."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"{url} is no http or https address")
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname.encode("idna").decode()
        self._port = parts.port or _PORTS[parts.scheme]
        named = f"[{self._host}]" if ":" in self._host else self._host
        self._named = named if self._port == _PORTS[parts.scheme] else f"{named}:{self._port}"
        self._call_seconds = call_seconds
        self._most_bytes = most_bytes
        self._ends = 0.0
        self._socket: socket.socket | None = None
        self._used_at = 0.0

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send one request and read its whole answer. `target` is an encoded path, with a query or without.

        Raises NotSent, or NoAnswer for an answer that does not come within the deadline, is cut off or too large.
        """
        self._ends = time.monotonic() + self._call_seconds
        request = self._request(method, target, headers, body)
        try:
            connection = self._connection()
            self._left(READ_SECONDS)
        except OSError as error:
            raise NotSent(_words(error)) from error
        self._socket = None
        answer = _Answer()
        try:
            self._write(connection, request)
            self._read(connection, answer)
            reply = Reply(answer.status, answer.headers, self._unzipped(answer))
        except (OSError, HttpParserError, HttpParserUpgrade) as error:
            raise NoAnswer(_words(error)) from error
        finally:
            answer.end()
            # After anything but a whole answer nobody knows what comes next there.
            if answer.may_follow:
                self._socket, self._used_at = connection, time.monotonic()
            else:
                connection.close()
        return reply

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = {"Host": self._named, "Accept-Encoding": "gzip", **headers}
        if body is not None:
            lines["Content-Length"] = str(len(body))
        parts = [method, target, *lines, *lines.values()]
        # What is wrong is not told with the header that is wrong: that could be the one with the token.
        if " " in target or not all(part.isascii() and part.isprintable() for part in parts):
            raise NotSent("the request has a line break, or a letter beyond ASCII, in its head")
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")

    def _connection(self) -> socket.socket:
        """The connection that is open, or a new one where that has been idle for too long, or is at its end."""
        if self._socket is not None:
            # What can be read before anything was asked is an end, or belongs to nothing.
            if time.monotonic() - self._used_at < _IDLE_SECONDS and not _is_readable(self._socket):
                return self._socket
            self.close()
        connection = socket.create_connection((self._host, self._port), self._left(CONNECT_SECONDS))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._is_secure:
                # A handshake ends with its time-out however many steps it has.
                connection.settimeout(self._left(CONNECT_SECONDS))
                return _trusted().wrap_socket(connection, server_hostname=self._host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _left(self, most: float) -> float:
        """How long a step may take that takes at most so long. Raises TimeoutError when the time is over."""
        left = min(self._ends - time.monotonic(), most)
        if left <= 0:
            raise TimeoutError("the call took too long")
        return left

    def _write(self, connection: socket.socket, request: bytes) -> None:
        rest = memoryview(request)
        while rest:
            connection.settimeout(self._left(READ_SECONDS))
            rest = rest[connection.send(rest) :]

    def _read(self, connection: socket.socket, answer: _Answer) -> None:
        received = 0
        while not answer.is_whole:
            connection.settimeout(self._left(READ_SECONDS))
            data = connection.recv(_READ_AT_ONCE)
            if not data:
                if answer.ends_with_connection:
                    return
                raise NoAnswer("the answer is cut off")
            received += len(data)
            answer.feed(data)
            if received > self._most_bytes + _MOST_OF_HEAD or len(answer.body) > self._most_bytes:
                raise NoAnswer(f"the answer is larger than {self._most_bytes} bytes")

    def _unzipped(self, answer: _Answer) -> bytes:
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip"}:
            raise NoAnswer(f"the answer is encoded as {encoding}, which was not asked for")
        if encoding == "identity" or not answer.body:
            return bytes(answer.body)
        unzip = zlib.decompressobj(_GZIP)
        try:
            # One byte more than is allowed is enough to see that it is too much.
            whole = unzip.decompress(answer.body, self._most_bytes + 1)
        except zlib.error as error:
            raise NoAnswer("the answer is not the gzip that it says it is") from error
        if len(whole) > self._most_bytes:
            raise NoAnswer(f"the answer is larger than {self._most_bytes} bytes")
        if not unzip.eof:
            raise NoAnswer("the gzip of the answer is cut off")
        return whole


class _Answer:
    """The answer to one request, as far as it has come: httptools calls the methods that begin with on_.

    Answers before the answer, those with a status below 200, are passed over, and so is what comes after it.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.is_whole = False
        # Whether another request may be sent on the connection.
        self.may_follow = False
        self._parser = HttpResponseParser(self)

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the only end that it has. Without the end of its head it has none."""
        return self.status > 0 and self.headers.keys().isdisjoint({"content-length", "transfer-encoding"})

    def feed(self, data: bytes) -> None:
        """Read on. Raises HttpParserError and HttpParserUpgrade for what is no HTTP, or is not to be understood."""
        self._parser.feed_data(data)

    def end(self) -> None:
        """Read no more. The parser and this hold each other, and with them the body until a collector comes by."""
        del self._parser

    def on_message_begin(self) -> None:
        """Where more comes than was asked for, it could be taken for the next answer."""
        self.may_follow = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or one after the body, which says nothing of the answer."""
        if not self.status:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The end of a head."""
        status = self._parser.get_status_code()
        if status >= 200 and not self.status:
            self.status = status
        elif not self.status:
            self.headers = {}

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if not self.is_whole:
            self.body += data

    def on_message_complete(self) -> None:
        """The end of an answer."""
        if self.status and not self.is_whole:
            self.is_whole = True
            self.may_follow = self._parser.should_keep_alive()


@cache
def _trusted() -> ssl.SSLContext:
    """The machine's own certificate authorities, or those of SSL_CERT_FILE. Reading them takes longer than a call."""
    return ssl.create_default_context()


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
