"""Style sheets, scripts and icons: their address holds a hash of all of them, so that browsers keep them for ever."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from flask import Flask, send_from_directory
from werkzeug.wrappers import Response

_A_YEAR = 365 * 24 * 3600


def init_app(app: Flask, folder: Path) -> None:
    """Serve `folder`; `url_for("static", filename=...)` makes the addresses.

    Files may name each other by relative addresses, because all share one hash. A file that is changed while the app
    runs is served, but under the address of before, where browsers do not ask for it again.
    """
    release = _hash(folder)

    def static(release_asked: str, filename: str) -> Response:
        response = send_from_directory(folder, filename)
        if release_asked == release:
            response.headers["Cache-Control"] = f"public, max-age={_A_YEAR}, immutable"
        else:
            # A page of another release, while machines are updated one by one: it works, and is not remembered.
            response.headers["Cache-Control"] = "no-store"
        return response

    def add_release(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values["release_asked"] = release

    app.add_url_rule("/static/<release_asked>/<path:filename>", "static", static)
    app.url_defaults(add_release)


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
