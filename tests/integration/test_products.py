"""Products: in step with Sage by their codes, named by the lines of orders, and their pages."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.integration.test_engine import CHAI, LINES, Engine
from tests.people import post
from tests.statuses import give_status
from webapp.connection.models import CONNECTED, Connection
from webapp.orders.amounts import LineValues, lines_text
from webapp.orders.models import Order
from webapp.products.changes import create_product
from webapp.products.importing import import_products
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.duplicates import candidates, make_one
from webapp.sync.models import Conflict, WriteIntent
from webapp.sync.resync import restore, resync, unlink
from webapp.sync.sending import adopt
from webapp.users.models import User
from workers.engine import push as push_module
from workers.engine.outcome import RETRY_SECONDS


@pytest.fixture
def engine(services: Services) -> Engine:
    return Engine(services)


def products(services: Services) -> list[Product]:
    with Session(services.database.engine) as session:
        return list(session.scalars(select(Product).order_by(Product.id)))


def later(engine: Engine, seconds: int = 5) -> None:
    engine.sage.clock = lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def line_of(product_id: int | None, description: str = "Chai") -> LineValues:
    return replace(LINES[0], description=description, product_id=product_id)


# In step.


def test_a_product_travels_both_ways_and_its_unit_stays_here(engine: Engine) -> None:
    product_id = engine.add_product()
    engine.push()
    product = engine.product(product_id)
    assert product.sage_id
    assert (product.sync_reason, product.sage_number) == (Reason.IN_STEP, "1")
    assert engine.sage.products.by_id[product.sage_id].fields == product.agreed
    assert product.agreed == {"code": "1", "name": "Chai", "unit_price": "18.00", "discontinued": "no"}
    later(engine)
    engine.sage.products.edit(product.sage_id, unit_price="19.50", discontinued="yes")
    engine.pull()
    product = engine.product(product_id)
    assert (product.unit_price, product.discontinued, product.unit) == (Decimal("19.50"), True, CHAI["unit"])
    engine.edit_product(product_id, name="Chai from Assam", unit="1 box")
    engine.push()
    assert engine.sage.products.by_id[product.sage_id or ""].fields["name"] == "Chai from Assam"
    engine.sage.calls.clear()
    engine.edit_product(product_id, unit="2 boxes")
    engine.push()
    assert engine.sage.calls == [], "the unit is nothing to Sage"


def test_a_product_of_the_same_code_in_sage_is_the_same_one(engine: Engine) -> None:
    engine.sql("DELETE FROM sync_cursor")
    ours = engine.add_product(code="A-1")
    there = engine.sage.products.add(code="a-1", name="Tea of India", unit_price="18.00")
    new = engine.sage.products.add(code="B-2", name="Chang", unit_price="19.00", discontinued="yes")
    engine.push()
    assert engine.sage.calls == [], "nothing is sent before all of Sage's were read"
    engine.pull()
    engine.push()
    assert len(engine.sage.products.by_id) == 2
    linked, added = products(engine.services)
    assert (linked.id, linked.sage_id) == (ours, there.id)
    # The names and the spelling of the code differ and neither side knew the other: a person chooses.
    assert linked.sync_detail == {"code": "conflict", "fields": ["code", "name"]}
    assert (added.sage_id, added.name, added.unit_price, added.discontinued) == (new.id, "Chang", Decimal(19), True)
    assert (added.sync_reason, added.agreed) == (Reason.IN_STEP, new.fields)


def test_who_changed_a_price_on_both_sides_is_asked(engine: Engine, browser_of_sam: FlaskClient) -> None:
    product_id = engine.add_product()
    engine.push()
    later(engine)
    engine.sage.products.edit(engine.product(product_id).sage_id or "", unit_price="20.00", discontinued="yes")
    engine.edit_product(product_id, unit_price=Decimal("19.00"), discontinued=False)
    engine.push()
    product = engine.product(product_id)
    assert (product.sync_reason, product.sync_detail["fields"]) == (Reason.CONFLICT, ["unit_price"])
    page = browser_of_sam.get(f"/products/{product_id}").text
    assert "Changed here and in Sage: price." in unescape(page)
    answer = post(browser_of_sam, f"/products/{product_id}/choose", {"unit_price": "theirs"})
    assert answer.status_code == 303
    engine.push()
    product = engine.product(product_id)
    assert (product.unit_price, product.discontinued, product.sync_reason) == (20, True, Reason.IN_STEP)
    with engine.services.database.unit_of_work() as work:
        assert work.session.scalars(select(Conflict)).one().ours == "19.00"


@pytest.mark.parametrize("applied", [True, False])
def test_a_create_without_an_answer_makes_no_second_product(
    engine: Engine, applied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    product_id = engine.add_product()
    engine.sage.will_lose_the_answer("products.create", applied=applied)
    engine.push()
    assert engine.product(product_id).sync_reason == Reason.RETRYING
    # What Sage made meanwhile is no stranger, though it is read before the answer to the second try.
    engine.pull()
    engine.let_time_pass()
    engine.push()
    assert engine.product(product_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.products.by_id) == len(products(engine.services)) == 1
    # Sage forgets keys, and says itself which create made a product.
    other = engine.add_product(code="2", name="Chang")
    engine.sage.will_lose_the_answer("products.create", applied=True)
    engine.push()
    monkeypatch.setattr(push_module, "KEY_REMEMBERED", timedelta(0))
    engine.let_time_pass()
    engine.push()
    assert engine.product(other).sync_reason == Reason.IN_STEP
    assert len(engine.sage.products.by_id) == 2
    with engine.services.database.unit_of_work() as work:
        assert {one.state for one in work.session.scalars(select(WriteIntent))} == {"done"}


def test_a_deleted_product_waits_for_a_person_and_can_be_restored(engine: Engine) -> None:
    first, second = engine.add_product(), engine.add_product(code="2", name="Chang")
    engine.push()
    for product_id in (first, second):
        engine.sage.products.delete(engine.product(product_id).sage_id or "")
    engine.pull()
    assert {one.sync_reason for one in products(engine.services)} == {Reason.DELETED_IN_SAGE}
    with engine.services.database.unit_of_work() as work:
        admin = User(email="a@example.com", name="A", role="admin", password_hash="")
        work.session.add(admin)
        work.session.flush()
        restore(work, work.session.get_one(Product, first), None, admin.id)
        unlink(work, work.session.get_one(Product, second), admin.id)
        work.commit()
    engine.push()
    assert [one.fields["code"] for one in engine.sage.products.by_id.values()] == ["1"]
    assert [one.sync_reason for one in products(engine.services)] == [Reason.IN_STEP, Reason.UNLINKED]


def test_of_two_products_of_one_name_a_person_says_which_it_is(engine: Engine) -> None:
    engine.sql("DELETE FROM sync_cursor")
    ours, other = engine.add_product(code=""), engine.add_product(code="", unit_price=Decimal(19))
    company_id = engine.add()
    there = engine.sage.products.add(name="Chai", unit_price="18.00")
    engine.pull()
    first, second, added = products(engine.services)
    assert {one.sync_reason for one in (first, second, added)} == {Reason.POSSIBLE_DUPLICATE}
    order_id = engine.add_order(company_id)
    engine.edit_order(order_id, [line_of(added.id)])
    version = engine.order(order_id).sync_version
    with engine.services.database.unit_of_work() as work:
        record, goes = (work.session.get_one(Product, one, with_for_update=True) for one in (ours, added.id))
        assert {one.id for one in candidates(work.session, goes)} == {ours, other}
        admin = User(email="a@example.com", name="A", role="admin", password_hash="")
        work.session.add(admin)
        work.session.flush()
        stays = make_one(work, record, goes, work.session.get_one(Connection, engine.connection_id), admin.id)
        work.commit()
        assert stays.id == ours
    assert engine.order(order_id).sync_version == version + 1, "who looks at it has it drawn anew"
    engine.push()
    assert (engine.product(ours).sage_id, engine.product(ours).sync_reason) == (there.id, Reason.IN_STEP)
    assert engine.product(other).sync_reason == Reason.IN_STEP, "it is another one, and was made"
    assert [one.product_id for one in engine.order(order_id).lines] == [ours], "its lines went over"
    assert len(engine.sage.products.by_id) == 2


def test_what_cannot_be_stored_is_shown_without_its_code(engine: Engine) -> None:
    product_id = engine.add_product()
    engine.push()
    there = engine.sage.products.add(code="3", name="Aniseed Syrup")
    engine.pull()
    later(engine)
    engine.edit_product(product_id, code="2")
    engine.sage.products.edit(there.id, code="2")
    engine.pull()
    taken = products(engine.services)[1]
    assert taken.sync_detail == {"code": "code_in_use", "field": "code", "value": "2"}
    engine.push()
    assert engine.product(product_id).sync_detail["code"] == "code_taken"


# Lines.


def test_lines_name_the_products_that_sage_has_and_an_order_waits_for_none(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    known = engine.add_product()
    engine.push()
    gone = engine.add_product(code="2", name="Chang", discontinued=True)
    elsewhere = engine.add_product(code="3", name="Aniseed Syrup")
    engine.sql("UPDATE product SET connection_id = NULL, sage_id = 'of another business' WHERE code = '3'")
    lines = [line_of(known), line_of(gone, "Chang"), line_of(elsewhere, "Syrup"), line_of(None, "Gift wrapping")]
    order_id = engine.add_order(company_id)
    engine.edit_order(order_id, lines)
    engine.push()
    order = engine.order(order_id)
    sage_id = engine.product(known).sage_id
    there = engine.sage.orders.by_id[order.sage_id or ""]
    assert there.products == (sage_id, "", "", "")
    assert order.sync_reason == Reason.IN_STEP
    assert order.agreed == there.fields
    assert there.fields["lines"] == lines_text(lines), "what is compared names no products"
    # A whole reading finds nothing out of step, whatever becomes of the products.
    engine.push()
    engine.sql("DELETE FROM sync_cursor WHERE entity LIKE '%whole'")
    engine.pull()
    assert engine.order(order_id).sync_version == order.sync_version


def test_products_of_lines_in_sage_are_read(engine: Engine) -> None:
    customer = engine.sage.customers.add(name="Alfreds Futterkiste", code="ALFKI")
    chai, chang = (engine.sage.products.add(code=name, name=name) for name in ("Chai", "Chang"))
    text = lines_text([line_of(None, "As ever"), line_of(None, "Chang"), line_of(None, "Salt")], [chai.id, "", "?"])
    days = {"ordered_on": "2026-11-02", "valid_until": "2026-12-02", "shipping": "0.00"}
    quote = engine.sage.orders.add(customer.id, number="Q-1", lines=text, **days)
    engine.pull()
    codes = {one.id: one.code for one in products(engine.services)}

    def named() -> list[str]:
        with Session(engine.services.database.engine) as session:
            order = session.scalars(select(Order)).one()
            order_id = order.id
        return [codes.get(line.product_id or 0, "") for line in engine.order(order_id).lines]

    assert named() == ["Chai", "", ""]
    later(engine)
    engine.sage.orders.edit(quote.id, lines=lines_text([line_of(None, "As ever"), line_of(None, "B")], ["", chang.id]))
    engine.pull()
    assert named() == ["Chai", "Chang"]


def test_a_product_that_went_in_sage_holds_up_no_order(engine: Engine) -> None:
    company_id, product_id = engine.add(), engine.add_product()
    engine.push()
    order_id = engine.add_order(company_id)
    engine.edit_order(order_id, [line_of(product_id)])
    engine.sage.products.delete(engine.product(product_id).sage_id or "")
    engine.push()
    order = engine.order(order_id)
    assert (order.sync_reason, order.sync_detail["of"]) == (Reason.RETRYING, len(RETRY_SECONDS))
    assert engine.sage.orders.by_id == {}
    engine.pull()
    engine.let_time_pass()
    engine.push()
    order = engine.order(order_id)
    assert (order.sync_reason, order.lines[0].product_id) == (Reason.IN_STEP, product_id)
    assert engine.product(product_id).sync_reason == Reason.DELETED_IN_SAGE


def test_of_lines_that_sage_keeps_with_a_product_that_is_gone_a_person_decides(engine: Engine) -> None:
    company_id, product_id = engine.add(), engine.add_product()
    engine.push()
    order_id = engine.add_order(company_id)
    engine.edit_order(order_id, [line_of(product_id)])
    engine.push()
    order = engine.order(order_id)
    engine.sage.products.delete(engine.product(product_id).sage_id or "")
    engine.pull()
    engine.sql("UPDATE sales_order SET notes = 'Changed past us', sync_version = sync_version + 1")
    with engine.services.database.unit_of_work() as work:
        resync(work, [order.key], None)
    engine.push()
    assert engine.order(order_id).sync_reason == Reason.RETRYING
    engine.let_time_pass()
    engine.push()
    order = engine.order(order_id)
    assert (order.sync_reason, order.sync_detail["fields"]) == (Reason.CONFLICT, ["notes"])


# Connections and imports.


def test_each_connection_has_products_of_its_own(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "products.csv"
    path.write_text("SKU,product name,price\nT,Tea,1.50\n", encoding="utf-8")
    assert import_products(services, path).created == 1
    with services.database.unit_of_work() as work:
        early = create_product(work, {"code": "E", "name": "Early"}, None, user_id=None, cause="edit")
        for business in ("a", "b"):
            work.session.add(Connection(api_url="http://sage.test/v3.1", state=CONNECTED, business_id=business * 32))
        work.commit()
    assert early.sync_detail == {"code": "never_sent"}
    with services.database.unit_of_work() as work:
        first, second = work.session.scalars(select(Connection).order_by(Connection.id))
        doubled = create_product(work, {"code": "E", "name": "Other"}, first, user_id=None, cause="edit")
        work.commit()
        adopt(work, first)
    assert import_products(services, path).unchanged == 1
    assert import_products(services, path, connection_id=second.id).created == 1
    path.write_text("SKU,product name,price,unit\nT,Tea,1.60,box\n", encoding="utf-8")
    report = import_products(services, path, connection_id=second.id)
    assert (report.created, report.changed) == (0, 1)
    told = [(one.code, one.connection_id, one.sync_reason, one.unit_price) for one in products(services)]
    assert told == [
        ("T", first.id, Reason.QUEUED, Decimal("1.50")),
        ("E", None, Reason.REJECTED, 0),
        (doubled.code, first.id, Reason.QUEUED, 0),
        ("T", second.id, Reason.QUEUED, Decimal("1.60")),
    ]


def test_an_import_gives_a_product_without_a_code_its_code(
    services: Services, connection: Connection, tmp_path: Path
) -> None:
    with services.database.unit_of_work() as work:
        tea = create_product(work, {"name": "Tea"}, connection, user_id=None, cause="edit")
        for _ in range(2):
            create_product(work, {"name": "Milk"}, connection, user_id=None, cause="edit")
        work.commit()
    path = tmp_path / "products.csv"
    path.write_text("SKU,product name,price\nT,TEA,1.50\nM,Milk,0.99\n", encoding="utf-8")
    report = import_products(services, path)
    assert (report.created, report.changed) == (0, 1)
    assert report.refused == [
        (3, "2 products here have this name and no code: give the one that is meant its code."),
    ]
    assert (products(services)[0].id, products(services)[0].code, products(services)[0].name) == (tea.id, "T", "TEA")


# Pages.


@pytest.fixture
def chai(services: Services, connection: Connection) -> Product:
    return add(services, connection)


def add(services: Services, connection: Connection, **values: Any) -> Product:
    with services.database.unit_of_work() as work:
        made = create_product(work, {**CHAI, **values}, connection, user_id=None, cause="import")
        work.commit()
    return made


def rows(page: str) -> list[str]:
    """The names in the list, in its order."""
    return [unescape(name) for name in re.findall(r'data-row="product:\d+".*?data-value="name">([^<]*)<', page, re.S)]


def test_the_list_shows_sorts_and_filters_products(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, chai: Product
) -> None:
    add(services, connection, code="38", name="Côte de Blaye", unit_price=Decimal("1263.50"), discontinued=True)
    with services.database.unit_of_work() as work:
        record = work.session.get_one(Product, chai.id)
        give_status(work, record, Reason.REJECTED, {"code": "too_long", "field": "name", "limit": 255})
        work.commit()
    page = browser_of_sam.get("/products").text
    assert rows(page) == ["Chai", "Côte de Blaye"]
    assert "1,263.50" in page
    assert "No longer sold" in page
    assert '<b data-count="review">1</b>' in page
    for address, found in (
        ("status=review", ["Chai"]),
        ("discontinued=yes", ["Côte de Blaye"]),
        ("discontinued=no&status=pending", []),
        ("discontinued=no&discontinued=yes", ["Chai", "Côte de Blaye"]),
        ("q=cote", ["Côte de Blaye"]),
        ("q=38", ["Côte de Blaye"]),
        ("sort=-code", ["Côte de Blaye", "Chai"]),
        ("sort=-unit_price", ["Côte de Blaye", "Chai"]),
        ("sort=unit_price", ["Chai", "Côte de Blaye"]),
        ("sort=-last_synchronised_at&discontinued=yes", ["Côte de Blaye"]),
    ):
        assert rows(browser_of_sam.get(f"/products?{address}").text) == found, address
    assert 'data-role="query-problem"' in browser_of_sam.get("/products?discontinued=perhaps").text
    counts = browser_of_sam.get("/products/counts").json
    assert counts == {"discontinued:yes": "1", "discontinued:no": "1", f"connection:{connection.id}": "2"}


def form_of(product: Product | None = None, **changes: str) -> dict[str, str]:
    """The form of a product, opened and filled in with these changes."""
    empty = {"code": "", "name": "", "unit_price": "", "unit": "", "discontinued": "no"}
    if product is None:
        return {**empty, "once": "form-1", **changes}
    stands = {"code": product.code, "name": product.name, "unit_price": f"{product.unit_price:.2f}"}
    stands |= {"unit": product.unit, "discontinued": "no"}
    return stands | {f"was-{name}": value for name, value in stands.items()} | changes


def test_a_product_is_added_once_and_its_mistakes_are_named(browser_of_sam: FlaskClient, services: Services) -> None:
    assert 'name="connection_id"' not in browser_of_sam.get("/products/new").text
    wrong = post(browser_of_sam, "/products/new", form_of(code="X" * 300, unit_price="1.12345678901"))
    assert wrong.status_code == 422
    for sentence in (
        "Every product needs a name: give it one.",
        "The code has 300 characters: shorten it to 255.",
        "Enter the price as an amount from 0 with 10 decimals at most, or leave it empty.",
    ):
        assert sentence in unescape(wrong.text)
    assert 'value="1.12345678901"' in wrong.text, "what was typed stays"
    form = form_of(name="Chai", code="1", unit_price="£18.5", unit="box")
    assert {post(browser_of_sam, "/products/new", form).headers["Location"] for _ in range(2)} == {"/products/1"}
    since = post(browser_of_sam, "/products/new", {**form, "unit_price": "19.5"})
    assert since.status_code == 409
    assert re.search(r'name="unit_price" [^>]*value="19.5"', since.text), "what was typed since is not lost"
    taken = post(browser_of_sam, "/products/new", {**form, "once": "form-2"})
    assert taken.status_code == 422
    assert "Another product has this code. Choose a different one, or leave it empty." in unescape(taken.text)
    (made,) = products(services)
    assert (made.name, made.unit_price, made.unit, made.sync_reason) == ("Chai", Decimal("18.5"), "box", "never_sent")
    page = browser_of_sam.get("/products/1").text
    assert ">18.50</dd>" in page
    assert ">Sold</dd>" in page


def test_a_product_is_edited_beside_others(browser_of_sam: FlaskClient, services: Services, chai: Product) -> None:
    page = browser_of_sam.get(f"/products/{chai.id}/edit").text
    assert 'value="18.00"' in page
    theirs = form_of(chai, unit_price="19")
    assert post(browser_of_sam, f"/products/{chai.id}/edit", theirs).status_code == 303
    # The form was opened before: the price is somebody else's by now, and the name is not.
    assert post(browser_of_sam, f"/products/{chai.id}/edit", form_of(chai, name="Tea")).status_code == 303
    both = post(browser_of_sam, f"/products/{chai.id}/edit", form_of(chai, name="Tea", unit_price="20"))
    assert both.status_code == 409
    assert 'data-role="difference"' in both.text
    chosen = form_of(chai, name="Tea", unit_price="20", discontinued="yes") | {"was-unit_price": "19.00"}
    assert post(browser_of_sam, f"/products/{chai.id}/edit", chosen).status_code == 303
    (stored,) = products(services)
    assert (stored.name, stored.unit_price, stored.discontinued) == ("Tea", 20, True)
    assert stored.sync_reason == Reason.QUEUED
    # A form is read in the language in which it was drawn.
    german = form_of(stored, unit_price="1.250") | {"drawn_in": "de"}
    assert post(browser_of_sam, f"/products/{chai.id}/edit", german).status_code == 303
    assert products(services)[0].unit_price == 1250
    assert browser_of_sam.get("/products/999").status_code == 404


def test_a_product_that_sage_has_stays_with_its_connection(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, chai: Product
) -> None:
    with services.database.unit_of_work() as work:
        work.session.get_one(Product, chai.id).sage_id = "8a"
        work.commit()
    # Of two companies in Sage the other one may be gone by the time that the form is sent.
    stands = {"connection_id": str(connection.id), "was-connection_id": str(connection.id)}
    gone = post(browser_of_sam, f"/products/{chai.id}/edit", form_of(chai) | stands | {"connection_id": "999"})
    assert (gone.status_code, 'id="connection_id"' in gone.text) == (422, True)
    with services.database.unit_of_work() as work:
        other = Connection(api_url="http://sage.test/v3.1", state=CONNECTED, business_id="c" * 32)
        work.session.add(other)
        work.commit()
    moved = form_of(chai) | stands | {"connection_id": str(other.id)}
    refused = post(browser_of_sam, f"/products/{chai.id}/edit", moved)
    assert refused.status_code == 422
    assert "Sage has this product, or may have it, so it stays there" in refused.text
    with services.database.unit_of_work() as work:
        work.session.get_one(Product, chai.id).sage_id = None
        work.commit()
    assert post(browser_of_sam, f"/products/{chai.id}/edit", moved).status_code == 303
    assert [one.connection_id for one in products(services)] == [other.id]
