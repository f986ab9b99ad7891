"""The pages of products: the list, one product, and the forms to add and edit one.

Each address answers the whole page, and each action is a POST that redirects; htmx takes of it what it swaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.connection.queries import list_connections, main_connection
from webapp.db import UnitOfWork
from webapp.forms import Form, groups_for, merged
from webapp.languages import gettext as _
from webapp.modules import PRODUCTS
from webapp.numbers import price_text
from webapp.products import forms
from webapp.products.changes import create_product, edit_product
from webapp.products.models import NO, YES, Product
from webapp.products.queries import ListRow, count_choices, find_product, list_products
from webapp.related import of_product
from webapp.screens import (
    canonical_address,
    counts_answer,
    form_page,
    is_only_redrawn,
    list_screen,
    live_row,
    record_screen,
    saved_sentence,
    speak_as_typed,
)
from webapp.services import services
from webapp.sync.details import AVAILABILITY
from webapp.sync.queries import read_counters, read_page_context
from webapp.sync.saving import make_once
from webapp.sync.sending import may_be_in_sage
from webapp.users.access import login_required, signed_in_user
from webapp.zone import Reader, current_reader

blueprint = Blueprint(PRODUCTS.name, __name__, url_prefix=f"/{PRODUCTS.name}")

_ONE = "/<id:record_id>"


@blueprint.get("")
@login_required
def list_page() -> ResponseReturnValue:
    """The list. Its state is the address: see webapp.products.forms.read_query."""
    reader = current_reader()
    with services().database.reading() as session:
        around = read_page_context(session, Product.module, reader)
        query = forms.read_query(request.args, around.connection_names, reader.zone)
        if (address := canonical_address(query, PRODUCTS)) is not None:
            return redirect(address)
        page = list_products(session, query)
    return render_template(
        "products/list.html",
        **list_screen(PRODUCTS, query, page, around),
        availability=_availability(),
        rows=[_shown_row(row, reader) for row in page.rows],
    )


@blueprint.get("/counts")
@login_required
def counts() -> ResponseReturnValue:
    """How many products each choice of the filters has; see webapp.screens.counts_answer."""
    with services().database.reading() as session:
        return counts_answer(read_counters(session, Product.module), count_choices(session))


def _availability() -> list[tuple[str, str]]:
    return [(value, _(words)) for value, words in AVAILABILITY.items()]


def _shown_row(row: ListRow, reader: Reader) -> dict[str, Any]:
    return live_row(PRODUCTS, row, reader) | {
        "name": row.name,
        "code": row.code,
        "unit_price": price_text(row.unit_price) if row.unit_price else "",
        "unit": row.unit,
        "discontinued": _(AVAILABILITY[YES if row.discontinued else NO]),
    }


@blueprint.get(_ONE)
@login_required
def record_page(record_id: int) -> ResponseReturnValue:
    """One product: its status, its fields, the orders that name it, and the history of its synchronisation."""
    with services().database.snapshot() as session:
        product = _product(session, record_id)
        screen = record_screen(session, PRODUCTS, product, forms.FIELDS)
        orders = of_product(session, product, current_reader())
    return render_template("products/record.html", **screen, orders=orders)


@blueprint.get("/new")
@login_required
def new_page() -> ResponseReturnValue:
    """The form for a new product."""
    with services().database.unit_of_work() as work:
        main = main_connection(work.session)
        typed = forms.NOTHING | {"connection_id": str(main.id) if main else ""}
        return _form_page(work.session, None, typed, once=token_urlsafe(16))


@blueprint.post("/new")
@login_required
def create() -> ResponseReturnValue:
    """Add a product. The same form sent twice makes one."""
    with services().database.unit_of_work() as work:
        form = _read_form(work.session, forms.NOTHING)
        if is_only_redrawn():
            return _form_page(work.session, None, form.typed, once=form.once)
        if form.errors:
            return _form_page(work.session, None, form.typed, form=form)
        made, is_new = make_once(work, Product, form.once, lambda: _create(work, form))
        if made is None:
            return _form_page(work.session, None, form.typed, form=_code_taken(form))
        if not is_new:
            added = _product(work.session, made)
            # The answer to the first one was lost, and what was typed since is not in it.
            if since := merged(form, forms.texts(added))[1]:
                return _form_page(work.session, added, form.typed, both=since, added=True)
    if is_new:
        flash(_("The product was added."), "ok")
    return redirect(url_for("products.record_page", record_id=made), 303)


def _create(work: UnitOfWork, form: Form) -> Product:
    values, connection = forms.stored_values(form.values), main_connection(work.session)
    return create_product(work, values, connection, user_id=signed_in_user().id, cause="edit")


@blueprint.get(f"{_ONE}/edit")
@login_required
def edit_page(record_id: int) -> ResponseReturnValue:
    """The form to edit a product. `?focus=code` begins at that field."""
    with services().database.unit_of_work() as work:
        product = _product(work.session, record_id)
        return _form_page(work.session, product, forms.as_typed(forms.texts(product)))


@blueprint.post(f"{_ONE}/edit")
@login_required
def edit(record_id: int) -> ResponseReturnValue:
    """Save a product. What others changed meanwhile stands, unless both changed the same field: then the person chooses."""
    with services().database.unit_of_work() as work:
        product = _product(work.session, record_id, lock=True)
        stored = forms.texts(product)
        form = _read_form(work.session, stored, stays=may_be_in_sage(work.session, product))
        if is_only_redrawn():
            return _form_page(work.session, product, form.typed, before=form.before)
        if form.errors:
            return _form_page(work.session, product, form.typed, form=form)
        values, both, theirs = merged(form, stored)
        if both:
            return _form_page(work.session, product, form.typed | forms.as_typed(values), both=both)
        try:
            made = forms.stored_values(values)
            edit_product(work, product, made, main_connection(work.session), user_id=signed_in_user().id)
            work.commit()
        except IntegrityError:
            work.session.rollback()
            again = _product(work.session, record_id)
            return _form_page(work.session, again, form.typed, form=_code_taken(form))
    flash(saved_sentence(theirs, forms.FIELDS), "ok")
    return redirect(url_for("products.record_page", record_id=record_id), 303)


def _read_form(session: Session, stored: Mapping[str, str], *, stays: bool = False) -> Form:
    speak_as_typed()
    connections = [one.id for one in list_connections(session)]
    return forms.read_form(request.form, stored, connections, stays=stays)


def _code_taken(form: Form) -> Form:
    return form.with_error("code", _("Another product has this code. Choose a different one, or leave it empty."))


def _form_page(
    session: Session, product: Product | None, typed: Mapping[str, str], **shown: Any
) -> ResponseReturnValue:
    """The form with these texts; for what else it may show, see webapp.screens.form_page."""
    connections = list_connections(session)
    stored = forms.texts(product) if product else {}
    before = shown.get("before") or (shown["form"].before if "form" in shown else {})
    theirs = [{one.name: one.theirs} for one in shown.get("both", ())]
    choices = {
        "connection_id": [(str(one.id), one.business_name or _("No company chosen yet")) for one in connections],
        "discontinued": _availability(),
        "unit_price": forms.words_of(typed, stored, before, *theirs),
    }
    stays = product is not None and may_be_in_sage(session, product)
    return form_page(
        PRODUCTS,
        product,
        groups_for(forms.GROUPS, [one.id for one in connections], typed["connection_id"], shown.get("form")),
        typed,
        choices,
        stored=stored,
        fixed={"connection_id": forms.STAYS_WITH_CONNECTION} if stays else {},
        **shown,
    )


def _product(session: Session, product_id: int, *, lock: bool = False) -> Product:
    product = find_product(session, product_id, lock=lock)
    if product is None:
        abort(404)
    return product
