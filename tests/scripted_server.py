"""A server for tests that answers with whatever bytes a test wants."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.accounting import BUSINESS


class ScriptedServer:
    """A server on a free port that has a function answer each request, with whatever bytes. It keeps what was sent."""

    def __init__(self, script: Callable[[socket.socket, bytes], None], tls: tuple[Path, Path] | None = None) -> None:
        """`tls` is a certificate and its key, for https."""
        self._script = script
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*tls)
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}/v3.1"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            if self._tls:
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except OSError:
                    return
            while True:
                request = _request(connection)
                if not request:
                    return
                self.requests.append(request)
                try:
                    self._script(connection, request)
                except OSError:
                    return

    def close(self) -> None:
        # Closing alone does not wake a thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)


def _request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            chunk = connection.recv(65536)
        except OSError:
            return b""
        if not chunk:
            return b""
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < lengths[0]:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(
    script: Callable[[socket.socket, bytes], None], tls: tuple[Path, Path] | None = None
) -> Iterator[ScriptedServer]:
    with closing(ScriptedServer(script, tls)) as server:
        yield server


def answer(value: Any, status: int = 200, **headers: str) -> Callable[[socket.socket, bytes], None]:
    """A script that answers each request with this JSON, for our business unless a header says otherwise."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {"X-Business": BUSINESS, **{name.replace("_", "-"): text for name, text in headers.items()}}
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Length: {len(body)}",
        *(f"{name}: {text}" for name, text in named.items()),
    ]

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return script
