"""Who is signed in, and what that allows.

A session is a signed cookie that names the person, the person's session epoch, its own id and its beginning. At each
request the database says whether it still holds: it ends when the person signs out, is disabled, gets another role or
password, after 12 hours without a request, and 14 days after its beginning.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import flask_login
from flask import Flask, abort, current_app, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user

from webapp.db import Database, UnitOfWork
from webapp.errors import send_again
from webapp.languages import gettext as _
from webapp.services import services
from webapp.users.accounts import end_session
from webapp.users.models import User
from webapp.users.queries import find_signed_in
from webapp.users.throttle import Throttle

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=14)

# How stale the time in the cookie may be: writing it with each response would let two responses overwrite each other.
_STAMP_AFTER = timedelta(minutes=5)

P = ParamSpec("P")
R = TypeVar("R")


def init_app(app: Flask) -> None:
    """Let the app know who is signed in, in views, templates and sockets."""
    app.config.update(PERMANENT_SESSION_LIFETIME=IDLE, SESSION_REFRESH_EACH_REQUEST=False)
    manager = LoginManager()
    # The database decides; a phone that changes its network stays signed in.
    manager.session_protection = None
    manager.user_loader(lambda user_id: _holder(services().database, session))
    manager.unauthorized_handler(_sign_in_first)
    manager.init_app(app, add_context_processor=False)
    # The library's own processor asks the database for every template, also for the page that says it is away.
    app.context_processor(lambda: {"current_user": current_user})
    app.before_request(_keep_session)
    app.extensions["throttle"] = Throttle(app.extensions["synclight"].redis)


def throttle() -> Throttle:
    """The counters of tries to sign in."""
    return cast(Throttle, current_app.extensions["throttle"])


def login_required(view: Callable[P, R]) -> Callable[P, R]:
    """Lets only people through who are signed in; sends others to sign in first."""
    return cast(Callable[P, R], flask_login.login_required(view))


def admin_required(view: Callable[P, R]) -> Callable[P, R]:
    """Lets only admins through; others who are signed in get the page that says so (403)."""

    @login_required
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_admin:
            abort(403)
        return view(*args, **kwargs)

    return guarded


def signed_in_user() -> User:
    """The person of this request, typed; for views behind `login_required`."""
    return cast(User, current_user._get_current_object())


def user_of_socket() -> User | None:
    """The person of the socket whose event is handled now, None where the session of its handshake no longer holds.

    Reads the database at each call: a socket outlives many requests, and what it may see can change meanwhile.
    """
    held = current_app.session_interface.open_session(current_app, request)
    return _holder(services().database, held or {})


def begin_session(user: User) -> None:
    """Make the session of this request one of `user`. Nothing of the session before it stays (session fixation)."""
    session.clear()
    flask_login.login_user(user)
    now = int(time.time())
    session.update(epoch=user.session_epoch, id=secrets.token_urlsafe(16), began=now, seen=now)
    session.permanent = True


def keep_own_session(user: User) -> None:
    """Let the session of this request outlive the change of its owner's password, which ended all others."""
    session["epoch"] = user.session_epoch


def leave_session(work: UnitOfWork, user: User) -> None:
    """End the session of this request, so that a copy of its cookie is refused too."""
    ends_at = datetime.fromtimestamp(session["began"], UTC) + LONGEST
    end_session(work, user, session["id"], ends_at)
    session.clear()


def _holder(database: Database, held: Mapping[str, Any]) -> User | None:
    """The person whose session `held` is, if it still holds. Its signature was checked, and with it the idle time."""
    if "id" not in held or time.time() - held["began"] > LONGEST.total_seconds():
        return None
    return find_signed_in(database, int(held["_user_id"]), held["epoch"], held["id"])


def _keep_session() -> None:
    """A request is a sign of life: stamp the cookie anew, because the idle time is measured from its last stamp."""
    if "id" in session and time.time() - session["seen"] > _STAMP_AFTER.total_seconds():
        session["seen"] = int(time.time())


def _sign_in_first() -> ResponseReturnValue:
    if request.method not in ("GET", "HEAD"):
        # What they typed must not be lost: the page holds it until they have signed in.
        return send_again(_("You were signed out. Sign in again in another tab, then send this again."), 401)
    target = url_for("users.sign_in_page", next=request.full_path.rstrip("?"))
    if "HX-Request" in request.headers:
        # The page to sign in has no frame, so that it cannot be swapped into one.
        return "", 401, {"HX-Redirect": target}
    return redirect(target)
