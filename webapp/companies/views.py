"""The pages of companies: the list, one company, and the forms to add and edit one.

Each address answers the whole page, and each action is a POST that redirects; htmx takes of it what it swaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from secrets import token_urlsafe
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.companies import forms
from webapp.companies.changes import create_company, edit_company
from webapp.companies.countries import country_choices, country_name
from webapp.companies.models import Company
from webapp.companies.queries import (
    ListRow,
    filter_choices,
    find_by_form,
    find_company,
    list_companies,
    owner_names,
)
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.live.protocol import shown
from webapp.live.states import read_states
from webapp.services import services
from webapp.status import STATUS_OF, Reason, variant
from webapp.sync.conflicts import open_conflicts
from webapp.sync.details import FIELD_NAMES, brief, listed
from webapp.sync.history import told
from webapp.sync.queries import history, read_surroundings
from webapp.users.access import login_required, signed_in_user
from webapp.zone import Glance, glance

blueprint = Blueprint("companies", __name__, url_prefix="/companies")

_ONE = "/<int(max=9223372036854775807):company_id>"

# Changes of the status that a record's page tells; all of them, up to a number that a page can carry, when asked.
_LATEST = 8
_ALL = 500


@blueprint.get("")
@login_required
def list_page() -> ResponseReturnValue:
    """The list. Its state is the address: see webapp.companies.forms.read_query."""
    reader = glance()
    with services().database.unit_of_work() as work:
        owners, used = filter_choices(work.session)
        query = forms.read_query(request.args, owners, dict(country_choices()))
        page = list_companies(work.session, query)
        around = read_surroundings(work.session, Company.module, reader)
    return render_template(
        "companies/list.html",
        query=query,
        page=page,
        around=around,
        owners=owners,
        countries=[(code, name) for code, name in country_choices() if code in used or code == query.country],
        country_name=country_name,
        statuses=forms.status_choices(),
        types=forms.TYPE_NAMES,
        sorts=forms.SORTS,
        nobody=forms.NOBODY,
        matching=_matching(query, around.module["counts"], len(page.rows), page.next is None),
        address=_address,
        rows=[_shown_row(row, owners, reader) for row in page.rows],
    )


def _shown_row(row: ListRow, owners: Mapping[int, str], reader: Glance) -> dict[str, Any]:
    """A row with its texts. They are made here and not in the template, which would take most of the page's time."""
    at = row.last_synchronised_at
    return {
        "id": row.id,
        "version": row.sync_version,
        "status": STATUS_OF[Reason(row.sync_reason)],
        "reason": row.sync_reason,
        "variant": variant(Reason(row.sync_reason)),
        "name": row.name,
        "code": row.code,
        "type": row.type,
        "city": row.city,
        "country": country_name(row.country),
        "owner": owners.get(row.owner_id, "") if row.owner_id else "",
        "brief": brief(row.sync_detail, reader.zone, reader.now),
        "at": at.astimezone(UTC).isoformat() if at else "",
        "age": reader.age(at),
    }


def _address(query: forms.CompanyQuery) -> str:
    pairs = query.pairs()
    return url_for("companies.list_page") + (f"?{urlencode(pairs)}" if pairs else "")


def _matching(query: forms.CompanyQuery, counts: Mapping[str, int], rows: int, is_last: bool) -> int | None:
    """How many companies the query has, None where only counting them all would tell."""
    if query.counts_by_status:
        return sum(n for status, n in counts.items() if not query.statuses or status in query.statuses)
    return rows if query.cursor is None and is_last else None


@blueprint.get(_ONE)
@login_required
def record_page(company_id: int) -> ResponseReturnValue:
    """One company: its status, its fields and the history of its synchronisation."""
    reader = glance()
    limit = _ALL if request.args.get("history") == "all" else _LATEST
    with services().database.unit_of_work() as work:
        company = _company(work.session, company_id)
        state = shown(read_states(work.session, [company.key])[company.key], reader.zone, reader.now)
        around = read_surroundings(work.session, Company.module, reader)
        events = history(work.session, company, limit + 1)
        conflicts = open_conflicts(work.session, company) if company.sync_reason == Reason.CONFLICT else ()
    return render_template(
        "companies/record.html",
        company=company,
        state=state,
        around=around,
        groups=forms.GROUPS,
        events=[(event, told(event, who, reader)) for event, who in events[:limit]],
        has_more=len(events) > limit,
        remedy=_remedy(company),
        conflicts=conflicts,
        field_names=FIELD_NAMES,
        raw=company.sync_detail.get("raw") if signed_in_user().is_admin else None,
    )


def _remedy(company: Company) -> tuple[str, str] | None:
    """What to press where a person can mend the status by editing: the words, and the field that they lead to."""
    field, code = company.sync_detail.get("field", ""), company.sync_detail.get("code")
    if code == "excluded":
        return "Change the type", "type"
    if company.sync_status != "review" or field not in forms.FIELDS:
        return None
    return f"{'Add' if code == 'missing' else 'Correct'} {FIELD_NAMES.get(field, field)}", field


@blueprint.get("/new")
@login_required
def new_page() -> ResponseReturnValue:
    """The form for a new company. It begins as a customer of the person who opens it."""
    typed = forms.NOTHING | {"type": "customer", "owner_id": str(signed_in_user().id)}
    with services().database.unit_of_work() as work:
        return _form_page(work.session, None, typed, once=token_urlsafe(16))


@blueprint.post("/new")
@login_required
def create() -> ResponseReturnValue:
    """Add a company. The same form sent twice makes one: its mark is kept with the company that it made."""
    with services().database.unit_of_work() as work:
        form = forms.read_form(request.form, owner_names(work.session), forms.NOTHING)
        if form.errors:
            return _refused(work.session, None, form)
        made = find_by_form(work.session, form.once)
        if made is None:
            try:
                made = _create(work, form)
            except IntegrityError:
                work.session.rollback()
                # Either the first of two equal forms was quicker, or the code is taken.
                made = find_by_form(work.session, form.once)
                if made is None:
                    return _refused(work.session, None, _code_taken(form))
            else:
                flash("The company was added.", "ok")
    return redirect(url_for("companies.record_page", company_id=made), 303)


def _create(work: UnitOfWork, form: forms.CompanyForm) -> int:
    connection = main_connection(work.session)
    company = create_company(work, _stored(form.values), connection, user_id=signed_in_user().id, cause="edit")
    company.made_by_form = form.once or None
    work.commit()
    return company.id


@blueprint.get(f"{_ONE}/edit")
@login_required
def edit_page(company_id: int) -> ResponseReturnValue:
    """The form to edit a company. `?focus=country` begins at that field."""
    with services().database.unit_of_work() as work:
        company = _company(work.session, company_id)
        return _form_page(work.session, company, _texts(company), focus=request.args.get("focus", ""))


@blueprint.post(f"{_ONE}/edit")
@login_required
def edit(company_id: int) -> ResponseReturnValue:
    """Save a company. What others changed meanwhile stands, unless both changed the same field: then the person chooses."""
    with services().database.unit_of_work() as work:
        company = _company(work.session, company_id, lock=True)
        form = forms.read_form(request.form, owner_names(work.session), _texts(company))
        if form.errors:
            return _refused(work.session, company, form)
        values, both, theirs = forms.merged(form, _texts(company))
        if both:
            return _form_page(work.session, company, form.typed | values, both=both, status=409)
        connection = main_connection(work.session)
        try:
            edit_company(work, company, _stored(values), connection, user_id=signed_in_user().id)
            work.commit()
        except IntegrityError:
            work.session.rollback()
            return _refused(work.session, _company(work.session, company_id), _code_taken(form))
    flash(_saved(theirs), "ok")
    return redirect(url_for("companies.record_page", company_id=company_id), 303)


def _saved(theirs: list[str]) -> str:
    if not theirs:
        return "Saved."
    names = listed([FIELD_NAMES.get(name, forms.FIELDS[name].label.lower()) for name in theirs])
    return f"Saved. Meanwhile somebody else changed {names}; that was kept."


def _code_taken(form: forms.CompanyForm) -> forms.CompanyForm:
    return form.with_error("code", "Another company has this code. Choose a different one, or leave it empty.")


def _refused(session: Session, company: Company | None, form: forms.CompanyForm) -> ResponseReturnValue:
    """The form once more, as it was typed, with what is wrong in it."""
    return _form_page(session, company, form.typed, before=form.before, errors=form.errors, once=form.once, status=422)


def _form_page(
    session: Session,
    company: Company | None,
    typed: Mapping[str, str],
    *,
    before: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
    both: list[forms.Difference] | None = None,
    once: str = "",
    focus: str = "",
    status: int = 200,
) -> ResponseReturnValue:
    """`before` is what the fields were when the person opened the form; what they are now, where nothing is said."""
    owners = owner_names(session)
    page = render_template(
        "companies/form.html",
        company=company,
        typed=typed,
        before=before or (_texts(company) if company else {}),
        errors=errors or {},
        differences={one.name: one for one in both or ()},
        once=once,
        focus=focus,
        groups=forms.GROUPS,
        fields=forms.FIELDS,
        choices={
            "type": list(forms.TYPE_NAMES.items()),
            "owner_id": [("", "Nobody"), *((str(id_), name) for id_, name in owners.items())],
            "country": [("", "Not known"), *country_choices()],
        },
    )
    return page, status


def _company(session: Session, company_id: int, *, lock: bool = False) -> Company:
    company = find_company(session, company_id, lock=lock)
    if company is None:
        abort(404)
    return company


def _texts(company: Company) -> dict[str, str]:
    """The fields of a company as a form holds them."""
    return {name: "" if (value := getattr(company, name)) is None else str(value) for name in forms.FIELDS}


def _stored(values: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a form as a company holds them."""
    return {**values, "owner_id": int(values["owner_id"]) if values["owner_id"] else None}
