"""The pages of contacts: the list, one contact, and the forms to add and edit one.

Each address answers the whole page, and each action is a POST that redirects; htmx takes of it what it swaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Row
from sqlalchemy.orm import Session

from webapp.companies.queries import company_names, named_companies, search_companies
from webapp.connection.queries import main_connection
from webapp.contacts import forms
from webapp.contacts.changes import create_contact, edit_contact
from webapp.contacts.models import Contact
from webapp.contacts.queries import ListRow, find_contact, list_contacts
from webapp.db import UnitOfWork
from webapp.forms import Form, merged
from webapp.languages import gettext as _
from webapp.modules import CONTACTS
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
from webapp.users.access import login_required, signed_in_user
from webapp.zone import Reader, current_reader

blueprint = Blueprint(CONTACTS.name, __name__, url_prefix=f"/{CONTACTS.name}")

_ONE = "/<id:record_id>"


@blueprint.get("")
@login_required
def list_page() -> ResponseReturnValue:
    """The list. Its state is the address: see webapp.contacts.forms.read_query."""
    reader = current_reader()
    with services().database.snapshot() as session:
        companies = company_names(session, request.args.getlist("company"))
        around = read_page_context(session, Contact.module, reader)
        query = forms.read_query(request.args, companies, around.connection_names, reader.zone)
        if (address := canonical_address(query, CONTACTS)) is not None:
            return redirect(address)
        page = list_contacts(session, query)
        theirs = named_companies(session, {row.company_id for row in page.rows})
    return render_template(
        "contacts/list.html",
        **list_screen(CONTACTS, query, page, around),
        companies=sorted(companies.items(), key=lambda one: one[1].casefold()),
        rows=[_shown_row(row, theirs[row.company_id], reader) for row in page.rows],
    )


@blueprint.get("/counts")
@login_required
def counts() -> ResponseReturnValue:
    """How many contacts each choice of the filters has; see webapp.screens.counts_answer."""
    with services().database.reading() as session:
        return counts_answer(read_counters(session, Contact.module), {})


def _shown_row(row: ListRow, company: Row[int, str, int], reader: Reader) -> dict[str, Any]:
    return live_row(CONTACTS, row, reader) | {
        "name": row.name,
        "role": row.role,
        "company": company,
        "email": row.email,
        "phone": row.phone,
    }


@blueprint.get(_ONE)
@login_required
def record_page(record_id: int) -> ResponseReturnValue:
    """One contact: its status, its fields, its company and the history of its synchronisation."""
    with services().database.snapshot() as session:
        contact = _contact(session, record_id)
        screen = record_screen(session, CONTACTS, contact, forms.FIELDS, contact.company)
    return render_template("contacts/record.html", **screen)


@blueprint.get("/new")
@login_required
def new_page() -> ResponseReturnValue:
    """The form for a new contact, of the company `?company=42` where the address names one.

    `?find=words` searches for a company; the search sends the choice that was made before as `company_id`.
    """
    asked = request.args.get("company_id") or request.args.get("company", "")
    with services().database.unit_of_work() as work:
        typed = forms.NOTHING | {"company_id": next(iter(company_names(work.session, [asked])), "")}
        return _form_page(work.session, None, typed, once=token_urlsafe(16))


@blueprint.post("/new")
@login_required
def create() -> ResponseReturnValue:
    """Add a contact. The same form sent twice makes one."""
    with services().database.unit_of_work() as work:
        form = forms.read_form(request.form, _named(work.session), forms.NOTHING)
        if is_only_redrawn():
            return _form_page(work.session, None, form.typed, once=form.once)
        if form.errors:
            return _form_page(work.session, None, form.typed, form=form)
        made, is_new = make_once(work, Contact, form.once, lambda: _create(work, form))
        # Nothing else of a contact is unique, so nothing else is refused.
        assert made is not None
        if not is_new:
            added = _contact(work.session, made)
            # The answer to the first one was lost, and what was typed since is not in it.
            if since := merged(form, texts(added, forms.FIELDS))[1]:
                return _form_page(work.session, added, form.typed, both=since, added=True)
    if is_new:
        flash(_("The contact was added."), "ok")
    return redirect(url_for("contacts.record_page", record_id=made), 303)


def _create(work: UnitOfWork, form: Form) -> Contact:
    connection = main_connection(work.session)
    return create_contact(work, _stored(form.values), connection, user_id=signed_in_user().id, cause="edit")


@blueprint.get(f"{_ONE}/edit")
@login_required
def edit_page(record_id: int) -> ResponseReturnValue:
    """The form to edit a contact. `?focus=email` begins at that field; `?find=words` searches for another company."""
    with services().database.unit_of_work() as work:
        contact = _contact(work.session, record_id)
        typed = texts(contact, forms.FIELDS)
        chosen = next(iter(company_names(work.session, [request.args.get("company_id", "")])), "")
        return _form_page(work.session, contact, typed | ({"company_id": chosen} if chosen else {}))


@blueprint.post(f"{_ONE}/edit")
@login_required
def edit(record_id: int) -> ResponseReturnValue:
    """Save a contact. What others changed meanwhile stands, unless both changed the same field: then the person chooses."""
    with services().database.unit_of_work() as work:
        contact = _contact(work.session, record_id, lock=True)
        stored = texts(contact, forms.FIELDS)
        stays = may_be_in_sage(work.session, contact)
        form = forms.read_form(request.form, _named(work.session, stored), stored, stays=stays)
        if is_only_redrawn():
            return _form_page(work.session, contact, form.typed, before=form.before)
        if form.errors:
            return _form_page(work.session, contact, form.typed, form=form)
        values, both, theirs = merged(form, stored)
        if both:
            return _form_page(work.session, contact, form.typed | values, both=both)
        edit_contact(work, contact, _stored(values), main_connection(work.session), user_id=signed_in_user().id)
        work.commit()
    flash(saved_sentence(theirs, forms.FIELDS), "ok")
    return redirect(url_for("contacts.record_page", record_id=record_id), 303)


def _named(session: Session, stored: Mapping[str, str] = forms.NOTHING) -> dict[str, str]:
    """The names of the companies that the form and the contact name, by id."""
    ids = (request.form.get("company_id", ""), request.form.get("was-company_id", ""), stored["company_id"])
    return company_names(session, ids)


def _form_page(
    session: Session, contact: Contact | None, typed: Mapping[str, str], **shown: Any
) -> ResponseReturnValue:
    """The form with these texts; for what else it may show, see webapp.screens.form_page."""
    stored = texts(contact, forms.FIELDS) if contact else {}
    names = _named(session, typed) | company_names(session, [stored.get("company_id", "")])
    stays = contact is not None and may_be_in_sage(session, contact)
    return form_page(
        CONTACTS,
        contact,
        forms.GROUPS,
        typed,
        {"company_id": list(names.items())},
        stored=stored,
        fixed={"company_id": forms.STAYS_WITH_COMPANY} if stays else {},
        finder=search_companies(session, request.args.get("find", "")),
        **shown,
    )


def _contact(session: Session, contact_id: int, *, lock: bool = False) -> Contact:
    contact = find_contact(session, contact_id, lock=lock)
    if contact is None:
        abort(404)
    return contact


def _stored(values: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a form as a contact holds them."""
    return {**values, "company_id": int(values["company_id"])}
