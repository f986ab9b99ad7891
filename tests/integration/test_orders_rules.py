"""How an order comes to be, is edited and is sent: the rules, on a real database."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import CONNECTED, Connection
from webapp.db import UnitOfWork
from webapp.orders.amounts import LineValues, lines_text
from webapp.orders.changes import confirm_order, create_order, edit_order, is_closed
from webapp.orders.models import Order, OrderLine
from webapp.products.models import Product
from webapp.status import Reason
from webapp.sync.models import SyncEvent

CHAI = LineValues("Chai", Decimal(2), Decimal(18), tax_rate=Decimal(20))
FREE = LineValues("Free sample", Decimal(1), Decimal(0))


@pytest.fixture
def connection(work: UnitOfWork) -> Connection:
    made = Connection(api_url="http://127.0.0.1:1", business_name="Northwind Ltd", state=CONNECTED)
    work.session.add(made)
    work.session.flush()
    return made


@pytest.fixture
def company(work: UnitOfWork, connection: Connection) -> Company:
    made = create_company(work, {"name": "Alfreds Futterkiste"}, connection, user_id=None, cause="edit")
    made.sage_id = "c1"
    give_status(work, made, Reason.IN_STEP, {"code": "in_step"})
    work.session.flush()
    work.pushes.clear()
    return made


def make(work: UnitOfWork, company: Company, connection: Connection | None, *lines: LineValues, **more: Any) -> Order:
    values = {
        "company_id": company.id,
        "number": "",
        "ordered_on": date(2026, 11, 22),
        "valid_until": date(2026, 12, 22),
        "notes": "",
        "internal_notes": "",
        **more,
    }
    return create_order(work, values, lines, connection, user_id=None, cause="edit")


def edit(work: UnitOfWork, order: Order, *lines: LineValues, **values: object) -> list[str]:
    connection = work.session.scalar(select(Connection))
    return edit_order(work, order, values, lines, connection, user_id=None)


def state(order: Order) -> tuple[str, str, str]:
    return order.phase, order.sync_reason, order.sync_detail["code"]


def events(work: UnitOfWork, order: Order) -> list[str]:
    work.session.flush()
    return list(work.session.scalars(select(SyncEvent.cause).where(SyncEvent.kind == "order").order_by(SyncEvent.id)))


def test_an_order_adds_itself_up_and_gets_a_number(work: UnitOfWork, company: Company, connection: Connection) -> None:
    coffee = LineValues("Coffee", Decimal("1.5"), Decimal("46.00"), Decimal("9"), Decimal(5))
    order = make(work, company, connection, CHAI, coffee, shipping=Decimal("4.50"))
    assert order.number.startswith("S-00")
    assert (order.net_total, order.tax_total, order.total) == (Decimal("100.50"), Decimal("10.20"), Decimal("110.70"))
    assert [line.position for line in order.lines] == [1, 2]
    assert state(order) == ("validated", "never_sent", "validated")
    assert order.company_name == "Alfreds Futterkiste"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((), "no_lines"),
        ((CHAI, FREE), "no_price"),
        ((LineValues("Tea", Decimal(1), Decimal(5), Decimal(6)),), "discount_too_high"),
    ],
)
def test_prices_that_are_not_valid_say_what_to_mend(
    work: UnitOfWork, company: Company, connection: Connection, lines: tuple[LineValues, ...], code: str
) -> None:
    order = make(work, company, connection, *lines)
    assert state(order) == ("validating", "never_sent", code)
    assert not confirm_order(work, order, connection, user_id=None)
    assert state(order) == ("validating", "never_sent", code)
    edit(work, order, CHAI)
    assert state(order) == ("validated", "never_sent", "validated")


def test_lines_are_replaced_as_a_whole(work: UnitOfWork, company: Company, connection: Connection) -> None:
    product = Product(code="2", name="Chang", unit_price=Decimal(19))
    work.session.add(product)
    work.session.flush()
    order = make(work, company, connection, CHAI, FREE, CHAI)
    chang = LineValues("Chang", Decimal(3), Decimal(19), product_id=product.id)
    for lines in ((chang,), (FREE, chang), (CHAI, chang, FREE, chang), ()):
        assert edit(work, order, *lines) == ["lines"]
        work.session.flush()
        stored = work.session.execute(
            select(OrderLine.position, OrderLine.description, OrderLine.product_id)
            .where(OrderLine.order_id == order.id)
            .order_by(OrderLine.position)
        ).all()
        assert stored == [(n, one.description, one.product_id) for n, one in enumerate(lines, start=1)]
    assert order.total == 0


def test_what_sage_holds_can_be_taken_over(work: UnitOfWork, company: Company, connection: Connection) -> None:
    order = make(work, company, connection, CHAI, FREE)
    tea = LineValues("Tea", Decimal(1), Decimal(5))
    order.take("lines", lines_text([FREE, tea, CHAI]))
    work.session.flush()
    work.session.expire(order)
    work.session.refresh(order, ["lines", "total"])
    assert [line.description for line in order.lines] == ["Free sample", "Tea", "Chai"]
    assert order.total == Decimal("48.20")


def test_any_edit_before_it_is_sent_validates_anew(work: UnitOfWork, company: Company, connection: Connection) -> None:
    order = make(work, company, connection, CHAI)
    edit(work, order, CHAI, FREE)
    assert state(order) == ("validating", "never_sent", "no_price")
    edit(work, order, CHAI, shipping=Decimal(5))
    assert state(order) == ("validated", "never_sent", "validated")
    assert order.total == Decimal("48.20")


def test_nothing_is_sent_before_somebody_says_so_and_twice_is_once(
    work: UnitOfWork, company: Company, connection: Connection
) -> None:
    order = make(work, company, connection, CHAI)
    assert not work.pushes
    assert confirm_order(work, order, connection, user_id=None)
    assert state(order) == ("confirmed", "queued", "queued")
    assert work.pushes == {connection.id}
    give_status(work, order, Reason.IN_STEP, {"code": "in_step"})
    assert not confirm_order(work, order, connection, user_id=None)
    assert state(order) == ("confirmed", "in_step", "in_step")
    assert events(work, order).count("confirm") == 1


def test_an_order_waits_for_its_company_and_stays_out_with_a_prospect(
    work: UnitOfWork, company: Company, connection: Connection
) -> None:
    company.sage_id = None
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    assert state(order) == ("confirmed", "waiting_for_parent", "waiting_for_parent")
    company.type = "prospect"
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    assert state(order) == ("confirmed", "excluded", "excluded_with_company")


@pytest.mark.parametrize("reason", [Reason.REJECTED, Reason.RETRYING, Reason.WAITING_FOR_PARENT])
def test_an_order_that_is_not_in_sage_yet_can_be_mended(
    work: UnitOfWork, company: Company, connection: Connection, reason: Reason
) -> None:
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    give_status(work, order, reason, {"code": "refused"})
    edit(work, order, CHAI, notes="Rear entrance")
    assert state(order) == ("confirmed", "queued", "queued"), "it stays on its way"
    give_status(work, order, reason, {"code": "refused"})
    edit(work, order, FREE)
    assert state(order) == ("validating", "never_sent", "no_price"), "it falls back"
    edit(work, order, CHAI)
    assert state(order) == ("validated", "never_sent", "validated"), "and is sent when somebody says so again"


def test_saving_is_the_remedy_of_an_error(work: UnitOfWork, company: Company, connection: Connection) -> None:
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    give_status(work, order, Reason.REJECTED, {"code": "refused"})
    assert edit(work, order, CHAI) == []
    assert order.sync_reason == "queued"


def test_what_stays_here_is_not_sent(work: UnitOfWork, company: Company, connection: Connection) -> None:
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    give_status(work, order, Reason.RETRYING, {"code": "queued"})
    assert edit(work, order, CHAI, internal_notes="Pays late") == ["internal_notes"]
    assert order.sync_reason == "retrying"


@pytest.mark.parametrize("reason", [Reason.IN_STEP, Reason.RUNNING, Reason.OUTCOME_UNKNOWN, Reason.CONFLICT])
def test_what_sage_has_or_is_getting_is_closed(
    work: UnitOfWork, company: Company, connection: Connection, reason: Reason
) -> None:
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    if reason not in (Reason.RUNNING, Reason.OUTCOME_UNKNOWN):
        order.sage_id = "q1"
    give_status(work, order, reason, {"code": "in_step"})
    work.session.flush()
    work.pushes.clear()
    work.touched.clear()
    assert is_closed(order)
    changed = edit(work, order, FREE, number="X", notes="No", shipping=Decimal(9), internal_notes="Ours")
    assert changed == ["internal_notes"]
    assert (order.internal_notes, order.notes, order.shipping, order.total) == ("Ours", "", 0, Decimal("43.20"))
    assert (order.phase, order.sync_reason) == ("confirmed", reason)
    assert not work.pushes
    assert list(work.touched) == [order.key], "other pages are told"


def test_an_unlinked_order_is_not_sent_by_saving(work: UnitOfWork, company: Company, connection: Connection) -> None:
    order = make(work, company, connection, CHAI)
    confirm_order(work, order, connection, user_id=None)
    give_status(work, order, Reason.UNLINKED, {"code": "unlinked"}, cause="unlink")
    edit(work, order, CHAI, CHAI)
    assert state(order) == ("confirmed", "unlinked", "unlinked")


def test_orders_of_the_past_are_sent_at_once_where_their_prices_are_valid(
    work: UnitOfWork, company: Company, connection: Connection
) -> None:
    values = {"company_id": company.id, "number": "10248", "ordered_on": date(1996, 7, 4)}
    values["valid_until"] = date(1996, 8, 1)
    sent = create_order(work, values, [CHAI], connection, user_id=None, cause="import", confirmed=True)
    assert state(sent) == ("confirmed", "queued", "queued")
    values["number"] = "10249"
    kept = create_order(work, values, [FREE], connection, user_id=None, cause="import", confirmed=True)
    assert state(kept) == ("validating", "never_sent", "no_price")


def test_two_orders_cannot_have_one_number(work: UnitOfWork, company: Company, connection: Connection) -> None:
    make(work, company, connection, CHAI, number="A-1")
    with pytest.raises(IntegrityError):
        make(work, company, connection, CHAI, number="A-1")
