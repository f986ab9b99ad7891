"""The HTTP server: sends requests to the API or to the pages, and lets faults strike where sockets are.

gevent's server in one process: a slow answer holds up nobody else, and nothing needs a lock. Faults strike Sage's own
paths in this order: offline, the one-at-a-time rule, latency, refusals before anything is done, then what happens to
the answer of a request that was carried out.
"""

from __future__ import annotations

import errno
import io
import logging
import signal
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import gevent
import gevent.event
from gevent.pywsgi import WSGIHandler, WSGIServer

from workers.sandbox.api import LONGEST_BODY, PREFIX, Answer, Request
from workers.sandbox.faults import WRITES, Fault
from workers.sandbox.pages import create_pages
from workers.sandbox.rules import Problem, Refused
from workers.sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

log = logging.getLogger(__name__)

AT_ONCE = 150
"""How many requests Sage takes from one application at the same time (developer guides, limits)."""

_TOKEN_PATHS = ("/token", "/revoke")
_CONSENT = "/oauth2/"
_OWN_NAMES = {"127.0.0.1", "localhost"}
_PIECES = 20
_HTML = b"<!doctype html><html lang=en><title>Sage</title><h1>We will be back shortly</h1></html>"


class _Dropped(ConnectionResetError):
    """Raised to close the connection at once: gevent's server ends it without an answer and without a log line."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "dropped on demand")


class _Handler(WSGIHandler):
    """Adds the socket to the environment, for the faults that need it."""

    def get_environ(self) -> dict[str, Any]:
        """The environment of one request, with `sandbox.socket`."""
        environ: dict[str, Any] = super().get_environ()
        environ["sandbox.socket"] = self.socket
        return environ

    def handle(self) -> None:
        """One connection; small answers leave at once instead of waiting for the acknowledgement of their headers."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle()

    def log_request(self) -> None:
        """No line for each request: making one costs as much as a small answer."""


class Application:
    """The WSGI application."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._pages = create_pages(sandbox)
        self._under_way = 0
        self._posting: set[tuple[str, str]] = set()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        path = environ["PATH_INFO"]
        # A name that another site made to point at this machine must not open the sandbox to that site's pages.
        if environ.get("HTTP_HOST", "").partition(":")[0] not in _OWN_NAMES:
            return _send(start_response, Answer(400, b"Use 127.0.0.1 or localhost.", {"Content-Type": "text/plain"}))
        if not path.startswith((PREFIX, _CONSENT)) and path not in _TOKEN_PATHS:
            return self._pages(environ, start_response)
        request = _request(environ, path)
        if path.startswith(PREFIX):
            self._sandbox.requests[f"{request.method} {path[len(PREFIX) :].partition('/')[0]}"] += 1
        if self._sandbox.strike("offline", request):
            raise _Dropped
        self._under_way += 1
        try:
            if path.startswith(_CONSENT):
                return self._consent(environ, start_response, request)
            answer = self._answer(request)
        finally:
            self._under_way -= 1
        return self._deliver(environ, start_response, request, answer)

    def _consent(self, environ: dict[str, Any], start_response: StartResponse, request: Request) -> Iterable[bytes]:
        self._wait(request)
        refusal = self._refused_before(request)
        if refusal is not None:
            return _send(start_response, refusal)
        environ["wsgi.input"] = io.BytesIO(request.body)
        return self._pages(environ, start_response)

    def _answer(self, request: Request) -> Answer:
        held = self._sandbox.api.one_at_a_time(request)
        if (held is not None and held in self._posting) or self._under_way > AT_ONCE:
            return self._error(request, 429, "TooManyRequests", "Another request is still being carried out.")
        if held is not None:
            self._posting.add(held)
        try:
            self._wait(request)
            return self._refused_before(request) or self._carried_out(request)
        finally:
            if held is not None:
                self._posting.discard(held)

    def _wait(self, request: Request) -> None:
        latency = self._sandbox.strike("latency", request)
        if latency is not None:
            gevent.sleep(float(latency.options["seconds"]))

    def _refused_before(self, request: Request) -> Answer | None:
        """The answer of a fault that keeps the request from being carried out."""
        strike = self._sandbox.strike
        if fault := strike("unavailable", request):
            after = fault.options["retry_after"]
            headers = {} if after is None else {"Retry-After": str(after)}
            return self._error(request, 503, "ServiceUnavailable", "The service is not available.", headers)
        if fault := strike("rate_limited", request):
            return self._error(request, 429, "TooManyRequests", "Too many requests.", self._retry_after(fault))
        if strike("html", request):
            return Answer(200, _HTML, {"Content-Type": "text/html; charset=utf-8"})
        if strike("error_before", request):
            return self._error(request, 500, "UnexpectedError", "An unexpected error occurred.")
        if fault := strike("reject", request):
            options = fault.options
            return self._error(
                request,
                int(options["status"]),
                str(options["code"]),
                str(options["message"]),
                source=str(options["source"]),
            )
        return None

    def _carried_out(self, request: Request) -> Answer:
        sandbox = self._sandbox
        try:
            if request.path in _TOKEN_PATHS:
                answer = sandbox.answer_token(request)
            else:
                shift = sandbox.strike("shifting_pages", request)
                stale = sandbox.strike("stale_read", request)
                with sandbox.store.stale(float(stale.options["seconds"]) if stale else 0.0):
                    answer = sandbox.api.answer(request, int(shift.options["by"]) if shift else 0)
        except Exception:
            log.exception("a request could not be answered: %s %s", request.method, request.path)
            return self._error(request, 500, "UnexpectedError", "An unexpected error occurred.")
        applied = answer.status < 300
        if applied and sandbox.strike("no_answer_after", request):
            raise _Dropped
        if applied and sandbox.strike("error_after", request):
            return self._error(request, 500, "UnexpectedError", "An unexpected error occurred.")
        return answer

    def _deliver(
        self, environ: dict[str, Any], start_response: StartResponse, request: Request, answer: Answer
    ) -> Iterable[bytes]:
        sandbox = self._sandbox
        headers = {**answer.headers, "Date": formatdate(sandbox.now(), usegmt=True)} if sandbox.skew else answer.headers
        body = answer.body if request.method != "HEAD" else b""
        if body and sandbox.strike("truncated", request):
            body = body[: len(body) // 2]
        answer = Answer(answer.status, body, headers)
        if body and sandbox.strike("reset", request):
            _send(start_response, answer)
            return _broken_off(environ["sandbox.socket"], body)
        if body and (drip := sandbox.strike("slow_drip", request)):
            _send(start_response, answer)
            return _dripping(body, float(drip.options["seconds"]))
        return _send(start_response, answer)

    def _retry_after(self, fault: Fault) -> dict[str, str]:
        seconds = int(fault.options["seconds"])
        match fault.options["retry_after"]:
            case "seconds":
                return {"Retry-After": str(seconds)}
            case "date":
                return {"Retry-After": formatdate(self._sandbox.now() + seconds, usegmt=True)}
            case _:
                return {}

    def _error(
        self,
        request: Request,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        source: str = "",
    ) -> Answer:
        refused = Refused(status, Problem(code, message, source))
        return self._sandbox.api.refusal(refused, request.headers.get("x-business", ""), headers)


def _request(environ: dict[str, Any], path: str) -> Request:
    headers = {
        "authorization": environ.get("HTTP_AUTHORIZATION", ""),
        "content-type": environ.get("CONTENT_TYPE", ""),
    }
    if "HTTP_X_BUSINESS" in environ:
        headers["x-business"] = environ["HTTP_X_BUSINESS"]
    method = environ["REQUEST_METHOD"]
    body = environ["wsgi.input"].read(LONGEST_BODY + 1) if method in WRITES else b""
    return Request(method, path, dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)), headers, body)


def _send(start_response: StartResponse, answer: Answer) -> list[bytes]:
    headers = list(answer.headers.items())
    if answer.status != HTTPStatus.NO_CONTENT:
        headers.append(("Content-Length", str(len(answer.body))))
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
    return [answer.body]


def _dripping(body: bytes, seconds: float) -> Iterator[bytes]:
    """The body in pieces, spread over so many seconds."""
    size = max(1, -(-len(body) // _PIECES))
    for start in range(0, len(body), size):
        gevent.sleep(seconds / _PIECES)
        yield body[start : start + size]


def _broken_off(connection: socket.socket, body: bytes) -> Iterator[bytes]:
    """Half of the body, then a reset: with no linger time the close throws away what was not read and sends RST."""
    yield body[: len(body) // 2]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise _Dropped


def serve(sandbox: Sandbox, port: int) -> None:
    """Listen on 127.0.0.1 until SIGTERM or SIGINT. Raises OSError when the port is taken."""
    server = WSGIServer(("127.0.0.1", port), Application(sandbox), handler_class=_Handler, error_log=log)
    server.start()
    print(f"The sandbox is ready at {sandbox.origin}", flush=True)
    stopped = gevent.event.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(one, stopped.set)
    stopped.wait()
    server.stop(timeout=1)
