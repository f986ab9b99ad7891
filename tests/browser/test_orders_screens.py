"""The screens of orders in a real browser. No worker runs: see tests.screens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect
from sqlalchemy import URL
from sqlalchemy.orm import Session

from tests.accessibility import faults, keyboard_faults
from tests.screens import Web, be_live, connected, fits, running_web
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.orders.amounts import LineValues, lines_text
from webapp.orders.changes import confirm_order, create_order
from webapp.orders.models import Order
from webapp.orders.queries import find_order
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import Conflict

CHAI = LineValues("Chai", Decimal(12), Decimal("18.00"), tax_rate=Decimal(20))
CHEESE = LineValues("Queso Cabrales with the words that a long description has", Decimal("10.5"), Decimal("1210.00"))


@dataclass(frozen=True)
class Shop:
    """The web app with one company that Sage has, and three of its orders: a draft, one in Sage, one in conflict."""

    web: Web
    draft: int
    in_sage: int
    in_conflict: int

    def page_of(self, order: int) -> str:
        """The address of an order."""
        return f"{self.web.url}/orders/{order}"


def _fill(services: Services) -> tuple[int, int, int]:
    with services.database.unit_of_work() as work:
        connection = connected()
        names = (("1", "Chai", "18.00"), ("2", "Chang", "19.00"), ("38", "Côte de Blaye", "263.50"))
        work.session.add(connection)
        work.session.flush()
        for code, name, price in names:
            values: dict[str, Any] = {"code": code, "name": name, "unit_price": Decimal(price)}
            work.session.add(Product(connection_id=connection.id, **values))
        company = create_company(work, {"name": "Alfreds Futterkiste"}, connection, user_id=None, cause="import")
        company.sage_id = "a" * 32
        give_status(work, company, Reason.IN_STEP, {"code": "in_step"})
        work.session.add(Contact(company_id=company.id, name="Maria Anders"))
        values = {"company_id": company.id, "ordered_on": date(2026, 11, 22)}
        values |= {"valid_until": date(2026, 12, 22), "notes": "Rear entrance", "internal_notes": ""}
        made = [create_order(work, values, [CHAI, CHEESE], connection, user_id=None, cause="import") for _ in range(3)]
        for order in made[1:]:
            confirm_order(work, order, connection, user_id=None)
            order.sage_id = f"quote {order.id}"
        give_status(work, made[1], Reason.IN_STEP, {"code": "in_step"})
        give_status(work, made[2], Reason.CONFLICT, {"code": "conflict", "fields": ["lines"]})
        both = {"ours": lines_text([CHAI, CHEESE]), "theirs": lines_text([CHAI])}
        work.session.add(Conflict(kind="order", record_id=made[2].id, field="lines", base=None, **both))
        work.commit()
    return made[0].id, made[1].id, made[2].id


@pytest.fixture(scope="module")
def shop(
    database_server: URL, template_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    with running_web(database_server, template_database, redis_url, tmp_path_factory.mktemp("screens")) as web:
        yield Shop(web, *_fill(web.services))


@pytest.fixture(scope="module")
def desk(browser: Browser, shop: Shop) -> Iterator[Page]:
    """A wide screen that all tests share, on which an admin is signed in."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield shop.web.sign_in(context.new_page())
    context.close()


def stored(shop: Shop, order_id: int) -> Order:
    with Session(shop.web.services.database.engine) as session:
        found = find_order(session, order_id)
        assert found is not None
        return found


def places(page: Page) -> Locator:
    return page.locator(".steps > li")


def expect_step(page: Page, number: int) -> None:
    """The stepper has come to this step, from 1 to 4, and says so in one place."""
    expect(places(page).nth(number - 1)).to_have_attribute("aria-current", "step")
    expect(page.locator(".steps [aria-current]")).to_have_count(1)
    expect(page.locator('.steps [data-place="done"]')).to_have_count(4 if number == 4 else number - 1)


def sums(page: Page) -> Locator:
    return page.locator("[data-role=sums] dd")


def test_an_order_goes_from_nothing_to_sage_and_the_stepper_moves_live(desk: Page, shop: Shop) -> None:
    desk.goto(f"{shop.web.url}/orders")
    be_live(desk)
    desk.evaluate("window.neverReloaded = true")
    desk.get_by_role("link", name="New order").click()
    desk.get_by_label("Company").first.press_sequentially("futter")
    desk.get_by_role("radio", name="Alfreds Futterkiste").check()
    desk.get_by_label("Contact").select_option("Maria Anders")
    first = desk.get_by_role("group", name="Line 1")
    first.get_by_label("Product or description").fill("cha")
    expect(desk.locator("#products option")).to_have_count(2)
    first.get_by_label("Product or description").fill("Chai")
    first.get_by_label("Quantity").fill("12")
    expect(first.get_by_label("Price")).to_have_value("18.00")
    expect(sums(desk)).to_have_text(["216.00", "0.00", "216.00"])
    first.get_by_label("Tax %").fill("20")
    expect(sums(desk)).to_have_text(["216.00", "43.20", "259.20"])
    desk.get_by_role("button", name="Add a line").click()
    second = desk.get_by_role("group", name="Line 2")
    expect(second.get_by_label("Product or description")).to_be_focused()
    expect(second.get_by_label("Tax %")).to_have_value("20")
    second.get_by_label("Product or description").fill("Gift wrapping")
    desk.get_by_role("button", name="Add a line").click()
    desk.get_by_role("button", name="Remove line 3").click()
    expect(desk.locator(".line")).to_have_count(2)
    expect(second.get_by_label("Product or description")).to_have_value("Gift wrapping")
    second.get_by_label("Quantity").press("Enter")
    expect_step(desk, 1)
    expect(desk.locator("#phase")).to_contain_text("Line 2 has no price.")
    expect(desk).to_have_url(re.compile(r"/orders/\d+$"))
    order = int(desk.url.rsplit("/", 1)[1])

    colleague = desk.context.new_page()
    colleague.goto(shop.page_of(order))
    be_live(colleague)
    colleague.evaluate("window.neverReloaded = true")
    expect_step(colleague, 1)
    desk.get_by_role("link", name="Edit the lines").click()
    second.get_by_label("Price").fill("£1,234.50")
    expect(second.locator("output")).to_have_text("1,234.50")
    desk.locator("[data-role=save]").click()
    expect_step(desk, 2)
    expect_step(colleague, 2)
    expect(colleague.locator(".sum dd")).to_have_text("1,740.60")
    expect(colleague.locator(".lines tbody tr").nth(1)).to_contain_text("1,234.50")
    expect(colleague.get_by_role("button", name="Synchronise with Sage")).to_be_visible()
    desk.get_by_role("button", name="Synchronise with Sage").click()
    expect_step(desk, 3)
    expect_step(colleague, 3)
    expect(colleague.locator("#phase")).to_contain_text("Queued")
    shop.web.set_status(f"order:{order}", Reason.IN_STEP, {"code": "in_step"})
    expect_step(desk, 4)
    expect_step(colleague, 4)
    expect(colleague.locator("[data-role=sync-label]")).to_have_text("Synchronised")
    for page in (desk, colleague):
        assert page.evaluate("window.neverReloaded") is True
    colleague.close()
    made = stored(shop, order)
    assert (made.contact.name if made.contact else "", made.phase, len(made.lines)) == ("Maria Anders", "confirmed", 2)
    assert made.lines[0].product_id is not None


def test_what_comes_late_takes_nothing_away(desk: Page, shop: Shop) -> None:
    with shop.web.services.database.unit_of_work() as work:
        work.session.add_all([Company(name=f"Late {one}") for one in (1, 2)])
        work.commit()
    held: list[Route] = []
    desk.goto(f"{shop.web.url}/orders/new?company=1")
    be_live(desk)
    desk.fill("#description-1", "First")
    desk.get_by_role("button", name="Add a line").click()
    desk.fill("#description-2", "Second")
    with desk.expect_response("**/orders/new"):
        desk.fill("#unit_price-2", "5")
    expect(sums(desk).last).to_have_text("5.00")
    desk.route("**/orders/new", lambda route: held.append(route), times=1)
    with desk.expect_request("**/orders/new"):
        desk.click("#remove-1")
    desk.fill("#quantity-2", "99")
    held.pop().continue_()
    expect(desk.locator(".line")).to_have_count(1)
    expect(desk.locator("#description-1")).to_have_value("Second")
    expect(desk.locator("#quantity-1")).to_have_value("99")

    desk.get_by_label("Company").first.press_sequentially("late")
    expect(desk.locator("#company-found input")).to_have_count(3)
    desk.route("**/orders/new?company_id=*", lambda route: held.append(route), times=1)
    for name in ("Late 1", "Late 2", "Alfreds Futterkiste"):
        desk.get_by_role("radio", name=name).check()
    expect(desk.get_by_label("Contact").locator("option")).to_have_text(["Nobody", "Maria Anders"])

    desk.on("dialog", lambda dialog: dialog.accept())
    for module in ("products", "contacts"):
        desk.locator(f".frame-nav [href='/{module}']").click()
        expect(desk.locator("h1")).to_contain_text(module.capitalize())
    desk.route("**/companies", lambda route: held.append(route), times=1)
    with desk.expect_request("**/companies"):
        desk.locator(".frame-nav [href='/companies']").click()
    with desk.expect_event("requestfailed", lambda request: request.url.endswith("/companies")):
        desk.go_back()
    expect(desk.locator("h1")).to_contain_text("Products")


def edit_line(desk: Page, shop: Shop, quantity: str) -> None:
    """Give the first line another quantity in a second tab."""
    other = desk.context.new_page()
    other.goto(f"{shop.page_of(shop.draft)}/edit")
    other.locator("#quantity-1").fill(quantity)
    other.locator("[data-role=save]").click()
    expect(other.locator(".steps")).to_be_visible()
    other.close()


def test_who_edits_the_lines_is_told_that_they_changed_elsewhere(desk: Page, shop: Shop) -> None:
    desk.goto(f"{shop.page_of(shop.draft)}/edit")
    be_live(desk)
    other = desk.context.new_page()
    other.goto(f"{shop.page_of(shop.draft)}/edit")
    other.locator("#quantity-1").fill("13")
    other.locator("#valid_until").fill("2026-12-24")
    other.locator("[data-role=save]").click()
    expect(other.locator(".steps")).to_be_visible()
    other.close()
    told = desk.locator("[data-role=changed-elsewhere] li")
    expect(told).to_have_count(2)
    expect(told.first).to_contain_text("Valid until is now “24 Dec 2026”.")
    told.first.get_by_role("button", name="Take it").click()
    expect(desk.locator("#valid_until")).to_have_value("2026-12-24")
    expect(told).to_contain_text(["Total is now “12,985.80”."])
    desk.locator("#notes").fill("Typed meanwhile")
    desk.locator("#unit_price-2").fill("1000")
    told.get_by_role("button", name="Keep mine").click()
    expect(told).to_have_count(0)
    expect(desk.locator("#quantity-1")).to_have_value("12")
    expect(desk.locator("#unit_price-2")).to_have_value("1000")
    expect(desk.locator("#notes")).to_have_value("Typed meanwhile")

    edit_line(desk, shop, "14")
    told.get_by_role("button", name="Take it").click()
    expect(told).to_have_count(0)
    expect(desk.locator("#quantity-1")).to_have_value("14")
    expect(desk.locator("#unit_price-2")).to_have_value("1210.00")
    expect(desk.locator("#notes")).to_have_value("Typed meanwhile")

    desk.locator("#unit_price-2").fill("1000")
    edit_line(desk, shop, "13")
    expect(told).to_have_count(1)
    desk.locator("[data-role=save]").click()
    desk.get_by_role("radio", name="Theirs").check()
    desk.locator("[data-role=save]").click()
    expect(desk.locator(".steps")).to_be_visible()
    assert stored(shop, shop.draft).notes == "Typed meanwhile"
    assert [(one.quantity, one.unit_price) for one in stored(shop, shop.draft).lines] == [
        (13, 18),
        (Decimal("10.5"), 1210),
    ]


def test_a_product_that_is_edited_changes_where_others_look(desk: Page, browser: Browser, shop: Shop) -> None:
    desk.goto(f"{shop.web.url}/products")
    be_live(desk)
    row = desk.locator('[data-row="product:3"]')
    other = shop.web.sign_in(browser.new_context(viewport={"width": 1280, "height": 800}).new_page())
    other.goto(f"{shop.web.url}/products/3")
    other.locator("[data-role=edit]").click()
    other.fill("[name=unit_price]", "1,264")
    other.select_option("[name=discontinued]", "yes")
    other.locator("[data-role=save]").click()
    expect(other.locator("[data-role=sync-label]")).to_have_attribute("data-status", "pending")
    expect(row.locator("[data-value=unit_price]")).to_have_text("1,264.00")
    expect(row.locator("[data-value=discontinued]")).to_have_text("No longer sold")
    expect(desk.locator("[data-role=status-count][data-status=pending]")).to_contain_text("1")
    desk.goto(f"{shop.web.url}/products/3/edit")
    other.locator("[data-role=edit]").click()
    other.fill("[name=unit_price]", "263.50")
    other.select_option("[name=discontinued]", "no")
    other.locator("[data-role=save]").click()
    told = desk.locator("[data-role=changed-elsewhere] li")
    expect(told.filter(has_text="Price is now “263.50”.")).to_be_visible()
    told.filter(has_text="Availability is now “Sold”.").get_by_role("button", name="Take it").click()
    expect(desk.locator("[name=discontinued]")).to_have_value("no")
    other.context.close()


def test_lines_are_edited_without_scripts(browser: Browser, shop: Shop) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = shop.web.sign_in(context.new_page())
    plain.goto(f"{shop.page_of(shop.draft)}/edit")
    plain.fill("#notes", "Kept")
    plain.get_by_role("button", name="Remove line 2").click()
    plain.get_by_role("button", name="Add a line").click()
    expect(plain.locator("#notes")).to_have_value("Kept")
    plain.fill("#description-2", "38")
    plain.fill("#quantity-2", "2")
    plain.get_by_role("button", name="Add up").click()
    expect(plain.locator("#description-2")).to_have_value("Côte de Blaye")
    expect(plain.locator("#net-2-of-2")).to_have_text("527.00")
    plain.locator("#quantity-2").press("Enter")
    expect(plain).to_have_url(re.compile(r"/orders/\d+$"))
    after = stored(shop, shop.draft)
    assert (after.notes, [one.description for one in after.lines]) == ("Kept", ["Chai", "Côte de Blaye"])
    plain.get_by_role("button", name="Synchronise with Sage").click()
    expect(places(plain).nth(2)).to_have_attribute("aria-current", "step")
    context.close()


AMOUNTS_CUT_OFF = """() => [...document.querySelectorAll(".rows td.amount")].filter((amount) => {
  const [name, box] = [amount.parentElement.querySelector(".name a"), amount].map((one) => one.getBoundingClientRect());
  return amount.scrollWidth > amount.clientWidth || (name.right > box.left && name.bottom > box.top && box.bottom > name.top);
}).map((amount) => amount.textContent)"""


def test_orders_fit_on_a_phone_and_axe_finds_nothing(browser: Browser, shop: Shop) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640})
    phone = shop.web.sign_in(context.new_page())
    long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft & Söhne"
    with shop.web.services.database.unit_of_work() as work:
        order = find_order(work.session, shop.in_conflict)
        assert order is not None
        order.company.name = order.lines[0].description = long
        order.lines[0].product_id, order.total, order.net_total = 1, Decimal("1234567899.90"), Decimal("1234567899.90")
        product = work.session.get_one(Product, 1)
        product.name, product.unit_price = long, Decimal("1234567890.12345")
        work.commit()
    found = {}
    for address in (
        "/products",
        "/products/1",
        "/products/3/edit",
        "/orders",
        f"/orders/{shop.in_sage}",
        f"/orders/{shop.in_conflict}",
        f"/orders/{shop.in_sage}/edit",
        "/orders/new?find=fut",
    ):
        phone.set_viewport_size({"width": 320, "height": 640})
        phone.goto(f"{shop.web.url}{address}")
        be_live(phone)
        assert fits(phone), address
        found |= {f"{address} by keyboard": fault for fault in keyboard_faults(phone)}
        found |= {f"{address} {look}": report for look, report in faults(phone).items()}
    phone.goto(f"{shop.web.url}/products")
    for width in (320, 768, 1240, 1440):
        phone.set_viewport_size({"width": width, "height": 812})
        found |= {f"cut off at {width}": amount for amount in phone.evaluate(AMOUNTS_CUT_OFF)}
    # An amount of usual size stands on one line.
    for width in (320, 768):
        phone.set_viewport_size({"width": width, "height": 812})
        phone.goto(f"{shop.web.url}/orders")
        amount = phone.locator(".rows td.amount").first
        amount.evaluate("(amount) => { amount.innerHTML = '<span>648,222.50</span>' }")
        box = amount.locator("span").bounding_box()
        assert box is not None
        assert box["height"] < 30, width
    # Letters of twice the size.
    phone.set_viewport_size({"width": 375, "height": 812})
    sizes = context.new_cdp_session(phone)
    sizes.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
    for address in ("/orders?product=1", f"/orders/{shop.in_conflict}", f"/orders/{shop.draft}/edit", "/products/1"):
        phone.goto(f"{shop.web.url}{address}")
        be_live(phone)
        assert fits(phone), address
    context.close()
    assert found == {}
