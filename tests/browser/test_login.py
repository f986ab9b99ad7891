"""Signing in, being signed out, and the pages about people, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import URL

from tests.accessibility import faults
from tests.people import PASSWORD, add_person
from tests.screens import Web, running_web
from webapp.connection.models import CONNECTED, Connection

SignIn = Callable[..., Page]

ADMIN = "admin@example.com"


@pytest.fixture(scope="module")
def web(
    database_server: URL, template_database: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    with running_web(database_server, template_database, redis_url, tmp_path_factory.mktemp("people")) as running:
        with running.services.database.unit_of_work() as work:
            work.session.add(Connection(api_url="http://127.0.0.1:1", state=CONNECTED, business_name="Northwind Ltd"))
            work.commit()
        yield running


@pytest.fixture
def logged_in(web: Web) -> SignIn:
    """Sign a person in: `logged_in(page)` for the admin, or `logged_in(page, sam)`. Returns the page."""

    def sign_in(page: Page, email: str = ADMIN) -> Page:
        page.goto(f"{web.url}/login")
        page.get_by_label("E-mail address").fill(email)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("Password").press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        return page

    return sign_in


@pytest.fixture
def sam(web: Web) -> str:
    """The address of somebody in sales whom only this test knows."""
    return add_person(web.services, email=f"{uuid4().hex}@example.com", name="Sam").email


@pytest.fixture
def other(browser: Browser) -> Iterator[Page]:
    """A page of another browser."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


@pytest.fixture
def violations(context: BrowserContext) -> list[str]:
    """What the content security policy refused, and what failed in a script, on any page of this browser."""
    found: list[str] = []
    context.expose_function("reportViolation", lambda what: found.append(what))
    context.add_init_script(
        "document.addEventListener('securitypolicyviolation', (event) =>"
        " window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`))"
    )
    context.on("weberror", lambda error: found.append(str(error.error)))
    context.on("console", lambda message: found.append(message.text) if "Content Security" in message.text else None)
    return found


def is_live(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-live", "live", timeout=30_000)


def id_of(page: Page, email: str) -> str:
    """The number of a person, as the list of users says it."""
    return str(page.locator("[data-role=person]", has_text=email).get_attribute("data-user"))


def test_signing_in_with_the_keyboard_alone(web: Web, page: Page) -> None:
    page.goto(f"{web.url}/companies?q=an")
    expect(page).to_have_url(re.compile(r"/login\?next="))
    expect(page.get_by_label("E-mail address")).to_be_focused()
    page.keyboard.type(ADMIN)
    page.keyboard.press("Tab")
    page.keyboard.type("not the password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("is not right")
    expect(page.get_by_label("E-mail address")).to_have_value(ADMIN)
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{web.url}/companies?q=an")
    is_live(page)
    page.locator("[data-role=people-menu] summary").press("Enter")
    page.get_by_role("button", name="Sign out").press("Enter")
    expect(page).to_have_url(f"{web.url}/login")
    page.go_back()
    expect(page).to_have_url(re.compile("/login"))


def test_no_page_breaks_the_content_security_policy(
    web: Web, page: Page, logged_in: SignIn, violations: list[str]
) -> None:
    page.goto(f"{web.url}/login")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    logged_in(page)
    is_live(page)
    page.goto(f"{web.url}/companies/new")
    page.get_by_label("Name").first.fill("Policy Ltd")
    page.get_by_role("button", name="Add company").click()
    page.wait_for_url(re.compile(r"/companies/\d+$"))
    record = page.url
    paths = ["/companies", "/companies/new", "/connection", "/me", "/users", "/users/new", "/users/1", "/nothing-here"]
    for address in [*(web.url + path for path in paths), record, f"{record}/edit"]:
        page.goto(address)
        is_live(page)
    # Within one page: swaps by htmx, an indicator while they run, Back and Forward.
    page.goto(f"{web.url}/companies")
    page.locator("[data-role=people-menu] summary").click()
    page.get_by_role("link", name="Profile").click()
    expect(page.get_by_role("heading", name="Profile")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Companies")).to_be_visible()
    assert violations == []
    # The net is whole: this would have been seen.
    with page.expect_console_message(lambda message: "Content Security" in message.text):
        page.evaluate("document.body.setAttribute('style', 'color: red')")
    assert violations != []


def test_a_form_swapped_by_htmx_carries_the_token_in_its_header(
    web: Web, page: Page, sam: str, logged_in: SignIn
) -> None:
    logged_in(page, sam)
    page.goto(f"{web.url}/me")
    is_live(page)
    page.evaluate("document.querySelectorAll('#page [name=csrf_token]').forEach((field) => field.remove())")
    page.get_by_role("textbox", name="Name").fill("Samira")
    page.get_by_role("button", name="Change name").click()
    expect(page.locator("#page")).to_contain_text("Your name was changed.")


def test_whoever_is_disabled_loses_the_socket_and_the_page_at_once(
    web: Web, page: Page, other: Page, sam: str, logged_in: SignIn
) -> None:
    logged_in(page, sam)
    is_live(page)
    logged_in(other)
    other.goto(f"{web.url}/users")
    other.goto(f"{web.url}/users/{id_of(other, sam)}")
    other.get_by_role("button", name="Disable").click()
    expect(other.locator("#page")).to_contain_text("Sam is disabled and cannot sign in.")
    # Well before the 30 s after which the page would ask by itself.
    expect(page.locator("body")).not_to_have_attribute("data-live", "live", timeout=15_000)
    expect(page.locator("[data-role=toast]")).to_contain_text("signed out")
    page.get_by_role("link", name="Companies").click()
    expect(page).to_have_url(re.compile(r"/login\?next="))
    page.get_by_label("E-mail address").fill(sam)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("is not right")


def test_a_new_password_keeps_this_page_live_and_ends_the_others(
    web: Web, page: Page, other: Page, sam: str, logged_in: SignIn
) -> None:
    logged_in(other, sam)
    is_live(other)
    logged_in(page, sam)
    page.goto(f"{web.url}/me")
    is_live(page)
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password").fill("something else entirely")
    page.get_by_role("button", name="Change password").click()
    expect(page.locator("#page")).to_contain_text("Your password was changed.")
    is_live(page)
    expect(page.locator("[data-role=toast]")).to_be_hidden()
    expect(other.locator("body")).not_to_have_attribute("data-live", "live", timeout=15_000)


def test_what_was_typed_survives_a_session_that_ended_meanwhile(
    web: Web, page: Page, context: BrowserContext, sam: str, logged_in: SignIn
) -> None:
    logged_in(page, sam)
    page.goto(f"{web.url}/companies/new")
    is_live(page)
    tab = context.new_page()
    tab.goto(f"{web.url}/companies")
    tab.locator("[data-role=people-menu] summary").click()
    tab.get_by_role("button", name="Sign out").click()
    expect(tab).to_have_url(f"{web.url}/login")

    page.get_by_label("Name").first.fill("Typed Before And Kept Ltd")
    page.get_by_role("button", name="Add company").click()
    expect(page.get_by_role("heading", name="Please send this again")).to_be_visible()
    with context.expect_page() as opened:
        page.get_by_role("link", name="Sign in in another tab").click()
    logged_in(opened.value, sam)
    # The first press finds the new session and gets its token, the second one saves.
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("heading", name="Please send this again")).to_be_visible()
    expect(page.locator("#page")).to_contain_text("out of date")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("heading", name="Typed Before And Kept Ltd")).to_be_visible()


def test_an_admin_manages_people_without_a_script(browser: Browser, web: Web, logged_in: SignIn) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = logged_in(context.new_page())
    page.goto(f"{web.url}/users")
    page.get_by_role("link", name="Add user").click()
    page.get_by_label("Name").fill("Noor")
    page.get_by_label("E-mail address").fill("noor@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Add user").click()
    expect(page.locator("#page")).to_contain_text("Noor was added.")
    page.get_by_role("link", name="Noor").click()
    page.get_by_role("combobox", name="Role").select_option("admin")
    page.get_by_role("button", name="Change role").click()
    expect(page.locator("#page")).to_contain_text("Noor now has the role Admin.")
    page.get_by_role("link", name="Noor").click()
    page.get_by_role("button", name="Disable").click()
    expect(page.locator("[data-role=person]", has_text="Noor")).to_contain_text("disabled")
    context.close()


def test_pages_about_people_are_accessible(page: Page, web: Web, logged_in: SignIn) -> None:
    page.goto(f"{web.url}/login")
    page.get_by_label("E-mail address").fill("nobody@example.com")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found = {"/login": faults(page)}
    logged_in(page)
    for path in ("/me", "/users", "/users/1", "/nothing-here", "/users/new"):
        page.goto(web.url + path)
        is_live(page)
        found[path] = faults(page)
    page.get_by_label("Name").fill("Noor")
    page.get_by_label("E-mail address").fill("noor@example.com")
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
    found["a form with a fault"] = faults(page)
    assert {path: report for path, report in found.items() if report} == {}


def test_pages_about_people_fit_a_narrow_phone(browser: Browser, web: Web, logged_in: SignIn) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(f"{web.url}/login")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    logged_in(page)
    for path in ("/me", "/users", "/users/new", "/users/1", "/nothing-here"):
        page.goto(web.url + path)
        is_live(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 320, path
        for button in page.locator("#page .button:visible").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44, (path, button.inner_text())
    context.close()
