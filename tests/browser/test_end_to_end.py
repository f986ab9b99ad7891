"""The whole product as a person meets it: what happens in one place is seen in the other, without a reload.

Each page is watched from before it happens, and a mark in its window proves at the end that it was never reloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from tests.sandbox_process import local_client
from tests.stack import Stack
from workers.keys import Keys

# As many as in the example with which the README tries the product.
COMPANIES = 91

# A worker that was killed holds its lease for 45 s; then the next one takes over.
LONGEST_TAKEOVER = 90
LONG_ENOUGH = 30

# What each test may wait for comes one after the other.
pytestmark = pytest.mark.timeout(300)


class Sandbox:
    """The sandbox of a running product, as a person in Sage and an operator would use it."""

    def __init__(self, url: str) -> None:
        self.http = local_client(base_url=f"{url}/_sandbox", timeout=30)

    def customers(self) -> dict[str, dict[str, Any]]:
        """What Sage holds, by name."""
        return {one["name"]: one for one in self.http.get("/contacts").raise_for_status().json()}

    def created(self) -> list[str]:
        """The names of all customers that were created over the API, in order."""
        return [
            entry["body"]["contact"]["name"]
            for entry in self.http.get("/ledger").raise_for_status().json()
            if entry["operation"] == "create" and entry["resource"] == "contacts" and entry["by"] == "api"
        ]

    def edit(self, sage_id: str, **fields: Any) -> None:
        self.http.post(f"/contacts/{sage_id}", json=fields).raise_for_status()

    def fault(self, kind: str, **options: Any) -> None:
        self.http.post("/faults", json={"kind": kind, **options}).raise_for_status()

    def clear_faults(self) -> None:
        self.http.delete("/faults").raise_for_status()


@pytest.fixture
def sandbox(stack: Stack) -> Iterator[Sandbox]:
    opened = Sandbox(stack.sandbox_url)
    yield opened
    opened.clear_faults()


def until(condition: Callable[[], bool], seconds: float = LONG_ENOUGH) -> None:
    """Wait for a condition. Raises tenacity.RetryError when `seconds` have passed."""
    Retrying(retry=retry_if_result(lambda met: not met), stop=stop_after_delay(seconds), wait=wait_fixed(0.1))(
        condition
    )


def counts(stack: Stack) -> dict[str, int]:
    """What `synclight status --json` says of companies."""
    told = stack.cli("status", "--json")
    assert told.returncode == 0, told.stderr
    found: dict[str, int] = json.loads(told.stdout)["companies"]
    return found


def mark(page: Page) -> None:
    """Remember this very window."""
    expect(page.locator("body")).to_have_attribute("data-live", "live", timeout=LONG_ENOUGH * 1000)
    page.evaluate("window.neverReloaded = true")


def never_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.neverReloaded === true"))


def new_company(page: Page, stack: Stack, **fields: str) -> str:
    """Fill in and save the form of a new company. Returns its address."""
    page.goto(f"{stack.url}/companies/new")
    for name, value in fields.items():
        field = page.locator(f"[name={name}]")
        if field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.locator("form[data-form] button[type=submit], form[data-form] button:not([type])").first.click()
    page.wait_for_url(lambda url: url.rsplit("/", 1)[1].isdigit())
    return page.url


def label(page: Page) -> Any:
    return page.locator("[data-role=sync-label]")


def expect_status(page: Page, status: str, seconds: float = LONG_ENOUGH) -> None:
    expect(page.locator("[data-role=sync-label]")).to_have_attribute("data-status", status, timeout=seconds * 1000)


def detail(page: Page) -> Any:
    return page.locator("[data-role=sync-details] [data-field=detail]")


def test_an_import_reaches_sage_while_everybody_watches(
    stack: Stack, sandbox: Sandbox, page: Page, logged_in: Callable[..., Page], tmp_path: Path
) -> None:
    customers = tmp_path / "customers.csv"
    rows = [f"C{n:03},Délices {n} S.A.,Strasbourg,France,0388-{n:03},NULL" for n in range(COMPANIES)]
    customers.write_text("\n".join(["customerID,companyName,city,country,phone,fax", *rows]), encoding="utf-8")
    logged_in(page, stack.sales)
    page.goto(f"{stack.url}/companies")
    mark(page)
    told = stack.cli("import", str(customers))
    assert told.returncode == 0, told.stderr
    assert f"Companies: {COMPANIES} created" in told.stdout
    synchronised = page.locator("[data-role=status-count][data-status=synchronised]").first
    expect(synchronised).to_contain_text(str(COMPANIES), timeout=60_000)
    assert counts(stack) == {"synchronised": COMPANIES, "pending": 0, "review": 0, "not_synchronised": 0}
    created = sandbox.created()
    assert (len(created), len(set(created))) == (COMPANIES, COMPANIES)
    expect(page.locator("[data-row]").first).to_be_visible()
    shown = page.locator("[data-row]")
    for row in range(shown.count()):
        expect(shown.nth(row)).to_have_attribute("data-status", "synchronised")
    assert never_reloaded(page)
    again = stack.cli("import", str(customers))
    assert again.returncode == 0
    assert counts(stack)["synchronised"] == COMPANIES


def test_an_edit_in_sage_arrives_on_an_open_page(
    stack: Stack, sandbox: Sandbox, page: Page, logged_in: Callable[..., Page]
) -> None:
    logged_in(page, stack.admin)
    new_company(page, stack, name="Around the Corner", code="CORNR", country="GB", city="London")
    expect_status(page, "synchronised")
    mark(page)
    sage_id = sandbox.customers()["Around the Corner"]["id"]
    # It came with the status, live, and leads to a page that shows the record.
    there = page.locator("#sage-page").get_by_role("link", name="Open in Sage")
    expect(there).to_have_attribute("href", re.compile(f"/customers/{sage_id}$"))
    with page.expect_popup() as opened:
        there.click()
    expect(opened.value.locator("[name=name]")).to_have_value("Around the Corner")
    opened.value.close()
    sandbox.edit(sage_id, city="Leeds")
    expect(page.locator("[data-value=city]").first).to_have_text("Leeds", timeout=LONG_ENOUGH * 1000)
    assert never_reloaded(page)


def test_resync_brings_an_edit_at_once(
    stack: Stack, sandbox: Sandbox, page: Page, logged_in: Callable[..., Page]
) -> None:
    logged_in(page, stack.admin)
    new_company(page, stack, name="Resync Ltd", code="RESYN", country="GB", city="London")
    expect_status(page, "synchronised")
    mark(page)
    # With Sage's list of changes broken, only the resync of this record can bring the edit.
    sandbox.fault("error_before", match={"method": "GET", "path": "/v3.1/contact[s]"}, times=None)
    sandbox.edit(sandbox.customers()["Resync Ltd"]["id"], city="York")
    page.locator("[data-role=resync]").first.click()
    page.locator("[data-role=resync]").first.click()
    expect(page.locator("[data-value=city]").first).to_have_text("York", timeout=LONG_ENOUGH * 1000)
    expect_status(page, "synchronised")
    assert sandbox.created().count("Resync Ltd") == 1
    assert never_reloaded(page)


def test_sage_away_is_pending_with_its_sentence_and_heals_by_itself(
    stack: Stack, sandbox: Sandbox, page: Page, context: Any, logged_in: Callable[..., Page]
) -> None:
    logged_in(page, stack.admin)
    address = new_company(page, stack, name="Patience Ltd", code="PATNC", country="GB", city="London")
    expect_status(page, "synchronised")
    mark(page)
    seen: list[str] = []
    page.expose_function("noteStatus", lambda status: seen.append(status))
    page.evaluate(
        """() => new MutationObserver(() => {
            const label = document.querySelector("[data-role=sync-label]");
            if (label) window.noteStatus(label.dataset.status);
        }).observe(document.body, {subtree: true, childList: true, attributes: true})"""
    )
    sandbox.fault("offline", times=None)
    editor = context.new_page()
    editor.goto(f"{address}/edit")
    editor.fill("[name=city]", "Bath")
    editor.locator("form[data-form] button[type=submit], form[data-form] button:not([type])").first.click()
    editor.wait_for_url(address)
    expect(detail(page)).to_contain_text("Sage cannot be reached since", timeout=LONG_ENOUGH * 1000)
    expect_status(page, "pending")
    expect(page.locator("[data-role=connection]").first).to_contain_text("cannot be reached")
    sandbox.clear_faults()
    expect_status(page, "synchronised")
    expect(page.locator("[data-value=city]").first).to_have_text("Bath")
    assert "review" not in seen
    assert never_reloaded(page)


def test_a_company_without_a_country_is_mended_by_its_remedy(
    stack: Stack, page: Page, logged_in: Callable[..., Page]
) -> None:
    logged_in(page, stack.sales)
    address = new_company(page, stack, name="Nowhere Ltd", code="NOWHR")
    expect_status(page, "review")
    expect(label(page)).to_contain_text("Synchronisation error")
    expect(detail(page)).to_contain_text("Sage needs a country for this company. Add the country and save.")
    page.goto(f"{address}/edit")
    page.locator("[name=country]").select_option("GB")
    page.locator("form[data-form] button[type=submit], form[data-form] button:not([type])").first.click()
    page.wait_for_url(address)
    expect_status(page, "synchronised")
    expect(detail(page)).to_contain_text("Synchronised: the account is correctly synchronised with Sage.")


def test_a_worker_killed_in_the_middle_makes_no_second_customer(
    stack: Stack, sandbox: Sandbox, page: Page, logged_in: Callable[..., Page]
) -> None:
    logged_in(page, stack.admin)
    # Sage applies the create and keeps us waiting for the answer: the worker dies in between.
    sandbox.fault("latency", match={"method": "POST", "path": "/v3.1/contacts"}, times=1, seconds=10)
    new_company(page, stack, name="Killed Ltd", code="KILLD", country="GB")
    mark(page)
    expect(page.locator("[data-role=sync-label]")).to_have_attribute(
        "data-reason", "running", timeout=LONG_ENOUGH * 1000
    )
    pool = stack.process("worker")
    for process in pool.children(recursive=True):
        process.kill()
    expect_status(page, "synchronised", LONGEST_TAKEOVER)
    assert sandbox.created().count("Killed Ltd") == 1
    assert never_reloaded(page)


@pytest.mark.parametrize("name", ["redis", "web"])
def test_a_killed_server_process_leaves_the_page_right(
    stack: Stack, sandbox: Sandbox, page: Page, logged_in: Callable[..., Page], name: str
) -> None:
    logged_in(page, stack.admin)
    new_company(page, stack, name=f"Survivor {name}", code=f"SUR{name[:3]}", country="GB", city="London")
    # What was killed before may have taken a worker with it, whose lease nobody gives back.
    expect_status(page, "synchronised", LONGEST_TAKEOVER)
    mark(page)
    victim = stack.kill(name, child=name == "web")
    until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)
    sandbox.edit(sandbox.customers()[f"Survivor {name}"]["id"], city="Hull")
    expect(page.locator("[data-value=city]").first).to_have_text("Hull", timeout=LONGEST_TAKEOVER * 1000)
    stack.wait_ready()
    expect(page.locator("body")).to_have_attribute("data-live", "live", timeout=LONG_ENOUGH * 1000)
    assert sandbox.created().count(f"Survivor {name}") == 1
    assert never_reloaded(page)
    until(lambda: counts(stack)["pending"] == 0)


def test_the_web_holds_nothing_that_opens_sage(stack: Stack) -> None:
    """Neither in its environment nor in a dump of its memory, nor is a token in a log, a page or the history."""
    with closing(stack.browser()) as browser:
        pages = "".join(browser.get(path).text for path in ("/connection", "/companies", "/connection/new", "/me"))
    keys = (stack.var / "token_keys").read_text().strip()
    with stack.database() as database:
        [(stored,)] = database.execute("SELECT tokens FROM sage_connection").fetchall()
        told = database.execute(
            "SELECT (SELECT string_agg(to_jsonb(one)::text, '') FROM sync_event one), "
            "(SELECT string_agg(to_jsonb(one)::text, '') FROM audit_event one), "
            "(SELECT string_agg((to_jsonb(one) - 'tokens')::text, '') FROM sage_connection one)"
        ).fetchone()
    tokens = json.loads(Keys(keys.split(",")).decrypt(stored))
    logs = "".join(path.read_text(errors="replace") for path in (stack.var / "log").glob("*.log"))
    web = stack.process("web")
    dumps = [_memory(process.pid) for process in (web, *web.children(recursive=True))]
    assert any(b"Northwind Traders Ltd" in dump for dump in dumps), "this is how a secret would be found"
    for secret in (tokens["access_token"], tokens["refresh_token"], keys):
        assert secret not in pages + logs + str(told)
        assert not any(secret.encode() in dump for dump in dumps)


def _memory(pid: int) -> bytes:
    """All that a process has in its memory and may write to."""
    held = []
    process = Path(f"/proc/{pid}")
    with (process / "maps").open() as maps, (process / "mem").open("rb", 0) as memory:
        for line in maps:
            where, rights, *_ = line.split()
            first, last = (int(end, 16) for end in where.split("-"))
            if "w" in rights and not line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                with suppress(OSError):
                    memory.seek(first)
                    held.append(memory.read(last - first))
    return b"".join(held)
