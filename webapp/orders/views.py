"""The pages of orders: the list, one order, the forms to add and edit one, and the word that it may be sent.

Each address answers the whole page, and each action is a POST that redirects; htmx takes of it what it swaps. A form
that asks for another line, or for its totals, gets itself back as it was typed, and nothing is saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, abort, flash, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.companies.queries import company_names, named_companies, owner_names, search_companies
from webapp.connection.models import INVOICES, Connection
from webapp.connection.products import PRODUCTS, OrderDocument
from webapp.connection.queries import hold_what_orders_become, main_connection
from webapp.db import UnitOfWork
from webapp.forms import Difference, Form, by_name, merged
from webapp.languages import N_
from webapp.languages import gettext as _
from webapp.listing.query import owner_choices
from webapp.modules import ORDERS
from webapp.numbers import amount_text, number_text, price_text, typed_number
from webapp.orders import forms
from webapp.orders.amounts import line_amounts, read_lines
from webapp.orders.changes import confirm_order, create_order, edit_order, is_closed
from webapp.orders.models import CONFIRMED, VALIDATED, Order
from webapp.orders.phases import STEPS, step
from webapp.orders.queries import (
    ListRow,
    contact_names,
    count_choices,
    find_order,
    list_orders,
    products_of,
    search_products,
    sold_through,
)
from webapp.products.queries import product_names
from webapp.screens import (
    canonical_address,
    counts_answer,
    form_page,
    is_as_shown,
    list_screen,
    live_row,
    record_screen,
    saved_sentence,
    say_what_follows,
    speak_as_typed,
)
from webapp.services import services
from webapp.status import Reason, Status
from webapp.sync.details import day
from webapp.sync.queries import read_counters, read_page_context
from webapp.sync.saving import make_once
from webapp.users.access import login_required, signed_in_user
from webapp.zone import Reader, current_reader

blueprint = Blueprint(ORDERS.name, __name__, url_prefix=f"/{ORDERS.name}")

_ONE = "/<id:record_id>"

# The buttons and the typing that only have a form drawn anew.
_REDRAWN_BY = ("add", "remove", "again")

# Why an order is closed, by the reason of its status; of any other one, Sage has it.
_CLOSED_WHILE = {
    Reason.RUNNING: N_(
        "This order is being sent to Sage this moment: its lines, dates, number and notes are changed there. "
        "Here you can edit what stays here."
    ),
    Reason.OUTCOME_UNKNOWN: N_(
        "Sage may have this order: its lines, dates, number and notes are changed there. "
        "Here you can edit what stays here."
    ),
    Reason.DELETED_IN_SAGE: N_(
        "This order was deleted in Sage. Until an admin restores it there or unlinks it here, you can edit what stays here."
    ),
}
_CLOSED = N_(
    "Sage has this order: its lines, dates, number and notes are changed there. Here you can edit what stays here."
)

_SENT = N_(
    "The prices are valid. When you press the button, the order goes to Sage, and from then on it is changed there."
)


@blueprint.get("")
@login_required
def list_page() -> ResponseReturnValue:
    """The list. Its state is the address: see webapp.orders.forms.read_query."""
    reader = current_reader()
    with services().database.snapshot() as session:
        owners = owner_names(session)
        companies = company_names(session, request.args.getlist("company"))
        around = read_page_context(session, Order.module, reader)
        products = product_names(session, request.args.getlist("product"))
        query = forms.read_query(request.args, owners, companies, around.connection_names, products, zone=reader.zone)
        if (address := canonical_address(query, ORDERS)) is not None:
            return redirect(address)
        page = list_orders(session, query)
        theirs = named_companies(session, {row.company_id for row in page.rows})
    return render_template(
        "orders/list.html",
        **list_screen(ORDERS, query, page, around),
        owners=owner_choices(owners),
        companies=sorted(companies.items(), key=lambda one: one[1].casefold()),
        products=sorted(products.items(), key=lambda one: one[1].casefold()),
        phases=[(phase, _(name)) for phase, name in forms.PHASES.items()],
        days=[day(date.fromisoformat(one)) if one else "" for one in (query.ordered_from, query.ordered_to)],
        totals=[typed_number(one) for one in (query.total_from, query.total_to)],
        total_texts=[amount_text(Decimal(one)) if one else "" for one in (query.total_from, query.total_to)],
        rows=[_shown_row(row, theirs[row.company_id], owners, reader) for row in page.rows],
    )


@blueprint.get("/counts")
@login_required
def counts() -> ResponseReturnValue:
    """How many orders each choice of the filters has; see webapp.screens.counts_answer."""
    with services().database.reading() as session:
        counters = read_counters(session, Order.module)
        in_sage = sum(n for (_connection, status), n in counters.items() if status == Status.SYNCHRONISED)
        return counts_answer(counters, count_choices(session), {"phase:synchronised": in_sage})


def _shown_row(row: ListRow, company: Row[int, str, int], owners: Mapping[int, str], reader: Reader) -> dict[str, Any]:
    return live_row(ORDERS, row, reader) | {
        "number": row.number,
        "company": company,
        "ordered_on": day(row.ordered_on),
        "total": amount_text(row.total),
        "owner": owners.get(row.owner_id, "") if row.owner_id else "",
    }


@blueprint.get(_ONE)
@login_required
def record_page(record_id: int) -> ResponseReturnValue:
    """One order: its phase, its status, its lines and the history of its synchronisation."""
    with services().database.snapshot() as session:
        order = _order(session, record_id)
        screen = record_screen(session, ORDERS, order, () if is_closed(order) else forms.FIELDS, order.company)
        connection = _goes_to(session, order)
        last_day = by_name(forms.groups_as(_document(connection)))["valid_until"].label
    if "valid_until" in screen["highlighted"]:
        screen["highlighted"] |= {"valid_until": last_day}
    return render_template(
        "orders/record.html",
        **screen,
        steps=STEPS,
        step=step(order.phase, Reason(order.sync_reason)),
        closed=_why_closed(order),
        sent_as=_sent_as(connection),
        orders_as=connection.orders_as if connection else "",
        last_day=last_day,
        lines=_shown_lines(order.lines),
        lines_of=lambda text: _shown_lines(read_lines(text)),
    )


def _shown_lines(lines: Sequence[Any]) -> list[dict[str, Any]]:
    """Lines as a table shows them: what is zero, but for the price, is left empty."""
    shown = []
    for line in lines:
        amounts = line_amounts(line)
        product = getattr(line, "product", None)
        shown.append(
            {
                "code": product.code if product else "",
                "product_id": product.id if product else None,
                "description": line.description,
                "quantity": number_text(line.quantity),
                "unit": product.unit if product else "",
                "unit_price": price_text(line.unit_price) if line.unit_price else "",
                "discount": amount_text(line.discount) if line.discount else "",
                "tax_rate": f"{number_text(line.tax_rate)} %" if line.tax_rate else "",
                "net": amount_text(amounts.net),
            }
        )
    return shown


def _why_closed(order: Order) -> str:
    """Why only what stays here can be edited, empty where everything can."""
    if not is_closed(order):
        return ""
    return _(_CLOSED_WHILE.get(Reason(order.sync_reason), _CLOSED))


def _goes_to(session: Session, order: Order) -> Connection | None:
    """The connection by which an order goes to Sage; None while no admin has chosen the company there."""
    return _chosen(session.get(Connection, order.connection_id) if order.connection_id else main_connection(session))


def _chosen(connection: Connection | None) -> Connection | None:
    return connection if connection and connection.business_id else None


def _document(connection: Connection | None) -> OrderDocument | None:
    """What an order is, or becomes, by this connection, as soon as an admin has chosen that."""
    return PRODUCTS[connection.product].documents[connection.orders_as] if connection else None


def _sent_as(connection: Connection | None) -> str:
    """What becomes of an order that somebody has sent."""
    return _(document.sent if (document := _document(connection)) else _SENT)


@blueprint.post(f"{_ONE}/confirm")
@login_required
def confirm(record_id: int) -> ResponseReturnValue:
    """Synchronise with Sage: have an order sent whose prices are validated. Pressing twice is harmless.

    `orders_as` is what the page said that it becomes: whoever was not told that it is booked is told first. What was
    changed since the page was drawn is looked at first (webapp.screens.is_as_shown).
    """
    with services().database.unit_of_work() as work:
        hold_what_orders_become(work.session)
        order = _order(work.session, record_id, lock=True)
        connection = _goes_to(work.session, order)
        books = connection is not None and connection.books_orders
        if books and order.phase == VALIDATED and request.form.get("orders_as") != INVOICES:
            flash(_sent_as(connection), "info")
        elif order.phase == VALIDATED and not is_as_shown(order):
            flash(_("Somebody changed this order meanwhile. Look at it, then press once more."), "info")
        elif confirm_order(work, order, main_connection(work.session), user_id=signed_in_user().id):
            work.commit()
            at_once = _("It is sent to Sage now. This page shows the result by itself.")
            say_what_follows(order, at_once)
        elif order.phase == CONFIRMED:
            flash(_("It was sent before. This page shows how far it has come."), "info")
        else:
            flash(_("Its prices are not valid yet. Mend what the page names, then press again."), "error")
    return redirect(url_for("orders.record_page", record_id=record_id), 303)


@blueprint.get("/new")
@login_required
def new_page() -> ResponseReturnValue:
    """The form for a new order, of the company `?company=42` and the contact `?contact=7`; whoever opens it owns it.

    `?find=words` searches for a company; the search sends the choice that was made before as `company_id`.
    `?description=words` searches for products.
    """
    typed = forms.as_typed(forms.nothing(_today())) | {
        "company_id": request.args.get("company_id") or request.args.get("company", ""),
        "contact_id": request.args.get("contact", ""),
        "owner_id": str(signed_in_user().id),
    }
    with services().database.unit_of_work() as work:
        return _form_page(work.session, None, typed, [forms.blank_line()], once=token_urlsafe(16))


def _today() -> date:
    reader = current_reader()
    return reader.now.astimezone(reader.zone).date()


@blueprint.post("/new")
@login_required
def create() -> ResponseReturnValue:
    """Add an order. The same form sent twice makes one."""
    with services().database.unit_of_work() as work:
        form = _read_form(work.session, forms.nothing(_today()), is_closed=False)
        fields = form.fields
        if _is_only_redrawn():
            return _form_page(work.session, None, fields.typed, form.lines, once=fields.once)
        if fields.errors:
            return _form_page(work.session, None, fields.typed, form.lines, form=form)
        made, is_new = make_once(work, Order, fields.once, lambda: _create(work, fields))
        if made is None:
            return _form_page(work.session, None, fields.typed, form.lines, form=_number_taken(form))
        if not is_new:
            added = _order(work.session, made)
            # The answer to the first one was lost, and what was typed since is not in it.
            if since := merged(fields, forms.texts(added))[1]:
                return _form_page(work.session, added, fields.typed, form.lines, both=since, added=True)
    if is_new:
        flash(_("The order was added."), "ok")
    return redirect(url_for("orders.record_page", record_id=made), 303)


def _create(work: UnitOfWork, fields: Form) -> Order:
    values, lines = forms.stored_values(fields.values), forms.read_lines_value(fields.values["lines"])
    return create_order(work, values, lines, main_connection(work.session), user_id=signed_in_user().id, cause="edit")


@blueprint.get(f"{_ONE}/edit")
@login_required
def edit_page(record_id: int) -> ResponseReturnValue:
    """The form to edit an order, or what stays here of one that Sage has. `?focus=notes` begins at that field."""
    with services().database.snapshot() as session:
        order = _order(session, record_id)
        return _form_page(session, order, forms.as_typed(forms.texts(order)), forms.typed_lines(order.lines))


@blueprint.post(f"{_ONE}/edit")
@login_required
def edit(record_id: int) -> ResponseReturnValue:
    """Save an order. What others changed meanwhile stands, unless both changed the same field: then the person chooses."""
    is_only_redrawn = _is_only_redrawn()
    with services().database.unit_of_work() as work:
        order = _order(work.session, record_id, lock=not is_only_redrawn)
        stored = forms.texts(order)
        form = _read_form(work.session, stored, is_closed=is_closed(order))
        fields = form.fields
        if is_only_redrawn and not is_closed(order):
            return _form_page(work.session, order, fields.typed, form.lines, before=fields.before)
        if is_only_redrawn or form.lost or fields.errors:
            return _form_page(work.session, order, fields.typed, form.lines, form=form, before=fields.before)
        values, both, theirs = merged(fields, stored)
        if both:
            return _form_page(work.session, order, fields.typed | forms.as_typed(values), form.lines, both=both)
        try:
            lines = forms.read_lines_value(values["lines"])
            connection = main_connection(work.session)
            edit_order(work, order, forms.stored_values(values), lines, connection, user_id=signed_in_user().id)
            work.commit()
        except IntegrityError:
            work.session.rollback()
            order = _order(work.session, record_id)
            return _form_page(
                work.session, order, fields.typed, form.lines, form=_number_taken(form), before=fields.before
            )
    flash(saved_sentence(theirs, forms.FIELDS), "ok")
    return redirect(url_for("orders.record_page", record_id=record_id), 303)


def _is_only_redrawn() -> bool:
    return any(name in request.form for name in _REDRAWN_BY)


def _read_form(session: Session, stored: Mapping[str, str], *, is_closed: bool) -> forms.OrderForm:
    speak_as_typed()
    typed = forms.read_typed_lines(request.form)
    companies = company_names(session, [stored["company_id"] or request.form.get("company_id", "")])
    return forms.read_order_form(
        request.form,
        forms.with_products(typed, products_of(session, typed, sold_through(session, companies))),
        stored,
        companies=companies,
        contacts=_contacts(session, companies),
        owners=owner_names(session),
        is_closed=is_closed,
    )


def _contacts(session: Session, companies: Mapping[str, str]) -> dict[int, str]:
    """The contacts of the one company that a form names, if it names one."""
    return contact_names(session, int(next(iter(companies)))) if companies else {}


def _number_taken(form: forms.OrderForm) -> forms.OrderForm:
    return form.with_error("number", _("Another order has this number. Choose a different one."))


def _form_page(
    session: Session,
    order: Order | None,
    typed: Mapping[str, str],
    lines: list[forms.TypedLine],
    *,
    form: forms.OrderForm | None = None,
    both: Sequence[Difference] = (),
    added: bool = False,
    before: Mapping[str, str] | None = None,
    once: str = "",
) -> ResponseReturnValue:
    """The form with these texts and lines; `before` is what the fields were when it was opened, if not what they are."""
    companies = company_names(session, [typed["company_id"]])
    contacts = _contacts(session, companies)
    why_closed = _why_closed(order) if order else ""
    lines = lines or [forms.blank_line()]
    stored = forms.texts(order) if order else {}
    before = stored if before is None else before
    goes_to = _goes_to(session, order) if order else _chosen(main_connection(session))
    groups = forms.groups_as(_document(goes_to))
    answer = form_page(
        ORDERS,
        order,
        forms.STAYING_GROUPS if why_closed else groups,
        typed,
        {
            "company_id": list(companies.items()),
            "contact_id": [("", _("Nobody")), *((str(id_), name) for id_, name in contacts.items())],
            "owner_id": [("", _("Nobody")), *((str(id_), name) for id_, name in owner_names(session).items())],
            **forms.words_of(typed, before, stored),
        },
        stored=stored,
        before=before,
        form=form.fields if form else None,
        both=both,
        added=added,
        once=once,
        fixed={"company_id": forms.STAYS_WITH_COMPANY} if order else {},
        finder=search_companies(session, request.args.get("find", "")),
        closed=why_closed,
        lost=form.lost if form else (),
        lines=lines,
        line_errors=form.line_errors if form else {},
        **({"wrong": len(form.fields.errors) - 1 + len(form.line_errors)} if form and form.line_errors else {}),
        begin_at=len(lines) if "add" in request.form else 0,
        sums=forms.sums(lines, typed["shipping"]),
        total_before=forms.total_text(before),
        total_now=forms.total_text(stored),
        catalogue=search_products(session, request.args.get("description", ""), sold_through(session, companies)),
        shown_lines=lambda text: _shown_lines(forms.read_lines_value(text)),
    )
    response = make_response(answer)
    if form and why_closed and not form.fields.errors:
        # It was closed while somebody typed: the whole page is another one now.
        response.status_code = 409
    return response


def _order(session: Session, order_id: int, *, lock: bool = False) -> Order:
    order = find_order(session, order_id, lock=lock)
    if order is None:
        abort(404)
    return order
