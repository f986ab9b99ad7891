"""The web app. `create_app` wires its rooms together and decides nothing."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from webapp.config import Settings

ROOT = Path(__file__).resolve().parent.parent


def create_app(settings: Settings) -> Flask:
    """Build the app for these settings. It connects to nothing before its first request."""
    # Imported here, so that a command that needs only the settings does not load the whole web.
    from webapp import companies, connection, health, live, security, users, zone  # noqa: F401
    from webapp.services import Services

    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "static"))
    app.extensions["synclight"] = Services.open(settings, application_name="synclight-web", pool_size=10)
    return app
