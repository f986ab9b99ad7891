"""Each statement of the help article that the product was asked for from, on a desk and on a phone, named after it.

The article is "Synchronisation status with Sage". Where it speaks of the web version, a screen is 1440 px wide; where it
speaks of the mobile version, a phone of 375 px. What it says of companies holds for contacts, and is looked at there too
where it names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import URL

from tests.screens import Web, be_live, connected, running_web
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.contacts.changes import create_contact
from webapp.services import Services
from webapp.status import FILTER_TEXT, Reason, Status

FINE, WRONG, WAITING, OUT = "Fine Foods", "Wrong Wines", "Waiting Wares", "Outside Olives"
STATUSES = {
    FINE: (Reason.IN_STEP, {"code": "in_step"}),
    WRONG: (Reason.REJECTED, {"code": "missing", "field": "country"}),
    WAITING: (Reason.QUEUED, {"code": "queued"}),
    OUT: (Reason.EXCLUDED, {"code": "excluded"}),
}
# Which of them each value of the filter leaves.
LEFT = {Status.SYNCHRONISED: FINE, Status.PENDING: WAITING, Status.REVIEW: WRONG, Status.NOT_SYNCHRONISED: OUT}


@dataclass(frozen=True)
class Article:
    """The web app with a company and a contact in each status. `addresses` are those of their pages, by name."""

    web: Web
    addresses: dict[str, str]

    def open(self, page: Page, name: str) -> None:
        """Open the page of a company, or of the contact of this name ("contact of ...")."""
        page.goto(f"{self.web.url}{self.addresses[name]}")
        be_live(page)

    def open_list(self, page: Page, module: str) -> None:
        page.goto(f"{self.web.url}/{module}")
        be_live(page)


def _fill(services: Services) -> dict[str, str]:
    addresses = {}
    with services.database.unit_of_work() as work:
        connection = connected()
        work.session.add(connection)
        work.session.flush()
        for name, (reason, detail) in STATUSES.items():
            values = {"name": name, "country": "DE", "type": "prospect" if name == OUT else "customer"}
            company = create_company(work, values, connection, user_id=None, cause="import")
            company.sage_id = f"customer of {name}"
            values = {"name": f"contact of {name}", "company_id": company.id}
            contact = create_contact(work, values, connection, user_id=None, cause="import")
            for record, noun in ((company, "companies"), (contact, "contacts")):
                record.last_synchronised_at = connection.last_synchronised_at
                give_status(work, record, reason, detail)
                addresses[record.name] = f"/{noun}/{record.id}"
        work.commit()
    return addresses


@pytest.fixture(scope="module")
def article(
    database_server: URL, template_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Article]:
    with running_web(database_server, template_database, redis_url, tmp_path_factory.mktemp("article")) as web:
        yield Article(web, _fill(web.services))


@pytest.fixture(scope="module")
def web(browser: Browser, article: Article) -> Iterator[Page]:
    """A wide screen, on which an admin is signed in."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
    yield article.web.sign_in(context.new_page())
    context.close()


@pytest.fixture(scope="module")
def mobile(browser: Browser, article: Article) -> Iterator[Page]:
    """A phone with a touch screen, on which an admin is signed in."""
    context = browser.new_context(
        viewport={"width": 375, "height": 812}, locale="en-GB", has_touch=True, is_mobile=True
    )
    yield article.web.sign_in(context.new_page())
    context.close()


def icon_is_next_to_name(row: Locator) -> bool:
    """Whether the icon of a record stands right before its name, on the same line."""
    name, icon = row.locator("a").first.bounding_box(), row.locator("svg:visible").first.bounding_box()
    assert name is not None
    assert icon is not None
    between = name["x"] - icon["x"] - icon["width"]
    return 0 <= between < 24 and abs(name["y"] + name["height"] / 2 - icon["y"] - icon["height"] / 2) < 12


def tint(label: Locator) -> str:
    """The colour of a label's ground, by its name: green, red, or another one; and whether it is light."""
    colour = label.locator("[data-mark=label] > *").first.evaluate(
        "element => getComputedStyle(element).backgroundColor"
    )
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    name = "green" if green > max(red, blue) else "red" if red > max(green, blue) else "another"
    return f"light {name}" if max(red, green, blue) > 200 else name


def top_of(page: Page, selector: str) -> float:
    box = page.locator(selector).first.bounding_box()
    assert box is not None, selector
    return box["y"]


def status_box(panel: Locator, status: Status) -> Locator:
    """The box of a value of the filter, by the words that a person reads beside it."""
    words = re.compile(rf"^{FILTER_TEXT[status]}\b")
    return panel.get_by_role("group", name="Synchronisation status").get_by_role("checkbox", name=words)


def names(page: Page) -> list[str]:
    return [name for name in STATUSES if page.locator("[data-row]", has_text=name).count()]


# ---- Web version ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["companies", "contacts"])
def test_web_in_the_list_a_synchronisation_icon_stands_next_to_each_record(
    article: Article, web: Page, module: str
) -> None:
    article.open_list(web, module)
    expect(web.locator("[data-row]")).to_have_count(4)
    for reason, _ in STATUSES.values():
        assert icon_is_next_to_name(web.locator(f"[data-row][data-reason={reason}]"))


@pytest.mark.parametrize("name", [FINE, f"contact of {FINE}"])
def test_web_a_coloured_label_stands_just_below_the_main_actions_light_green_for_synchronised(
    article: Article, web: Page, name: str
) -> None:
    article.open(web, name)
    label = web.locator("[data-role=sync-label]")
    expect(label).to_have_text("Synchronised")
    assert tint(label) == "light green"
    # Below the line of the main actions, and above the block of details.
    assert (
        top_of(web, "[data-role=edit]")
        < top_of(web, "[data-role=sync-label]")
        < top_of(web, "[data-role=sync-details]")
    )


@pytest.mark.parametrize("name", [WRONG, f"contact of {WRONG}"])
def test_web_the_label_is_red_for_a_synchronisation_error(article: Article, web: Page, name: str) -> None:
    article.open(web, name)
    label = web.locator("[data-role=sync-label]")
    expect(label).to_have_text("Synchronisation error")
    assert tint(label) == "light red"


@pytest.mark.parametrize("name", [FINE, f"contact of {FINE}"])
def test_web_the_details_block_has_the_status_the_last_synchronisation_and_the_detail(
    article: Article, web: Page, name: str
) -> None:
    article.open(web, name)
    block = web.locator("[data-role=sync-details]")
    expect(block.get_by_role("heading", name="Synchronisation status details")).to_be_visible()
    for field, title in (
        ("status", "Synchronisation status"),
        ("last_synchronised_at", "Last synchronisation"),
        ("detail", "Synchronisation detail"),
    ):
        expect(block.get_by_text(title, exact=True).locator("visible=true")).to_be_visible()
        expect(block.locator(f"[data-field={field}]")).to_be_visible()
    expect(block.locator("[data-field=status]")).to_have_text("Synchronised")
    # Date and time.
    expect(block.locator("[data-field=last_synchronised_at]")).to_contain_text(re.compile(r"\d\d:\d\d"))
    expect(block.locator("[data-field=last_synchronised_at] time").first).to_have_attribute("datetime", re.compile("T"))


def test_web_hovering_over_connected_opens_the_connection_details(article: Article, web: Page) -> None:
    article.open_list(web, "companies")
    details = web.locator("[data-role=connection-details]")
    expect(details).to_be_hidden()
    indicator = web.locator("[data-role=connection]")
    expect(indicator).to_contain_text("Connected")
    indicator.hover()
    expect(details).to_be_visible()
    expect(details).to_contain_text("Connection details")
    expect(details).to_contain_text(re.compile(r"Connected to\s*Sage"))
    expect(details).to_contain_text(re.compile(r"Last synchronisation\s*.*\d\d:\d\d"))
    expect(details.locator("[data-text=summary]")).to_contain_text("Two-way")
    web.mouse.move(5, 700)
    expect(details).to_be_hidden()


@pytest.mark.parametrize("module", ["companies", "contacts"])
def test_web_the_standard_filters_have_the_synchronisation_status_with_its_four_values(
    article: Article, web: Page, module: str
) -> None:
    article.open_list(web, module)
    panel = web.locator("[data-role=filters]")
    expect(panel).to_contain_text("Standard filters")
    for status, company in LEFT.items():
        box = status_box(panel, status)
        box.check()
        expect(web.locator("[data-row]")).to_have_count(1)
        assert names(web) == [company]
        box.uncheck()
        expect(web.locator("[data-row]")).to_have_count(4)


# ---- Mobile version -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["companies", "contacts"])
def test_mobile_in_the_list_a_synchronisation_icon_stands_next_to_the_name(
    article: Article, mobile: Page, module: str
) -> None:
    article.open_list(mobile, module)
    for reason, _ in STATUSES.values():
        assert icon_is_next_to_name(mobile.locator(f"[data-row][data-reason={reason}]"))


@pytest.mark.parametrize(
    ("name", "words", "colour"),
    [
        (FINE, "Synchronised", "light green"),
        (f"contact of {FINE}", "Synchronised", "light green"),
        (WRONG, "Synchronisation error", "light red"),
        (f"contact of {WRONG}", "Synchronisation error", "light red"),
    ],
)
def test_mobile_just_below_the_name_stands_a_coloured_label(
    article: Article, mobile: Page, name: str, words: str, colour: str
) -> None:
    article.open(mobile, name)
    label = mobile.locator("[data-role=sync-label]")
    expect(label).to_have_text(words)
    assert tint(label) == colour
    title, box = mobile.locator("h1").bounding_box(), label.bounding_box()
    assert title is not None
    assert box is not None
    assert 0 <= box["y"] - title["y"] - title["height"] < 40


@pytest.mark.parametrize("name", [FINE, f"contact of {FINE}"])
def test_mobile_a_section_synchronisation_stands_below_the_highlighted_fields(
    article: Article, mobile: Page, name: str
) -> None:
    article.open(mobile, name)
    section = mobile.locator("[data-role=sync-details]")
    expect(section.get_by_role("heading", name="Synchronisation", exact=True)).to_be_visible()
    highlighted = mobile.get_by_role("heading", name="Highlighted fields").bounding_box()
    assert highlighted is not None
    assert highlighted["y"] < top_of(mobile, "[data-role=sync-details]")
    for field, title in (
        ("last_synchronised_at", "Last synchronisation"),
        ("detail", "Synchronisation status detail"),
    ):
        expect(section.get_by_text(title, exact=True).locator("visible=true")).to_be_visible()
        expect(section.locator(f"[data-field={field}]")).to_be_visible()


def test_mobile_the_detail_of_a_company_in_step_is_the_sentence_of_the_article(article: Article, mobile: Page) -> None:
    article.open(mobile, FINE)
    expect(mobile.locator("[data-field=detail]")).to_have_text(
        "Synchronised: the account is correctly synchronised with Sage."
    )


def test_mobile_after_an_error_a_message_explains_the_reason(article: Article, mobile: Page) -> None:
    article.open(mobile, WRONG)
    expect(mobile.locator("[data-field=detail]")).to_have_text(
        "Sage needs a country for this company. Add the country and save."
    )


def test_mobile_company_filters_have_the_synchronisation_status_within_add_filters(
    article: Article, mobile: Page
) -> None:
    article.open_list(mobile, "companies")
    for status, company in LEFT.items():
        mobile.get_by_role("button", name="Company filters").tap()
        sheet = mobile.get_by_role("search")
        expect(sheet.get_by_role("heading", name="Company filters")).to_be_visible()
        expect(sheet.get_by_text("Add filters")).to_be_visible()
        status_box(sheet, status).check()
        sheet.get_by_role("button", name="Done").tap()
        expect(mobile.locator("[data-row]")).to_have_count(1)
        assert names(mobile) == [company]
        article.open_list(mobile, "companies")
