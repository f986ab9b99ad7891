"""The pages of the connections to Sage: how each does, for everybody; to make, pause, fetch and end one, for admins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.connection.authorising import AuthorisationRequest
from webapp.connection.changes import (
    add_connection,
    businesses_of_others,
    can_be_removed,
    choose_business,
    end_connection,
    have_all_compared,
    remove_connection,
)
from webapp.connection.circuit import change_state
from webapp.connection.directions import CHOICES, FIELDS, read_directions
from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, QUOTES, Connection
from webapp.connection.products import PRODUCTS
from webapp.connection.queries import compared_at, counts_of, drift_of, last_audit_events, last_runs, list_connections
from webapp.connection.sentences import AUDITED, PROBLEMS, drift_sentence, run_sentence, state_text
from webapp.db import UnitOfWork
from webapp.languages import gettext as _
from webapp.modules import MODULES
from webapp.services import services
from webapp.status import FILTER_TEXT
from webapp.sync.queries import read_page_context
from webapp.users.access import admin_required, login_required, signed_in_user
from webapp.users.accounts import audit
from webapp.zone import current_reader

blueprint = Blueprint("connection", __name__, url_prefix="/connection")

_ONE = "/<id:connection_id>"

# Where the session keeps who was sent to Sage, and why.
_ASKED = "sage_authorisation"


@blueprint.get("")
@login_required
def page() -> ResponseReturnValue:
    """All connections, each with its state; the page of the only one where there is one."""
    with services().database.snapshot() as db:
        connections = list_connections(db)
        if len(connections) == 1:
            return _page_of(db, connections[0], among=1)
        around = read_page_context(db, Company.module, current_reader())
    return render_template("connection/list.html", around=around)


@blueprint.get(_ONE)
@login_required
def one_page(connection_id: int) -> ResponseReturnValue:
    """How a connection does: its state, what waits, what was read, and what an admin can do about it."""
    with services().database.snapshot() as db:
        connection = _connection(db, connection_id)
        return _page_of(db, connection, among=len(list_connections(db)))


def _page_of(db: Session, connection: Connection, among: int) -> ResponseReturnValue:
    reader = current_reader()
    taken = businesses_of_others(db, connection)
    shown: dict[str, Any] = {
        "connection": connection,
        "among": among,
        "around": read_page_context(db, Company.module, reader, connection.id),
        "taken": taken,
        "counts": counts_of(db, connection),
        "statuses": FILTER_TEXT,
        "counted_modules": MODULES,
        "compared_at": compared_at(db, connection),
        "runs": [
            (run, run_sentence(run), drift_sentence(drift_of(db, run)) if run.drifted else "")
            for run in last_runs(db, connection)
        ],
        "audit_trail": _audit_trail(db, connection) if signed_in_user().is_admin else (),
        "can_be_removed": signed_in_user().is_admin and can_be_removed(db, connection),
    }
    return render_template(
        "connection/page.html",
        **shown,
        direction_fields=FIELDS,
        direction_choices=CHOICES,
        problem=_(PROBLEMS[connection.problem]) if connection.problem in PROBLEMS else None,
        product=PRODUCTS[connection.product],
    )


@blueprint.get("/new")
@admin_required
def new_page() -> ResponseReturnValue:
    """The first step to a further company in Sage: which product it is in."""
    with services().database.reading() as db:
        among = len(list_connections(db))
    return render_template("connection/new.html", products=PRODUCTS, among=among)


@blueprint.post("/new")
@admin_required
def add() -> ResponseReturnValue:
    """Add a connection that is to be authorised next. One that was begun before and has no company in Sage yet is taken."""
    product = request.form.get("product", "")
    if product not in PRODUCTS:
        flash(_("Choose one of the Sage products, then continue."), "error")
        return redirect(url_for("connection.new_page"), 303)
    with services().database.unit_of_work() as work:
        connection = add_connection(work, services().settings, product, by=signed_in_user().id)
        work.commit()
        return _back(connection.id)


@blueprint.post(f"{_ONE}/pause")
@admin_required
def pause(connection_id: int) -> ResponseReturnValue:
    """Stop sending and fetching. What is saved meanwhile waits."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        if connection.state == CONNECTED:
            _note(work, "connection_paused", connection)
            change_state(work, connection, PAUSED)
            flash(_("Synchronisation is paused. What people save is kept and sent when you resume it."), "ok")
        else:
            _say_changed(connection)
    return _back(connection_id)


@blueprint.post(f"{_ONE}/resume")
@admin_required
def resume(connection_id: int) -> ResponseReturnValue:
    """Go on after a pause: send what waits, and fetch what changed in Sage."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        if connection.state == PAUSED:
            _note(work, "connection_resumed", connection)
            change_state(work, connection, CONNECTED)
            work.pushes.add(connection.id)
            work.commit()
            services().jobs.pull(connection.id, signed_in_user().id)
            _say_begun(_("Synchronisation goes on: what waited is sent now."))
        else:
            _say_changed(connection)
    return _back(connection_id)


@blueprint.post(f"{_ONE}/fetch")
@admin_required
def fetch(connection_id: int) -> ResponseReturnValue:
    """Fetch what changed in Sage now, without waiting for the next run."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id)
        if connection.state in (CONNECTING, PAUSED):
            _say_changed(connection)
        else:
            services().jobs.pull(connection.id, signed_in_user().id)
            _say_begun(_("Changes are fetched from Sage now."))
    return _back(connection_id)


@blueprint.post(f"{_ONE}/compare")
@admin_required
def compare(connection_id: int) -> ResponseReturnValue:
    """Compare all records with all of Sage now, as happens once a day by itself."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        if connection.state == CONNECTED:
            have_all_compared(work, connection)
            _note(work, "all_compared", connection)
            work.commit()
            services().jobs.pull(connection_id, signed_in_user().id)
            _say_begun(
                _("Everything is compared with Sage now. What is out of step is put right, or left to a person.")
            )
        else:
            _say_changed(connection)
    return _back(connection_id)


@blueprint.post(f"{_ONE}/choose")
@admin_required
def choose(connection_id: int) -> ResponseReturnValue:
    """Begin with the chosen company in Sage: read its customers, then send what waits.

    What orders become there is chosen with it; without a word on that they are quotes.
    """
    business_id, orders_as = request.form.get("business", ""), request.form.get("orders_as", QUOTES)
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        if orders_as not in PRODUCTS[connection.product].documents:
            flash(_("Choose what orders become in Sage, then start."), "error")
            return _back(connection_id)
        try:
            is_chosen = choose_business(work, connection, business_id, orders_as, by=signed_in_user().id)
        except IntegrityError:
            # Another connection took it at this very moment.
            is_chosen = False
        if is_chosen:
            services().jobs.pull(connection_id, signed_in_user().id)
            flash(_("Connected to %(company)s. Its customers are read now.", company=connection.business_name), "ok")
        else:
            flash(_("Choose one of the companies in Sage, then start."), "error")
    return _back(connection_id)


@blueprint.post(f"{_ONE}/directions")
@admin_required
def set_directions(connection_id: int) -> ResponseReturnValue:
    """Say which side has the word on which field. It counts from the next comparison of each record on."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        connection.directions = read_directions(request.form)
        _note(work, "directions_set", connection, directions=connection.directions)
        work.touch(connection)
        work.commit()
    flash(_("Saved. It counts from the next change of each record on."), "ok")
    return _back(connection_id)


@blueprint.post(f"{_ONE}/disconnect")
@admin_required
def disconnect(connection_id: int) -> ResponseReturnValue:
    """End the access to Sage. What people save meanwhile waits until it is authorised again."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        _note(work, "connection_ended", connection)
        end_connection(work, connection)
        services().jobs.disconnect(connection_id)
        flash(_("Disconnected: nothing is sent to Sage or read from it until an admin connects it again."), "ok")
    return _back(connection_id)


@blueprint.post(f"{_ONE}/remove")
@admin_required
def remove(connection_id: int) -> ResponseReturnValue:
    """Take away a connection that never had a record."""
    with services().database.unit_of_work() as work:
        connection = _connection(work.session, connection_id, lock=True)
        try:
            if can_be_removed(work.session, connection):
                _note(work, "connection_removed", connection)
                remove_connection(work, connection)
                work.commit()
                flash(_("The connection was removed."), "ok")
                return redirect(url_for("connection.page"), 303)
        except IntegrityError:
            # Somebody saved a record of it at this very moment.
            pass
    flash(_("This connection cannot be removed: records belong to it, or it is still connected."), "error")
    return _back(connection_id)


@blueprint.get(f"{_ONE}/authorise")
@admin_required
def authorise(connection_id: int) -> ResponseReturnValue:
    """Go to Sage's page of consent.

    A link and no form: a form may lead to our own addresses only (Content-Security-Policy, form-action). Whoever lures
    an admin here gains nothing, because only a consent that the admin gives in Sage changes anything.
    """
    with services().database.reading() as db:
        connection = _connection(db, connection_id)
        asked = AuthorisationRequest.begin(connection.id)
        address = asked.address(PRODUCTS[connection.product], services().settings, _callback())
    session[_ASKED] = asked.kept()
    return redirect(address)


@blueprint.get("/callback")
@admin_required
def callback() -> ResponseReturnValue:
    """Come back from Sage. The code goes to a worker; the page shows by itself when the connection works."""
    asked = AuthorisationRequest.read(session.pop(_ASKED, None))
    if asked is None or not asked.is_answered_by(request.args.get("state", "")):
        flash(_("This answer from Sage belongs to no authorisation that you began here. Begin once more."), "error")
        return redirect(url_for("connection.page"), 303)
    if not request.args.get("code"):
        flash(_("Sage was not authorised: the access was refused there."), "error")
    else:
        with services().database.unit_of_work() as work:
            _note(work, "connection_authorised", _connection(work.session, asked.connection_id))
            work.commit()
        if services().jobs.authorise(asked.connection_id, request.args["code"], _callback(), asked.verifier):
            flash(_("Sage is being connected. This page shows it by itself when it works."), "ok")
        else:
            flash(_("The answer from Sage could not be passed on to a worker of Synclight. Begin once more."), "error")
    return _back(asked.connection_id)


def _audit_trail(db: Session, connection: Connection) -> list[tuple[str, str | None, datetime]]:
    """What admins did: each as a sentence, with a name and a time."""
    return [(_(AUDITED[event.action]), name, event.at) for event, name in last_audit_events(db, connection)]


def _say_changed(connection: Connection) -> None:
    """Tell an admin whose page was drawn before why nothing was done."""
    state = state_text(connection.state, 1, 1, connection.business_name)
    flash(
        _("Nothing was done: the connection has changed meanwhile. It is in the state: %(state)s.", state=state), "info"
    )


def _say_begun(sentence: str) -> None:
    """Tell an admin what begins now; while no worker lives, that it waits for one."""
    if current_app.extensions["pulse"].stands_still():
        flash(_("This begins as soon as a worker of Synclight runs again."), "info")
    else:
        flash(sentence, "ok")


def _note(work: UnitOfWork, action: str, connection: Connection, **data: Any) -> None:
    """Write down what the admin does, together with what comes of it."""
    audit(work, action, connection, signed_in_user().id, data)


def _callback() -> str:
    return f"{services().settings.origin}{url_for('connection.callback')}"


def _back(connection_id: int) -> ResponseReturnValue:
    return redirect(url_for("connection.one_page", connection_id=connection_id), 303)


def _connection(db: Session, connection_id: int, *, lock: bool = False) -> Connection:
    connection = db.get(Connection, connection_id, with_for_update=lock or None)
    if connection is None:
        abort(404)
    return connection
