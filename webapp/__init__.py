"""The web app. `create_app` wires its rooms together and decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from flask.typing import ResponseReturnValue

    from webapp.config import Settings

ROOT = Path(__file__).resolve().parent.parent


def create_app(settings: Settings) -> Flask:
    """Build the app for these settings. It connects to nothing before its first request."""
    # Imported here, because every module of this package imports this one first: a command, or the process that looks
    # after the others, must not load the whole web for that.
    from flask import Flask, redirect, url_for
    from flask_compress import Compress
    from werkzeug.middleware.proxy_fix import ProxyFix

    from webapp import assets, errors, frame, security
    from webapp.addresses import IdConverter, ModuleConverter
    from webapp.companies.views import blueprint as companies
    from webapp.connection.views import blueprint as connection
    from webapp.contacts.views import blueprint as contacts
    from webapp.filters.views import blueprint as filters
    from webapp.health import blueprint as health
    from webapp.highlighted.views import blueprint as highlighted
    from webapp.listing.pages import PLANNED
    from webapp.live import gateway
    from webapp.offline import blueprint as offline
    from webapp.orders.views import blueprint as orders
    from webapp.products.views import blueprint as products
    from webapp.pulse import Pulse
    from webapp.services import Services
    from webapp.sync.views import blueprint as sync
    from webapp.users import access
    from webapp.users.views import blueprint as users

    app = Flask(__name__, template_folder=str(ROOT / "templates"), static_folder=None)
    app.extensions["synclight"] = Services.open(
        settings, application_name="synclight-web", pool_size=10, server_settings=PLANNED
    )
    app.extensions["pulse"] = Pulse(settings.redis_url)
    app.url_map.converters |= {"id": IdConverter, "module": ModuleConverter}
    app.config.update(
        COMPRESS_ALGORITHM=["br", "gzip"], COMPRESS_ALGORITHM_STREAMING=["br", "gzip"], COMPRESS_BR_LEVEL=5
    )
    Compress(app)
    errors.init_app(app)
    # Its addresses stand in what the frame gives to all templates.
    assets.init_app(app, ROOT / "static")
    # Before all that may refuse a request: the page that says so is in the reader's language.
    frame.init_app(app)
    security.init_app(app, settings)
    access.init_app(app)
    for blueprint in (
        companies,
        contacts,
        products,
        orders,
        sync,
        connection,
        highlighted,
        filters,
        users,
        offline,
        health,
    ):
        app.register_blueprint(blueprint)
    gateway.init_app(app)

    @app.get("/")
    @access.login_required
    def start() -> ResponseReturnValue:
        return redirect(url_for("companies.list_page"))

    if settings.public_origin:
        # Only a proxy that is known to be there may say where a request came from.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    return app
