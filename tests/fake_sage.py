"""A Sage in memory that speaks the connector's interface, for tests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from workers.sage.connector import (
    CUSTOMER_FIELDS,
    AuthoriseAgain,
    Business,
    Fields,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteCustomer,
    SageError,
    Tombstone,
    Unreachable,
    tidied,
)


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: a change that Sage really made.

    `operation` is create, update or delete; `by` is us or sage.
    """

    operation: str
    id: str
    fields: Fields
    by: str


@dataclass(frozen=True)
class _Fault:
    error: Exception
    applied: bool


class FakeSage:
    """One business in Sage, in memory. Implements workers.sage.connector.Connector.

    As Sage does: codes are unique, an idempotency key gives the same customer again, changes since a moment include
    that moment, deletes leave tombstones, and times are whole seconds. `clock` says what time it is in Sage.
    `customers_by_id` is what Sage holds, `ledger` what was done to it, `calls` the names of the methods that talked
    to it, in order.
    """

    def __init__(
        self,
        *,
        before_write: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        page_size: int = 200,
    ) -> None:
        self.before_write = before_write
        self.page_size = page_size
        self.customers_by_id: dict[str, RemoteCustomer] = {}
        self.tombstones: list[Tombstone] = []
        self.ledger: list[Entry] = []
        self.calls: list[str] = []
        self._clock = clock
        self._next_id = 1
        self._by_key: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._faults: dict[str, list[_Fault]] = {}
        self._during: dict[str, list[Callable[[], None]]] = {}
        self._down: SageError | None = None
        self._stale: dict[str, RemoteCustomer] = {}
        self._stale_reads = 0
        # The name of a field whose new value Sage drops without a word.
        self.ignores = ""

    # What a test does to Sage.

    def add(self, **fields: str) -> RemoteCustomer:
        """Somebody creates a customer in Sage."""
        return self._create(fields, by="sage")

    def edit(self, sage_id: str, **fields: str) -> RemoteCustomer:
        """Somebody edits a customer in Sage."""
        return self._update(sage_id, {**self.customers_by_id[sage_id].fields, **fields}, by="sage")

    def delete(self, sage_id: str) -> None:
        """Somebody deletes a customer in Sage."""
        gone = self.customers_by_id.pop(sage_id)
        self.tombstones.append(Tombstone(sage_id, self._now()))
        self.ledger.append(Entry("delete", sage_id, gone.fields, "sage"))

    def will_fail_next(self, method: str, error: Exception, *, times: int = 1, applied: bool = False) -> None:
        """Let the next calls of `method` (create_customer, customers, ...) raise `error`.

        `applied` says whether Sage applies a write before that.
        """
        self._faults.setdefault(method, []).extend([_Fault(error, applied)] * times)

    def will_lose_the_answer(self, method: str, *, applied: bool) -> None:
        """Let the next call of a writing method end with an unknown outcome."""
        self.will_fail_next(method, OutcomeUnknown("no answer"), applied=applied)

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
        """Let the next `times` calls of `customer` show the state before our last write to it.

        Only where that was the last write, and not within one second of the one before.
        """
        self._stale_reads = times

    def during_next(self, method: str, action: Callable[[], None]) -> None:
        """Do something while the next call of `method` is under way: Sage has applied it and has not answered yet."""
        self._during.setdefault(method, []).append(action)

    def created(self, name: str) -> int:
        """How many customers of this name we ever made in Sage: two are one too many."""
        return sum(
            1
            for entry in self.ledger
            if entry.operation == "create" and entry.by == "us" and entry.fields["name"] == name
        )

    # What the engine calls.

    def check(self) -> Business:
        self._end("check", self._begin("check"))
        return Business("b" * 32, "Northwind Traders Ltd")

    def customer(self, sage_id: str) -> RemoteCustomer:
        fault = self._begin("customer")
        self._end("customer", fault)
        if self._stale_reads and sage_id in self._stale:
            self._stale_reads -= 1
            return self._stale[sage_id]
        return self._existing(sage_id)

    def customers(self, changed_since: datetime | None) -> Iterator[list[RemoteCustomer]]:
        wanted = [
            one
            for one in self.customers_by_id.values()
            if changed_since is None or one.updated_at >= changed_since.replace(microsecond=0)
        ]
        yield from self._pages("customers", wanted)

    def deleted_customers(self, since: datetime) -> Iterator[list[Tombstone]]:
        wanted = [one for one in self.tombstones if one.deleted_at > since.replace(microsecond=0)]
        yield from self._pages("deleted_customers", wanted)

    def create_body(self, fields: Fields, idempotency_key: str) -> dict[str, Any]:
        return {"idempotency_id": idempotency_key, "fields": self._checked(fields)}

    def create_customer(self, body: Mapping[str, Any]) -> RemoteCustomer:
        self.before_write()
        fault = self._begin("create_customer")
        made = self._create_once(body) if fault is None or fault.applied else None
        self._end("create_customer", fault)
        assert made is not None
        return made

    def update_body(self, fields: Fields, remote: RemoteCustomer) -> dict[str, Any]:
        return {"fields": self._checked(fields)}

    def update_customer(self, sage_id: str, body: Mapping[str, Any]) -> RemoteCustomer:
        self.before_write()
        fault = self._begin("update_customer")
        fields = dict(body["fields"])
        if self.ignores:
            fields[self.ignores] = self._existing(sage_id).fields[self.ignores]
        changed = self._update(sage_id, fields, by="us") if fault is None or fault.applied else None
        self._end("update_customer", fault)
        assert changed is not None
        return changed

    def find_customers(self, *, code: str = "", email: str = "", name: str = "") -> list[RemoteCustomer]:
        self._end("find_customers", self._begin("find_customers"))
        wanted = {"code": code, "email": email, "name": name}
        return [
            one
            for one in self.customers_by_id.values()
            if any(value and one.fields[key].casefold() == value.casefold() for key, value in wanted.items())
        ][:20]

    # How it is done.

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _begin(self, method: str) -> _Fault | None:
        self.calls.append(method)
        if self._down:
            raise self._down
        waiting = self._faults.get(method)
        fault = waiting.pop(0) if waiting else None
        if fault and not fault.applied:
            raise fault.error
        return fault

    def _end(self, method: str, fault: _Fault | None) -> None:
        waiting = self._during.get(method)
        if waiting:
            waiting.pop(0)()
        if fault:
            raise fault.error

    def _pages(self, method: str, wanted: list[Any]) -> Iterator[list[Any]]:
        for start in range(0, max(len(wanted), 1), self.page_size):
            self._end(method, self._begin(method))
            yield wanted[start : start + self.page_size]

    def _existing(self, sage_id: str) -> RemoteCustomer:
        if sage_id not in self.customers_by_id:
            raise NotFound("The record could not be found.", {"status": "404", "code": "RecordNotFound"})
        return self.customers_by_id[sage_id]

    def _checked(self, fields: Fields) -> dict[str, str]:
        tidy = tidied(fields)
        for name in ("name", "country"):
            if not tidy[name]:
                raise Rejected({"code": "missing", "field": name})
        return tidy

    def _refuse_taken(self, code: str, own_id: str | None) -> None:
        if code and any(one.fields["code"] == code and one.id != own_id for one in self.customers_by_id.values()):
            raise Rejected(
                {"code": "code_taken", "field": "code", "value": code}, {"status": "422", "code": "RecordInvalid"}
            )

    def _create_once(self, body: Mapping[str, Any]) -> RemoteCustomer:
        key = str(body["idempotency_id"])
        if key in self._by_key:
            known, sage_id = self._by_key[key]
            assert known == body, f"the idempotency key {key} carried another body before"
            return self._existing(sage_id)
        made = self._create(body["fields"], by="us", origin=key)
        self._by_key[key] = (dict(body), made.id)
        return made

    def _create(self, fields: Mapping[str, str], *, by: str, origin: str = "") -> RemoteCustomer:
        tidy = tidied({"country": "GB", **fields})
        self._refuse_taken(tidy["code"], None)
        made = RemoteCustomer(f"{self._next_id:032x}", tidy["code"], self._now(), tidy, origin)
        self._next_id += 1
        self.customers_by_id[made.id] = made
        self.ledger.append(Entry("create", made.id, tidy, by))
        return made

    def _update(self, sage_id: str, fields: Mapping[str, str], *, by: str) -> RemoteCustomer:
        before = self._existing(sage_id)
        tidy = tidied(fields)
        assert set(tidy) == set(CUSTOMER_FIELDS)
        self._refuse_taken(tidy["code"], sage_id)
        # As Sage: the time of a change moves only where something changed, and never back.
        moved = max(self._now(), before.updated_at) if tidy != before.fields else before.updated_at
        changed = replace(before, number=tidy["code"], updated_at=moved, fields=tidy)
        if by == "us" and moved > before.updated_at:
            # Of two states of one second nobody can tell which is the older one; docs/sync.md says so.
            self._stale[sage_id] = before
        else:
            self._stale.pop(sage_id, None)
        self.customers_by_id[sage_id] = changed
        self.ledger.append(Entry("update", sage_id, tidy, by))
        return changed
