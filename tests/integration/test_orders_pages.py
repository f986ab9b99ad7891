"""The pages of orders over HTTP: what they show, what they refuse, and what they change in the database."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from tests.locks import waits_for_a_lock
from tests.people import csrf_token, shown_version
from tests.stack import wait_until
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.orders.amounts import LineValues, lines_text
from webapp.orders.changes import create_order, edit_order
from webapp.orders.models import Order
from webapp.orders.queries import find_order
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import Conflict
from webapp.users.models import User

CHAI = LineValues("Chai", Decimal(2), Decimal(18), tax_rate=Decimal(20))
FREE = LineValues("Free sample", Decimal(1), Decimal(0))


@pytest.fixture
def company(services: Services, connection: Connection) -> Company:
    """A company that Sage has."""
    return add_company(services, connection, "Alfreds Futterkiste")


@pytest.fixture
def maria(services: Services, company: Company) -> Contact:
    with services.database.unit_of_work() as work:
        made = Contact(company_id=company.id, name="Maria Anders")
        work.session.add(made)
        work.commit()
    return made


@pytest.fixture
def products(services: Services, connection: Connection) -> dict[str, int]:
    """Products by their names; Chai is sold by two codes, Tofu no longer."""
    made = [
        Product(code="1", name="Chai", unit_price=Decimal(18)),
        Product(code="2", name="Chang", unit_price=Decimal(19)),
        Product(code="38", name="Côte de Blaye", unit_price=Decimal("263.50")),
        Product(code="14", name="Tofu", unit_price=Decimal(23), discontinued=True),
    ]
    with services.database.unit_of_work() as work:
        for one in made:
            one.connection_id = connection.id
        work.session.add_all(made)
        work.commit()
    return {one.name: one.id for one in made}


@pytest.fixture
def order(services: Services, company: Company, connection: Connection) -> Order:
    """An order with valid prices that nobody has had sent."""
    return add(services, company, connection, CHAI)


def add_company(services: Services, connection: Connection, name: str) -> Company:
    with services.database.unit_of_work() as work:
        made = create_company(work, {"name": name}, connection, user_id=None, cause="import")
        made.sage_id = f"id of {name}"
        give_status(work, made, Reason.IN_STEP, {"code": "in_step"})
        work.commit()
    return made


def add(services: Services, company: Company, connection: Connection | None, *lines: LineValues, **more: Any) -> Order:
    values = {
        "company_id": company.id,
        "ordered_on": date(2026, 11, 22),
        "valid_until": date(2026, 12, 22),
        "notes": "",
        "internal_notes": "",
        **more,
    }
    with services.database.unit_of_work() as work:
        made = create_order(work, values, lines, connection, user_id=None, cause="edit")
        work.commit()
    return made


def put(services: Services, order: Order, reason: Reason, sage_id: str | None = None, **detail: Any) -> None:
    """Give an order a status, as a worker does, and what Sage calls it."""
    with services.database.unit_of_work() as work:
        found = work.session.get_one(Order, order.id)
        found.phase, found.sage_id = "confirmed", sage_id
        give_status(work, found, reason, {"code": str(reason), **detail})
        work.commit()


def stored(services: Services, order_id: int) -> Order:
    with Session(services.database.engine) as session:
        found = find_order(session, order_id)
        assert found is not None
        return found


def count(services: Services) -> int:
    with Session(services.database.engine) as session:
        return session.scalar(select(func.count()).select_from(Order)) or 0


def numbers(page: str) -> list[str]:
    """The numbers in the list, in its order."""
    return [unescape(one) for one in re.findall(r'data-row="order:\d+".*?data-value="number">([^<]*)<', page, re.S)]


def line(description: str, quantity: str = "1", unit_price: str = "", discount: str = "", tax: str = "") -> list[str]:
    return ["", description, quantity, unit_price, discount, tax]


def send(client: FlaskClient, path: str, *lines: list[str], **fields: str) -> TestResponse:
    """Send the form of an order with these lines. `fields` has `lines` where the form has room for lines."""
    form: dict[str, Any] = {"csrf_token": csrf_token(client, "/me"), **fields}
    names = ("product_id", "description", "quantity", "unit_price", "discount", "tax_rate")
    for position, name in enumerate(names):
        form[name] = [one[position] for one in lines]
    return client.post(path, data=form)


def opened(client: FlaskClient, path: str) -> dict[str, str]:
    """What the form at `path` holds, as a browser would send it, but its lines."""
    page = client.get(path).text.split('data-role="order-form"')[1]
    fields = dict(re.findall(r'<input [^>]*?name="([a-z_-]+)"[^>]*? value="([^"]*)"', page))
    fields |= dict(re.findall(r'<textarea [^>]*?name="([a-z_]+)"[^>]*>\n?([^<]*)</textarea>', page))
    for name, options in re.findall(r'<select [^>]*?name="([a-z_]+)"[^>]*>(.*?)</select>', page, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        fields[name] = chosen[1] if chosen else ""
    gone = {"csrf_token", "find", "product_id", "description", "quantity", "unit_price", "discount", "tax_rate"}
    return {name: unescape(value) for name, value in fields.items() if name not in gone}


def new(company: Company, **fields: str) -> dict[str, str]:
    """A form for a new order."""
    return {
        "company_id": str(company.id),
        "ordered_on": "2026-11-22",
        "valid_until": "2026-12-22",
        "once": "form-1",
        "lines": "typed",
        **fields,
    }


# ---- The list -------------------------------------------------------------------------------------------------------


def test_an_empty_module_says_how_to_begin(browser_of_sam: FlaskClient) -> None:
    page = browser_of_sam.get("/orders").text
    assert 'data-role="no-orders"' in page
    assert "<code>synclight import orders.csv --kind order</code>" in page


def test_the_list_shows_the_newest_first(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection, sam: User
) -> None:
    other = add_company(services, connection, "Berglunds snabbköp")
    add(services, company, connection, CHAI, number="A-1", ordered_on=date(2026, 1, 5), owner_id=sam.id)
    add(services, other, connection, number="B-2", ordered_on=date(2026, 3, 5), notes="Rear entrance")
    add(services, company, connection, CHAI, CHAI, number="C-3", ordered_on=date(2026, 2, 5))
    page = browser_of_sam.get("/orders").text
    assert numbers(page) == ["B-2", "C-3", "A-1"]
    assert 'data-value="ordered_on">5 Mar 2026<' in page
    assert 'data-value="total">86.40<' in page
    assert f'href="/companies/{company.id}"' in page
    for address, found in (
        ("sort=ordered_on", ["A-1", "C-3", "B-2"]),
        ("sort=number", ["A-1", "B-2", "C-3"]),
        ("sort=-company", ["B-2", "C-3", "A-1"]),
        ("sort=total", ["B-2", "A-1", "C-3"]),
        ("sort=-last_synchronised_at", ["C-3", "B-2", "A-1"]),
        (f"company={company.id}", ["C-3", "A-1"]),
        (f"owner={sam.id}", ["A-1"]),
        ("owner=none", ["B-2", "C-3"]),
        (f"owner={sam.id}&owner=none", ["B-2", "C-3", "A-1"]),
        (f"company={company.id}&company={other.id}", ["B-2", "C-3", "A-1"]),
        ("phase=validating", ["B-2"]),
        ("phase=validating&phase=synchronised", ["B-2"]),
        ("phase=validating&phase=validated", ["B-2", "C-3", "A-1"]),
        ("total_from=43.2", ["C-3", "A-1"]),
        ("total_from=43.21&sort=total", ["C-3"]),
        ("total_to=43.2&sort=-total", ["A-1", "B-2"]),
        ("total_from=1&total_to=50&phase=validated", ["A-1"]),
        ("phase=validated", ["C-3", "A-1"]),
        ("phase=synchronising", []),
        ("ordered_from=2026-02-05", ["B-2", "C-3"]),
        ("ordered_from=2026-02-05&ordered_to=2026-02-05", ["C-3"]),
        ("status=not_synchronised&ordered_to=5/2/2026", ["C-3", "A-1"]),
        ("q=bergl", ["B-2"]),
        ("q=rear", ["B-2"]),
        ("q=c-3", ["C-3"]),
    ):
        page = browser_of_sam.get(f"/orders?{address}", follow_redirects=True).text
        assert numbers(page) == found, address
        assert 'data-role="query-problem"' not in page, address


def test_the_orders_that_name_a_product_are_on_its_page_and_in_the_list(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection, products: dict[str, int]
) -> None:
    chai, chang = (replace(CHAI, description=name, product_id=products[name]) for name in ("Chai", "Chang"))
    add(services, company, connection, chai, chai, chang, number="A-1", ordered_on=date(2026, 1, 5))
    add(services, company, connection, CHAI, number="B-2")
    for number in range(11):
        add(services, company, connection, chang, number=f"C-{number}", ordered_on=date(2026, 2, 1 + number))
    address = f"/orders?product={products['Chai']}"
    page = browser_of_sam.get(address).text
    assert numbers(page) == ["A-1"]
    assert re.search(r'class="chip" href="/orders">Chai', page)
    assert numbers(browser_of_sam.get(f"{address}&product={products['Tofu']}").text) == ["A-1"]
    page = browser_of_sam.get(f"/products/{products['Chai']}").text.split('data-role="related-orders"')[1]
    assert numbers(page) == ["A-1"]
    assert 'data-value="company_name">Alfreds Futterkiste<' in page
    page = browser_of_sam.get(f"/products/{products['Chang']}").text.split('data-role="related-orders"')[1]
    assert numbers(page) == [f"C-{number}" for number in range(10, 0, -1)]
    assert f'href="/orders?product={products["Chang"]}">All 12 orders<' in page
    assert "No orders yet." in browser_of_sam.get(f"/products/{products['Tofu']}").text


def test_of_several_connections_the_company_says_whose_products_are_suggested(
    browser_of_sam: FlaskClient, services: Services, company: Company, products: dict[str, int]
) -> None:
    address = "/orders/new?description=cha"
    assert '<option value="Chai">' in browser_of_sam.get(address).text
    with services.database.unit_of_work() as work:
        work.session.add(Connection(api_url="http://127.0.0.1:1/v3.1", business_id="b" * 32))
        work.commit()
    assert '<option value="Chai">' not in browser_of_sam.get(address).text
    assert '<option value="Chai">' in browser_of_sam.get(f"{address}&company={company.id}").text


def test_a_total_is_typed_as_the_reader_writes_and_addressed_as_everybody_reads(
    browser_of_sam: FlaskClient, order: Order
) -> None:
    browser_of_sam.set_cookie("language", "de")
    answer = browser_of_sam.get("/orders?total_from=1.250&total_to=2.000,50&owner=none")
    assert (answer.status_code, answer.location) == (302, "/orders?owner=none&total_from=1250&total_to=2000.50")
    page = browser_of_sam.get(answer.location).text
    assert 'name="total_from" value="1250"' in page
    assert 'name="total_to" value="2000,50"' in page
    chips = re.findall(r'class="chip" href="[^"]*">([^<]+)', page)
    assert chips == ["Zuständig: niemand", "Summe ab 1.250,00", "Summe bis 2.000,50"]
    assert browser_of_sam.get("/orders?total_from=viel").status_code == 200


def test_each_choice_of_a_filter_has_its_count(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection, sam: User
) -> None:
    add(services, company, connection, CHAI, number="A-1", owner_id=sam.id)
    add(services, company, connection, number="B-2")
    sent = add(services, company, connection, CHAI, number="C-3", owner_id=sam.id)
    put(services, sent, Reason.QUEUED)
    told = {f"owner:{sam.id}": "2", "owner:none": "1", f"connection:{connection.id}": "3"}
    phases = {"phase:validating": "1", "phase:validated": "1", "phase:synchronising": "1", "phase:synchronised": "0"}
    assert browser_of_sam.get("/orders/counts").json == told | phases
    put(services, sent, Reason.IN_STEP)
    phases |= {"phase:synchronising": "0", "phase:synchronised": "1"}
    assert browser_of_sam.get("/orders/counts").json == told | phases


def test_an_impossible_address_is_a_message_and_not_an_error(browser_of_sam: FlaskClient, order: Order) -> None:
    for address, words in (
        ("phase=done", "The filter “Phase” has no choice “done”."),
        ("owner=77", "The filter “Owner” has no choice “77”."),
        ("company=99", "The filter “Company” has no choice “99”."),
        ("company=x", "The filter “Company” has no choice “x”."),
        ("product=99", "The filter “Product” has no choice “99”."),
        ("total_from=much", "The lowest total cannot be read"),
        ("ordered_from=soon", "The first day cannot be read"),
        ("sort=weight", "It is sorted by: Date."),
        ("after=nonsense", "does not exist"),
    ):
        answer = browser_of_sam.get(f"/orders?{address}")
        assert answer.status_code == 200, address
        assert words in unescape(answer.text)
        assert numbers(answer.text) == [order.number]


def test_paging_meets_every_order_once(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    with services.database.unit_of_work() as work:
        for index in range(60):
            values = {"company_id": company.id, "number": f"N-{index}", "ordered_on": date(2026, 1, 1 + index % 20)}
            values["valid_until"] = date(2026, 12, 31)
            one = LineValues("Tea", Decimal(1 + index % 7), Decimal("3.33"))
            create_order(work, values, [one], connection, user_id=None, cause="import")
        work.commit()
    for sort in ("-ordered_on", "number", "-company", "total", "-last_synchronised_at"):
        first = browser_of_sam.get(f"/orders?sort={sort}").text
        following = re.search(r'rel="next" href="([^"]+)"', first)
        assert following
        second = browser_of_sam.get(unescape(following[1])).text
        assert (len(numbers(first)), len(numbers(second))) == (50, 10), sort
        assert {*numbers(first), *numbers(second)} == {f"N-{index}" for index in range(60)}


# ---- One order ------------------------------------------------------------------------------------------------------


def steps(page: str) -> list[str]:
    return re.findall(r'<li data-place="(\w+)"', page)


def test_the_four_phases(browser_of_sam: FlaskClient, services: Services, order: Order) -> None:
    address = f"/orders/{order.id}"
    page = browser_of_sam.get(address).text
    assert steps(page) == ["done", "now", "next", "next"]
    assert re.search(r'aria-current="step">.{1,200}Prices validated', page, re.S)
    assert 'data-role="confirm"' in page
    assert "the order goes to Sage, and from then on" in page, "nobody has chosen yet what it becomes there"
    for orders_as, words, last_day in (
        ("quotes", "goes to Sage as a sales quote", "Valid until"),
        ("invoices", "booked in Sage as a sales invoice", "Due on"),
    ):
        with services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, order.connection_id)
            connection.business_id, connection.orders_as = "b" * 32, orders_as
            work.commit()
        page = browser_of_sam.get(address).text
        assert words in page
        assert f"<dt>{last_day}</dt>" in page
        assert f'<label for="valid_until">{last_day}</label>' in browser_of_sam.get(f"{address}/edit").text
    put(services, order, Reason.RUNNING)
    page = browser_of_sam.get(address).text
    assert steps(page) == ["done", "done", "now", "next"]
    assert 'data-role="confirm"' not in page
    put(services, order, Reason.IN_STEP, "q1")
    page = browser_of_sam.get(address).text
    assert steps(page) == ["done"] * 4
    assert "Sage has this order: its lines, dates, number and notes are changed there." in page


def test_prices_that_are_not_valid_say_what_to_mend(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    made = add(services, company, connection, CHAI, FREE)
    page = browser_of_sam.get(f"/orders/{made.id}").text
    assert steps(page) == ["now", "next", "next", "next"]
    assert "Line 2 has no price. Enter the price and save" in page
    assert 'data-role="confirm"' not in page


def test_lines_and_totals_are_shown_to_the_cent(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    wine = LineValues("Wine <b>", Decimal("1.5"), Decimal("1234.50"), Decimal("10.25"), Decimal("5.5"))
    made = add(services, company, connection, CHAI, wine, shipping=Decimal("32.38"))
    page = browser_of_sam.get(f"/orders/{made.id}").text
    lines = page[page.index('id="lines"') :]
    assert "Wine &lt;b&gt;" in lines
    assert [">1.5<" in lines, ">1,234.50<" in lines, ">10.25<" in lines, ">5.5 %<" in lines] == [True] * 4
    assert ">1,841.50<" in lines, "1.5 of it less the discount"
    assert 'data-value="net_total">1,909.88<' in lines
    assert 'data-value="tax_total">108.48<' in lines
    assert 'data-value="total">2,018.36<' in lines
    form = browser_of_sam.get(f"/orders/{made.id}/edit", headers={"Accept-Language": "de"}).text
    assert [f'value="{typed}"' in form for typed in ("1,5", "1234,50", "10,25", "32,38")] == [True] * 4
    assert 'name="drawn_in" value="de"' in form


def test_confirming_sends_it_once(browser_of_sam: FlaskClient, services: Services, order: Order) -> None:
    for words in ("It is sent to Sage now.", "It was sent before."):
        answer = send(browser_of_sam, f"/orders/{order.id}/confirm")
        assert (answer.status_code, answer.location) == (303, f"/orders/{order.id}")
        assert words in browser_of_sam.get(answer.location).text
    after = stored(services, order.id)
    assert (after.phase, after.sync_reason) == ("confirmed", "queued")


def test_what_was_changed_since_the_page_was_drawn_is_looked_at_before_it_is_sent(
    browser_of_sam: FlaskClient, services: Services, order: Order
) -> None:
    address = f"/orders/{order.id}"
    seen = shown_version(browser_of_sam.get(address).text)
    with services.database.unit_of_work() as work:
        found = find_order(work.session, order.id, lock=True)
        assert found is not None
        edit_order(work, found, {}, [CHAI, CHAI], None, user_id=None)
        work.commit()
    send(browser_of_sam, f"{address}/confirm", version=seen)
    page = browser_of_sam.get(address).text
    assert "Somebody changed this order meanwhile." in page
    assert stored(services, order.id).phase == "validated"
    send(browser_of_sam, f"{address}/confirm", version=shown_version(page))
    assert stored(services, order.id).phase == "confirmed"


def test_an_order_whose_prices_are_not_valid_is_not_sent(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    made = add(services, company, connection)
    answer = send(browser_of_sam, f"/orders/{made.id}/confirm")
    assert "Its prices are not valid yet." in browser_of_sam.get(answer.location).text
    assert stored(services, made.id).phase == "validating"


def test_a_conflict_of_lines_shows_both_as_tables(
    browser_of_admin: FlaskClient, services: Services, order: Order
) -> None:
    theirs = lines_text([LineValues("Chai", Decimal(5), Decimal("17.00")), LineValues("Tea", Decimal(1), Decimal(3))])
    with services.database.unit_of_work() as work:
        work.session.add(
            Conflict(kind="order", record_id=order.id, field="lines", base=None, ours=lines_text([CHAI]), theirs=theirs)
        )
        work.commit()
    put(services, order, Reason.CONFLICT, "q1", fields=["lines"])
    page = browser_of_admin.get(f"/orders/{order.id}").text
    choices = page[page.index('data-role="choices"') : page.index("Keep these")]
    assert choices.count("<table") == 2
    assert "{" not in choices
    assert ">17.00<" in choices
    answer = send(browser_of_admin, f"/orders/{order.id}/choose")
    assert answer.status_code == 303
    form = {"csrf_token": csrf_token(browser_of_admin, "/me"), "lines": "theirs"}
    browser_of_admin.post(f"/orders/{order.id}/choose", data=form)
    after = stored(services, order.id)
    assert [one.description for one in after.lines] == ["Chai", "Tea"]
    assert after.total == Decimal("88.00")


# ---- A new order ----------------------------------------------------------------------------------------------------


def test_an_order_is_made(
    browser_of_sam: FlaskClient, services: Services, company: Company, maria: Contact, sam: User
) -> None:
    fields = new(company, contact_id=str(maria.id), owner_id=str(sam.id), notes="Rear\r\nentrance", shipping="£4,50")
    answer = send(
        browser_of_sam, "/orders/new", line("Coffee", "2,5", "£1,046.00", "9", "20%"), line("", "1"), **fields
    )
    assert answer.status_code == 303
    made = stored(services, int(answer.location.rsplit("/", 1)[1]))
    assert (made.company_id, made.contact_id, made.owner_id) == (company.id, maria.id, sam.id)
    assert (made.notes, made.ordered_on, made.valid_until) == ("Rear\nentrance", date(2026, 11, 22), date(2026, 12, 22))
    assert [(one.description, one.quantity, one.discount) for one in made.lines] == [("Coffee", Decimal("2.5"), 9)]
    assert made.total == Decimal("3131.70")
    assert (made.phase, made.sync_reason) == ("validated", "never_sent")


def test_a_new_form_begins_with_what_its_address_says(
    browser_of_sam: FlaskClient, company: Company, maria: Contact, sam: User
) -> None:
    form = opened(browser_of_sam, f"/orders/new?company={company.id}&contact={maria.id}")
    assert (form["company_id"], form["contact_id"], form["owner_id"]) == (
        str(company.id),
        str(maria.id),
        str(sam.id),
    )
    days = date.fromisoformat(form["valid_until"]) - date.fromisoformat(form["ordered_on"])
    assert days.days == 30


def test_each_mistake_is_said_and_what_was_typed_is_kept(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    lines = (line("Coffee", "none", "12"), line("", "1", "abc"))
    answer = send(browser_of_sam, "/orders/new", *lines, **new(company, ordered_on="", shipping="much"))
    assert answer.status_code == 422
    page = unescape(answer.text)
    assert "5 fields need your attention" in page
    for sentence in (
        ": enter the quantity as a number above 0.",
        ": choose a product or write what is ordered.",
        ": enter the price as a number from 0.",
        "Enter the date of the order as a day",
        "Enter the shipping as an amount from 0",
    ):
        assert page.count(sentence) == 2, sentence
    assert '<a href="#quantity-1" hx-boost="false">Line 1</a>: enter the quantity' in page
    assert 'id="unit_price-2-error"' in page
    assert re.search(r'id="quantity-1"[^>]* value="none"[^>]* aria-invalid="true"', page)
    assert re.search(r'id="unit_price-2"[^>]* value="abc"', page)
    assert re.search(r'id="shipping"[^>]* value="much"', page)
    assert count(services) == 0


def test_an_order_needs_a_company_and_a_contact_of_it(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company, maria: Contact
) -> None:
    answer = send(browser_of_sam, "/orders/new", **new(company, company_id=""))
    assert answer.status_code == 422
    assert "Search for the company of the order, then choose it." in answer.text
    other = add_company(services, connection, "Other")
    answer = send(browser_of_sam, "/orders/new", **new(other, contact_id=str(maria.id)))
    assert answer.status_code == 422
    assert "This is no contact of the company." in answer.text
    assert count(services) == 0


def test_a_number_that_is_taken_is_said_at_its_field(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection, order: Order
) -> None:
    answer = send(browser_of_sam, "/orders/new", line("Tea", "1", "3"), **new(company, number=order.number))
    assert answer.status_code == 422
    assert "Another order has this number." in answer.text
    other = add(services, company, connection, CHAI)
    path = f"/orders/{other.id}/edit"
    answer = send(browser_of_sam, path, **opened(browser_of_sam, path) | {"number": order.number})
    assert "Another order has this number." in answer.text


def test_the_same_form_sent_twice_makes_one_order(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    first, second = (send(browser_of_sam, "/orders/new", line("Tea", "1", "3"), **new(company)) for _ in range(2))
    assert (first.status_code, first.location) == (second.status_code, second.location)
    since = send(browser_of_sam, "/orders/new", line("Tea", "2", "3"), **new(company))
    assert since.status_code == 409, "what was typed since is not lost"
    assert re.search(r'name="quantity" value="2"', since.text)
    assert "As it was added" in since.text
    assert count(services) == 1


def test_two_equal_forms_at_the_same_moment_make_one_order(
    app: Flask, browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    """The second one gets as far as the insert while the first has not committed yet, and waits for it there."""
    with ThreadPoolExecutor(1) as second, services.database.unit_of_work() as work:
        values = {
            "company_id": company.id,
            "made_by_form": "form-1",
            "ordered_on": date(2026, 11, 22),
            "valid_until": date(2026, 12, 22),
        }
        tea = LineValues("Tea", Decimal(1), Decimal(3))
        first = create_order(work, values, [tea], connection, user_id=None, cause="edit")
        sent = second.submit(send, browser_of_sam, "/orders/new", line("Tea", "1", "3"), **new(company))
        wait_until(lambda: waits_for_a_lock(services))
        work.commit()
        answer = sent.result(timeout=30)
    assert (answer.status_code, answer.location) == (303, f"/orders/{first.id}")
    assert count(services) == 1


# ---- Lines ----------------------------------------------------------------------------------------------------------


def descriptions(page: str) -> list[str]:
    return [unescape(one) for one in re.findall(r'name="description" value="([^"]*)"', page)]


def test_a_line_is_added_and_removed_without_saving(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    two = (line("Tea", "2", "3", "", "20"), line("Milk", "1", "x"))
    answer = send(browser_of_sam, "/orders/new", *two, **new(company, add="1", notes="Kept"))
    assert answer.status_code == 200
    assert descriptions(answer.text) == ["Tea", "Milk", ""]
    assert re.search(r'id="description-3"[^>]* autofocus', answer.text)
    assert 'value="x"' in answer.text
    assert ">\nKept</textarea>" in answer.text
    assert 'name="once" value="form-1"' in answer.text
    answer = send(browser_of_sam, "/orders/new", *two, **new(company, remove="1"))
    assert descriptions(answer.text) == ["Milk"]
    answer = send(browser_of_sam, "/orders/new", two[0], **new(company, remove="1"))
    assert descriptions(answer.text) == [""], "there is always a line to type in"
    assert count(services) == 0


def test_totals_are_made_while_typing(browser_of_sam: FlaskClient, company: Company) -> None:
    lines = (line("Tea", "2", "3.50", "1", "20"), line("Milk", "1", "x"))
    page = send(browser_of_sam, "/orders/new", *lines, **new(company, again="1", shipping="4")).text
    assert '<output id="net-1-of-2" class="amount summed">6.00</output>' in page
    assert '<output id="net-2-of-2" class="amount summed"></output>' in page
    sums = page[page.index('data-role="sums"') :]
    assert re.findall(r"<dd>([^<]*)</dd>", sums)[:3] == ["10.00", "1.20", "11.20"]


def test_a_product_fills_its_description_and_price(
    browser_of_sam: FlaskClient, services: Services, company: Company, products: dict[str, int]
) -> None:
    lines = (line("chang", "1"), line("38", "1"), line("Chai", "1", "9.99"), line("Something else", "1", "5"))
    page = send(browser_of_sam, "/orders/new", *lines, **new(company, again="1")).text
    assert descriptions(page) == ["Chang", "Côte de Blaye", "Chai", "Something else"]
    assert re.findall(r'name="unit_price" value="([^"]*)"', page) == ["19.00", "263.50", "9.99", "5"]
    chosen = [str(products[name]) for name in ("Chang", "Côte de Blaye", "Chai")]
    assert re.findall(r'name="product_id" value="([^"]*)"', page) == [*chosen, ""]
    # Another product in the same line brings its own price; other words for it do not.
    again = [chosen[0], "Chai", "1", "19.00", "", ""], [chosen[1], "Côte de Blaye 1996", "1", "263.50", "", ""]
    page = send(browser_of_sam, "/orders/new", *again, **new(company, again="1")).text
    assert re.findall(r'name="unit_price" value="([^"]*)"', page) == ["18.00", "263.50"]
    assert re.findall(r'name="product_id" value="([^"]*)"', page) == [chosen[2], chosen[1]]
    answer = send(browser_of_sam, "/orders/new", line("Chai", "3"), line("Tofu", "1", "2"), **new(company))
    made = stored(services, int(answer.location.rsplit("/", 1)[1]))
    assert [one.product_id for one in made.lines] == [products["Chai"], None], "Tofu can no longer be ordered"
    assert made.total == Decimal("56.00")


def test_products_are_found_by_name_and_code(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, products: dict[str, int]
) -> None:
    def found(typed: str) -> list[str]:
        page = browser_of_sam.get("/orders/new", query_string={"description": typed}).text
        return [unescape(one) for one in re.findall(r'<option value="([^"]*)">', page.split('id="products"')[1])]

    assert found("") == ["Chai", "Chang", "Côte de Blaye"]
    assert found("cote") == ["Côte de Blaye"]
    assert found("38") == ["Côte de Blaye"]
    assert found("cha") == ["Chai", "Chang"]
    assert found("tofu") == []
    assert found("%") == []
    with services.database.unit_of_work() as work:
        work.session.add(Product(code="8", name="Muesli", unit_price=Decimal(9), connection_id=connection.id))
        work.commit()
    assert found("MÜS") == found("mu\u0308s") == ["Muesli"]


# ---- Editing --------------------------------------------------------------------------------------------------------


def typed_of(order: Order) -> list[list[str]]:
    return [
        [str(one.product_id or ""), one.description, str(one.quantity), str(one.unit_price), "", str(one.tax_rate)]
        for one in order.lines
    ]


def test_an_edit_is_stored_and_validated_anew(browser_of_sam: FlaskClient, services: Services, order: Order) -> None:
    path = f"/orders/{order.id}/edit"
    form = opened(browser_of_sam, path)
    assert json.loads(form["was-lines"]) == [["", "Chai", "2", "18.00", "", "20"]]
    answer = send(browser_of_sam, path, line("Chai", "2"), **form | {"notes": "New"})
    assert (answer.status_code, answer.location) == (303, f"/orders/{order.id}")
    after = stored(services, order.id)
    assert (after.notes, after.phase, after.sync_detail["code"]) == ("New", "validating", "no_price")
    assert len(send(browser_of_sam, path, **opened(browser_of_sam, path)).headers["Location"]) > 1
    assert stored(services, order.id).lines == [], "all lines were removed"


def test_amounts_are_read_in_the_language_in_which_their_form_was_drawn(
    browser_of_sam: FlaskClient, services: Services, order: Order
) -> None:
    path = f"/orders/{order.id}/edit"
    form = opened(browser_of_sam, path) | {"drawn_in": "de", "shipping": "1.000,50"}
    assert "Summe" in send(browser_of_sam, path, line("Wein", "1", "1.234"), **form | {"again": "1"}).text
    assert send(browser_of_sam, path, line("Wein", "1", "1.234"), **form).status_code == 303
    after = stored(services, order.id)
    assert (after.lines[0].unit_price, after.shipping) == (1234, Decimal("1000.50"))


def test_what_others_saved_meanwhile_is_kept(browser_of_sam: FlaskClient, services: Services, order: Order) -> None:
    path = f"/orders/{order.id}/edit"
    form = opened(browser_of_sam, path)
    send(browser_of_sam, path, line("Tea", "9", "9"), **form)
    answer = send(browser_of_sam, path, *typed_of(order), **form | {"notes": "Mine"})
    assert answer.status_code == 303
    after = stored(services, order.id)
    assert (after.notes, [one.description for one in after.lines]) == ("Mine", ["Tea"])
    assert "Meanwhile somebody else changed lines; that was kept." in browser_of_sam.get(answer.location).text


@pytest.mark.parametrize(("side", "kept"), [("yours", "Milk"), ("theirs", "Tea")])
def test_both_changed_the_lines_and_the_person_chooses(
    browser_of_sam: FlaskClient, services: Services, order: Order, side: str, kept: str
) -> None:
    path = f"/orders/{order.id}/edit"
    form = opened(browser_of_sam, path)
    send(browser_of_sam, path, line("Tea", "9", "9"), **form)
    answer = send(browser_of_sam, path, line("Milk", "1", "2"), **form)
    assert answer.status_code == 409
    page = answer.text
    assert 'data-role="form-differences"' in page
    assert descriptions(page) == ["Milk"], "what was typed is kept"
    theirs = page[page.index('data-role="difference"') :]
    assert theirs.index("Tea") < theirs.index('id="lines"')
    seen = re.search(r'name="was-lines" value="([^"]*)"', page)
    assert seen
    form |= {"was-lines": unescape(seen[1]), "take-lines": side}
    assert send(browser_of_sam, path, line("Milk", "1", "2"), **form).status_code == 303
    assert [one.description for one in stored(services, order.id).lines] == [kept]


def test_what_sage_has_can_only_be_edited_where_it_stays_here(
    browser_of_sam: FlaskClient, services: Services, order: Order, sam: User
) -> None:
    put(services, order, Reason.IN_STEP, "q1")
    path = f"/orders/{order.id}/edit"
    page = browser_of_sam.get(path).text
    assert "Sage has this order" in page
    assert 'name="description"' not in page
    assert 'name="number"' not in page
    form = opened(browser_of_sam, path) | {"internal_notes": "Pays late", "owner_id": str(sam.id)}
    assert send(browser_of_sam, path, **form).status_code == 303
    assert send(browser_of_sam, path, line("Typed", "1"), **form | {"again": "1"}).status_code == 409
    after = stored(services, order.id)
    assert (after.internal_notes, after.owner_id, after.sync_reason) == ("Pays late", sam.id, "in_step")
    assert (after.phase, len(after.lines), after.total) == ("confirmed", 1, order.total)
    put(services, order, Reason.DELETED_IN_SAGE, "q1")
    for page in (path, f"/orders/{order.id}"):
        told = browser_of_sam.get(page).text
        assert "This order was deleted in Sage. Until an admin restores it there or unlinks it here" in told
        assert "Sage has this order" not in told


def test_who_was_editing_when_it_went_to_sage_loses_no_word(
    browser_of_sam: FlaskClient, services: Services, order: Order
) -> None:
    path = f"/orders/{order.id}/edit"
    form = opened(browser_of_sam, path) | {"notes": "Rear entrance", "internal_notes": "Ours"}
    put(services, order, Reason.IN_STEP, "q1")
    answer = send(browser_of_sam, path, line("Milk", "1", "2"), **form)
    assert answer.status_code == 409
    assert "Meanwhile this order went to Sage" in answer.text
    lost = answer.text[answer.text.index('data-role="form-lost"') :]
    assert "Rear entrance" in lost
    assert "Milk" in lost
    assert ">\nOurs</textarea>" in answer.text
    after = stored(services, order.id)
    assert (after.notes, after.internal_notes) == ("", "")


def test_an_order_that_is_not_there(browser_of_admin: FlaskClient) -> None:
    for order_id in ("999", "0", "9223372036854775808", "x"):
        for path in (f"/orders/{order_id}", f"/orders/{order_id}/edit"):
            assert browser_of_admin.get(path).status_code == 404
        assert send(browser_of_admin, f"/orders/{order_id}/confirm").status_code == 404


def test_no_page_writes_styles_or_scripts_into_itself(
    browser_of_admin: FlaskClient, order: Order, products: dict[str, int]
) -> None:
    for path in ("/orders", f"/orders/{order.id}", f"/orders/{order.id}/edit", "/orders/new"):
        answer = browser_of_admin.get(path)
        assert answer.status_code == 200, path
        page = answer.text
        assert not re.search(r"\sstyle=|\son\w+=|hx-on|<style|javascript:|js:", page), path
        assert not re.search(r"<script(?![^>]* src=)", page), path
