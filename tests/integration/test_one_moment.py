"""A page tells of one moment, however many statements it is read by.

If it showed what a record was under the version that the record got while the page was read, the page's own check would
take it for right, and it would stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, text

from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import CONNECTED, PAUSED, Connection
from webapp.contacts import views as contact_views
from webapp.contacts.models import Contact
from webapp.orders import views as order_views
from webapp.orders.amounts import LineValues
from webapp.orders.changes import create_order
from webapp.orders.models import CONFIRMED, Order
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import Reason

# Enough for the longest of these pages; a page that is read by fewer statements is done with its last one.
_STATEMENTS = 60

_KINDS = {"companies": Company, "contacts": Contact, "orders": Order, "products": Product}


@pytest.fixture
def made(services: Services, connection: Connection) -> dict[str, int]:
    """One of each: all in step with Sage, the order sent."""
    with services.database.unit_of_work() as work:
        company = create_company(work, {"name": "Alfreds Futterkiste"}, connection, user_id=None, cause="import")
        others = [
            Contact(company_id=company.id, name="Maria Anders", connection_id=connection.id),
            Product(code="1", name="Chai", unit_price=Decimal(18), connection_id=connection.id),
        ]
        work.session.add_all(others)
        values = {"company_id": company.id, "ordered_on": date(2026, 11, 22), "valid_until": date(2026, 12, 22)}
        values |= {"notes": "", "internal_notes": ""}
        lines = [LineValues("Chai", Decimal(2), Decimal(18))]
        order = create_order(work, values, lines, connection, user_id=None, cause="import")
        order.phase = CONFIRMED
        for record in (company, order, *others):
            work.session.flush()
            record.sage_id = "1"
            give_status(work, record, Reason.IN_STEP, {"code": "in_step"})
        work.commit()
    return {
        module: next(one.id for one in (company, order, *others) if isinstance(one, kind))
        for module, kind in _KINDS.items()
    }


def change_record(services: Services, module: str, record_id: int) -> None:
    """As a push does it: in step, or sent again."""
    with services.database.unit_of_work() as work:
        record = work.session.get_one(_KINDS[module], record_id)
        reason = Reason.RUNNING if record.sync_reason == Reason.IN_STEP else Reason.IN_STEP
        give_status(work, record, reason, {"code": str(reason)})
        work.commit()


def change_connection(services: Services, connection_id: int) -> None:
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id)
        connection.state = PAUSED if connection.state == CONNECTED else CONNECTED
        work.touch(connection)
        work.commit()


def shown(browser: FlaskClient, path: str) -> str:
    """The page, without what is another one at each answer."""
    answer = browser.get(path)
    assert answer.status_code == 200
    return re.sub(r'name="csrf_token" value="[^"]*"|X-CSRFToken": "[^"]*"|nonce="[^"]*"', "", answer.text)


def shown_while(app: Flask, browser: FlaskClient, path: str, number: int, change: Callable[[], None]) -> str | None:
    """The page where `change` happens right after that statement of it; None where it is read by fewer."""
    engine = app.extensions["synclight"].database.engine
    seen = 0

    def count(*_statement: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            change()

    event.listen(engine, "after_cursor_execute", count)
    try:
        page = shown(browser, path)
    finally:
        event.remove(engine, "after_cursor_execute", count)
    return page if seen >= number else None


@pytest.mark.parametrize("page", [*_KINDS, "orders/edit", "connection"])
def test_a_page_is_of_the_moment_before_a_change_or_after_it(
    app: Flask,
    browser_of_admin: FlaskClient,
    services: Services,
    connection: Connection,
    made: dict[str, int],
    page: str,
) -> None:
    module = page.removesuffix("/edit")
    path = f"/{page.replace(module, f'{module}/{made.get(module, connection.id)}')}"

    def change() -> None:
        if module in _KINDS:
            change_record(services, module, made[module])
        else:
            change_connection(services, connection.id)

    after = shown(browser_of_admin, path)
    for number in range(1, _STATEMENTS):
        before = after
        page_read = shown_while(app, browser_of_admin, path, number, change)
        if page_read is None:
            break
        after = shown(browser_of_admin, path)
        assert before != after
        assert page_read in (before, after), f"changed after statement {number}"
    else:
        pytest.fail(f"{path} is read by more than {_STATEMENTS} statements")
    assert number > 5


@pytest.mark.parametrize(("views", "reads"), [(contact_views, "list_contacts"), (order_views, "list_orders")])
def test_a_list_is_shown_though_its_company_becomes_one_with_another_meanwhile(
    browser_of_sam: FlaskClient,
    services: Services,
    connection: Connection,
    made: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    views: ModuleType,
    reads: str,
) -> None:
    with services.database.unit_of_work() as work:
        other = create_company(work, {"name": "Stays"}, connection, user_id=None, cause="edit")
        work.commit()
    read = getattr(views, reads)

    def read_before(*args: Any) -> Any:
        page = read(*args)
        with services.database.engine.begin() as beside:
            for table in ("contact", "sales_order"):
                beside.execute(text(f"UPDATE {table} SET company_id = {other.id}"))
            beside.execute(text(f"DELETE FROM company WHERE id = {made['companies']}"))
        return page

    monkeypatch.setattr(views, reads, read_before)
    module = views.blueprint.name
    assert ">Alfreds Futterkiste<" in browser_of_sam.get(f"/{module}").text
    monkeypatch.undo()
    assert ">Stays<" in browser_of_sam.get(f"/{module}").text
