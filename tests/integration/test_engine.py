"""The engine on a real database, with a Sage in memory: both come in step, whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import selectinload

from tests.fake_sage import FakeSage
from webapp.companies.changes import create_company, edit_company
from webapp.companies.models import Company
from webapp.connection.models import AUTHORISE_AGAIN, CONNECTED, UNREACHABLE, Connection
from webapp.connection.queries import drift_of
from webapp.contacts.changes import create_contact, edit_contact
from webapp.contacts.models import Contact
from webapp.db import Changes
from webapp.orders.amounts import LineValues, read_lines
from webapp.orders.changes import confirm_order, create_order, edit_order
from webapp.orders.models import Order
from webapp.products.changes import create_product, edit_product
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import COMES_FROM, STATUS_OF, Reason, Status
from webapp.sync.conflicts import choose, open_conflicts
from webapp.sync.models import SyncCursor, SyncEvent, SyncRun, WriteIntent
from webapp.sync.resync import UnknownKeyError, restore, resync, unlink
from webapp.sync.transitions import queue
from workers.engine import push as push_module
from workers.engine.lease import Lease, LeaseLostError
from workers.engine.outcome import RETRY_SECONDS
from workers.engine.pull import pull
from workers.engine.push import drain
from workers.sage.connector import AuthoriseAgain, Connector, OutcomeUnknown, Rejected, Transient, Unreachable

LINES = [LineValues("Chai", Decimal(12), Decimal("18.00"), Decimal("5.40"), Decimal(20))]
MARIA = {"name": "Maria Anders", "role": "Sales Representative", "email": "maria@alfki.example"}
CHAI = {"code": "1", "name": "Chai", "unit_price": Decimal("18.00"), "unit": "10 boxes x 20 bags"}
GERMAN = {"name": "Alfreds Futterkiste", "code": "ALFKI", "city": "Berlin", "postal_code": "12209", "country": "DE"}
TABLES = ("company", "contact", "product", "sales_order")


class Crash(BaseException):
    """The process dies here: nothing of ours may catch it."""


class Engine:
    """The engine with what it needs, and what a test does with records: of one connection, to a business of its own."""

    def __init__(self, services: Services, business: str = "b" * 32) -> None:
        self.services = services
        self.sage = FakeSage()
        self.leases: list[Lease] = []
        with services.database.unit_of_work() as work:
            connection = Connection(api_url="http://sage.test/v3.1", state=CONNECTED, business_id=business)
            work.session.add(connection)
            work.session.flush()
            self.connection_id = connection.id
            # As after a first read of an empty Sage.
            for entity in ("customers", "persons", "products", "orders"):
                watermark = datetime(2026, 1, 1, tzinfo=UTC)
                work.session.add(SyncCursor(connection_id=connection.id, entity=entity, watermark=watermark))
            work.commit()

    @contextmanager
    def connect(self, services: Services, connection_id: int, before_write: Callable[[], None]) -> Iterator[Connector]:
        outer, self.sage.before_write = self.sage.before_write, before_write
        lease = getattr(before_write, "__self__", None)
        if isinstance(lease, Lease):
            self.leases.append(lease)
        try:
            yield self.sage
        finally:
            self.sage.before_write = outer

    def push(self, hands: int = 1) -> None:
        # A busy machine can need more than the 5 s after which a job makes way for the next one, which the edits asked for.
        with mock.patch.object(push_module, "LOOKS_EVERY", push_module.LONGEST):
            drain(self.services, self.connection_id, self.connect, hands)

    def pull(self) -> None:
        pull(self.services, self.connection_id, self.connect)

    def add(self, **values: object) -> int:
        with self.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.connection_id)
            company = create_company(work, {**GERMAN, **values}, connection, user_id=None, cause="edit")
            work.commit()
            return company.id

    def edit(self, company_id: int, **values: object) -> None:
        with self.services.database.unit_of_work() as work:
            company = work.session.get_one(Company, company_id, with_for_update=True)
            connection = work.session.get_one(Connection, self.connection_id)
            edit_company(work, company, values, connection, user_id=None)
            work.commit()

    def add_contact(self, company_id: int, **values: str) -> int:
        with self.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.connection_id)
            values = {**MARIA, **values}
            contact = create_contact(work, {"company_id": company_id, **values}, connection, user_id=None, cause="edit")
            work.commit()
            return contact.id

    def edit_contact(self, contact_id: int, **values: str) -> None:
        with self.services.database.unit_of_work() as work:
            contact = work.session.get_one(Contact, contact_id, with_for_update=True)
            edit_contact(work, contact, values, work.session.get_one(Connection, self.connection_id), user_id=None)
            work.commit()

    def add_order(self, company_id: int, *, confirmed: bool = True, **values: object) -> int:
        with self.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.connection_id)
            days = {"ordered_on": date(2026, 11, 2), "valid_until": date(2026, 12, 2)}
            order = create_order(
                work,
                {"company_id": company_id, **days, **values},
                LINES,
                connection,
                user_id=None,
                cause="edit",
                confirmed=confirmed,
            )
            work.commit()
            return order.id

    def edit_order(self, order_id: int, lines: Sequence[LineValues] | None = None, **values: object) -> None:
        with self.services.database.unit_of_work() as work:
            order = work.session.get_one(Order, order_id, with_for_update=True, options=[selectinload(Order.lines)])
            connection = work.session.get_one(Connection, self.connection_id)
            kept = read_lines(order.shared("lines"))
            edit_order(work, order, values, kept if lines is None else lines, connection, user_id=None)
            work.commit()

    def confirm_order(self, order_id: int) -> bool:
        with self.services.database.unit_of_work() as work:
            order = work.session.get_one(Order, order_id, with_for_update=True, options=[selectinload(Order.lines)])
            connection = work.session.get_one(Connection, self.connection_id)
            confirmed = confirm_order(work, order, connection, user_id=None)
            work.commit()
            return confirmed

    def add_product(self, **values: object) -> int:
        with self.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.connection_id)
            product = create_product(work, {**CHAI, **values}, connection, user_id=None, cause="edit")
            work.commit()
            return product.id

    def edit_product(self, product_id: int, **values: object) -> None:
        with self.services.database.unit_of_work() as work:
            product = work.session.get_one(Product, product_id, with_for_update=True)
            edit_product(work, product, values, work.session.get_one(Connection, self.connection_id), user_id=None)
            work.commit()

    def product(self, product_id: int) -> Product:
        with self.services.database.unit_of_work() as work:
            return work.session.get_one(Product, product_id)

    def contact(self, contact_id: int) -> Contact:
        with self.services.database.unit_of_work() as work:
            return work.session.get_one(Contact, contact_id)

    def order(self, order_id: int) -> Order:
        """An order with its lines."""
        with self.services.database.unit_of_work() as work:
            return work.session.get_one(Order, order_id, options=[selectinload(Order.lines)])

    def company(self, company_id: int) -> Company:
        with self.services.database.unit_of_work() as work:
            return work.session.get_one(Company, company_id)

    def connection(self) -> Connection:
        with self.services.database.unit_of_work() as work:
            return work.session.get_one(Connection, self.connection_id)

    def reasons(self, record_id: int, kind: str = "company") -> list[str]:
        """The reasons that the history shows, oldest first."""
        with self.services.database.unit_of_work() as work:
            wanted = select(SyncEvent.to_reason).where(SyncEvent.kind == kind, SyncEvent.record_id == record_id)
            return list(work.session.scalars(wanted.order_by(SyncEvent.id)))

    def sql(self, *statements: str, **values: Any) -> None:
        """Run these in one transaction. Several go to the database together, and take no values."""
        with self.services.database.engine.begin() as connection:
            connection.execute(text("; ".join(statements)), values)

    def let_time_pass(self) -> None:
        """As if what all records wait for, and what a dead worker held, were over."""
        self.sql(
            *(
                f"UPDATE {table} SET next_attempt_at = now() - interval '1 s', claimed_until = NULL"
                " WHERE sync_status = 'pending'"
                for table in TABLES
            ),
            "UPDATE sage_connection SET writer_until = NULL",
        )
        for lease in self.leases:
            lease.ends = 0.0

    def an_hour_passes(self) -> None:
        """As if all that happened, here and in Sage, had happened an hour earlier."""
        self.let_time_pass()
        self.sage.an_hour_passes()
        moments = {
            **dict.fromkeys(TABLES, ("sage_updated_at", "last_synchronised_at", "last_attempt_at")),
            "sync_cursor": ("watermark",),
            "sync_run": ("started_at", "finished_at"),
            "sync_event": ("at",),
            "write_intent": ("created_at", "finished_at"),
        }
        earlier = {
            table: ", ".join(f"{column} = {column} - interval '1 h'" for column in columns)
            for table, columns in moments.items()
        }
        self.sql(*(f"UPDATE {table} SET {columns}" for table, columns in earlier.items()))

    def two_sides(self, company_id: int) -> tuple[str, str]:
        """The name here and in Sage."""
        company = self.company(company_id)
        assert company.sage_id is not None
        return company.name, self.sage.customers.by_id[company.sage_id].fields["name"]


@pytest.fixture
def engine(services: Services) -> Engine:
    return Engine(services)


def test_a_customer_travels_to_sage(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.IN_STEP
    assert company.sage_id in engine.sage.customers.by_id
    assert company.agreed == engine.sage.customers.by_id[company.sage_id].fields
    assert company.last_synchronised_at is not None
    assert company.claim is None
    assert engine.reasons(company_id) == ["queued", "running", "in_step"]
    assert engine.sage.calls == ["customers.create"]


def test_a_second_push_does_nothing(engine: Engine) -> None:
    engine.add()
    engine.push()
    engine.sage.calls.clear()
    engine.push()
    assert engine.sage.calls == []


def test_a_prospect_stays_out(engine: Engine) -> None:
    company_id = engine.add(type="prospect")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.EXCLUDED
    assert engine.sage.calls == []
    engine.edit(company_id, type="customer")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_nothing_is_sent_before_the_customers_of_sage_were_read(engine: Engine) -> None:
    engine.sql("DELETE FROM sync_cursor")
    engine.sage.customers.add(**GERMAN)
    company_id = engine.add()
    engine.push()
    assert engine.sage.calls == []
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_an_edit_is_one_update(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    engine.edit(company_id, name="Alfreds neue Kiste")
    engine.push()
    assert engine.two_sides(company_id) == ("Alfreds neue Kiste", "Alfreds neue Kiste")
    assert engine.sage.calls == ["customers.create", "customers.read", "customers.update"]


def test_an_edit_while_sage_is_called_is_not_lost_and_not_green_too_early(engine: Engine) -> None:
    company_id = engine.add()
    seen: list[str] = []

    def edit() -> None:
        engine.edit(company_id, name="Edited meanwhile")
        seen.append(engine.company(company_id).sync_reason)

    engine.sage.during_next("customers.create", edit)
    engine.push()
    assert seen == ["queued"]
    assert engine.two_sides(company_id) == ("Edited meanwhile", "Edited meanwhile")
    assert engine.reasons(company_id) == ["queued", "running", "queued", "running", "in_step"]


@pytest.mark.parametrize("lost", [1, 2])
def test_an_edit_after_an_update_without_an_answer_is_no_conflict_with_ourselves(engine: Engine, lost: int) -> None:
    company_id = engine.add()
    engine.push()
    for number in range(lost):
        engine.edit(company_id, name=f"Sent {number}")
        engine.sage.will_lose_the_answer("customers.update", applied=number == 0)
        engine.push()
        assert engine.company(company_id).sync_reason == Reason.RETRYING
    engine.edit(company_id, name="Edited before the next try")
    engine.push()
    assert engine.two_sides(company_id) == ("Edited before the next try",) * 2
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_an_edit_in_sage_after_an_update_without_an_answer_is_a_conflict(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    engine.edit(company_id, name="Sent")
    engine.sage.will_lose_the_answer("customers.update", applied=True)
    engine.push()
    engine.sage.customers.edit(engine.company(company_id).sage_id or "", name="Theirs")
    engine.edit(company_id, name="Ours")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.CONFLICT
    assert engine.two_sides(company_id) == ("Ours", "Theirs")


def test_different_fields_merge_without_asking(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.edit(sage_id, city="Potsdam")
    engine.edit(company_id, name="Alfreds neue Kiste")
    engine.push()
    company = engine.company(company_id)
    assert (company.name, company.city) == ("Alfreds neue Kiste", "Potsdam")
    assert engine.sage.customers.by_id[sage_id].fields["name"] == "Alfreds neue Kiste"
    assert company.sync_reason == Reason.IN_STEP


@pytest.mark.parametrize(("side", "name"), [("ours", "Ours"), ("theirs", "Theirs")])
def test_the_same_field_on_both_sides_is_for_a_person(engine: Engine, side: Any, name: str) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.edit(sage_id, name="Theirs")
    engine.edit(company_id, name="Ours")
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_status, company.sync_reason) == ("review", "conflict")
    assert company.sync_detail["fields"] == ["name"]
    assert engine.two_sides(company_id) == ("Ours", "Theirs")
    with engine.services.database.unit_of_work() as work:
        company = work.session.get_one(Company, company_id)
        (conflict,) = open_conflicts(work.session, company)
        assert (conflict.base, conflict.ours, conflict.theirs) == (GERMAN["name"], "Ours", "Theirs")
        choose(work, company, {"name": side}, None)
        queue(work, company, work.session.get_one(Connection, engine.connection_id), cause="choice")
        work.commit()
    engine.push()
    assert engine.two_sides(company_id) == (name, name)
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_each_change_that_sage_alone_made_stands_in_the_history(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id or ""
    for number, city in enumerate(("Potsdam", "Cottbus"), start=1):
        engine.sage.clock = lambda number=number: datetime.now(UTC) + timedelta(seconds=5 * number)
        engine.sage.customers.edit(sage_id, city=city)
        engine.pull()
        assert engine.company(company_id).city == city
    assert engine.reasons(company_id) == ["queued", "running", "in_step", "in_step", "in_step"]


def test_saving_a_conflict_keeps_what_is_here(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.edit(sage_id, name="Theirs")
    engine.edit(company_id, name="Ours")
    engine.push()
    engine.edit(company_id, name="Ours")
    engine.push()
    assert engine.two_sides(company_id) == ("Ours", "Ours")


def test_a_missing_country_is_refused_with_its_remedy_and_heals(engine: Engine) -> None:
    company_id = engine.add(country="")
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_status, company.sync_reason) == ("review", "rejected")
    assert company.sync_detail == {"code": "missing", "field": "country"}
    engine.edit(company_id, country="DE")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


@pytest.mark.parametrize("applied", [True, False])
def test_a_create_without_an_answer_makes_one_customer(engine: Engine, applied: bool) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=applied)
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_status, company.sync_reason) == ("pending", "retrying")
    assert company.sync_detail["attempt"] == 1
    engine.edit(company_id, name="Edited before the second try")
    engine.push()
    assert len(engine.sage.customers.by_id) == 1
    assert engine.two_sides(company_id) == ("Edited before the second try",) * 2
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


@pytest.mark.parametrize("second", [Transient("429", after=1), Unreachable("gone"), AuthoriseAgain("revoked")])
def test_a_fault_of_the_second_sending_says_nothing_of_the_first(engine: Engine, second: Exception) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.sage.will_fail_next("customers.create", second)
    engine.let_time_pass()
    engine.push()
    engine.pull()
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_a_crash_right_after_the_create_makes_one_customer(engine: Engine) -> None:
    company_id = engine.add()

    def die() -> None:
        raise Crash

    engine.sage.during_next("customers.create", die)
    with pytest.raises(Crash):
        engine.push()
    assert engine.company(company_id).sync_reason == Reason.RUNNING
    assert len(engine.sage.customers.by_id) == 1
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_the_pull_does_not_take_our_unanswered_create_for_a_stranger(engine: Engine) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        assert len(work.session.scalars(select(Company)).all()) == 1
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_an_old_unanswered_create_is_never_repeated_blindly(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=False)
    engine.push()
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.let_time_pass()
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_status, company.sync_reason) == ("review", "outcome_unknown")
    assert engine.sage.customers.by_id == {}


def test_an_old_unanswered_create_that_was_applied_is_found(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_a_passing_fault_is_pending_until_its_tries_are_used_up(engine: Engine) -> None:
    company_id = engine.add()
    tries = len(RETRY_SECONDS)
    engine.sage.will_fail_next("customers.create", Transient("503", {"status": "503"}), times=tries + 1)
    for attempt in range(1, tries + 1):
        engine.push()
        company = engine.company(company_id)
        assert (company.sync_status, company.sync_reason) == ("pending", "retrying")
        assert (company.sync_detail["attempt"], company.sync_detail["of"]) == (attempt, tries)
        assert company.next_attempt_at is not None
        assert company.last_attempt_at is not None
        assert company.next_attempt_at >= company.last_attempt_at + timedelta(seconds=RETRY_SECONDS[attempt - 1])
        engine.let_time_pass()
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_status, company.sync_reason) == ("review", "gave_up")
    assert company.sync_detail["raw"] == {"status": "503"}
    # Somebody who saves it asks anew, and has all tries again.
    engine.sage.will_fail_next("customers.create", Transient("503", {"status": "503"}))
    engine.edit(company_id, city="Potsdam")
    engine.push()
    assert engine.company(company_id).sync_detail["attempt"] == 1


def test_sage_asks_for_a_longer_wait(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.will_fail_next("customers.create", Transient("429", after=300))
    engine.push()
    company = engine.company(company_id)
    assert company.next_attempt_at is not None
    assert company.last_attempt_at is not None
    assert company.next_attempt_at >= company.last_attempt_at + timedelta(seconds=300)


def test_sage_away_is_shown_once_and_never_red(engine: Engine) -> None:
    first, second = engine.add(), engine.add(code="ZWEI", name="Zwei")
    engine.sage.go_away()
    engine.push()
    assert engine.connection().state == UNREACHABLE
    for company_id in (first, second):
        company = engine.company(company_id)
        assert (company.sync_status, company.sync_reason) == ("pending", "waiting_for_sage")
        assert company.sync_detail["code"] == "waiting_for_sage"
    engine.edit(first, name="Edited while Sage was away")
    assert engine.company(first).sync_reason == Reason.WAITING_FOR_SAGE
    engine.pull()
    assert engine.connection().state == UNREACHABLE
    engine.sage.come_back()
    engine.pull()
    assert engine.connection().state == CONNECTED
    engine.push()
    assert engine.two_sides(first) == ("Edited while Sage was away",) * 2
    assert {engine.company(one).sync_reason for one in (first, second)} == {Reason.IN_STEP}
    assert len(engine.sage.customers.by_id) == 2


def test_a_create_that_got_no_answer_because_sage_went_away_waits_for_sage(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.during_next("customers.create", engine.sage.go_away)
    engine.sage.will_fail_next("customers.create", OutcomeUnknown("dropped"), applied=True)
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.WAITING_FOR_SAGE
    assert engine.connection().state == UNREACHABLE
    engine.sage.come_back()
    engine.pull()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_refused_tokens_are_a_fault_of_the_connection(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.revoke()
    engine.push()
    assert engine.connection().state == AUTHORISE_AGAIN
    assert engine.company(company_id).sync_reason == Reason.WAITING_FOR_SAGE


def test_a_page_from_before_our_write_does_not_undo_it(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    engine.edit(company_id, phone="1")
    engine.push()

    def write() -> None:
        engine.edit(company_id, phone="2")
        engine.push()
        # Of an answer that holds no more of a person than its name, only the customer's own time is known.
        engine.sql("UPDATE company SET sage_updated_at = sage_updated_at - interval '1 min'")

    engine.sage.during_next("customers.changed", write)
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert (company.phone, company.sync_reason) == ("2", Reason.IN_STEP)
    assert engine.sage.customers.by_id[company.sage_id or ""].fields["phone"] == "2"


def test_one_poisonous_record_does_not_stop_the_others(engine: Engine) -> None:
    first, second = engine.add(), engine.add(code="ZWEI", name="Zwei")
    engine.sage.will_fail_next("customers.create", ValueError("a bug of ours"))
    engine.push()
    assert engine.company(first).sync_reason == Reason.RETRYING
    assert engine.company(second).sync_reason == Reason.IN_STEP


def test_a_value_that_sage_does_not_take_is_not_lost_and_not_green(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    engine.sage.ignores = "phone"
    engine.edit(company_id, phone="030 555")
    engine.push()
    company = engine.company(company_id)
    assert company.phone == "030 555"
    assert (company.sync_status, company.sync_reason) == ("review", "rejected")
    assert company.sync_detail == {"code": "altered", "field": "phone"}
    engine.sage.ignores = ""
    engine.edit(company_id)
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_an_older_state_of_sage_never_undoes_a_newer_one(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    # Sage's times are whole seconds, so two changes must be apart to be told apart.
    engine.sage.clock = lambda: datetime.now(UTC) + timedelta(seconds=5)
    engine.edit(company_id, name="Newer")
    engine.push()
    engine.sage.will_read_stale()
    with engine.services.database.unit_of_work() as work:
        resync(work, [f"company:{company_id}"], None)
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.RETRYING
    assert engine.two_sides(company_id) == ("Newer", "Newer")
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert engine.two_sides(company_id) == ("Newer", "Newer")


def test_a_worker_that_was_overtaken_writes_nothing(engine: Engine) -> None:
    company_id = engine.add()

    def overtake() -> None:
        engine.let_time_pass()
        forbids = engine.sage.before_write
        engine.push()
        assert engine.company(company_id).sync_reason == Reason.IN_STEP
        engine.edit(company_id, name="After the takeover")
        engine.sage.before_write = forbids

    engine.sage.during_next("customers.create", overtake)
    engine.push()
    assert len(engine.sage.customers.by_id) == 1
    engine.let_time_pass()
    engine.push()
    assert engine.two_sides(company_id) == ("After the takeover",) * 2


def test_a_lease_that_ran_out_forbids_the_write(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    company_id = engine.add()
    real = Lease.check

    def late(lease: Lease) -> None:
        lease.ends -= 60
        real(lease)

    monkeypatch.setattr(Lease, "check", late)
    engine.push()
    assert engine.sage.customers.by_id == {}
    assert engine.company(company_id).sync_reason == Reason.RUNNING


def test_only_one_writer_for_a_business(engine: Engine) -> None:
    engine.add()
    lease = Lease.take(engine.services.database, engine.connection_id)
    assert lease is not None
    engine.push()
    assert engine.sage.calls == []
    lease.release()
    engine.push()
    assert engine.sage.calls == ["customers.create"]


def test_a_lost_lease_cannot_be_renewed(engine: Engine) -> None:
    lease = Lease.take(engine.services.database, engine.connection_id)
    assert lease is not None
    engine.sql("UPDATE sage_connection SET writer_until = now() - interval '1 s'")
    assert Lease.take(engine.services.database, engine.connection_id) is not None
    lease.ends -= 10
    with pytest.raises(LeaseLostError):
        lease.renew()
    # Nor does its end let a third process in beside the second one.
    lease.release()
    assert Lease.take(engine.services.database, engine.connection_id) is None


def test_a_change_in_sage_arrives(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.clock = lambda: datetime.now(UTC) + timedelta(seconds=5)
    engine.sage.customers.edit(sage_id, city="Potsdam", phone="030 1")
    before = engine.company(company_id).sync_version
    engine.pull()
    company = engine.company(company_id)
    assert (company.city, company.phone) == ("Potsdam", "030 1")
    assert company.sync_reason == Reason.IN_STEP
    assert company.sync_version > before
    calls = list(engine.sage.calls)
    engine.push()
    assert engine.sage.calls == calls, "taking over a change of Sage must not send anything"


def test_the_echo_of_our_own_write_changes_nothing(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    version = engine.company(company_id).sync_version
    engine.pull()
    engine.pull()
    assert engine.company(company_id).sync_version == version


def test_a_change_in_sage_beside_an_edit_here_is_left_to_the_push(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.edit(sage_id, city="Potsdam")
    engine.edit(company_id, name="Ours")
    engine.pull()
    assert engine.company(company_id).city == "Berlin"
    engine.push()
    company = engine.company(company_id)
    assert (company.city, company.name) == ("Potsdam", "Ours")


def test_new_customers_of_sage_become_companies(engine: Engine) -> None:
    for number in range(5):
        engine.sage.customers.add(name=f"Kunde {number}", code=f"K{number}")
    engine.sage.page_size = 2
    engine.pull()
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        found = work.session.scalars(select(Company).order_by(Company.code)).all()
        assert [company.code for company in found] == ["K0", "K1", "K2", "K3", "K4"]
        assert {company.sync_reason for company in found} == {"in_step"}
        run = work.session.scalars(select(SyncRun).order_by(SyncRun.id)).first()
        assert run is not None
        assert (run.seen, run.created, run.failed) == (5, 5, 0)


def test_a_customer_that_both_sides_have_is_linked_not_doubled(engine: Engine) -> None:
    engine.sql("DELETE FROM sync_cursor")
    company_id = engine.add(phone="030 1")
    engine.sage.customers.add(**{**GERMAN, "tax_number": "DE1"})
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.IN_STEP
    assert (company.phone, company.tax_number) == ("030 1", "DE1")
    assert len(engine.sage.customers.by_id) == 1


def test_a_doubtful_match_is_for_a_person_and_sends_nothing(engine: Engine) -> None:
    engine.sql("DELETE FROM sync_cursor")
    twins = [engine.add(code=""), engine.add(code="")]
    prospect = engine.add(code="", type="prospect")
    engine.sage.customers.add(**{**GERMAN, "code": ""})
    engine.pull()
    engine.push()
    for company_id in twins:
        assert engine.company(company_id).sync_reason == Reason.POSSIBLE_DUPLICATE
    assert engine.company(prospect).sync_reason == Reason.EXCLUDED
    assert len(engine.sage.customers.by_id) == 1


def test_a_deletion_in_sage_is_for_a_person(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.delete(sage_id)
    engine.pull()
    company = engine.company(company_id)
    assert (company.sync_status, company.sync_reason) == ("review", "deleted_in_sage")
    with engine.services.database.unit_of_work() as work:
        company = work.session.get_one(Company, company_id)
        restore(work, company, work.session.get_one(Connection, engine.connection_id), None)  # type: ignore[arg-type]
        work.commit()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_unlinked_stays_out_until_a_person_asks(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.delete(sage_id)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        unlink(work, work.session.get_one(Company, company_id), None)  # type: ignore[arg-type]
        work.commit()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.UNLINKED
    assert engine.sage.customers.by_id == {}
    # One that looks like it in Sage is no such person.
    engine.sage.customers.add(**GERMAN)
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.sage_id) == ("unlinked", None)


def test_deleted_and_made_anew_in_sage_is_linked_again(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    engine.sage.customers.delete(sage_id)
    again = engine.sage.customers.add(**GERMAN)
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.sage_id) == ("in_step", again.id)
    with engine.services.database.unit_of_work() as work:
        assert len(work.session.scalars(select(Company)).all()) == 1


def test_a_pull_that_breaks_off_does_not_move_the_watermark(engine: Engine) -> None:
    engine.sage.page_size = 1
    engine.sage.customers.add(name="Eins", code="1")
    engine.sage.customers.add(name="Zwei", code="2")
    engine.sql("UPDATE sync_cursor SET watermark = '2026-01-01'")
    engine.sage.will_fail_next("customers.changed", Transient("500"), applied=True)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        cursor = work.session.get_one(SyncCursor, (engine.connection_id, "customers"))
        assert cursor.watermark == datetime(2026, 1, 1, tzinfo=UTC)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        assert len(work.session.scalars(select(Company)).all()) == 2


def test_resync_twice_in_a_row_and_while_it_runs(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()

    def ask() -> None:
        with engine.services.database.unit_of_work() as work:
            assert resync(work, [f"company:{company_id}"], None) == 1

    ask()
    ask()
    engine.sage.during_next("customers.read", ask)
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert engine.sage.calls.count("customers.read") == 2
    assert engine.sage.calls.count("customers.create") == 1


def test_resync_of_a_module_takes_every_customer_and_no_prospect(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.sync.resync._BATCH", 2)
    customers = [engine.add(code=f"K{number}") for number in range(5)]
    prospect = engine.add(code="P", type="prospect")
    engine.push()
    told: list[Changes] = []
    engine.services.database.after_commit = lambda changes: told.append(Changes(changes.touched, changes.pushes))
    with engine.services.database.unit_of_work() as work:
        assert resync(work, ["module:companies"], None) == 5
    assert {engine.company(one).sync_reason for one in customers} == {"queued"}
    # Browsers are told of each of them, and the workers of their connection.
    assert {key for changes in told for key in changes.touched} >= {f"company:{one}" for one in customers}
    assert {one for changes in told for one in changes.pushes} == {engine.connection_id}
    assert engine.company(prospect).sync_reason == Reason.EXCLUDED


def test_resync_of_what_is_not_there(engine: Engine) -> None:
    for key in ("company:99", "company:x", "module:nothing", ""):
        with engine.services.database.unit_of_work() as work, pytest.raises(UnknownKeyError):
            resync(work, [key], None)


def test_a_job_makes_way_after_a_while(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_module, "LONGEST", timedelta(0))
    ids = [engine.add(code=f"K{number}") for number in range(3)]
    # As when the job that the edits asked for has begun.
    engine.services.redis.delete("rq:queue:push")
    engine.services.jobs.push_begins(engine.connection_id)
    engine.push()
    assert [engine.company(one).sync_reason for one in ids] == ["in_step", "queued", "queued"]
    assert engine.services.redis.llen("rq:queue:push") == 1


def test_every_write_to_sage_has_its_intent_and_its_history(engine: Engine) -> None:
    company_id = engine.add()
    engine.push()
    engine.edit(company_id, name="Anders")
    engine.push()
    with engine.services.database.unit_of_work() as work:
        intents = work.session.scalars(select(WriteIntent).order_by(WriteIntent.id)).all()
    assert [(one.operation, one.state) for one in intents] == [("create", "done"), ("update", "done")]
    assert engine.reasons(company_id).count("in_step") == len(engine.sage.ledger)


def test_the_schema_refuses_a_second_open_create(engine: Engine) -> None:
    company_id = engine.add()
    statement = (
        "INSERT INTO write_intent"
        " (connection_id, kind, record_id, operation, idempotency_key, fields, body, body_hash, state)"
        " VALUES (:connection, 'company', :id, 'create', :key, '{}', '{}', '', 'open')"
    )
    engine.sql(statement, id=company_id, key="a", connection=engine.connection_id)
    with pytest.raises(Exception, match="uq_write_intent_open_create"):
        engine.sql(statement, id=company_id, key="b", connection=engine.connection_id)


def test_a_rejection_by_sage_names_the_remedy_and_keeps_what_sage_said(engine: Engine) -> None:
    company_id = engine.add()
    raw = {"status": "422", "code": "RecordInvalid", "message": "is invalid", "request_id": "r"}
    engine.sage.will_fail_next("customers.create", Rejected({"code": "malformed", "field": "email"}, raw))
    engine.push()
    detail = engine.company(company_id).sync_detail
    assert detail == {"code": "malformed", "field": "email", "raw": raw}
    with engine.services.database.unit_of_work() as work:
        intents = work.session.scalars(select(WriteIntent.state)).all()
    assert intents == ["refused"]


def test_a_record_changed_to_prospect_while_sage_is_called_stays_out(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.during_next("customers.create", lambda: engine.edit(company_id, type="prospect"))
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.EXCLUDED
    assert company.sage_id is not None


def test_paused_means_paused(engine: Engine) -> None:
    company_id = engine.add()
    with engine.services.database.unit_of_work() as work:
        work.session.execute(update(Connection).values(state="paused"))
        work.session.commit()
    engine.push()
    engine.pull()
    assert engine.sage.calls == []
    assert engine.company(company_id).sync_status == "pending"


def test_a_tombstone_that_never_came_is_found_when_all_customers_are_read(engine: Engine) -> None:
    company_id, sage_id = add_in_step(engine)
    engine.sage.customers.delete(sage_id)
    engine.sage.customers.tombstones.clear()
    engine.pull()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    a_day_passes(engine)
    engine.pull()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.DELETED_IN_SAGE
    assert told_of_drift(engine) == [("companies", Status.REVIEW, 1)]


def test_a_change_that_no_reading_showed_is_found_when_all_customers_are_read(engine: Engine) -> None:
    company_id, sage_id = add_in_step(engine)
    later = datetime.now(UTC) + timedelta(seconds=2)
    engine.sage.clock = lambda: later
    engine.sage.customers.edit(sage_id, city="Leeds")
    # As where pages shifted while they were read, for longer than the overlap.
    engine.sql("UPDATE sync_cursor SET watermark = now() + interval '1 h' WHERE entity = 'customers'")
    engine.pull()
    assert engine.company(company_id).city == "Berlin"
    a_day_passes(engine)
    engine.pull()
    engine.push()
    assert engine.company(company_id).city == "Leeds"


def add_in_step(engine: Engine, **values: str) -> tuple[int, str]:
    """Add a company that Sage has and that was read from there. Returns its id, and that of its customer."""
    company_id = engine.add(**values)
    engine.push()
    engine.pull()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    return company_id, sage_id


def a_day_passes(engine: Engine) -> None:
    engine.sql("UPDATE sync_cursor SET watermark = now() - interval '25 h' WHERE entity = 'customers, whole'")


def test_a_backup_that_was_put_back_in_sage_is_noticed_when_all_customers_are_read(engine: Engine) -> None:
    engine.sage.clock = lambda: datetime.now(UTC) - timedelta(hours=2)
    company_id, sage_id = add_in_step(engine, name="Of the backup")
    backup = engine.sage.customers.by_id[sage_id]
    engine.sage.clock = lambda: datetime.now(UTC)
    engine.edit(company_id, name="Since the backup")
    engine.push()
    engine.pull()
    engine.sage.customers.by_id[sage_id] = backup
    a_day_passes(engine)
    engine.sql("UPDATE company SET last_synchronised_at = now() - interval '6 min'")
    engine.pull()
    assert engine.company(company_id).sync_reason == Reason.QUEUED
    assert last_run(engine) == (1, 1)
    assert told_of_drift(engine) == [("companies", Status.PENDING, 1)]
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert engine.two_sides(company_id) == ("Of the backup", "Of the backup")
    assert told_of_drift(engine) == [("companies", Status.SYNCHRONISED, 1)]
    a_day_passes(engine)
    engine.pull()
    assert last_run(engine) == (1, 0)


def test_a_record_that_was_changed_past_us_is_noticed_when_all_customers_are_read(engine: Engine) -> None:
    company_id, _ = add_in_step(engine, name="Of both")
    engine.sql("UPDATE company SET name = 'By hand'")
    engine.pull()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    a_day_passes(engine)
    engine.pull()
    assert last_run(engine) == (1, 1)
    engine.push()
    assert engine.two_sides(company_id) == ("By hand", "By hand")


def test_what_was_compared_while_all_customers_were_read_has_not_drifted(engine: Engine) -> None:
    engine.sage.clock = lambda: datetime.now(UTC) - timedelta(hours=2)
    company_id, _ = add_in_step(engine, name="Of the page")
    engine.sage.clock = lambda: datetime.now(UTC)
    engine.sql("UPDATE sync_cursor SET watermark = now() WHERE entity = 'customers'")
    a_day_passes(engine)

    def meanwhile() -> None:
        engine.edit(company_id, name="Since the page")
        engine.push()

    engine.sage.during_next("customers.changed", meanwhile)
    engine.pull()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert last_run(engine) == (1, 0)
    assert engine.two_sides(company_id) == ("Since the page", "Since the page")


def test_a_page_that_lags_behind_our_write_is_no_drift(engine: Engine) -> None:
    engine.sage.clock = lambda: datetime.now(UTC) - timedelta(hours=2)
    company_id, sage_id = add_in_step(engine, name="Before our write")
    before = engine.sage.customers.by_id[sage_id]
    engine.sage.clock = lambda: datetime.now(UTC)
    engine.edit(company_id, name="Our write")
    engine.push()
    after = engine.sage.customers.by_id[sage_id]
    a_day_passes(engine)
    # The page and the read of that one record lag behind.
    engine.sage.customers.by_id[sage_id] = before
    engine.pull()
    engine.push()
    assert engine.company(company_id).name == "Our write"
    assert last_run(engine) == (1, 0)
    engine.sage.customers.by_id[sage_id] = after
    engine.pull()
    engine.push()
    assert engine.two_sides(company_id) == ("Our write", "Our write")


def last_run(engine: Engine) -> tuple[int, int]:
    """How many records the last pull compared, and how many of them had drifted apart."""
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun).order_by(SyncRun.id.desc()).limit(1)).one()
        return run.compared, run.drifted


def test_the_schema_knows_what_can_follow_upon_what(engine: Engine) -> None:
    possible = set()
    with engine.services.database.engine.connect() as connection:
        for before, after in product(Reason, Reason):
            event = {"kind": "company", "record_id": 1, "detail": {}, "cause": "worker"}
            with suppress(IntegrityError), connection.begin_nested():
                connection.execute(insert(SyncEvent).values(from_reason=before, to_reason=after, **event))
                possible.add((before, after))
    assert possible == {
        (before, after) for before, after in product(Reason, Reason) if before in COMES_FROM.get(after, Reason)
    }


def test_the_schema_knows_the_status_of_each_reason(engine: Engine) -> None:
    with engine.services.database.engine.connect() as connection:
        told = {reason: connection.scalar(select(func.status_of(reason))) for reason in [*Reason, "unknown"]}
    assert told == {**STATUS_OF, "unknown": ""}
    company_id = engine.add(name="Délices")
    with (
        engine.services.database.unit_of_work() as work,
        pytest.raises(IntegrityError, match="ck_company_status_and_reason"),
    ):
        work.session.execute(update(Company).where(Company.id == company_id).values(sync_status="synchronised"))


def told_of_drift(engine: Engine) -> Sequence[tuple[str, Status, int]]:
    """What is told of what the last pull found out of step."""
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun).order_by(SyncRun.id.desc()).limit(1)).one()
        return drift_of(work.session, run)
