"""What every page has: status marks and times for the templates, and the choice of the light or the dark theme."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from flask import Blueprint, Flask, redirect, request, url_for
from werkzeug.wrappers import Response

from webapp.modules import MODULES
from webapp.status import FILTER_TEXT, VARIANTS, Reason, mark_of, variant
from webapp.zone import glance

THEMES = ("light", "dark", "system")
_THEME_COOKIE = "theme"
_A_YEAR = 365 * 24 * 3600

blueprint = Blueprint("theme", __name__)


def init_app(app: Flask) -> None:
    """Give all templates the modules, the marks, the times and the theme, and serve the choice of the theme."""
    app.register_blueprint(blueprint)
    app.jinja_env.globals.update(
        mark_of=mark_of,
        variant_of=lambda reason: variant(Reason(reason)),
        mark_variants=VARIANTS,
        filter_text=FILTER_TEXT,
        modules=MODULES,
    )
    app.add_template_filter(_age, "age")
    app.add_template_filter(_exact, "exact")
    app.add_template_filter(_until, "until")
    app.add_template_filter(_iso, "iso")
    app.context_processor(
        lambda: {"theme": chosen_theme(), "icon_sheet": url_for("static", filename="vendor/icons.svg")}
    )


def chosen_theme() -> str:
    """The theme that the reader chose: light, dark or system. It stands in the page itself, so that nothing flashes."""
    theme = request.cookies.get(_THEME_COOKIE, "")
    return theme if theme in THEMES else "system"


@blueprint.post("/theme")
def choose() -> Response:
    """Keep the chosen theme for a year, and go back to the page that asked; open to people who are not signed in."""
    response = redirect(_own_page(request.referrer), code=303)
    theme = request.form.get("theme", "")
    if theme in THEMES:
        # Scripts write it too, so that the page changes at once; it holds no secret.
        response.set_cookie(_THEME_COOKIE, theme, max_age=_A_YEAR, samesite="Lax", secure=request.is_secure)
    return response


def _own_page(referrer: str | None) -> str:
    """The path of the page that a request came from, the start page where that was another site."""
    parts = urlsplit(referrer or "")
    # Two slashes at the start would name another host.
    if parts.netloc != request.host or not parts.path.startswith("/") or parts.path.startswith("//"):
        return url_for("companies.list_page")
    return parts._replace(scheme="", netloc="").geturl()


def _age(moment: datetime | str | None, never: str = "Never") -> str:
    return glance().age(_moment(moment), never)


def _exact(moment: datetime | str | None, never: str = "Never") -> str:
    return glance().exact(_moment(moment), never)


def _until(moment: datetime | str | None, never: str = "Not planned") -> str:
    return glance().until(_moment(moment), never)


def _iso(moment: datetime | str | None) -> str:
    moment = _moment(moment)
    return moment.astimezone(UTC).isoformat() if moment else ""


def _moment(moment: datetime | str | None) -> datetime | None:
    """States of live things hold their moments as ISO 8601 text, records as datetime."""
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment
