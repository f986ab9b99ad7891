"""Several companies in Sage side by side: each record goes to its own, and what fails in one stops no other."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from rq import Queue, Worker
from rq.serializers import JSONSerializer
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from tests.fake_sage import FakeSage
from tests.integration.test_engine import GERMAN, LINES, Engine
from tests.locks import waits_for_a_lock
from tests.people import add_admin, post, sign_in
from tests.stack import wait_until
from webapp.companies.changes import create_company
from webapp.companies.importing import import_companies
from webapp.companies.models import CUSTOMER, PROSPECT, Company
from webapp.connection.changes import add_connection, choose_business
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, PAUSED, UNREACHABLE, Connection
from webapp.contacts.importing import import_contacts
from webapp.importing.table import ImportRefused
from webapp.live.states import keys_moved_by, read_states, read_versions
from webapp.orders import importing as order_importing
from webapp.orders import views as order_views
from webapp.orders.changes import create_order
from webapp.orders.importing import import_orders
from webapp.orders.models import Order
from webapp.overview import read_overview
from webapp.queue import PULL_QUEUE
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import StatusCount, WriteIntent
from webapp.sync.resync import resync, unlink
from webapp.sync.sending import may_be_in_sage


@pytest.fixture
def north(services: Services) -> Engine:
    """The first connection."""
    return Engine(services, "1" * 32)


@pytest.fixture
def south(services: Services, north: Engine) -> Engine:
    """The second one, which only a choice leads to."""
    return Engine(services, "2" * 32)


def names(sage: FakeSage) -> list[str]:
    return sorted(one.fields["name"] for one in sage.customers.by_id.values())


def creates(sage: FakeSage) -> int:
    return sum(entry.operation == "create" and entry.by == "us" for entry in sage.ledger)


def states(services: Services, *keys: str) -> dict[str, dict[str, object]]:
    with services.database.unit_of_work() as work:
        return read_states(work.session, keys)


def test_each_record_goes_to_the_sage_of_its_company(north: Engine, south: Engine) -> None:
    here, there = north.add(name="North"), north.add(name="South", connection_id=south.connection_id)
    # Whatever connection a caller has at hand, a contact and an order go where their company goes.
    contacts = [north.add_contact(here), north.add_contact(there)]
    orders = [north.add_order(here, number="N-1"), north.add_order(there, number="S-1")]
    for _ in range(2):
        north.push()
        south.push()
    assert names(north.sage) == ["North"]
    assert names(south.sage) == ["South"]
    for engine, number in ((north, "N-1"), (south, "S-1")):
        assert len(engine.sage.persons.by_id) == 1
        assert [one.fields["number"] for one in engine.sage.orders.by_id.values()] == [number]
    wanted = [north.connection_id, south.connection_id]
    assert [north.contact(one).connection_id for one in contacts] == wanted
    assert [north.order(one).connection_id for one in orders] == wanted
    assert {north.contact(one).sync_reason for one in contacts} == {Reason.IN_STEP}
    assert {north.order(one).sync_reason for one in orders} == {Reason.IN_STEP}


def test_the_same_code_and_name_in_two_businesses_are_two_customers(north: Engine, south: Engine) -> None:
    ours = north.add(name="Alfreds Futterkiste", code="ALFKI")
    theirs = south.sage.customers.add(name="Alfreds Futterkiste", code="ALFKI", country="DE", postal_code="12209")
    south.pull()
    north.pull()
    north.push()
    south.push()
    with north.services.database.unit_of_work() as work:
        found = work.session.execute(
            select(Company.id, Company.connection_id, Company.sage_id).order_by(Company.id)
        ).all()
    assert [(row.connection_id, row.sage_id) for row in found] == [
        (north.connection_id, north.company(ours).sage_id),
        (south.connection_id, theirs.id),
    ]
    assert creates(north.sage) == 1
    assert creates(south.sage) == 0
    with pytest.raises(IntegrityError):
        north.add(name="Another", code="ALFKI")
    assert north.add(name="Another", code="OTHER")


def test_a_fault_of_one_stops_no_other(north: Engine, south: Engine) -> None:
    services = north.services
    here, there = north.add(name="North"), north.add(name="South", connection_id=south.connection_id)
    north.sage.go_away()
    north.push()
    south.push()
    assert north.connection().state == UNREACHABLE
    assert south.connection().state == CONNECTED
    assert north.company(here).sync_reason == Reason.WAITING_FOR_SAGE
    assert north.company(there).sync_reason == Reason.IN_STEP
    found = states(services, "connection:0", north.connection().key, south.connection().key)
    assert [one["state"] for one in found.values()] == [UNREACHABLE, UNREACHABLE, CONNECTED]
    assert [one["waiting"] for one in found.values()] == [1, 1, 0]
    with services.database.unit_of_work() as work:
        overview = read_overview(work.session)["connections"]
        versions = read_versions(work.session, found)
    assert [(one["id"], one["waiting"]) for one in overview] == [(north.connection_id, 1), (south.connection_id, 0)]
    assert versions == {key: state["version"] for key, state in found.items()}
    # A pause of the other one holds only its own.
    with services.database.unit_of_work() as work:
        change_state(work, work.session.get_one(Connection, south.connection_id), PAUSED)
        work.commit()
    south.edit(there, phone="030")
    north.sage.come_back()
    north.pull()
    north.push()
    south.push()
    assert north.company(here).sync_reason == Reason.IN_STEP
    assert north.company(there).sync_reason == Reason.WAITING_FOR_SAGE


def test_what_changes_moves_its_connection_and_all_together(north: Engine, south: Engine) -> None:
    company = north.company(north.add(connection_id=south.connection_id))
    moved = set(keys_moved_by([company]))
    assert moved == {company.key, "module:companies", south.connection().key, "connection:0"}
    assert set(keys_moved_by([north.connection()])) == {north.connection().key, "connection:0"}


def test_a_company_that_sage_has_stays_with_its_connection(north: Engine, south: Engine) -> None:
    company_id = north.add()

    def stays() -> bool:
        with north.services.database.unit_of_work() as work:
            return may_be_in_sage(work.session, work.session.get_one(Company, company_id))

    assert not stays()
    # Nobody knows whether Sage has it.
    north.sage.will_lose_the_answer("customers.create", applied=True)
    north.push()
    assert stays()
    with north.services.database.unit_of_work() as work:
        resync(work, [f"company:{company_id}"], None)
    north.push()
    assert north.company(company_id).sync_reason == Reason.IN_STEP
    assert stays()


def test_one_that_was_unlinked_goes_over_with_all_that_belongs_to_it(north: Engine, south: Engine) -> None:
    company_id = north.add()
    contact_id, order_id = north.add_contact(company_id), north.add_order(company_id)
    for _ in range(2):
        north.push()
    north.sage.customers.delete(north.company(company_id).sage_id or "")
    north.pull()
    _unlink(north, company_id)
    before = creates(north.sage)
    north.edit(company_id, connection_id=south.connection_id)
    with north.services.database.unit_of_work() as work:
        resync(work, [f"company:{company_id}"], None)
    for _ in range(2):
        north.push()
        south.push()
    company, contact, order = north.company(company_id), north.contact(contact_id), north.order(order_id)
    assert {company.sync_reason, contact.sync_reason, order.sync_reason} == {Reason.IN_STEP}
    assert {company.connection_id, contact.connection_id, order.connection_id} == {south.connection_id}
    assert creates(north.sage) == before
    assert creates(south.sage) == 3
    with north.services.database.unit_of_work() as work:
        assert work.session.scalar(select(func.count()).where(WriteIntent.state == "open")) == 0


def _unlink(engine: Engine, company_id: int) -> None:
    admin = add_admin(engine.services)
    with engine.services.database.unit_of_work() as work:
        unlink(work, work.session.get_one(Company, company_id, with_for_update=True), admin.id)
        work.commit()


def test_whoever_has_a_contact_in_hand_writes_nothing_after_its_company_moved(north: Engine, south: Engine) -> None:
    company_id = north.add()
    north.push()
    contact_id = north.add_contact(company_id)

    def meanwhile() -> None:
        """The customer goes, an admin unlinks it and takes the company over, while Sage answers slowly."""
        north.sage.customers.delete(north.company(company_id).sage_id or "")
        north.pull()
        _unlink(north, company_id)
        north.edit(company_id, connection_id=south.connection_id)

    north.sage.during_next("persons.create", meanwhile)
    north.push()
    contact = north.contact(contact_id)
    assert contact.sage_id is None
    assert contact.connection_id == south.connection_id
    with north.services.database.unit_of_work() as work:
        resync(work, [f"company:{company_id}"], None)
    for _ in range(2):
        south.push()
    assert north.contact(contact_id).sync_reason == Reason.IN_STEP
    assert len(south.sage.persons.by_id) == 1


def test_a_resync_of_everything_reaches_each_connection(north: Engine, south: Engine) -> None:
    north.add(name="North")
    north.add(name="South", connection_id=south.connection_id)
    north.push()
    south.push()
    with north.services.database.unit_of_work() as work:
        assert resync(work, ["module:companies"], None) == 2
    assert [states(north.services, one.connection().key).popitem()[1]["waiting"] for one in (north, south)] == [1, 1]


def test_an_edit_finds_room_while_everything_is_resynced(north: Engine) -> None:
    """Where the minute's calls run out, what is left goes to what people wait for; the rest goes on when there is room."""
    companies = [north.add(name=f"Company {number}", code="") for number in range(4)]
    north.push()
    with north.services.database.unit_of_work() as work:
        assert resync(work, ["module:companies"], None) == 4
    north.sage.room = False
    north.sage.calls.clear()
    north.edit(companies[3], phone="030")
    north.push()
    assert north.sage.calls == ["customers.read", "customers.update"]
    reasons = [north.company(one).sync_reason for one in companies]
    assert reasons == [Reason.QUEUED, Reason.QUEUED, Reason.QUEUED, Reason.IN_STEP]
    north.push()
    assert north.sage.calls == ["customers.read", "customers.update"], "nothing more is done before there is room"
    north.sage.room = True
    north.push()
    assert {north.company(one).sync_reason for one in companies} == {Reason.IN_STEP}


def test_what_was_there_before_the_first_connection_goes_to_it(services: Services) -> None:
    with services.database.unit_of_work() as work:
        customer = Company(name="Early", code="EARLY", country="DE")
        doubled = Company(name="Doubled", code="ALFKI", country="DE")
        prospect = Company(
            name="Prospect", type=PROSPECT, sync_reason=Reason.EXCLUDED, sync_detail={"code": "excluded"}
        )
        work.session.add_all([customer, doubled, prospect])
        work.commit()
    engine = Engine(services)
    contact_id = engine.add_contact(customer.id)
    engine.add(code="ALFKI")
    for _ in range(2):
        engine.pull()
        engine.push()
    assert names(engine.sage) == ["Alfreds Futterkiste", "Early"]
    assert engine.company(prospect.id).connection_id == engine.connection_id
    assert engine.company(prospect.id).sync_reason == Reason.EXCLUDED
    assert engine.contact(contact_id).sync_reason == Reason.IN_STEP
    assert engine.company(doubled.id).sync_detail == {"code": "code_doubled", "field": "code", "value": "ALFKI"}
    # Saving with another code is the remedy.
    engine.edit(doubled.id, code="OTHER")
    engine.push()
    assert engine.company(doubled.id).sync_reason == Reason.IN_STEP
    with services.database.unit_of_work() as work:
        counted = dict(
            work.session.execute(
                select(StatusCount.connection_id, func.sum(StatusCount.n))
                .where(StatusCount.module == "companies")
                .group_by(StatusCount.connection_id)
            ).all()
        )
    assert counted == {0: 0, engine.connection_id: 4}


def test_an_import_is_about_one_connection(north: Engine, south: Engine, tmp_path: Path) -> None:
    services = north.services
    companies, contacts, orders = (tmp_path / f"{name}.csv" for name in ("companies", "contacts", "orders"))
    companies.write_text("code,name,country\nALFKI,Alfreds,DE\n")
    contacts.write_text("company code,name\nALFKI,Maria\n")
    orders.write_text(
        "order number,customer code,date,product name,quantity,unit price\n77,ALFKI,2026-11-02,Tea,1,2.50\n"
    )
    for connection_id in (None, south.connection_id):
        assert import_companies(services, companies, connection_id=connection_id).created == 1
        assert import_contacts(services, contacts, connection_id=connection_id).created == 1
        assert import_orders(services, orders, connection_id=connection_id).created == 1
    # A second time nothing changes.
    assert import_companies(services, companies, connection_id=south.connection_id).unchanged == 1
    assert import_orders(services, orders, connection_id=south.connection_id).unchanged == 1
    for _ in range(2):
        north.push()
        south.push()
    for engine in (north, south):
        assert [len(one.by_id) for one in (engine.sage.customers, engine.sage.persons, engine.sage.orders)] == [1, 1, 1]
    with services.database.unit_of_work() as work:
        numbers = work.session.execute(select(Order.number, Order.connection_id).order_by(Order.id)).all()
    assert [tuple(row) for row in numbers] == [("77", north.connection_id), ("77", south.connection_id)]
    with pytest.raises(ImportRefused, match="There is no connection 99"):
        import_companies(services, companies, connection_id=99)


def test_nothing_is_booked_that_was_not_confirmed_knowing_it(services: Services, tmp_path: Path) -> None:
    """Neither what was confirmed before there was a connection or for another one, nor what an import brings."""
    with services.database.unit_of_work() as work:
        early = create_company(work, {**GERMAN, "code": "EARLY"}, None, user_id=None, cause="edit")
        days = {"ordered_on": date(2026, 11, 2), "valid_until": date(2026, 12, 2)}
        values = {"company_id": early.id, **days}
        order_id = create_order(work, values, LINES, None, user_id=None, cause="edit", confirmed=True).id
        work.commit()
    books = Engine(services, "1" * 32)
    books.sql(f"UPDATE sage_connection SET orders_as = 'invoices' WHERE id = {books.connection_id}")
    quotes = Engine(services, "2" * 32)
    moved = quotes.add(name="Moves", code="MOVES")
    moved_id = quotes.add_order(moved)
    quotes.edit(moved, connection_id=books.connection_id)
    file = tmp_path / "orders.csv"
    file.write_text(
        "order number,customer code,date,product name,quantity,unit price\n77,MOVES,2026-11-02,Tea,1,2.50\n"
    )
    report = import_orders(services, file)
    assert (report.created, "an import books none" in report.notes[-1]) == (1, True)
    assert "an import books none" not in "".join(import_orders(services, file).notes)

    def go_round() -> None:
        for _ in range(2):
            books.pull()
            books.push()

    go_round()
    quotes.push()
    assert (books.sage.orders.by_id, quotes.sage.orders.by_id, len(books.sage.customers.by_id)) == ({}, {}, 2)
    with services.database.unit_of_work() as work:
        orders = work.session.scalars(select(Order).order_by(Order.id)).all()
        told = {(one.phase, one.connection_id, one.sync_reason, one.sync_detail["code"]) for one in orders}
    assert told == {("validated", books.connection_id, "never_sent", "validated")}
    for one in (order_id, moved_id, orders[-1].id):
        assert books.confirm_order(one)
    go_round()
    assert len(books.sage.orders.by_id) == 3
    assert {books.order(one.id).sync_reason for one in orders} == {Reason.IN_STEP}


@pytest.mark.parametrize("way", ["a prospect's", "resynced in a pause"])
def test_whatever_became_of_an_early_order_it_is_confirmed_anew_before_it_is_booked(
    services: Services, way: str
) -> None:
    """What was confirmed before there was a connection, and is no longer, or not yet, as it was then."""
    is_prospects = way == "a prospect's"
    with services.database.unit_of_work() as work:
        company_type = PROSPECT if is_prospects else CUSTOMER
        early = create_company(work, {**GERMAN, "type": company_type}, None, user_id=None, cause="edit")
        days = {"ordered_on": date(2026, 11, 2), "valid_until": date(2026, 12, 2)}
        values = {"company_id": early.id, **days}
        order_id = create_order(work, values, LINES, None, user_id=None, cause="edit", confirmed=True).id
        work.commit()
    books = Engine(services)
    books.sql(
        'UPDATE sage_connection SET business_id = NULL, state = \'connecting\', offered = \'[{"id": "b", "name": "B"}]\''
    )
    with services.database.unit_of_work() as work:
        assert choose_business(work, work.session.get_one(Connection, books.connection_id), "b", "invoices")
        if not is_prospects:
            change_state(work, work.session.get_one(Connection, books.connection_id), PAUSED)
            resync(work, [f"order:{order_id}"], None)
            change_state(work, work.session.get_one(Connection, books.connection_id), CONNECTED)
        work.commit()
    for _ in range(3):
        books.pull()
        books.edit(early.id, type=CUSTOMER)
        books.push()
    assert (len(books.sage.customers.by_id), books.sage.orders.by_id) == (1, {})
    assert books.order(order_id).sync_detail == {"code": "validated"}
    assert books.confirm_order(order_id)
    books.push()
    assert len(books.sage.orders.by_id) == 1


@pytest.mark.parametrize(("module", "step"), [(order_views, "confirm_order"), (order_importing, "_create")])
def test_what_is_confirmed_while_an_admin_chooses_is_confirmed_anew(
    app: Flask, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    """By a person or by an import that has seen already that nothing is chosen yet, and has not committed."""
    books = Engine(services)
    books.sql(
        "UPDATE sage_connection SET business_id = NULL, state = 'connecting',"
        ' offered = \'[{"id": "b", "name": "B"}]\''
    )
    order_id = books.add_order(books.add(), confirmed=False)

    def choose() -> None:
        with services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, books.connection_id, with_for_update=True)
            choose_business(work, connection, "b", "invoices")

    choosing, confirmed = Thread(target=choose), getattr(module, step)

    def confirm(*args: Any, **values: Any) -> Any:
        choosing.start()
        wait_until(lambda: waits_for_a_lock(services) or not choosing.is_alive())
        return confirmed(*args, **values)

    monkeypatch.setattr(module, step, confirm)
    if module is order_views:
        client = app.test_client()
        sign_in(client, add_admin(services))
        post(client, f"/orders/{order_id}/confirm", {"orders_as": ""})
    else:
        file = tmp_path / "orders.csv"
        file.write_text(
            "order number,customer code,date,product name,quantity,unit price\n77,ALFKI,2026-11-02,Tea,1,2.50\n"
        )
        import_orders(services, file)
    choosing.join()
    with services.database.unit_of_work() as work:
        assert set(work.session.scalars(select(Order.phase))) == {"validated"}
        assert work.session.get_one(Connection, books.connection_id).books_orders


def test_what_an_import_changes_of_a_confirmed_order_is_confirmed_anew_before_it_is_booked(
    north: Engine, tmp_path: Path
) -> None:
    north.sql("UPDATE sage_connection SET orders_as = 'invoices'")
    order_id = north.add_order(north.add(), number="77")
    assert north.order(order_id).phase == "confirmed"
    file = tmp_path / "orders.csv"

    def take(lines: str, shipping: str, notes: str) -> str:
        file.write_text(
            "order number,customer code,date,product name,quantity,unit price,discount amount,tax rate,shipping,internal notes\n"
            f"77,ALFKI,2026-11-02,{lines},{shipping},{notes}\n"
        )
        assert import_orders(north.services, file).changed == 1
        return north.order(order_id).phase

    assert take("Chai,12,18,5.40,20", "0", "For colleagues") == "confirmed", "nothing of it goes to Sage"
    assert take("Chai,12,18,5.40,20", "7.50", "For colleagues") == "validated"
    assert north.confirm_order(order_id)
    assert take("Chai,1200,18,5.40,20", "7.50", "For colleagues") == "validated"
    assert north.order(order_id).sync_detail == {"code": "validated"}
    north.push()
    assert (len(north.sage.customers.by_id), north.sage.orders.by_id) == (1, {})


def test_reading_leaves_a_worker_to_those_who_wait(north: Engine, south: Engine) -> None:
    """Two workers: while one of them reads from one company in Sage, the other one reads from none."""
    services = north.services
    queue = Queue(PULL_QUEUE, connection=services.redis, serializer=JSONSerializer)
    pool = [Worker([queue], connection=services.redis, serializer=JSONSerializer) for _ in range(3)]
    for worker in pool[:2]:
        worker.register_birth()

    north.sage.during_next("customers.changed", south.pull)
    north.pull()
    assert "customers.changed" not in south.sage.calls
    assert south.connection().next_run_at is None, "it is begun by the sweep"
    south.pull()
    assert "customers.changed" in south.sage.calls
    pool[2].register_birth()
    south.sage.calls.clear()
    north.sage.during_next("customers.changed", south.pull)
    north.pull()
    assert "customers.changed" in south.sage.calls


def test_a_business_is_connected_once(north: Engine, south: Engine) -> None:
    with north.services.database.unit_of_work() as work:
        third = add_connection(work, north.services.settings)
        third.offered = [{"id": "1" * 32, "name": "North Ltd"}, {"id": "3" * 32, "name": "West Ltd"}]
        work.commit()
        assert not choose_business(work, third, "1" * 32)
        assert choose_business(work, third, "3" * 32)
    with north.services.database.unit_of_work() as work:
        work.session.get_one(Connection, third.id).business_id = "2" * 32
        with pytest.raises(IntegrityError):
            work.commit()
