"""The highlighted fields that an admin chooses, over HTTP."""

from __future__ import annotations

import re

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.people import csrf_token
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.contacts.changes import create_contact
from webapp.services import Services


def highlighted(page: str) -> list[str]:
    """The labels of the highlighted fields, in their order."""
    block = re.search(r'<section class="block highlighted".*?</section>', page, re.S)
    assert block
    return re.findall(r"<dt>(.*?)</dt>", block[0])


def choose(admin: FlaskClient, module: str, *fields: str, **more: str) -> TestResponse:
    path = f"/highlighted/{module}"
    return admin.post(path, data={"csrf_token": csrf_token(admin, path), "field": list(fields), **more})


def add(services: Services, connection: Connection) -> Company:
    with services.database.unit_of_work() as work:
        made = create_company(work, {"name": "Alfreds"}, connection, user_id=None, cause="import")
        work.commit()
    return made


def test_an_admin_chooses_what_everybody_sees_first_and_in_which_order(
    browser_of_admin: FlaskClient, browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    page = f"/companies/{add(services, connection).id}"
    standard = ["Type", "Owner", "Phone", "Country", "E-mail", "City"]
    assert highlighted(browser_of_sam.get(page).text) == standard
    assert choose(browser_of_admin, "companies", "tax_number", "", "city", "type").status_code == 303
    assert highlighted(browser_of_sam.get(page).text) == ["Tax number", "City", "Type"]
    form = browser_of_admin.get("/highlighted/companies").text
    assert re.findall(r'value="(\w+)" selected', form) == ["tax_number", "city", "type"]
    assert choose(browser_of_admin, "companies", standard="yes").status_code == 303
    assert highlighted(browser_of_sam.get(page).text) == standard


def test_each_module_has_its_own_choice(
    browser_of_admin: FlaskClient, services: Services, connection: Connection
) -> None:
    company = add(services, connection)
    with services.database.unit_of_work() as work:
        values = {"name": "Maria", "company_id": company.id}
        contact = create_contact(work, values, connection, user_id=None, cause="import")
        work.commit()
    choose(browser_of_admin, "contacts", "mobile", "company")
    page = browser_of_admin.get(f"/contacts/{contact.id}").text
    assert highlighted(page) == ["Mobile", "Company"]
    assert ">Alfreds</a>" in page
    assert highlighted(browser_of_admin.get(f"/companies/{company.id}").text)[0] == "Type"


def test_what_cannot_be_is_refused_with_a_sentence_and_what_was_chosen_stays(browser_of_admin: FlaskClient) -> None:
    twice = choose(browser_of_admin, "companies", "city", "phone", "city")
    assert twice.status_code == 422
    assert "City can stand in one place only." in twice.text
    assert re.findall(r'value="(\w+)" selected', twice.text) == ["city", "phone", "city"]
    assert "Choose at least one field." in choose(browser_of_admin, "companies", "", "").text
    assert "cannot be highlighted" in choose(browser_of_admin, "companies", "password_hash").text
    assert browser_of_admin.get("/highlighted/invoices").status_code == 404
