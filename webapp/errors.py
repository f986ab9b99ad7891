"""What a person sees when a request cannot be answered: one sentence and one next step, never a stack trace.

htmx gets the same without the frame, in place of the part of the page that it may replace.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog
from flask import Flask, g, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from werkzeug.exceptions import Forbidden, HTTPException, InternalServerError, RequestURITooLarge, ServiceUnavailable
from werkzeug.wrappers import Response

from webapp.languages import N_
from webapp.languages import gettext as _

log = structlog.get_logger()

ADDRESS_TOO_LONG = "/too-long"

# The database is not there, or too busy to answer.
_AWAY = (OperationalError, NoConnectionFree)

# A restart of the database takes about so long, in seconds.
_DATABASE_BACK_AFTER = 5


class FromOtherSite(Forbidden):
    """A request that a page of another site sent with the cookies of somebody who is signed in here."""


@dataclass(frozen=True)
class Problem:
    """What happened, as a title and a sentence. The next step is the same address `again`, else the start page."""

    title: str
    sentence: str
    again: bool = False


_TOO_LONG = Problem(N_("Too long"), N_("This is more than can be sent at once. Go back, shorten it and send it again."))
_PROBLEMS = {
    400: Problem(
        N_("Not understood"), N_("This request came in a form that cannot be read. Go back and try it once more.")
    ),
    403: Problem(
        N_("For admins only"), N_("Your role does not allow this. Ask an admin to do it, or to change your role.")
    ),
    404: Problem(N_("Not found"), N_("There is nothing at this address. It may have been mistyped or removed.")),
    405: Problem(
        N_("Not possible here"), N_("This address cannot be opened in this way. Use the buttons of its page.")
    ),
    413: _TOO_LONG,
    414: _TOO_LONG,
    429: Problem(N_("Too often"), N_("That was too often in a short time. Wait a minute, then try again."), again=True),
    500: Problem(N_("Something went wrong"), N_("The fault is ours and was noted. Try again in a moment."), again=True),
    503: Problem(
        N_("The database cannot be reached"), N_("What was saved is safe. Try again in a few seconds."), again=True
    ),
}

_OTHER_SITE = Problem(
    N_("Refused"), N_("Another site sent this request. If it was meant, do it from a page of Synclight.")
)


def init_app(app: Flask) -> None:
    """Answer every fault with a page, and give every request an id that its log lines and its error page share."""
    app.before_request(_number_request)
    app.after_request(_tell_number)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(CSRFError, form_too_old)
    for kind in _AWAY:
        app.register_error_handler(kind, _no_database)
    app.register_error_handler(Exception, _broken)
    app.add_url_rule(ADDRESS_TOO_LONG, "address_too_long", _address_too_long)


def send_again(sentence: str, status: int) -> Response:
    """A page that holds what a POST brought, with a button that sends it again with a new token.

    Passwords are not held: a form with one is opened and filled in anew.
    """
    secret = any("password" in name for name in request.form)
    kept = [] if secret else [pair for pair in request.form.items(multi=True) if pair[0] != "csrf_token"]
    return _framed("errors/again.html", _frame(), status, sentence=sentence, kept=kept, form_was_secret=secret)


def form_too_old(error: CSRFError) -> Response:
    """The answer to a form whose token is none of its session: a page that sends it again with a new one."""
    log.info("form_token_refused", reason=error.description)
    return send_again(_("This page was open for a long time, so its form is out of date."), 400)


def _address_too_long() -> ResponseReturnValue:
    """What the web server sends people to whose address it does not read: only here it is known who they are."""
    raise RequestURITooLarge


def _number_request() -> None:
    # One greenlet serves many requests of a connection, one after the other.
    structlog.contextvars.clear_contextvars()
    g.request_id = secrets.token_hex(6)
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _tell_number(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id", "")
    return response


def _refused(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None or error.code is None or error.code < 400:
        return error  # A redirect, or an answer that the code made itself.
    try:
        response = _page(error.code, _OTHER_SITE if isinstance(error, FromOtherSite) else None)
    except _AWAY as fault:  # Who is signed in, and so which frame to show, stands in the database.
        return _no_database(fault)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _no_database(error: Exception) -> ResponseReturnValue:
    # The text of the error can hold the statement and its values.
    log.error("database_unreachable", error=type(getattr(error, "orig", error)).__name__, path=request.path)
    response = _page(ServiceUnavailable.code)
    response.headers["Retry-After"] = str(_DATABASE_BACK_AFTER)
    return response


def _broken(error: Exception) -> ResponseReturnValue:
    log.error("request_failed", method=request.method, path=request.path, exc_info=error)
    return _page(InternalServerError.code)


def _page(code: int, problem: Problem | None = None) -> Response:
    problem = problem or _PROBLEMS.get(code) or _PROBLEMS[400 if code < 500 else 500]
    # Where something is broken, as little as possible is asked for.
    frame = "bare.html" if code >= 500 else _frame()
    return _framed("errors/problem.html", frame, code, code=code, problem=problem)


def _frame() -> str:
    """The frame for people who are signed in, else the bare page. Asks the database."""
    return "layout.html" if current_user.is_authenticated else "bare.html"


def _framed(template: str, frame: str, status: int, **values: object) -> Response:
    """A page in its frame, or for htmx what takes the place of #page, whatever else it had asked for."""
    if "HX-Request" not in request.headers:
        return make_response(render_template(template, frame=frame, **values), status)
    # It leaves the frame out, and with it what would have to be asked for.
    response = make_response(render_template(template, frame="layout.html", **values), status)
    response.headers.update({"HX-Retarget": "#page", "HX-Reselect": "#page", "HX-Reswap": "outerHTML"})
    if request.method not in ("GET", "HEAD"):
        # The address of a POST is no place to come back to.
        response.headers["HX-Push-Url"] = "false"
    return response
