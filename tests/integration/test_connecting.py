"""Connecting Sage as an admin does: authorise, choose the company in Sage, start; disconnect and connect again.

The web app and the workers' part are the real ones, and Sage is the sandbox over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from tests.accounting import BUSINESS, OTHER_BUSINESS
from tests.people import add_admin, add_person, post, sign_in
from tests.sandbox_process import REDIRECT_URI, SandboxProcess
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import CONNECTED, CONNECTING, Connection
from webapp.orders.amounts import LineValues
from webapp.orders.changes import create_order
from webapp.orders.models import Order
from webapp.queue import PUSH_QUEUE
from webapp.services import Services
from workers import jobs
from workers.engine.authorise import authorise, disconnect
from workers.engine.pull import pull
from workers.engine.push import drain
from workers.sage.connector import AuthoriseAgain
from workers.sage.open import connect
from workers.sandbox.businesses import BUSINESSES


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(box: SandboxProcess) -> SandboxProcess:
    box.reset()
    return box


@pytest.fixture
def worker(services: Services, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> Services:
    monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", Fernet.generate_key().decode())
    return replace(services, settings=services.settings.model_copy(update={"sage_base_url": sandbox.base_url}))


@pytest.fixture
def admin(app: Flask, services: Services) -> FlaskClient:
    client = app.test_client()
    assert sign_in(client, add_admin(services)).status_code == 303
    return client


def stored(services: Services) -> Connection:
    with services.database.unit_of_work() as work:
        return work.session.scalars(select(Connection)).one()


def tokens(services: Services) -> bytes | None:
    with services.database.engine.connect() as database:
        return database.execute(select(Connection.tokens)).scalar_one()


@pytest.fixture
def connection_id(admin: FlaskClient, worker: Services, sandbox: SandboxProcess) -> int:
    """A connection that an admin has added, to the sandbox."""
    assert post(admin, "/connection/new", {"product": "accounting"}).status_code == 303
    with worker.database.unit_of_work() as work:
        connection = work.session.scalars(select(Connection)).one()
        connection.api_url = sandbox.base_url
        work.commit()
        return connection.id


def consent(worker: Services, sandbox: SandboxProcess, connection_id: int) -> None:
    """A person agrees in Sage, and a worker gets the code."""
    given = sandbox.authorise()
    authorise(worker, connection_id, given["code"], REDIRECT_URI, given["verifier"])


def test_a_new_connection_begins_with_the_company_that_an_admin_chooses(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    page = admin.get("/connection").text
    assert "Choose the company in Sage" in page
    assert "Northwind Traders Ltd" in page
    assert "Southwind Wholesale Ltd" in page
    assert stored(worker).state == CONNECTING
    assert worker.redis.llen("rq:queue:pull") == 0, "nothing is read before that"

    assert post(admin, f"/connection/{connection_id}/choose", {"business": OTHER_BUSINESS}).status_code == 303
    connection = stored(worker)
    assert (connection.state, connection.business_id, connection.offered) == (CONNECTED, OTHER_BUSINESS, None)
    assert connection.business_name == "Southwind Wholesale Ltd"
    assert worker.redis.llen("rq:queue:pull") == 1
    with connect(worker, connection_id) as sage:
        assert sage.check().id == OTHER_BUSINESS


@pytest.mark.parametrize("business", ["", "f" * 32])
def test_only_what_was_offered_can_be_chosen(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int, business: str
) -> None:
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    assert stored(worker).state == CONNECTING, "nothing was offered yet"
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": business})
    assert stored(worker).state == CONNECTING
    assert "Choose one of the companies in Sage, then start." in admin.get("/connection").text


def test_a_choice_stands(admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    post(admin, f"/connection/{connection_id}/choose", {"business": OTHER_BUSINESS})
    assert stored(worker).business_id == BUSINESS


def test_orders_become_what_the_admin_chose_with_the_company(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    """The life of an order as an invoice: confirmed, booked, changed in Sage, made void there, made anew."""
    with worker.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id)
        values = {"name": "Alfreds Futterkiste", "country": "DE"}
        company = create_company(work, values, connection, user_id=None, cause="edit")
        days = {"ordered_on": date(2026, 11, 2), "valid_until": date(2026, 12, 2)}
        chai = LineValues("Chai", Decimal(12), Decimal("18.00"), Decimal("5.40"), Decimal(20))
        made = {"company_id": company.id, "shipping": Decimal("7.50"), "notes": "Leave it at the door.", **days}
        order_id = create_order(work, made, [chai], connection, user_id=None, cause="edit", confirmed=True).id
        work.commit()
    page = f"/orders/{order_id}"

    def order(of: int = order_id) -> Order:
        with worker.database.unit_of_work() as work:
            return work.session.get_one(Order, of, options=[selectinload(Order.lines)])

    def round_trip() -> None:
        pull(worker, connection_id, connect)
        drain(worker, connection_id, connect)

    consent(worker, sandbox, connection_id)
    choose = f"/connection/{connection_id}/choose"
    assert re.search(r'name="orders_as" value="quotes" required checked>', admin.get("/connection").text)
    post(admin, choose, {"business": BUSINESS, "orders_as": "estimates"})
    assert "Choose what orders become in Sage, then start." in admin.get("/connection").text
    assert stored(worker).state == CONNECTING
    post(admin, choose, {"business": BUSINESS, "orders_as": "invoices"})
    assert "Two-way, as sales invoices, once somebody" in admin.get("/connection").text
    round_trip()
    assert (len(sandbox.contacts()), sandbox.records("sales_invoices")) == (1, []), "nobody has said that it be booked"
    assert "the order is booked in Sage as a sales invoice" in admin.get(page).text

    post(admin, f"{page}/confirm", {"orders_as": ""})
    assert order().phase == "validated", "that page was drawn before it was clear that it would be booked"
    post(admin, f"{page}/confirm", {"orders_as": "invoices"})
    drain(worker, connection_id, connect)
    (invoice,) = sandbox.records("sales_invoices")
    assert (order().sync_reason, order().sage_id, order().sage_number) == ("in_step", invoice["id"], "SI-1")
    assert (invoice["reference"], invoice["due_date"], invoice["status"]["id"]) == (
        order().number,
        "2026-12-02",
        "UNPAID",
    )
    assert (Decimal(invoice["total_amount"]), sandbox.records("sales_quotes")) == (order().total, [])

    sandbox.edit(invoice["id"], "sales_invoices", due_date="2026-12-24", invoice_lines=[{"quantity": 10}])
    theirs = sandbox.add("sales_invoices", contact_id=invoice["contact_id"], invoice_lines=invoice_lines("Tofu"))
    sandbox.edit(theirs["id"], "sales_invoices", paid=True)
    round_trip()
    assert (order().valid_until, order().lines[0].quantity, order().sync_reason) == (
        date(2026, 12, 24),
        Decimal(10),
        "in_step",
    )
    # What was booked in Sage is known by its number there, and nothing is written to it for want of a reference.
    assert (order(order_id + 1).number, order(order_id + 1).sync_reason) == ("SI-2", "in_step")
    assert [(one["id"], one["operation"]) for one in sandbox.ledger() if one["by"] == "api"][1:] == [
        (invoice["id"], "create")
    ]

    sandbox.delete(invoice["id"], "sales_invoices")
    pull(worker, connection_id, connect)
    assert order().sync_reason == "deleted_in_sage"
    post(admin, f"{page}/restore")
    drain(worker, connection_id, connect)
    assert (order().sync_reason, order().sage_number) == ("in_step", "SI-3")
    round_trip()
    assert [one["status"]["id"] for one in sandbox.records("sales_invoices")] == ["VOID", "PAID", "UNPAID"]
    assert order().sync_reason == "in_step", "the void one is none of its own any more"

    # It stays for as long as the connection has its company.
    post(admin, f"/connection/{connection_id}/disconnect")
    disconnect(worker, connection_id)
    consent(worker, sandbox, connection_id)
    post(admin, choose, {"business": BUSINESS, "orders_as": "quotes"})
    assert (stored(worker).state, stored(worker).orders_as) == (CONNECTED, "invoices")


def invoice_lines(*descriptions: str) -> list[dict[str, str]]:
    return [{"description": one, "quantity": "1", "unit_price": "23.25"} for one in descriptions]


def test_disconnecting_gives_the_tokens_back(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    assert post(admin, f"/connection/{connection_id}/disconnect").status_code == 303
    disconnect(worker, connection_id)
    assert tokens(worker) is None
    assert stored(worker).state == CONNECTING
    with connect(worker, connection_id) as sage, pytest.raises(AuthoriseAgain):
        sage.check()
    # The next consent goes on with the same company, and nobody has to choose it.
    consent(worker, sandbox, connection_id)
    assert (stored(worker).state, stored(worker).business_id) == (CONNECTED, BUSINESS)


def test_disconnecting_works_while_sage_is_away(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    post(admin, f"/connection/{connection_id}/disconnect")
    sandbox.fault("offline")
    disconnect(worker, connection_id)
    assert tokens(worker) is None


@pytest.mark.parametrize("chosen", [True, False])
def test_a_disconnection_that_comes_late_leaves_what_was_authorised_meanwhile(
    admin: FlaskClient,
    worker: Services,
    sandbox: SandboxProcess,
    connection_id: int,
    monkeypatch: pytest.MonkeyPatch,
    chosen: bool,
) -> None:
    """No worker was free for it until an admin had connected the same company again, or a first one was being chosen."""
    consent(worker, sandbox, connection_id)
    if chosen:
        post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    post(admin, f"/connection/{connection_id}/disconnect")
    before = tokens(worker)
    consent(worker, sandbox, connection_id)
    given = tokens(worker)
    assert given != before

    monkeypatch.setattr(jobs, "services", lambda: worker)
    queue = Queue(PUSH_QUEUE, connection=worker.redis, serializer=JSONSerializer)
    assert [job.func_name for job in queue.jobs].count("workers.jobs.disconnect") == 1
    SimpleWorker([queue], connection=worker.redis, serializer=JSONSerializer).work(burst=True)
    assert tokens(worker) == given
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    with connect(worker, connection_id) as sage:
        assert sage.check().id == BUSINESS
    # What is ended after that is given back.
    post(admin, f"/connection/{connection_id}/disconnect")
    SimpleWorker([queue], connection=worker.redis, serializer=JSONSerializer).work(burst=True)
    assert tokens(worker) is None


def test_consent_for_another_company_is_not_taken_and_said(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    with worker.database.unit_of_work() as work:
        work.session.get_one(Connection, connection_id).business_id = "0" * 32
        work.commit()
    consent(worker, sandbox, connection_id)
    assert tokens(worker) is None
    assert stored(worker).state == CONNECTING
    assert "has no access to the company in Sage" in admin.get("/connection").text


def test_a_code_that_is_worth_nothing_is_said(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    authorise(worker, connection_id, "GB/nonsense", REDIRECT_URI, "x" * 43)
    assert "Sage did not accept the authorisation. Begin once more." in admin.get("/connection").text
    consent(worker, sandbox, connection_id)
    assert "Begin once more." not in admin.get("/connection").text


def test_sales_staff_connect_nothing(app: Flask, services: Services, connection_id: int) -> None:
    sam = app.test_client()
    sign_in(sam, add_person(services))
    for path in (
        "/connection/new",
        f"/connection/{connection_id}/choose",
        f"/connection/{connection_id}/disconnect",
        f"/connection/{connection_id}/directions",
        f"/connection/{connection_id}/remove",
    ):
        assert post(sam, path, {"business": BUSINESS}).status_code == 403
    assert "<form" not in sam.get("/connection").text.split('id="page"')[1]


def test_what_admins_do_is_written_down_and_shown_to_admins(
    admin: FlaskClient, app: Flask, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    for action in ("pause", "pause", "compare", "resume", "compare", "directions", "disconnect"):
        assert post(admin, f"/connection/{connection_id}/{action}").status_code == 303
    told = [
        "Disconnected from Sage",
        "Changed which side decides",
        "Had everything compared with Sage",
        "Resumed the synchronisation",
        "Paused the synchronisation",
        "Chose the company in Sage and started",
        "Added the connection",
    ]
    page = admin.get("/connection").text
    assert re.findall(r'data-role="audit-event">.*?<span>([^<]+?) <span class="aside">Ada', page) == told
    sam = app.test_client()
    sign_in(sam, add_person(worker))
    assert "connection-audit" not in sam.get("/connection").text


def test_who_acts_on_an_old_page_of_a_connection_is_told_that_nothing_was_done(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    post(admin, f"/connection/{connection_id}/disconnect")
    admin.get("/connection")
    worker.redis.flushdb()
    for action in ("fetch", "compare", "pause", "resume"):
        post(admin, f"/connection/{connection_id}/{action}")
        page = admin.get("/connection").text
        assert "the connection has changed meanwhile. It is in the state: Disconnected." in page, action
    assert worker.redis.llen("rq:queue:pull") == 0
    assert "Synclight has been disconnected from Sage since" in admin.get("/companies").text


def test_everything_is_compared_when_an_admin_asks(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    pull(worker, connection_id, connect)
    assert "Everything was last compared with Sage:" in admin.get("/connection").text
    worker.redis.flushdb()
    post(admin, f"/connection/{connection_id}/compare")
    assert worker.redis.llen("rq:queue:pull") == 1
    assert "Everything was last compared with Sage:" not in admin.get("/connection").text, "it has not been done yet"
    pull(worker, connection_id, connect)
    assert "Everything was last compared with Sage:" in admin.get("/connection").text


def test_an_admin_says_which_side_has_the_word(
    admin: FlaskClient, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    form = {
        "company.phone": "to_sage",
        "company.notes": "from_sage",
        "company.name": "both",
        "contact.role": "sideways",
        "product.unit_price": "from_sage",
    }
    assert post(admin, f"/connection/{connection_id}/directions", {**form, "order.lines": "to_sage"}).status_code == 303
    chosen = {
        "company": {"phone": "to_sage", "notes": "from_sage"},
        "contact": {},
        "product": {"unit_price": "from_sage"},
    }
    assert stored(worker).directions == chosen
    page = admin.get("/connection").text
    assert page.count('value="to_sage" selected') == 1
    assert page.count('value="from_sage" selected') == 2


def test_a_second_company_in_sage_beside_the_first(
    admin: FlaskClient, app: Flask, worker: Services, sandbox: SandboxProcess, connection_id: int
) -> None:
    consent(worker, sandbox, connection_id)
    post(admin, f"/connection/{connection_id}/choose", {"business": BUSINESS})
    assert 'data-role="add-connection"' in admin.get("/connection").text
    assert "Sage Accounting" in admin.get("/connection/new").text
    assert (
        "Choose one of the Sage products" in admin.get(post(admin, "/connection/new", {"product": "x"}).location).text
    )
    second = post(admin, "/connection/new", {"product": "accounting"}).location
    assert post(admin, "/connection/new", {"product": "accounting"}).location == second, "twice makes one"
    second_id = int(second.rpartition("/")[2])
    with worker.database.unit_of_work() as work:
        work.session.get_one(Connection, second_id).api_url = sandbox.base_url
        work.commit()
    consent(worker, sandbox, second_id)
    page = admin.get(second).text
    assert re.search(rf'value="{BUSINESS}" required disabled', page), "it is connected already"
    post(admin, f"{second}/choose", {"business": BUSINESS})
    assert "Choose one of the companies in Sage, then start." in admin.get(second).text
    post(admin, f"{second}/choose", {"business": OTHER_BUSINESS})

    listed = admin.get("/connection").text
    assert listed.count('class="block connection-card"') == 2
    module = admin.get("/companies").text
    assert 'data-role="connection" data-key="connection:0"' in module
    assert module.count('class="connection-line"') == 2
    assert "<dt>Connected to</dt><dd><b>Sage Accounting</b></dd>" in module
    assert 'name="connection_id"' in admin.get("/companies/new").text
    made = post(
        admin, "/companies/new", {"name": "Southern", "type": "customer", "connection_id": str(second_id)}
    ).location
    record = admin.get(made).text
    assert f'data-role="connection" data-key="connection:{second_id}"' in record, "its own connection"
    assert re.search(r'data-field="company_in_sage"><a href="/connection/2">Southwind', record)
    with worker.database.unit_of_work() as work:
        company = work.session.scalars(select(Company)).one()
        assert company.connection_id == second_id
        company.sage_id = "a" * 32
        work.commit()
    for module in ("companies", "contacts", "products", "orders"):
        assert admin.get(f"/{module}").text.count('type="checkbox" name="connection"') == 2
        counts = admin.get(f"/{module}/counts").json
        assert (counts.get(f"connection:{second_id}", "0") == "1") == (module == "companies")
        for one in (connection_id, second_id):
            listed = admin.get(f"/{module}?connection={one}").text
            assert ("Southern" in listed) == (module == "companies" and one == second_id)
            assert "In Sage: " in listed
        assert "The filter “Company in Sage” has no choice “99”." in admin.get(f"/{module}?connection=99").text
    assert f'href="/companies?status=pending&amp;connection={second_id}"' in admin.get(second).text
    form = admin.get(f"{made}/edit").text
    assert "it stays there" in form
    assert 'name="connection_id"' not in form
    answer = post(admin, f"{made}/edit", {"connection_id": str(connection_id)})
    assert answer.status_code == 422
    assert "it stays there" in answer.text

    for one, theirs in ((connection_id, BUSINESS), (second_id, OTHER_BUSINESS)):
        with connect(worker, one) as sage:
            assert sage.check().id == theirs
    # A consent that opens nothing else than what is connected is of no use.
    third = post(admin, "/connection/new", {"product": "accounting"}).location
    third_id = int(third.rpartition("/")[2])
    with worker.database.unit_of_work() as work:
        work.session.get_one(Connection, third_id).api_url = sandbox.base_url
        for business in BUSINESSES[2:]:
            work.session.add(Connection(api_url=sandbox.base_url, business_id=business.id))
        work.commit()
    consent(worker, sandbox, third_id)
    assert "is connected already. Authorise with a login that has another one." in admin.get(third).text
    with worker.database.engine.connect() as database:
        assert database.execute(select(Connection.tokens).where(Connection.id == third_id)).scalar_one() is None
    # What never had a record can go; what has one stays.
    assert "Remove" in admin.get(third).text
    assert post(admin, f"{third}/remove").location == "/connection"
    assert admin.get(third).status_code == 404
    authorise(worker, third_id, "GB/late", REDIRECT_URI, "x" * 43)
    assert post(admin, f"{second}/remove").location == second
    assert "cannot be removed" in admin.get(second).text
