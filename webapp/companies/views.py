"""The pages of companies: the list, one company, and the forms to add and edit one.

Each address answers the whole page, and each action is a POST that redirects; htmx takes of it what it swaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, abort, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.companies import forms
from webapp.companies.changes import create_company, edit_company
from webapp.companies.countries import country_choices, country_name
from webapp.companies.models import Company
from webapp.companies.queries import (
    ListRow,
    cities,
    count_choices,
    filter_choices,
    find_company,
    list_companies,
    owner_names,
)
from webapp.connection.queries import list_connections, main_connection
from webapp.db import UnitOfWork
from webapp.forms import Form, groups_for, merged
from webapp.languages import gettext as _
from webapp.listing.query import owner_choices
from webapp.modules import COMPANIES
from webapp.related import of_company
from webapp.screens import (
    canonical_address,
    counts_answer,
    form_page,
    is_only_redrawn,
    list_screen,
    live_row,
    record_screen,
    saved_sentence,
    texts,
)
from webapp.services import services
from webapp.sync.queries import read_counters, read_page_context
from webapp.sync.saving import make_once
from webapp.sync.sending import may_be_in_sage
from webapp.text import one_line
from webapp.users.access import login_required, signed_in_user
from webapp.zone import Reader, current_reader

blueprint = Blueprint(COMPANIES.name, __name__, url_prefix=f"/{COMPANIES.name}")

_ONE = "/<id:record_id>"


@blueprint.get("")
@login_required
def list_page() -> ResponseReturnValue:
    """The list. Its state is the address: see webapp.companies.forms.read_query."""
    reader = current_reader()
    with services().database.reading() as session:
        owners, used = filter_choices(session)
        around = read_page_context(session, Company.module, reader)
        query = forms.read_query(request.args, owners, dict(country_choices()), around.connection_names, reader.zone)
        if (address := canonical_address(query, COMPANIES)) is not None:
            return redirect(address)
        page = list_companies(session, query)
    return render_template(
        "companies/list.html",
        **list_screen(COMPANIES, query, page, around),
        owners=owner_choices(owners),
        countries=[(code, name) for code, name in country_choices() if code in used or code in query.country],
        types=[(type_, _(name)) for type_, name in forms.TYPE_NAMES.items()],
        rows=[_shown_row(row, owners, reader) for row in page.rows],
    )


@blueprint.get("/counts")
@login_required
def counts() -> ResponseReturnValue:
    """How many companies each choice of the filters has; see webapp.screens.counts_answer."""
    with services().database.reading() as session:
        counters = read_counters(session, Company.module)
        return counts_answer(counters, count_choices(session, sum(counters.values())))


@blueprint.get("/cities")
@login_required
def city_suggestions() -> ResponseReturnValue:
    """The first cities of companies that begin with `?begin=`, as a JSON list of names."""
    with services().database.reading() as session:
        return jsonify(cities(session, one_line(request.args.get("begin", ""))))


def _shown_row(row: ListRow, owners: Mapping[int, str], reader: Reader) -> dict[str, Any]:
    return live_row(COMPANIES, row, reader) | {
        "name": row.name,
        "code": row.code,
        "type": _(forms.TYPE_NAMES[row.type]),
        "city": row.city,
        "country": country_name(row.country),
        "owner": owners.get(row.owner_id, "") if row.owner_id else "",
    }


@blueprint.get(_ONE)
@login_required
def record_page(record_id: int) -> ResponseReturnValue:
    """One company: its status, its fields, its contacts and orders, and the history of its synchronisation."""
    with services().database.snapshot() as session:
        company = _company(session, record_id)
        screen = record_screen(session, COMPANIES, company, forms.FIELDS)
        related = of_company(session, company, current_reader())
    return render_template("companies/record.html", **screen, related=related)


@blueprint.get("/new")
@login_required
def new_page() -> ResponseReturnValue:
    """The form for a new company. It begins as a customer of the person who opens it."""
    typed = forms.NOTHING | {"type": "customer", "owner_id": str(signed_in_user().id)}
    with services().database.unit_of_work() as work:
        main = main_connection(work.session)
        typed["connection_id"] = str(main.id) if main else ""
        return _form_page(work.session, None, typed, once=token_urlsafe(16))


@blueprint.post("/new")
@login_required
def create() -> ResponseReturnValue:
    """Add a company. The same form sent twice makes one."""
    with services().database.unit_of_work() as work:
        form = _read_form(work.session, forms.NOTHING)
        if is_only_redrawn():
            return _form_page(work.session, None, form.typed, once=form.once)
        if form.errors:
            return _form_page(work.session, None, form.typed, form=form)
        made, is_new = make_once(work, Company, form.once, lambda: _create(work, form))
        if made is None:
            return _form_page(work.session, None, form.typed, form=_code_taken(form))
        if not is_new:
            added = _company(work.session, made)
            # The answer to the first one was lost, and what was typed since is not in it.
            if since := merged(form, texts(added, forms.FIELDS))[1]:
                return _form_page(work.session, added, form.typed, both=since, added=True)
    if is_new:
        flash(_("The company was added."), "ok")
    return redirect(url_for("companies.record_page", record_id=made), 303)


def _create(work: UnitOfWork, form: Form) -> Company:
    connection = main_connection(work.session)
    return create_company(work, _stored(form.values), connection, user_id=signed_in_user().id, cause="edit")


@blueprint.get(f"{_ONE}/edit")
@login_required
def edit_page(record_id: int) -> ResponseReturnValue:
    """The form to edit a company. `?focus=country` begins at that field."""
    with services().database.unit_of_work() as work:
        company = _company(work.session, record_id)
        return _form_page(work.session, company, texts(company, forms.FIELDS))


@blueprint.post(f"{_ONE}/edit")
@login_required
def edit(record_id: int) -> ResponseReturnValue:
    """Save a company. What others changed meanwhile stands, unless both changed the same field: then the person chooses."""
    with services().database.unit_of_work() as work:
        company = _company(work.session, record_id, lock=True)
        stored = texts(company, forms.FIELDS)
        form = _read_form(work.session, stored, stays=may_be_in_sage(work.session, company))
        if is_only_redrawn():
            return _form_page(work.session, company, form.typed, before=form.before)
        if form.errors:
            return _form_page(work.session, company, form.typed, form=form)
        values, both, theirs = merged(form, stored)
        if both:
            return _form_page(work.session, company, form.typed | values, both=both)
        connection = main_connection(work.session)
        try:
            edit_company(work, company, _stored(values), connection, user_id=signed_in_user().id)
            work.commit()
        except IntegrityError as error:
            work.session.rollback()
            refused = _number_taken(form) if "sales_order" in str(error.orig) else _code_taken(form)
            return _form_page(work.session, _company(work.session, record_id), form.typed, form=refused)
    flash(saved_sentence(theirs, forms.FIELDS), "ok")
    return redirect(url_for("companies.record_page", record_id=record_id), 303)


def _read_form(session: Session, stored: Mapping[str, str], *, stays: bool = False) -> Form:
    connections = [one.id for one in list_connections(session)]
    return forms.read_form(request.form, owner_names(session), stored, connections, stays=stays)


def _number_taken(form: Form) -> Form:
    sentence = _("An order of this company has a number that another one there has already. Change the number first.")
    return form.with_error("connection_id", sentence)


def _code_taken(form: Form) -> Form:
    return form.with_error("code", _("Another company has this code. Choose a different one, or leave it empty."))


def _form_page(
    session: Session, company: Company | None, typed: Mapping[str, str], **shown: Any
) -> ResponseReturnValue:
    """The form with these texts; for what else it may show, see webapp.screens.form_page."""
    connections = list_connections(session)
    stored = texts(company, forms.FIELDS) if company else {}
    choices = {
        "connection_id": [(str(one.id), one.business_name or _("No company chosen yet")) for one in connections],
        "type": [(type_, _(name)) for type_, name in forms.TYPE_NAMES.items()],
        "owner_id": [("", _("Nobody")), *((str(id_), name) for id_, name in owner_names(session).items())],
        "country": [("", _("Not known")), *country_choices()],
    }
    stays = company is not None and may_be_in_sage(session, company)
    return form_page(
        COMPANIES,
        company,
        groups_for(forms.GROUPS, [one.id for one in connections], typed["connection_id"], shown.get("form")),
        typed,
        choices,
        stored=stored,
        fixed={"connection_id": forms.STAYS_WITH_CONNECTION} if stays else {},
        **shown,
    )


def _company(session: Session, company_id: int, *, lock: bool = False) -> Company:
    company = find_company(session, company_id, lock=lock)
    if company is None:
        abort(404)
    return company


def _stored(values: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a form as a company holds them."""
    ids = {name: int(values[name]) if values[name] else None for name in ("owner_id", "connection_id")}
    return {**values, **ids}
