"""The sandbox's page for people, in a browser, with JavaScript off unless a test needs it to look at the page."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.sandbox_process import SandboxProcess, free_port
from workers.sandbox.businesses import BUSINESSES


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as one:
        yield one


@pytest.fixture
def sandbox(running: SandboxProcess) -> SandboxProcess:
    running.reset()
    return running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without JavaScript."""
    with browser.new_context(java_script_enabled=False, locale="en-GB") as context:
        yield context.new_page()


def test_a_person_adds_edits_finds_and_deletes_a_customer(sandbox: SandboxProcess, page: Page) -> None:
    page.goto(sandbox.origin)
    expect(page.get_by_text("Northwind Traders Ltd has no customers yet.")).to_be_visible()
    page.get_by_role("link", name="New customer").click()
    page.locator("#name").fill("Alfreds Futterkiste")
    page.get_by_label("Reference").fill("ALFKI")
    page.get_by_label("Town or city").fill("Berlin")
    page.get_by_label("Country").select_option("DE")
    page.get_by_label("E-mail").fill("maria@alfreds.example")
    page.get_by_role("button", name="Add customer").click()
    expect(page.get_by_role("status")).to_have_text("The customer was added.")
    row = page.locator("[data-customer]")
    expect(row).to_contain_text("Alfreds Futterkiste ALFKI")

    row.get_by_role("link").click()
    page.get_by_label("Town or city").fill("Potsdam")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[data-customer]")).to_contain_text("Potsdam")
    assert sandbox.ledger()[-1]["body"] == {"contact": {"main_address": {"city": "Potsdam"}}}
    assert sandbox.ledger()[-1]["by"] == "person"
    expect(page.locator(".ledger tbody tr").first).to_contain_text("Customer Alfreds Futterkiste changed")

    sandbox.add(name="Zebra Ltd")
    page.get_by_role("searchbox").fill("zeb")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("[data-customer]")).to_have_count(1)
    expect(page.locator("[data-role=total]")).to_have_text("1")

    page.goto(f"{sandbox.origin}/customers/{sandbox.contacts()[0]['id']}")
    page.get_by_text("Delete this customer").click()
    page.get_by_role("button", name="Delete Alfreds Futterkiste").click()
    expect(page.get_by_role("status")).to_have_text("The customer was deleted.")
    assert [one["name"] for one in sandbox.contacts()] == ["Zebra Ltd"]


def a_quote(sandbox: SandboxProcess) -> tuple[str, str, str]:
    """A customer with a person and a quote of two lines: their ids."""
    customer = sandbox.add(name="Alfreds Futterkiste", reference="ALFKI", contact_name="Maria Anders")
    person = sandbox.add("contact_persons", contact_id=customer["id"], name="Ann Devon", job_title="Buyer")
    lines = [
        {"description": "Chai", "quantity": "3", "unit_price": "18", "tax_rate_id": "GB_STANDARD"},
        {"description": "Tofu", "quantity": "1", "unit_price": "23.25"},
    ]
    quote = sandbox.add("sales_quotes", contact_id=customer["id"], reference="10248", quote_lines=lines)
    return customer["id"], person["id"], quote["id"]


def test_a_person_edits_a_contact_person_and_a_quote_of_a_customer(sandbox: SandboxProcess, page: Page) -> None:
    customer, person, quote = a_quote(sandbox)
    page.goto(f"{sandbox.origin}/customers/{customer}")
    expect(page.locator("[data-person]")).to_have_count(2)
    expect(page.locator("[data-quote]")).to_contain_text("SQ-1 10248")
    page.get_by_role("link", name="Ann Devon").click()
    page.get_by_label("Job title").fill("Owner")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("The contact person was saved.")
    expect(page.locator(f"[data-person='{person}']")).to_contain_text("Owner")

    page.get_by_role("link", name="SQ-1").click()
    page.get_by_label("Notes").fill("Ring twice.")
    chai = page.get_by_role("group", name="Chai")
    chai.get_by_label("Quantity").fill("five")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("This field must be an amount of zero or more.")
    expect(page.get_by_label("Notes")).to_have_value("Ring twice.")
    chai.get_by_label("Quantity").fill("5")
    page.get_by_role("group", name="Tofu").get_by_label("Price").fill("20.50")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("The quote was saved.")
    expect(page.locator("[data-quote]")).to_contain_text("128.50")
    (saved,) = sandbox.records("sales_quotes")
    assert (saved["notes"], saved["reference"], saved["id"]) == ("Ring twice.", "10248", quote)
    assert [(one["quantity"], one["unit_price"], one["tax_amount"]) for one in saved["quote_lines"]] == [
        ("5.0", "18.0", "18.0"),
        ("1.0", "20.5", "0.0"),
    ]
    assert [(one["resource"], one["by"]) for one in sandbox.ledger()[-2:]] == [
        ("contact_persons", "person"),
        ("sales_quotes", "person"),
    ]

    page.get_by_role("link", name="SQ-1").click()
    page.get_by_text("Delete this quote").click()
    page.get_by_role("button", name="Delete Quote SQ-1").click()
    expect(page.get_by_text("No quotes yet.")).to_be_visible()
    page.goto(sandbox.origin)
    expect(page.locator(".ledger tbody tr").first).to_contain_text("Quote SQ-1 deleted")

    # An invoice is made void instead, stays to be read, and keeps its customer.
    lines = [{"description": "Chai", "quantity": "2", "unit_price": "18", "tax_rate_id": "GB_STANDARD"}]
    paid = sandbox.add("sales_invoices", contact_id=customer, reference="10249", invoice_lines=lines)
    sandbox.add("sales_invoices", contact_id=customer, reference="10250", invoice_lines=lines)
    assert sandbox.edit(paid["id"], "sales_invoices", paid=True)["outstanding_amount"] == "0.0"
    page.goto(f"{sandbox.origin}/customers/{customer}")
    expect(page.locator("[data-invoice]").first).to_contain_text("SI-1 10249")
    expect(page.locator("[data-invoice]").first).to_contain_text("Paid")
    page.get_by_role("link", name="SI-2").click()
    page.get_by_role("group", name="Chai").get_by_label("Quantity").fill("5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_have_text("The invoice was saved.")
    expect(page.locator("[data-invoice]").last).to_contain_text("108.00")
    page.get_by_role("link", name="SI-2").click()
    second = page.context.new_page()
    second.goto(page.url)
    page.get_by_text("Make this invoice void").click()
    page.get_by_role("button", name="Make void Invoice SI-2").click()
    expect(page.get_by_role("status")).to_have_text("The invoice was made void.")
    expect(page.locator("[data-invoice]").last).to_contain_text("Void")
    page.get_by_role("link", name="SI-2").click()
    expect(page.get_by_text("It cannot be changed any more.")).to_be_visible()
    expect(page.get_by_label("Notes")).to_be_disabled()
    expect(page.get_by_role("button")).to_have_count(0)
    second.get_by_label("Notes").fill("Too late.")
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_role("alert")).to_contain_text("This invoice is void and cannot be changed.")
    expect(second.get_by_label("Notes")).to_have_value("Too late.")
    second.close()
    page.goto(f"{sandbox.origin}/customers/{customer}")
    page.get_by_text("Delete this customer").click()
    page.get_by_role("button", name="Delete Alfreds Futterkiste").click()
    expect(page.get_by_role("alert")).to_contain_text("A contact that has invoices cannot be deleted.")


def test_what_cannot_be_saved_is_said_at_its_field_and_nothing_typed_is_lost(
    sandbox: SandboxProcess, page: Page
) -> None:
    made = sandbox.add(name="Alfreds Futterkiste")
    page.goto(f"{sandbox.origin}/customers/{made['id']}")
    page.get_by_label("Reference").fill("MUCH TOO LONG")
    page.locator("#contact_name").fill("Maria")
    page.get_by_label("Country").select_option("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("This could not be saved.")
    expect(page.locator("#reference-said")).to_have_text("This field is too long: at most 10 characters.")
    expect(page.locator("#country_id-said")).to_have_text("This field is required.")
    expect(page.get_by_label("Reference")).to_have_value("MUCH TOO LONG")
    expect(page.locator("#contact_name")).to_have_value("Maria")
    assert len(sandbox.ledger()) == 1


def test_a_field_changed_elsewhere_meanwhile_is_not_put_back(sandbox: SandboxProcess, page: Page) -> None:
    made = sandbox.add(name="Alfreds Futterkiste", city="Berlin")
    page.goto(f"{sandbox.origin}/customers/{made['id']}")
    sandbox.edit(made["id"], telephone="030")
    page.get_by_label("Town or city").fill("Potsdam")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_be_visible()
    now = sandbox.contacts()[0]
    assert (now["main_address"]["city"], now["main_contact_person"]["telephone"]) == ("Potsdam", "030")


def test_names_from_outside_are_text(sandbox: SandboxProcess, page: Page) -> None:
    sandbox.add(name="<b>Bold</b> & Co")
    page.goto(sandbox.origin)
    expect(page.locator("[data-customer] a")).to_have_text("<b>Bold</b> & Co")


def test_a_person_switches_faults_on_and_off(sandbox: SandboxProcess, page: Page) -> None:
    page.goto(sandbox.origin)
    slow = page.locator("[data-fault=latency]")
    slow.get_by_text("Options").click()
    slow.get_by_label("Seconds").fill("0.5")
    slow.get_by_label("Times").fill("3")
    slow.get_by_role("button", name="Switch on").click()
    expect(slow.locator(".state")).to_have_text("On for 3 more, 0.5 s")
    expect(page.get_by_text("Switched on: Slow.")).to_be_visible()
    page.locator("[data-fault=offline]").get_by_role("button", name="Switch on").click()
    expect(page.locator("[data-fault=offline] .state")).to_have_text("On")
    assert [(one["kind"], one["times"]) for one in sandbox.faults()] == [("latency", 3), ("offline", None)]
    page.locator("[data-fault=latency]").get_by_role("button", name="Switch off").click()
    expect(page.locator("[data-fault=latency]").get_by_role("button", name="Switch on")).to_be_visible()
    assert [one["kind"] for one in sandbox.faults()] == ["offline"]
    page.get_by_role("button", name="Switch all off").click()
    expect(page.get_by_text("All faults are switched off.")).to_be_visible()
    assert sandbox.faults() == []


def test_the_businesses_are_apart(sandbox: SandboxProcess, page: Page) -> None:
    sandbox.add(name="In the first")
    page.goto(sandbox.origin)
    page.get_by_role("link", name=BUSINESSES[1].name).click()
    expect(page.locator("[data-customer]")).to_have_count(0)
    page.get_by_role("link", name="New customer").click()
    page.locator("#name").fill("In the second")
    page.get_by_role("button", name="Add customer").click()
    expect(page.locator("[data-customer]")).to_have_count(1)
    assert [one["name"] for one in sandbox.contacts(BUSINESSES[1].id)] == ["In the second"]


def test_many_customers_are_paged(sandbox: SandboxProcess, page: Page) -> None:
    for number in range(30):
        sandbox.add(name=f"Customer {number:02}")
    page.goto(sandbox.origin)
    expect(page.locator("[data-customer]")).to_have_count(25)
    page.get_by_role("link", name="Next").click()
    expect(page.locator("[data-customer]")).to_have_count(5)
    page.get_by_role("link", name="Previous").click()
    expect(page.locator("[data-customer]")).to_have_count(25)


def test_a_person_allows_access_and_is_sent_back(sandbox: SandboxProcess, page: Page) -> None:
    back = f"http://127.0.0.1:{free_port()}/connection/back"
    query = {"response_type": "code", "client_id": "synclight-sandbox", "redirect_uri": back, "state": "s t&1"}
    page.goto(f"{sandbox.origin}/oauth2/auth/central?{urlencode(query)}")
    page.get_by_label(BUSINESSES[1].name).uncheck()
    # Nobody listens there: that the browser asks at all shows that the page's policy lets it.
    with page.expect_request(lambda request: request.url.startswith(back)) as asked:
        page.get_by_role("button", name="Allow").click(no_wait_after=True)
    carried = parse_qs(urlsplit(asked.value.url).query)
    assert carried["state"] == ["s t&1"]
    assert "code=GB%2F" in asked.value.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1440])
def test_it_fits_is_accessible_and_keeps_its_policy(
    sandbox: SandboxProcess, browser: Browser, scheme: str, width: int
) -> None:
    customer, person, quote = a_quote(sandbox)
    sandbox.edit(customer, name="Alfreds Futterkiste with a name that goes on", email="a@b.example")
    sandbox.fault("latency", {"path": "/nowhere"})
    query = {
        "response_type": "code",
        "client_id": "synclight-sandbox",
        "redirect_uri": "http://127.0.0.1:9/",
        "state": "x",
    }
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        # The checker of accessibility is a script that is put into the page.
        bypass_csp=True,
    )
    with context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        records = (f"/customers/{customer}", f"/persons/{person}", f"/quotes/{quote}")
        for path in ("/", *records, f"/oauth2/auth/central?{urlencode(query)}", "/nowhere"):
            page.goto(f"{sandbox.origin}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
        assert [text for text in said if "404" not in text] == []


def test_the_policy_allows_no_script_and_nothing_breaks_it(sandbox: SandboxProcess, browser: Browser) -> None:
    answer = sandbox.http.get(sandbox.origin)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'")
    assert "unsafe" not in policy
    with browser.new_context() as context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(sandbox.origin)
        assert said == []
