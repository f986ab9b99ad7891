"""The pages in the language of the person, and no text on them that the catalogues do not know."""

from __future__ import annotations

import re
from decimal import Decimal
from gettext import NullTranslations
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.people import csrf_token
from webapp import frame, languages
from webapp.companies.changes import create_company
from webapp.connection.models import Connection
from webapp.contacts.changes import create_contact
from webapp.live.protocol import shown_values
from webapp.live.states import read_states
from webapp.products.changes import create_product
from webapp.services import Services
from webapp.users.models import User

OPEN = "\u27e6"
TITLE = " · Synclight"

# What is no text of ours: data of these tests, names, and examples that are commands or addresses.
DATA = {
    "Alfreds Futterkiste",
    "Maria Anders",
    "Chai",
    "10248",
    "Synclight",
    "Sage Accounting",
    "Northwind Ltd",
    "“zz”",
    *languages.LANGUAGES.values(),
}


class Marked(NullTranslations):
    """A language in which every text stands in brackets."""

    def gettext(self, message: str) -> str:
        return f"{OPEN}{message}\u27e7"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


class Texts(HTMLParser):
    """All that a person reads or hears on a page."""

    SILENT = ("script", "style", "code", "textarea", "svg")
    SPOKEN = ("title", "aria-label", "placeholder", "data-never", "data-label", "alt")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self.SILENT
        self.found += [value for name, value in attrs if name in self.SPOKEN and value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self.SILENT

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data.strip())


@pytest.fixture
def pages(services: Services, connection: Connection) -> list[str]:
    """The addresses of pages with something on them."""
    with services.database.unit_of_work() as work:
        values = {"name": "Alfreds Futterkiste", "type": "customer", "country": "DE"}
        company = create_company(work, values, connection, user_id=None, cause="import")
        work.session.flush()
        fields = {"company_id": company.id, "name": "Maria Anders"}
        contact = create_contact(work, fields, connection, user_id=None, cause="import")
        product = create_product(work, {"name": "Chai"}, connection, user_id=None, cause="import")
        # With a second connection, for which no company in Sage was chosen yet, people have one to choose from.
        work.session.add(Connection(api_url="http://127.0.0.1:1"))
        work.commit()
        company_id, contact_id, product_id = company.id, contact.id, product.id
    return [
        "/companies",
        "/companies?status=review&q=zz&country=XX&sort=weight",
        "/companies/new",
        f"/companies/{company_id}",
        f"/companies/{company_id}/edit",
        "/contacts",
        "/contacts/new",
        f"/contacts/{contact_id}",
        "/products",
        "/products/new",
        f"/products/{product_id}",
        "/orders",
        "/orders/new",
        "/connection",
        f"/connection/{connection.id}",
        "/connection/new",
        "/highlighted/companies",
        "/me",
        "/users",
        "/users/new",
        "/nothing-here",
    ]


def test_no_page_has_a_text_that_the_catalogues_do_not_know(
    browser_of_admin: FlaskClient, pages: list[str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "_catalogue", lambda code: Marked())
    # What pages said before is kept, and what they say here must not be.
    monkeypatch.setattr(frame, "_said", frame._said.__wrapped__)
    with Session(services.database.engine) as session:
        people = {value for user in session.query(User) for value in (user.name, user.email)}
    bare: set[tuple[str, str]] = set()
    read = 0
    for path in pages:
        answer = browser_of_admin.get(path)
        assert answer.status_code in (200, 404), path
        for text in Texts(answer.text).found:
            read += OPEN in text
            if OPEN not in text and re.search(r"[^\W\d_]{2}", text) and text.removesuffix(TITLE) not in DATA | people:
                bare.add((path, text))
    # The names of countries and months come from CLDR.
    known = {name for _, name in countries()} | set(languages.months())
    assert {(path, text) for path, text in bare if text not in known} == set()
    assert read > 500


def countries() -> tuple[tuple[str, str], ...]:
    from webapp.companies.countries import country_choices

    return country_choices()


@pytest.mark.parametrize(
    ("accepted", "tag", "words"),
    [
        ("de-AT,de;q=0.9,en;q=0.5", "de-DE", "Neue Firma"),
        ("es-MX", "es-ES", "Nueva empresa"),
        ("fr,en;q=0.8", "fr-FR", "Nouvelle société"),
        ("pt-BR", "pt-PT", "Nova empresa"),
        ("nl", "en-GB", "New company"),
    ],
)
def test_a_browser_says_its_language(browser_of_sam: FlaskClient, accepted: str, tag: str, words: str) -> None:
    answer = browser_of_sam.get("/companies", headers={"Accept-Language": accepted})
    assert f'<html lang="{tag}"' in answer.text
    assert words in answer.text
    assert answer.headers["Content-Language"] == tag[:2]
    assert "Accept-Language" in answer.headers["Vary"]
    assert "Cookie" in answer.headers["Vary"]


@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_a_form_calls_its_values_as_live_messages_do(
    browser_of_sam: FlaskClient, services: Services, language: str
) -> None:
    company = {"name": "Alfreds Futterkiste", "country": "DE", "type": "customer"}
    product = {"name": "Chai", "unit_price": Decimal("1234.5")}
    with services.database.unit_of_work() as work:
        made = (
            create_company(work, company, None, user_id=None, cause="edit"),
            create_product(work, product, None, user_id=None, cause="edit"),
        )
        work.commit()
    for record in made:
        page = browser_of_sam.get(f"/{record.module}/{record.id}/edit", headers={"Accept-Language": language}).text
        languages.speak(language)
        with Session(services.database.engine) as session:
            live = shown_values(record.kind, read_states(session, [record.key])[record.key])
        # Else the first change of its status would say that somebody changed the field.
        for name, called in re.findall(r'data-live="(\w+)" data-shown="([^"]*)"', page):
            assert live.get(name, called) == called, name


def test_a_person_chooses_and_keeps_it_in_every_browser(
    browser_of_sam: FlaskClient, sam: User, services: Services
) -> None:
    token = csrf_token(browser_of_sam, "/me")
    answer = browser_of_sam.post("/me/language", data={"csrf_token": token, "language": "fr"})
    assert answer.status_code == 303
    browser_of_sam.delete_cookie("language")
    page = browser_of_sam.get("/me", headers={"Accept-Language": "de"}).text
    assert "Votre langue a été changée." in page
    assert '<option value="fr" lang="fr" selected>' in page
    refused = browser_of_sam.post("/me/language", data={"csrf_token": token, "language": "xx"})
    assert refused.status_code == 422
    assert "Choisissez l\u2019une des langues." in refused.text
    with Session(services.database.engine) as session:
        assert session.get_one(User, sam.id).language == "fr"
    # Back to what the browser says.
    browser_of_sam.post("/me/language", data={"csrf_token": token, "language": ""})
    assert '<h1 tabindex="-1">Profil</h1>' in browser_of_sam.get("/me", headers={"Accept-Language": "de"}).text


def test_the_language_is_chosen_before_one_has_an_account(client: FlaskClient) -> None:
    token = csrf_token(client, "/login")
    answer = client.post("/language", data={"csrf_token": token, "language": "pt"})
    assert (answer.status_code, answer.headers["Set-Cookie"].split(";")[0]) == (303, "language=pt")
    assert "<h1>Iniciar sessão</h1>" in client.get("/login", headers={"Accept-Language": "de"}).text
    client.post("/language", data={"csrf_token": token, "language": "<b>"})
    assert "<h1>Iniciar sessão</h1>" in client.get("/login").text


def test_what_is_wrong_is_said_in_the_language(browser_of_sam: FlaskClient, client: FlaskClient) -> None:
    german = {"Accept-Language": "de"}
    data = {"csrf_token": csrf_token(browser_of_sam, "/companies/new"), "name": "", "country": "Deutschlnd"}
    answer = browser_of_sam.post("/companies/new", data=data, headers=german)
    assert answer.status_code == 422
    assert "2 Felder brauchen Ihre Aufmerksamkeit" in answer.text
    assert "Jede Firma braucht einen Namen: Geben Sie einen ein." in answer.text
    assert "Meinen Sie Deutschland?" in answer.text
    assert "Nicht gefunden" in client.get("/nothing-here", headers=german).text


def test_a_request_leaves_its_language_behind_nowhere(app: Flask, browser_of_sam: FlaskClient) -> None:
    browser_of_sam.get("/companies", headers={"Accept-Language": "de"})
    assert languages.language() == languages.ENGLISH
