"""A Sage in memory that speaks the connector's interface, for tests of the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn

from webapp.orders.amounts import lines_text, products_in, read_lines, totals
from workers.sage.connector import (
    CUSTOMER_FIELDS,
    ORDER_FIELDS,
    PERSON_FIELDS,
    PRODUCT_FIELDS,
    PRODUCT_GONE,
    AuthoriseAgain,
    Business,
    Fields,
    Listed,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteRecord,
    SageError,
    Tombstone,
    Unchanged,
    Unreachable,
    none_is_known,
    tidied,
)

# What a record that somebody adds in Sage has, where nothing else is said.
_STANDARD = {"country": "GB", "unit_price": "0.00", "discontinued": "no"}


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: a change that Sage really made.

    `operation` is create, update or delete; `collection` is customers, persons, products or orders; `by` is us or sage.
    """

    operation: str
    collection: str
    id: str
    fields: Fields
    by: str


@dataclass(frozen=True)
class _Fault:
    error: Exception
    applied: bool


class FakeCollection:
    """The customers, the persons, the products or the orders of a FakeSage. Implements workers.sage.connector.Collection.

    `by_id` is what Sage holds. The name of a call is that of the collection and of the method: `persons.create`.
    A list of orders only tells what their lines come to, and `read_for_lists` are the ids of those that were read for one.
    """

    def __init__(
        self,
        sage: FakeSage,
        name: str,
        names: Sequence[str],
        *,
        required: Sequence[str],
        unique: str = "",
        sought: Sequence[str],
        owner: FakeCollection | None = None,
        keeps_tombstones: bool = True,
    ) -> None:
        self.by_id: dict[str, RemoteRecord] = {}
        self.tombstones: list[Tombstone] = []
        self.not_understood: set[str] = set()
        self._sage = sage
        self.name = name
        self._names = tuple(names)
        self._required = required
        self._unique = unique
        self._sought = sought
        self._owner = owner
        self._keeps_tombstones = keeps_tombstones
        # The persons of a customer go with it, and leave none.
        self.tells_deletions = keeps_tombstones and owner is None
        self.read_for_lists: list[str] = []
        self._by_key: dict[str, tuple[Mapping[str, Any], RemoteRecord]] = {}
        self._before_our_write: dict[str, RemoteRecord] = {}
        self._past: dict[str, list[RemoteRecord]] = {}

    # What a test does to Sage.

    def add(self, parent: str = "", **fields: str) -> RemoteRecord:
        """Somebody creates a record in Sage."""
        return self._create(fields, parent, by="sage")

    def edit(self, sage_id: str, **fields: str) -> RemoteRecord:
        """Somebody edits a record in Sage."""
        return self._update(sage_id, {**self.by_id[sage_id].fields, **fields}, by="sage")

    def put_back(self, sage_id: str) -> RemoteRecord | None:
        """A backup is put back: the record has the state, and the time, that it had before its last change.

        None where it never had another, or where its code is another one's by now.
        """
        past = self._past.get(sage_id)
        if not past:
            return None
        before = past.pop()
        try:
            if self._unique:
                self._refuse_taken(before.fields[self._unique], sage_id)
        except Rejected:
            return None
        self.by_id[sage_id] = before
        self._before_our_write.pop(sage_id, None)
        self._sage.ledger.append(Entry("update", self.name, sage_id, before.fields, "sage"))
        return before

    def delete(self, sage_id: str, *, in_silence: bool = False) -> None:
        """Somebody deletes a record in Sage. The persons of a customer go with it, and leave no tombstones.

        `in_silence` it leaves none itself.
        """
        gone = self.by_id.pop(sage_id)
        if self._keeps_tombstones and not in_silence:
            self.tombstones.append(Tombstone(sage_id, self._sage.now()))
        self._sage.ledger.append(Entry("delete", self.name, sage_id, gone.fields, "sage"))
        if self._owner is None:
            persons = self._sage.persons.by_id
            for one in [person for person in persons.values() if person.parent == sage_id]:
                del persons[one.id]
                self._sage.ledger.append(Entry("delete", "persons", one.id, one.fields, "sage"))

    def grow_older(self, by: timedelta) -> None:
        """All that happened here happened so much earlier; no read shows an older state than it should."""

        def older(record: RemoteRecord) -> RemoteRecord:
            return replace(record, updated_at=record.updated_at - by)

        self.by_id = {key: older(record) for key, record in self.by_id.items()}
        self._past = {key: [older(record) for record in past] for key, past in self._past.items()}
        self._by_key = {key: (body, older(made)) for key, (body, made) in self._by_key.items()}
        self.tombstones = [replace(one, deleted_at=one.deleted_at - by) for one in self.tombstones]
        self._before_our_write.clear()

    # What the engine calls.

    def read(self, sage_id: str) -> RemoteRecord:
        self._end("read", self._begin("read"))
        if self._sage.stale_reads and sage_id in self._before_our_write:
            self._sage.stale_reads -= 1
            self._sage.wrong["old state read"] += 1
            return self._before_our_write[sage_id]
        return self._existing(sage_id)

    def changed(self, since: datetime | None, unchanged: Unchanged = none_is_known) -> Iterator[list[RemoteRecord]]:
        wanted = [one for one in self.by_id.values() if since is None or one.updated_at >= since.replace(microsecond=0)]
        for page in self._pages("changed", wanted):
            if page and "lines" in self._names:
                known = unchanged([Listed(one.id, one.updated_at, partial(_agrees, one)) for one in page])
                page = [one for one in page if one.id not in known]
                self.read_for_lists += [one.id for one in page]
            yield page

    def deleted(self, since: datetime) -> Iterator[list[Tombstone]]:
        wanted = [one for one in self.tombstones if one.deleted_at > since.replace(microsecond=0)]
        yield from self._pages("deleted", wanted)

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        return {"idempotency_id": idempotency_key, "fields": self._checked(fields), "parent": parent}

    def create(self, body: Mapping[str, Any]) -> RemoteRecord:
        self._sage.before_write()
        fault = self._begin("create")
        made = self._create_once(body) if fault is None or fault.applied else None
        self._end("create", fault)
        assert made is not None
        return made

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        return {"fields": self._checked(fields)}

    def update(self, sage_id: str, body: Mapping[str, Any]) -> RemoteRecord:
        self._sage.before_write()
        fault = self._begin("update")
        fields = dict(body["fields"])
        if self._sage.ignores in fields:
            held = self._existing(sage_id).fields[self._sage.ignores]
            self._sage.wrong["value dropped in silence"] += fields[self._sage.ignores] != held
            fields[self._sage.ignores] = held
        if fault is None or fault.applied:
            self._refuse_gone(fields, self._existing(sage_id).products)
        changed = self._update(sage_id, fields, by="us") if fault is None or fault.applied else None
        self._end("update", fault)
        assert changed is not None
        return changed

    def find(self, fields: Fields, parent: str = "") -> list[RemoteRecord]:
        self._end("find", self._begin("find"))
        wanted = {name: value.casefold() for name in self._sought if (value := fields.get(name, ""))}
        return [
            one
            for one in self.by_id.values()
            if one.parent == parent and any(one.fields[name].casefold() == value for name, value in wanted.items())
        ][:20]

    # How it is done.

    def _begin(self, method: str) -> _Fault | None:
        return self._sage.begin(f"{self.name}.{method}")

    def _end(self, method: str, fault: _Fault | None) -> None:
        self._sage.end(f"{self.name}.{method}", fault)

    def _pages(self, method: str, wanted: list[Any]) -> Iterator[list[Any]]:
        for start in range(0, max(len(wanted), 1), self._sage.page_size):
            self._end(method, self._begin(method))
            page = wanted[start : start + self._sage.page_size]
            if page and f"{self.name}.{method}" in self._sage.shifting:
                self._sage.shifting.discard(f"{self.name}.{method}")
                page = page[1:]
                self._sage.wrong["page shifted"] += 1
            yield page

    def _existing(self, sage_id: str) -> RemoteRecord:
        if sage_id not in self.by_id:
            raise NotFound("The record could not be found.", {"status": "404", "code": "RecordNotFound"})
        return self.by_id[sage_id]

    def _checked(self, fields: Fields) -> dict[str, str]:
        tidy = tidied(fields, self._names)
        for name in self._required:
            if not tidy[name]:
                raise Rejected({"code": "missing", "field": name})
        return tidy

    def _refuse_gone(self, fields: Fields, before: tuple[str, ...] = ()) -> None:
        """A line that keeps its product names it, too."""
        named = {*products_in(fields.get("lines", "")), *_without_products({**fields}, before)[1]} - {""}
        if not named <= self._sage.products.by_id.keys():
            raise Rejected({"code": PRODUCT_GONE, "field": "lines"}, {"status": "422", "code": "RecordInvalid"})

    def _refuse_taken(self, value: str, own_id: str | None) -> None:
        name = self._unique
        if value and any(one.fields[name] == value and one.id != own_id for one in self.by_id.values()):
            raise Rejected(
                {"code": f"{name}_taken", "field": name, "value": value}, {"status": "422", "code": "RecordInvalid"}
            )

    def _number(self, sage_id: str, fields: Fields) -> str:
        """What people in Sage call it by: the code of a customer or a product, the number of a quote; a person has none."""
        return fields.get("code", "") if self.name != "orders" else f"SQ-{int(sage_id, 16)}"

    def _create_once(self, body: Mapping[str, Any]) -> RemoteRecord:
        key = str(body["idempotency_id"])
        if key in self._by_key:
            known, made = self._by_key[key]
            assert known == body, f"the idempotency key {key} carried another body before"
            return made
        self._refuse_gone(body["fields"])
        # Customers and products say which create made them.
        origin = "" if self._owner else key
        made = self._create(body["fields"], str(body["parent"]), by="us", origin=origin)
        self._by_key[key] = (dict(body), made)
        self._sage.made[made.id] = key
        return made

    def _create(self, fields: Mapping[str, str], parent: str, *, by: str, origin: str = "") -> RemoteRecord:
        if self._owner is not None:
            self._owner._existing(parent)
        tidy = tidied({**_STANDARD, **fields}, self._names)
        if self._unique:
            self._refuse_taken(tidy[self._unique], None)
        sage_id = self._sage.new_id()
        tidy, products = _without_products(tidy, ())
        number = self._number(sage_id, tidy)
        made = RemoteRecord(sage_id, number, self._sage.now(), tidy, parent, origin, products=products)
        self.by_id[made.id] = made
        self._sage.ledger.append(Entry("create", self.name, made.id, tidy, by))
        return made

    def _update(self, sage_id: str, fields: Mapping[str, str], *, by: str) -> RemoteRecord:
        before = self._existing(sage_id)
        tidy, products = _without_products(tidied(fields, self._names), before.products)
        if self._unique:
            self._refuse_taken(tidy[self._unique], sage_id)
        # As Sage: the time of a change moves only where something changed, and never back.
        moved = max(self._sage.now(), before.updated_at) if tidy != before.fields else before.updated_at
        changed = replace(before, number=self._number(sage_id, tidy), updated_at=moved, fields=tidy, products=products)
        if by == "us" and moved > before.updated_at:
            # Of two states of one second nobody can tell which is the older one; docs/sync.md says so.
            self._before_our_write[sage_id] = before
        else:
            self._before_our_write.pop(sage_id, None)
        self.by_id[sage_id] = changed
        if changed != before:
            self._past.setdefault(sage_id, []).append(before)
        self._sage.ledger.append(Entry("update", self.name, sage_id, tidy, by))
        return changed


def _agrees(order: RemoteRecord, fields: Fields) -> bool:
    """Whether what a list tells of an order is true of one with such fields."""
    ours, theirs = (
        {**one, "lines": totals(read_lines(one["lines"]), Decimal(one["shipping"]))} for one in (fields, order.fields)
    )
    return ours == theirs


class FakeSage:
    """One business in Sage, in memory. Implements workers.sage.connector.Connector.

    As Sage does: the codes of customers and of products are unique, the references that have our orders' numbers are not,
    and each order has a number of Sage's own as well; persons and orders belong to a customer that exists, an idempotency
    key gives its first answer again, whatever became of the record since, changes since a moment include that moment,
    deleted orders leave no tombstones and all others do, and times are whole seconds. `clock` says what time it is in
    Sage. `ledger` is what was done to it, `made` the idempotency key of each record that we made, `calls` the names of the
    methods that talked to it, in order, and `wrong` how often what went wrong.
    """

    def __init__(
        self,
        *,
        before_write: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        page_size: int = 200,
    ) -> None:
        self.before_write = before_write
        self.clock = clock
        self.page_size = page_size
        self.customers = FakeCollection(
            self,
            "customers",
            CUSTOMER_FIELDS,
            required=("name", "country"),
            unique="code",
            sought=("code", "email", "name"),
        )
        self.persons = FakeCollection(
            self, "persons", PERSON_FIELDS, required=("name",), sought=("email", "name"), owner=self.customers
        )
        self.products = FakeCollection(
            self,
            "products",
            PRODUCT_FIELDS,
            required=("name", "unit_price", "discontinued"),
            unique="code",
            sought=("code", "name"),
        )
        self.orders = FakeCollection(
            self,
            "orders",
            ORDER_FIELDS,
            required=("ordered_on", "valid_until", "lines"),
            sought=("number",),
            owner=self.customers,
            keeps_tombstones=False,
        )
        self.ledger: list[Entry] = []
        self.made: dict[str, str] = {}
        self.calls: list[str] = []
        self.wrong: Counter[str] = Counter()
        # Told of the beginning of each call, and of its end: Sage has done it, and nobody has the answer yet.
        self.at: Callable[[str], None] = lambda point: None
        # The names of listing calls whose next page lacks a record, as where pages shift while they are read.
        self.shifting: set[str] = set()
        # How many reads will show the state before our last write.
        self.stale_reads = 0
        # Whether calls are left for what nobody waits for.
        self.room = True
        # The name of a field whose new value Sage drops without a word.
        self.ignores = ""
        self._ids = 0
        self._faults: dict[str, list[_Fault]] = {}
        self._during: dict[str, list[Callable[[], None]]] = {}
        self._down: SageError | None = None

    def will_fail_next(self, call: str, error: Exception, *, times: int = 1, applied: bool = False) -> None:
        """Let the next calls of `call` (customers.create, persons.changed, check, ...) raise `error`.

        `applied` says whether Sage applies a write before that.
        """
        self._faults.setdefault(call, []).extend([_Fault(error, applied)] * times)

    def will_lose_the_answer(self, call: str, *, applied: bool) -> None:
        """Let the next call of a writing method end with an unknown outcome."""
        self.will_fail_next(call, OutcomeUnknown("no answer"), applied=applied)

    def go_away(self) -> None:
        """Nobody reaches Sage from now on."""
        self._down = Unreachable("connection refused")

    def revoke(self) -> None:
        """Sage takes no token of ours from now on."""
        self._down = AuthoriseAgain("invalid_grant")

    def come_back(self) -> None:
        """Sage answers again."""
        self._down = None

    def will_read_stale(self, times: int = 1) -> None:
        """Let the next `times` reads of a record show the state before our last write to it.

        Only where that was the last write, and not within one second of the one before.
        """
        self.stale_reads = times

    def will_shift(self, call: str) -> None:
        """Let the next page of `customers.changed` and the like lack a record that it should have."""
        self.shifting.add(call)

    def during_next(self, call: str, action: Callable[[], None]) -> None:
        """Do something while the next `call` is under way: Sage has applied it and has not answered yet."""
        self._during.setdefault(call, []).append(action)

    def an_hour_passes(self) -> None:
        """All that happened here happened an hour earlier, and nothing lags behind any more."""
        hour = timedelta(hours=1)
        self.stale_reads = 0
        for there in (self.customers, self.persons, self.products, self.orders):
            there.grow_older(hour)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.come_back()
        self._faults.clear()
        self._during.clear()
        self.stale_reads = 0
        self.shifting.clear()
        self.ignores = ""

    def has_room(self) -> bool:
        return self.room

    def check(self) -> Business:
        self.end("check", self.begin("check"))
        return Business("b" * 32, "Northwind Traders Ltd")

    # What the collections share.

    def now(self) -> datetime:
        return self.clock().replace(microsecond=0)

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:032x}"

    def begin(self, call: str) -> _Fault | None:
        self.calls.append(call)
        self.at(f"{call} before")
        if self._down:
            self._fail(self._down, str(self._down))
        waiting = self._faults.get(call)
        fault = waiting.pop(0) if waiting else None
        if fault and not fault.applied:
            self._fail(fault.error, f"{fault.error}, nothing applied" if _is_open(fault) else str(fault.error))
        return fault

    def end(self, call: str, fault: _Fault | None) -> None:
        waiting = self._during.get(call)
        if waiting:
            waiting.pop(0)()
        self.at(f"{call} after")
        if fault:
            self._fail(fault.error, f"{fault.error}, applied" if _is_open(fault) else str(fault.error))

    def _fail(self, error: Exception, name: str) -> NoReturn:
        self.wrong[name] += 1
        raise error


def _without_products(fields: dict[str, str], before: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The fields of an order as both sides compare them, and the products that its lines name; a line in the place of
    one that named a product names that, unless it says another one."""
    if "lines" not in fields:
        return fields, ()
    said, lines = products_in(fields["lines"]), read_lines(fields["lines"])
    kept = (*before, *[""] * len(said))
    return {**fields, "lines": lines_text(lines)}, tuple(one or old for one, old in zip(said, kept, strict=False))


def _is_open(fault: _Fault) -> bool:
    """Whether nobody but Sage knows what became of the call."""
    return isinstance(fault.error, OutcomeUnknown)
