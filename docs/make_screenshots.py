"""Take the pictures of the README and of every page: `make screenshots` writes them to var/screenshots.

Starts a product of its own on free ports, fills it with invented companies, contacts, products and orders, brings some of
them into each kind of status by what happens in earnest (Sage refuses, Sage is away, both sides edit), and stops it again.
Every page is taken whole at each of WIDTHS in both themes, into var/screenshots/pages. Needs chromium.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx2
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.stack import ROOT, Stack

OUT = ROOT / "var" / "screenshots"
PATIENCE = 60_000  # ms
WIDTHS = (1440, 768, 375)
THEMES = ("light", "dark")
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

COMPANIES = """name,code,city,country,e-mail,phone,type
Alder & Birch Foods,ALDER,Leeds,United Kingdom,office@alder.example,0113 496 0101,
Bakkerij De Molen,MOLEN,Utrecht,Netherlands,info@demolen.example,030 555 0102,
Café Étoile,ETOIL,Nantes,France,bonjour@etoile.example,02 40 55 01 03,
Casa Piñón,PINON,Valencia,Spain,hola@pinon.example,96 555 0104,
Delta Dairy,DELTA,Cork,Ireland,hello@deltadairy.example,021 555 0105,
Drei Linden Feinkost,LINDE,München,Germany,post@dreilinden.example,089 555 0106,
Ember Coffee Roasters,EMBER,Portland,United States,team@ember.example,503 555 0107,
Fjord Seafood,FJORD,Ålesund,Norway,post@fjord.example,70 55 01 08,
Grønt & Godt,GRONT,Århus,Denmark,hej@gront.example,86 55 01 09,
Harbour Trading,HARBO,Bristol,United Kingdom,desk@harbour.example,0117 496 0110,
Isar Import,ISARI,Passau,Germany,info@isar.example,0851 555 0111,prospect
Juniper Spices,JUNIP,Malmö,Sweden,hej@juniper.example,040 55 01 12,
Kestrel Pantry,KESTR,York,United Kingdom,hello@kestrel.example,01904 555 013,
Lagar do Sol,LAGAR,Porto,Portugal,geral@lagar.example,22 555 0114,
Maison Quercy,QUERC,Cahors,France,contact@quercy.example,05 65 55 01 15,
Norden Market,NORDE,Turku,Finland,tilaukset@norden.example,02 555 0116,
Orto Verde,ORTOV,Torino,Italy,ciao@ortoverde.example,011 555 0117,
Quarry Kitchen,QUARR,Galway,Ireland,eat@quarry.example,091 555 018,prospect
Rowan Orchard,ROWAN,Hereford,United Kingdom,apples@rowan.example,01432 555 019,
Spiżarnia Łódź,SPIZA,Łódź,Poland,kontakt@spizarnia.example,42 555 01 20,
"""

CONTACTS = """customer ID,contact name,job title,e-mail,phone,mobile
ALDER,Wilhelmina Featherstonehaugh-Cholmondeley,Head of northern purchasing,w.feather@alder.example,0113 496 0121,07700 900121
ALDER,Tom Ash,,tom@alder.example,,07700 900122
FJORD,Ingrid Ås,Owner,ingrid@fjord.example,70 55 01 09,
"""
ORDERS = """order ID,customer ID,order date,freight,notes
SO-1001,ALDER,2026-11-02,12.50,Deliver before nine
SO-1002,ALDER,2026-11-16,0,
SO-1003,FJORD,2026-11-17,30,
"""
PRODUCTS = """SKU,product name,quantity per unit,unit price,discontinued
SD-01,Sourdough starter,jar of 250 g,4.20,0
OF-25,"Oat flakes, organic, stone-ground, in bags of twenty-five kilograms",bag,31.75,0
RY-01,Rye flour,1 kg,1.15,1
"""
LINES = """order ID,product name,quantity,unit price,discount %,tax rate
SO-1001,Sourdough starter,10,4.20,0,20
SO-1001,"Oat flakes, organic, stone-ground, in bags of twenty-five kilograms",12,31.75,10,20
SO-1002,Rye flour,40,1.15,0,0
SO-1003,Smoked salmon,18,22.40,5,20
"""
MANY_FILTERS = (
    "?status=synchronised&status=pending&type=customer&country=GB&country=FR&country=IE&city=%C3%85lesund&q=tea"
)
LONG_NAME = (
    "Gebrüder Schnürpflingen-Öttenhausen Gewürz- und Südfrüchteimportgesellschaft mbH & Co. Kommanditgesellschaft"
)


def main() -> None:
    """Do all of it."""
    OUT.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is missing: install it, for example with apt-get install chromium.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        expect.set_options(timeout=PATIENCE)
        with Stack(Path(folder), SYNCLIGHT_CYCLE_SECONDS="5") as stack:
            (OUT / "pages").mkdir(exist_ok=True)
            take_empty(stack, browser)
            fill(stack, browser)
            take(stack, browser)
            take_pages(stack, browser)
        browser.close()
    print(f"The pictures are in {OUT}.")


def fill(stack: Stack, browser: Browser) -> None:
    """Companies in step with Sage, and some for each other status."""
    bring_in(stack, "company", COMPANIES)
    page = sign_in(stack, browser, 1440, "light")
    expect(page.locator("[data-role=status-count][data-status=synchronised]")).to_contain_text("18")
    sandbox = httpx2.Client(base_url=f"{stack.sandbox_url}/_sandbox")

    add(stack, page, "Blauer Salon", "BLAUS")
    expect_reason(page, "rejected")

    # Both sides give Fjord Seafood another phone while they cannot speak to each other.
    sandbox.post("/faults", json={"kind": "offline"}).raise_for_status()
    edit(stack, page, "Fjord Seafood", "[name=phone]", "70 55 22 08")
    expect_reason(page, "waiting_for_sage")
    (theirs,) = (one for one in sandbox.get("/contacts").json() if one["name"] == "Fjord Seafood")
    sandbox.post(f"/contacts/{theirs['id']}", json={"telephone": "70 55 99 08"}).raise_for_status()
    sandbox.delete("/faults").raise_for_status()
    expect(page.locator("[data-role=sync-label]")).to_have_attribute("data-status", re.compile("review|synchronised"))

    sandbox.post("/faults", json={"kind": "error_before", "times": 3}).raise_for_status()
    edit(stack, page, "Casa Piñón", "[name=phone]", "96 555 0199")
    expect_reason(page, "retrying")
    sandbox.close()
    page.context.close()


def bring_in(stack: Stack, kind: str, table: str, *more: str) -> None:
    """Import a table of this kind."""
    file = stack.var / f"{kind}.csv"
    file.write_text(table, encoding="utf-8")
    told = stack.cli("import", "--kind", kind, str(file), *more)
    if told.returncode:
        raise SystemExit(told.stdout + told.stderr)


def add(stack: Stack, page: Page, name: str, code: str) -> None:
    """Add a company without a country."""
    page.goto(f"{stack.url}/companies/new")
    page.fill("[name=name]", name)
    page.fill("[name=code]", code)
    page.locator("[data-role=save]").click()


def edit(stack: Stack, page: Page, name: str, field: str, value: str) -> None:
    """Edit a company that is found by its name."""
    page.goto(f"{stack.url}/companies")
    page.get_by_role("link", name=name).click()
    page.locator("[data-role=edit]").click()
    page.fill(field, value)
    page.locator("[data-role=save]").click()


def expect_reason(page: Page, reason: str) -> None:
    """Wait until the record that is shown has this reason."""
    expect(page.locator("[data-role=sync-label]")).to_have_attribute("data-reason", reason)


def sign_in(stack: Stack, browser: Browser, width: int, theme: str, who: str = Stack.admin) -> Page:
    """A page on which somebody is signed in, on the list, live."""
    phone = width < 720
    context = browser.new_context(
        viewport={"width": width, "height": 812 if phone else 900},
        color_scheme="dark" if theme == "dark" else "light",
        device_scale_factor=2,
        locale="en-GB",
        has_touch=phone,
        is_mobile=phone,
    )
    page = context.new_page()
    page.goto(f"{stack.url}/login")
    page.fill("[name=email]", who)
    page.fill("[name=password]", stack.password)
    page.press("[name=password]", "Enter")
    page.wait_for_url(re.compile("/companies"))
    be_live(page)
    return page


def be_live(page: Page) -> None:
    """Wait until the page follows the server."""
    expect(page.locator("body")).to_have_attribute("data-live", "live")


def take(stack: Stack, browser: Browser) -> None:
    """All pictures, one context for each width and theme."""
    shots: dict[str, tuple[int, str, Callable[[Page], None]]] = {
        "list-light": (1440, "light", lambda page: None),
        "list-dark": (1440, "dark", lambda page: None),
        "connection": (1440, "light", lambda page: page.hover("[data-role=connection]")),
        "record-error": (1440, "light", lambda page: open_record(page, "Blauer Salon")),
        "record-conflict": (1440, "dark", lambda page: open_record(page, "Fjord Seafood")),
        "form": (1440, "light", lambda page: open_form(page, "Alder & Birch Foods")),
        "phone-list": (375, "light", lambda page: None),
        "phone-filters": (375, "light", lambda page: page.get_by_role("button", name="Company filters").tap()),
        "phone-record": (375, "dark", lambda page: open_record(page, "Alder & Birch Foods")),
    }
    for name, (width, theme, prepare) in shots.items():
        page = sign_in(stack, browser, width, theme)
        prepare(page)
        be_live(page)
        page.screenshot(path=OUT / f"{name}.png")
        page.context.close()


def take_empty(stack: Stack, browser: Browser) -> None:
    """The lists while there is nothing in them."""
    lists = {f"{module}-empty": f"/{module}" for module in ("companies", "contacts", "products", "orders")}
    for width in WIDTHS:
        for theme in THEMES:
            page = sign_in(stack, browser, width, theme)
            shoot_all(stack, page, lists, width, theme)
            page.context.close()


def take_pages(stack: Stack, browser: Browser) -> None:
    """Every page, whole, at each width and in both themes."""
    lines = stack.var / "lines.csv"
    lines.write_text(LINES, encoding="utf-8")
    bring_in(stack, "contact", CONTACTS)
    bring_in(stack, "product", PRODUCTS)
    bring_in(stack, "order", ORDERS, "--lines", str(lines))
    page = sign_in(stack, browser, 1440, "light")
    add(stack, page, LONG_NAME, "LANG")
    expect(page.locator("[data-role=sync-label]")).to_be_visible()
    page.context.close()
    for width in WIDTHS:
        for theme in THEMES:
            page = sign_in(stack, browser, width, theme)
            shoot_all(stack, page, pages(stack, page), width, theme)
            page.goto(f"{stack.url}/companies{MANY_FILTERS}")
            if page.get_by_role("button", name="Company filters").is_visible():
                page.get_by_role("button", name="Company filters").click()
            shoot(page, "filters", width, theme, whole=False)
            page.goto(f"{stack.url}/companies/new")
            page.fill("[name=email]", "nobody@")
            page.locator("[data-role=save]").click()
            expect(page.locator("[data-role=form-errors]")).to_be_visible()
            shoot(page, "form-with-errors", width, theme)
            page.context.clear_cookies()
            page.goto(f"{stack.url}/login")
            shoot(page, "sign-in", width, theme)
            page.goto(f"{stack.url}/offline")
            shoot(page, "offline", width, theme)
            page.context.close()
            page = sign_in(stack, browser, width, theme, stack.sales)
            shoot_all(stack, page, {"forbidden": "/users", "connection-of-sales": "/connection"}, width, theme)
            page.context.close()
    page = sign_in(stack, browser, 1440, "light")
    page.goto(f"{stack.url}{pages(stack, page)['record']}")
    page.set_viewport_size({"width": 794, "height": 1123})  # A4
    page.emulate_media(media="print")
    page.screenshot(path=OUT / "pages" / "record-printed.png", full_page=True)
    page.context.close()


def pages(stack: Stack, page: Page) -> dict[str, str]:
    """The addresses of all pages, by what is seen there."""

    def found(module: str, name: str) -> str:
        page.goto(f"{stack.url}/{module}")
        return page.get_by_role("link", name=name).first.get_attribute("href") or ""

    company, contact, order = found("companies", "Alder"), found("contacts", "Wilhelmina"), found("orders", "SO-1001")
    product = found("products", "Oat flakes")
    return {
        "companies": "/companies",
        "contacts": "/contacts",
        "products": "/products",
        "orders": "/orders",
        "nothing-matches": "/companies?q=nothing+like+this",
        "impossible-filter": "/companies?status=purple",
        "many-filters": f"/companies{MANY_FILTERS}",
        "saved-filters": "/companies/filters",
        "record": company,
        "record-long-name": found("companies", "Gebrüder"),
        "record-error": found("companies", "Blauer Salon"),
        "record-conflict": found("companies", "Fjord Seafood"),
        "contact": contact,
        "product": product,
        "order": order,
        "form": f"{company}/edit",
        "form-contact": "/contacts/new",
        "form-product": f"{product}/edit",
        "form-order": f"{order}/edit",
        "connection": "/connection",
        "users": "/users",
        "new-user": "/users/new",
        "profile": "/me",
        "highlighted": "/highlighted/companies",
        "not-found": "/companies/999999",
    }


def shoot_all(stack: Stack, page: Page, addresses: dict[str, str], width: int, theme: str) -> None:
    """Take the pages at these addresses, each under its name."""
    for name, address in addresses.items():
        page.goto(f"{stack.url}{address}")
        be_live(page)
        shoot(page, name, width, theme)


def shoot(page: Page, name: str, width: int, theme: str, *, whole: bool = True) -> None:
    """Take a page, or as much of it as the window shows."""
    page.screenshot(path=OUT / "pages" / f"{name}-{width}-{theme}.png", full_page=whole)


def open_record(page: Page, name: str) -> None:
    """Go to a company from the list."""
    page.get_by_role("link", name=name).click()
    expect(page.locator("[data-role=sync-label]")).to_be_visible()


def open_form(page: Page, name: str) -> None:
    """Go to the form of a company."""
    open_record(page, name)
    page.locator("[data-role=edit]").click()
    expect(page.locator("form[data-form]")).to_be_visible()


if __name__ == "__main__":
    main()
