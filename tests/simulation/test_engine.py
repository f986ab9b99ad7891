"""The engine against chance: people edit on both sides, Sage fails in every way, processes die; then it becomes quiet.

Each seed is one story, told the same way each time. `SEEDS=200 START=1000` in the environment tells others. What is
checked while it happens: nothing is green that was not compared. What is checked in the end: both sides are equal or a
person is asked, nobody's edit is gone, and no company has two customers in Sage.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from tests.fake_sage import FakeSage
from tests.integration.test_engine import Crash, Engine
from webapp.companies.models import Company
from webapp.db import UnitOfWork
from webapp.services import Services
from webapp.sync.models import Conflict, WriteIntent
from workers.engine.kinds import fields_of
from workers.sage.connector import OutcomeUnknown, Rejected, Transient

START, SEEDS = int(os.environ.get("START", "1")), int(os.environ.get("SEEDS", "12"))
STEPS = 60
FIELDS = ("name", "city", "phone", "email", "notes")
METHODS = ("customers.create", "customers.update", "customers.read", "customers.changed", "customers.deleted", "check")


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
        self.set_values: dict[tuple[int, str], list[tuple[str, str]]] = defaultdict(list)
        self.deleted: set[str] = set()
        # Raised from a commit of ours, before or after it took place, when the count reaches zero.
        self.die_at_commit: int | None = None
        self.die_before = False

    def sage_clock(self) -> datetime:
        """Sage's clock: whole seconds, so that some changes share one."""
        self.ticks += self.chance.choice((0, 1, 1, 2))
        return self.began + timedelta(seconds=self.ticks)

    def value(self, field: str) -> str:
        self.numbers += 1
        return f"v{self.numbers}@example.com" if field == "email" else f"{field} {self.numbers}"

    def companies(self) -> list[Company]:
        with self.engine.services.database.unit_of_work() as work:
            return list(work.session.scalars(select(Company).order_by(Company.id)))

    # What people do.

    def add(self) -> None:
        company_id = self.engine.add(
            name=self.value("name"),
            code=self.chance.choice(["", f"C{self.numbers}"]),
            country=self.chance.choice(["DE", "DE", "GB", ""]),
            type=self.chance.choice(["customer", "customer", "customer", "prospect"]),
        )
        self.set_values[company_id, "name"].append(("ours", self.engine.company(company_id).name))

    def edit(self) -> None:
        companies = self.companies()
        if companies:
            company = self.chance.choice(companies)
            field = self.chance.choice(FIELDS)
            value = self.value(field)
            try:
                self.engine.edit(company.id, **{field: value})
            finally:
                # A process that dies after its commit has saved the edit all the same.
                if getattr(self.engine.company(company.id), field) == value:
                    self.set_values[company.id, field].append(("ours", value))

    def mend(self) -> None:
        for company in self.companies():
            if company.sync_reason == "rejected":
                self.engine.edit(company.id, country="DE")

    def edit_in_sage(self) -> None:
        linked = {one.sage_id: one.id for one in self.companies() if one.sage_id in self.engine.sage.customers.by_id}
        if linked:
            sage_id = self.chance.choice(sorted(linked))
            field = self.chance.choice(FIELDS)
            value = self.value(field)
            self.engine.sage.customers.edit(sage_id, **{field: value})
            self.set_values[linked[sage_id], field].append(("theirs", value))

    def add_in_sage(self) -> None:
        self.engine.sage.customers.add(name=self.value("name"), code=self.chance.choice(["", f"S{self.numbers}"]))

    def delete_in_sage(self) -> None:
        there = sorted(self.engine.sage.customers.by_id)
        if there and self.chance.random() < 0.3:
            sage_id = self.chance.choice(there)
            self.engine.sage.customers.delete(sage_id)
            self.deleted.add(sage_id)

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
        method = self.chance.choice(METHODS)
        if isinstance(error, Rejected | OutcomeUnknown) and method not in ("customers.create", "customers.update"):
            return
        applied = isinstance(error, OutcomeUnknown) and self.chance.random() < 0.6
        self.engine.sage.will_fail_next(method, error, times=self.chance.choice((1, 1, 3)), applied=applied)

    def away(self) -> None:
        self.engine.sage.go_away()

    def back(self) -> None:
        self.engine.sage.come_back()

    def edit_during_a_call(self) -> None:
        self.engine.sage.during_next(
            self.chance.choice(("customers.create", "customers.update", "customers.read")), self.edit
        )

    def stale(self) -> None:
        self.engine.sage.will_read_stale()

    def crash_in_a_call(self) -> None:
        def die() -> None:
            raise Crash

        self.engine.sage.during_next(self.chance.choice(METHODS[:4]), die)

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
        self.engine.sql(
            "UPDATE company SET next_attempt_at = now() - interval '1 s', claimed_until = NULL"
            " WHERE sync_status = 'pending'"
        )
        self.engine.sql("UPDATE sage_connection SET writer_until = NULL")

    def step(self) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self.add, 4),
            (self.edit, 8),
            (self.mend, 1),
            (self.edit_in_sage, 6),
            (self.add_in_sage, 1),
            (self.delete_in_sage, 1),
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
        self.nothing_green_is_a_lie()

    def become_quiet(self) -> None:
        """No faults and no edits any more: as many rounds as the retries need."""
        self.engine.sage.heal()
        self.die_at_commit = None
        for _ in range(6):
            self.pull()
            self.time_passes()
            self.push()
            self.nothing_green_is_a_lie()

    # What must be true.

    def nothing_green_is_a_lie(self) -> None:
        for company in self.companies():
            if company.sync_status == "synchronised":
                assert fields_of(company) == company.agreed, f"{company.key} is green and differs from what was agreed"

    def both_sides_are_equal_or_a_person_is_asked(self) -> None:
        for company in self.companies():
            assert company.sync_status != "pending", f"{company.key} is still {company.sync_reason}"
            if company.sync_status == "synchronised":
                assert company.sage_id is not None
                remote = self.engine.sage.customers.by_id[company.sage_id]
                assert fields_of(company) == remote.fields, f"{company.key} is green and differs from Sage"

    def nobody_has_two_customers(self) -> None:
        with self.engine.services.database.unit_of_work() as work:
            owner = {
                intent.idempotency_key: intent.record_id
                for intent in work.session.scalars(select(WriteIntent).where(WriteIntent.operation == "create"))
            }
        made: dict[int, list[str]] = defaultdict(list)
        for remote in self.engine.sage.customers.by_id.values():
            if remote.origin:
                made[owner[remote.origin]].append(remote.id)
        assert {record: ids for record, ids in made.items() if len(ids) > 1} == {}
        links = [company.sage_id for company in self.companies() if company.sage_id]
        assert len(links) == len(set(links))

    def nobodys_edit_is_gone(self) -> None:
        with self.engine.services.database.unit_of_work() as work:
            conflicts = {(one.record_id, one.field) for one in work.session.scalars(select(Conflict))}
        for (record_id, field), values in self.set_values.items():
            company = self.engine.company(record_id)
            if company.sync_status != "synchronised" or company.sage_id in self.deleted:
                continue
            last = dict(values)
            now = getattr(company, field)
            assert now in last.values(), f"{company.key}.{field} is {now}, and was set to {values}"
            if len(last) == 1:
                assert now == values[-1][1]
            # Whoever loses against the other side has either been asked, or the later one had seen the earlier value.
            assert (record_id, field) in conflicts or now == values[-1][1] or len(last) == 2


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
        story.nobody_has_two_customers()
        story.nobodys_edit_is_gone()
    except AssertionError as error:
        told = "\n".join(story.trace)
        raise AssertionError(f"START={seed} SEEDS=1 replays this story:\n{told}\n{error}") from error
