"""The engine under attack: orders of events, clocks and values that nobody plans for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from time import monotonic
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select, text

from tests.integration.test_engine import GERMAN, Crash, Engine
from webapp.companies.models import Company
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, UNREACHABLE, Connection
from webapp.db import Changes, UnitOfWork
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.conflicts import lost_values, open_conflicts
from webapp.sync.models import Conflict, SyncCursor, SyncRun
from webapp.sync.resync import resync, unlink
from webapp.sync.sending import may_have_been_made
from workers import jobs
from workers.engine import pull as pull_module
from workers.engine import push as push_module
from workers.engine import strangers
from workers.engine.claim import take_in_hand
from workers.engine.due import first_due
from workers.engine.lease import Lease, LeaseLostError
from workers.engine.match import match
from workers.engine.outcome import RETRY_SECONDS
from workers.engine.pull import pull
from workers.sage.connector import AuthoriseAgain, Rejected, Transient, Unreachable


@pytest.fixture
def engine(services: Services) -> Engine:
    return Engine(services)


def later(engine: Engine, seconds: int = 5) -> None:
    """Sage's clock goes on, so that two changes have different times."""
    engine.sage.clock = lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def linked(engine: Engine, **values: str) -> tuple[int, str]:
    """A company that is in step, and the id of its customer."""
    company_id = engine.add(**values)
    engine.push()
    sage_id = engine.company(company_id).sage_id
    assert sage_id
    return company_id, sage_id


def companies(engine: Engine) -> list[Company]:
    with engine.services.database.unit_of_work() as work:
        return list(work.session.scalars(select(Company).order_by(Company.id)))


def set_state(engine: Engine, state: str) -> None:
    with engine.services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, engine.connection_id, with_for_update=True)
        change_state(work, connection, state)
        work.commit()


def ask_to_resync(engine: Engine, key: str) -> None:
    with engine.services.database.unit_of_work() as work:
        resync(work, [key], None)


# What waits for a person, or for its time, is left alone by the pull.


def test_a_conflict_is_not_asked_anew_with_every_pull(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    engine.sage.customers.edit(sage_id, name="Theirs")
    engine.edit(company_id, name="Ours")
    engine.push()
    before = engine.reasons(company_id)
    for _ in range(3):
        engine.pull()
        engine.push()
    assert engine.company(company_id).sync_reason == Reason.CONFLICT
    assert engine.reasons(company_id) == before


def test_a_conflict_is_looked_at_again_when_sage_changes_once_more(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    engine.sage.customers.edit(sage_id, name="Theirs")
    engine.edit(company_id, name="Ours")
    engine.push()
    later(engine)
    engine.sage.customers.edit(sage_id, name="Ours")
    engine.pull()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_what_sage_refuses_is_not_sent_again_with_every_pull(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    later(engine)
    engine.sage.customers.edit(sage_id, city="Potsdam")
    engine.edit(company_id, country="")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.REJECTED
    engine.pull()
    engine.push()
    before = engine.reasons(company_id)
    for _ in range(3):
        engine.pull()
        engine.push()
    assert engine.company(company_id).sync_reason == Reason.REJECTED
    assert engine.reasons(company_id) == before


def test_a_pull_does_not_shorten_the_wait_of_a_retry(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    later(engine)
    engine.sage.customers.edit(sage_id, city="Potsdam")
    engine.edit(company_id, name="Ours")
    engine.sage.will_fail_next("customers.update", Transient("503", after=3000))
    engine.push()
    due = engine.company(company_id).next_attempt_at
    engine.pull()
    company = engine.company(company_id)
    assert (company.sync_reason, company.attempts, company.next_attempt_at) == ("retrying", 1, due)


def test_a_doubt_is_not_dropped_because_sage_changes(engine: Engine) -> None:
    for _ in range(2):
        engine.add(code="")
    remote = engine.sage.customers.add(**{**GERMAN, "code": ""})
    engine.pull()
    later(engine)
    engine.sage.customers.edit(remote.id, phone="030 1")
    engine.pull()
    engine.push()
    assert {company.sync_reason for company in companies(engine)} == {Reason.POSSIBLE_DUPLICATE}


# Values that cannot be stored here.


def test_a_code_of_sage_that_another_company_here_has_is_shown_by_the_pull(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    other = engine.add(code="TAKEN", name="Other", type="prospect")
    later(engine)
    engine.sage.customers.edit(sage_id, code="TAKEN")
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.code) == (Reason.REJECTED, "ALFKI")
    assert company.sync_detail["code"] == "code_in_use"
    assert company.sync_detail["value"] == "TAKEN"
    engine.pull()
    assert engine.company(company_id).sync_version == company.sync_version
    engine.edit(other, code="FREE")
    ask_to_resync(engine, f"company:{company_id}")
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.code) == (Reason.IN_STEP, "TAKEN")


def test_a_code_of_sage_that_another_company_here_has_ends_the_push_of_that_record(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    engine.add(code="TAKEN", name="Other", type="prospect")
    engine.sage.customers.edit(sage_id, code="TAKEN")
    engine.edit(company_id, name="Edited")
    second = engine.add(code="ZWEI", name="Zwei")
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.REJECTED
    assert company.sync_detail["code"] == "code_in_use"
    assert company.name == "Edited"
    assert engine.company(second).sync_reason == Reason.IN_STEP


def test_a_new_customer_of_sage_whose_code_is_taken_here_is_not_lost(engine: Engine) -> None:
    company_id, _ = linked(engine)
    set_state(engine, UNREACHABLE)
    engine.edit(company_id, code="NEU")
    engine.sage.customers.add(name="Stranger", code="NEU")
    set_state(engine, CONNECTED)
    engine.pull()
    stranger = companies(engine)[-1]
    assert (stranger.name, stranger.code, stranger.sync_reason) == ("Stranger", "", Reason.REJECTED)
    assert stranger.sync_detail == {"code": "code_in_use", "field": "code", "value": "NEU"}
    engine.push()
    assert engine.company(company_id).sync_detail["code"] == "code_taken"
    engine.edit(company_id, code="ALFKI")
    ask_to_resync(engine, stranger.key)
    engine.push()
    assert [(one.code, one.sync_reason) for one in companies(engine)] == [("ALFKI", "in_step"), ("NEU", "in_step")]


def test_a_value_too_long_for_an_index_stops_neither_the_pull_nor_the_others(engine: Engine) -> None:
    # Nothing that can be compressed: the index keeps what is short only after compression.
    long = "".join(f"{number * 7919 % 99991:05d}" for number in range(2_000))
    engine.sage.customers.add(name=long, code="LONG")
    engine.sage.customers.add(name="Short", code="SHORT")
    engine.pull()
    assert [company.name for company in companies(engine)] == ["Short"]
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun)).one()
        assert (run.failed, run.error) == (1, None)
    company_id, sage_id = linked(engine)
    later(engine)
    engine.sage.customers.edit(sage_id, name=long)
    ask_to_resync(engine, f"company:{company_id}")
    engine.push()
    assert engine.company(company_id).sync_detail["code"] == "not_stored"


# The circuit.


@pytest.mark.parametrize("ended", [PAUSED, CONNECTING])
@pytest.mark.parametrize("error", [Unreachable("gone"), AuthoriseAgain("revoked")])
def test_a_pause_or_an_end_outlives_a_fault_of_the_connection(engine: Engine, error: Exception, ended: str) -> None:
    engine.add()

    def ended_and_gone() -> None:
        set_state(engine, ended)
        engine.sage._down = error  # type: ignore[assignment]
        raise error

    engine.sage.during_next("customers.create", ended_and_gone)
    engine.push()
    assert engine.connection().state == ended
    assert engine.company(1).sync_reason == Reason.WAITING_FOR_SAGE


@pytest.mark.parametrize("ended", [PAUSED, CONNECTING])
def test_a_pause_or_an_end_outlives_the_reading_that_was_under_way(engine: Engine, ended: str) -> None:
    company_id = engine.add()
    engine.sage.during_next("customers.changed", lambda: set_state(engine, ended))
    engine.pull()
    engine.push()
    assert engine.connection().state == ended
    assert engine.company(company_id).sync_detail["state"] == ended
    assert "customers.create" not in engine.sage.calls


def test_a_drain_stops_at_a_pause(engine: Engine) -> None:
    engine.add()
    second: list[int] = []

    def pause_and_edit() -> None:
        set_state(engine, PAUSED)
        second.append(engine.add(code="ZWEI", name="Zwei"))

    engine.sage.during_next("customers.create", pause_and_edit)
    engine.push()
    assert engine.sage.calls == ["customers.create"]
    assert engine.company(second[0]).sync_reason == Reason.WAITING_FOR_SAGE


def test_what_was_queued_beside_a_fault_says_what_it_waits_for(engine: Engine) -> None:
    engine.sage.go_away()
    engine.pull()
    company_id = engine.add()
    # As an edit leaves it that read the connection right before the fault was noted.
    engine.sql("UPDATE company SET sync_reason = 'queued', sync_detail = '{\"code\": \"queued\"}'")
    engine.pull()
    assert engine.company(company_id).sync_reason == Reason.WAITING_FOR_SAGE


def test_a_fault_that_one_record_alone_meets_does_not_stop_the_others(engine: Engine) -> None:
    first, _ = linked(engine)
    second, _ = linked(engine, code="ZWEI", name="Zwei")
    engine.edit(first, city="Potsdam")
    engine.edit(second, city="Potsdam")
    engine.sage.will_fail_next("customers.read", AuthoriseAgain("403"))
    engine.push()
    assert engine.connection().state == CONNECTED
    assert engine.company(first).sync_reason == Reason.RETRYING
    assert engine.company(second).sync_reason == Reason.IN_STEP


def test_where_sage_asks_everybody_to_wait_nobody_else_is_sent(engine: Engine) -> None:
    ids = [engine.add(code=f"K{number}") for number in range(5)]
    engine.sage.will_fail_next("customers.create", Transient("429", after=40), times=5)
    engine.sage.will_fail_next("check", Transient("429", after=40), times=5)
    engine.push()
    engine.push()
    assert engine.sage.calls == ["customers.create", "check"]
    assert [engine.company(one).sync_reason for one in ids] == ["retrying", *["queued"] * 4]
    assert Lease.take(engine.services.database, engine.connection_id) is None
    engine.sage.heal()
    engine.let_time_pass()
    engine.push()
    assert {engine.company(one).sync_reason for one in ids} == {"in_step"}


def test_a_slow_read_does_not_keep_a_record_from_being_written(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    company_id, sage_id = linked(engine)
    engine.edit(company_id, city="Potsdam")
    leases: list[Lease] = []
    take = Lease.take.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Lease], *args: Any) -> Lease | None:
        lease = take(cls, *args)
        leases.append(lease)
        return lease  # type: ignore[no-any-return]

    monkeypatch.setattr(Lease, "take", classmethod(noted))

    def twenty_seconds() -> None:
        leases[-1].ends -= 20
        engine.sql("UPDATE sage_connection SET writer_until = writer_until - interval '20 s'")

    engine.sage.during_next("customers.read", twenty_seconds)
    engine.push()
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Potsdam"
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_a_lease_that_another_has_forbids_the_write_after_a_slow_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id, sage_id = linked(engine)
    engine.edit(company_id, city="Potsdam")
    real = Lease.check

    def slow(lease: Lease) -> None:
        lease.ends -= 20
        engine.sql("UPDATE sage_connection SET writer = nextval('claim_number')")
        real(lease)

    monkeypatch.setattr(Lease, "check", slow)
    engine.push()
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Berlin"


def test_a_claim_ends_by_the_clock_of_the_database(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.add()
    seen: list[Any] = []

    def look() -> None:
        with engine.services.database.unit_of_work() as work:
            seen.append(work.session.scalar(select(Company.claimed_until)))

    engine.sage.during_next("customers.create", look)
    monkeypatch.setattr("workers.engine.push.datetime", _Ahead)
    monkeypatch.setattr("workers.engine.claim.datetime", _Ahead)
    engine.push()
    assert seen[0] < datetime.now(UTC) + timedelta(minutes=2)


def test_a_record_is_taken_in_hand_once(engine: Engine) -> None:
    """Two hands, or a worker that lost its lease, can see the same record as the next one."""
    company_id = engine.add()
    database, connection_id = engine.services.database, engine.connection_id
    lease = Lease.take(database, connection_id)
    first = first_due(database, connection_id)
    assert lease is not None
    assert first is not None
    claimed = take_in_hand(engine.services, first, lease)
    assert claimed is not None
    assert claimed.version == engine.company(company_id).sync_version
    assert take_in_hand(engine.services, first, lease) is None
    assert engine.company(company_id).claim == claimed.claim
    assert engine.reasons(company_id) == ["queued", "running"]


def test_one_that_is_claimed_by_nobody_any_more_turns_its_arrows_already(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.during_next("customers.create", _die)
    with pytest.raises(Crash):
        engine.push()
    engine.sql("UPDATE company SET claimed_until = now() - interval '1 s'")
    engine.sql("UPDATE sage_connection SET writer_until = NULL")
    engine.push()
    assert engine.reasons(company_id) == ["queued", "running", "in_step"]


def _die() -> None:
    raise Crash


class _Ahead(datetime):
    """The clock of a machine that is an hour ahead."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(hours=1)


# Writes whose outcome is not known.


def test_an_old_create_is_found_though_the_company_was_renamed_since(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.edit(company_id, name="Renamed", code="OTHER")
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert engine.two_sides(company_id) == ("Renamed", "Renamed")
    assert len(engine.sage.customers.by_id) == 1


def test_an_old_create_is_found_beside_another_customer_of_its_code(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    (made,) = engine.sage.customers.by_id.values()
    engine.sage.customers.edit(made.id, code="MOVED")
    engine.sage.customers.add(name="Stranger", code="ALFKI")
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sage_id == made.id


def test_a_refusal_of_the_second_sending_says_nothing_of_the_first(engine: Engine) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.sage.will_fail_next("customers.create", Rejected({"code": "refused"}, {"status": "403"}))
    engine.let_time_pass()
    engine.push()
    engine.edit(company_id, name="Edited")
    engine.push()
    assert len(engine.sage.customers.by_id) == 1
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_an_admin_who_looked_it_up_can_have_it_sent_anew(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.will_lose_the_answer("customers.create", applied=False)
    engine.push()
    engine.sql("UPDATE write_intent SET created_at = now() - interval '8 days'")
    engine.let_time_pass()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.OUTCOME_UNKNOWN
    engine.edit(company_id, phone="030 1")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.OUTCOME_UNKNOWN
    ask_to_resync(engine, f"company:{company_id}")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_a_create_that_gave_up_is_settled_when_sage_shows_the_customer(engine: Engine) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.sql(
        "UPDATE company SET sync_status = 'review', sync_reason = 'outcome_unknown', next_attempt_at = NULL,"
        ' sync_detail = \'{"code": "outcome_unknown"}\''
    )
    engine.pull()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1
    assert len(companies(engine)) == 1


def test_a_value_that_sage_dropped_from_an_unanswered_create_is_not_lost(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id = engine.add(phone="030 555")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    (made,) = engine.sage.customers.by_id.values()
    later(engine)
    dropped = engine.sage.customers.edit(made.id, phone="")
    monkeypatch.setattr(engine.sage.customers, "create", lambda body: dropped)
    engine.let_time_pass()
    engine.push()
    company = engine.company(company_id)
    assert company.phone == "030 555"
    assert company.sync_reason != Reason.IN_STEP or engine.sage.customers.by_id[made.id].fields["phone"] == "030 555"


@pytest.mark.parametrize("kind", ["company", "order"])
@pytest.mark.parametrize("deed", ["edit", "delete"])
def test_what_sage_answered_first_is_no_longer_taken_for_what_it_holds(engine: Engine, kind: str, deed: str) -> None:
    """A create that is sent again gets its first answer. What changed since was read, and read past, in the meantime."""
    company_id = engine.add()
    if kind == "order":
        engine.push()
    record_id = engine.add_order(company_id) if kind == "order" else company_id
    collection = engine.sage.orders if kind == "order" else engine.sage.customers
    field, theirs = ("valid_until", "2026-12-24") if kind == "order" else ("city", "Potsdam")
    engine.sage.will_lose_the_answer(f"{collection.name}.create", applied=True)
    engine.push()
    (made,) = collection.by_id.values()
    later(engine)
    if deed == "edit":
        collection.edit(made.id, **{field: theirs})
    else:
        collection.delete(made.id)
    engine.pull()
    # Half an hour later, when the last reading asks for nothing of that time any more.
    engine.sql("UPDATE sync_cursor SET watermark = now() + interval '30 minutes'")
    engine.sql("UPDATE write_intent SET created_at = created_at - interval '30 minutes'")
    engine.let_time_pass()
    engine.push()
    engine.let_time_pass()
    engine.push()
    record = engine.order(record_id) if kind == "order" else engine.company(record_id)
    if deed == "edit":
        assert (record.sync_reason, str(getattr(record, field))) == (Reason.IN_STEP, theirs)
    else:
        assert (record.sync_reason, record.sage_id) == (Reason.DELETED_IN_SAGE, made.id)
    assert sum(one.operation == "create" and one.by == "us" for one in engine.sage.ledger) == 1 + (kind == "order")


def test_a_pull_that_links_a_record_while_it_is_about_to_be_created_makes_no_second_customer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id = engine.add(code="", tax_number="DE1")
    body = engine.sage.customers.create_body

    def between(*args: Any) -> dict[str, Any]:
        monkeypatch.setattr(engine.sage.customers, "create_body", body)
        engine.sage.customers.add(**{**GERMAN, "code": "", "tax_number": "DE1"})
        engine.pull()
        return body(*args)

    monkeypatch.setattr(engine.sage.customers, "create_body", between)
    engine.push()
    assert len(engine.sage.customers.by_id) == 1
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_a_customer_that_resembles_an_unanswered_create_is_for_a_person(engine: Engine) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=False)
    engine.push()
    engine.sage.customers.add(**{**GERMAN, "code": ""})
    engine.pull()
    engine.let_time_pass()
    engine.push()
    company, twin = companies(engine)
    assert company.sync_reason == twin.sync_reason == Reason.POSSIBLE_DUPLICATE
    ask_to_resync(engine, company.key)
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.IN_STEP
    assert company.sage_id is not None
    assert engine.sage.customers.by_id[company.sage_id].origin, "it belongs to the customer that was made for it"


@pytest.mark.parametrize("is_read_before", [True, False])
def test_what_an_unanswered_create_made_is_what_its_record_is_linked_to(engine: Engine, is_read_before: bool) -> None:
    company_id = engine.add(code="", email="office@alfki.example")
    engine.add(code="", email="office@alfki.example", name="Another Kiste")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    if is_read_before:
        engine.pull()
    # Where it is not, the stranger comes first.
    customers = engine.sage.customers.by_id
    stranger = engine.sage.customers.add(name="Stranger", email="office@alfki.example")
    engine.sage.customers.by_id = {stranger.id: customers.pop(stranger.id), **customers}
    engine.pull()
    engine.let_time_pass()
    engine.pull()
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.IN_STEP
    assert company.sage_id in engine.sage.made


@pytest.mark.parametrize("minutes", [0, 10])
def test_two_are_made_one_only_where_sage_has_not_made_one_of_its_own(engine: Engine, minutes: int) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=False)
    engine.push()
    engine.sage.customers.add(**{**GERMAN, "code": ""})
    engine.pull()
    assert engine.company(company_id).sync_reason == Reason.POSSIBLE_DUPLICATE
    engine.sql(f"UPDATE company SET last_attempt_at = now() - interval '{minutes} min'")
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        assert may_have_been_made(work.session, work.session.get_one(Company, company_id)) == (minutes == 0)


@pytest.mark.parametrize(("module", "minutes"), [(push_module, -10), (pull_module, 10)])
def test_a_create_in_flight_stays_in_doubt_whatever_the_clocks_of_the_workers_say(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, module: ModuleType, minutes: int
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(minutes=minutes)

    monkeypatch.setattr(module, "datetime", Clock)
    company_id = engine.add(code="")
    create = engine.sage.customers.create

    def read_before_sage_applies_it(body: Any) -> Any:
        engine.sage.customers.add(**{**GERMAN, "code": ""})
        engine.pull()
        return create(body)

    monkeypatch.setattr(engine.sage.customers, "create", read_before_sage_applies_it)
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.POSSIBLE_DUPLICATE
    with engine.services.database.unit_of_work() as work:
        assert may_have_been_made(work.session, work.session.get_one(Company, company_id))


# What a person decided stays decided.


def test_a_resync_of_the_module_leaves_what_a_person_decides(engine: Engine) -> None:
    gone, sage_id = linked(engine)
    engine.sage.customers.delete(sage_id)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        unlink(work, work.session.get_one(Company, gone), None)  # type: ignore[arg-type]
        work.commit()
    engine.sql("DELETE FROM sync_event")
    twins = [engine.add(code="", name="Twin"), engine.add(code="", name="Twin")]
    engine.sage.customers.add(name="Twin", postal_code="12209")
    engine.pull()
    ask_to_resync(engine, "module:companies")
    engine.push()
    assert engine.company(gone).sync_reason == Reason.UNLINKED
    assert {engine.company(one).sync_reason for one in twins} == {Reason.POSSIBLE_DUPLICATE}
    assert len(engine.sage.customers.by_id) == 1


def test_a_resync_of_the_module_takes_what_was_added_before_sage_was_connected(engine: Engine) -> None:
    company_id = engine.add()
    engine.sql(
        "UPDATE company SET connection_id = NULL, sync_status = 'not_synchronised', sync_reason = 'never_sent',"
        ' sync_detail = \'{"code": "never_sent"}\', next_attempt_at = NULL'
    )
    ask_to_resync(engine, "module:companies")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_an_edit_does_not_send_what_was_unlinked_or_may_be_a_duplicate(engine: Engine) -> None:
    gone, sage_id = linked(engine)
    engine.sage.customers.delete(sage_id)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        unlink(work, work.session.get_one(Company, gone), None)  # type: ignore[arg-type]
        work.commit()
    twins = [engine.add(code="", name="Twin"), engine.add(code="", name="Twin")]
    engine.sage.customers.add(name="Twin", postal_code="12209")
    engine.pull()
    for company_id in (gone, *twins):
        engine.edit(company_id, phone="030 1")
    engine.push()
    assert engine.company(gone).sync_reason == Reason.UNLINKED
    assert {engine.company(one).sync_reason for one in twins} == {Reason.POSSIBLE_DUPLICATE}
    assert len(engine.sage.customers.by_id) == 1


def test_a_conflict_that_healed_is_not_asked_with_the_next_one(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    later(engine)
    engine.sage.customers.edit(sage_id, city="Their old city")
    engine.edit(company_id, city="Our city")
    engine.push()
    later(engine, 10)
    engine.sage.customers.edit(sage_id, city="Our city")
    engine.pull()
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    later(engine, 15)
    engine.sage.customers.edit(sage_id, name="Theirs")
    engine.edit(company_id, name="Ours")
    engine.push()
    with engine.services.database.unit_of_work() as work:
        open_now = open_conflicts(work.session, work.session.get_one(Company, company_id))
        assert [conflict.field for conflict in open_now] == ["name"]


# Clocks.


def test_a_time_in_the_future_does_not_end_the_reading(engine: Engine) -> None:
    later(engine, 400 * 24 * 3600)
    engine.sage.customers.add(name="From the future", code="F")
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        watermark = work.session.get_one(SyncCursor, (engine.connection_id, "customers")).watermark
    assert watermark < datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize("way", ["pull", "push"])
def test_a_time_in_the_future_does_not_hide_what_changes_later(engine: Engine, way: str) -> None:
    company_id, sage_id = linked(engine)
    later(engine, 400 * 24 * 3600)
    engine.sage.customers.edit(sage_id, city="From the future")
    engine.pull()
    engine.push()
    assert engine.company(company_id).city == "From the future"
    later(engine)
    known = engine.sage.customers.by_id[sage_id]
    object.__setattr__(known, "updated_at", datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60))
    engine.sage.customers.edit(sage_id, city="Real")
    if way == "push":
        ask_to_resync(engine, f"company:{company_id}")
    else:
        engine.pull()
    engine.push()
    assert engine.company(company_id).city == "Real"
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


# Jobs side by side.


def test_pulls_that_nobody_takes_do_not_pile_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "services", lambda: engine.services)
    for _ in range(5):
        jobs.start_due()
    assert engine.services.redis.llen("rq:queue:pull") == 1
    engine.services.jobs.pull_begins(engine.connection_id)
    jobs.start_due()
    assert engine.services.redis.llen("rq:queue:pull") == 2


def test_a_pull_survives_a_push_that_ends_beside_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.sage.customers.add(name="Kunde", code="K")
    real = UnitOfWork.touch
    beside: list[threading.Thread] = []

    def touch(work: UnitOfWork, thing: Any) -> None:
        if isinstance(thing, Connection) and not beside:
            statement = "UPDATE sage_connection SET own_version = own_version + 1"
            beside.append(threading.Thread(target=engine.sql, args=(statement,)))
            beside[0].start()
            # Either it commits at once, or it waits for the lock that the pull holds.
            beside[0].join(0.5)
        real(work, thing)

    monkeypatch.setattr(UnitOfWork, "touch", touch)
    engine.pull()
    beside[0].join()
    assert [company.code for company in companies(engine)] == ["K"]
    with engine.services.database.unit_of_work() as work:
        assert work.session.scalars(select(SyncRun)).one().finished_at is not None


def test_doubtful_records_that_are_edited_beside_the_pull(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [engine.add(code=""), engine.add(code="")]
    engine.sage.customers.add(**{**GERMAN, "code": ""})
    real = match

    def edited_meanwhile(*args: Any) -> Any:
        found = real(*args)
        engine.edit(twins[0], phone="030 1")
        return found

    monkeypatch.setattr(strangers, "match", edited_meanwhile)
    engine.pull()
    assert len(companies(engine)) == 3
    assert engine.company(twins[0]).phone == "030 1"


def test_a_pull_that_the_database_breaks_off_says_so_and_is_done_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.sage.customers.add(name="Kunde", code="K")
    real: Callable[..., Any] = pull_module._take
    broken: list[bool] = []

    def deadlock(services: Services, *args: Any) -> None:
        if not broken:
            broken.append(True)
            with services.database.unit_of_work() as work:
                work.session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"))
        real(services, *args)

    monkeypatch.setattr(pull_module, "_take", deadlock)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        run = work.session.scalars(select(SyncRun)).one()
        assert run.finished_at is not None
        assert run.error
    engine.pull()
    assert [company.code for company in companies(engine)] == ["K"]


def test_a_long_pull_stays_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_module, "_PROGRESS_SECONDS", 0.0)
    engine.sage.page_size = 1
    engine.sage.customers.add(name="Eins", code="1")
    engine.sage.customers.add(name="Zwei", code="2")
    lock = f"synclight:pull:{engine.connection_id}"
    left: list[int] = []

    def late() -> None:
        left.append(engine.services.redis.pttl(lock))
        engine.services.redis.pexpire(lock, 5_000)

    engine.sage.during_next("customers.changed", late)
    engine.sage.during_next("customers.changed", late)
    engine.pull()
    assert min(left) > 60_000


@pytest.mark.parametrize("asked_by", [None, 1])
def test_what_a_person_asks_for_during_a_pull_is_done_after_it(engine: Engine, asked_by: int | None) -> None:
    engine.sage.during_next(
        "customers.changed", lambda: pull(engine.services, engine.connection_id, engine.connect, asked_by)
    )
    engine.pull()
    assert engine.sage.calls.count("customers.changed") == 1
    # None is due at once; the cycle is due in a minute.
    assert (engine.connection().next_run_at is None) == (asked_by is not None)


def test_an_older_state_is_believed_before_the_tries_are_used_up(engine: Engine) -> None:
    company_id, _ = linked(engine)
    # Sage was put back to a backup: what it says now is older than what is known, and stays so.
    engine.sql("UPDATE company SET sage_updated_at = sage_updated_at + interval '60 s'")
    ask_to_resync(engine, f"company:{company_id}")
    for _ in range(len(RETRY_SECONDS) + 1):
        engine.push()
        engine.let_time_pass()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


# Safeguards that nothing else would miss.


def test_the_late_answer_of_a_worker_that_was_overtaken_undoes_nothing(engine: Engine) -> None:
    company_id = engine.add()
    seen: list[int] = []

    def overtake() -> None:
        engine.let_time_pass()
        engine.push()
        engine.edit(company_id, name="After the takeover")
        engine.push()
        seen.append(engine.company(company_id).sync_version)

    engine.sage.during_next("customers.create", overtake)
    engine.push()
    company = engine.company(company_id)
    assert company.sync_version == seen[0]
    assert company.agreed is not None
    assert company.agreed["name"] == "After the takeover"


def test_a_change_from_right_before_the_watermark_arrives(engine: Engine) -> None:
    engine.sage.customers.add(name="Newest", code="N")
    gone = engine.sage.customers.add(name="Gone", code="G")
    engine.pull()
    later(engine, -120)
    engine.sage.customers.add(name="Shown late", code="L")
    engine.sage.customers.delete(gone.id)
    engine.pull()
    assert [(company.code, company.sync_reason) for company in companies(engine)] == [
        ("N", "in_step"),
        ("G", "deleted_in_sage"),
        ("L", "in_step"),
    ]


def test_a_page_with_the_state_before_our_write_and_the_time_of_it_undoes_nothing(engine: Engine) -> None:
    noon = datetime.now(UTC)
    engine.sage.clock = lambda: noon
    company_id, sage_id = linked(engine)
    before = engine.sage.customers.by_id[sage_id]
    engine.edit(company_id, city="Potsdam")
    engine.push()
    written = engine.sage.customers.by_id[sage_id]
    assert written.updated_at == before.updated_at
    # A part of Sage lags behind, and times are whole seconds: nothing tells which of the two is the older one.
    engine.sage.customers.by_id[sage_id] = before
    engine.pull()
    engine.sage.customers.by_id[sage_id] = written
    assert engine.company(company_id).city == "Potsdam"
    engine.push()
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Potsdam"
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_a_crash_after_the_create_of_what_was_edited_meanwhile_makes_no_second_customer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id = engine.add(code="")

    def die(*_: object) -> None:
        raise Crash

    engine.sage.during_next("customers.create", lambda: engine.edit(company_id, phone="030 1"))
    with monkeypatch.context() as dies:
        # What is recorded first asks for the state that was sent; then nobody is left to record the other one.
        dies.setattr(push_module, "_take_over", die)
        with pytest.raises(Crash):
            engine.push()
    engine.let_time_pass()
    engine.push()
    assert len(engine.sage.customers.by_id) == 1
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_what_somebody_in_sage_puts_back_to_an_old_unanswered_update_of_ours_is_a_change_of_sage(
    engine: Engine,
) -> None:
    company_id, sage_id = linked(engine)
    for city, answered in (("Potsdam", False), ("Bremen", True)):
        engine.edit(company_id, city=city)
        if not answered:
            engine.sage.will_lose_the_answer("customers.update", applied=True)
        engine.push()
    later(engine)
    engine.sage.customers.edit(sage_id, city="Potsdam")
    engine.edit(company_id, city="Essen")
    engine.push()
    assert engine.company(company_id).sync_reason == Reason.CONFLICT
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Potsdam"


def test_what_is_edited_while_sage_refuses_it_is_sent(engine: Engine) -> None:
    company_id = engine.add()
    engine.sage.at = lambda point: engine.edit(company_id, city="Potsdam") if refused.pop(point, None) else None
    refused = {"customers.create before": True}
    engine.sage.will_fail_next("customers.create", Rejected({"code": "refused"}, {"status": "422"}))
    engine.push()
    assert "rejected" not in engine.reasons(company_id)
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    (customer,) = engine.sage.customers.by_id.values()
    assert customer.fields["city"] == "Potsdam"


def test_what_is_edited_between_the_last_look_and_the_end_of_a_job_is_sent_by_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id, sage_id = linked(engine)
    engine.edit(company_id, city="Potsdam")
    real = Lease.release

    def edited_meanwhile(lease: Lease, rest: float = 0.0) -> None:
        monkeypatch.setattr(Lease, "release", real)
        engine.edit(company_id, city="Bremen")
        real(lease, rest)

    monkeypatch.setattr(Lease, "release", edited_meanwhile)
    # The job that this edit asks for finds that another one has the lease, and leaves it at that.
    engine.push()
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Bremen"
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_what_is_in_step_is_told_though_the_job_ends_with_a_fault(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.add()
    engine.add(code="K2")
    told: list[tuple[str, str]] = []

    def look(changes: Changes) -> None:
        told.extend((key, engine.company(first).sync_reason) for key in changes.touched if key == f"company:{first}")

    def lost(lease: Lease) -> None:
        if told:
            raise LeaseLostError

    monkeypatch.setattr(Lease, "renew", lost)
    engine.services.database.after_commit = look
    engine.push()
    assert told[-1] == (f"company:{first}", "in_step")


def test_a_company_that_is_edited_while_its_page_is_taken(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    company_id, sage_id = linked(engine)
    later(engine)
    engine.sage.customers.edit(sage_id, city="Potsdam")
    real = pull_module._is_news

    def edited_meanwhile(*args: Any) -> bool:
        monkeypatch.setattr(pull_module, "_is_news", real)
        engine.edit(company_id, name="Edited")
        return real(*args)

    monkeypatch.setattr(pull_module, "_is_news", edited_meanwhile)
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        assert work.session.scalars(select(SyncRun)).one().error is None
    engine.push()
    company = engine.company(company_id)
    assert (company.name, company.city, company.sync_reason) == ("Edited", "Potsdam", "in_step")


def test_nobody_is_told_before_the_commit(engine: Engine) -> None:
    company_id = engine.add()
    seen: list[str] = []

    def look(work: UnitOfWork) -> None:
        # Another session sees what is committed, and nothing else.
        seen.extend(engine.company(company_id).name for _ in work.touched)

    engine.services.database.after_commit = look
    engine.edit(company_id, name="Told")
    assert set(seen) == {"Told"}


def test_what_is_recorded_is_told_with_the_next_record_or_at_the_end(engine: Engine) -> None:
    first, second = [engine.add(code=f"K{number}") for number in range(2)]
    told: list[dict[str, str]] = []

    def look(changes: Changes) -> None:
        told.append({key: engine.company(one.id).sync_reason for key, one in changes.touched.items()})

    engine.services.database.after_commit = look
    engine.push()
    assert told[:3] == [
        {f"company:{first}": "running"},
        {f"company:{first}": "in_step", f"company:{second}": "running"},
        {f"company:{second}": "in_step"},
    ]


def test_what_sage_holds_is_read_anew_by_a_worker_that_was_held_up_before_its_write(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    company_id, sage_id = linked(engine)
    engine.edit(company_id, city="Potsdam")
    real, late = push_module._intend, [0.0]
    monkeypatch.setattr(push_module, "monotonic", lambda: monotonic() + late[0])

    def held_up(*args: Any) -> int | None:
        if not late[0]:
            engine.sage.customers.edit(sage_id, phone="0331 1234")
            noted = real(*args)
            late[0] = 3.0
            return noted
        return real(*args)

    monkeypatch.setattr(push_module, "_intend", held_up)
    engine.push()
    assert engine.sage.customers.by_id[sage_id].fields["phone"] == "0331 1234"
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Potsdam"
    assert engine.company(company_id).phone == "0331 1234"
    assert engine.company(company_id).sync_reason == Reason.IN_STEP


def test_an_edit_goes_before_a_resync_of_everything(engine: Engine) -> None:
    ids = [engine.add(name=f"Company {number}", code=f"C{number}") for number in range(5)]
    engine.push()
    with engine.services.database.unit_of_work() as work:
        resync(work, ["module:companies"], None)
    engine.edit(ids[-1], city="Potsdam")
    engine.sage.calls.clear()
    first = engine.company(ids[-1]).sage_id
    read = engine.sage.customers.read
    order: list[str] = []
    engine.sage.customers.read = lambda sage_id: (order.append(sage_id), read(sage_id))[1]  # type: ignore[method-assign]
    engine.push()
    assert order[0] == first
    assert len(order) == 5


def give_the_word(engine: Engine, **directions: str) -> None:
    """An admin says which side has the word on these fields of companies."""
    with engine.services.database.unit_of_work() as work:
        work.session.get_one(Connection, engine.connection_id).directions = {"company": directions}
        work.commit()


def test_the_side_that_has_the_word_wins_and_the_other_value_is_kept(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    give_the_word(engine, city="to_sage", phone="from_sage")
    engine.edit(company_id, city="Ours", phone="1")
    engine.sage.customers.edit(sage_id, city="Theirs", phone="2")
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.city, company.phone) == (Reason.IN_STEP, "Ours", "2")
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Ours"
    assert company.sync_detail["taken"] == ["phone"]
    with engine.services.database.unit_of_work() as work:
        lost = {conflict.field: value for conflict, value in lost_values(work.session, company)}
    assert lost == {"city": "Theirs", "phone": "1"}
    # What only Sage changed goes back as well, at the next reading.
    engine.sage.customers.edit(sage_id, city="Theirs again")
    engine.pull()
    engine.push()
    assert engine.sage.customers.by_id[sage_id].fields["city"] == "Ours"


def test_what_gave_way_is_kept_though_the_process_dies_after_the_write(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    give_the_word(engine, city="to_sage")
    engine.edit(company_id, phone="1")
    engine.sage.customers.edit(sage_id, city="Theirs")

    def die() -> None:
        raise Crash

    engine.sage.during_next("customers.update", die)
    with pytest.raises(Crash):
        engine.push()
    for _ in range(2):
        engine.let_time_pass()
        engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.city, company.phone) == (Reason.IN_STEP, "Berlin", "1")
    with engine.services.database.unit_of_work() as work:
        assert [value for _, value in lost_values(work.session, company)] == ["Theirs"]


def test_what_gives_way_is_kept_once_though_the_write_is_tried_again(engine: Engine) -> None:
    company_id, sage_id = linked(engine)
    give_the_word(engine, city="to_sage")
    engine.edit(company_id, phone="1")
    engine.sage.customers.edit(sage_id, city="Theirs")
    engine.sage.will_lose_the_answer("customers.update", applied=False)
    engine.sage.will_lose_the_answer("customers.update", applied=False)
    for _ in range(3):
        engine.push()
        engine.let_time_pass()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    with engine.services.database.unit_of_work() as work:
        assert [(one.field, one.theirs, one.taken) for one in work.session.scalars(select(Conflict))] == [
            ("city", "Theirs", "ours")
        ]


@pytest.mark.parametrize("unanswered", [False, True])
def test_what_sage_refused_has_made_nothing_give_way(engine: Engine, unanswered: bool) -> None:
    """Sage still has its value, and there is nothing to take back; but for what an earlier write may have overwritten."""
    company_id, sage_id = linked(engine)
    give_the_word(engine, city="to_sage", notes="from_sage")
    engine.edit(company_id, phone="1", notes="Ours")
    engine.sage.customers.edit(sage_id, city="Theirs", notes="Theirs")
    if unanswered:
        engine.sage.will_lose_the_answer("customers.update", applied=False)
        engine.push()
        engine.let_time_pass()
    engine.sage.will_fail_next("customers.update", Rejected({"code": "refused", "field": "phone"}))
    engine.push()
    company = engine.company(company_id)
    assert (company.sync_reason, company.city, company.notes) == (Reason.REJECTED, "Berlin", "Ours")
    with engine.services.database.unit_of_work() as work:
        lost = {conflict.field: value for conflict, value in lost_values(work.session, company)}
    assert lost == ({"city": "Theirs"} if unanswered else {})
    engine.edit(company_id, phone="2")
    engine.push()
    company = engine.company(company_id)
    assert company.sync_reason == Reason.IN_STEP
    with engine.services.database.unit_of_work() as work:
        lost = {conflict.field: value for conflict, value in lost_values(work.session, company)}
    assert lost == {"city": "Theirs", "notes": "Ours"}


@pytest.mark.parametrize("edited", ["phone", "city"])
def test_what_an_unanswered_update_carried_along_is_still_a_change_of_sage(engine: Engine, edited: str) -> None:
    company_id, sage_id = linked(engine)
    engine.edit(company_id, phone="1")
    engine.sage.customers.edit(sage_id, city="Theirs")
    engine.sage.will_lose_the_answer("customers.update", applied=True)
    engine.push()
    # Before anybody knows what became of it, a person edits what was sent, or what came from Sage.
    engine.edit(company_id, **{edited: "Ours"})
    engine.let_time_pass()
    engine.push()
    company = engine.company(company_id)
    there = engine.sage.customers.by_id[sage_id].fields
    if edited == "phone":
        assert (company.sync_reason, company.city, company.phone) == (Reason.IN_STEP, "Theirs", "Ours")
        assert (there["city"], there["phone"]) == ("Theirs", "Ours")
    else:
        assert (company.sync_reason, company.city, there["city"]) == (Reason.CONFLICT, "Ours", "Theirs")


def test_an_unanswered_create_keeps_its_key_through_other_faults(engine: Engine) -> None:
    company_id = engine.add(code="")
    engine.sage.will_lose_the_answer("customers.create", applied=True)
    engine.push()
    engine.sage.will_fail_next("customers.create", Transient("429"))
    for _ in range(2):
        engine.let_time_pass()
        engine.push()
    assert engine.company(company_id).sync_reason == Reason.IN_STEP
    assert len(engine.sage.customers.by_id) == 1


def test_two_strangers_that_resemble_one_record_are_not_both_it(engine: Engine) -> None:
    company_id = engine.add(code="", email="office@alfki.example")
    ids = [engine.sage.customers.add(name=f"Kiste {code}", code=code, email="office@alfki.example").id for code in "AB"]
    engine.pull()
    assert [(one.id == company_id, one.sage_id) for one in companies(engine)] == [(True, ids[0]), (False, ids[1])]
    assert len(engine.sage.customers.by_id) == 2
