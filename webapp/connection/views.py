"""The page of the connection to Sage: what it is and how it does, for everybody; to pause it and to fetch, for admins."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from webapp.companies.models import Company
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, PAUSED, Connection
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.services import services
from webapp.sync.queries import read_surroundings
from webapp.users.access import admin_required, login_required, signed_in_user
from webapp.zone import glance

blueprint = Blueprint("connection", __name__, url_prefix="/connection")


@blueprint.get("")
@login_required
def page() -> ResponseReturnValue:
    """How the connection does."""
    with services().database.unit_of_work() as work:
        connection = main_connection(work.session)
        around = read_surroundings(work.session, Company.module, glance())
    return render_template("connection/page.html", connection=connection, around=around)


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


def _connection(work: UnitOfWork) -> Connection:
    connection = main_connection(work.session)
    if connection is None:
        abort(404)
    return connection
