"""Stories of the engine: people edit on both sides, Sage fails in every way, processes die; then it becomes quiet.

A story is one seed, told the same way each time: all that chance decides comes out of the seed, the random numbers of
the engine included. The engine and PostgreSQL are the real ones. Replaced are Sage (tests.fake_sage, whose ledger is
the oracle), and what follows a commit: jobs are begun by the story, and what the browsers are told is only noted.

What is checked after each step, of all records that it changed: nothing is green that Sage did not hold; nothing is
changed that the browsers were not told of; no record has two objects in Sage; who waits knows until when. What is
checked in the end: both sides are equal or a person is asked, nobody's edit is gone, and each write has its history.
"""

from __future__ import annotations

import random
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import count
from typing import Any
from unittest import mock

import psycopg
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from tests.fake_sage import FakeCollection, FakeSage
from tests.integration.test_engine import LINES, TABLES, Crash, Engine
from webapp.companies.models import Company
from webapp.connection.circuit import change_state
from webapp.connection.directions import FROM_SAGE, TO_SAGE
from webapp.connection.models import CONNECTED, PAUSED, Connection
from webapp.contacts.models import Contact
from webapp.db import Base, Database, UnitOfWork
from webapp.orders.amounts import LineValues, lines_text, read_lines
from webapp.orders.models import CONFIRMED, Order
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import STATUS_OF, Reason
from webapp.sync.conflicts import choose, lost_values, open_conflicts
from webapp.sync.duplicates import can_be_one, candidates, make_one
from webapp.sync.models import Conflict, Synced, SyncEvent, WriteIntent
from webapp.sync.records import find_record
from webapp.sync.resync import restore, resync, unlink
from webapp.sync.sending import have_sent, is_in_sage, may_have_been_made
from webapp.users.models import ADMIN, User
from workers.engine import claim as claim_module
from workers.engine import pull as pull_module
from workers.engine import push as push_module
from workers.engine.kinds import KINDS, fields_of
from workers.engine.lease import Lease
from workers.engine.outcome import RETRY_SECONDS
from workers.sage.connector import OutcomeUnknown, Rejected, Transient

STEPS = 18
FIELDS = {
    "company": ("name", "city", "phone", "email", "notes"),
    "contact": ("name", "role", "phone", "email"),
    "product": ("name", "code", "unit_price"),
    "order": ("notes", "shipping", "lines"),
}
COLLECTIONS = ("customers", "persons", "orders")


def calls_of(collections: Sequence[str], *methods: str) -> list[str]:
    """The names of these calls to each of these collections of Sage."""
    return [f"{name}.{method}" for name in collections for method in methods]


_VERSIONS = text(
    " UNION ALL ".join(f"SELECT '{kind.name}', id, sync_version FROM {kind.model.__tablename__}" for kind in KINDS)  # type: ignore[attr-defined]
)


@dataclass
class Told:
    """What one or many stories had in them: faults and people by kind, how often each promise was looked at, which
    points were passed, and how statuses changed: "queued -> running"."""

    faults: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)

    def add(self, other: Told) -> None:
        """Count those of other stories, too."""
        for mine, theirs in zip(self.counters, other.counters, strict=True):
            mine.update(theirs)

    @property
    def counters(self) -> tuple[Counter[str], ...]:
        """All counts, as plain data for another process: see `of`."""
        return self.faults, self.checks, self.points, self.moves

    @classmethod
    def of(cls, counters: Sequence[Mapping[str, int]]) -> Told:
        """What `counters` of another process say."""
        return cls(*map(Counter, counters))


class Breaks:
    """Where processes die and the database fails: the next time that a named point is reached, or at the n-th one.

    A point is the beginning or the end of a commit or of a call to Sage, named by the function of the engine that
    commits, or by the call: `claim.take_in_hand before`, `customers.create after`. Before the end of a call Sage has done it
    and nobody has noted the answer; after the end of a commit nobody has been told of it. What people save is one
    point. `reached` are all points so far, `broke` those where something broke, and `went_wrong` says what it was.
    """

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self.broke: list[str] = []
        self.went_wrong: list[str] = []
        self._armed: dict[str, list[Any]] = {}

    def arm(self, point: str, visit: int = 1, error: Callable[[], BaseException] = Crash) -> None:
        """Let `error` be raised at the `visit`-th time from now on that this point is reached.

        `commit` and `call` stand for any point of that sort.
        """
        self._armed[point] = [visit, error]

    def disarm(self) -> None:
        """Nothing breaks any more."""
        self._armed.clear()

    def reach(self, point: str, sort: str) -> None:
        """Somebody is at this point. Raises what it was armed with."""
        self.reached[point] += 1
        for name in (point, sort):
            armed = self._armed.get(name)
            if armed is None:
                continue
            armed[0] -= 1
            if armed[0] == 0:
                del self._armed[name]
                self.broke.append(point)
                error = armed[1]()
                self.went_wrong.append("process died" if isinstance(error, Crash) else "database failed")
                raise error


def database_gone() -> OperationalError:
    """What SQLAlchemy raises where PostgreSQL ends the connection."""
    return OperationalError("COMMIT", {}, psycopg.OperationalError("server closed the connection unexpectedly"))


def _committer() -> str:
    """The function of the engine that commits just now, such as `claim.take_in_hand`, or that a person saves something."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("workers.engine."):
            return f"{module.rpartition('.')[2]}.{frame.f_code.co_name}"
        if module.startswith("tests."):
            break
        frame = frame.f_back
    return "a person"


class Story:
    """One seed: what happens, and what was asked for.

    Products are part of it where `products` says so: a story without them is told as it was before there were any.
    """

    def __init__(self, services: Services, seed: int, *, products: bool = False) -> None:
        self.seed = seed
        # In every fourth story so much time passes that persons and orders are read whole again, and orders by their list.
        self.in_hours = seed % 4 == 0
        self.collections = (*COLLECTIONS, "products") if products else COLLECTIONS
        self.writes = calls_of(self.collections, "create", "update")
        self.reads = calls_of(self.collections, "read", "changed", "deleted")
        self.actions = {**ACTIONS, Story.add_product: 6} if products else ACTIONS
        self.chance = random.Random(seed)
        self.told = Told()
        self.breaks = Breaks()
        self.trace: list[str] = []
        self.engine = Engine(services)
        with services.database.unit_of_work() as work:
            admin = User(email="admin@example.com", name="Admin", role=ADMIN, password_hash="")
            work.session.add(admin)
            work.commit()
            self.admin = admin.id
        self.ticks = 0
        self.engine.sage = FakeSage(clock=self.sage_clock, page_size=3)
        self.engine.sage.at = self.at_call
        # Sage's clock goes wrong by up to two minutes, and so do those of the two workers.
        self.began = datetime.now(UTC) + timedelta(seconds=self.chance.randint(-120, 120))
        self.clocks = [timedelta(seconds=self.chance.randint(-120, 120)) for _ in range(2)]
        self.clock = self.clocks[0]
        self.writer = self.overtaken_writers = 0
        self.numbers = 0
        # Per record and field: every value that somebody set, with the side, oldest first.
        self.set_values: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        self.records: dict[str, Synced] = {}
        self.touched: set[str] = set()
        self.owners: dict[str, str] = {}
        self.held: dict[str, list[Any]] = defaultdict(list)
        self.read_of_ledger = 0

    @contextmanager
    def told_in(self, services: Services) -> Iterator[None]:
        """While it is open, chance decides for the engine too, and processes can die in it."""
        engine_chance = random.Random(self.seed)
        story = self

        class Clock(datetime):
            """What the worker that runs just now takes for the time."""

            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + story.clock

        keys = mock.Mock(uuid4=lambda: uuid.UUID(int=engine_chance.getrandbits(128)))
        commit, commit_one, after_commit = UnitOfWork.commit, Database.commit_one, services.database.after_commit

        def mortal(work: UnitOfWork) -> None:
            name, session = _committer(), work.session
            self.breaks.reach(f"{name} before", "commit")
            really = session.commit

            def and_then() -> None:
                really()
                self.breaks.reach(f"{name} after", "commit")

            session.commit = and_then  # type: ignore[method-assign]
            try:
                commit(work)
            finally:
                session.commit = really  # type: ignore[method-assign]

        def mortal_one(database: Database, statement: Any, values: Any, touches: Any = None, **_: Any) -> Any:
            name = _committer()
            self.breaks.reach(f"{name} before", "commit")
            row = commit_one(database, statement, values)
            self.breaks.reach(f"{name} after", "commit")
            if row is not None and touches is not None:
                self.touched.add(touches(row).key)
            return row

        services.database.after_commit = lambda work: self.touched.update(work.touched)
        try:
            with (
                mock.patch.object(UnitOfWork, "commit", mortal),
                mock.patch.object(Database, "commit_one", mortal_one),
                mock.patch.object(push_module, "random", engine_chance),
                mock.patch.object(push_module, "uuid", keys),
                mock.patch.object(push_module, "datetime", Clock),
                mock.patch.object(claim_module, "datetime", Clock),
                mock.patch.object(pull_module, "datetime", Clock),
                # A pull of few records takes several transactions, between which things happen, and notes its
                # progress, however fast it is.
                mock.patch.object(pull_module, "PAGE", 3),
                mock.patch.object(pull_module, "WHOLE_PAGE", 3),
                mock.patch.object(pull_module, "monotonic", count(0, 10).__next__),
            ):
                yield
        finally:
            services.database.after_commit = after_commit

    def tell(self) -> None:
        """The whole story. Raises AssertionError with all that happened where a promise is broken."""
        services = self.engine.services
        try:
            with self.told_in(services):
                self.begin()
                for _ in range(STEPS):
                    self.step()
                self.become_quiet()
                self.all_is_well()
        except AssertionError as error:
            trace = "\n".join(self.trace)
            raise AssertionError(f"make simulate START={self.seed} SEEDS=1 replays this:\n{trace}\n{error}") from error
        finally:
            self.told.faults.update(self.engine.sage.wrong)
            self.told.points.update(self.breaks.reached)

    def begin(self) -> None:
        """A company with a contact and an order, in step, so that there is something to go wrong."""
        self.add(type="customer", country="DE")
        self.add_child()
        self.add_child()
        self.confirm()
        self.push()
        self.look()

    def sage_clock(self) -> datetime:
        """Sage's clock: whole seconds, so that some changes share one."""
        self.ticks += self.chance.choice((0, 1, 1, 2))
        return self.began + timedelta(seconds=self.ticks)

    def value(self, field: str) -> str:
        """A value that nobody has set before."""
        self.numbers += 1
        match field:
            case "email":
                return f"v{self.numbers}@example.com"
            case "shipping" | "unit_price":
                return f"{self.numbers}.00"
            case "lines":
                line = LineValues(
                    f"Item {self.numbers}", Decimal(self.numbers), Decimal("2.50"), Decimal(0), Decimal(20)
                )
                return lines_text([line] * self.chance.choice((1, 1, 2)))
            case _:
                return f"{field} {self.numbers}"

    def at_call(self, point: str) -> None:
        """Sage is called, or has done what was called for. Whoever writes holds the newest lease that wrote so far."""
        self.breaks.reach(point, "call")
        name, end = point.split()
        if name in self.writes and end == "before":
            self.told.checks["I6 one writer"] += 1
            lease: Lease = self.engine.sage.before_write.__self__  # type: ignore[attr-defined]
            # The engine would take an error raised here for one of its own, so that it is told after the step.
            self.overtaken_writers += lease.number < self.writer
            self.writer = max(self.writer, lease.number)

    def look(self) -> list[tuple[Synced | None, Synced]]:
        """Read anew what changed since the last look. Returns it, each as it was (None where it is new) and as it is."""
        found = []
        with self.engine.services.database.unit_of_work() as work:
            versions = {f"{kind}:{id_}": version for kind, id_, version in work.session.execute(_VERSIONS)}
            for kind in KINDS:
                ids = [
                    int(key.partition(":")[2])
                    for key, version in versions.items()
                    if key.startswith(f"{kind.name}:")
                    and (key not in self.records or self.records[key].sync_version != version)
                ]
                if ids:
                    wanted = select(kind.model).where(kind.model.id.in_(ids)).options(*kind.loads)
                    for record in work.session.scalars(wanted.order_by(kind.model.id)):
                        found.append((self.records.get(record.key), record))
                        self.records[record.key] = record
        for key in self.records.keys() - versions.keys():
            del self.records[key]
        return found

    def some(self, of: type[Synced] | None = None, *reasons: Reason) -> Synced | None:
        """A record that chance picks, of these reasons if any are given."""
        fitting = [
            one
            for _, one in sorted(self.records.items())
            if (of is None or isinstance(one, of)) and (not reasons or one.sync_reason in reasons)
        ]
        return self.chance.choice(fitting) if fitting else None

    def there(self, record: Synced) -> FakeCollection:
        """The collection in Sage that a record belongs to."""
        sage = self.engine.sage
        of_kind = {"company": sage.customers, "contact": sage.persons, "product": sage.products, "order": sage.orders}
        return of_kind[record.kind]

    @contextmanager
    def person(self, record: Synced) -> Iterator[tuple[UnitOfWork, Synced | None, Connection]]:
        """A request of somebody who does something with a record; committed by whoever asks for it."""
        with self.engine.services.database.unit_of_work() as work:
            yield (
                work,
                find_record(work.session, record.key, lock=True),
                work.session.get_one(Connection, self.engine.connection_id),
            )

    # What people do.

    def add(self, **values: str) -> None:
        kind = self.chance.choice(["customer", "customer", "customer", "prospect"])
        country = self.chance.choice(["DE", "DE", "GB", ""])
        name, code = self.value("name"), self.chance.choice(["", f"C{self.numbers}"])
        id_ = self.engine.add(**{"name": name, "code": code, "country": country, "type": kind, **values})
        self.set_values[f"company:{id_}", "name"].append(("ours", name))
        self.look()

    def add_child(self) -> None:
        company = self.some(Company)
        if company is None:
            return
        if self.chance.random() < 0.5:
            name = self.value("name")
            id_ = self.engine.add_contact(company.id, name=name, email="")
            self.set_values[f"contact:{id_}", "name"].append(("ours", name))
        else:
            notes = self.value("notes")
            id_ = self.engine.add_order(company.id, confirmed=self.chance.random() < 0.7, notes=notes)
            self.set_values[f"order:{id_}", "notes"].append(("ours", notes))
            if product := self.some(Product):
                self.engine.edit_order(id_, [replace(LINES[0], product_id=product.id)])

    def add_product(self) -> None:
        name, code = self.value("name"), self.chance.choice(["", f"P{self.numbers}"])
        id_ = self.engine.add_product(name=name, code=code)
        self.set_values[f"product:{id_}", "name"].append(("ours", name))
        self.look()

    def confirm(self) -> None:
        for record in list(self.records.values()):
            if isinstance(record, Order) and record.phase != CONFIRMED:
                self.engine.confirm_order(record.id)

    def edit(self) -> None:
        record = self.some()
        if record is not None:
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
                case Product():
                    self.engine.edit_product(record.id, **{field: Decimal(value) if field == "unit_price" else value})
                case Order() if field == "lines":
                    self.engine.edit_order(record.id, read_lines(value))
                case Order():
                    self.engine.edit_order(record.id, None, **{field: Decimal(value) if field == "shipping" else value})
        finally:
            # A process that dies after its commit has saved the edit all the same.
            self.note(record.key, field, value)

    def note(self, key: str, field: str, value: str) -> None:
        """Remember that somebody gave a record this value, if the database has it."""
        with self.engine.services.database.unit_of_work() as work:
            now = find_record(work.session, key)
            if now is not None and now.shared(field) == value:
                self.set_values[key, field].append(("ours", value))

    def turn(self) -> None:
        """A customer becomes a prospect, or the other way round."""
        company = self.some(Company)
        if isinstance(company, Company):
            self.engine.edit(company.id, type="customer" if company.type == "prospect" else "prospect")

    def mend(self) -> None:
        record = self.some(None, Reason.REJECTED)
        if isinstance(record, Company):
            self.engine.edit(record.id, country="DE")
        elif record is not None:
            self.set_here(record, {"contact": "role", "product": "name", "order": "notes"}[record.kind])

    def choose(self) -> None:
        record = self.some(None, Reason.CONFLICT)
        if record is None:
            return
        with self.person(record) as (work, now, connection):
            if now is None:
                return
            sides = {one.field: self.chance.choice(("ours", "theirs")) for one in open_conflicts(work.session, now)}
            choose(work, now, sides, self.admin)  # type: ignore[arg-type]
            have_sent(work, now, connection, cause="choice", user_id=self.admin)
            work.commit()

    def take_back(self) -> None:
        """Somebody takes back a value that lost."""
        record = self.some(None, Reason.IN_STEP)
        if record is None:
            return
        value = ""
        field = ""
        with self.person(record) as (work, now, connection):
            lost = lost_values(work.session, now) if now is not None else []
            if now is None or not lost:
                return
            field, value = lost[0][0].field, lost[0][1]
            now.take(field, value)
            have_sent(work, now, connection, cause="edit", user_id=self.admin)
            work.commit()
        self.note(record.key, field, value)

    def restore_or_unlink(self) -> None:
        record = self.some(None, Reason.DELETED_IN_SAGE)
        if record is None:
            return
        with self.person(record) as (work, now, connection):
            if now is None:
                return
            if self.chance.random() < 0.7:
                restore(work, now, connection, self.admin)
            else:
                unlink(work, now, self.admin)
            work.commit()

    def make_one(self) -> None:
        record = self.some(None, Reason.POSSIBLE_DUPLICATE)
        if record is None:
            return
        with self.person(record) as (work, now, connection):
            others = [one for one in candidates(work.session, now) if can_be_one(now, one)] if now else []
            if now is None or not others:
                return
            if others[0].sync_reason not in (Reason.POSSIBLE_DUPLICATE, Reason.UNLINKED):
                return
            if any(may_have_been_made(work.session, one) for one in (now, others[0])):
                return
            key, other_key = now.key, others[0].key
            stays = make_one(work, now, others[0], connection, self.admin).key
            work.commit()
        goes = other_key if stays == key else key
        for (of, name), values in list(self.set_values.items()):
            if of == goes:
                self.set_values[stays, name] += [("theirs", value) for _, value in values]
                del self.set_values[of, name]

    def resync(self) -> None:
        record = self.some()
        if record is None:
            return
        keys = [self.chance.choice((record.key, record.key, f"module:{record.module}"))]
        with self.engine.services.database.unit_of_work() as work:
            resync(work, keys, self.admin)

    def pause(self) -> None:
        self._set_state(PAUSED)

    def resume(self) -> None:
        self._set_state(CONNECTED)

    def _set_state(self, state: str) -> None:
        with self.engine.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.engine.connection_id, with_for_update=True)
            if {connection.state, state} == {CONNECTED, PAUSED}:
                change_state(work, connection, state)
                work.commit()

    def give_the_word(self) -> None:
        """An admin says which side has the word on a field, or that none has it any more."""
        field = self.chance.choice(FIELDS["company"])
        word = self.chance.choice(({}, {"company": {field: TO_SAGE}}, {"company": {field: FROM_SAGE}}))
        with self.engine.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.engine.connection_id, with_for_update=True)
            connection.directions = word
            work.touch(connection)
            work.commit()

    def edit_in_sage(self) -> None:
        linked = [one for _, one in sorted(self.records.items()) if one.sage_id in self.there(one).by_id]
        if linked:
            record = self.chance.choice(linked)
            self.set_in_sage(record, self.chance.choice(FIELDS[record.kind]))

    def set_in_sage(self, record: Synced, field: str) -> None:
        """Somebody in Sage gives a linked record a new value."""
        value = self.value(field)
        assert record.sage_id
        self.there(record).edit(record.sage_id, **{field: value})
        self.set_values[record.key, field].append(("theirs", value))

    def add_in_sage(self) -> None:
        sage = self.engine.sage
        parents = sorted(sage.customers.by_id)
        what = self.chance.choice(self.collections)
        if what == "products":
            ours = [one.name for one in self.records.values() if isinstance(one, Product) and not one.sage_id]
            name = self.chance.choice([self.value("name"), *sorted(ours)[:1]])
            sage.products.add(name=name, code=self.chance.choice(["", f"S{self.numbers}"]))
        elif what == "customers" or not parents:
            names = [one.name for one in self.records.values() if isinstance(one, Company) and not one.sage_id]
            # Now and then one that resembles one of ours.
            name = self.chance.choice([self.value("name"), *sorted(names)[:1]])
            sage.customers.add(name=name, code=self.chance.choice(["", f"S{self.numbers}"]))
        elif what == "persons":
            sage.persons.add(self.chance.choice(parents), name=self.value("name"))
        else:
            days = {"ordered_on": "2026-11-02", "valid_until": "2026-12-02", "shipping": "0.00"}
            number = self.chance.choice(["", f"Q-{self.numbers}"])
            sage.orders.add(self.chance.choice(parents), number=number, lines=self.value("lines"), **days)

    def add_doubtful_in_sage(self) -> None:
        """Somebody in Sage adds a customer that may be either of two that were added here just now."""
        email = self.value("email")
        for _ in range(2):
            self.add(email=email, type="customer", country="DE")
        self.engine.sage.customers.add(name=self.value("name"), email=email)
        self.pull()

    def delete_in_sage(self) -> None:
        there: FakeCollection = getattr(self.engine.sage, self.chance.choice(self.collections))
        if there.by_id:
            gone = self.chance.choice(sorted(there.by_id))
            in_silence = self.chance.random() < 0.25
            there.delete(gone, in_silence=in_silence)
            self.told.faults["deletion without a tombstone"] += in_silence
            # What they had typed there goes with it, by their own wish; what of it has arrived here is ours by now.
            records = {one.key: one for one in self.records.values() if one.sage_id == gone}
            for (key, name), values in self.set_values.items():
                if key in records and "theirs" in dict(values):
                    ours = [value for value in values if value[0] == "ours"]
                    values[:] = [*ours, ("ours", records[key].shared(name))]

    def backup_is_put_back(self) -> None:
        """A record in Sage has an older state again, with its older time, of which no reading of changes tells."""
        linked = [one for _, one in sorted(self.records.items()) if one.sage_id in self.there(one).by_id]
        if not linked:
            return
        record = self.chance.choice(linked)
        assert record.sage_id
        before = self.there(record).by_id[record.sage_id]
        after = self.there(record).put_back(record.sage_id)
        if after is not None:
            self.told.faults["backup put back"] += 1
            for name, value in after.fields.items():
                if value != before.fields[name]:
                    self.set_values[record.key, name].append(("theirs", value))

    # What goes wrong.

    def sage_fails(self) -> None:
        error = self.chance.choice(
            [
                Transient("503", {"status": "503"}),
                self.chance.choice(
                    (
                        Transient("429", {"status": "429"}),
                        Transient("429 with Retry-After", {"status": "429"}, after=self.chance.choice((7.0, 90.0))),
                    )
                ),
                OutcomeUnknown("no answer"),
                OutcomeUnknown("no answer"),
                Rejected({"code": "refused", "field": "phone"}),
                ValueError("a bug of ours"),
            ]
        )
        applied = isinstance(error, OutcomeUnknown) and self.chance.random() < 0.6
        # Of all calls of one sort the next one, whatever it is about, or of all calls.
        sort = self.chance.choice(("create", "update", "update", "read", "changed", "deleted", "check"))
        if isinstance(error, Rejected | OutcomeUnknown):
            sort = self.chance.choice(("create", "update"))
        times = self.chance.choice((1, 1, 3))
        for call in (*self.writes, *self.reads, *calls_of(self.collections, "find"), "check"):
            if call.endswith(sort):
                self.engine.sage.will_fail_next(call, error, times=times, applied=applied)

    def sage_fails_for_long(self) -> None:
        """What is edited now fails until its tries are used up."""
        error = self.chance.choice((Transient("503", {"status": "503"}), OutcomeUnknown("no answer")))
        applied = isinstance(error, OutcomeUnknown) and self.chance.random() < 0.5
        self.edit()
        for name in self.writes:
            self.engine.sage.will_fail_next(name, error, times=len(RETRY_SECONDS) + 1, applied=applied)
        for _ in range(len(RETRY_SECONDS) + 1):
            self.push()
            self.engine.let_time_pass()

    def sage_is_away(self) -> None:
        self.engine.sage.go_away()

    def tokens_are_revoked(self) -> None:
        self.engine.sage.revoke()

    def sage_is_back(self) -> None:
        self.engine.sage.come_back()

    def sage_is_stale(self) -> None:
        self.engine.sage.will_read_stale(self.chance.choice((1, 1, 2)))

    def pages_shift(self) -> None:
        self.engine.sage.will_shift(f"{self.chance.choice(self.collections)}.changed")

    def sage_drops_a_value(self) -> None:
        self.engine.sage.ignores = self.chance.choice(("", "phone", "email"))

    def edit_during_a_call(self) -> None:
        self.during_a_call(self.edit)

    def edit_in_sage_during_a_call(self) -> None:
        # Between a read and the write after it nobody can be told apart from us; docs/sync.md says so.
        call = self.chance.choice([*calls_of(self.collections, "create"), "check"])
        self.engine.sage.during_next(call, self.edit_in_sage)

    def pull_during_a_call(self) -> None:
        self.during_a_call(self.pull)

    def another_worker(self) -> None:
        """A worker is stopped in a call for longer than its lease; another one takes over; then the first goes on."""

        def taken_over() -> None:
            self.told.faults["worker stopped beyond its lease"] += 1
            self.engine.let_time_pass()
            self.push()
            # So that the first one finds something to write.
            self.edit()

        self.engine.sage.during_next(self.chance.choice([*self.writes, "customers.read"]), taken_over)

    def during_a_call(self, action: Callable[[], None]) -> None:
        during = [call for call in (*self.writes, *self.reads) if not call.endswith(("changed", "deleted"))]
        self.engine.sage.during_next(self.chance.choice(during), action)

    def crash(self) -> None:
        self.breaks.arm(self.chance.choice(("commit", "commit", "call")), self.chance.randint(1, 9))

    def database_fails(self) -> None:
        self.breaks.arm("commit", self.chance.randint(1, 9), database_gone)

    # What the product does.

    def push(self) -> None:
        self.survive(self.engine.push)

    def pull(self) -> None:
        self.survive(self.engine.pull)

    def edit_and_push(self) -> None:
        self.edit()
        self.push()

    def edit_on_both_sides(self) -> None:
        self.edit()
        self.edit_in_sage()
        self.push()

    def edit_again_before_the_next_try(self) -> None:
        """Both sides edit a record, nobody hears what became of the write, and somebody edits it once more."""
        linked = [one for _, one in sorted(self.records.items()) if one.sage_id in self.there(one).by_id]
        if not linked:
            return
        record = self.chance.choice(linked)
        here, there, again = (self.chance.choice(FIELDS[record.kind]) for _ in range(3))
        self.set_here(record, here)
        self.set_in_sage(record, there)
        method = f"{self.there(record).name}.update"
        self.engine.sage.will_lose_the_answer(method, applied=self.chance.random() < 0.7)
        self.push()
        self.set_here(record, again)

    def push_and_pull(self) -> None:
        self.push()
        self.pull()

    def survive(self, action: Callable[[], None]) -> None:
        """Run a job in one of the workers; a crash of it leaves its lease and claims behind, and they run out."""
        outer, self.clock = self.clock, self.chance.choice(self.clocks)
        try:
            action()
        except Crash:
            self.trace.append(f"    died at {self.breaks.broke[-1]}")
        except (OperationalError, ValueError) as error:
            # The job ends, as RQ would note.
            self.trace.append(f"    ended by {type(error).__name__}")
        finally:
            self.clock = outer
            self.engine.services.redis.delete(f"synclight:pull:{self.engine.connection_id}")

    def time_passes(self) -> None:
        if self.in_hours:
            self.engine.an_hour_passes()
        self.engine.let_time_pass()
        self.engine.sql(
            *(
                f"UPDATE {table} SET last_attempt_at = last_attempt_at - interval '10 min'"
                for table in ("company", "product")
            )
        )

    def step(self) -> None:
        """Chance chooses what happens next."""
        actions = self.actions
        (action,) = self.chance.choices(list(actions), list(actions.values()))
        self.trace.append(action.__name__)
        known = len(self.breaks.broke)
        # A person's own request dies too; what it had committed stays.
        try:
            action(self)
        except Crash:
            self.trace.append(f"    died at {self.breaks.broke[-1]}")
        except IntegrityError as error:
            # Two people gave the same code: the form says so. Nothing else is refused.
            if "_code" not in str(error.orig):
                raise
            self.trace.append("    refused")
        except OperationalError:
            self.trace.append("    the database failed")
        broke = len(self.breaks.broke) > known
        for what in self.breaks.went_wrong[known:]:
            self.told.faults[what] += 1
        self.promises(complete=not broke)

    def become_quiet(self) -> None:
        """No faults and no edits any more: as many rounds as it takes until one changes nothing."""
        self.trace.append("it becomes quiet")
        self.engine.sage.heal()
        self.breaks.disarm()
        self.resume()
        # As if a day were over: all is read whole, and nothing of Sage lags behind any more.
        if self.in_hours:
            self.engine.an_hour_passes()
            self.engine.sql("DELETE FROM sync_cursor WHERE entity IN ('customers, whole', 'products, whole')")
        else:
            self.engine.sql("DELETE FROM sync_cursor WHERE entity LIKE '%whole'")
        self.engine.sql(
            *(f"UPDATE {table} SET last_synchronised_at = last_synchronised_at - interval '1 d'" for table in TABLES)
        )
        self.promises()
        for _ in range(7):
            self.pull()
            self.time_passes()
            self.push()
            if not self.promises():
                return

    # What must be true.

    def promises(self, *, complete: bool = True) -> bool:
        """Look at what changed since the last look. Returns whether anything did.

        `complete` is False where a process died in between, which may have committed what it told nobody.
        """
        changed = self.look()
        for before, now in changed:
            self.trace.append(f"    {now.key}: {now.sync_reason} {now.sync_detail.get('code')}")
            self.nothing_green_is_a_lie(now)
            self.who_waits_knows_until_when(now)
            if complete:
                self.browsers_are_told(before, now)
        self.touched.clear()
        self.nobody_has_two_objects()
        assert not self.overtaken_writers, "a worker wrote after another one had taken over its lease and written"
        return any(before is None or _visible(before) != _visible(now) for before, now in changed)

    def nothing_green_is_a_lie(self, record: Synced) -> None:
        self.told.checks["I4 no false green"] += 1
        if record.sync_status == "synchronised":
            fields = fields_of(record)
            assert fields == record.agreed, f"{record.key} is green and differs from what was agreed"
            self.read_ledger()
            assert fields in self.held[record.sage_id or ""], f"{record.key} is green and Sage never held that"

    def who_waits_knows_until_when(self, record: Synced) -> None:
        self.told.checks["I5 who waits knows until when"] += 1
        assert record.sync_status == STATUS_OF[Reason(record.sync_reason)]
        assert (record.next_attempt_at is not None) == (record.sync_status == "pending"), record.key

    def browsers_are_told(self, before: Synced | None, now: Synced) -> None:
        self.told.checks["I7 browsers are told"] += 1
        # Nobody looks at what is new.
        if before is not None and _visible(before) != _visible(now):
            assert now.key in self.touched, f"{now.key} changed and nobody was told"

    def read_ledger(self) -> None:
        """Remember what each record in Sage has held."""
        for entry in self.engine.sage.ledger[self.read_of_ledger :]:
            self.held[entry.id].append(entry.fields)
        self.read_of_ledger = len(self.engine.sage.ledger)

    def nobody_has_two_objects(self) -> None:
        self.told.checks["I2 never two objects"] += 1
        sage = self.engine.sage
        if unknown := set(sage.made.values()) - self.owners.keys():
            with self.engine.services.database.unit_of_work() as work:
                wanted = select(WriteIntent).where(WriteIntent.idempotency_key.in_(unknown))
                for intent in work.session.scalars(wanted):
                    self.owners[intent.idempotency_key] = f"{intent.kind}:{intent.record_id}"
        there = {*sage.customers.by_id, *sage.persons.by_id, *sage.products.by_id, *sage.orders.by_id}
        made = Counter(self.owners[key] for sage_id, key in sage.made.items() if sage_id in there)
        assert {key: count for key, count in made.items() if count > 1} == {}

    def all_is_well(self) -> None:
        """What is true when it has become quiet."""
        self.both_sides_are_equal_or_a_person_is_asked()
        self.what_sage_has_is_here()
        self.nobody_took_what_another_made()
        self.each_write_has_its_history()
        self.nobodys_edit_is_gone()

    def both_sides_are_equal_or_a_person_is_asked(self) -> None:
        for record in self.records.values():
            self.told.checks["I1 both sides are equal"] += 1
            if record.sync_reason == Reason.WAITING_FOR_PARENT:
                assert isinstance(record, Contact | Order)
                company = self.records[f"company:{record.company_id}"]
                assert isinstance(company, Company)
                assert not is_in_sage(company), f"{record.key} waits for a company that Sage has"
                assert company.sync_status in ("review", "not_synchronised"), (
                    f"{record.key} waits, and {company.key} is {company.sync_reason}"
                )
                continue
            assert record.sync_status != "pending", f"{record.key} is still {record.sync_reason}"
            if record.sync_status == "synchronised":
                assert record.sage_id is not None
                remote = self.there(record).by_id[record.sage_id]
                assert fields_of(record) == remote.fields, f"{record.key} is green and differs from Sage"

    def what_sage_has_is_here(self) -> None:
        records = self.records.values()
        linked = {record.sage_id for record in records}
        customers = {one.sage_id for one in records if isinstance(one, Company) and one.type == "customer"}
        sage = self.engine.sage
        unsure = {one.kind for one in records if one.sync_reason in (Reason.REJECTED, Reason.OUTCOME_UNKNOWN)}
        # What was made without an answer for a customer that is gone is found when that one is in Sage again.
        waiting = {one.key for one in records if one.sync_reason == Reason.WAITING_FOR_PARENT}
        excluded = {one.kind for one in records if one.sync_reason == Reason.EXCLUDED}
        collections = {
            "company": sage.customers,
            "contact": sage.persons,
            "product": sage.products,
            "order": sage.orders,
        }
        for kind, there in collections.items():
            for remote in there.by_id.values():
                wanted = kind in ("company", "product") or remote.parent in customers
                if (
                    remote.parent not in sage.customers.by_id
                    and self.owners.get(sage.made.get(remote.id, "")) in waiting
                ):
                    continue
                assert not wanted or remote.id in linked or kind in unsure | excluded, f"{remote} is not here"

    def nobody_took_what_another_made(self) -> None:
        sage = self.engine.sage
        there = {*sage.customers.by_id, *sage.persons.by_id, *sage.products.by_id, *sage.orders.by_id}
        for record in self.records.values():
            if record.sage_id in sage.made and record.sage_id in there:
                owner = self.owners[sage.made[record.sage_id]]
                assert owner == record.key or owner not in self.records, f"{record.key} took what {owner} made"

    def each_write_has_its_history(self) -> None:
        """Each write was noted before it was sent, and its record's history says that it was compared with Sage."""
        with self.engine.services.database.unit_of_work() as work:
            noted = Counter(
                f"{kind}:{id_}" for kind, id_ in work.session.execute(select(WriteIntent.kind, WriteIntent.record_id))
            )
            compared = {
                f"{kind}:{id_}"
                for kind, id_ in work.session.execute(
                    select(SyncEvent.kind, SyncEvent.record_id).where(SyncEvent.to_reason == Reason.RUNNING)
                )
            }
            for before, after in work.session.execute(select(SyncEvent.from_reason, SyncEvent.to_reason)):
                self.told.moves[f"{before} -> {after}"] += 1
        writes = Counter(entry.id for entry in self.engine.sage.ledger if entry.by == "us")
        for record in self.records.values():
            self.told.checks["I8 each write has its history"] += 1
            written = writes[record.sage_id or ""]
            assert noted[record.key] >= written, f"{record.key} was written more often than was noted"
            assert not written or record.key in compared, f"{record.key} was written without a trace"

    def nobodys_edit_is_gone(self) -> None:
        # Values that gave way and are kept, where they can be taken back.
        kept: dict[tuple[str, str], set[str]] = defaultdict(set)
        with self.engine.services.database.unit_of_work() as work:
            for one in work.session.scalars(select(Conflict)):
                kept[f"{one.kind}:{one.record_id}", one.field] |= {one.ours, one.theirs}
        deleted = {entry.id for entry in self.engine.sage.ledger if entry.operation == "delete"}
        for (key, name), values in self.set_values.items():
            record = self.records.get(key)
            if record is None or record.sync_status != "synchronised" or record.sage_id in deleted:
                continue
            self.told.checks["I3 nobody's edit is gone"] += 1
            last = dict(values)
            now = record.shared(name)
            if (key, name) in kept:
                assert now in kept[key, name].union(value for _, value in values), f"{key}.{name} is {now}"
                assert kept[key, name] | {now} >= {*last.values()} - {now} or len(values) > 1, f"{key}.{name}"
                continue
            assert now in last.values(), f"{key}.{name} is {now}, and was set to {values}"
            if len(last) == 1:
                assert now == values[-1][1], f"{key}.{name} is {now}, and was set to {values}"


ACTIONS: dict[Callable[[Story], None], int] = {
    Story.add: 3,
    Story.add_child: 6,
    Story.confirm: 2,
    Story.edit: 4,
    Story.edit_and_push: 10,
    Story.edit_on_both_sides: 5,
    Story.edit_again_before_the_next_try: 2,
    Story.turn: 1,
    Story.mend: 3,
    Story.choose: 3,
    Story.take_back: 2,
    Story.restore_or_unlink: 3,
    Story.make_one: 2,
    Story.resync: 2,
    Story.pause: 1,
    Story.resume: 4,
    Story.give_the_word: 1,
    Story.edit_in_sage: 6,
    Story.add_in_sage: 3,
    Story.add_doubtful_in_sage: 2,
    Story.delete_in_sage: 2,
    Story.backup_is_put_back: 2,
    Story.sage_fails: 9,
    Story.sage_fails_for_long: 1,
    Story.sage_is_away: 1,
    Story.tokens_are_revoked: 1,
    Story.sage_is_back: 5,
    Story.sage_is_stale: 3,
    Story.pages_shift: 2,
    Story.sage_drops_a_value: 1,
    Story.edit_during_a_call: 4,
    Story.edit_in_sage_during_a_call: 2,
    Story.pull_during_a_call: 2,
    Story.another_worker: 4,
    Story.crash: 8,
    Story.database_fails: 2,
    Story.push: 8,
    Story.push_and_pull: 10,
    Story.time_passes: 8,
}


def _visible(record: Synced) -> tuple[Any, ...]:
    """What a person sees of a record."""
    return record.sync_reason, record.sync_detail, record.sage_number, fields_of(record)


def empty(database: Database) -> None:
    """Have no records, no people and no connections, and all numbers begin anew: a story depends on none before it."""
    with database.engine.begin() as connection:
        connection.execute(_EMPTY)


_EMPTY = text(
    "; ".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))
    + "; SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences"
    " WHERE last_value IS NOT NULL"
)
