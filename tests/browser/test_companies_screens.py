"""The screens of companies in a real browser: wide and narrow, by pointer, keyboard and touch, with scripts and without.

The web app runs in earnest beside PostgreSQL and Redis, and no worker runs: a status changes when a test says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect
from sqlalchemy import URL

from tests.accessibility import faults, keyboard_faults
from tests.screens import Web, be_live, connected, fits, running_web
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.services import Services
from webapp.status import Reason

CITIES = ["Århus", "Berlin", "Łódź", "Malmö", "São Paulo"]

# The first of the seventy companies, one for each kind of status that a record's page shows.
STATUSES = {
    "Company 000": (Reason.RETRYING, {"code": "retrying", "at": "2026-11-22T10:45:00+00:00", "attempt": 2, "of": 5}),
    "Company 001": (Reason.EXCLUDED, {"code": "excluded"}),
    "Company 003": (Reason.REJECTED, {"code": "missing", "field": "country", "raw": {"message": "no country"}}),
    "Company 004": (Reason.CONFLICT, {"code": "conflict", "fields": ["phone"]}),
    "Company 005": (Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"}),
}


@dataclass(frozen=True)
class Product:
    """The web app with seventy companies."""

    web: Web
    ids: dict[str, int]

    @property
    def url(self) -> str:
        return self.web.url

    def set_status(self, name: str, reason: Reason, detail: dict[str, Any]) -> int:
        """Give a company a status, as a worker does. Returns its version after that."""
        return self.web.set_status(f"company:{self.ids[name]}", reason, detail)

    def move_to_country(self, name: str, country: str) -> None:
        """Have somebody move a company to another country, which is sent to Sage."""
        with self.web.services.database.unit_of_work() as work:
            work.session.get_one(Company, self.ids[name]).country = country
            work.commit()
        self.set_status(name, Reason.QUEUED, {"code": "queued"})
        self.set_status(name, Reason.IN_STEP, {"code": "in_step"})

    def page_of(self, name: str) -> str:
        """The address of a company."""
        return f"{self.url}/companies/{self.ids[name]}"

    def sign_in(self, page: Page) -> Page:
        """Sign an admin in. Returns the page, which is still blank."""
        return self.web.sign_in(page)


@pytest.fixture(scope="module")
def running(
    database_server: URL, template_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    with running_web(database_server, template_database, redis_url, tmp_path_factory.mktemp("screens")) as web:
        yield Product(web, _seventy(web.services))


def _seventy(services: Services) -> dict[str, int]:
    """A connection and seventy companies. Returns their ids by name."""
    now = datetime.now(UTC)
    made = {}
    with services.database.unit_of_work() as work:
        connection = connected()
        work.session.add(connection)
        work.session.flush()
        for number in range(70):
            values = {
                "name": f"Company {number:03}",
                "code": f"C{number:03}",
                "city": CITIES[number % 5],
                "country": "DE",
            }
            company = create_company(work, values, connection, user_id=None, cause="import")
            company.last_synchronised_at = now - timedelta(minutes=number)
            give_status(work, company, Reason.IN_STEP, {"code": "in_step"})
            made[company.name] = company.id
        for name, (reason, detail) in STATUSES.items():
            give_status(work, work.session.get_one(Company, made[name]), reason, detail)
        work.commit()
    return made


@pytest.fixture
def product(running: Product) -> Iterator[Product]:
    """The product; the statuses are put back after the test."""
    yield running
    for name, (reason, detail) in STATUSES.items():
        running.set_status(name, reason, detail)


def mark(page: Page) -> None:
    """Remember this very window."""
    be_live(page)
    page.evaluate("window.neverReloaded = true")


def never_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.neverReloaded === true"))


def rows(page: Page) -> Locator:
    return page.locator("[data-row]")


def path(page: Page) -> str:
    return re.sub(r"^https?://[^/]+", "", page.url)


def expect_path(page: Page, address: str) -> None:
    """The page has this path and query in its address, or comes to it."""
    expect(page).to_have_url(page.url.removesuffix(path(page)) + address)


@pytest.fixture
def phone(browser: Browser, product: Product) -> Iterator[Page]:
    """A phone with a touch screen, on which an admin is signed in."""
    context = browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    yield product.sign_in(context.new_page())
    context.close()


@pytest.fixture
def plain(browser: Browser, product: Product) -> Iterator[Page]:
    """A browser without JavaScript, in which an admin is signed in."""
    context = browser.new_context(java_script_enabled=False)
    yield product.sign_in(context.new_page())
    context.close()


@pytest.fixture
def screen(page: Page, product: Product) -> Page:
    """A wide screen, on which an admin is signed in and looks at nothing yet."""
    page.set_viewport_size({"width": 1440, "height": 900})
    return product.sign_in(page)


@pytest.fixture
def desk(screen: Page, product: Product) -> Page:
    """The same, with the list on it."""
    screen.goto(f"{product.url}/companies")
    be_live(screen)
    return screen


def test_many_saved_filters_with_long_names_stay_on_the_screen(phone: Page, screen: Page, product: Product) -> None:
    long = "Customers in Germany and Austria whose orders wait: " + "W" * 8
    for number in range(18):
        save_filter(screen, product, f"c{number}", f"Filter {number}")
    save_filter(screen, product, "long", long)
    for page in (phone, screen):
        page.goto(f"{product.url}/companies?city=new")
        page.locator("[data-role=saved-filters] summary").click()
        menu = page.locator("#saved-menu").bounding_box()
        expect(page.get_by_label("Save these filters")).to_be_in_viewport(ratio=1)
        expect(page.get_by_role("link", name="Rename or delete")).to_be_in_viewport(ratio=1)
        # A shade tells that there is more, above or below.
        assert shades(page) == (False, True)
        page.locator(".saved-list").evaluate("(list) => list.scrollTo(0, 60)")
        assert shades(page) == (True, True)
        page.locator(".saved-list").evaluate("(list) => list.scrollTo(0, list.scrollHeight)")
        assert shades(page) == (True, False)
        link = page.get_by_role("link", name=long)
        link.scroll_into_view_if_needed()
        shown = link.bounding_box()
        assert menu is not None
        assert shown is not None
        assert menu["x"] <= shown["x"]
        assert shown["x"] + shown["width"] <= menu["x"] + menu["width"]
        page.goto(f"{product.url}/companies/filters")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # What there is to do with a filter stands side by side.
    for width in (320, 768, 1440):
        screen.set_viewport_size({"width": width, "height": 800})
        screen.goto(f"{product.url}/companies/filters")
        line = screen.locator(".saved-filters li", has_text="Filter 3")
        boxes = [line.get_by_role("button", name=name).bounding_box() for name in ("Rename", "Delete")]
        assert [box and box["y"] for box in boxes] == [boxes[0] and boxes[0]["y"]] * 2, width


def shades(page: Page) -> tuple[bool, bool]:
    """Whether the list of saved filters looks different at its first and at its last line from its middle, beside the texts."""
    box = page.locator(".saved-list").bounding_box()
    assert box is not None

    def look(y: float) -> bytes:
        return page.screenshot(clip={"x": round(box["x"]) + 11, "y": round(y), "width": 2, "height": 1})

    middle = look(box["y"] + box["height"] / 2)
    return look(box["y"] + 2) != middle, look(box["y"] + box["height"] - 2) != middle


def save_filter(page: Page, product: Product, city: str, name: str) -> None:
    page.goto(f"{product.url}/companies?city={city}")
    page.locator("[data-role=saved-filters] summary").click()
    page.get_by_label("Save these filters").fill(name)
    page.locator(".saved-new button").click()
    expect(page.get_by_text(f"Saved as “{name}”.")).to_be_visible()


# ---- One page, many addresses ---------------------------------------------------------------------------------------


def test_nothing_reloads_and_each_address_has_its_title_and_focus(desk: Page) -> None:
    mark(desk)
    desk.get_by_role("link", name="Company 007").click()
    expect(desk).to_have_title("Company 007 · Synclight")
    expect(desk.locator("h1")).to_be_focused()
    desk.locator("[data-role=edit]").click()
    expect(desk).to_have_title("Edit Company 007 · Synclight")
    desk.go_back()
    expect(desk).to_have_title("Company 007 · Synclight")
    desk.go_back()
    expect(desk).to_have_title("Companies · Synclight")
    expect(rows(desk)).to_have_count(50)
    desk.go_forward()
    expect(desk.locator("h1")).to_have_text("Company 007")
    be_live(desk)
    assert never_reloaded(desk)
    desk.reload()
    expect(desk.locator("h1")).to_have_text("Company 007")


def test_search_as_you_type_keeps_the_focus_and_tells_the_address(desk: Page) -> None:
    mark(desk)
    search = desk.get_by_role("searchbox")
    search.press_sequentially("lodz")
    expect(rows(desk)).to_have_count(14)
    expect(search).to_be_focused()
    expect(search).to_have_value("lodz")
    expect_path(desk, "/companies?q=lodz")
    # A late answer takes the name of filters that are being saved from nobody.
    desk.locator("[data-role=saved-filters] summary").click()
    name = desk.get_by_label("Save these filters")
    name.press_sequentially("North")
    search.evaluate("(input) => { input.value = 'malmo'; input.dispatchEvent(new Event('input', { bubbles: true })) }")
    expect_path(desk, "/companies?q=malmo")
    expect(desk.locator("[data-role=saved-filters] [name=query]")).to_have_value("q=malmo")
    name.press_sequentially("ern")
    expect(name).to_have_value("Northern")
    desk.keyboard.press("Escape")
    search.fill("l")
    expect(desk.locator("[data-role=search-hint]")).to_be_visible()
    assert never_reloaded(desk)


def test_filters_are_the_address_and_back_undoes_them(desk: Page) -> None:
    mark(desk)
    desk.get_by_role("checkbox", name="Pending review").check()
    expect(rows(desk)).to_have_count(3)
    expect_path(desk, "/companies?status=review")
    desk.get_by_role("checkbox", name="Prospect").check()
    expect(desk.locator("[data-role=nothing-matches]")).to_be_visible()
    expect_path(desk, "/companies?status=review&type=prospect")
    desk.go_back()
    expect(rows(desk)).to_have_count(3)
    expect(desk.get_by_role("checkbox", name="Prospect")).not_to_be_checked()
    desk.locator(".chip", has_text="Pending review").click()
    expect(rows(desk)).to_have_count(50)
    expect(desk.get_by_role("checkbox", name="Pending review")).not_to_be_checked()
    expect_path(desk, "/companies")
    assert never_reloaded(desk)


def test_choices_have_live_counts_and_cities_are_suggested(desk: Page, product: Product) -> None:
    germany, sweden = desk.locator('[data-choice="country:DE"]'), desk.get_by_role("checkbox", name="Sweden")
    expect(germany).to_have_text("70")
    expect(desk.locator('[data-choice="owner:none"]')).to_have_text("70")
    expect(desk.locator('[data-choice="type:prospect"]')).to_have_text("0")
    try:
        product.move_to_country("Company 010", "SE")
        city = desk.get_by_role("combobox", name="City")
        city.press_sequentially("LO")
        expect(desk.locator("#cities option")).to_have_count(1)
        assert desk.locator("#cities option").get_attribute("value") == "Łódź"
        city.fill("lodz")
        city.press("Enter")
        expect(rows(desk)).to_have_count(14)
        expect_path(desk, "/companies?city=lodz")
        expect(desk.locator(".chip")).to_have_text(re.compile("^City: lodz"))
        desk.locator(".chip").click()
        expect(rows(desk)).to_have_count(50)
        expect(city).to_have_value("")
        sweden.check()
        expect(rows(desk)).to_have_count(1)
        desk.get_by_role("checkbox", name="Germany").check()
        expect(rows(desk)).to_have_count(50)
        expect_path(desk, "/companies?country=DE&country=SE")
        expect(germany).to_have_text("69")
    finally:
        product.move_to_country("Company 010", "DE")
    # Nobody has drawn the page anew.
    expect(germany).to_have_text("70")


def test_a_counter_is_a_link_to_its_records(desk: Page) -> None:
    counter = desk.locator("[data-role=status-count][data-status=review]")
    expect(counter).to_contain_text("3")
    counter.click()
    expect(rows(desk)).to_have_count(3)
    expect(counter).to_have_attribute("aria-current", "true")


def test_paging_and_sorting_keep_their_place_in_the_history(desk: Page) -> None:
    desk.get_by_role("link", name="City").click()
    expect(desk.locator("th[aria-sort]")).to_have_text("City")
    expect(rows(desk).first).to_contain_text("Århus")
    desk.get_by_role("link", name="Next").click()
    expect(desk.get_by_role("link", name="Previous")).to_be_visible()
    desk.get_by_role("link", name="Previous").click()
    expect(rows(desk)).to_have_count(50)
    expect(rows(desk).first).to_contain_text("Århus")
    desk.go_back()
    expect(desk.get_by_role("link", name="Previous")).to_be_visible()


# ---- The connection's pop-up ----------------------------------------------------------------------------------------


def test_the_pop_up_opens_on_hover_stays_under_the_pointer_and_closes(desk: Page) -> None:
    indicator, details = desk.locator("[data-role=connection]"), desk.locator("[data-role=connection-details]")
    expect(details).to_be_hidden()
    indicator.hover()
    expect(details).to_be_visible()
    for words in ("Connected to", "Sage", "Last synchronisation", "Next run", "Waiting", "State", "Two-way:"):
        expect(details).to_contain_text(words)
    above, below = indicator.bounding_box(), details.bounding_box()
    assert above is not None
    assert below is not None
    assert below["y"] >= above["y"] + above["height"], "it covers its indicator"
    desk.mouse.move(below["x"] + 40, below["y"] + 40, steps=12)
    expect(details).to_be_visible()
    desk.mouse.move(200, 700)
    expect(details).to_be_hidden()


def test_the_pop_up_opens_on_keyboard_focus_and_escape_closes_it(desk: Page) -> None:
    indicator, details = desk.locator("[data-role=connection]"), desk.locator("[data-role=connection-details]")
    desk.locator("h1").focus()
    desk.keyboard.press("Tab")
    expect(indicator).to_be_focused()
    expect(details).to_be_visible()
    desk.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(indicator).to_be_focused()
    desk.keyboard.press("Enter")
    expect(details).to_be_visible()
    desk.keyboard.press("Tab")
    expect(details).to_be_hidden()


def test_a_click_keeps_the_pop_up_when_the_pointer_leaves(desk: Page) -> None:
    indicator, details = desk.locator("[data-role=connection]"), desk.locator("[data-role=connection-details]")
    indicator.hover()
    indicator.click()
    desk.mouse.move(200, 700)
    desk.get_by_role("searchbox").hover()
    expect(details).to_be_visible()
    desk.locator("h1").click()
    expect(details).to_be_hidden()


# ---- Live -----------------------------------------------------------------------------------------------------------


def test_a_row_that_no_longer_matches_stays_until_it_is_asked_for(screen: Page, product: Product) -> None:
    screen.goto(f"{product.url}/companies?status=review")
    mark(screen)
    expect(rows(screen)).to_have_count(3)
    row = screen.locator(f'[data-row="company:{product.ids["Company 004"]}"]')
    product.set_status("Company 004", Reason.UNLINKED, {"code": "unlinked"})
    expect(row).to_have_attribute("data-left", "")
    expect(row).to_have_attribute("data-status", "not_synchronised")
    expect(row.locator(".mark-off")).to_be_visible()
    expect(rows(screen)).to_have_count(3)
    changes = screen.locator("[data-role=list-changes]")
    expect(changes).to_have_text("1 change – update the list")  # noqa: RUF001 - as people see it.
    changes.click()
    expect(rows(screen)).to_have_count(2)
    expect(changes).to_be_hidden()
    expect_path(screen, "/companies?status=review")
    assert never_reloaded(screen)


def test_a_record_is_live_with_its_history(screen: Page, product: Product) -> None:
    screen.goto(product.page_of("Company 005"))
    mark(screen)
    expect(screen.locator("[data-role=sync-label]")).to_have_text("Pending review")
    # The exact time of an event is there for whoever cannot hover, and no state of the record takes it away.
    moment = screen.locator("[data-role=history] [data-role=moment]").last
    expect(moment).to_have_text(re.compile("Just now|ago"))
    moment.focus()
    screen.keyboard.press("Enter")
    expect(moment).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    moment.click()
    expect(moment).to_have_text(re.compile("Just now|ago"))
    # A web process that is just being replaced: what is drawn anew by itself is asked for until it comes.
    screen.route(re.compile(r"/companies/\d+$"), lambda route: route.fulfill(status=503), times=1)
    detail = {"code": "missing", "field": "country", "raw": {"message": "none"}}
    product.set_status("Company 005", Reason.REJECTED, detail)
    expect(screen.locator("[data-role=sync-label]")).to_have_text("Synchronisation error")
    expect(screen.locator("[data-role=sync-details] [data-field=status]")).to_have_text("Synchronisation error")
    expect(screen.locator("[data-role=history] li").first).to_contain_text("Sage needs a country")
    expect(screen.locator("[data-role=toast]")).to_be_hidden()
    remedy = screen.locator("[data-role=remedy]")
    expect(remedy).to_have_text("Add country")
    expect(screen.locator("[data-role=raw-error]")).to_contain_text("What Sage said")
    remedy.click()
    expect(screen.locator("[name=country]")).to_be_focused()
    assert never_reloaded(screen)


def test_live_updates_can_be_paused(desk: Page, product: Product) -> None:
    row = desk.locator(f'[data-row="company:{product.ids["Company 003"]}"]')
    pause = desk.locator("[data-role=pause-live]")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    expect(desk.locator(".live-text-paused")).to_be_visible()
    # A page that is not paused shows when the message has come.
    other = desk.context.new_page()
    other.goto(desk.url)
    be_live(other)
    newest = product.set_status("Company 003", Reason.UNLINKED, {"code": "unlinked"})
    expect(other.locator(f'[data-row="company:{product.ids["Company 003"]}"]')).to_have_attribute(
        "data-version", str(newest)
    )
    other.close()
    expect(row).to_have_attribute("data-status", "review")
    pause.click()
    expect(row).to_have_attribute("data-version", str(newest))
    expect(row).to_have_attribute("data-status", "not_synchronised")


def test_arrows_turn_while_a_call_runs_and_stand_still_where_motion_is_not_wanted(desk: Page, product: Product) -> None:
    product.set_status("Company 004", Reason.RUNNING, {"code": "running"})
    icon = desk.locator(f'[data-row="company:{product.ids["Company 004"]}"] .icon')
    expect(icon).to_have_css("animation-name", "turn")
    desk.emulate_media(reduced_motion="reduce")
    expect(icon).to_have_css("animation-name", "none")


# ---- Forms ----------------------------------------------------------------------------------------------------------


def test_errors_are_summed_up_and_what_was_typed_stays(screen: Page, product: Product) -> None:
    screen.goto(f"{product.url}/companies/new")
    mark(screen)
    expect(screen.locator("[name=name]")).to_be_focused()
    screen.fill("[name=city]", "Leeds")
    screen.fill("[name=email]", "nobody@")
    screen.locator("[data-role=save]").click()
    summary = screen.locator("[data-role=form-errors]")
    expect(summary).to_be_focused()
    expect(summary).to_contain_text("2 fields need your attention")
    expect(screen.locator("[name=city]")).to_have_value("Leeds")
    expect(screen.locator("[name=email]")).to_have_value("nobody@")
    summary.get_by_role("link", name="E-mail").click()
    expect(screen.locator("[name=email]")).to_be_focused()
    assert never_reloaded(screen)


def test_a_double_click_on_save_makes_one_company(screen: Page, product: Product) -> None:
    screen.goto(f"{product.url}/companies/new")
    be_live(screen)
    screen.fill("[name=name]", "Twice Ltd")
    screen.locator("[name=type]").select_option("prospect")
    screen.locator("[data-role=save]").dblclick()
    screen.wait_for_url(lambda url: url.rsplit("/", 1)[1].isdigit())
    screen.goto(f"{product.url}/companies?q=twice")
    expect(rows(screen)).to_have_count(1)


def test_who_leaves_with_unsaved_text_is_asked(screen: Page, product: Product) -> None:
    screen.goto(product.page_of("Company 010"))
    mark(screen)
    screen.locator("[data-role=edit]").click()
    screen.fill("[name=city]", "Half typ")
    asked: list[str] = []

    def stay(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    screen.on("dialog", stay)
    screen.locator("[data-nav]", has_text="Companies").click()
    expect(screen.locator("[name=city]")).to_have_value("Half typ")
    screen.go_back()
    expect(screen).to_have_url(re.compile("/edit$"))
    expect(screen.locator("[name=city]")).to_have_value("Half typ")
    assert len(asked) == 2
    assert "Leave without saving?" in asked[0]
    screen.remove_listener("dialog", stay)
    screen.on("dialog", lambda dialog: dialog.accept())
    screen.locator("[data-nav]", has_text="Companies").click()
    expect(rows(screen)).to_have_count(50)
    assert never_reloaded(screen)


def test_who_edits_is_told_of_changes_elsewhere_and_chooses(
    screen: Page, product: Product, context: BrowserContext
) -> None:
    address = f"{product.page_of('Company 011')}/edit"
    screen.goto(address)
    be_live(screen)
    screen.fill("[name=city]", "Bonn")
    screen.fill("[name=region]", "Rhein")
    other = context.new_page()
    other.goto(address)
    other.fill("[name=city]", "Ulm")
    other.fill("[name=region]", "Baden")
    other.fill("[name=phone]", "0731 1")
    other.locator("[name=country]").select_option(label="Austria")
    other.locator("[data-role=save]").click()
    other.wait_for_url(lambda url: url.rsplit("/", 1)[1].isdigit())
    told = screen.locator("[data-role=changed-elsewhere]")
    expect(told).to_contain_text("City is now “Ulm”.")
    expect(screen.locator("[name=city]")).to_have_value("Bonn")
    # Each can be decided at once; what is left open is asked at saving, and what was taken or kept is not asked again.
    expect(told.locator("li")).to_have_count(4)
    told.locator("li", has_text="Phone").get_by_role("button", name="Take it").click()
    expect(screen.locator("[name=phone]")).to_have_value("0731 1")
    expect(screen.locator("[name=phone]")).to_be_focused()
    told.locator("li", has_text="Country").get_by_role("button", name="Take it").click()
    expect(screen.locator("[name=country]")).to_have_value("AT")
    told.locator("li", has_text="Region").get_by_role("button", name="Keep mine").click()
    expect(told.locator("li")).to_have_count(1)
    screen.locator("[data-role=save]").click()
    expect(screen.locator("[data-role=form-differences]")).to_be_focused()
    choice = screen.locator("[data-role=difference]")
    expect(choice).to_contain_text("Bonn")
    expect(choice).to_contain_text("Ulm")
    choice.get_by_label("Yours").check()
    screen.locator("[data-role=save]").click()
    screen.wait_for_url(lambda url: url.rsplit("/", 1)[1].isdigit())
    for name, text in {"city": "Bonn", "region": "Rhein", "phone": "0731 1", "country": "Austria"}.items():
        expect(screen.locator(f"[data-value={name}]").first).to_have_text(text)


def until(page: Page, condition: str) -> None:
    """Wait until this is true in the page, whose policy lets no text be run as code there."""
    page.evaluate(
        f"new Promise(done => {{ const asked = () => {condition} ? done() : setTimeout(asked, 50); asked(); }})"
    )


def drafts(page: Page) -> list[str]:
    return page.evaluate("Object.keys(localStorage)")  # type: ignore[no-any-return]


def test_what_was_not_saved_is_offered_again_until_it_is_saved_or_somebody_signs_out(
    screen: Page, product: Product, context: BrowserContext
) -> None:
    address = f"{product.page_of('Company 012')}/edit"
    screen.goto(address)
    be_live(screen)
    screen.fill("[name=city]", "Typed on the train")
    screen.fill("[name=notes]", "One\nTwo")
    context.set_offline(True)
    screen.locator("[data-role=save]").click()
    expect(screen.locator("[data-role=toast]")).to_contain_text("You are offline.")
    # The form is still there to be sent again.
    expect(screen.locator("[data-role=try-again]")).to_be_hidden()
    expect(screen.locator("[name=city]")).to_have_value("Typed on the train")
    context.set_offline(False)
    # The tab is closed; meanwhile somebody changes the same company.
    screen.close()
    other = context.new_page()
    other.goto(address)
    offer = other.locator("[data-role=draft]")
    # It may be midnight.
    expect(offer).to_contain_text(re.compile("You typed something here and did not save it: (Today|Yesterday), "))
    assert faults(other) == {}
    assert drafts(other) == [f"draft:{other.locator('body').get_attribute('data-user')}:{path(other)}"]
    elsewhere = context.browser.new_context()  # type: ignore[union-attr]
    colleague = product.sign_in(elsewhere.new_page())
    colleague.goto(address)
    expect(colleague.locator("[data-role=draft]")).to_be_hidden()
    colleague.fill("[name=phone]", "0800 1")
    colleague.fill("[name=city]", "Graz")
    colleague.locator("[data-role=save]").click()
    expect(colleague.locator("[data-role=sync-label]")).to_be_visible()
    elsewhere.close()

    offer.get_by_role("button", name="Bring it back").click()
    expect(other.locator("#city")).to_have_value("Typed on the train")
    expect(other.locator("#notes")).to_have_value("One\nTwo")
    expect(other.locator("[data-role=draft]")).to_be_hidden()
    told = other.locator("[data-role=changed-elsewhere]")
    expect(told).to_contain_text("Phone is now “0800 1”.")
    expect(told).to_contain_text("City is now “Graz”.")
    assert faults(other) == {}
    other.set_viewport_size({"width": 320, "height": 640})
    assert fits(other)
    told.locator("li", has_text="City").get_by_role("button", name="Keep mine").click()
    other.locator("[data-role=save]").click()
    expect(other.locator("[data-value=city]").first).to_have_text("Typed on the train")
    expect(other.locator("[data-value=phone]").first).to_have_text("0800 1")
    assert drafts(other) == []

    other.goto(f"{product.url}/companies/new")
    other.fill("[name=name]", "Never saved")
    until(other, "localStorage.length === 1")
    other.on("dialog", lambda dialog: dialog.accept())
    other.locator("[data-role=people-menu] summary").click()
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    assert drafts(other) == []


def test_without_a_network_a_page_says_so_and_nothing_of_a_record_was_kept(browser: Browser, product: Product) -> None:
    context = browser.new_context()
    page = product.sign_in(context.new_page())
    page.goto(product.page_of("Company 012"))
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.goto(product.page_of("Company 013"))
    until(page, "navigator.serviceWorker.controller !== null")
    page.goto(f"{product.page_of('Company 014')}/edit")
    page.fill("[name=city]", "Typed in a tunnel")
    until(page, "localStorage.length === 1")
    context.set_offline(True)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(product.page_of("Company 014"))
    expect(page.get_by_role("heading", name="Synclight cannot be reached")).to_be_visible()
    assert len(drafts(page)) == 1, "the page promises that it is kept"
    assert page.locator(".bare-card").evaluate("card => getComputedStyle(card).display") == "block", "it has its style"
    assert faults(page) == {}
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", name="Synclight cannot be reached")).to_be_visible()
    kept = page.evaluate(
        """async () => {
            const texts = [];
            for (const name of await caches.keys()) {
                const shelf = await caches.open(name);
                for (const request of await shelf.keys()) {
                    texts.push(new URL(request.url).pathname + await (await shelf.match(request)).text());
                }
            }
            return texts;
        }"""
    )
    assert len(kept) == 5
    assert not [text for text in kept if "Company 01" in text or "admin@example.com" in text]
    # It comes by itself when the network is back.
    context.set_offline(False)
    expect(page.get_by_role("heading", name="Company 014")).to_be_visible()
    page.locator("[data-role=people-menu] summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


# ---- When it does not answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["answers 500", "does not answer"])
def test_a_failed_answer_leaves_the_page_and_can_be_tried_again(desk: Page, fault: str) -> None:
    mark(desk)
    broken = True

    def answer(route: Route) -> None:
        if not broken:
            route.continue_()
        elif fault == "answers 500":
            route.fulfill(status=500, content_type="text/html", body="<h1>Broken</h1>")
        else:
            route.abort("connectionfailed")

    desk.route("**/companies?status=review", answer)
    desk.locator("[data-role=status-count][data-status=review]").click()
    toast = desk.locator("[data-role=toast]")
    expect(toast).to_be_visible()
    expect(rows(desk)).to_have_count(50)
    expect_path(desk, "/companies")
    broken = False
    toast.get_by_role("button", name="Try again").click()
    expect(rows(desk)).to_have_count(3)
    expect(toast).to_be_hidden()
    assert never_reloaded(desk)


def test_a_slow_answer_is_awaited_with_its_outline(desk: Page) -> None:
    desk.goto(desk.url)
    be_live(desk)
    held: list[Route] = []
    desk.route("**/contacts", lambda route: held.append(route))

    def asked() -> Route:
        """What the page has asked for, which may still be on its way here when the outline is there."""
        while not held:
            desk.wait_for_timeout(20)
        return held.pop()

    awaited = desk.locator("#page[data-awaits=list]")
    to_contacts = desk.get_by_role("navigation", name="Main").get_by_role("link", name="Contacts")
    to_contacts.click()
    expect(awaited).to_have_attribute("aria-busy", "true")
    expect(rows(desk).first).to_be_hidden()
    asked().abort("connectionfailed")
    expect(rows(desk).first).to_be_visible()
    expect(awaited).to_have_count(0)
    expect(to_contacts).to_be_focused()
    to_contacts.click()
    expect(awaited).to_be_visible()
    asked().continue_()
    expect(desk).to_have_title("Contacts · Synclight")
    expect(awaited).to_have_count(0)
    desk.unroute("**/contacts")
    desk.go_back()
    expect(rows(desk).first).to_be_visible()


def test_offline_is_said(screen: Page, product: Product) -> None:
    screen.set_viewport_size({"width": 375, "height": 740})
    screen.goto(f"{product.url}/companies/new")
    be_live(screen)
    screen.context.set_offline(True)
    expect(screen.locator("[data-role=toast]")).to_contain_text("You are offline.")
    expect(screen.locator(".live-text-offline")).to_be_visible()
    # It stands above the button of a form, not over it.
    screen.locator("[data-role=save]").click(trial=True)
    screen.context.set_offline(False)
    expect(screen.locator("[data-role=toast]")).to_be_hidden()
    be_live(screen)


def test_a_session_that_has_ended_leads_to_sign_in(desk: Page) -> None:
    desk.context.clear_cookies()
    desk.get_by_role("link", name="Company 007").click()
    desk.wait_for_url(re.compile("/login"))
    expect(desk.get_by_role("heading", name="Sign in")).to_be_visible()
    assert desk.locator(".frame").count() == 0


# ---- The theme ------------------------------------------------------------------------------------------------------


def test_the_theme_changes_at_once_and_stands_in_the_next_page(desk: Page) -> None:
    mark(desk)
    desk.locator("[data-role=people-menu] summary").click()
    desk.get_by_role("button", name="Dark").click()
    expect(desk.locator("html")).to_have_attribute("data-theme", "dark")
    expect(desk.locator("body")).to_have_css("background-color", "rgb(15, 18, 23)")
    assert never_reloaded(desk)
    answer = desk.reload()
    assert answer is not None
    assert 'data-theme="dark"' in answer.text(), "it comes with the page, so that nothing flashes"


# ---- Phone ----------------------------------------------------------------------------------------------------------


def test_the_list_on_a_phone_is_cards_that_fit(phone: Page, product: Product) -> None:
    phone.goto(f"{product.url}/companies")
    be_live(phone)
    assert fits(phone)
    first = rows(phone).first
    expect(first.locator(".mark-ok, .mark-wait").first).to_be_visible()
    expect(first.locator(".col-type")).to_be_hidden()
    box = first.bounding_box()
    assert box is not None
    assert box["width"] > 280
    first.tap()
    expect(phone.locator("[data-role=sync-label]")).to_be_visible()
    assert fits(phone)


def test_the_state_of_the_connection_is_read_in_full_on_the_smallest_phone(phone: Page, product: Product) -> None:
    phone.goto(f"{product.url}/companies")
    be_live(phone)
    # As where somebody is there to send and to read.
    words = phone.locator("[data-role=connection] .state-words")
    assert words.evaluate("(words) => { delete document.body.dataset.still; return words.textContent }") == "Connected"
    assert words.evaluate("(words) => words.scrollWidth <= words.clientWidth")


def test_records_that_may_be_the_same_can_be_compared_on_a_phone(phone: Page, product: Product) -> None:
    others = ("Company 007", "Company 008")
    detail = {"code": "possible_duplicate", "names": others, "ids": [product.ids[name] for name in others]}
    product.set_status("Company 006", Reason.POSSIBLE_DUPLICATE, detail)
    phone.goto(product.page_of("Company 006"))
    be_live(phone)
    assert fits(phone)
    # Nothing is broken off letter by letter.
    names = phone.locator("[data-role=duplicates] tbody tr").first.locator("td")
    expect(names).to_have_count(3)
    assert [box and box["height"] < 40 for box in (names.nth(place).bounding_box() for place in range(3))] == [True] * 3
    product.set_status("Company 006", Reason.IN_STEP, {"code": "in_step"})


def test_what_is_pressed_on_a_phone_is_large_enough(phone: Page, product: Product) -> None:
    for address in ("/companies?status=review&q=company", f"/companies/{product.ids['Company 003']}", "/companies/new"):
        phone.goto(f"{product.url}{address}")
        be_live(phone)
        small = phone.evaluate(
            """() => [...document.querySelectorAll('a, button, summary, select, input:not([type=hidden])')]
                .filter((one) => one.checkVisibility({ visibilityProperty: true }))
                .filter((one) => !one.closest('p:not(.field, .crumbs) , li, dd, .skip, .rows'))
                .map((one) => [one.outerHTML.slice(0, 90), (one.closest('label') ?? one).getBoundingClientRect()])
                .map(([text, box]) => ({ text, ...box.toJSON() }))
                .filter(({ width, height, x, right }) => right > 0 && (width < 44 || height < 44))
                .map(({ text, width, height }) => `${text} ${width}x${height}`)"""
        )
        assert small == [], address


def test_the_sheet_of_filters_on_a_phone(phone: Page, product: Product) -> None:
    phone.goto(f"{product.url}/companies")
    be_live(phone)
    sheet = phone.locator("#filters")
    expect(sheet).to_be_hidden()
    phone.get_by_role("button", name="Company filters").tap()
    expect(sheet).to_be_visible()
    expect(sheet).to_contain_text("Company filters")
    expect(sheet).to_contain_text("Add filters")
    expect(sheet).to_contain_text("Synchronisation status")
    sheet.get_by_label("Pending review").check()
    sheet.get_by_role("button", name="Done").tap()
    expect(sheet).to_be_hidden()
    expect(rows(phone)).to_have_count(3)
    expect(phone.locator("#funnel-count")).to_have_text("1")
    expect_path(phone, "/companies?status=review")
    phone.get_by_role("button", name="Company filters").tap()
    expect(sheet.locator('[data-choice="country:DE"]')).to_have_text(re.compile(r"^\d+$"))
    sheet.get_by_label("Germany").check()
    sheet.get_by_label("Nobody").check()
    assert fits(phone)
    sheet.get_by_role("button", name="Done").tap()
    expect(phone.locator("#funnel-count")).to_have_text("3")
    expect_path(phone, "/companies?status=review&owner=none&country=DE")


def test_the_connection_on_a_phone_is_a_sheet(phone: Page, product: Product) -> None:
    phone.goto(f"{product.url}/companies")
    be_live(phone)
    phone.locator("[data-role=connection]").tap()
    details = phone.locator("[data-role=connection-details]")
    expect(details).to_be_visible()
    box = details.bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 320)
    details.get_by_role("button", name="Close").tap()
    expect(details).to_be_hidden()


def test_a_record_on_a_phone_stands_in_the_article_s_order(phone: Page, product: Product) -> None:
    phone.goto(product.page_of("Company 003"))
    be_live(phone)
    tops = [
        phone.locator(selector).first.bounding_box()
        for selector in ("h1", "[data-role=sync-label]", ".highlighted", "[data-role=sync-details]", ".fields")
    ]
    assert all(tops)
    heights = [box["y"] for box in tops if box is not None]
    assert heights == sorted(heights)
    details = phone.locator("[data-role=sync-details]")
    expect(details.get_by_role("heading", name="Synchronisation", exact=True)).to_be_visible()
    expect(details).to_contain_text("Last synchronisation")
    expect(details).to_contain_text("Synchronisation status detail")


# ---- Without JavaScript ---------------------------------------------------------------------------------------------


def test_every_action_works_without_scripts(plain: Page, product: Product) -> None:
    plain.goto(f"{product.url}/companies")
    expect(rows(plain)).to_have_count(50)
    plain.get_by_role("link", name="Next").click()
    expect(plain.get_by_role("link", name="Company 069")).to_be_visible()
    plain.goto(f"{product.url}/companies")
    plain.get_by_role("checkbox", name="Pending review").check()
    plain.get_by_role("button", name="Apply").click()
    expect(rows(plain)).to_have_count(3)
    plain.get_by_role("searchbox").fill("company 004")
    plain.get_by_role("button", name="Search").click()
    expect(rows(plain)).to_have_count(1)
    plain.get_by_role("link", name="Company 004", exact=True).click()
    expect(plain.locator("[data-role=sync-label]")).to_have_text("Pending review")
    plain.goto(f"{product.url}/companies")
    plain.locator("[data-role=connection]").click()
    expect(plain.locator("[data-role=connection-details]")).to_contain_text("Two-way:")
    plain.goto(f"{product.url}/companies/new")
    plain.fill("[name=name]", "Plain Ltd")
    plain.locator("[name=type]").select_option("prospect")
    plain.locator("[data-role=save]").click()
    expect(plain.locator("h1")).to_have_text("Plain Ltd")
    plain.locator("[data-role=edit]").click()
    plain.fill("[name=city]", "Leeds")
    plain.locator("[data-role=save]").click()
    expect(plain.locator("[data-value=city]").first).to_have_text("Leeds")
    plain.locator("[data-role=resync]").click()
    expect(plain.locator(".notice")).to_contain_text("This company is a prospect.")
    plain.locator("[data-role=people-menu] summary").click()
    plain.get_by_role("button", name="Dark").click()
    expect(plain.locator("html")).to_have_attribute("data-theme", "dark")


# ---- For everybody --------------------------------------------------------------------------------------------------


def test_axe_finds_nothing(screen: Page, product: Product) -> None:
    found = {}
    for address in (
        "/companies",
        "/companies?status=pending&status=review&q=zzz",
        "/companies?status=green",
        *(f"/companies/{product.ids[name]}" for name in (*STATUSES, "Company 002")),
        "/companies/new",
        f"/companies/{product.ids['Company 003']}/edit",
        "/connection",
        "/highlighted/companies",
        "/companies/999999",
    ):
        screen.goto(f"{product.url}{address}")
        be_live(screen)
        found[address] = faults(screen)
    screen.goto(f"{product.url}/companies?status=review")
    screen.locator("[data-role=connection]").click()
    found["pop-up"] = faults(screen)
    assert {address: report for address, report in found.items() if report} == {}


@pytest.mark.parametrize("width", [1440, 375])
def test_the_keyboard_reaches_everything_and_shows_where_it_is(screen: Page, product: Product, width: int) -> None:
    screen.set_viewport_size({"width": width, "height": 800})
    found = []
    for address in (
        "/companies?status=pending",
        *(f"/companies/{product.ids[name]}" for name in ("Company 003", "Company 004", "Company 005")),
        f"/companies/{product.ids['Company 003']}/edit",
        "/connection",
        "/highlighted/companies",
    ):
        screen.goto(f"{product.url}{address}")
        be_live(screen)
        found += [f"{address}: {fault}" for fault in keyboard_faults(screen)]
    assert found == []


@pytest.mark.parametrize("width", [1440, 375])
def test_letters_of_twice_the_size_fit(screen: Page, product: Product, width: int) -> None:
    sizes = screen.context.new_cdp_session(screen)
    sizes.send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
    screen.set_viewport_size({"width": width, "height": 800})
    for address in (
        "/companies",
        *(f"/companies/{product.ids[name]}" for name in ("Company 000", "Company 003", "Company 004")),
        f"/companies/{product.ids['Company 003']}/edit",
        "/connection",
        "/me",
    ):
        screen.goto(f"{product.url}{address}")
        be_live(screen)
        assert screen.evaluate("getComputedStyle(document.body).fontSize") == "28px"
        assert fits(screen), address
    # As on a page that is enlarged to twice its size: the navigation is narrow, or at the lower edge.
    assert screen.locator(".frame").bounding_box()["width"] < (200 if width == 1440 else 376)  # type: ignore[index]


# What is wider than its place: the words of a counter, of a column's heading, and why a record is pending.
TOO_WIDE = """() => [...document.querySelectorAll(".counter-text, .rows thead th, .rows td.col-last")].filter(
  (one) => one.checkVisibility() && (one.scrollWidth > one.clientWidth || [...one.children].some((child) => {
    const inner = one.getBoundingClientRect().right - parseFloat(getComputedStyle(one).paddingRight);
    return child.getBoundingClientRect().right > inner + 1;
  }))
).map((one) => one.innerText)"""


@pytest.mark.parametrize("width", [768, 1200, 1440])
def test_long_words_stay_in_their_places(browser: Browser, product: Product, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, locale="de-DE")
    page = product.sign_in(context.new_page())
    found = {}
    for module in ("companies", "contacts", "products", "orders"):
        page.goto(f"{product.url}/{module}")
        be_live(page)
        found |= {f"{module}: {words}": width for words in page.evaluate(TOO_WIDE)}
    context.close()
    assert found == {}


def test_what_is_corrected_after_a_lost_answer_is_asked_about_once(screen: Page, product: Product) -> None:
    """The company was added, and nobody heard of it: the form is corrected and sent again."""

    def lose(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.abort("connectionreset")

    screen.goto(f"{product.url}/companies/new")
    be_live(screen)
    screen.get_by_label("Name").fill("Lost Ltd")
    screen.get_by_label("City").fill("Bonn")
    screen.route("**/companies/new", lose, times=1)
    screen.locator("[data-role=save]").click()
    expect(screen.locator("[data-role=toast]")).to_be_visible()
    screen.get_by_label("City").fill("Köln")
    screen.locator("[data-role=save]").click()
    expect(screen.locator("[data-role=form-differences]")).to_contain_text("It was added before")
    screen.locator("[data-role=save]").click()
    expect(screen.locator("#page h1")).to_contain_text("Lost Ltd")
    expect(screen.locator("[data-value=city]").first).to_have_text("Köln")
    screen.goto(f"{product.url}/companies/new")
    be_live(screen)
    expect(screen.locator("[data-role=draft]")).to_be_hidden()
    screen.goto(f"{product.url}/companies?q=lost+ltd")
    expect(rows(screen)).to_have_count(1)


def test_a_language_that_was_chosen_in_another_tab_is_that_of_the_whole_page(screen: Page, product: Product) -> None:
    screen.goto(f"{product.url}/companies")
    be_live(screen)
    other = screen.context.new_page()
    try:
        choose_language(other, product, "de")
        screen.get_by_role("link", name="Contacts").first.click()
        expect(screen.locator("#page h1")).to_contain_text("Kontakte")
        expect(screen.locator(".frame")).to_contain_text("Firmen")
        expect(screen.locator("html")).to_have_attribute("lang", "de-DE")
    finally:
        choose_language(other, product, "")


def choose_language(page: Page, product: Product, language: str) -> None:
    page.goto(f"{product.url}/me")
    page.locator("[name=language]").select_option(language)
    with page.expect_response(lambda answer: answer.url.endswith("/me/language")):
        page.locator("form[action='/me/language'] button").click()


def test_a_word_without_an_end_fits(screen: Page, phone: Page, product: Product) -> None:
    """What somebody pasted is quoted by what says that nothing has it."""
    word = "w" * 100
    for page in (screen, phone):
        for address in (f"/companies?q={word}", f"/companies?status={word}&sort={word}"):
            page.goto(f"{product.url}{address}")
            assert fits(page), address


def test_a_live_change_leaves_the_focus_where_it_is(screen: Page, product: Product) -> None:
    product.set_status("Company 006", Reason.QUEUED, {"code": "queued"})
    screen.goto(product.page_of("Company 006"))
    be_live(screen)
    screen.locator("#history [data-role=moment]").first.focus()
    product.set_status("Company 006", Reason.REJECTED, {"code": "missing", "field": "country"})
    expect(screen.locator("#history li[data-reason=rejected]")).to_have_count(1)
    assert screen.evaluate("document.activeElement.dataset.role") == "moment"


def test_the_first_visit_is_light_and_asks_nobody_else(browser: Browser, product: Product) -> None:
    signing_in = browser.new_context()
    product.sign_in(signing_in.new_page()).goto(f"{product.url}/login")
    context = browser.new_context(storage_state=signing_in.storage_state())
    signing_in.close()
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: dict[str, float] = {}
    addresses: dict[str, str] = {}
    session.on("Network.requestWillBeSent", lambda sent: addresses.update({sent["requestId"]: sent["request"]["url"]}))
    session.on("Network.loadingFinished", lambda done: sizes.update({done["requestId"]: done["encodedDataLength"]}))
    page.goto(f"{product.url}/companies", wait_until="load")
    be_live(page)
    # What the browser draws by itself, such as the sign in a field for a day, is asked of nobody.
    asked = [address for address in addresses.values() if not address.startswith("data:")]
    hosts = {re.match(r"\w+://([^/]+)", address)[1] for address in asked}  # type: ignore[index]
    context.close()
    assert hosts == {f"127.0.0.1:{product.url.rsplit(':', 1)[1]}"}
    assert len(sizes) >= 7
    assert sum(sizes.values()) < 65_000, {addresses[one]: size for one, size in sizes.items()}
