"""The present state of live things, read from the database: records, the counters of a module, connections, runs.

A state is a dict that JSON can carry, with `key` and `version`, and holds codes and moments, no sentences: the reader's
web process makes those (webapp.live.protocol). One query for each kind of thing, however many keys are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BindParameter, Row, Select, bindparam, func, select
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.connection.models import CONNECTING, PAUSED, STATES, Connection
from webapp.contacts.models import Contact
from webapp.orders.models import Order
from webapp.products.models import Product
from webapp.status import Status
from webapp.sync.models import StatusCount, Synced, SyncRun
from webapp.sync.records import OF_MODULE
from webapp.sync.transitions import Moved
from webapp.text import read_id
from webapp.users.models import User

State = dict[str, Any]

# What a page shows of a record beside its status, and needs no other table for.
_SHOWN: dict[type[Synced], tuple[str, ...]] = {
    Company: (
        "name",
        "code",
        "type",
        "email",
        "phone",
        "tax_number",
        "address_line_1",
        "address_line_2",
        "city",
        "region",
        "postal_code",
        "country",
    ),
    Contact: ("name", "role", "email", "phone", "mobile", "company_name"),
    Product: ("name", "code", "unit_price", "unit", "discontinued"),
    Order: (
        "number",
        "company_name",
        "ordered_on",
        "valid_until",
        "phase",
        "shipping",
        "net_total",
        "tax_total",
        "total",
        "notes",
    ),
}
_OF_STATUS = (
    "id",
    "sync_version",
    "sync_reason",
    "sync_detail",
    "last_synchronised_at",
    "last_attempt_at",
    "next_attempt_at",
    "sage_number",
)

# Made once: publishing reads one or two rows at a time, and building the statement would take longer than running it.
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)


def _select_records(model: type[Synced]) -> Select[Any]:
    columns = [getattr(model, name) for name in (*_OF_STATUS, *_SHOWN[model])]
    statement = select(*columns).where(model.id.in_(_IDS))
    if issubclass(model, Company | Order):
        statement = statement.add_columns(User.name.label("owner")).outerjoin(User, model.owner_id == User.id)
    return statement


_VERSIONS = {model: select(model.id, model.sync_version).where(model.id.in_(_IDS)) for model in _SHOWN}
_RECORDS = {model: _select_records(model) for model in _SHOWN}
_RUN_VERSIONS = select(SyncRun.id, SyncRun.version).where(SyncRun.id.in_(_IDS))
_RUNS = select(SyncRun).where(SyncRun.id.in_(_IDS))
_COUNTS = select(
    StatusCount.module,
    StatusCount.status,
    StatusCount.connection_id,
    func.sum(StatusCount.n).label("n"),
    func.sum(StatusCount.version).label("version"),
).group_by(StatusCount.module, StatusCount.status, StatusCount.connection_id)
_CONNECTIONS = select(Connection).order_by(Connection.id)

# All connections taken together, as the indicator of a module shows several: the state of the worst, and all that waits.
ALL_CONNECTIONS = "connection:0"


def keys_moved_by(touched: Iterable[Any]) -> list[str]:
    """The keys of all live things that change with these records, connections or runs.

    A record moves the counters of its module, and with them the number that waits at its connection.
    """
    keys: dict[str, None] = {}
    for thing in touched:
        keys[thing.key] = None
        if isinstance(thing, Synced | Moved):
            keys[f"module:{thing.module}"] = None
            if thing.connection_id is not None:
                keys[f"connection:{thing.connection_id}"] = keys[ALL_CONNECTIONS] = None
        elif isinstance(thing, Connection):
            keys[ALL_CONNECTIONS] = None
    return list(keys)


def read_versions(session: Session, keys: Iterable[str]) -> dict[str, int]:
    """The present version of each of `keys` that exists."""
    asked = _by_kind(keys)
    versions: dict[str, int] = {}
    for model, statement in _VERSIONS.items():
        if ids := asked.get(model.kind):
            found = session.execute(statement, {"ids": ids})
            versions |= {f"{model.kind}:{id_}": version for id_, version in found}
    if ids := asked.get("run"):
        found = session.execute(_RUN_VERSIONS, {"ids": ids})
        versions |= {f"run:{id_}": version for id_, version in found}
    if "module" in asked or "connection" in asked:
        versions |= {key: state["version"] for key, state in _counted_states(session, asked).items()}
    return versions


def read_states(session: Session, keys: Iterable[str]) -> dict[str, State]:
    """The present state of each of `keys` that exists, in the order of the kinds."""
    asked = _by_kind(keys)
    states: dict[str, State] = {}
    for model, statement in _RECORDS.items():
        if ids := asked.get(model.kind):
            found = (_record_state(model, record) for record in session.execute(statement, {"ids": ids}))
            states |= {state["key"]: state for state in found}
    if ids := asked.get("run"):
        states |= {run.key: _run_state(run) for run in session.scalars(_RUNS, {"ids": ids})}
    return states | _counted_states(session, asked)


def _by_kind(keys: Iterable[str]) -> dict[str, list[Any]]:
    """Keys sorted by their kind, as numbers but for modules. What is no key of ours is left out."""
    asked: dict[str, list[Any]] = {}
    for key in keys:
        kind, _, name = key.partition(":")
        if kind == "module":
            asked.setdefault(kind, []).append(name)
        elif (number := read_id(name)) is not None:
            asked.setdefault(kind, []).append(number)
    return asked


def _record_state(model: type[Synced], record: Row[Any]) -> State:
    # Days and amounts are no JSON; as texts they keep their digits.
    values = {name: str(getattr(record, name)) for name in _SHOWN[model]}
    if issubclass(model, Company | Order):
        values["owner"] = record.owner or ""
    return {
        "key": f"{model.kind}:{record.id}",
        "version": record.sync_version,
        "reason": record.sync_reason,
        # What Sage said literally is for an admin who asks for it on the record's page, and for nobody else.
        "detail": {name: value for name, value in record.sync_detail.items() if name != "raw"},
        "at": _iso(record.last_synchronised_at),
        "attempt_at": _iso(record.last_attempt_at),
        "next_at": _iso(record.next_attempt_at),
        "sage_number": record.sage_number or "",
        "values": values,
    }


def _run_state(run: SyncRun) -> State:
    return {
        "key": run.key,
        "version": run.version,
        "operation": run.operation,
        "seen": run.seen,
        "created": run.created,
        "changed": run.changed,
        "failed": run.failed,
        "finished": run.finished_at is not None,
    }


def read_counted(session: Session, module: str) -> dict[str, State]:
    """The states of `module` and of all connections, in two queries; also of those taken together, if there are any."""
    rows = session.execute(_COUNTS).all()
    return {f"module:{module}": _module_state(module, rows)} | _connection_states(session, rows)


def _counted_states(session: Session, asked: dict[str, list[Any]]) -> dict[str, State]:
    """The states that hold counts: of modules and of connections."""
    if "module" not in asked and "connection" not in asked:
        return {}
    rows = session.execute(_COUNTS).all()
    states = {
        f"module:{module}": _module_state(module, rows) for module in asked.get("module", []) if module in OF_MODULE
    }
    if ids := asked.get("connection"):
        connections = _connection_states(session, rows)
        states |= {key: connections[key] for id_ in ids if (key := f"connection:{id_}") in connections}
    return states


def _module_state(module: str, rows: Sequence[Row[*tuple[Any, ...]]]) -> State:
    mine = [row for row in rows if row.module == module]
    counts = dict.fromkeys((str(status) for status in Status), 0)
    for row in mine:
        counts[row.status] += int(row.n)
    return {
        "key": f"module:{module}",
        "version": sum(int(row.version) for row in mine),
        "counts": counts,
        "total": sum(counts.values()),
    }


def _connection_states(session: Session, rows: Sequence[Row[*tuple[Any, ...]]]) -> dict[str, State]:
    connections = session.scalars(_CONNECTIONS).all()
    found = [
        _connection_state(one, len(connections), [row for row in rows if row.connection_id == one.id])
        for one in connections
    ]
    together = {ALL_CONNECTIONS: _together(found)} if found else {}
    return together | {state["key"]: state for state in found}


def _connection_state(connection: Connection, among: int, counted: Sequence[Row[*tuple[Any, ...]]]) -> State:
    """A connection of `among` in all, with the number of records that wait for it.

    That number changes with the counters of its records, so their versions are part of the connection's.
    """
    return {
        "key": connection.key,
        "version": connection.own_version + sum(int(row.version) for row in counted),
        "state": connection.state,
        "since": _iso(connection.state_since),
        "product": connection.product,
        "business": connection.business_name,
        "cycle_seconds": connection.cycle_seconds,
        "at": _iso(connection.last_synchronised_at),
        "next_at": _iso(None if connection.state in (CONNECTING, PAUSED) else connection.next_run_at),
        "waiting": sum(int(row.n) for row in counted if row.status == Status.PENDING),
        "among": among,
    }


def _together(found: Sequence[State]) -> State:
    """All connections as one: the worst of them, how many are in that state, and all that waits."""
    worst = min(found, key=lambda state: STATES.index(state["state"]))
    return worst | {
        "key": ALL_CONNECTIONS,
        "version": sum(state["version"] for state in found),
        "alike": sum(state["state"] == worst["state"] for state in found),
        "waiting": sum(state["waiting"] for state in found),
    }


def _iso(moment: datetime | None) -> str | None:
    """A moment in UTC as ISO 8601, such as 2026-11-22T10:45:00.123456+00:00."""
    return None if moment is None else moment.astimezone(UTC).isoformat()
