"""The pages of contacts over HTTP: what they show, what they refuse, and what they change in the database."""

from __future__ import annotations

import re
from datetime import date
from html import unescape
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.people import post
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.contacts.changes import create_contact
from webapp.contacts.forms import FIELDS
from webapp.contacts.models import Contact
from webapp.orders.models import Order
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import Conflict, WriteIntent


@pytest.fixture
def company(services: Services, connection: Connection) -> Company:
    return add_company(services, connection, name="Alfreds Futterkiste", code="ALFKI", city="Berlin", country="DE")


def add_company(services: Services, connection: Connection, *, in_sage: bool = True, **values: Any) -> Company:
    with services.database.unit_of_work() as work:
        made = create_company(work, values, connection, user_id=None, cause="import")
        if in_sage:
            made.sage_id = f"{made.id:032x}"
            give_status(work, made, Reason.IN_STEP, {"code": "in_step"})
        work.commit()
    return made


def add_contact(services: Services, connection: Connection, company: Company, **values: Any) -> Contact:
    with services.database.unit_of_work() as work:
        given = {"name": "Maria Anders", "company_id": company.id, **values}
        made = create_contact(work, given, connection, user_id=None, cause="import")
        work.commit()
    return made


@pytest.fixture
def maria(services: Services, connection: Connection, company: Company) -> Contact:
    return add_contact(services, connection, company, role="Sales Representative", email="maria@example.com")


def put(services: Services, contact: Contact, reason: Reason, detail: dict[str, Any], **values: Any) -> None:
    with services.database.unit_of_work() as work:
        record = work.session.get_one(Contact, contact.id)
        for name, value in values.items():
            setattr(record, name, value)
        give_status(work, record, reason, detail)
        work.commit()


def stored(services: Services, contact_id: int) -> Contact:
    with Session(services.database.engine) as session:
        return session.get_one(Contact, contact_id)


def rows(page: str) -> list[str]:
    """The names in the list, in its order."""
    return [unescape(name) for name in re.findall(r'data-row="contact:\d+".*?data-value="name">([^<]*)<', page, re.S)]


def typed(contact: Contact, **changes: str) -> dict[str, str]:
    """The form of a contact, opened and filled in with these changes."""
    stands = {name: str(getattr(contact, name)) for name in FIELDS}
    return stands | {f"was-{name}": value for name, value in stands.items()} | changes


def new_form(company: Company, **values: str) -> dict[str, str]:
    return {**dict.fromkeys(FIELDS, ""), "company_id": str(company.id), "once": "form-1", **values}


# ---- The list -------------------------------------------------------------------------------------------------------


def test_the_list_shows_and_filters_contacts(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company, maria: Contact
) -> None:
    other = add_company(services, connection, name="Berglunds snabbköp")
    add_contact(services, connection, other, name="Christina Berglund", phone="0921-12 34 65")
    put(services, maria, Reason.REJECTED, {"code": "too_long", "field": "role", "limit": 50})
    page = browser_of_sam.get("/contacts").text
    assert rows(page) == ["Christina Berglund", "Maria Anders"]
    assert f'<a href="/companies/{company.id}" data-value="name">Alfreds Futterkiste</a>' in page
    assert "maria@example.com" in page
    assert '<b data-count="review">1</b>' in page
    for address, found in (
        ("status=review", ["Maria Anders"]),
        (f"company={other.id}", ["Christina Berglund"]),
        (f"company={other.id}&status=review", []),
        ("q=snabbkop", ["Christina Berglund"]),
        ("q=MARIA+anders", ["Maria Anders"]),
        ("sort=-company", ["Christina Berglund", "Maria Anders"]),
        ("sort=company", ["Maria Anders", "Christina Berglund"]),
    ):
        assert rows(browser_of_sam.get(f"/contacts?{address}").text) == found, address


def test_a_person_in_sage_stands_on_the_page_of_the_customer(
    browser_of_sam: FlaskClient, services: Services, maria: Contact
) -> None:
    address = f"http://127.0.0.1:{services.settings.sandbox_port}/customers/7f3a"
    with services.database.unit_of_work() as work:
        work.session.get_one(Company, maria.company_id).sage_page = address
        work.commit()
    assert address not in browser_of_sam.get(f"/contacts/{maria.id}").text, "the person is not there yet"
    with services.database.unit_of_work() as work:
        work.session.get_one(Contact, maria.id).sage_id = "8a"
        work.commit()
    assert browser_of_sam.get(f"/contacts/{maria.id}").text.count(f'href="{address}"') == 2


def test_the_company_that_is_filtered_by_is_a_chip(browser_of_sam: FlaskClient, maria: Contact) -> None:
    page = browser_of_sam.get(f"/contacts?company={maria.company_id}&status=pending").text
    chips = [unescape(one) for one in re.findall(r'class="chip" href="([^"]+)"', page)]
    assert chips == [f"/contacts?company={maria.company_id}", "/contacts?status=pending"]


@pytest.mark.parametrize(
    "address", ["company=999", "company=x", "company=99999999999999999999", "sort=phone", "sort=company&after=W10"]
)
def test_an_impossible_address_is_a_message_and_not_an_error(
    browser_of_sam: FlaskClient, maria: Contact, address: str
) -> None:
    answer = browser_of_sam.get(f"/contacts?{address}")
    assert answer.status_code == 200
    assert 'data-role="query-problem"' in answer.text
    assert rows(answer.text) == ["Maria Anders"]


def test_what_was_typed_since_a_lost_answer_is_not_lost(browser_of_sam: FlaskClient, company: Company) -> None:
    made = post(browser_of_sam, "/contacts/new", new_form(company, name="Once", phone="1"))
    assert post(browser_of_sam, "/contacts/new", new_form(company, name="Once", phone="1")).location == made.location
    since = post(browser_of_sam, "/contacts/new", new_form(company, name="Once", phone="222"))
    assert since.status_code == 409
    assert re.search(r'name="phone" [^>]*value="222"', since.text)


@pytest.mark.parametrize(
    "address", ["", "sort=-name", "sort=company", "sort=-last_synchronised_at", "company={company}"]
)
def test_paging_meets_every_contact_once(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company, address: str
) -> None:
    names = [f"Contact {number:03}" for number in range(110)]
    with services.database.unit_of_work() as work:
        for name in names:
            values = {"name": name, "company_id": company.id}
            create_contact(work, values, connection, user_id=None, cause="import")
        work.commit()
    met, following = [], f"/contacts?{address.format(company=company.id)}"
    while following:
        page = browser_of_sam.get(following).text
        met.append(rows(page))
        link = re.search(r'rel="next" href="([^"]+)"', page)
        following = unescape(link[1]) if link else ""
    assert [len(page) for page in met] == [50, 50, 10]
    assert sorted(name for page in met for name in page) == names


def test_an_empty_module_says_how_to_begin(browser_of_sam: FlaskClient) -> None:
    assert 'data-role="no-contacts"' in browser_of_sam.get("/contacts").text


# ---- One contact ----------------------------------------------------------------------------------------------------


def test_a_record_shows_its_status_its_fields_and_its_company(
    browser_of_sam: FlaskClient, company: Company, maria: Contact
) -> None:
    page = browser_of_sam.get(f"/contacts/{maria.id}").text
    assert re.search(r'data-role="sync-label"[^>]*data-status="pending" data-reason="queued"', page)
    assert "Queued: it is sent to Sage next." in page
    assert '<dd data-value="role">Sales Representative</dd>' in page
    assert re.search(rf'data-key="company:{company.id}" data-version="\d+" data-status="synchronised"', page)
    assert browser_of_sam.get("/contacts/999999").status_code == 404


def test_a_contact_that_waits_leads_to_its_company(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    company = add_company(services, connection, in_sage=False, name="Not there <yet>")
    contact = add_contact(services, connection, company)
    page = browser_of_sam.get(f"/contacts/{contact.id}").text
    assert "Waiting for the company Not there &lt;yet&gt; to reach Sage first." in page
    assert f'data-role="parent" href="/companies/{company.id}">Open Not there &lt;yet&gt;</a>' in page


def test_a_contact_of_a_prospect_leads_to_its_company(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    company = add_company(services, connection, in_sage=False, name="Perhaps Ltd", type="prospect")
    contact = add_contact(services, connection, company)
    assert stored(services, contact.id).sync_reason == "excluded"
    assert f'data-role="parent" href="/companies/{company.id}"' in browser_of_sam.get(f"/contacts/{contact.id}").text


def test_an_error_leads_to_the_field(browser_of_sam: FlaskClient, services: Services, maria: Contact) -> None:
    put(services, maria, Reason.REJECTED, {"code": "too_long", "field": "role", "limit": 50})
    page = browser_of_sam.get(f"/contacts/{maria.id}").text
    assert f'data-role="remedy" href="/contacts/{maria.id}/edit?focus=role">Correct role</a>' in page
    assert re.search(r'id="role"[^>]* autofocus', browser_of_sam.get(f"/contacts/{maria.id}/edit?focus=role").text)


def test_who_may_resync_a_contact(
    browser_of_sam: FlaskClient, browser_of_admin: FlaskClient, services: Services, maria: Contact
) -> None:
    put(services, maria, Reason.IN_STEP, {"code": "in_step"})
    assert 'data-role="resync"' not in browser_of_sam.get(f"/contacts/{maria.id}").text
    assert post(browser_of_sam, f"/contacts/{maria.id}/resync").status_code == 403
    assert 'data-role="resync"' in browser_of_admin.get(f"/contacts/{maria.id}").text
    assert post(browser_of_admin, f"/contacts/{maria.id}/resync").location == f"/contacts/{maria.id}"
    assert stored(services, maria.id).sync_reason == "queued"


def test_a_conflict_is_settled_on_the_page(browser_of_sam: FlaskClient, services: Services, maria: Contact) -> None:
    agreed = {"role": "Before"}
    put(services, maria, Reason.CONFLICT, {"code": "conflict", "fields": ["role"]}, agreed=agreed)
    with services.database.unit_of_work() as work:
        work.session.add(
            Conflict(kind="contact", record_id=maria.id, field="role", base="Before", ours=maria.role, theirs="Owner")
        )
        work.commit()
    assert 'data-role="choices"' in browser_of_sam.get(f"/contacts/{maria.id}").text
    post(browser_of_sam, f"/contacts/{maria.id}/choose", {"role": "theirs"})
    after = stored(services, maria.id)
    assert (after.role, after.sync_reason) == ("Owner", "queued")


# ---- The forms ------------------------------------------------------------------------------------------------------


def test_a_new_contact_belongs_to_the_company_that_was_asked_for(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    form = browser_of_sam.get(f"/contacts/new?company={company.id}").text
    assert f'type="radio" name="company_id" value="{company.id}" checked' in form
    for _ in range(2):
        answer = post(
            browser_of_sam, "/contacts/new", new_form(company, name="  Hanna  Moos ", email="Hanna@EXAMPLE.com")
        )
        assert answer.status_code == 303
    with Session(services.database.engine) as session:
        (made,) = session.scalars(select(Contact)).all()
    assert answer.location == f"/contacts/{made.id}"
    assert (made.name, made.email, made.company_id) == ("Hanna Moos", "Hanna@example.com", company.id)
    assert made.sync_reason == "queued"


def test_the_company_is_found_by_a_search(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company
) -> None:
    add_company(services, connection, name="Berglunds snabbköp", city="Luleå")
    found = browser_of_sam.get(f"/contacts/new?find=lulea&company_id={company.id}").text
    names = re.findall(r'name="company_id" value="\d+"( checked)?><span>([^<]+?) ?<', found)
    assert names == [(" checked", "Alfreds Futterkiste"), ("", "Berglunds snabbköp")]
    assert "No company matches “zzz”." in browser_of_sam.get("/contacts/new?find=zzz").text
    assert "Type at least two letters" in browser_of_sam.get("/contacts/new?company=none").text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "Every contact needs a name"),
        ({"name": "A", "email": "nobody@"}, "is not a whole e-mail address"),
        ({"name": "A", "company_id": ""}, "Every contact belongs to a company"),
        ({"name": "A", "company_id": "999"}, "Every contact belongs to a company"),
        ({"name": "A", "company_id": "1 OR 1"}, "Every contact belongs to a company"),
        ({"name": "A" * 201}, "shorten it to 200"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_kept_in_the_form(
    browser_of_sam: FlaskClient, services: Services, company: Company, changes: dict[str, str], sentence: str
) -> None:
    answer = post(browser_of_sam, "/contacts/new", new_form(company, role="<Owner>", **changes))
    assert answer.status_code == 422
    assert sentence in answer.text
    assert 'value="&lt;Owner&gt;"' in answer.text
    with Session(services.database.engine) as session:
        assert session.scalar(select(func.count()).select_from(Contact)) == 0


def test_an_edit_is_stored_and_queued(browser_of_sam: FlaskClient, services: Services, maria: Contact) -> None:
    put(services, maria, Reason.IN_STEP, {"code": "in_step"})
    answer = post(browser_of_sam, f"/contacts/{maria.id}/edit", typed(maria, role="Owner"))
    assert (answer.status_code, answer.location) == (303, f"/contacts/{maria.id}")
    after = stored(services, maria.id)
    assert (after.role, after.sync_reason) == ("Owner", "queued")


def test_notes_stay_here(browser_of_sam: FlaskClient, services: Services, maria: Contact) -> None:
    put(services, maria, Reason.IN_STEP, {"code": "in_step"})
    before = stored(services, maria.id)
    assert post(browser_of_sam, f"/contacts/{maria.id}/edit", typed(maria, notes="Likes tea")).status_code == 303
    after = stored(services, maria.id)
    assert (after.notes, after.sync_reason) == ("Likes tea", "in_step")
    assert after.sync_version > before.sync_version


def test_both_changed_a_field_and_the_person_chooses(
    browser_of_sam: FlaskClient, services: Services, maria: Contact
) -> None:
    with services.database.unit_of_work() as work:
        theirs = work.session.get_one(Contact, maria.id)
        theirs.role, theirs.phone = "Director", "030-1"
        work.commit()
    form = typed(maria, role="Owner")
    answer = post(browser_of_sam, f"/contacts/{maria.id}/edit", form)
    assert answer.status_code == 409
    assert answer.text.count('data-role="difference"') == 1
    assert stored(services, maria.id).role == "Director", "nothing is stored before the person has chosen"
    chosen = form | {"was-role": "Director", "take-role": "yours"}
    answer = post(browser_of_sam, f"/contacts/{maria.id}/edit", chosen)
    assert answer.status_code == 303
    after = stored(services, maria.id)
    assert (after.role, after.phone) == ("Owner", "030-1")
    assert "Meanwhile somebody else changed phone; that was kept." in browser_of_sam.get(answer.location).text


def _in_sage(services: Services, contact: Contact) -> None:
    put(services, contact, Reason.IN_STEP, {"code": "in_step"}, sage_id="a" * 32)


def _perhaps_in_sage(services: Services, contact: Contact) -> None:
    """A create was sent, and no answer to it has been seen."""
    with services.database.unit_of_work() as work:
        work.session.add(
            WriteIntent(
                connection_id=contact.connection_id,
                kind="contact",
                record_id=contact.id,
                operation="create",
                idempotency_key="b" * 32,
                fields={},
                body={},
                body_hash="",
            )
        )
        work.commit()


@pytest.mark.parametrize("there", [_in_sage, _perhaps_in_sage])
def test_a_contact_that_sage_may_have_stays_with_its_company(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, maria: Contact, there: Any
) -> None:
    other = add_company(services, connection, name="Berglunds snabbköp")
    assert 'name="company_id"' in browser_of_sam.get(f"/contacts/{maria.id}/edit").text
    there(services, maria)
    form = browser_of_sam.get(f"/contacts/{maria.id}/edit").text
    assert 'name="company_id"' not in form
    assert "Sage knows this contact at its company" in form
    answer = post(browser_of_sam, f"/contacts/{maria.id}/edit", typed(maria, company_id=str(other.id), role="Owner"))
    assert answer.status_code == 422
    assert "so it stays there" in answer.text
    after = stored(services, maria.id)
    assert (after.company_id, after.role) == (maria.company_id, maria.role)


def test_a_contact_that_is_not_in_sage_can_move(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, maria: Contact
) -> None:
    other = add_company(services, connection, in_sage=False, name="Berglunds snabbköp")
    form = typed(maria, company_id=str(other.id))
    assert post(browser_of_sam, f"/contacts/{maria.id}/edit", form).status_code == 303
    after = stored(services, maria.id)
    assert (after.company_id, after.company_name) == (other.id, "Berglunds snabbköp")
    assert after.sync_reason == "waiting_for_parent"


# ---- On the page of the company -------------------------------------------------------------------------------------


def test_a_company_lists_its_contacts_and_orders(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company
) -> None:
    path = f"/companies/{company.id}"
    page = browser_of_sam.get(path).text
    assert "No contacts yet." in page
    assert "No orders yet." in page
    for number in range(12):
        add_contact(services, connection, company, name=f"Contact {number:02}")
    with services.database.unit_of_work() as work:
        for number in range(2):
            work.session.add(
                Order(
                    number=f"1050{number}",
                    company_id=company.id,
                    ordered_on=date(2026, 4, 9 + number),
                    valid_until=date(2026, 5, 9),
                )
            )
        work.commit()
    page = browser_of_sam.get(path).text
    assert rows(page) == [f"Contact {number:02}" for number in range(10)]
    assert f'href="/contacts?company={company.id}">All 12 contacts</a>' in page
    assert f'href="/contacts/new?company={company.id}"' in page
    assert f'href="/orders/new?company={company.id}"' in page
    assert re.findall(r'data-row="order:\d+".*?data-value="number">([^<]*)<', page, re.S) == ["10501", "10500"]
    assert re.search(
        r'<li data-row="contact:\d+" data-key="contact:\d+" data-version="\d+" data-status="pending"', page
    )
