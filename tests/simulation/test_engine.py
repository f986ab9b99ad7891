"""The engine against chance: people edit on both sides, Sage fails in every way, processes die; then it becomes quiet.

Each seed is one story of companies, their contacts and their orders, told the same way each time. `SEEDS=200 START=1000`
in the environment tells others. What is checked while it happens: nothing is green that was not compared. What is
checked in the end: both sides are equal or a person is asked, nobody's edit is gone, no record has two objects in Sage,
and each write has its row in the history.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tests.fake_sage import FakeCollection, FakeSage
from tests.integration.test_engine import Crash, Engine
from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.orders.amounts import LineValues, lines_text, read_lines
from webapp.orders.models import CONFIRMED, Order
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import Conflict, Synced, SyncEvent, WriteIntent
from webapp.sync.sending import is_in_sage
from workers.engine import pull as pull_module
from workers.engine.kinds import KINDS, fields_of
from workers.sage.connector import OutcomeUnknown, Rejected, Transient

START, SEEDS = int(os.environ.get("START", "1")), int(os.environ.get("SEEDS", "12"))
STEPS = 60
FIELDS = {
    "company": ("name", "city", "phone", "email", "notes"),
    "contact": ("name", "role", "phone", "email"),
    "order": ("notes", "shipping", "lines"),
}
COLLECTIONS = ("customers", "persons", "orders")
WRITES = [f"{name}.{method}" for name in COLLECTIONS for method in ("create", "update")]
READS = [f"{name}.{method}" for name in COLLECTIONS for method in ("read", "changed", "deleted")]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull of few records takes several transactions, between which things happen."""
    monkeypatch.setattr(pull_module, "PAGE", 3)


class Story:
    """One seed: what happens, and what was asked for."""

    def __init__(self, services: Services, seed: int) -> None:
        self.chance = random.Random(seed)
        self.engine = Engine(services)
        self.ticks = 0
        self.engine.sage = FakeSage(clock=self.sage_clock, page_size=3)
        self.began = datetime.now(UTC)
        self.numbers = 0
        self.trace: list[str] = []
        # Per record and field: every value that somebody set, with the side, oldest first.
        self.set_values: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        # Raised from a commit of ours, before or after it took place, when the count reaches zero.
        self.die_at_commit: int | None = None
        self.die_before = False

    def sage_clock(self) -> datetime:
        """Sage's clock: whole seconds, so that some changes share one."""
        self.ticks += self.chance.choice((0, 1, 1, 2))
        return self.began + timedelta(seconds=self.ticks)

    def value(self, field: str) -> str:
        self.numbers += 1
        match field:
            case "email":
                return f"v{self.numbers}@example.com"
            case "shipping":
                return f"{self.numbers}.00"
            case "lines":
                line = LineValues(
                    f"Item {self.numbers}", Decimal(self.numbers), Decimal("2.50"), Decimal(0), Decimal(20)
                )
                return lines_text([line] * self.chance.choice((1, 1, 2)))
            case _:
                return f"{field} {self.numbers}"

    def records(self) -> list[Synced]:
        with self.engine.services.database.unit_of_work() as work:
            return [
                record
                for kind in KINDS
                for record in work.session.scalars(select(kind.model).options(*kind.loads).order_by(kind.model.id))
            ]

    def companies(self) -> list[Company]:
        return [record for record in self.records() if isinstance(record, Company)]

    def there(self, record: Synced) -> FakeCollection:
        sage = self.engine.sage
        return {"company": sage.customers, "contact": sage.persons, "order": sage.orders}[record.kind]

    # What people do.

    def add(self) -> None:
        company_id = self.engine.add(
            name=self.value("name"),
            code=self.chance.choice(["", f"C{self.numbers}"]),
            country=self.chance.choice(["DE", "DE", "GB", ""]),
            type=self.chance.choice(["customer", "customer", "customer", "prospect"]),
        )
        self.set_values[f"company:{company_id}", "name"].append(("ours", self.engine.company(company_id).name))

    def add_child(self) -> None:
        companies = self.companies()
        if not companies:
            return
        company_id = self.chance.choice(companies).id
        if self.chance.random() < 0.5:
            contact_id = self.engine.add_contact(company_id, name=self.value("name"), email="")
            self.set_values[f"contact:{contact_id}", "name"].append(("ours", self.engine.contact(contact_id).name))
        else:
            notes = self.value("notes")
            order_id = self.engine.add_order(company_id, confirmed=self.chance.random() < 0.7, notes=notes)
            self.set_values[f"order:{order_id}", "notes"].append(("ours", notes))

    def confirm(self) -> None:
        for record in self.records():
            if isinstance(record, Order) and record.phase != CONFIRMED:
                self.engine.confirm_order(record.id)

    def edit(self) -> None:
        records = self.records()
        if records:
            record = self.chance.choice(records)
            self.set_here(record, self.chance.choice(FIELDS[record.kind]))

    def set_here(self, record: Synced, field: str) -> None:
        """Somebody gives a record a new value. An order that Sage has does not take it."""
        value = self.value(field)
        try:
            match record:
                case Company():
                    self.engine.edit(record.id, **{field: value})
                case Contact():
                    self.engine.edit_contact(record.id, **{field: value})
                case Order() if field == "lines":
                    self.engine.edit_order(record.id, read_lines(value))
                case Order():
                    self.engine.edit_order(record.id, None, **{field: Decimal(value) if field == "shipping" else value})
        finally:
            # A process that dies after its commit has saved the edit all the same.
            (now,) = [one for one in self.records() if one.key == record.key]
            if now.shared(field) == value:
                self.set_values[record.key, field].append(("ours", value))

    def turn(self) -> None:
        """A customer becomes a prospect, or the other way round."""
        companies = self.companies()
        if companies:
            company = self.chance.choice(companies)
            self.engine.edit(company.id, type="customer" if company.type == "prospect" else "prospect")

    def mend(self) -> None:
        for record in self.records():
            if record.sync_reason != Reason.REJECTED:
                continue
            if isinstance(record, Company):
                self.engine.edit(record.id, country="DE")
            else:
                self.set_here(record, "role" if isinstance(record, Contact) else "notes")

    def edit_in_sage(self) -> None:
        linked = [record for record in self.records() if record.sage_id in self.there(record).by_id]
        if linked:
            record = self.chance.choice(linked)
            field = self.chance.choice(FIELDS[record.kind])
            value = self.value(field)
            assert record.sage_id
            self.there(record).edit(record.sage_id, **{field: value})
            self.set_values[record.key, field].append(("theirs", value))

    def add_in_sage(self) -> None:
        sage = self.engine.sage
        parents = sorted(sage.customers.by_id)
        what = self.chance.choice(COLLECTIONS)
        if what == "customers" or not parents:
            sage.customers.add(name=self.value("name"), code=self.chance.choice(["", f"S{self.numbers}"]))
        elif what == "persons":
            sage.persons.add(self.chance.choice(parents), name=self.value("name"))
        else:
            days = {"ordered_on": "2026-11-02", "valid_until": "2026-12-02", "shipping": "0.00"}
            number = self.chance.choice(["", f"Q-{self.numbers}"])
            sage.orders.add(self.chance.choice(parents), number=number, lines=self.value("lines"), **days)

    def delete_in_sage(self) -> None:
        there: FakeCollection = getattr(self.engine.sage, self.chance.choice(COLLECTIONS))
        if there.by_id and self.chance.random() < 0.4:
            there.delete(self.chance.choice(sorted(there.by_id)))

    # What goes wrong.

    def fail(self) -> None:
        error = self.chance.choice(
            [
                Transient("503", {"status": "503"}),
                OutcomeUnknown("no answer"),
                Rejected({"code": "refused", "field": "phone"}),
                ValueError("a bug of ours"),
            ]
        )
        writes = isinstance(error, Rejected | OutcomeUnknown) or self.chance.random() < 0.5
        method = self.chance.choice(WRITES if writes else [*READS, "check"])
        applied = isinstance(error, OutcomeUnknown) and self.chance.random() < 0.6
        self.engine.sage.will_fail_next(method, error, times=self.chance.choice((1, 1, 3)), applied=applied)

    def away(self) -> None:
        self.engine.sage.go_away()

    def back(self) -> None:
        self.engine.sage.come_back()

    def edit_during_a_call(self) -> None:
        during = [call for call in (*WRITES, *READS) if not call.endswith(("changed", "deleted"))]
        self.engine.sage.during_next(self.chance.choice(during), self.edit)

    def stale(self) -> None:
        self.engine.sage.will_read_stale()

    def crash_in_a_call(self) -> None:
        def die() -> None:
            raise Crash

        self.engine.sage.during_next(self.chance.choice([*WRITES, *READS]), die)

    def crash_at_a_commit(self) -> None:
        self.die_at_commit = self.chance.randint(1, 6)
        self.die_before = self.chance.random() < 0.5

    # What the product does.

    def push(self) -> None:
        self.survive(self.engine.push)

    def pull(self) -> None:
        self.survive(self.engine.pull)

    def survive(self, action: Callable[[], None]) -> None:
        """Run a job; a crash of it leaves its lease and claims behind, and they run out."""
        try:
            action()
        except Crash:
            self.trace.append("  crashed")
        except ValueError:
            # A bug in a pull ends its job, as RQ would note.
            self.trace.append("  broke")
        finally:
            self.die_at_commit = None
            self.engine.services.redis.delete(f"synclight:pull:{self.engine.connection_id}")

    def time_passes(self) -> None:
        self.engine.let_time_pass()

    def step(self) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self.add, 4),
            (self.add_child, 6),
            (self.confirm, 1),
            (self.edit, 9),
            (self.turn, 1),
            (self.mend, 1),
            (self.edit_in_sage, 6),
            (self.add_in_sage, 2),
            (self.delete_in_sage, 2),
            (self.fail, 4),
            (self.away, 1),
            (self.back, 2),
            (self.edit_during_a_call, 2),
            (self.stale, 1),
            (self.crash_in_a_call, 2),
            (self.crash_at_a_commit, 2),
            (self.push, 9),
            (self.pull, 5),
            (self.time_passes, 3),
        ]
        (action,) = self.chance.choices([one for one, _ in actions], [weight for _, weight in actions])
        self.trace.append(action.__name__)
        try:
            action()
        except IntegrityError:
            # Two people gave the same code: the form says so.
            self.trace.append("  refused")
        if action not in (self.fail, self.away, self.back, self.stale, self.edit_in_sage, self.add_in_sage):
            self.nothing_green_is_a_lie()

    def become_quiet(self) -> None:
        """No faults and no edits any more: as many rounds as it takes until one changes nothing."""
        self.engine.sage.heal()
        self.die_at_commit = None
        for _ in range(6):
            before = {record.key: record.sync_version for record in self.records()}
            # As if an hour were over: what Sage has no tombstones of is read whole.
            self.engine.sql("DELETE FROM sync_cursor WHERE entity LIKE '%whole'")
            self.pull()
            self.time_passes()
            self.push()
            self.nothing_green_is_a_lie()
            if before == {record.key: record.sync_version for record in self.records()}:
                return

    # What must be true.

    def nothing_green_is_a_lie(self) -> None:
        for record in self.records():
            if record.sync_status == "synchronised":
                assert fields_of(record) == record.agreed, f"{record.key} is green and differs from what was agreed"

    def both_sides_are_equal_or_a_person_is_asked(self) -> None:
        companies = {company.id: company for company in self.companies()}
        for record in self.records():
            if record.sync_reason == Reason.WAITING_FOR_PARENT:
                assert isinstance(record, Contact | Order)
                company = companies[record.company_id]
                assert not is_in_sage(company), f"{record.key} waits for a company that Sage has"
                assert company.sync_status == "review", (
                    f"{record.key} waits, and {company.key} is {company.sync_reason}"
                )
                continue
            assert record.sync_status != "pending", f"{record.key} is still {record.sync_reason}"
            if record.sync_status == "synchronised":
                assert record.sage_id is not None
                remote = self.there(record).by_id[record.sage_id]
                assert fields_of(record) == remote.fields, f"{record.key} is green and differs from Sage"

    def what_sage_has_is_here(self) -> None:
        records = self.records()
        linked = {record.sage_id for record in records}
        customers = {one.sage_id for one in records if isinstance(one, Company) and one.type == "customer"}
        sage = self.engine.sage
        unsure = {one.kind for one in records if one.sync_reason in (Reason.REJECTED, Reason.OUTCOME_UNKNOWN)}
        for kind, there in (("company", sage.customers), ("contact", sage.persons), ("order", sage.orders)):
            for remote in there.by_id.values():
                wanted = kind == "company" or remote.parent in customers
                assert not wanted or remote.id in linked or kind in unsure, f"{remote} is not here"

    def nobody_has_two_objects(self) -> None:
        with self.engine.services.database.unit_of_work() as work:
            owner = {
                intent.idempotency_key: f"{intent.kind}:{intent.record_id}"
                for intent in work.session.scalars(select(WriteIntent).where(WriteIntent.operation == "create"))
            }
        sage = self.engine.sage
        there = {*sage.customers.by_id, *sage.persons.by_id, *sage.orders.by_id}
        made = Counter(owner[key] for sage_id, key in sage.made.items() if sage_id in there)
        assert {key: count for key, count in made.items() if count > 1} == {}
        for record in self.records():
            if record.sage_id in sage.made and record.sage_id in there:
                assert owner[sage.made[record.sage_id]] == record.key, f"{record.key} took what another one made"

    def each_write_has_its_history(self) -> None:
        with self.engine.services.database.unit_of_work() as work:
            runs = Counter(
                f"{kind}:{record_id}"
                for kind, record_id in work.session.execute(
                    select(SyncEvent.kind, SyncEvent.record_id).where(SyncEvent.to_reason == Reason.RUNNING)
                )
            )
        writes = Counter(entry.id for entry in self.engine.sage.ledger if entry.by == "us")
        for record in self.records():
            assert runs[record.key] >= writes[record.sage_id or ""]

    def nobodys_edit_is_gone(self) -> None:
        with self.engine.services.database.unit_of_work() as work:
            conflicts = {(f"{one.kind}:{one.record_id}", one.field) for one in work.session.scalars(select(Conflict))}
        records = {record.key: record for record in self.records()}
        deleted = {entry.id for entry in self.engine.sage.ledger if entry.operation == "delete"}
        for (key, field), values in self.set_values.items():
            record = records[key]
            if record.sync_status != "synchronised" or record.sage_id in deleted:
                continue
            last = dict(values)
            now = record.shared(field)
            assert now in last.values(), f"{key}.{field} is {now}, and was set to {values}"
            if len(last) == 1:
                assert now == values[-1][1]
            # Whoever loses against the other side has either been asked, or the later one had seen the earlier value.
            assert (key, field) in conflicts or now == values[-1][1] or len(last) == 2


@pytest.mark.parametrize("seed", range(START, START + SEEDS))
@pytest.mark.timeout(300)
def test_whatever_happens(services: Services, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(services, seed)
    commit, after = UnitOfWork.commit, services.database.after_commit

    def dies(before: bool) -> bool:
        return story.die_at_commit == 0 and story.die_before is before

    def mortal_commit(work: UnitOfWork) -> None:
        if story.die_at_commit is not None:
            story.die_at_commit -= 1
            if dies(True):
                raise Crash
        commit(work)

    def mortal_after(work: UnitOfWork) -> None:
        if dies(False):
            raise Crash
        after(work)

    monkeypatch.setattr(UnitOfWork, "commit", mortal_commit)
    monkeypatch.setattr(services.database, "after_commit", mortal_after)
    try:
        for _ in range(STEPS):
            # A person's own request dies too; what it had committed stays.
            try:
                story.step()
            except Crash:
                story.trace.append("  crashed")
                story.die_at_commit = None
        story.become_quiet()
        story.both_sides_are_equal_or_a_person_is_asked()
        story.what_sage_has_is_here()
        story.nobody_has_two_objects()
        story.each_write_has_its_history()
        story.nobodys_edit_is_gone()
    except AssertionError as error:
        told = "\n".join(story.trace)
        raise AssertionError(f"START={seed} SEEDS=1 replays this story:\n{told}\n{error}") from error
