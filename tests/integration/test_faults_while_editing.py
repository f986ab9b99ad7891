"""The engine and the connector on a sandbox, with each of its faults in turn, while people edit on both sides.

Nobody edits the same field on both sides here, so in the end both must be equal and nobody is asked. `EDITS=5000` in the
environment tells a longer story, `SEED=2` another one, `ORDERS_AS=invoices` one of invoices instead of quotes.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.accounting import BUSINESS, accounting, token_of
from tests.integration.test_engine import LINES, Engine
from tests.sandbox_process import SandboxProcess
from tests.stack import wait_until
from webapp.connection.models import CONNECTED, Connection
from webapp.contacts.models import Contact
from webapp.orders.models import Order
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import Synced
from webapp.sync.transitions import queue
from workers.engine.kinds import KINDS, fields_of
from workers.sage.accounting import customers, documents, persons, products, records
from workers.sage.connector import Connector, RemoteRecord
from workers.sandbox import faults

EDITS, SEED = int(os.environ.get("EDITS", "500")), int(os.environ.get("SEED", "1"))
AT_A_TIME = 12
ORDERS_AS = {"quotes": documents.QUOTES, "invoices": documents.INVOICES}[os.environ.get("ORDERS_AS", "quotes")]
LISTS = {"company": "contacts", "contact": "contact_persons", "product": "products", "order": ORDERS_AS.collection}
# What each fault is switched on with, some in several ways. It stays on while its share of the edits is made.
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("offline", {}),
    ("latency", {"seconds": 0.01}),
    ("unavailable", {"retry_after": 1}),
    ("unavailable", {}),
    ("rate_limited", {"retry_after": "seconds", "seconds": 1}),
    ("rate_limited", {"retry_after": "date", "seconds": 1}),
    ("rate_limited", {"retry_after": "absent"}),
    ("slow_drip", {"seconds": 0.02}),
    ("reset", {"times": 4}),
    ("reject", {"times": 4}),
    ("error_before", {}),
    ("error_after", {}),
    ("no_answer_after", {}),
    ("truncated", {"times": 6}),
    ("html", {"times": 6}),
    ("stale_read", {"seconds": 2}),
    ("shifting_pages", {"by": 1}),
    ("shifting_pages", {"by": -1}),
    ("tokens_revoked", {}),
    # From here on Sage's clock is fast; up to here it is slow.
    ("clock_skew", {"seconds": 180}),
]


class Story(Engine):
    """People at work, and what is known of what they did."""

    def __init__(self, services: Services, sandbox: SandboxProcess) -> None:
        super().__init__(services)
        self.sandbox = sandbox
        self.chance = random.Random(SEED)
        # Nobody renews the token here, and on a busy machine the story takes longer than the 5 min that Sage gives one.
        sandbox.settings(access_token_seconds=86_400)
        self.token = token_of(sandbox)
        self.numbers = 0
        self.rates = documents.rates_of(
            sandbox.client(BUSINESS).get("/tax_rates", params={"attributes": "percentage"}).json()["$items"]
        )
        # Records in Sage that somebody there edited or added since Sage was last read to the end.
        self.unseen: set[str] = set()
        self.refused: set[str] = set()
        self.edits: Counter[str] = Counter()
        self.in_hand: set[int] = set()
        self.hides = ""
        self.edited: set[str] = set()
        self.edited_here: set[str] = set()
        self.skew, self.skew_fault = 0, ""
        self.tick(-90)

    # --- the engine ---------------------------------------------------------------------------------------------------

    @contextmanager
    def connect(self, services: Services, connection_id: int, before_write: Callable[[], None]) -> Iterator[Connector]:
        def before() -> None:
            before_write()
            self.in_hand.add(sum(one.sync_reason == Reason.RUNNING for one in self.records()))

        with accounting(self.sandbox.base_url, self.token, before_write=before, document=ORDERS_AS) as connector:
            yield connector

    def push(self, hands: int = 2) -> None:
        super().push(hands)

    def pull(self) -> None:
        before = set(self.unseen)
        super().pull()
        # Of an old state, or of pages that shift, a pull that ended well has not seen all.
        if self.last_run_error() is None and self.hides not in ("stale_read", "shifting_pages"):
            self.unseen -= before

    def last_run_error(self) -> str | None:
        with self.services.database.engine.connect() as database:
            return database.exec_driver_sql("SELECT error FROM sync_run ORDER BY id DESC LIMIT 1").scalar()

    def tick(self, seconds: int = 1) -> None:
        """Let Sage's clock go on: two changes within one of its seconds cannot be told apart, see docs/sync.md.

        It never goes back, since what was written before would look newer than what follows.
        """
        self.skew += seconds
        before, self.skew_fault = self.skew_fault, self.sandbox.fault("clock_skew", seconds=self.skew)
        if before:
            self.sandbox.clear_fault(before)

    def authorise(self) -> None:
        """An admin authorises again."""
        self.token = token_of(self.sandbox)
        with self.services.database.unit_of_work() as work:
            work.session.execute(update(Connection).values(state=CONNECTED))
            work.commit()

    # --- both sides ---------------------------------------------------------------------------------------------------

    def records(self) -> list[Synced]:
        # Of one moment: a hand that is done with a company may have a contact in hand right after.
        with self.services.database.snapshot() as session:
            return [
                record
                for kind in KINDS
                for record in session.scalars(select(kind.model).options(*kind.loads).order_by(kind.model.id))
            ]

    def there(self) -> dict[str, RemoteRecord]:
        """All that Sage really has, by id: no fault strikes its people."""
        found = [customers.remote_customer(one) for one in self.sandbox.records("contacts", BUSINESS)]
        found += [
            persons.remote_person(one, one["contact_id"])
            for one in self.sandbox.records("contact_persons", BUSINESS)
            if not persons.is_main(one)
        ]
        found += [
            products.remote_product(one, lambda: self.rates) for one in self.sandbox.records("products", BUSINESS)
        ]
        found += [
            documents.remote_order(ORDERS_AS, one, self.rates) for one in self.sandbox.records(LISTS["order"], BUSINESS)
        ]
        return {one.id: one for one in found}

    # --- people -------------------------------------------------------------------------------------------------------

    def value(self, what: str) -> str:
        self.numbers += 1
        return f"{what} {self.numbers}"

    def begin(self) -> None:
        for _ in range(14):
            self.add_something("company")
        self.push()
        for _ in range(8):
            self.add_something("product")
            self.add_something("contact")
            self.add_something("order")
        self.push()
        assert {one.sync_reason for one in self.records()} == {Reason.IN_STEP}

    def add_something(self, kind: str) -> None:
        companies = [one.id for one in self.records() if one.kind == "company"]
        if kind == "company":
            self.add(name=self.value("Company"), code="", email=f"c{self.numbers}@example.com")
        elif kind == "contact":
            self.add_contact(
                self.chance.choice(companies), name=self.value("Person"), email=f"p{self.numbers}@x.example"
            )
        elif kind == "product":
            self.add_product(name=self.value("Product"), code=f"P{self.numbers}")
        else:
            order_id = self.add_order(self.chance.choice(companies), notes=self.value("note"))
            product_id = self.chance.choice([one.id for one in self.records() if one.kind == "product"])
            self.edit_order(order_id, [replace(LINES[0], product_id=product_id)])

    def somebody_edits(self) -> None:
        """One edit: mostly of what is there, here or in Sage, now and then something new."""
        chance = self.chance.random()
        if self.hides == "stale_read":
            self.edit_while_reads_are_stale(chance)
        elif chance < 0.12:
            self.edits["added here"] += 1
            self.add_something(self.chance.choice(["company", "contact", "product", "order"]))
        elif chance < 0.16:
            self.edits["added in Sage"] += 1
            made = self.sandbox.add(name=self.value("Customer"), city="Bath", email=f"s{self.numbers}@example.com")
            self.unseen.add(made["id"])
        elif chance < 0.65:
            self.edits["edited here"] += 1
            self.edit_here(self.chance.choice(self.records()))
        else:
            linked = [one for one in self.records() if one.sage_id and one.sync_reason == Reason.IN_STEP]
            if linked:
                self.edits["edited in Sage"] += 1
                self.edit_in_sage(self.chance.choice(linked))

    def edit_while_reads_are_stale(self, chance: float) -> None:
        """One edit of a record that nobody has edited since then, and that is one object in Sage.

        What cannot be promised of others stands in docs/sync.md.
        """
        left = [one for one in self.records() if one.kind != "company" and one.key not in self.edited]
        record = self.chance.choice(left or [one for one in self.records() if one.key in self.edited_here])
        self.edited.add(record.key)
        if chance < 0.5 or record.key in self.edited_here or record.sync_reason != Reason.IN_STEP:
            self.edits["edited here"] += 1
            self.edited_here.add(record.key)
            self.edit_here(record)
        else:
            self.edits["edited in Sage"] += 1
            self.edit_in_sage(record)

    def edit_here(self, record: Synced) -> None:
        match record.kind:
            case "company":
                self.edit(record.id, phone=self.value("030"))
            case "contact":
                self.edit_contact(record.id, phone=self.value("030"))
            case "product":
                self.edit_product(record.id, unit_price=Decimal(self.chance.randrange(1, 900)))
            case _:
                self.edit_order(record.id, shipping=Decimal(self.chance.randrange(1, 900)))

    def edit_in_sage(self, record: Synced) -> None:
        assert record.sage_id is not None
        changed = {
            "company": {"city": self.value("City")},
            "contact": {"job_title": self.value("Role")},
            "product": {"description": self.value("Product")},
            "order": {"notes": self.value("note")},
        }[record.kind]
        self.sandbox.edit(record.sage_id, LISTS[record.kind], **changed)
        self.unseen.add(record.sage_id)

    # --- what must be true --------------------------------------------------------------------------------------------

    def switch_on(self, kind: str, times: int | None = None, **options: Any) -> str:
        """Switch a fault on. Returns its id, empty for one that is not switched off again."""
        if kind == "clock_skew":
            self.tick(options["seconds"])
            return ""
        if kind == "stale_read":
            # Nothing that was written up to now is shown as it was before.
            wait_until(lambda: datetime.now(UTC) - self.written_at() > timedelta(seconds=options["seconds"]))
        return self.sandbox.fault(kind, times=times, **options)

    def written_at(self) -> datetime:
        """When Sage was last written to, by this machine's clock."""
        return datetime.fromisoformat(self.sandbox.ledger()[-1]["at"])

    def statuses_are_true(self, fault: str) -> None:
        """Each record's status, at a moment at which nothing is under way."""
        there, connection = self.there(), self.connection()
        for record in self.records():
            said = f"{record.key} is {record.sync_reason} during {fault}"
            match Reason(record.sync_reason):
                case Reason.IN_STEP:
                    remote = there.get(record.sage_id or "")
                    assert remote is not None, f"{said}, and Sage does not have it"
                    if remote.id not in self.unseen:
                        assert fields_of(record) == remote.fields, said
                    assert record.claim is None, said
                case Reason.QUEUED:
                    assert connection.state == CONNECTED, said
                case Reason.WAITING_FOR_SAGE:
                    assert connection.state != CONNECTED, said
                case Reason.RETRYING:
                    assert record.attempts > 0, said
                case Reason.WAITING_FOR_PARENT:
                    assert isinstance(record, Contact | Order), said
                    assert not self.company(record.company_id).sage_id, said
                case Reason.REJECTED:
                    assert fault == "reject" or record.key in self.refused, said
                    assert record.sync_detail["raw"]["message"] == "This record cannot be saved.", said
                    self.refused.add(record.key)
                case _:
                    raise AssertionError(said)

    def nothing_is_double(self) -> None:
        """Each create of ours in the ledger is a record of its own, and each record of ours that Sage has was created
        once."""
        made = Counter(
            (one["resource"], _called(one["body"]))
            for one in self.sandbox.ledger()
            if one["operation"] == "create" and one["by"] == "api"
        )
        assert {what: times for what, times in made.items() if times > 1} == {}
        ids = [one.sage_id for one in self.records()]
        assert len(ids) == len(set(ids))

    def become_quiet(self) -> None:
        for _ in range(10):
            self.let_time_pass()
            self.pull()
            self.push()
            if not self.unseen and {one.sync_reason for one in self.records()} == {Reason.IN_STEP}:
                return

    def resync_refused(self) -> None:
        """An admin resyncs what was refused."""
        with self.services.database.unit_of_work() as work:
            connection = work.session.get_one(Connection, self.connection_id)
            for kind in KINDS:
                refused = select(kind.model).where(kind.model.sync_reason == Reason.REJECTED).with_for_update()
                for record in work.session.scalars(refused):
                    queue(work, record, connection, cause="resync")
            work.commit()
        self.refused.clear()


def _called(body: Mapping[str, Any]) -> str:
    """What tells a record that was created from all others of its list."""
    inner = next(iter(body.values()))
    return str(inner.get("name") or inner.get("reference") or inner.get("item_code"))


@pytest.fixture
def story(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    # So that few records fill several pages, which can shift.
    monkeypatch.setattr(records, "MOST_PER_PAGE", 7)
    with SandboxProcess().start(var=tmp_path) as sandbox:
        yield Story(services, sandbox)


def test_the_list_of_faults_is_whole() -> None:
    assert {kind for kind, _ in FAULTS} == set(faults.KINDS)


@pytest.mark.timeout(120 + EDITS)
def test_each_fault_in_turn_while_people_edit(story: Story) -> None:
    story.begin()
    share = -(-EDITS // len(FAULTS))
    for kind, options in FAULTS:
        fault = story.switch_on(kind, **options)
        story.hides = kind
        for first in range(0, share, AT_A_TIME):
            for _ in range(min(AT_A_TIME, share - first)):
                story.somebody_edits()
            story.tick()
            story.push()
            story.statuses_are_true(kind)
            story.pull()
            story.statuses_are_true(kind)
            story.tick()
        if fault:
            story.sandbox.clear_fault(fault)
        story.hides = ""
        if kind == "tokens_revoked":
            story.authorise()
        if kind == "reject":
            story.resync_refused()
        story.become_quiet()
        story.statuses_are_true("nothing")
        story.nothing_is_double()
    assert sum(story.edits.values()) >= EDITS * 0.9
    assert set(story.edits) == {"added here", "added in Sage", "edited here", "edited in Sage"}

    here, there = story.records(), story.there()
    assert {one.sync_reason for one in here} == {Reason.IN_STEP}
    assert {one.sage_id: fields_of(one) for one in here} == {key: one.fields for key, one in there.items()}
    # One hand had a record at Sage; the other one may have had the next in hand.
    assert story.in_hand <= {1, 2}
