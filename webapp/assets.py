"""Style sheets, scripts and icons: their address holds a hash of all of them, so that browsers keep them for ever."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import brotli
from flask import Flask, request, send_from_directory
from rjsmin import jsmin
from werkzeug.wrappers import Response

_A_YEAR = 365 * 24 * 3600

# What is worth compressing; pictures are compressed already.
_TEXTS = frozenset({".css", ".js", ".svg", ".webmanifest"})
# Our style sheets have no text with these signs in it. What else could be left out of one would save next to nothing.
_COMMENT, _INDENT = re.compile(r"/\*.*?\*/", re.DOTALL), re.compile(r"\s*\n\s*")


def init_app(app: Flask, folder: Path) -> None:
    """Serve `folder`; `static(filename)` makes the addresses in templates, `url_for("static", filename=...)` elsewhere.

    Files may name each other by relative addresses, because all share one hash. A file that is changed while the app
    runs is served, but under the address of before, where browsers do not ask for it again.
    """
    release = _hash(folder)

    def static(release_asked: str, filename: str) -> Response:
        response = send_from_directory(folder, filename)
        # It says what the address says, with each file of a first visit.
        response.headers.pop("Content-Disposition", None)
        if release_asked == release:
            response.headers["Cache-Control"] = f"public, max-age={_A_YEAR}, immutable"
        else:
            # A page of another release, while machines are updated one by one: it works, and is not remembered.
            response.headers["Cache-Control"] = "no-store"
        path = folder / filename
        if path.suffix in _TEXTS and response.status_code == 200 and request.accept_encodings["br"]:
            response.direct_passthrough = False
            response.set_data(_compressed(path, path.stat().st_mtime_ns))
            response.headers["Content-Encoding"] = "br"
            response.vary.add("Accept-Encoding")
        return response

    def add_release(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values["release_asked"] = release

    app.add_url_rule("/static/<release_asked>/<path:filename>", "static", static)
    app.url_defaults(add_release)
    # A page has some ten of these addresses, and their beginning never changes while the app runs.
    app.jinja_env.globals["static"] = lambda filename: f"/static/{release}/{filename}"


@lru_cache(maxsize=64)
def _compressed(path: Path, changed_at: int) -> bytes:
    """A file without what only its readers need, as small as brotli makes it: that takes some ten times as long as for a
    page, but once for each process."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        text = _INDENT.sub("\n", _COMMENT.sub("", text))
    elif path.suffix == ".js" and not path.name.endswith(".min.js"):
        text = jsmin(text)
    return bytes(brotli.compress(text.encode(), quality=11))


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
