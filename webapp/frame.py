"""What every page has: its language, status marks and times for the templates, and the choice of language and theme."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from urllib.parse import urlsplit

from flask import Blueprint, Flask, current_app, redirect, request, session, url_for
from flask_login import current_user
from markupsafe import Markup, escape
from werkzeug.wrappers import Response

from webapp import languages
from webapp.languages import ENGLISH, LANGUAGES, LOCALES, best, language, months, speak
from webapp.modules import MODULES
from webapp.numbers import price_text
from webapp.status import FILTER_TEXT, VARIANTS, Reason, mark_of, variant
from webapp.sync.details import field_label, field_value
from webapp.templating import said_once
from webapp.zone import current_reader

THEMES = ("light", "dark", "system")
_THEME_COOKIE = "theme"
_A_YEAR = 365 * 24 * 3600

LANGUAGE_COOKIE = "language"

blueprint = Blueprint("theme", __name__)


def init_app(app: Flask) -> None:
    """Give all templates the modules, the marks, the times and the theme, and serve the choice of the theme."""
    app.register_blueprint(blueprint)
    app.before_request(_speak)
    app.after_request(_tell_language)
    app.teardown_request(lambda error: speak(ENGLISH))
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.globals.update(
        _=_gettext,
        gettext=_gettext,
        ngettext=_ngettext,
        number=languages.number,
        price_text=price_text,
        field_label=field_label,
        field_value=field_value,
        months=months,
        languages=LANGUAGES,
        language=language,
        language_tag=lambda: LOCALES[languages.language()].replace("_", "-"),
        mark_of=mark_of,
        variant_of=lambda reason: variant(Reason(reason)),
        mark_variants=VARIANTS,
        filter_text=FILTER_TEXT,
        modules=MODULES,
        theme=chosen_theme,
        stands_still=lambda: current_app.extensions["pulse"].stands_still(),
    )
    app.add_template_filter(_age, "age")
    app.add_template_filter(_exact, "exact")
    app.add_template_filter(_until, "until")
    app.add_template_filter(_iso, "iso")
    # These stand in every template, and an import of them takes each page longer than what they say.
    for file in ("_macros/marks.html", "_macros/texts.html"):
        app.jinja_env.globals.update(said_once(app.jinja_env, file))


def chosen_language(of_person: str = "") -> str:
    """The language of a request: what the person chose, else what was chosen in this browser, else what it accepts."""
    chosen = of_person or request.cookies.get(LANGUAGE_COOKIE, "")
    return best(chosen, [tag for tag, _ in request.accept_languages])


def _speak() -> None:
    # First without the database, which may be away: the page that says so is in the right language too.
    speak(chosen_language())
    if "id" in session and request.endpoint != "static" and current_user.is_authenticated:
        speak(chosen_language(current_user.language))


def keep_language(response: Response, code: str) -> None:
    """Have this browser remember a language, or forget it where `code` is empty."""
    if code:
        response.set_cookie(
            LANGUAGE_COOKIE, code, max_age=_A_YEAR, samesite="Lax", httponly=True, secure=request.is_secure
        )
    else:
        response.delete_cookie(LANGUAGE_COOKIE)


@blueprint.post("/language")
def choose_language() -> Response:
    """Keep the chosen language in this browser, and go back to the page that asked; open to people not signed in."""
    response = redirect(_own_page(request.referrer), code=303)
    code = request.form.get("language", "")
    if code in LANGUAGES:
        keep_language(response, code)
    return response


def _tell_language(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.vary.update(("Accept-Language", "Cookie"))
        response.content_language.add(language())
    return response


# Values are escaped; the messages are ours, and may hold markup.
def _gettext(message: str, /, **values: object) -> Markup:
    if not values:
        return _said(language(), message)
    return Markup(languages.gettext(message, **{name: escape(value) for name, value in values.items()}))  # noqa: S704


@cache  # The templates have some hundred messages, and a page fifty of them.
def _said(_language: str, message: str) -> Markup:
    return Markup(languages.gettext(message))  # noqa: S704


def _ngettext(singular: str, plural: str, num: int, /, **values: object) -> Markup:
    escaped = {name: escape(value) for name, value in values.items()}
    return Markup(languages.ngettext(singular, plural, num, **escaped))  # noqa: S704


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


def _age(moment: datetime | str | None, never: str | None = None) -> str:
    return current_reader().age(_moment(moment), never)


def _exact(moment: datetime | str | None, never: str | None = None) -> str:
    return current_reader().exact(_moment(moment), never)


def _until(moment: datetime | str | None, never: str | None = None) -> str:
    return current_reader().until(_moment(moment), never)


def _iso(moment: datetime | str | None) -> str:
    moment = _moment(moment)
    return moment.astimezone(UTC).isoformat() if moment else ""


def _moment(moment: datetime | str | None) -> datetime | None:
    """States of live things hold their moments as ISO 8601 text, records as datetime."""
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment
