"""What the sandbox remembers: records, ledger, idempotency answers, tokens and switches, in one SQLite file.

A commit reaches the operating system before the answer is sent, so an answered write survives the death of the process.
It waits for no disk (synchronous=OFF): all connections to the sandbox would wait with it. So it does not claim to survive
the death of the machine, which may damage the file. One process owns it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from workers.sandbox.rules import IDEMPOTENCY_SECONDS

By = Literal["api", "person"]
Operation = Literal["create", "update", "delete"]

_SEARCHED = ("name", "reference", "contact_name", "item_code", "description")
"""What a list's `search` looks into, as far as its records have it."""

_KNOWN_BY = {"contacts": "reference", "products": "item_code"}
"""The field that names one live record of a collection, whatever its case."""

_MOST_READ = 2_000
"""How many records are kept in memory after they were read, about 2 KB each."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    business TEXT NOT NULL,
    resource TEXT NOT NULL,
    contact_id TEXT,
    address_id TEXT,
    reference TEXT,
    email TEXT,
    types TEXT NOT NULL DEFAULT '',
    search TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    state TEXT NOT NULL,
    written_at REAL NOT NULL,
    previous TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS record_list ON record (business, resource, deleted_at, seq, types);
CREATE INDEX IF NOT EXISTS record_updated ON record (business, resource, updated_at);
CREATE INDEX IF NOT EXISTS record_of_contact ON record (contact_id);
CREATE INDEX IF NOT EXISTS record_of_address ON record (address_id) WHERE address_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS record_email ON record (business, email) WHERE email IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS record_reference ON record (business, resource, reference)
    WHERE reference IS NOT NULL AND deleted_at IS NULL;
CREATE TABLE IF NOT EXISTS ledger (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    business TEXT NOT NULL,
    resource TEXT NOT NULL,
    id TEXT NOT NULL,
    operation TEXT NOT NULL,
    by TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS answer (
    business TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (business, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answer_age ON answer (at);
CREATE TABLE IF NOT EXISTS credential (
    digest TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    expires_at REAL NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    details TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


class StoreError(Exception):
    """The file cannot be used. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a business. Times are whole seconds since 1970, as exact as Sage's. `state` is what was written."""

    id: str
    business: str
    resource: str
    state: Mapping[str, Any]
    created_at: int
    updated_at: int
    deleted_at: int | None = None
    contact_id: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records a list holds. Only the fields that are set narrow it."""

    business: str
    resource: str
    changed_since: float | None = None
    deleted_since: float | None = None
    contact_type_id: str | None = None
    search: str | None = None
    email: str | None = None
    contact_id: str | None = None
    address_id: str | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """The WHERE clause, made of the constants below, and its values, which may come from outside."""
        # These name few records, so those are looked up and the list is not walked: + keeps its index out.
        few = self.email is not None or self.contact_id is not None or self.address_id is not None
        walked = "+" if few else ""
        clauses, values = [f"{walked}business = ?", f"{walked}resource = ?"], [self.business, self.resource]

        def add(clause: str, value: Any) -> None:
            clauses.append(clause)
            values.append(value)

        if self.deleted_since is None:
            clauses.append("deleted_at IS NULL")
        else:
            add("deleted_at > ?", self.deleted_since)
        if self.changed_since is not None:
            add("updated_at >= ?", self.changed_since)
        if self.contact_type_id is not None:
            add("instr(types, ?)", f" {self.contact_type_id} ")
        if self.search is not None:
            add("instr(search, ?)", self.search.casefold())
        if self.email is not None:
            clauses.append(
                "id IN (SELECT contact_id FROM record WHERE business = ? AND email = ? AND deleted_at IS NULL)"
            )
            values += [self.business, self.email.casefold()]
        if self.contact_id is not None:
            add("contact_id = ?", self.contact_id)
        if self.address_id is not None:
            add("address_id = ?", self.address_id)
        return " AND ".join(clauses), values


@dataclass(frozen=True, slots=True)
class Credential:
    """A code or token, known by its digest. `kind` is code, access or refresh; one grant may have many of each."""

    digest: str
    kind: str
    grant_id: str
    expires_at: float
    used: bool
    details: Mapping[str, Any]


_DECODER = json.JSONDecoder()
_COLUMNS = "id, business, resource, state, created_at, updated_at, deleted_at, contact_id, written_at, previous"


def _record(row: tuple[Any, ...]) -> Record:
    # What we wrote ourselves has no blanks around it, and looking for them takes as long as reading it.
    return Record(row[0], row[1], row[2], _DECODER.raw_decode(row[3])[0], row[4], row[5], row[6], row[7])


class Store:
    """The file and its queries. Not for threads: the server serves every request in one."""

    def __init__(self, folder: Path) -> None:
        """Open or create `folder`/sandbox.sqlite3.

        Raises StoreError when another sandbox uses the folder, it cannot be written or the file is damaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"The sandbox cannot write to {folder}: {error.strerror}. Set SYNCLIGHT_VAR.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise StoreError(
                f"Another sandbox uses {folder}. Stop it or set SYNCLIGHT_VAR to another folder."
            ) from error
        self._sql = sqlite3.connect(folder / "sandbox.sqlite3", isolation_level=None, cached_statements=256)
        try:
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = OFF")
            self._sql.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self.close()
            if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StoreError(f"The sandbox's state is damaged ({error}). Delete {folder} to begin anew.") from error
            raise StoreError(f"The sandbox cannot use {folder}: {error}. Mend that, or set SYNCLIGHT_VAR.") from error
        # What was read since the last write. One process owns the file, so nothing else can change it.
        self._totals: dict[Filter, int] = {}
        self._page_starts: dict[tuple[Filter, int], int] = {}
        self._read: dict[str, Record] = {}
        self._stale_seconds = 0.0

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._sql.close()
        os.close(self._lock)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is kept together, or not at all when it raises.

        Nothing inside may wait: the server would take up another request in the middle of it.
        """
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sql.execute("ROLLBACK")
            self._read.clear()
            raise
        self._sql.execute("COMMIT")
        self._totals.clear()
        self._page_starts.clear()

    @contextmanager
    def stale(self, seconds: float) -> Iterator[None]:
        """Inside, records written in the last `seconds` are read as they were before their last write."""
        self._stale_seconds = seconds
        try:
            yield
        finally:
            self._stale_seconds = 0.0

    # --- records ------------------------------------------------------------------------------------------------------

    def get(self, business: str, resource: str, key: str) -> Record | None:
        """The record, unless it does not exist, is deleted or belongs to another business or collection."""
        record = self.many([key]).get(key)
        if record is None or record.deleted_at is not None:
            return None
        return record if (record.business, record.resource) == (business, resource) else None

    def many(self, keys: Iterable[str]) -> dict[str, Record]:
        """Id -> record, deleted ones included, of whatever business; unknown ids are left out."""
        found: dict[str, Record] = {}
        wanted = []
        for key in keys:
            read = None if self._stale_seconds else self._read.get(key)
            if read is None:
                wanted.append(key)
            else:
                found[key] = read
        # SQLite takes a bounded number of values in one statement; a page of contacts names up to 600 records.
        for start in range(0, len(wanted), 500):
            slice_ = wanted[start : start + 500]
            marks = ",".join("?" * len(slice_))
            for row in self._sql.execute(f"SELECT {_COLUMNS} FROM record WHERE id IN ({marks})", slice_):  # noqa: S608 - marks are question marks
                record = self._seen(row)
                if record is not None:
                    found[record.id] = record
        if wanted and not self._stale_seconds:
            if len(self._read) > _MOST_READ:
                self._read.clear()
            self._read.update((key, found[key]) for key in wanted if key in found)
        return found

    def total(self, chosen: Filter) -> int:
        """How many records the list holds. Remembered until the next write: a walk asks once per page."""
        if chosen not in self._totals:
            where, values = chosen.sql()
            counted = self._sql.execute(f"SELECT count(*) FROM record WHERE {where}", values)  # noqa: S608 - see Filter
            self._totals[chosen] = counted.fetchone()[0]
        return self._totals[chosen]

    def page(self, chosen: Filter, offset: int, limit: int) -> list[Record]:
        """A slice of the list, in the order of creation. A walk goes on where its last page ended, at any depth."""
        where, values = chosen.sql()
        start = self._page_starts.get((chosen, offset))
        if start is not None:
            # For the few records that changed lately the index of times is better than this one: + keeps it out.
            where += " AND seq > ?" if chosen.changed_since is None else " AND +seq > ?"
            values.append(start)
        rows = self._sql.execute(
            f"SELECT {_COLUMNS}, seq FROM record WHERE {where} ORDER BY seq LIMIT ? OFFSET ?",  # noqa: S608 - see Filter
            [*values, limit, 0 if start is not None else offset],
        ).fetchall()
        if rows:
            self._page_starts[chosen, offset + len(rows)] = rows[-1][-1]
        return [record for record in map(self._seen, rows) if record is not None]

    def of_contact(self, contact_id: str, resource: str) -> list[Record]:
        """The live addresses, persons or quotes of a contact, oldest first."""
        rows = self._sql.execute(
            f"SELECT {_COLUMNS} FROM record "  # noqa: S608 - a constant
            "WHERE contact_id = ? AND resource = ? AND deleted_at IS NULL ORDER BY seq",
            (contact_id, resource),
        )
        return [_record(row) for row in rows]

    def reference_holder(self, business: str, resource: str, reference: str) -> str | None:
        """Id of the live record that has this reference, ignoring case."""
        row = self._sql.execute(
            "SELECT id FROM record WHERE business = ? AND resource = ? AND reference = ? AND deleted_at IS NULL",
            (business, resource, reference.casefold()),
        ).fetchone()
        return None if row is None else str(row[0])

    def put(self, record: Record) -> None:
        """Insert the record or replace the one with its id, keeping the version before for stale reads."""
        self._read.pop(record.id, None)
        state = record.state
        # Any two quotes may have the same reference; only contacts and products are known by theirs.
        reference = state.get(_KNOWN_BY.get(record.resource, ""))
        email = state.get("email")
        taken = reference.casefold() if reference else None
        columns = {
            "business": record.business,
            "resource": record.resource,
            "contact_id": record.contact_id,
            "address_id": state.get("address_id"),
            "reference": taken,
            "email": email.casefold() if email else None,
            "types": " ".join(["", *state.get("contact_type_ids", ()), ""]),
            "search": "\n".join(state.get(name) or "" for name in _SEARCHED).casefold(),
            "created_at": record.created_at,
            "updated_at": record.updated_at,
            "deleted_at": record.deleted_at,
            "state": json.dumps(dict(state), ensure_ascii=False),
            "written_at": time.time(),
        }
        names = ", ".join(columns)
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
        marks = ", ".join("?" * len(columns))
        self._sql.execute(
            f"INSERT INTO record (id, {names}) VALUES (?, {marks}) "  # noqa: S608 - names are the keys above
            f"ON CONFLICT (id) DO UPDATE SET {changes}, "
            "previous = json_array(record.state, record.updated_at, record.deleted_at)",
            [record.id, *columns.values()],
        )

    def _seen(self, row: tuple[Any, ...]) -> Record | None:
        """The record of a row; inside `stale`, the one before its last write, or None before its first."""
        record = _record(row)
        if not self._stale_seconds or time.time() - row[8] > self._stale_seconds:
            return record
        if row[9] is None:
            return None
        state, updated_at, deleted_at = json.loads(row[9])
        return replace(record, state=json.loads(state), updated_at=updated_at, deleted_at=deleted_at)

    # --- ledger -------------------------------------------------------------------------------------------------------

    def record_write(self, record: Record, operation: Operation, by: By, body: Mapping[str, Any]) -> None:
        """Add an applied write to the ledger; in the same transaction as the write itself."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._sql.execute(
            "INSERT INTO ledger (at, business, resource, id, operation, by, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                at,
                record.business,
                record.resource,
                record.id,
                operation,
                by,
                json.dumps(body, ensure_ascii=False, default=str),
            ),
        )

    def ledger(self, after: int = 0, newest: int | None = None) -> list[dict[str, Any]]:
        """Applied writes with a sequence above `after`, oldest first; `newest` limits them to so many of the last."""
        rows = self._sql.execute(
            "SELECT sequence, at, business, resource, id, operation, by, body FROM ledger "
            "WHERE sequence > ? ORDER BY sequence DESC LIMIT ?",
            (after, -1 if newest is None else newest),
        ).fetchall()
        names = ("sequence", "at", "business", "resource", "id", "operation", "by")
        return [{**dict(zip(names, row, strict=False)), "body": json.loads(row[7])} for row in reversed(rows)]

    # --- idempotency --------------------------------------------------------------------------------------------------

    def answer(self, business: str, key: str) -> tuple[str, int, bytes] | None:
        """What the first request with this idempotency id was (body hash) and got (status, body), for seven days."""
        row = self._sql.execute(
            "SELECT body_hash, status, body FROM answer WHERE business = ? AND key = ? AND at > ?",
            (business, key, time.time() - IDEMPOTENCY_SECONDS),
        ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def keep_answer(self, business: str, key: str, body_hash: str, status: int, body: bytes) -> None:
        """Remember an answer; in the same transaction as its write."""
        self._sql.execute("DELETE FROM answer WHERE at < ?", (time.time() - IDEMPOTENCY_SECONDS,))
        self._sql.execute(
            "INSERT OR REPLACE INTO answer (business, key, body_hash, status, body, at) VALUES (?, ?, ?, ?, ?, ?)",
            (business, key, body_hash, status, body, time.time()),
        )

    # --- codes and tokens ---------------------------------------------------------------------------------------------

    def credential(self, digest: str) -> Credential | None:
        """The code or token with this digest, expired and used ones included."""
        row = self._sql.execute(
            "SELECT digest, kind, grant_id, expires_at, used, details FROM credential WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else Credential(row[0], row[1], row[2], row[3], bool(row[4]), json.loads(row[5]))

    def add_credential(self, one: Credential) -> None:
        """Remember a code or token; forget those that expired more than a day ago."""
        self._sql.execute("DELETE FROM credential WHERE expires_at < ?", (time.time() - 86_400,))
        self._sql.execute(
            "INSERT INTO credential (digest, kind, grant_id, expires_at, used, details) VALUES (?, ?, ?, ?, ?, ?)",
            (one.digest, one.kind, one.grant_id, one.expires_at, int(one.used), json.dumps(dict(one.details))),
        )

    def use_credential(self, digest: str) -> bool:
        """Mark a code or refresh token as used. False when it was used before."""
        return (
            self._sql.execute("UPDATE credential SET used = 1 WHERE digest = ? AND used = 0", (digest,)).rowcount == 1
        )

    def revoke(self, grant_id: str | None = None, *, kinds: tuple[str, ...] = ("refresh",)) -> None:
        """Forget the tokens of these kinds, of one grant or of all."""
        marks = ",".join("?" * len(kinds))
        self._sql.execute(
            f"DELETE FROM credential WHERE kind IN ({marks}) AND (? IS NULL OR grant_id = ?)",  # noqa: S608 - question marks
            (*kinds, grant_id, grant_id),
        )

    # --- settings and reset -------------------------------------------------------------------------------------------

    def setting(self, name: str) -> Any:
        """A value kept by `keep_setting`, or None."""
        row = self._sql.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep_setting(self, name: str, value: Any) -> None:
        """Keep a JSON value under a name."""
        self._sql.execute("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)", (name, json.dumps(value)))

    def empty(self) -> None:
        """Forget every record, the ledger, the idempotency answers and the settings. Tokens stay valid."""
        self._read.clear()
        with self.transaction():
            for table in ("record", "ledger", "answer", "setting"):
                self._sql.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of the tuple above
            self._sql.execute("DELETE FROM sqlite_sequence")


def new_id() -> str:
    """An id as Sage makes them: 32 hex digits."""
    return uuid.uuid4().hex
