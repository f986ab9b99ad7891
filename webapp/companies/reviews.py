"""What a person answers where a company waits for a choice: which value to keep, or what becomes of one deleted in Sage."""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.companies.changes import have_sent
from webapp.companies.models import Company
from webapp.connection.queries import main_connection
from webapp.services import services
from webapp.status import Reason
from webapp.sync.conflicts import choose, open_conflicts
from webapp.sync.resync import restore, unlink
from webapp.users.access import admin_required, login_required, signed_in_user

blueprint = Blueprint("reviews", __name__, url_prefix="/companies/<int(max=9223372036854775807):company_id>")


@blueprint.post("/choose")
@login_required
def choose_values(company_id: int) -> ResponseReturnValue:
    """Settle a conflict: the form has `ours` or `theirs` for each field that both sides changed."""
    with services().database.unit_of_work() as work:
        company = _locked(work.session, company_id)
        fields = [conflict.field for conflict in open_conflicts(work.session, company)]
        choices = {field: request.form.get(field) for field in fields}
        if company.sync_reason != Reason.CONFLICT or not fields:
            flash("There is nothing to choose any more.", "info")
        elif not set(choices.values()) <= {"ours", "theirs"}:
            flash("Choose one of the two values for each field, then save the choice.", "error")
        else:
            try:
                choose(work, company, choices, signed_in_user().id)  # type: ignore[arg-type]
                have_sent(work, company, main_connection(work.session), cause="choice", user_id=signed_in_user().id)
                work.commit()
                flash("Your choice is saved and goes to Sage now.", "ok")
            except IntegrityError:
                # The code is the only value that two companies cannot share.
                flash(
                    "Another company here has the code that is in Sage. Change that one first, or keep yours.", "error"
                )
    return _back(company_id)


@blueprint.post("/restore")
@admin_required
def restore_in_sage(company_id: int) -> ResponseReturnValue:
    """Make a company that was deleted in Sage there anew."""
    with services().database.unit_of_work() as work:
        company = _locked(work.session, company_id)
        restore(work, company, main_connection(work.session), signed_in_user().id)
        work.commit()
    return _back(company_id)


@blueprint.post("/unlink")
@admin_required
def unlink_here(company_id: int) -> ResponseReturnValue:
    """Keep a company that was deleted in Sage here only."""
    with services().database.unit_of_work() as work:
        unlink(work, _locked(work.session, company_id), signed_in_user().id)
        work.commit()
    return _back(company_id)


def _locked(session: Session, company_id: int) -> Company:
    company = session.get(Company, company_id, with_for_update=True)
    if company is None:
        abort(404)
    return company


def _back(company_id: int) -> ResponseReturnValue:
    return redirect(url_for("companies.record_page", company_id=company_id), 303)
