"""One HTTP call after the other to one host, each with an end: a deadline, a size, and a word on what became of it.

httpcore2 is used as it is, below httpx2, because its time-outs apply to each read alone: whoever sends a byte every
few seconds would hold a call, and with it a record and the right to write, for ever. Here every wait on the network
ends with the call's own deadline. What it never does by itself: follow a redirect, use a proxy, keep a cookie, repeat.
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpcore2

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
CALL_SECONDS = 30.0
MOST_BYTES = 20_000_000
_READ_AT_ONCE = 1_000_000
# An idle connection is given up before Sage, or a load balancer before it, does that in the middle of a write.
_IDLE_SECONDS = 4.0
_GZIP = 16 + zlib.MAX_WBITS

_NOT_SENT = (
    httpcore2.ConnectError,
    httpcore2.ConnectTimeout,
    httpcore2.UnsupportedProtocol,
    httpcore2.LocalProtocolError,
)
_NO_ANSWER = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError)


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
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url} is no http or https address")
        self._scheme = parts.scheme.encode()
        self._host = parts.hostname.encode("idna")
        self._port = parts.port
        self._call_seconds = call_seconds
        self._most_bytes = most_bytes
        self._deadline = _Deadline()
        self._backend = _Backend(self._deadline)
        self._open: httpcore2.HTTPConnection | None = None

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send one request and read its whole answer. `target` is an encoded path, with a query or without.

        Raises NotSent, or NoAnswer for an answer that does not come within the deadline, is cut off or too large.
        """
        self._deadline.at = time.monotonic() + self._call_seconds
        timeout = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS}
        try:
            with self._connection().stream(
                method,
                self._url(target),
                headers=[("Accept-Encoding", "gzip"), *headers.items()],
                content=body,
                extensions={"timeout": timeout},
            ) as answer:
                received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Reply(answer.status, received, self._read(answer.iter_stream(), received))
        except _NOT_SENT as error:
            raise NotSent(_words(error)) from error
        except _NO_ANSWER as error:
            raise NoAnswer(_words(error)) from error

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._open is not None:
            self._open.close()

    def _url(self, target: str) -> httpcore2.URL:
        return httpcore2.URL(scheme=self._scheme, host=self._host, port=self._port, target=target)

    def _connection(self) -> httpcore2.HTTPConnection:
        """The connection that is open, or a new one where that has been idle for too long, or is at its end.

        A pool would do the same, and takes a fifth of a call's processor time for the one connection that it holds.
        """
        if self._open is None or not self._open.is_available() or self._open.has_expired():
            self.close()
            self._open = httpcore2.HTTPConnection(
                self._url("/").origin,
                ssl_context=_trusted() if self._scheme == b"https" else None,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=self._backend,
            )
        return self._open

    def _read(self, chunks: Iterable[bytes], headers: Mapping[str, str]) -> bytes:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip"}:
            raise NoAnswer(f"the answer is encoded as {encoding}, which was not asked for")
        unzip = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        whole = bytearray()
        for chunk in chunks:
            if unzip is None:
                whole += chunk
            else:
                try:
                    # One byte more than is allowed is enough to see that it is too much.
                    whole += unzip.decompress(chunk, self._most_bytes + 1 - len(whole))
                except zlib.error as error:
                    raise NoAnswer("the answer is not the gzip that it says it is") from error
            if len(whole) > self._most_bytes:
                raise NoAnswer(f"the answer is larger than {self._most_bytes} bytes")
        if unzip is not None and whole and not unzip.eof:
            raise NoAnswer("the gzip of the answer is cut off")
        return bytes(whole)


@cache
def _trusted() -> ssl.SSLContext:
    """The machine's own certificate authorities, or those of SSL_CERT_FILE. Reading them takes longer than a call."""
    return httpcore2.default_ssl_context()


def _words(error: Exception) -> str:
    # What is wrong with a request of ours is told with the header that is wrong: that could be the one with the token.
    if isinstance(error, httpcore2.LocalProtocolError) or not str(error):
        return type(error).__name__
    return f"{type(error).__name__}: {error}"


class _Deadline:
    """When the call that is under way must have ended, by the monotonic clock."""

    at = 0.0

    def cut(self, seconds: float | None) -> float:
        """How long a step may take that wants `seconds`. Zero or less when the time is over."""
        left = self.at - time.monotonic()
        return left if seconds is None else min(seconds, left)


class _Stream(httpcore2.NetworkStream):
    """A socket whose every wait ends with the deadline."""

    def __init__(self, inner: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.cut(timeout)
        if left <= 0:
            raise httpcore2.ReadTimeout("the call took too long")
        # All that is there, however little was asked for: a page of a list takes a quarter of the steps then, and at each
        # of them the threads that work on the pages before may keep this one waiting.
        return self._inner.read(max(max_bytes, _READ_AT_ONCE), left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._deadline.cut(timeout)
        if left <= 0:
            raise httpcore2.WriteTimeout("the call took too long")
        self._inner.write(buffer, left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, max(self._deadline.cut(timeout), 0.001))
        return _Stream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    """Opens such sockets. Looking up the host's name is the one wait that the resolver's own limits end."""

    def __init__(self, deadline: _Deadline) -> None:
        self._inner = httpcore2.SyncBackend()
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        left = max(self._deadline.cut(timeout), 0.001)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options), self._deadline)
