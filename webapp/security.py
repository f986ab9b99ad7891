"""What protects the pages in the browser: cookies, tokens against forged requests, the origin check and the headers."""

from __future__ import annotations

import os
import secrets
from urllib.parse import urlsplit

from flask import Flask, abort, request
from flask_wtf import CSRFProtect
from werkzeug.wrappers import Response

from webapp.config import Settings
from webapp.errors import FromOtherSite

_LARGEST_REQUEST = 1_000_000  # bytes; the longest form here is a company with its notes
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def init_app(app: Flask, settings: Settings) -> None:
    """Set up cookies, tokens, the origin check and the headers of all responses."""
    behind_tls = settings.origin.startswith("https://")
    app.config.update(
        SECRET_KEY=secret_key(settings),
        # With the prefix the browser itself refuses such a cookie from a sister host or without TLS. Without TLS the
        # port is part of the name: browsers share cookies between the ports of a host, and two copies may run there.
        SESSION_COOKIE_NAME="__Host-synclight" if behind_tls else f"synclight-{settings.port}",
        SESSION_COOKIE_SECURE=behind_tls,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        MAX_CONTENT_LENGTH=_LARGEST_REQUEST,
        # A token lives as long as its session: a form that was open over lunch must still work.
        WTF_CSRF_TIME_LIMIT=None,
        # That check wants a Referer; the origin check below sees more and accepts browsers that keep it back.
        WTF_CSRF_SSL_STRICT=False,
    )
    app.before_request(lambda: _refuse_other_sites(settings.origin))
    app.before_request(_refuse_nul)
    CSRFProtect(app)
    headers = _headers(settings.origin)
    app.after_request(lambda response: _add_headers(response, headers))


def secret_key(settings: Settings) -> str:
    """The key that signs sessions: the one that was set, else one that is made once and kept in SYNCLIGHT_VAR.

    All processes with the same SYNCLIGHT_VAR get the same one, even when they all start at once.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value()
    path = settings.var / "secret_key"
    settings.var.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(32), encoding="ascii")
    try:
        # A link is made whole or not at all, and never over one that is there: all read the first one's key.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text(encoding="ascii")


def is_from_other_site(fetch_site: str | None, origin: str | None, own_origins: tuple[str, ...]) -> bool:
    """Whether the browser says that a page of another site sent a request.

    `fetch_site` is the header Sec-Fetch-Site, which browsers send to TLS and to this machine; `origin` the header
    Origin, which they send with each POST. A client that sends neither is no browser and has no cookies to abuse.
    """
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and origin not in own_origins


def _refuse_other_sites(public_origin: str) -> None:
    if request.method in _SAFE_METHODS:
        return
    own_origins = (public_origin, request.host_url.rstrip("/"))
    if is_from_other_site(request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin"), own_origins):
        raise FromOtherSite


def _refuse_nul() -> None:
    """No person types the character NUL, and PostgreSQL stores it in no text."""
    if any("\0" in value for _, value in request.values.items(multi=True)):
        abort(400)


def _headers(origin: str) -> dict[str, str]:
    """The headers that all responses carry. The policies allow what our own pages do and nothing else."""
    parts = urlsplit(origin)
    socket_origin = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        # 'self' covers the socket in today's browsers only (Content Security Policy Level 3).
        "connect-src": f"'self' {socket_origin}",
        "manifest-src": "'self'",
        "worker-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    if parts.scheme == "https":
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def _add_headers(response: Response, headers: dict[str, str]) -> Response:
    response.headers.update(headers)
    if response.mimetype == "text/html":
        # The same address can answer a part to htmx and the page to the browser's Back.
        response.vary.add("HX-Request")
    if "Cache-Control" not in response.headers:
        # Company data stays out of every cache, and off a shared machine's disk.
        response.headers["Cache-Control"] = "no-store"
    return response
