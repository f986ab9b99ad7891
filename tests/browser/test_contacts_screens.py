"""The screens of contacts, and a company's contacts on its page, in a real browser. No worker runs: see tests.screens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import URL

from tests.accessibility import faults
from tests.screens import Web, be_live, connected, fits, running_web
from tests.statuses import give_status
from webapp.companies.changes import create_company, edit_company
from webapp.companies.models import Company
from webapp.contacts.changes import create_contact
from webapp.services import Services
from webapp.status import Reason

IN_STEP = {"code": "in_step"}
# Before one of these tests gives it another name, and after.
ALFREDS = re.compile("^Alfreds (Futterkiste|Feinkost)$")


@dataclass(frozen=True)
class Product:
    """The web app with two companies: `there` is in Sage with twelve contacts, `waiting` is not there yet."""

    web: Web
    there: int
    waiting: int
    contacts: list[int]


def _fill(services: Services) -> tuple[int, int, list[int]]:
    with services.database.unit_of_work() as work:
        connection = connected()
        work.session.add(connection)
        work.session.flush()
        there, waiting = (
            create_company(work, {"name": name, "country": "DE"}, connection, user_id=None, cause="import")
            for name in (
                "Alfreds Futterkiste",
                "Blauer See Delikatessen mit einem Namen, der länger ist als jedes Telefon breit",
            )
        )
        there.sage_id = "a" * 32
        give_status(work, there, Reason.IN_STEP, IN_STEP)
        contacts = []
        for number in range(12):
            values = {
                "name": f"Contact {number:02}",
                "company_id": there.id,
                "role": "Sales Representative",
                "email": f"contact.with.a.long.name.{number}@example.com",
            }
            contact = create_contact(work, values, connection, user_id=None, cause="import")
            give_status(work, contact, Reason.IN_STEP, IN_STEP)
            contacts.append(contact.id)
        work.commit()
    return there.id, waiting.id, contacts


@pytest.fixture(scope="module")
def product(
    database_server: URL, template_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    with running_web(database_server, template_database, redis_url, tmp_path_factory.mktemp("screens")) as web:
        yield Product(web, *_fill(web.services))


@pytest.fixture(scope="module")
def desk(browser: Browser, product: Product) -> Iterator[Page]:
    """A wide screen that all tests share, on which an admin is signed in."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield product.web.sign_in(context.new_page())
    context.close()


def test_the_list_of_contacts_is_live(desk: Page, product: Product) -> None:
    desk.goto(f"{product.web.url}/companies")
    desk.get_by_role("navigation", name="Main").get_by_role("link", name="Contacts").click()
    expect(desk).to_have_title("Contacts · Synclight")
    be_live(desk)
    row = desk.locator(f'[data-row="contact:{product.contacts[3]}"]')
    expect(row).to_have_attribute("data-status", "synchronised")
    detail = {"code": "too_long", "field": "role", "limit": 50}
    product.web.set_status(f"contact:{product.contacts[3]}", Reason.REJECTED, detail)
    expect(row.locator(".mark-error")).to_be_visible()
    expect(desk.locator("[data-role=status-count][data-status=review]")).to_contain_text("1")
    with product.web.services.database.unit_of_work() as work:
        company = work.session.get_one(Company, product.there)
        edit_company(work, company, {"name": "Alfreds Feinkost"}, None, user_id=None)
        work.commit()
    row.get_by_role("link", name="Alfreds Feinkost").click()
    expect(desk.locator("h1")).to_have_text("Alfreds Feinkost")


def test_a_contact_is_made_on_its_company_s_page_and_waits_for_it(desk: Page, product: Product) -> None:
    desk.goto(f"{product.web.url}/companies/{product.waiting}")
    desk.get_by_role("link", name="New contact").first.click()
    expect(desk.get_by_role("radio", name="Blauer See")).to_be_checked()
    desk.fill("[name=name]", "Hanna Moos")
    desk.locator("[data-role=save]").click()
    expect(desk.locator("h1")).to_have_text("Hanna Moos")
    be_live(desk)
    expect(desk.locator("[data-field=detail]")).to_contain_text("Waiting for the company Blauer See")
    product.web.set_status(f"company:{product.waiting}", Reason.REJECTED, {"code": "missing", "field": "country"})
    expect(desk.locator(".highlighted .value-company .mark-error")).to_be_visible()
    desk.locator("[data-role=parent]").click()
    expect(desk.locator("h1")).to_contain_text("Blauer See")
    be_live(desk)
    mine = desk.locator("[data-role=related-contacts] [data-row]")
    expect(mine).to_have_count(1)
    expect(mine.locator(".mark-wait")).to_be_visible()
    key = mine.get_attribute("data-key")
    assert key is not None
    product.web.set_status(key, Reason.IN_STEP, IN_STEP)
    expect(mine.locator(".mark-ok")).to_be_visible()


def test_the_search_for_a_company_keeps_what_is_typed(desk: Page, product: Product) -> None:
    desk.goto(f"{product.web.url}/contacts/new")
    be_live(desk)
    desk.fill("[name=name]", "Thomas Hardy")
    desk.get_by_label("Company").first.press_sequentially("alfreds")
    choice = desk.get_by_role("radio", name=ALFREDS)
    choice.check()
    desk.locator("#company_id").fill("blauer")
    expect(desk.get_by_role("radio")).to_have_count(2)
    expect(choice).to_be_checked()
    expect(desk.locator("[name=name]")).to_have_value("Thomas Hardy")
    desk.locator("#company_id").press("Enter")
    expect(desk.locator("[name=name]")).to_have_value("Thomas Hardy")
    desk.locator("[data-role=save]").click()
    expect(desk.locator("h1")).to_have_text("Thomas Hardy")
    expect(desk.locator(".highlighted .value-company a")).to_have_text(ALFREDS)


def test_who_edits_a_contact_is_told_of_changes_elsewhere(desk: Page, product: Product) -> None:
    # Sage does not know it yet, so that it can go to another company, too.
    with product.web.services.database.unit_of_work() as work:
        values = {"name": "Ana Trujillo", "company_id": product.waiting}
        contact = create_contact(work, values, None, user_id=None, cause="edit").id
        work.commit()
    desk.goto(f"{product.web.url}/contacts/{contact}/edit")
    be_live(desk)
    expect(desk.locator("[data-role=changed-elsewhere]")).to_be_hidden()
    other = desk.context.new_page()
    other.goto(f"{product.web.url}/contacts/{contact}/edit")
    other.fill("[name=role]", "Owner")
    other.locator("[data-role=save]").click()
    other.wait_for_url(re.compile(r"/contacts/\d+$"))
    told = desk.locator("[data-role=changed-elsewhere] li")
    expect(told).to_have_count(1)
    expect(told).to_contain_text("Role is now “Owner”.")

    other.goto(f"{product.web.url}/contacts/{contact}/edit")
    other.fill("#company_id", "Alfreds")
    other.get_by_role("radio", name=ALFREDS).check()
    other.locator("[data-role=save]").click()
    other.wait_for_url(re.compile(r"/contacts/\d+$"))
    other.close()
    desk.fill("[name=email]", "typed@example.com")
    told.filter(has_text=re.compile("Company is now “Alfreds ")).get_by_role("button", name="Take it").click()
    expect(told).to_have_count(1)
    expect(told).to_contain_text("Role is now “Owner”.")
    expect(desk.locator("[name=company_id]:checked + span")).to_have_text(ALFREDS)
    expect(desk.locator("[name=email]")).to_have_value("typed@example.com")


def test_contacts_fit_on_a_phone_and_axe_finds_nothing(browser: Browser, product: Product) -> None:
    addresses = (
        "/contacts",
        f"/contacts?company={product.there}&q=contact",
        f"/contacts/{product.contacts[0]}",
        f"/companies/{product.there}",
        "/contacts/new?find=e",
        f"/contacts/{product.contacts[0]}/edit",
        f"/companies/{product.waiting}/edit",
        "/companies?status=pending&status=review&type=customer&country=DE&country=FR&country=ES&owner=none&q=blauer",
    )
    context = browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    phone = product.web.sign_in(context.new_page())
    for address in addresses:
        phone.goto(f"{product.web.url}{address}")
        be_live(phone)
        assert fits(phone), address
    # Of many filters one row scrolls, and what clears them all stays in sight.
    expect(phone.get_by_role("link", name="Clear", exact=True).last).to_be_in_viewport(ratio=1)
    phone.goto(f"{product.web.url}/contacts/{product.contacts[0]}")
    tops = [
        phone.locator(selector).first.bounding_box()
        for selector in ("h1", "[data-role=sync-label]", ".highlighted", "[data-role=sync-details]", ".fields")
    ]
    heights = [box["y"] for box in tops if box is not None]
    assert len(heights) == 5
    assert heights == sorted(heights)
    # Each of these has what the others do not have.
    found = {}
    for address in ("/contacts", f"/companies/{product.there}", f"/contacts/new?find=e&company={product.there}"):
        phone.goto(f"{product.web.url}{address}")
        be_live(phone)
        found |= {f"{address} {look}": report for look, report in faults(phone).items()}
    context.close()
    assert found == {}
