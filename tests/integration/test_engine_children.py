"""Contacts and orders on their way: after their company, never twice, and never without it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from tests.fake_sage import FakeCollection
from tests.integration.test_engine import LINES, MARIA, Crash, Engine
from webapp.connection.changes import have_all_compared
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.orders.amounts import LineValues, lines_text
from webapp.orders.models import CONFIRMED, Order
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.conflicts import choose, open_conflicts
from webapp.sync.models import Conflict, SyncRun
from webapp.sync.records import find_record
from webapp.sync.resync import restore, resync
from webapp.sync.sending import have_sent
from workers import jobs
from workers.engine import push as push_module
from workers.engine.outcome import RETRY_SECONDS
from workers.engine.unchanged import Settled
from workers.sage.connector import Rejected, Transient

QUOTE = {"number": "SO-1", "ordered_on": "2026-11-02", "valid_until": "2026-12-02", "shipping": "0.00"}
OTHER_LINES = [LineValues("Chang", Decimal(1), Decimal("19.00"), Decimal(0), Decimal(20))]


@pytest.fixture
def engine(services: Services) -> Engine:
    return Engine(services)


def company_in_sage(engine: Engine, **values: str) -> tuple[int, str]:
    company_id = engine.add(**values)
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    return company_id, sage_id


def later(engine: Engine, seconds: int = 5) -> None:
    engine.sage.clock = lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def in_sage(engine: Engine, record: Contact | Order) -> Any:
    """The fields that Sage holds of a record."""
    there = engine.sage.persons if isinstance(record, Contact) else engine.sage.orders
    assert record.sage_id
    return there.by_id[record.sage_id].fields


def quote(engine: Engine, parent: str, **fields: str) -> Any:
    return engine.sage.orders.add(parent, **{**QUOTE, "lines": lines_text(LINES), **fields})


def ask_to_resync(engine: Engine, key: str) -> None:
    with engine.services.database.unit_of_work() as work:
        resync(work, [key], None)


# The company first.


def test_a_company_goes_first_and_its_contact_and_order_follow_at_once(engine: Engine) -> None:
    company_id = engine.add()
    contact_id, order_id = engine.add_contact(company_id), engine.add_order(company_id)
    assert engine.contact(contact_id).sync_reason == Reason.WAITING_FOR_PARENT
    assert engine.order(order_id).sync_detail["code"] == "waiting_for_parent"
    engine.push()
    assert engine.sage.calls == ["customers.create", "persons.create", "orders.create"]
    company, contact, order = engine.company(company_id), engine.contact(contact_id), engine.order(order_id)
    assert {one.sync_reason for one in (company, contact, order)} == {Reason.IN_STEP}
    assert contact.sage_id
    assert order.sage_id
    assert {one.parent for one in (*engine.sage.persons.by_id.values(), *engine.sage.orders.by_id.values())} == {
        company.sage_id
    }
    assert contact.agreed == in_sage(engine, contact)
    assert order.agreed == in_sage(engine, order)
    assert in_sage(engine, order)["lines"] == lines_text(LINES)
    assert order.sage_number == engine.sage.orders.by_id[order.sage_id].number
    assert engine.reasons(contact_id, "contact") == ["waiting_for_parent", "queued", "running", "in_step"]
    assert engine.reasons(order_id, "order") == ["waiting_for_parent", "queued", "running", "in_step"]


def test_what_waits_for_its_company_is_never_sent_before(engine: Engine) -> None:
    company_id = engine.add(country="")
    contact_id, order_id = engine.add_contact(company_id), engine.add_order(company_id)
    engine.push()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.REJECTED
    assert engine.contact(contact_id).sync_reason == engine.order(order_id).sync_reason == Reason.WAITING_FOR_PARENT
    assert engine.sage.calls == []
    engine.edit(company_id, country="DE")
    engine.push()
    assert engine.contact(contact_id).sync_reason == engine.order(order_id).sync_reason == Reason.IN_STEP


def test_what_belongs_to_a_prospect_stays_out_with_it(engine: Engine) -> None:
    company_id = engine.add(type="prospect")
    contact_id, order_id = engine.add_contact(company_id), engine.add_order(company_id)
    engine.push()
    assert engine.contact(contact_id).sync_detail == {"code": "excluded_with_company"}
    assert engine.order(order_id).sync_reason == Reason.EXCLUDED
    assert engine.sage.calls == []
    engine.edit(company_id, type="customer")
    engine.push()
    assert engine.contact(contact_id).sync_reason == engine.order(order_id).sync_reason == Reason.IN_STEP


def test_what_is_queued_while_its_company_becomes_a_prospect_is_not_sent(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    contact_id = engine.add_contact(company_id)
    assert engine.contact(contact_id).sync_reason == Reason.QUEUED
    engine.edit(company_id, type="prospect")
    engine.sage.calls.clear()
    engine.push()
    assert engine.contact(contact_id).sync_reason == Reason.EXCLUDED
    assert engine.sage.calls == []


def test_the_sweep_notices_what_waits_for_a_company_that_sage_has(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "services", lambda: engine.services)
    company_id, sage_id = company_in_sage(engine)
    engine.sql("UPDATE company SET sage_id = NULL")
    contact_id = engine.add_contact(company_id)
    engine.sql("UPDATE company SET sage_id = :id", id=sage_id)
    engine.services.redis.delete("rq:queue:push")
    engine.services.jobs.push_begins(engine.connection_id)
    jobs.start_due()
    assert engine.services.redis.llen("rq:queue:push") == 1
    engine.push()
    assert engine.contact(contact_id).sync_reason == Reason.IN_STEP


def test_a_long_queue_of_companies_does_not_keep_an_older_contact_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push_module, "LONGEST", timedelta(0))
    company_id, _ = company_in_sage(engine)
    contact_id = engine.add_contact(company_id)
    for number in range(3):
        engine.add(code=f"K{number}")
    engine.push()
    assert engine.contact(contact_id).sync_reason == Reason.IN_STEP


# Orders.


def test_an_order_goes_to_sage_once_somebody_has_it_sent_and_not_before(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    order_id = engine.add_order(company_id, confirmed=False)
    engine.push()
    assert engine.order(order_id).sync_reason == Reason.NEVER_SENT
    assert engine.sage.orders.by_id == {}
    assert engine.confirm_order(order_id)
    engine.push()
    engine.push()
    assert engine.order(order_id).sync_reason == Reason.IN_STEP
    assert [one.operation for one in engine.sage.ledger if one.collection == "orders"] == ["create"]


def test_a_quote_that_was_changed_in_sage_arrives(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    order_id = engine.add_order(company_id)
    engine.push()
    later(engine)
    sage_id = engine.order(order_id).sage_id
    assert sage_id
    changed = [LineValues("Chai", Decimal(2), Decimal("18.00"), Decimal(0), Decimal(20)), *OTHER_LINES]
    engine.sage.orders.edit(sage_id, lines=lines_text(changed), shipping="7.50", valid_until="2027-01-31")
    engine.pull()
    order = engine.order(order_id)
    assert [(line.description, line.quantity) for line in order.lines] == [("Chai", Decimal(2)), ("Chang", Decimal(1))]
    assert (order.net_total, order.tax_total, order.total) == (Decimal("62.50"), Decimal("11.00"), Decimal("73.50"))
    assert order.valid_until == date(2027, 1, 31)
    assert order.sync_reason == Reason.IN_STEP
    calls = list(engine.sage.calls)
    engine.push()
    assert engine.sage.calls == calls


def test_a_new_quote_of_a_customer_of_ours_becomes_an_order(engine: Engine) -> None:
    company_id, parent = company_in_sage(engine)
    quote(engine, parent)
    engine.pull()
    order = engine.order(1)
    assert (order.company_id, order.number, order.phase, order.sync_reason) == (
        company_id,
        "SO-1",
        CONFIRMED,
        Reason.IN_STEP,
    )
    assert lines_text(order.lines) == lines_text(LINES)
    assert order.total == Decimal("252.72")


def test_a_new_quote_without_a_reference_gets_its_number_as_one(engine: Engine) -> None:
    _, parent = company_in_sage(engine)
    made = quote(engine, parent, number="")
    engine.pull()
    engine.push()
    assert engine.order(1).number == made.number
    assert engine.sage.orders.by_id[made.id].fields["number"] == made.number
    assert engine.order(1).sync_reason == Reason.IN_STEP


def test_a_quote_with_the_number_of_an_order_here_is_that_order_and_their_lines_are_asked_about(
    engine: Engine,
) -> None:
    company_id, parent = company_in_sage(engine)
    order_id = engine.add_order(company_id, confirmed=False, number="SO-1")
    quote(engine, parent, lines=lines_text(OTHER_LINES))
    engine.pull()
    engine.push()
    order = engine.order(order_id)
    assert (order.sync_reason, order.sync_detail["fields"]) == (Reason.CONFLICT, ["lines"])
    assert lines_text(order.lines) == lines_text(LINES)
    with engine.services.database.unit_of_work() as work:
        (conflict,) = work.session.scalars(select(Conflict))
        assert (conflict.kind, conflict.ours, conflict.theirs) == ("order", lines_text(LINES), lines_text(OTHER_LINES))
    assert len(engine.sage.orders.by_id) == 1


def test_a_quote_whose_number_an_order_of_another_company_has_is_shown_and_not_lost(engine: Engine) -> None:
    company_id, parent = company_in_sage(engine)
    other_id, _ = company_in_sage(engine, name="Other", code="OTHER")
    engine.add_order(other_id, confirmed=False, number="SO-1")
    quote(engine, parent)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        order = work.session.scalars(select(Order).where(Order.company_id == company_id)).one()
    assert (order.number[:2], order.sync_reason) == ("S-", Reason.REJECTED)
    assert order.sync_detail == {"code": "number_in_use", "field": "number", "value": "SO-1"}


def test_a_quote_that_was_deleted_in_sage_is_found_by_its_absence(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    kept, gone = engine.add_order(company_id), engine.add_order(company_id)
    engine.push()
    engine.pull()
    sage_id = engine.order(gone).sage_id
    assert sage_id
    engine.sage.orders.delete(sage_id)
    engine.pull()
    engine.push()
    assert engine.order(gone).sync_reason == Reason.IN_STEP, "all is read once in an hour only"
    engine.sql("UPDATE sync_cursor SET watermark = now() - interval '2 h' WHERE entity = 'orders, whole'")
    engine.sage.orders.tells_deletions = True
    engine.pull()
    engine.push()
    assert engine.order(gone).sync_reason == Reason.IN_STEP, "not even that where Sage tells what goes, as of invoices"
    engine.sage.orders.tells_deletions = False
    engine.sage.calls.clear()
    engine.pull()
    engine.push()
    assert engine.order(gone).sync_reason == Reason.DELETED_IN_SAGE
    assert engine.order(kept).sync_reason == Reason.IN_STEP
    assert engine.sage.calls.count("orders.read") == 1


# Orders that a list does not tell all of.


@pytest.fixture
def settled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three orders in step, each read once since it came to rest; it is the turn of none to be read whatever is shown."""
    monkeypatch.setattr(Settled, "_is_its_turn", lambda settled, sage_id: False)
    company_id, _ = company_in_sage(engine)
    ids = [engine.add_order(company_id, notes=f"{number}") for number in range(3)]
    engine.push()
    for _ in range(2):
        engine.pull()
        engine.an_hour_passes()
    return ids


def read_for_the_list(engine: Engine) -> list[str]:
    """Have a pull done, and what was read again pushed. Returns the ids of the orders that the pull read one by one."""
    engine.sage.orders.read_for_lists.clear()
    engine.pull()
    engine.push()
    return engine.sage.orders.read_for_lists


def test_what_changed_just_now_is_read_again_until_nothing_can_have_changed_in_the_same_second(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    order_id = engine.add_order(company_id)
    engine.push()
    sage_id = engine.order(order_id).sage_id
    assert read_for_the_list(engine) == [sage_id], "nothing was read before"
    assert read_for_the_list(engine) == [sage_id], "it was read in the second of its change, as far as anybody knows"
    engine.an_hour_passes()
    assert read_for_the_list(engine) == [sage_id], "now it has come to rest"
    assert read_for_the_list(engine) == []


def test_all_that_is_unchanged_is_seen_without_a_call_for_each(engine: Engine, settled: list[int]) -> None:
    assert read_for_the_list(engine) == []
    assert [engine.order(one).sync_reason for one in settled] == [Reason.IN_STEP] * 3
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun).order_by(SyncRun.id.desc()).limit(1)).one()
    assert (run.error, run.seen, run.compared) == (None, 1 + 3, 0), "seen, and not compared field by field"


def test_what_changed_is_read_and_what_is_gone_is_missed_beside_what_is_unchanged(
    engine: Engine, settled: list[int]
) -> None:
    changed, gone, kept = (engine.order(one).sage_id or "" for one in settled)
    engine.sage.orders.edit(changed, lines=lines_text(OTHER_LINES))
    engine.sage.orders.delete(gone)
    assert read_for_the_list(engine) == [changed]
    assert lines_text(engine.order(settled[0]).lines) == lines_text(OTHER_LINES)
    assert [engine.order(one).sync_reason for one in settled[1:]] == [Reason.DELETED_IN_SAGE, Reason.IN_STEP]
    assert kept in engine.sage.orders.by_id


def test_a_second_change_within_one_second_is_not_hidden_by_the_first(engine: Engine, settled: list[int]) -> None:
    """Neither its time tells of it nor what the list shows: other lines that come to the same."""
    now = datetime.now(UTC)
    engine.sage.clock = lambda: now
    sage_id = engine.order(settled[0]).sage_id or ""
    engine.sage.orders.edit(sage_id, notes="First")
    assert read_for_the_list(engine) == [sage_id]
    twice = LineValues("Another Chai", *(getattr(LINES[0], name) for name in ("quantity", "unit_price", "discount")))
    twice.tax_rate = LINES[0].tax_rate
    engine.sage.orders.edit(sage_id, lines=lines_text([twice]))
    assert read_for_the_list(engine) == [sage_id]
    order = engine.order(settled[0])
    assert (order.notes, order.lines[0].description, order.sync_reason) == ("First", "Another Chai", Reason.IN_STEP)


def test_a_change_without_a_new_time_shows_in_what_the_lines_come_to(engine: Engine, settled: list[int]) -> None:
    sage_id = engine.order(settled[0]).sage_id or ""
    orders = engine.sage.orders.by_id
    orders[sage_id] = replace(orders[sage_id], fields={**orders[sage_id].fields, "lines": lines_text(OTHER_LINES)})
    assert read_for_the_list(engine) == [sage_id]
    order = engine.order(settled[0])
    assert (lines_text(order.lines), order.sync_reason) == (lines_text(OTHER_LINES), Reason.IN_STEP)


def test_an_order_that_was_changed_past_us_or_in_sage_as_by_a_backup_is_read(
    engine: Engine, settled: list[int]
) -> None:
    past, back = (engine.order(one).sage_id or "" for one in settled[:2])
    engine.sql("UPDATE sales_order SET notes = 'By hand' WHERE id = :id", id=settled[0])
    orders = engine.sage.orders.by_id
    an_hour = timedelta(hours=1)
    before = {**orders[back].fields, "notes": "Of the backup"}
    orders[back] = replace(orders[back], updated_at=orders[back].updated_at - an_hour, fields=before)
    assert sorted(read_for_the_list(engine)) == sorted([past, back])
    assert in_sage(engine, engine.order(settled[0]))["notes"] == "By hand"
    assert engine.order(settled[1]).notes == "Of the backup"
    assert [engine.order(one).sync_reason for one in settled] == [Reason.IN_STEP] * 3


def test_everything_is_read_where_an_admin_has_everything_compared(engine: Engine, settled: list[int]) -> None:
    with engine.services.database.unit_of_work() as work:
        have_all_compared(work, work.session.get_one(Connection, engine.connection_id))
        work.commit()
    assert sorted(read_for_the_list(engine)) == sorted(engine.order(one).sage_id or "" for one in settled)
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun).order_by(SyncRun.id.desc()).limit(1)).one()
    assert run.compared == 4


def test_a_reading_that_broke_off_has_seen_nothing_come_to_rest(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    order_id = engine.add_order(company_id)
    engine.push()
    engine.pull()
    engine.an_hour_passes()
    engine.sage.will_fail_next("persons.changed", Transient("503"))
    engine.pull()
    assert read_for_the_list(engine) == [engine.order(order_id).sage_id]


def test_a_whole_read_that_breaks_off_declares_nothing_missing(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    order_id = engine.add_order(company_id)
    engine.push()
    engine.sage.will_fail_next("orders.changed", Transient("503"), applied=True)
    engine.pull()
    assert engine.reasons(order_id, "order")[-1] == "in_step"
    assert engine.sage.calls.count("orders.changed") == 1
    engine.pull()
    assert engine.reasons(order_id, "order")[-1] == "in_step"


# Contacts.


def test_a_person_that_was_changed_in_sage_arrives(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    contact_id = engine.add_contact(company_id)
    engine.push()
    later(engine)
    sage_id = engine.contact(contact_id).sage_id
    assert sage_id
    engine.sage.persons.edit(sage_id, mobile="0170 1", role="Owner")
    engine.pull()
    contact = engine.contact(contact_id)
    assert (contact.mobile, contact.role, contact.sync_reason) == ("0170 1", "Owner", Reason.IN_STEP)


def test_an_edit_of_a_contact_is_one_update_and_merges(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    contact_id = engine.add_contact(company_id)
    engine.push()
    sage_id = engine.contact(contact_id).sage_id
    assert sage_id
    engine.sage.persons.edit(sage_id, mobile="0170 1")
    engine.edit_contact(contact_id, phone="030 5")
    engine.sage.calls.clear()
    engine.push()
    assert engine.sage.calls == ["persons.read", "persons.update"]
    assert in_sage(engine, engine.contact(contact_id))["phone"] == "030 5"
    assert engine.contact(contact_id).mobile == "0170 1"


def test_a_person_deleted_in_sage_is_for_a_person_who_can_restore_it(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    contact_id = engine.add_contact(company_id)
    engine.push()
    engine.pull()
    sage_id = engine.contact(contact_id).sage_id
    assert sage_id
    engine.sage.persons.delete(sage_id)
    engine.pull()
    assert engine.contact(contact_id).sync_reason == Reason.DELETED_IN_SAGE
    with engine.services.database.unit_of_work() as work:
        contact = work.session.get_one(Contact, contact_id)
        restore(work, contact, work.session.get_one(Connection, engine.connection_id), None)  # type: ignore[arg-type]
        work.commit()
    engine.push()
    assert engine.contact(contact_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.persons.by_id) == 1


@pytest.mark.parametrize("known_by", ["email", "name"])
def test_a_person_that_both_sides_have_is_linked_not_doubled(engine: Engine, known_by: str) -> None:
    engine.sql("DELETE FROM sync_cursor WHERE entity = 'persons'")
    company_id, parent = company_in_sage(engine)
    contact_id = engine.add_contact(company_id, mobile="0170 1")
    namesake = engine.add_contact(engine.add(name="Other", code="OTHER"))
    engine.push()
    assert engine.sage.persons.by_id == {}, "nothing of a kind is sent before it was read once"
    engine.sage.persons.add(parent, **{known_by: MARIA[known_by], "name": MARIA["name"]})
    engine.pull()
    engine.push()
    assert engine.contact(contact_id).sync_reason == Reason.IN_STEP
    assert engine.contact(namesake).sage_id != engine.contact(contact_id).sage_id
    assert [one.fields["mobile"] for one in engine.sage.persons.by_id.values() if one.parent == parent] == ["0170 1"]


def test_a_person_of_a_customer_that_nobody_knows_yet_comes_again(engine: Engine) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    (customer,) = engine.sage.customers.by_id.values()
    engine.sage.persons.add(customer.id, name="Karl")
    engine.pull()
    later(engine, 900)
    _, parent = company_in_sage(engine, name="Other", code="OTHER")
    engine.sage.persons.add(parent, name="Much later")
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        assert work.session.scalars(select(Contact.name)).all() == ["Much later"]
    engine.let_time_pass()
    engine.push()
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        known = {(one.name, one.company_id) for one in work.session.scalars(select(Contact))}
    assert ("Karl", company_id) in known


def test_a_customer_with_persons_and_quotes_that_is_new_here_comes_with_all_of_them(engine: Engine) -> None:
    customer = engine.sage.customers.add(name="Neu", code="NEU")
    engine.sage.persons.add(customer.id, name="Karl")
    quote(engine, customer.id)
    engine.pull()
    company_id = engine.company(1).id
    assert engine.contact(1).company_id == engine.order(1).company_id == company_id
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun)).one()
        assert (run.seen, run.created) == (3, 3)


# A company that goes.


def test_a_customer_deleted_in_sage_leaves_nothing_of_its_company_green(engine: Engine) -> None:
    company_id, parent = company_in_sage(engine)
    contact_id, order_id = engine.add_contact(company_id), engine.add_order(company_id)
    engine.push()
    engine.sage.customers.delete(parent)
    engine.pull()
    assert engine.company(company_id).sync_reason == Reason.DELETED_IN_SAGE
    assert engine.contact(contact_id).sync_reason == engine.order(order_id).sync_reason == Reason.WAITING_FOR_PARENT
    engine.edit_contact(contact_id, phone="030 5")
    engine.sage.calls.clear()
    engine.push()
    assert engine.sage.calls == []
    with engine.services.database.unit_of_work() as work:
        company = find_record(work.session, f"company:{company_id}", lock=True)
        assert company is not None
        restore(work, company, work.session.get_one(Connection, engine.connection_id), None)  # type: ignore[arg-type]
        work.commit()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert engine.contact(contact_id).sync_reason == Reason.DELETED_IN_SAGE
    assert engine.order(order_id).sync_reason == Reason.IN_STEP


def test_a_contact_of_a_customer_that_has_just_gone_waits_for_its_company(engine: Engine) -> None:
    company_id, parent = company_in_sage(engine)
    engine.sage.customers.delete(parent)
    contact_id = engine.add_contact(company_id)
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.DELETED_IN_SAGE
    assert engine.contact(contact_id).sync_reason == Reason.WAITING_FOR_PARENT


# Creates whose outcome is unknown.


def add_child(engine: Engine, kind: str, company_id: int) -> int:
    return engine.add_contact(company_id) if kind == "contact" else engine.add_order(company_id)


def child(engine: Engine, kind: str, record_id: int) -> Contact | Order:
    return engine.contact(record_id) if kind == "contact" else engine.order(record_id)


def collection(engine: Engine, kind: str) -> FakeCollection:
    return engine.sage.persons if kind == "contact" else engine.sage.orders


CALLS = {"contact": "persons.create", "order": "orders.create"}
both_kinds = pytest.mark.parametrize("kind", ["contact", "order"])


@both_kinds
def test_a_crash_between_the_create_and_its_record_makes_one(engine: Engine, kind: str) -> None:
    company_id, _ = company_in_sage(engine)
    record_id = add_child(engine, kind, company_id)

    def die() -> None:
        raise Crash

    engine.sage.during_next(CALLS[kind], die)
    with pytest.raises(Crash):
        engine.push()
    engine.pull()
    engine.let_time_pass()
    engine.push()
    engine.pull()
    assert child(engine, kind, record_id).sync_reason == Reason.IN_STEP
    assert len(collection(engine, kind).by_id) == 1
    assert [one.operation for one in engine.sage.ledger].count("create") == 2
    with engine.services.database.unit_of_work() as work:
        model = Contact if kind == "contact" else Order
        assert work.session.scalars(select(model.id)).all() == [record_id]


@both_kinds
@pytest.mark.parametrize("applied", [True, False])
def test_an_old_unanswered_create_is_looked_up_and_never_repeated(engine: Engine, kind: str, applied: bool) -> None:
    company_id, _ = company_in_sage(engine)
    record_id = add_child(engine, kind, company_id)
    engine.sage.will_lose_the_answer(CALLS[kind], applied=applied)
    engine.push()
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.let_time_pass()
    engine.push()
    assert engine.sage.calls.count(CALLS[kind]) == 1
    expected = Reason.IN_STEP if applied else Reason.OUTCOME_UNKNOWN
    assert child(engine, kind, record_id).sync_reason == expected
    if not applied:
        ask_to_resync(engine, f"{kind}:{record_id}")
        engine.push()
        assert child(engine, kind, record_id).sync_reason == Reason.IN_STEP
    assert len(collection(engine, kind).by_id) == 1


@both_kinds
def test_a_create_that_was_given_up_is_gone_on_with_where_sage_shows_what_it_made(engine: Engine, kind: str) -> None:
    company_id, _ = company_in_sage(engine)
    record_id = add_child(engine, kind, company_id)
    engine.sage.will_lose_the_answer(CALLS[kind], applied=True)
    engine.sage.will_fail_next(CALLS[kind], Transient("503"), times=len(RETRY_SECONDS))
    for _ in range(len(RETRY_SECONDS) + 1):
        engine.push()
        engine.let_time_pass()
    assert child(engine, kind, record_id).sync_reason == Reason.GAVE_UP
    engine.pull()
    engine.push()
    assert child(engine, kind, record_id).sync_reason == Reason.IN_STEP
    assert len(collection(engine, kind).by_id) == 1


def test_what_is_linked_to_another_contact_is_not_what_an_unanswered_create_made(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    engine.add_contact(company_id)
    engine.push()
    namesake = engine.add_contact(company_id)
    engine.sage.will_lose_the_answer("persons.create", applied=False)
    engine.push()
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.let_time_pass()
    engine.push()
    assert engine.contact(namesake).sync_reason == Reason.OUTCOME_UNKNOWN


def test_a_refusal_of_the_second_sending_says_nothing_of_the_first(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    order_id = engine.add_order(company_id)
    engine.sage.will_lose_the_answer("orders.create", applied=True)
    engine.push()
    engine.sage.will_fail_next("orders.create", Rejected({"code": "refused"}, {"status": "403"}))
    engine.let_time_pass()
    engine.push()
    assert engine.order(order_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.orders.by_id) == 1


def test_a_contact_renamed_before_its_create_was_answered_is_not_added_twice(engine: Engine) -> None:
    company_id, _ = company_in_sage(engine)
    contact_id = engine.add_contact(company_id)
    engine.sage.will_lose_the_answer("persons.create", applied=True)
    engine.push()
    engine.edit_contact(contact_id, name="Maria Neumann", email="neumann@alfki.example")
    engine.pull()
    engine.push()
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        (contact,) = work.session.scalars(select(Contact))
    assert contact.sync_reason == Reason.IN_STEP
    assert in_sage(engine, contact)["name"] == "Maria Neumann"
    assert len(engine.sage.persons.by_id) == 1


@both_kinds
def test_the_schema_refuses_a_second_open_create_of_each_kind(engine: Engine, kind: str) -> None:
    statement = (
        "INSERT INTO write_intent"
        " (connection_id, kind, record_id, operation, idempotency_key, fields, body, body_hash, state)"
        " VALUES (:connection, :kind, 1, 'create', :key, '{}', '{}', '', 'open')"
    )
    engine.sql(statement, kind=kind, key="a", connection=engine.connection_id)
    with pytest.raises(Exception, match="uq_write_intent_open_create"):
        engine.sql(statement, kind=kind, key="b", connection=engine.connection_id)


def test_a_value_of_an_order_that_sage_changes_is_not_taken_for_a_spelling_of_it(engine: Engine) -> None:
    company_id, parent = company_in_sage(engine)
    made = quote(engine, parent, number="")
    # Adding our number writes the whole quote, and Sage takes everything but the shipping.
    engine.pull()
    engine.sql("UPDATE sales_order SET shipping = 1.00")
    engine.sage.ignores = "shipping"
    engine.push()
    order = engine.order(1)
    assert (order.sync_reason, order.sync_detail) == (Reason.CONFLICT, {"code": "not_taken", "fields": ["shipping"]})
    assert engine.sage.orders.by_id[made.id].fields["shipping"] == "0.00"
    assert company_id == order.company_id
    # It is closed here, so that to save it is no remedy; to choose what is in Sage is one.
    assert keep(engine, 1, "theirs") == {"shipping": ("1.00", "0.00")}
    engine.push()
    assert (engine.order(1).sync_reason, engine.order(1).shipping) == (Reason.IN_STEP, 0)


def test_what_sage_refuses_to_change_of_an_order_is_for_a_person_to_choose(engine: Engine) -> None:
    """As of an invoice that was paid, which is found in Sage by the number of an order that says more here."""
    company_id, parent = company_in_sage(engine)
    order_id = engine.add_order(company_id, confirmed=False, number="77", notes="Leave it at the door.")
    quote(engine, parent, number="77", valid_until="2026-12-02", lines=engine.order(order_id).shared("lines"))
    refusal = {"status": "422", "code": "RecordInvalid", "message": "This invoice is paid and cannot be changed."}
    for _ in range(2):
        engine.sage.will_fail_next("orders.update", Rejected({"code": "refused"}, refusal))
    engine.pull()
    engine.push()
    told = {"code": "not_taken", "fields": ["notes"], "raw": refusal}
    assert (engine.order(order_id).sync_reason, engine.order(order_id).sync_detail) == (Reason.CONFLICT, told)
    assert keep(engine, order_id, "ours") == {"notes": ("Leave it at the door.", "")}
    engine.push()
    assert engine.order(order_id).sync_detail == told, "Sage still does not take it"
    keep(engine, order_id, "theirs")
    engine.push()
    assert (engine.order(order_id).sync_reason, engine.order(order_id).notes) == (Reason.IN_STEP, "")
    assert sum(one.operation == "create" and one.by == "us" for one in engine.sage.ledger) == 1, "the company's"


def keep(engine: Engine, order_id: int, side: Literal["ours", "theirs"]) -> dict[str, tuple[str, str]]:
    """Choose one side of all that is open of an order. Returns what was to be chosen, ours and theirs by field."""
    with engine.services.database.unit_of_work() as work:
        order = work.session.get_one(Order, order_id, options=[selectinload(Order.lines)])
        found = {one.field: (one.ours, one.theirs) for one in open_conflicts(work.session, order)}
        choose(work, order, dict.fromkeys(found, side), None)
        have_sent(work, order, work.session.get_one(Connection, engine.connection_id), cause="choice", user_id=None)
        work.commit()
        return found


# The engine's own housekeeping.


def test_a_pull_that_was_killed_is_ended_by_the_next_one(engine: Engine) -> None:
    def die() -> None:
        raise Crash

    engine.sage.during_next("orders.changed", die)
    with pytest.raises(Crash):
        engine.pull()
    engine.services.redis.delete(f"synclight:pull:{engine.connection_id}")
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        runs = work.session.scalars(select(SyncRun).order_by(SyncRun.id)).all()
    assert [run.finished_at is not None for run in runs] == [True, True]
    assert [bool(run.error) for run in runs] == [True, False]


def test_what_one_record_costs_the_database(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    execute = psycopg.Cursor.execute

    def count(cursor: Any, statement: Any, *rest: Any, **options: Any) -> Any:
        statements.append(statement)
        return execute(cursor, statement, *rest, **options)

    def cost_of(companies: int) -> int:
        for _ in range(companies):
            engine.add(code="")
        statements.clear()
        engine.push()
        return len(statements)

    monkeypatch.setattr(psycopg.Cursor, "execute", count)
    assert cost_of(4) - cost_of(1) == 3 * 4
    assert len(engine.sage.customers.by_id) == 5
