"""The page of the connection to Sage: how it does, for everybody; to pause it, to fetch and to authorise, for admins."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from webapp.companies.models import Company
from webapp.connection.authorising import Errand
from webapp.connection.changes import add_connection, choose_business, end_connection
from webapp.connection.circuit import change_state
from webapp.connection.directions import CHOICES, FIELDS, read_directions
from webapp.connection.models import CONNECTED, PAUSED, Connection
from webapp.connection.queries import main_connection
from webapp.connection.sentences import PROBLEMS
from webapp.db import UnitOfWork
from webapp.services import services
from webapp.sync.details import FIELD_NAMES
from webapp.sync.queries import read_surroundings
from webapp.users.access import admin_required, login_required, signed_in_user
from webapp.zone import glance

blueprint = Blueprint("connection", __name__, url_prefix="/connection")

# Where the session keeps an errand to Sage.
_ERRAND = "sage_errand"


@blueprint.get("")
@login_required
def page() -> ResponseReturnValue:
    """How the connection does."""
    with services().database.unit_of_work() as work:
        connection = main_connection(work.session)
        around = read_surroundings(work.session, Company.module, glance())
    return render_template(
        "connection/page.html",
        connection=connection,
        around=around,
        direction_fields=FIELDS,
        direction_choices=CHOICES,
        field_names=FIELD_NAMES,
        problem=PROBLEMS.get(connection.problem or "") if connection else None,
    )


@blueprint.post("/pause")
@admin_required
def pause() -> ResponseReturnValue:
    """Stop sending and fetching. What is saved meanwhile waits."""
    with services().database.unit_of_work() as work:
        connection = _connection(work)
        if connection.state == CONNECTED:
            change_state(work, connection, PAUSED)
            work.commit()
            flash("Synchronisation is paused. What people save is kept and sent when you resume it.", "ok")
    return redirect(url_for("connection.page"), 303)


@blueprint.post("/resume")
@admin_required
def resume() -> ResponseReturnValue:
    """Go on after a pause: send what waits, and fetch what changed in Sage."""
    with services().database.unit_of_work() as work:
        connection = _connection(work)
        if connection.state == PAUSED:
            change_state(work, connection, CONNECTED)
            work.pushes.add(connection.id)
            work.commit()
            services().jobs.pull(connection.id, signed_in_user().id)
            flash("Synchronisation goes on: what waited is sent now.", "ok")
    return redirect(url_for("connection.page"), 303)


@blueprint.post("/fetch")
@admin_required
def fetch() -> ResponseReturnValue:
    """Fetch what changed in Sage now, without waiting for the next run."""
    with services().database.unit_of_work() as work:
        services().jobs.pull(_connection(work).id, signed_in_user().id)
    flash("Changes are fetched from Sage now.", "ok")
    return redirect(url_for("connection.page"), 303)


@blueprint.post("/new")
@admin_required
def add() -> ResponseReturnValue:
    """Add the connection where there is none, so that it can be authorised."""
    with services().database.unit_of_work() as work:
        if main_connection(work.session) is None:
            add_connection(work, services().settings)
            work.commit()
    return redirect(url_for("connection.page"), 303)


@blueprint.post("/choose")
@admin_required
def choose() -> ResponseReturnValue:
    """Begin with the chosen company in Sage: read its customers, then send what waits."""
    with services().database.unit_of_work() as work:
        connection = _connection(work, lock=True)
        if choose_business(work, connection, request.form.get("business", "")):
            services().jobs.pull(connection.id, signed_in_user().id)
            flash(f"Connected to {connection.business_name}. Its customers are read now.", "ok")
        else:
            flash("Choose one of the companies in Sage, then start.", "error")
    return redirect(url_for("connection.page"), 303)


@blueprint.post("/directions")
@admin_required
def set_directions() -> ResponseReturnValue:
    """Say which side has the word on which field. It counts from the next comparison of each record on."""
    with services().database.unit_of_work() as work:
        connection = _connection(work, lock=True)
        connection.directions = read_directions(request.form)
        work.touch(connection)
        work.commit()
    flash("Saved. It counts from the next change of each record on.", "ok")
    return redirect(url_for("connection.page"), 303)


@blueprint.post("/disconnect")
@admin_required
def disconnect() -> ResponseReturnValue:
    """End the access to Sage. What people save meanwhile waits until it is authorised again."""
    with services().database.unit_of_work() as work:
        connection = _connection(work, lock=True)
        end_connection(work, connection)
        services().jobs.disconnect(connection.id)
        flash("Disconnected: nothing is sent to Sage or read from it until an admin connects it again.", "ok")
    return redirect(url_for("connection.page"), 303)


@blueprint.get("/authorise")
@admin_required
def authorise() -> ResponseReturnValue:
    """Go to Sage's page of consent.

    A link and no form: a form may lead to our own addresses only (Content-Security-Policy, form-action). Whoever lures
    an admin here gains nothing, because only a consent that the admin gives in Sage changes anything.
    """
    with services().database.unit_of_work() as work:
        errand = Errand.begin(_connection(work).id)
    session[_ERRAND] = errand.kept()
    return redirect(errand.address(services().settings, _callback()))


@blueprint.get("/callback")
@admin_required
def callback() -> ResponseReturnValue:
    """Come back from Sage. The code goes to a worker; the page shows by itself when the connection works."""
    errand = Errand.read(session.pop(_ERRAND, None))
    if errand is None or not errand.is_answered_by(request.args.get("state", "")):
        flash("This answer from Sage belongs to no authorisation that you began here. Begin once more.", "error")
    elif "code" not in request.args:
        flash("Sage was not authorised: the access was refused there.", "error")
    else:
        services().jobs.authorise(errand.connection_id, request.args["code"], _callback(), errand.verifier)
        flash("Sage is being connected. This page shows it by itself when it works.", "ok")
    return redirect(url_for("connection.page"), 303)


def _callback() -> str:
    return f"{services().settings.origin}{url_for('connection.callback')}"


def _connection(work: UnitOfWork, *, lock: bool = False) -> Connection:
    connection = main_connection(work.session, lock=lock)
    if connection is None:
        abort(404)
    return connection
