"""The pages of companies over HTTP: what they show, what they refuse, and what they change in the database."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import brotli
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from tests.locks import waits_for_a_lock
from tests.people import add_admin, add_person, csrf_token, post, sign_in
from tests.stack import wait_until
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.forms import FIELDS
from webapp.companies.models import Company
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, PAUSED, Connection
from webapp.listing.query import Cursor
from webapp.queue import Jobs
from webapp.services import Services
from webapp.status import FILTER_TEXT, Reason
from webapp.sync.models import SyncEvent
from webapp.users.models import User

RAW = {"code": "RecordInvalid", "message": "country_id can't be blank <b>", "request_id": "req-81"}


@pytest.fixture
def company(services: Services, connection: Connection) -> Company:
    return add(services, connection, name="Alfreds Futterkiste", code="ALFKI", city="Berlin", country="DE")


def add(services: Services, connection: Connection | None = None, **values: Any) -> Company:
    with services.database.unit_of_work() as work:
        made = create_company(work, values, connection, user_id=None, cause="import")
        work.commit()
    return made


def put(services: Services, company: Company, reason: Reason, detail: dict[str, Any]) -> None:
    with services.database.unit_of_work() as work:
        give_status(work, work.session.get_one(Company, company.id), reason, detail)
        work.commit()


def stored(services: Services, company_id: int) -> Company:
    with Session(services.database.engine) as session:
        return session.get_one(Company, company_id)


def notice(client: FlaskClient, address: str) -> str:
    """What a page says above itself of what was done."""
    return "".join(re.findall(r'class="notice notice-\w+"[^>]*>([^<]*)<', client.get(address).text))


def count(services: Services) -> int:
    with Session(services.database.engine) as session:
        return session.scalar(select(func.count()).select_from(Company)) or 0


def rows(page: str) -> list[str]:
    """The names in the list, in its order."""
    return [unescape(name) for name in re.findall(r'data-row="company:\d+".*?data-value="name">([^<]*)<', page, re.S)]


def field_values(page: str) -> dict[str, str]:
    """The hidden fields of a form that say what it began with."""
    found = re.findall(r'name="(was-\w+)" value="([^"]*)"', page)
    return {name: unescape(value) for name, value in found}


def typed(company: Company, **changes: str) -> dict[str, str]:
    """The form of a company with these changes."""
    stands = {name: getattr(company, name) for name in FIELDS}
    return {name: "" if value is None else str(value) for name, value in stands.items()} | changes


@contextmanager
def queries(services: Services, app: Flask) -> Iterator[list[str]]:
    """The statements that the web app sends."""
    sent: list[str] = []
    engine = app.extensions["synclight"].database.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


# ---- Who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/companies", "/companies/1", "/companies/new", "/companies/1/edit", "/connection"])
def test_strangers_are_sent_to_sign_in(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302
    assert answer.location.startswith("/login")


@pytest.mark.parametrize(
    "path",
    ["/companies/new", "/companies/{id}/edit", "/companies/{id}/resync", "/connection/1/pause", "/connection/1/fetch"],
)
def test_strangers_change_nothing(client: FlaskClient, services: Services, company: Company, path: str) -> None:
    before = stored(services, company.id).sync_version
    answer = client.post(path.format(id=company.id), data={"csrf_token": csrf_token(client), "name": "Theirs"})
    assert answer.status_code == 401
    assert stored(services, company.id).sync_version == before
    assert count(services) == 1


@pytest.mark.parametrize(
    "path", ["/companies/{id}/resync", "/connection/1/pause", "/connection/1/resume", "/connection/1/fetch"]
)
def test_sales_staff_may_not_do_what_admins_do(
    browser_of_sam: FlaskClient, services: Services, company: Company, path: str
) -> None:
    before = stored(services, company.id).sync_version
    assert post(browser_of_sam, path.format(id=company.id)).status_code == 403
    assert stored(services, company.id).sync_version == before
    with Session(services.database.engine) as session:
        assert session.scalars(select(Connection.state)).all() == [CONNECTED]


def test_a_post_needs_its_token(browser_of_admin: FlaskClient, services: Services, company: Company) -> None:
    before = stored(services, company.id).sync_version
    assert browser_of_admin.post(f"/companies/{company.id}/resync").status_code == 400
    assert browser_of_admin.post(f"/companies/{company.id}/edit", data={"name": "Forged"}).status_code == 400
    assert stored(services, company.id).sync_version == before


# ---- The list -------------------------------------------------------------------------------------------------------


def test_an_empty_module_says_how_to_begin(browser_of_sam: FlaskClient) -> None:
    page = browser_of_sam.get("/companies").text
    assert 'data-role="no-companies"' in page
    assert "Not connected yet" in page


def test_a_list_where_nothing_matches_offers_to_clear(browser_of_sam: FlaskClient, company: Company) -> None:
    page = browser_of_sam.get("/companies?q=zzz").text
    assert 'data-role="nothing-matches"' in page
    assert rows(page) == []


def test_the_list_is_a_live_view_of_each_company(browser_of_sam: FlaskClient, company: Company) -> None:
    page = browser_of_sam.get("/companies").text
    assert f'data-row="company:{company.id}" data-key="company:{company.id}" data-version="' in page
    assert 'data-status="pending" data-reason="queued"' in page
    assert '<span class="brief" data-text="brief">Queued</span>' in page


def test_the_four_counters_filter(browser_of_sam: FlaskClient, company: Company) -> None:
    page = browser_of_sam.get("/companies").text
    for status, words in FILTER_TEXT.items():
        assert f'data-role="status-count" data-status="{status}" href="/companies?status={status}"' in page
        assert words in page
    assert '<b data-count="pending">1</b>' in page
    assert rows(browser_of_sam.get("/companies?status=pending").text) == ["Alfreds Futterkiste"]
    assert rows(browser_of_sam.get("/companies?status=review").text) == []
    assert rows(browser_of_sam.get("/companies?status=review&status=pending").text) == ["Alfreds Futterkiste"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("lulea", ["Berglunds snabbköp"]),
        ("LULEÅ", ["Berglunds snabbköp"]),
        ("köp berg", ["Berglunds snabbköp"]),
        ("SNABBKOEP", ["Berglunds snabbköp"]),
        ("fruehstueck", ["Frühstück Muenchen"]),
        ("frühstueck muench", ["Frühstück Muenchen"]),
        ("MÜNCH", ["Frühstück Muenchen"]),
        ("mu\u0308nchen", ["Frühstück Muenchen"]),
        ("futter", ["Alfreds Futterkiste"]),
        ("ALFKI", ["Alfreds Futterkiste"]),
        ("be", ["Alfreds Futterkiste", "Berglunds snabbköp"]),
        ("gl", []),
        ("se123", ["Berglunds snabbköp"]),
        ("order@berglunds", ["Berglunds snabbköp"]),
        ("100%", ["100% Fish"]),
        ("_00", []),
        ("%", ["100% Fish", "Alfreds Futterkiste", "Berglunds snabbköp", "Frühstück Muenchen"]),
        ("o'ne\\il", []),
    ],
)
def test_search_finds_without_accents_and_case(
    browser_of_sam: FlaskClient,
    services: Services,
    connection: Connection,
    company: Company,
    words: str,
    found: list[str],
) -> None:
    add(
        services,
        connection,
        name="Berglunds snabbköp",
        city="Luleå",
        email="order@berglunds.example",
        tax_number="SE123",
    )
    add(services, connection, name="100% Fish")
    add(services, connection, name="Frühstück Muenchen")
    assert rows(browser_of_sam.get(f"/companies?{urlencode({'q': words})}").text) == found


@pytest.mark.parametrize(
    "address",
    [
        "status=green",
        "type=partner",
        "owner=99999999999999999999",
        "country=Atlantis",
        "sort=phone",
        "after=nonsense",
        "before=W10",
        "after=" + urlsafe_b64encode(b"[" * 2_500).decode(),
        "sort=last_synchronised_at&after=" + Cursor("2026-W48-4 10:45:00+00", 3).token(),
        "sort=last_synchronised_at&after=" + Cursor("2026-11-22 10:45:00+23:00", 3).token(),
        "q=%ff%fe",
    ],
)
def test_an_impossible_address_is_a_message_and_not_an_error(
    browser_of_sam: FlaskClient, company: Company, address: str
) -> None:
    answer = browser_of_sam.get(f"/companies?{address}")
    assert answer.status_code == 200
    if not address.startswith("q="):
        assert 'data-role="query-problem"' in answer.text


def _walk(client: FlaskClient, address: str) -> list[list[str]]:
    """The pages of the list from `address` on, by their links."""
    pages = []
    while True:
        text = client.get(address).text
        pages.append(rows(text))
        following = re.search(r'rel="next" href="([^"]+)"', text)
        if following is None:
            return pages
        address = unescape(following[1])


@pytest.mark.parametrize("sort", ["name", "-name", "city", "-city", "country", "-country", "-last_synchronised_at"])
@pytest.mark.parametrize("status", ["", "status=pending&status=not_synchronised&"])
def test_paging_meets_every_company_once(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, sort: str, status: str
) -> None:
    names = {f"Company {number:03}" for number in range(120)}
    with services.database.unit_of_work() as work:
        for number, name in enumerate(sorted(names)):
            values = {
                "name": name,
                "city": ["", "Ålesund", "Berlin"][number % 3],
                "country": ["", "DE", "ES", "SE"][number % 4],
                "type": ["customer", "prospect"][number % 2],
            }
            create_company(work, values, connection, user_id=None, cause="import")
        work.commit()
    pages = _walk(browser_of_sam, f"/companies?{status}sort={sort}")
    assert [len(page) for page in pages] == [50, 50, 20]
    assert {name for page in pages for name in page} == names


def test_previous_leads_back(browser_of_sam: FlaskClient, services: Services, connection: Connection) -> None:
    for number in range(110):
        add(services, connection, name=f"Company {number:03}")
    first = browser_of_sam.get("/companies").text
    second = browser_of_sam.get(unescape(re.search(r'rel="next" href="([^"]+)"', first)[1])).text  # type: ignore[index]
    third = browser_of_sam.get(unescape(re.search(r'rel="next" href="([^"]+)"', second)[1])).text  # type: ignore[index]
    back = browser_of_sam.get(unescape(re.search(r'rel="prev" href="([^"]+)"', third)[1])).text  # type: ignore[index]
    assert rows(back) == rows(second)
    start = browser_of_sam.get(unescape(re.search(r'rel="prev" href="([^"]+)"', back)[1])).text  # type: ignore[index]
    assert rows(start) == rows(first)
    assert 'rel="prev"' not in start


def test_companies_without_a_value_come_last(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    for name, city, country in (("A", "", ""), ("B", "Århus", "DK"), ("C", "Berlin", "DE"), ("D", "Madrid", "ES")):
        add(services, connection, name=name, city=city, country=country)
    assert rows(browser_of_sam.get("/companies?sort=city").text) == ["B", "C", "D", "A"]
    assert rows(browser_of_sam.get("/companies?sort=country").text) == ["B", "C", "D", "A"], "Denmark, Germany, Spain"
    assert rows(browser_of_sam.get("/companies?sort=-country").text) == ["A", "D", "C", "B"]


def test_filters_take_several_values(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, sam: User
) -> None:
    mara = add_person(services, email="mara@example.com", name="Mara Owen")
    add(services, connection, name="A", owner_id=sam.id, country="DE", city="Köln")
    add(services, connection, name="B", owner_id=mara.id, country="SE", city="Malmö")
    add(services, connection, name="C", country="DK", city="Århus", type="prospect")
    for address, found in (
        (f"owner={sam.id}", ["A"]),
        ("owner=none", ["C"]),
        (f"owner={sam.id}&owner=none", ["A", "C"]),
        (f"owner={sam.id}&owner={mara.id}&owner=none", ["A", "B", "C"]),
        ("country=DE&country=SE", ["A", "B"]),
        ("country=DE&country=SE&owner=none", []),
        ("type=prospect", ["C"]),
        ("type=prospect&type=customer&sort=-city", ["B", "A", "C"]),
        ("city=KOLN", ["A"]),
        ("city=köln&country=DE&sort=city", ["A"]),
        ("city=köln&country=SE&sort=city", []),
        ("city=Köl", []),
        ("country=SE&country=Atlantis", ["B"]),
    ):
        page = browser_of_sam.get(f"/companies?{address}").text
        assert rows(page) == found, address
        assert ("has no choice “Atlantis”" in page) == ("Atlantis" in address)
    page = browser_of_sam.get(f"/companies?owner=none&owner={mara.id}&country=SE&country=DK&city=x&type=prospect").text
    chips = re.findall(r'class="chip" href="[^"]*">([^<]+)', page)
    assert chips == ["Prospect", "Owner: nobody", "Owner: Mara Owen", "City: x", "Denmark", "Sweden"]
    assert set(re.findall(r'name="(?:owner|country|type)" value="([^"]+)" checked', page)) == {
        "none",
        str(mara.id),
        "SE",
        "DK",
        "prospect",
    }
    browser_of_sam.set_cookie("language", "de")
    chips = re.findall(
        r'class="chip" href="[^"]*">([^<]+)', browser_of_sam.get("/companies?country=DK&owner=none").text
    )
    assert chips == ["Zuständig: niemand", "Dänemark"]


def test_each_choice_of_a_filter_has_its_count(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, sam: User
) -> None:
    assert browser_of_sam.get("/companies/counts").json == {
        "type:customer": "0",
        "type:prospect": "0",
        "owner:none": "0",
        f"owner:{sam.id}": "0",
    }
    add(services, connection, name="A", owner_id=sam.id, country="DE")
    add(services, connection, name="B", country="DE", type="prospect")
    add(services, name="C", country="SE", owner_id=sam.id)
    assert browser_of_sam.get("/companies/counts").json == {
        "type:customer": "2",
        "type:prospect": "1",
        "owner:none": "1",
        f"owner:{sam.id}": "2",
        "country:DE": "2",
        "country:SE": "1",
        f"connection:{connection.id}": "2",
        "connection:0": "1",
    }


def test_cities_are_suggested_by_their_beginning(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    assert browser_of_sam.get("/companies/cities?begin=").json == []
    for number, city in enumerate(("Łódź", "Lodève", "London", "", "Århus", "LONDON", "Lo%")):
        add(services, connection, name=f"Company {number}", city=city)
    assert browser_of_sam.get("/companies/cities?begin=").json == ["Århus", "Lo%", "Lodève", "Łódź", "London"]
    assert browser_of_sam.get("/companies/cities?begin=+LOD+").json == ["Lodève", "Łódź"]
    assert browser_of_sam.get("/companies/cities?begin=lo%25").json == ["Lo%"]
    assert browser_of_sam.get("/companies/cities?begin=x").json == []
    for number in range(20):
        add(services, connection, name=f"More {number}", city=f"Many {number:02}")
    assert browser_of_sam.get("/companies/cities?begin=many").json == [f"Many {number:02}" for number in range(12)]


@pytest.mark.parametrize(
    ("address", "zone", "found"),
    [
        ("synced_from=2026-11-02", "UTC", {"Morning", "Night"}),
        ("synced_to=2026-11-02", "UTC", {"Morning"}),
        # The same moment is another day elsewhere.
        ("synced_from=2026-11-03&synced_to=2026-11-03", "UTC", {"Night"}),
        ("synced_from=2026-11-02&synced_to=2026-11-02", "America/New_York", {"Morning", "Night"}),
        ("synced_from=2026-11-03", "Pacific/Kiritimati", {"Night"}),
        # Both days count, and what never was synchronised was so on no day.
        ("synced_to=9999-12-31", "UTC", {"Morning", "Night"}),
        ("synced_from=0001-01-01&sort=-last_synchronised_at", "UTC", {"Morning", "Night"}),
    ],
)
def test_the_days_of_the_last_synchronisation_are_those_of_the_reader(
    browser_of_sam: FlaskClient, services: Services, address: str, zone: str, found: set[str]
) -> None:
    moments = {"Morning": "2026-11-02T09:00:00+00:00", "Night": "2026-11-03T01:00:00+00:00", "Never": None}
    with services.database.unit_of_work() as work:
        for name, moment in moments.items():
            values = {"name": name, "country": "DE"}
            company = create_company(work, values, None, user_id=None, cause="edit")
            company.last_synchronised_at = datetime.fromisoformat(moment) if moment else None
        work.commit()
    browser_of_sam.set_cookie("tz", zone)
    page = browser_of_sam.get(f"/companies?{address}").text
    assert {name for name in moments if f">{name}</a>" in page} == found
    assert "Synchronised" in page.partition('class="chips"')[2]


def test_each_filter_has_a_chip_that_removes_it(browser_of_sam: FlaskClient, company: Company) -> None:
    page = browser_of_sam.get("/companies?status=pending&status=review&country=DE&q=alfreds").text
    chips = [unescape(one) for one in re.findall(r'class="chip" href="([^"]+)"', page)]
    assert chips == [
        "/companies?status=review&country=DE&q=alfreds",
        "/companies?status=pending&country=DE&q=alfreds",
        "/companies?status=pending&status=review&q=alfreds",
        "/companies?status=pending&status=review&country=DE",
    ]


def test_a_record_in_sage_leads_to_its_page_there(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    def links() -> list[str]:
        page = browser_of_sam.get(f"/companies/{company.id}").text
        return re.findall(
            r'<a href="([^"]+)" target="_blank" rel="noopener noreferrer" data-role="open-in-sage">', page
        )

    def change(**values: str | None) -> None:
        with services.database.unit_of_work() as work:
            found = work.session.get_one(Company, company.id)
            for name, value in values.items():
                setattr(found, name, value)
            work.commit()

    address = f"http://127.0.0.1:{services.settings.sandbox_port}/customers/7f3a"
    change(sage_page=address)
    assert links() == [], "it is not linked"
    change(sage_id="7f3a")
    assert links() == [address, address], "with its status, and in the details of the connection"
    change(sage_page="https://example.com/customers/7f3a")
    assert links() == []
    assert "example.com/customers" not in browser_of_sam.get(f"/companies/{company.id}").text
    change(sage_page=address)
    put(services, company, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"})
    assert links() == [], "nothing is there any more"


def test_the_sorted_column_says_so(browser_of_sam: FlaskClient, company: Company) -> None:
    page = browser_of_sam.get("/companies?sort=-city").text
    assert len(re.findall("aria-sort=", page)) == 1
    assert re.search(r'class="col-city" aria-sort="descending"', page)


def test_the_number_of_queries_is_the_same_for_any_number_of_rows(
    app: Flask, browser_of_sam: FlaskClient, services: Services, connection: Connection, sam: User
) -> None:
    def sent(address: str) -> int:
        with queries(services, app) as statements:
            assert browser_of_sam.get(address).status_code == 200
        return len(statements)

    add(services, connection, name="One", owner_id=sam.id, country="DE")
    one = sent("/companies")
    for number in range(60):
        add(services, connection, name=f"Company {number}", owner_id=sam.id, country="DE")
    assert sent("/companies") == one
    # The planner is asked as well where there are filters, and its statistics where a long word is looked for by its index.
    assert sent("/companies?status=pending&status=review&q=comp&sort=-city") == one + 1
    assert sent("/companies?status=pending&status=review&q=company&sort=-city") <= one + 2
    # The choices of the filters, the list, the counters and the connections. The driver itself asks for the person.
    assert one == 4


def test_names_from_outside_are_text(browser_of_sam: FlaskClient, services: Services) -> None:
    made = add(services, name="<script>alert(1)</script> & Söhne")
    for path in ("/companies", f"/companies/{made.id}", f"/companies/{made.id}/edit"):
        page = browser_of_sam.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne" in page


def test_no_page_writes_styles_or_scripts_into_itself(browser_of_admin: FlaskClient, company: Company) -> None:
    for path in (
        "/companies",
        f"/companies/{company.id}",
        f"/companies/{company.id}/edit",
        "/companies/new",
        "/contacts",
        "/contacts/new",
        "/products",
        "/products/new",
        "/connection",
        "/users",
        "/me",
    ):
        answer = browser_of_admin.get(path)
        assert answer.status_code == 200, path
        page = answer.text
        assert not re.search(r"\sstyle=|\son\w+=|hx-on|<style|javascript:|js:", page), path
        assert not re.search(r"<script(?![^>]* src=)", page), path
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page), f"{path} asks another host"


# ---- One company ----------------------------------------------------------------------------------------------------


def test_a_record_shows_its_status_and_its_sentence(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    put(services, company, Reason.IN_STEP, {"code": "in_step"})
    page = browser_of_sam.get(f"/companies/{company.id}").text
    assert re.search(r'data-role="sync-label"[^>]*data-status="synchronised" data-reason="in_step"', page)
    details = page[page.index('data-role="sync-details"') :]
    assert 'data-field="status" class="toned" data-text="label">Synchronised<' in details
    assert "Synchronised: the account is correctly synchronised with Sage." in details
    assert 'data-field="last_synchronised_at"' in details


def test_an_error_names_its_remedy_and_leads_to_the_field(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    put(services, company, Reason.REJECTED, {"code": "missing", "field": "country", "raw": RAW})
    page = browser_of_sam.get(f"/companies/{company.id}").text
    assert "Sage needs a country for this company. Add the country and save." in page
    assert f'data-role="remedy" href="/companies/{company.id}/edit?focus=country">Add country</a>' in page
    form = browser_of_sam.get(f"/companies/{company.id}/edit?focus=country").text
    assert re.search(r'<select id="country"[^>]* autofocus', form)


def test_what_sage_said_is_for_admins(
    browser_of_sam: FlaskClient, browser_of_admin: FlaskClient, services: Services, company: Company
) -> None:
    put(services, company, Reason.REJECTED, {"code": "missing", "field": "country", "raw": RAW})
    address = f"/companies/{company.id}"
    page = browser_of_admin.get(address).text
    assert "req-81" in page
    assert "country_id can&#39;t be blank &lt;b&gt;" in page
    assert "req-81" not in browser_of_sam.get(address).text


def test_only_admins_see_the_button_to_resync(
    browser_of_sam: FlaskClient, browser_of_admin: FlaskClient, company: Company
) -> None:
    assert 'data-role="resync"' in browser_of_admin.get(f"/companies/{company.id}").text
    assert 'data-role="resync"' not in browser_of_sam.get(f"/companies/{company.id}").text


def test_the_history_says_who_and_what(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, sam: User
) -> None:
    with services.database.unit_of_work() as work:
        made = create_company(work, {"name": "New"}, connection, user_id=sam.id, cause="edit")
        work.commit()
    put(services, made, Reason.IN_STEP, {"code": "in_step", "taken": ["phone", "city"]})
    page = browser_of_sam.get(f"/companies/{made.id}").text
    told = page[page.index('data-role="history"') :]
    assert "Saved by Sam Sales; queued for Sage" in told
    assert told.index("Phone and city taken from Sage") < told.index("Saved by Sam Sales")


def test_a_long_history_is_shown_when_it_is_asked_for(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    for _ in range(6):
        put(services, company, Reason.IN_STEP, {"code": "in_step"})
        put(services, company, Reason.QUEUED, {"code": "queued"})
    events = re.compile(r'<li data-reason="')
    assert len(events.findall(browser_of_sam.get(f"/companies/{company.id}").text)) == 8
    assert len(events.findall(browser_of_sam.get(f"/companies/{company.id}?history=all").text)) == 13


@pytest.mark.parametrize("company_id", ["999", "0", "9223372036854775807", "9223372036854775808", "x"])
def test_a_company_that_is_not_there(browser_of_admin: FlaskClient, company_id: str) -> None:
    assert browser_of_admin.get(f"/companies/{company_id}").status_code == 404
    assert browser_of_admin.get(f"/companies/{company_id}/edit").status_code == 404
    assert post(browser_of_admin, f"/companies/{company_id}/resync").status_code == 404


def test_a_fault_of_the_connection_is_one_banner(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company
) -> None:
    assert 'data-text="banner" hidden>' in browser_of_sam.get("/companies").text
    with services.database.unit_of_work() as work:
        work.session.get_one(Connection, connection.id).state = "unreachable"
        work.commit()
    page = browser_of_sam.get("/companies").text
    assert page.count("Sage cannot be reached since") == 1
    assert re.search(r'data-role="connection"[^>]*data-state="unreachable"', page)


# ---- Resync ---------------------------------------------------------------------------------------------------------


def test_resync_twice_in_a_row_and_while_it_runs(
    browser_of_admin: FlaskClient, services: Services, company: Company
) -> None:
    address = f"/companies/{company.id}/resync"
    put(services, company, Reason.RUNNING, {"code": "running"})
    for _ in range(2):
        answer = post(browser_of_admin, address)
        assert (answer.status_code, answer.location) == (303, f"/companies/{company.id}")
    after = stored(services, company.id)
    assert (after.sync_status, after.sync_reason) == ("pending", "queued")
    assert "This page shows the result by itself." in browser_of_admin.get(f"/companies/{company.id}").text


def test_resync_of_a_prospect_says_why_nothing_happens(
    browser_of_admin: FlaskClient, services: Services, connection: Connection
) -> None:
    made = add(services, connection, name="Maybe", type="prospect")
    answer = post(browser_of_admin, f"/companies/{made.id}/resync")
    assert answer.status_code == 303
    assert "This company is a prospect. Change it to customer to send it to Sage." in notice(
        browser_of_admin, answer.location
    )
    assert stored(services, made.id).sync_reason == "excluded"


def test_what_is_asked_for_in_a_pause_is_told_to_wait(
    browser_of_admin: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    with services.database.unit_of_work() as work:
        change_state(work, work.session.get_one(Connection, connection.id), PAUSED)
    answer = post(browser_of_admin, f"/companies/{company.id}/resync")
    told = notice(browser_of_admin, answer.location)
    assert "Synchronisation with Sage is paused. It is sent as soon as an admin resumes it." in told
    # It has no time of its own at which it is tried.
    page = browser_of_admin.get(answer.location).text
    assert 'data-time="next_at" data-format="exact" data-never="None planned">None planned<' in page


@pytest.mark.parametrize("action", ["restore", "unlink"])
def test_whoever_comes_second_to_a_deleted_company_is_told(
    browser_of_admin: FlaskClient, services: Services, company: Company, action: str
) -> None:
    put(services, company, Reason.IN_STEP, {"code": "in_step"})
    answer = post(browser_of_admin, f"/companies/{company.id}/{action}")
    assert "There is nothing to choose any more." in notice(browser_of_admin, answer.location)
    assert stored(services, company.id).sync_reason == "in_step"


# ---- Forms ----------------------------------------------------------------------------------------------------------


def new_form(**values: str) -> dict[str, str]:
    return dict.fromkeys(FIELDS, "") | {"type": "customer", "once": "form-1", **values}


def test_a_company_is_added_and_queued(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, sam: User
) -> None:
    answer = post(
        browser_of_sam, "/companies/new", new_form(name="  New   Ltd ", country="Germany", owner_id=str(sam.id))
    )
    assert answer.status_code == 303
    made = stored(services, int(answer.location.rsplit("/", 1)[1]))
    assert (made.name, made.country, made.owner_id, made.sync_reason) == ("New Ltd", "DE", sam.id, "queued")
    with Session(services.database.engine) as session:
        assert session.scalars(select(SyncEvent.user_id).where(SyncEvent.record_id == made.id)).all() == [sam.id]


def test_the_same_form_sent_twice_makes_one_company(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    form = new_form(name="Once", code="ONCE")
    first, second = (post(browser_of_sam, "/companies/new", form) for _ in range(2))
    assert first.status_code == second.status_code == 303
    assert first.location == second.location
    assert count(services) == 1


def test_what_was_typed_since_a_lost_answer_is_not_lost(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    """The first form arrived, and its answer did not: the person corrects a field and sends it again."""
    made = post(browser_of_sam, "/companies/new", new_form(name="Once", phone="1"))
    again = post(browser_of_sam, "/companies/new", new_form(name="Once", phone="222"))
    assert again.status_code == 409
    assert "It was added before, without what you typed since" in again.text
    assert re.search(r'name="phone" [^>]*value="222"', again.text)
    assert 'name="was-phone" value="1"' in again.text
    form = {"name": "Once", "phone": "222", "was-name": "Once", "was-phone": "1", "take-phone": "yours"}
    assert post(browser_of_sam, f"{made.location}/edit", form).status_code == 303
    assert count(services) == 1
    assert stored(services, int(made.location.rsplit("/", 1)[1])).phone == "222"


def test_two_equal_forms_at_the_same_moment_make_one_company(
    browser_of_sam: FlaskClient, services: Services, connection: Connection
) -> None:
    """The second one gets as far as the insert while the first has not committed yet, and waits for it there."""
    form = new_form(name="Race", code="RACE")
    form["csrf_token"] = csrf_token(browser_of_sam, "/me")
    with ThreadPoolExecutor(1) as second, services.database.unit_of_work() as work:
        first = create_company(work, {"name": "Race", "code": "RACE"}, connection, user_id=None, cause="edit")
        first.made_by_form = form["once"]
        work.session.flush()
        sent = second.submit(browser_of_sam.post, "/companies/new", data=form)
        wait_until(lambda: waits_for_a_lock(services))
        work.commit()
        answer = sent.result(timeout=30)
    assert (answer.status_code, answer.location) == (303, f"/companies/{first.id}")
    assert count(services) == 1


def test_errors_keep_what_was_typed(browser_of_sam: FlaskClient, services: Services) -> None:
    answer = post(
        browser_of_sam,
        "/companies/new",
        new_form(name="", email="nobody@", city="Ålesund", country="Atlantis", notes="a\nb"),
    )
    assert answer.status_code == 422
    page = answer.text
    assert 'data-role="form-errors"' in page
    for name in ("name", "email", "country"):
        assert f'id="{name}-error"' in page
        assert re.search(rf'id="{name}" name="{name}"[^>]* aria-invalid="true"', page)
    assert 'value="nobody@"' in page
    assert 'value="Ålesund"' in page
    assert '<option value="Atlantis" selected>' in page
    assert ">\na\nb</textarea>" in page
    assert count(services) == 0


def test_a_code_that_is_taken_is_an_error_at_its_field(
    browser_of_sam: FlaskClient, services: Services, company: Company, connection: Connection
) -> None:
    answer = post(browser_of_sam, "/companies/new", new_form(name="Other", code="ALFKI"))
    assert answer.status_code == 422
    assert "Another company has this code." in answer.text
    other = add(services, connection, name="Other", code="OTHER")
    form = typed(stored(services, other.id), code="ALFKI")
    answer = post(browser_of_sam, f"/companies/{other.id}/edit", form)
    assert answer.status_code == 422
    assert "Another company has this code." in answer.text
    assert stored(services, other.id).code == "OTHER"


def test_an_edit_is_stored_and_queued(browser_of_sam: FlaskClient, services: Services, company: Company) -> None:
    put(services, company, Reason.IN_STEP, {"code": "in_step"})
    address = f"/companies/{company.id}/edit"
    page = browser_of_sam.get(address).text
    form = typed(company, city="Bonn", owner_id="") | field_values(page)
    answer = post(browser_of_sam, address, form)
    assert (answer.status_code, answer.location) == (303, f"/companies/{company.id}")
    after = stored(services, company.id)
    assert (after.city, after.sync_reason) == ("Bonn", "queued")


def test_a_save_goes_through_where_only_the_status_changed(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    address = f"/companies/{company.id}/edit"
    form = typed(company, city="Bonn", owner_id="") | field_values(browser_of_sam.get(address).text)
    put(services, company, Reason.IN_STEP, {"code": "in_step"})
    assert post(browser_of_sam, address, form).status_code == 303
    assert stored(services, company.id).city == "Bonn"


def test_what_somebody_else_saved_meanwhile_is_kept(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    address = f"/companies/{company.id}/edit"
    form = typed(company, city="Bonn", owner_id="") | field_values(browser_of_sam.get(address).text)
    with services.database.unit_of_work() as work:
        work.session.get_one(Company, company.id).phone = "030-1"
        work.commit()
    answer = post(browser_of_sam, address, form)
    assert answer.status_code == 303
    after = stored(services, company.id)
    assert (after.city, after.phone) == ("Bonn", "030-1")
    assert "Meanwhile somebody else changed phone; that was kept." in browser_of_sam.get(answer.location).text


def test_both_changed_a_field_and_the_person_chooses(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    address = f"/companies/{company.id}/edit"
    form = typed(company, city="Bonn", phone="1", owner_id="") | field_values(browser_of_sam.get(address).text)
    with services.database.unit_of_work() as work:
        theirs = work.session.get_one(Company, company.id)
        theirs.city, theirs.phone = "Ulm", "2"
        work.commit()
    answer = post(browser_of_sam, address, form)
    assert answer.status_code == 409
    page = answer.text
    assert stored(services, company.id).city == "Ulm", "nothing is stored before the person has chosen"
    assert page.count('data-role="difference"') == 2
    assert 'value="Bonn"' in page
    assert "Ulm" in page
    chosen = form | field_values(page) | {"take-city": "theirs", "take-phone": "yours"}
    assert post(browser_of_sam, address, chosen).status_code == 303
    after = stored(services, company.id)
    assert (after.city, after.phone) == ("Ulm", "1")


def test_saving_twice_is_saving_once(browser_of_sam: FlaskClient, services: Services, company: Company) -> None:
    address = f"/companies/{company.id}/edit"
    form = typed(company, city="Bonn", owner_id="") | field_values(browser_of_sam.get(address).text)
    for _ in range(2):
        assert post(browser_of_sam, address, form).status_code == 303
    with Session(services.database.engine) as session:
        events = session.scalars(select(SyncEvent).where(SyncEvent.record_id == company.id)).all()
    assert stored(services, company.id).city == "Bonn"
    assert len(events) == 1, "it was queued already, and stays so"


def test_a_queued_company_says_what_goes_before_it(
    browser_of_sam: FlaskClient, services: Services, connection: Connection, company: Company
) -> None:
    page = browser_of_sam.get(f"/companies/{company.id}").text
    assert 'data-role="queue-place"' not in page, "it is the first"
    with services.database.unit_of_work() as work:
        later = create_company(work, {"name": "Later", "country": "GB"}, connection, user_id=None, cause="edit")
        work.commit()
        later_id = later.id
    assert "Queued behind 1 other." in browser_of_sam.get(f"/companies/{later_id}").text
    with services.database.unit_of_work() as work:
        # What an import has queued goes after what people asked for, however old it is.
        work.session.get_one(Company, company.id).urgent = False
        work.commit()
    assert 'data-role="queue-place"' not in browser_of_sam.get(f"/companies/{later_id}").text
    assert "Queued behind 1 other." in browser_of_sam.get(f"/companies/{company.id}").text


# ---- The connection -------------------------------------------------------------------------------------------------


def test_an_admin_pauses_and_resumes(
    browser_of_admin: FlaskClient, services: Services, connection: Connection, company: Company
) -> None:
    assert post(browser_of_admin, "/connection/1/pause").status_code == 303
    assert stored(services, company.id).sync_reason == "waiting_for_sage"
    assert "Resume" in browser_of_admin.get("/connection").text
    assert post(browser_of_admin, "/connection/1/resume").status_code == 303
    assert stored(services, company.id).sync_reason == "queued"


def test_fetch_now_asks_the_workers(browser_of_admin: FlaskClient, services: Services, connection: Connection) -> None:
    assert post(browser_of_admin, "/connection/1/fetch").status_code == 303
    assert services.redis.llen("rq:queue:pull") == 1


def put_state(services: Services, connection: Connection, state: str) -> None:
    with services.database.unit_of_work() as work:
        work.session.get_one(Connection, connection.id).state = state
        work.commit()


def test_an_admin_authorises_again_on_sages_page_and_comes_back(
    browser_of_admin: FlaskClient, services: Services, connection: Connection
) -> None:
    assert 'data-role="authorise"' not in browser_of_admin.get("/connection").text, "there is no need to"
    put_state(services, connection, "authorise_again")
    assert 'data-role="authorise"' in browser_of_admin.get("/connection").text
    there = urlsplit(browser_of_admin.get("/connection/1/authorise").location)
    asked = dict(parse_qsl(there.query))
    assert (there.netloc, there.path) == (f"127.0.0.1:{services.settings.sandbox_port}", "/oauth2/auth/central")
    assert asked["redirect_uri"] == f"{services.settings.origin}/connection/callback"
    assert asked["code_challenge_method"] == "S256"
    answer = browser_of_admin.get(f"/connection/callback?code=GB%2Fabc%252F&state={asked['state']}")
    assert (answer.status_code, answer.location) == (303, "/connection/1")
    assert "Sage is being connected." in browser_of_admin.get("/connection").text
    [job] = Jobs(services.redis)._push.jobs
    assert job.args[:2] == [connection.id, "GB/abc%2F"], "decoded once"
    browser_of_admin.get(f"/connection/callback?code=abc&state={asked['state']}")
    assert services.redis.llen("rq:queue:push") == 1, "an errand is done once"


def test_an_authorisation_that_no_worker_gets_is_said(
    app_without_redis: Flask, services: Services, connection: Connection
) -> None:
    """Its code lives for a minute, and nothing in the database tells of it."""
    client = app_without_redis.test_client()
    sign_in(client, add_admin(services))
    there = urlsplit(client.get("/connection/1/authorise").location)
    client.get(f"/connection/callback?code=abc&state={dict(parse_qsl(there.query))['state']}")
    page = client.get("/connection").text
    assert "Begin once more." in page
    assert "Sage is being connected." not in page


@pytest.mark.parametrize("answer", ["code=abc&state=guessed", "code=abc", "error=access_denied&state={state}", ""])
def test_an_answer_that_nobody_asked_for_changes_nothing(
    browser_of_admin: FlaskClient, services: Services, connection: Connection, answer: str
) -> None:
    there = urlsplit(browser_of_admin.get("/connection/1/authorise").location)
    state = dict(parse_qsl(there.query))["state"]
    browser_of_admin.get(f"/connection/callback?{answer.format(state=state)}")
    assert services.redis.llen("rq:queue:push") == 0
    page = browser_of_admin.get("/connection").text
    assert "belongs to no authorisation" in page or "was not authorised" in page


def test_sales_staff_authorise_nothing(browser_of_sam: FlaskClient, services: Services, connection: Connection) -> None:
    put_state(services, connection, "authorise_again")
    assert 'data-role="authorise"' not in browser_of_sam.get("/connection").text
    assert browser_of_sam.get("/connection/1/authorise").status_code == 403
    assert browser_of_sam.get("/connection/callback?code=abc&state=x").status_code == 403


def test_the_page_without_a_connection_says_so(browser_of_admin: FlaskClient) -> None:
    assert 'data-role="not-connected"' in browser_of_admin.get("/connection").text
    assert post(browser_of_admin, "/connection/1/fetch").status_code == 404
    assert browser_of_admin.get("/connection/1").status_code == 404


def test_htmx_is_answered_without_the_frame_that_is_there(browser_of_sam: FlaskClient, company: Company) -> None:
    for path in ("/companies", f"/companies/{company.id}", f"/companies/{company.id}/edit", "/me"):
        whole, part = (
            browser_of_sam.get(path).text,
            browser_of_sam.get(path, headers={"HX-Request": "true"}).text.strip(),
        )
        found = re.fullmatch(r'(<title>.+</title>)\s*(<main id="page".+</main>)', part, re.DOTALL)
        assert found, path
        title, main = found.groups()
        assert title in whole
        assert re.findall("<h1.*?</h1>", main) == re.findall("<h1.*?</h1>", whole)
        assert not {"<header", "<html", "<script", "<template"} & {*re.findall("<[a-z]+", part)}


# ---- The theme ------------------------------------------------------------------------------------------------------


def test_the_theme_stands_in_the_page(client: FlaskClient) -> None:
    assert '<html lang="en-GB" data-theme="system">' in client.get("/login").text
    token = csrf_token(client)
    answer = client.post(
        "/theme", data={"theme": "dark", "csrf_token": token}, headers={"Referer": "http://localhost/login"}
    )
    assert (answer.status_code, answer.location) == (303, "/login")
    assert '<html lang="en-GB" data-theme="dark">' in client.get("/login").text


@pytest.mark.parametrize(
    "referrer", ["https://elsewhere.example/x", "http://localhost//elsewhere.example/x", "nonsense"]
)
def test_the_theme_leads_to_no_other_site(client: FlaskClient, referrer: str) -> None:
    token = csrf_token(client)
    answer = client.post("/theme", data={"theme": "pink", "csrf_token": token}, headers={"Referer": referrer})
    assert answer.location == "/companies"
    assert 'data-theme="system"' in client.get("/login").text


# ---- Static files ---------------------------------------------------------------------------------------------------


def test_static_files_come_compressed_to_whoever_can_read_that(app: Flask, client: FlaskClient) -> None:
    with app.test_request_context():
        address = app.url_for("static", filename="css/app.css")
    plain = client.get(address)
    packed = client.get(address, headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "br"
    # Without comments and indents, and else the same.
    assert b"/*" not in brotli.decompress(packed.data)
    assert brotli.decompress(packed.data).split() == re.sub(rb"/\*.*?\*/", b"", plain.data, flags=re.DOTALL).split()
    assert len(packed.data) < len(plain.data) / 4
    assert "Accept-Encoding" in packed.vary
    assert "immutable" in packed.headers["Cache-Control"]


def test_a_form_can_be_drawn_anew_as_it_was_typed_and_saves_nothing(
    browser_of_sam: FlaskClient, services: Services, company: Company
) -> None:
    path = f"/companies/{company.id}/edit"
    form = typed(company, city="Typed before") | {"was-city": "Bremen", "again": "1"}
    drawn = post(browser_of_sam, path, form, path)
    assert drawn.status_code == 200
    assert 'value="Typed before"' in drawn.text
    assert 'name="was-city" value="Bremen" data-was="city" data-live="city" data-shown="Bremen"' in drawn.text
    assert 'data-now="Berlin" data-raw="Berlin"' in drawn.text, "what others made of it meanwhile"
    assert stored(services, company.id).city == "Berlin"
    made = post(
        browser_of_sam, "/companies/new", {"name": "Half a name", "once": "one", "again": "1"}, "/companies/new"
    )
    assert 'value="Half a name"' in made.text
    assert 'name="once" value="one"' in made.text
    assert count(services) == 1
