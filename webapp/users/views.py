"""Pages about people: signing in and out, one's own profile, and for admins everybody."""

from __future__ import annotations

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from sqlalchemy.orm import Session

from webapp import errors
from webapp.frame import chosen_language, keep_language
from webapp.languages import N_, ngettext, speak
from webapp.languages import gettext as _
from webapp.services import services
from webapp.users import accounts, forms
from webapp.users.access import (
    admin_required,
    begin_session,
    keep_own_session,
    leave_session,
    login_required,
    signed_in_user,
    throttle,
)
from webapp.users.models import User
from webapp.users.passwords import is_password
from webapp.users.queries import list_people

blueprint = Blueprint("users", __name__)

_ONE = "/users/<id:user_id>"

_REFUSED = N_("E-mail address or password is not right. Check both and try again.")
_TOO_OLD = N_("This page was open for a long time. Type your password once more.")
_NOT_PRESENT = N_("This is not your present password.")
_LAST_ADMIN = N_("This is the last admin. Make somebody else an admin first.")


@blueprint.get("/login")
def sign_in_page() -> ResponseReturnValue:
    """The page to sign in; on to the start page for those who are."""
    if current_user.is_authenticated:
        return redirect(_next())
    return _sign_in_page()


@blueprint.post("/login")
def sign_in() -> ResponseReturnValue:
    """Sign in with e-mail address and password, at most so often as webapp.users.throttle allows."""
    email, password = request.form.get("email", ""), request.form.get("password", "")
    address = request.remote_addr or ""
    wait = throttle().count(email, address)
    if wait is not None:
        return _waiting(_sign_in_page(_too_often(wait), 429), wait)
    with services().database.unit_of_work() as work:
        user = accounts.sign_in(work, email, password)
        work.commit()
    if user is None:
        return _sign_in_page(_(_REFUSED), 422)
    throttle().give_back(email, address)
    begin_session(user)
    return redirect(_next(), 303)


@blueprint.post("/logout")
@login_required
def sign_out() -> ResponseReturnValue:
    """End this session and close the person's open sockets; those of other sessions come back by themselves."""
    with services().database.unit_of_work() as work:
        leave_session(work, signed_in_user())
        work.commit()
    response = redirect(url_for("users.sign_in_page"), 303)
    # What was typed and not saved is kept in the browser; the next person at this machine must not find it.
    response.headers["Clear-Site-Data"] = '"storage"'
    return response


@blueprint.errorhandler(CSRFError)
def form_too_old(error: CSRFError) -> ResponseReturnValue:
    """The page to sign in may well have been open since yesterday: only the password is asked for again."""
    if request.endpoint == "users.sign_in":
        return _sign_in_page(_(_TOO_OLD), 400)
    return errors.form_too_old(error)


@blueprint.get("/me")
@login_required
def profile() -> ResponseReturnValue:
    """One's own name and password."""
    return _profile(signed_in_user())


@blueprint.post("/me/name")
@login_required
def change_own_name() -> ResponseReturnValue:
    """Change one's own name."""
    checked = forms.check_name(request.form)
    if checked.errors:
        return _profile(signed_in_user(), checked, 422)
    with services().database.unit_of_work() as work:
        user = _person(work.session, signed_in_user().id)
        accounts.rename_user(work, user, checked.values["name"], by=user.id)
        work.commit()
    return _done(_("Your name was changed."), "users.profile")


@blueprint.post("/me/language")
@login_required
def change_own_language() -> ResponseReturnValue:
    """Choose the language of one's screens, in every browser."""
    checked = forms.check_language(request.form)
    if checked.errors:
        return _profile(signed_in_user(), checked, 422)
    code = checked.values["language"]
    with services().database.unit_of_work() as work:
        accounts.choose_language(_person(work.session, signed_in_user().id), code)
        work.commit()
    # The page to sign in has it too, and the answer is in it already.
    speak(chosen_language(code))
    flash(_("Your language was changed."), "ok")
    response = redirect(url_for("users.profile"), 303)
    keep_language(response, code)
    return response


@blueprint.post("/me/password")
@login_required
def change_own_password() -> ResponseReturnValue:
    """Change one's own password, which ends one's other sessions. Asks for the present one, and counts the tries."""
    user = signed_in_user()
    address = request.remote_addr or ""
    wait = throttle().count(user.email, address)
    if wait is not None:
        checked = forms.Checked(errors={"present_password": _too_often(wait)})
        return _waiting(_profile(user, checked, 429), wait)
    checked = forms.check_password(request.form, user.email)
    with services().database.unit_of_work() as work:
        # Locked, so that the present one is present still when it is replaced.
        user = _person(work.session, user.id, lock=True)
        if not is_password(user.password_hash, request.form.get("present_password", "")):
            checked.errors["present_password"] = _(_NOT_PRESENT)
        else:
            throttle().give_back(user.email, address)
        if checked.errors:
            return _profile(user, checked, 422)
        accounts.set_password(work, user, checked.values["password"], by=user.id)
        work.commit()
    keep_own_session(user)
    return _done(_("Your password was changed. Everywhere else you are signed out."), "users.profile")


@blueprint.get("/users")
@admin_required
def people_page() -> ResponseReturnValue:
    """Everybody who uses the app."""
    with services().database.reading() as session:
        return render_template("users/people.html", people=list_people(session), roles=forms.ROLES)


@blueprint.get("/users/new")
@admin_required
def new_person_page() -> ResponseReturnValue:
    """The form for a person to add."""
    return _new_person(forms.Checked())


@blueprint.post("/users/new")
@admin_required
def add_person() -> ResponseReturnValue:
    """Add a person."""
    checked = forms.check_person(request.form)
    if checked.errors:
        return _new_person(checked, 422)
    values = checked.values
    try:
        with services().database.unit_of_work() as work:
            accounts.create_user(
                work, values["email"], values["name"], values["role"], values["password"], by=signed_in_user().id
            )
            work.commit()
    except accounts.EmailTaken:
        checked.errors["email"] = _("Somebody has this e-mail address already.")
        return _new_person(checked, 422)
    return _done(_("%(name)s was added. Tell them their password yourself.", name=values["name"]), "users.people_page")


@blueprint.get(_ONE)
@admin_required
def person_page(user_id: int) -> ResponseReturnValue:
    """One person, with what an admin can change."""
    with services().database.reading() as session:
        return _person_page(_person(session, user_id))


@blueprint.post(f"{_ONE}/role")
@admin_required
def change_role(user_id: int) -> ResponseReturnValue:
    """Give a person another role. Their sessions end."""
    checked = forms.check_role(request.form)
    with services().database.unit_of_work() as work:
        user = _person(work.session, user_id)
        if not checked.errors:
            try:
                accounts.change_role(work, user, checked.values["role"], by=signed_in_user().id)
            except accounts.LastAdmin:
                checked.errors["role"] = _(_LAST_ADMIN)
        if checked.errors:
            return _person_page(user, checked, 422)
        work.commit()
    return _done(
        _("%(name)s now has the role %(role)s.", name=user.name, role=_(forms.ROLES[user.role])), "users.people_page"
    )


@blueprint.post(f"{_ONE}/password")
@admin_required
def set_password(user_id: int) -> ResponseReturnValue:
    """Give a person another password. Their sessions end."""
    with services().database.unit_of_work() as work:
        user = _person(work.session, user_id)
        checked = forms.check_password(request.form, user.email)
        if checked.errors:
            return _person_page(user, checked, 422)
        accounts.set_password(work, user, checked.values["password"], by=signed_in_user().id)
        work.commit()
    return _done(_("The password of %(name)s was set. Tell it to them yourself.", name=user.name), "users.people_page")


@blueprint.post(f"{_ONE}/disable")
@admin_required
def disable(user_id: int) -> ResponseReturnValue:
    """Keep a person out. Their sessions end."""
    with services().database.unit_of_work() as work:
        user = _person(work.session, user_id)
        try:
            accounts.disable_user(work, user, by=signed_in_user().id)
        except accounts.LastAdmin:
            return _person_page(user, forms.Checked(errors={"active": _(_LAST_ADMIN)}), 422)
        work.commit()
    return _done(_("%(name)s is disabled and cannot sign in.", name=user.name), "users.people_page")


@blueprint.post(f"{_ONE}/enable")
@admin_required
def enable(user_id: int) -> ResponseReturnValue:
    """Let a disabled person sign in again."""
    with services().database.unit_of_work() as work:
        user = _person(work.session, user_id)
        accounts.enable_user(work, user, by=signed_in_user().id)
        work.commit()
    return _done(_("%(name)s can sign in again.", name=user.name), "users.people_page")


def _person(session: Session, user_id: int, *, lock: bool = False) -> User:
    user = session.get(User, user_id, with_for_update=lock or None)
    if user is None:
        abort(404)
    return user


def _next() -> str:
    return forms.own_path(request.values.get("next", "")) or "/"


def _sign_in_page(error: str = "", status: int = 200) -> ResponseReturnValue:
    return (
        render_template(
            "users/sign_in.html",
            error=error,
            email=request.form.get("email", ""),
            next=forms.own_path(request.values.get("next", "")) or "",
        ),
        status,
    )


def _too_often(seconds: int) -> str:
    if seconds < 100:
        return ngettext(
            "Too many tries with a wrong password. Try again in %(num)s second.",
            "Too many tries with a wrong password. Try again in %(num)s seconds.",
            seconds,
        )
    return ngettext(
        "Too many tries with a wrong password. Try again in %(num)s minute.",
        "Too many tries with a wrong password. Try again in %(num)s minutes.",
        round(seconds / 60),
    )


def _waiting(page: ResponseReturnValue, seconds: int) -> ResponseReturnValue:
    response = make_response(page)
    response.headers["Retry-After"] = str(seconds)
    return response


def _profile(user: User, checked: forms.Checked | None = None, status: int = 200) -> ResponseReturnValue:
    return render_template("users/profile.html", user=user, form=checked or forms.Checked(), roles=forms.ROLES), status


def _new_person(checked: forms.Checked, status: int = 200) -> ResponseReturnValue:
    return render_template("users/new.html", form=checked, roles=forms.ROLES), status


def _person_page(user: User, checked: forms.Checked | None = None, status: int = 200) -> ResponseReturnValue:
    return render_template("users/person.html", user=user, form=checked or forms.Checked(), roles=forms.ROLES), status


def _done(message: str, endpoint: str) -> ResponseReturnValue:
    flash(message, "ok")
    return redirect(url_for(endpoint), 303)
