"""What a person asks of a record's synchronisation: resync, choose between two values, restore or unlink.

The same for all kinds of records. Each action is a POST that leads back to the record's page.
"""

from __future__ import annotations

from typing import cast

from flask import Blueprint, abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.connection.queries import main_connection
from webapp.languages import gettext as _
from webapp.modules import Module
from webapp.screens import is_as_shown, say_what_follows
from webapp.services import services
from webapp.status import Reason
from webapp.sync.conflicts import Side, choose, lost_values, open_conflicts
from webapp.sync.duplicates import can_be_one, make_one
from webapp.sync.models import Synced
from webapp.sync.records import find_record
from webapp.sync.resync import restore, resync, unlink
from webapp.sync.saving import STAYS, send_saved
from webapp.sync.sending import have_sent, may_have_been_made
from webapp.users.access import admin_required, login_required, signed_in_user

blueprint = Blueprint("sync", __name__, url_prefix="/<module:module>/<id:record_id>")


@blueprint.post("/resync")
@admin_required
def resync_record(module: Module, record_id: int) -> ResponseReturnValue:
    """Have a record compared with Sage again. Twice in a row, or while it runs, it goes round once more."""
    with services().database.unit_of_work() as work:
        record = _locked(work.session, module, record_id)
        resync(work, [record.key], signed_in_user().id)
        at_once = _("It is compared with Sage now. This page shows the result by itself.")
        say_what_follows(record, at_once)
    return _back(module, record_id)


@blueprint.post("/choose")
@login_required
def choose_values(module: Module, record_id: int) -> ResponseReturnValue:
    """Settle a conflict: the form has `ours` or `theirs` for each field that both sides changed.

    What has changed since the page was drawn, as Sage's value may, is looked at first (webapp.screens.is_as_shown).
    """
    with services().database.unit_of_work() as work:
        record = _locked(work.session, module, record_id)
        fields = [conflict.field for conflict in open_conflicts(work.session, record)]
        choices = {field: request.form.get(field) for field in fields}
        if record.sync_reason != Reason.CONFLICT or not fields:
            flash(_("There is nothing to choose any more."), "info")
        elif not set(choices.values()) <= {"ours", "theirs"}:
            flash(_("Choose one of the two values for each field, then save the choice."), "error")
        elif not is_as_shown(record):
            flash(_("It changed once more meanwhile. Look at the values, then choose again."), "info")
        else:
            user_id = signed_in_user().id
            try:
                choose(work, record, cast("dict[str, Side]", choices), user_id)
                have_sent(work, record, main_connection(work.session), cause="choice", user_id=user_id)
                work.commit()
                at_once = _("Your choice is saved and goes to Sage now.")
                say_what_follows(record, at_once, _("Your choice is saved."))
            except IntegrityError:
                # The code is the only value that two companies or products cannot share, and the number that two orders cannot.
                flash(
                    _("Another one here has the value that is in Sage. Change that one first, or keep yours."), "error"
                )
    return _back(module, record_id)


@blueprint.post("/take-back")
@login_required
def take_back(module: Module, record_id: int) -> ResponseReturnValue:
    """Give a record the value that lost a conflict: the form names the conflict. It is saved, and sent, as an edit is."""
    with services().database.unit_of_work() as work:
        record = _locked(work.session, module, record_id)
        lost = {str(conflict.id): (conflict.field, value) for conflict, value in lost_values(work.session, record)}
        field, value = lost.get(request.form.get("conflict", ""), ("", ""))
        if not field or record.sync_reason == Reason.CONFLICT:
            flash(_("This value cannot be taken back any more."), "info")
            return _back(module, record_id)
        record.take(field, value)
        main, stays = main_connection(work.session), record.sync_reason in STAYS
        try:
            send_saved(work, record, [field], main, user_id=signed_in_user().id, cause="edit", stays=stays)
            work.commit()
            at_once = _("The value is back, and goes to Sage.")
            say_what_follows(record, at_once, _("The value is back."))
        except IntegrityError:
            flash(_("Another one here has this value by now. Change that one first."), "error")
    return _back(module, record_id)


@blueprint.post("/same")
@admin_required
def make_one_of_two(module: Module, record_id: int) -> ResponseReturnValue:
    """Have a record be the same as the one that the form names as `other`."""
    with services().database.unit_of_work() as work:
        number = request.form.get("other", "")
        # In the order in which everybody locks many records, so that two never wait for each other.
        keys = sorted({f"{module.noun}:{record_id}", f"{module.noun}:{number}"}, key=lambda key: (len(key), key))
        found = [find_record(work.session, key, lock=True) for key in keys]
        in_doubt = (Reason.POSSIBLE_DUPLICATE, Reason.UNLINKED)
        two = [one for one in found if one is not None and one.sync_reason in in_doubt]
        if len(two) != 2 or not can_be_one(two[0], two[1]):
            flash(_("There is no doubt about these two any more."), "info")
            return _back(module, record_id)
        if any(may_have_been_made(work.session, one) for one in two):
            flash(
                _("Sage has not said yet whether it made one of its own for this record. Try again in ten minutes."),
                "info",
            )
            return _back(module, record_id)
        stays = make_one(work, two[0], two[1], main_connection(work.session), signed_in_user().id)
        work.commit()
        flash(_("They are one now. It is compared with Sage."), "ok")
    return _back(module, stays.id)


@blueprint.post("/restore")
@admin_required
def restore_in_sage(module: Module, record_id: int) -> ResponseReturnValue:
    """Make a record that was deleted in Sage there anew."""
    with services().database.unit_of_work() as work:
        record = _deleted_in_sage(work.session, module, record_id)
        restore(work, record, main_connection(work.session), signed_in_user().id)
        work.commit()
    return _back(module, record_id)


@blueprint.post("/unlink")
@admin_required
def unlink_here(module: Module, record_id: int) -> ResponseReturnValue:
    """Keep a record that was deleted in Sage here only."""
    with services().database.unit_of_work() as work:
        unlink(work, _deleted_in_sage(work.session, module, record_id), signed_in_user().id)
        work.commit()
    return _back(module, record_id)


def _deleted_in_sage(session: Session, module: Module, record_id: int) -> Synced:
    """The record, of which somebody may have decided already what the page still asked."""
    record = _locked(session, module, record_id)
    if record.sync_reason != Reason.DELETED_IN_SAGE:
        flash(_("There is nothing to choose any more."), "info")
    return record


def _locked(session: Session, module: Module, record_id: int) -> Synced:
    record = find_record(session, f"{module.noun}:{record_id}", lock=True)
    if record is None:
        abort(404)
    return record


def _back(module: Module, record_id: int) -> ResponseReturnValue:
    return redirect(url_for(f"{module.name}.record_page", record_id=record_id), 303)
