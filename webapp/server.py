"""Gunicorn's settings, for `--config python:webapp.server`, and the kind of its worker processes.

This module is read before the app is loaded, and patches Python first, so that waiting for the network, PostgreSQL or
Redis lets the other requests of the process go on.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import resource  # noqa: E402
from socket import socket  # noqa: E402
from types import FrameType  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from flask import Flask  # noqa: E402
from gunicorn.http.errors import LimitRequestLine  # noqa: E402
from gunicorn.workers.ggevent import GeventWorker  # noqa: E402

from webapp.config import Settings  # noqa: E402
from webapp.errors import ADDRESS_TOO_LONG  # noqa: E402

_settings = Settings.load()

bind = f"127.0.0.1:{_settings.port}"
workers = 2
worker_class = "webapp.server.Worker"
# The app is loaded once and shared, which saves the memory of a whole process.
preload_app = True
# Open connections in each process; each is a greenlet of some kilobytes and an open file.
worker_connections = 20_000
_, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(worker_connections + 1_000, _most_files), _most_files))
# Seconds that a request may still take after SIGTERM. Sockets are closed at once (see Worker).
graceful_timeout = 5
timeout = 60
# Seconds that a connection may be idle; a process that stops waits for those too.
keepalive = 2
loglevel = "warning"
# Gunicorn's own lines go the way of all others (webapp.logs, which webapp.wsgi sets up).
logconfig_dict = {
    "loggers": {"gunicorn.error": {"level": "WARNING", "handlers": [], "propagate": True}},
    "disable_existing_loggers": False,
}
# Workers prove that they live by touching a file: in memory, because a slow disk would get them killed.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes it anew with a random name and removes it at once


class Worker(GeventWorker):  # type: ignore[misc]
    """A web process that closes its sockets when it is asked to stop: browsers open them again at another one.

    Gunicorn would wait for them until the graceful time is over. And it would answer an address that is too long with a
    page of its own.
    """

    def handle_error(self, req: Any, client: socket, addr: Any, exc: BaseException) -> None:
        """A request that is no request. One with too long an address is sent to the app, which has a page for that."""
        if not isinstance(exc, LimitRequestLine):
            super().handle_error(req, client, addr, exc)
            return
        client.sendall(
            f"HTTP/1.1 303 See Other\r\nLocation: {ADDRESS_TOO_LONG}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: take no new connection, end what is open."""
        super().handle_exit(sig, frame)
        # Closing may wait for the network, which a signal handler must not.
        gevent.spawn(self._close_sockets)

    def _close_sockets(self) -> None:
        app: Flask = self.wsgi
        while True:
            # Again, until the process ends: the listener accepts for up to a second more.
            app.extensions["live"].close_all()
            gevent.sleep(0.2)
