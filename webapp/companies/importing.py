"""Importing companies from a table: each row is cleaned as the form is, and rows are written many at a time.

A row means the company that has its code. Where the row or the company has no code, it means the company of the same
name and postal code, compared without case and accents. An empty cell says nothing: it leaves what is there.

The file is taken in batches, each in a transaction of its own, so that screens move while it runs. A crash leaves whole
batches behind, and a second import of the same file does the rest: it finds what is there already and changes nothing
of it. What an update does is decided by the statement that does it, on rows that it holds, so that an edit that
somebody made a moment before is not overwritten in fields that the file says nothing about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from psycopg import Connection as PsycopgConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable, UniqueViolation
from sqlalchemy import (
    CTE,
    BigInteger,
    Case,
    Column,
    ColumnElement,
    Computed,
    Connection,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from webapp.companies.changes import STAYS
from webapp.companies.clean import LIMITS, clean_company
from webapp.companies.columns import COLUMNS, LABELS, OWNER
from webapp.companies.models import CUSTOMER, PROSPECT, Company
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.importing.ahead import ahead
from webapp.importing.columns import recognise
from webapp.importing.report import ImportReport
from webapp.importing.table import DELIMITERS, ImportRefused
from webapp.importing.table import Table as File
from webapp.services import Services
from webapp.status import STATUS_OF, Reason, Status
from webapp.sync.models import SyncEvent
from webapp.sync.sending import company_standing
from webapp.sync.transitions import Moved
from webapp.text import clean_line
from webapp.users.models import User

Progress = Callable[[int, int], None]

# Large enough that a statement's fixed cost does not count, small enough that screens move and no row is held for long.
_BATCH = 5_000
# Any number that nothing else in this database locks.
_LOCK = 0x1A9057
_SHOWN_COLUMNS = 20

_temporary = MetaData()

# The rows of the batch in hand, and what was found out about them. `same_code` and `same_name` are the earlier line
# that means the same company; `candidates` counts the companies here that the row could mean.
_ROWS = Table(
    "import_row",
    _temporary,
    Column("line", BigInteger, nullable=False),
    *(Column(name, Text, nullable=False) for name in LIMITS),
    Column("owner_id", BigInteger),
    Column("name_key", Text(collation="C"), Computed("fold(name)", persisted=True)),
    Column("postal_key", Text, Computed("fold(postal_code)", persisted=True)),
    Column("same_code", BigInteger),
    Column("same_name", BigInteger),
    Column("candidates", Integer, nullable=False, server_default="0"),
    Column("company_id", BigInteger),
    prefixes=["TEMPORARY"],
    # Nothing vacuums a temporary table: rows that are merely deleted would stay in the way of the next batch.
    postgresql_on_commit="DELETE ROWS",
)
# What all rows up to now are called, without those whose code came before.
_SEEN = Table(
    "import_seen",
    _temporary,
    Column("line", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("name_key", Text(collation="C"), nullable=False),
    Column("postal_key", Text, nullable=False),
    Index("ix_import_seen_code", "code", "line"),
    Index("ix_import_seen_name", "name_key", "postal_key", "line"),
    prefixes=["TEMPORARY"],
)
_COPIED = ("line", *LIMITS, "owner_id")
_ONCE = and_(_ROWS.c.same_code.is_(None), _ROWS.c.same_name.is_(None))
_USABLE = and_(_ONCE, _ROWS.c.candidates <= 1)

_COMPANY = cast(Table, Company.__table__)


@dataclass
class _Batch:
    """Rows of the file: those to be stored as columns of _COPIED, and what the report says of the others."""

    last_line: int
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Outcome:
    """What became of a batch."""

    created: int
    changed: int
    unchanged: int
    refused: list[tuple[int, str]]
    moved: list[Moved]


def import_companies(
    services: Services, path: Path, dry_run: bool = False, progress: Progress = lambda done, total: None
) -> ImportReport:
    """Create and change companies from a CSV file; see docs/import.md for what is understood.

    `progress` is called after each batch with the lines done and the lines in all. A dry run does everything but the
    commits. Customers that were created or changed are queued for Sage. Two imports never run at a time.
    Raises ImportRefused where nothing of the file can be taken; a row that cannot be taken is in the report instead.
    """
    file = File.open(path)
    columns = recognise(file.header, COLUMNS)
    if "name" not in columns.used:
        shown = ", ".join(file.header[:_SHOWN_COLUMNS]) + (", ..." if len(file.header) > _SHOWN_COLUMNS else "")
        raise ImportRefused(
            f"No column of {path} holds the names of companies. Its columns are: {shown}. "
            "Call one of them name, company or company name."
        )
    report = ImportReport(
        encoding=file.encoding,
        delimiter=DELIMITERS[file.delimiter],
        columns={file.header[index]: LABELS[field] for field, index in columns.used.items()},
        left_out=columns.left_out,
        dry_run=dry_run,
    )
    with services.database.engine.connect() as connection:
        # It closes for good at the end, and with it end the temporary tables and the lock, however the import ends.
        connection.detach()
        _wait_for_others(connection)
        _temporary.create_all(connection, checkfirst=False)
        owners: dict[str, int] = dict(connection.execute(select(func.lower(User.email), User.id)).all())
        connection.commit()
        for batch in ahead(_batches(file, columns.used, owners)):
            with Session(connection, expire_on_commit=False) as session:
                outcome = _import_batch(UnitOfWork(session, services.database.after_commit), batch, dry_run)
            report.created += outcome.created
            report.changed += outcome.changed
            report.unchanged += outcome.unchanged
            report.refused += batch.refused + outcome.refused
            report.mended += batch.mended
            progress(batch.last_line, file.lines)
    report.refused.sort()
    return report


def _wait_for_others(connection: Connection) -> None:
    """Become the only import until `connection` is closed. Raises ImportRefused where another one goes on."""
    # The server may need a moment to notice that an import before this one has ended.
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    try:
        connection.execute(select(func.pg_advisory_lock(_LOCK)))
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise ImportRefused("Another import is running. Import this file when that one is done.") from error
        raise


def _batches(file: File, used: Mapping[str, int], owners: Mapping[str, int]) -> Iterator[_Batch]:
    """The rows of `file`, cleaned, up to _BATCH at a time."""
    columns = list(used.items())
    rows = file.rows()
    while read := list(islice(rows, _BATCH)):
        batch = _Batch(last_line=read[-1].line)
        for row in read:
            raw = {field: row.cells[index] for field, index in columns} if row.cells else {}
            values, errors = ((), [row.fault]) if row.fault else _cleaned(raw, owners)
            if errors:
                batch.refused.append((row.line, " ".join(errors)))
            else:
                batch.rows.append((row.line, *values))
            if row.mended:
                batch.mended.append(row.line)
        yield batch


def _cleaned(raw: Mapping[str, str], owners: Mapping[str, int]) -> tuple[tuple[Any, ...], list[str]]:
    """One row as the columns of _COPIED after the line, and what is wrong with it."""
    cleaned = clean_company(raw)
    values, errors = cleaned.values, list(cleaned.errors.values())
    if not clean_line(raw.get("type", "")):
        # That a new company is a customer says nothing about one that is there already.
        values["type"] = ""
    owner = clean_line(raw.get(OWNER, "")).lower()
    if owner and owner not in owners:
        errors.append(f"Nobody here has the e-mail address “{owner}”: add that user, or leave the owner empty.")
    return (*values.values(), owners.get(owner)), errors


def _import_batch(work: UnitOfWork, batch: _Batch, dry_run: bool) -> _Outcome:
    """Create and change what a batch says, and commit; a dry run keeps nothing but which rows it has seen.

    Somebody may take one of the codes at the same moment: then the batch is matched and written once more.
    """
    _stage(work.session, batch.rows)
    for attempt in Retrying(retry=retry_if_exception(_was_overtaken), stop=stop_after_attempt(3), reraise=True):
        with attempt, work.session.begin_nested() as savepoint:
            outcome = _write(work.session)
            if dry_run:
                savepoint.rollback()
    if not dry_run:
        for thing in outcome.moved:
            work.touched[thing.key] = thing
            if thing.connection_id is not None:
                work.pushes.add(thing.connection_id)
    work.commit()
    return outcome


def _was_overtaken(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.orig, UniqueViolation | DeadlockDetected)


def _stage(session: Session, rows: Iterable[tuple[Any, ...]]) -> None:
    """Put a batch into the temporary table, and note which rows repeat an earlier one."""
    psycopg: PsycopgConnection[Any] = session.connection().connection.dbapi_connection  # type: ignore[assignment]
    with psycopg.cursor() as cursor, cursor.copy(f"COPY import_row ({', '.join(_COPIED)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    seen = ["line", "code", "name_key", "postal_key"]
    session.execute(insert(_SEEN).from_select(seen, select(*(_ROWS.c[name] for name in seen))))
    earlier = _SEEN.c.line < _ROWS.c.line
    same_code = select(func.min(_SEEN.c.line)).where(_SEEN.c.code == _ROWS.c.code, earlier).scalar_subquery()
    session.execute(update(_ROWS).where(_ROWS.c.code != "", same_code.is_not(None)).values(same_code=same_code))
    session.execute(delete(_SEEN).where(_SEEN.c.line.in_(select(_ROWS.c.line).where(_ROWS.c.same_code.is_not(None)))))
    # Companies of one name are told apart by their codes alone, so the first of them decides: if it has no code, or
    # this row has none, both mean the same company.
    first_of_name = (
        select(case((or_(_ROWS.c.code == "", _SEEN.c.code == ""), _SEEN.c.line)))
        .where(_SEEN.c.name_key == _ROWS.c.name_key, _SEEN.c.postal_key == _ROWS.c.postal_key, earlier)
        .order_by(_SEEN.c.line)
        .limit(1)
        .scalar_subquery()
    )
    session.execute(
        update(_ROWS).where(_ROWS.c.same_code.is_(None), first_of_name.is_not(None)).values(same_name=first_of_name)
    )


def _write(session: Session) -> _Outcome:
    """Match the staged rows with the companies that there are, and write them."""
    _match(session)
    sage = main_connection(session)
    saved = {type_: company_standing(type_, sage) for type_ in (CUSTOMER, PROSPECT)}
    connection_id = sage.id if sage else None
    changed = _change(session, saved, connection_id)
    created, first = _create(session, saved, connection_id)
    moved = [Moved(Company.kind, Company.module, id_, belongs_to) for id_, belongs_to in changed]
    if created:
        # Nobody watches a company that is new, so one of them moves the counters for all.
        moved.append(Moved(Company.kind, Company.module, first, connection_id))
    matched = session.scalars(select(func.count()).where(_USABLE, _ROWS.c.company_id.is_not(None))).one()
    refused = session.execute(
        select(_ROWS.c.line, _ROWS.c.same_code, _ROWS.c.same_name, _ROWS.c.candidates).where(~_USABLE)
    )
    return _Outcome(
        created=created,
        changed=len(changed),
        unchanged=matched - len(changed),
        refused=[(line, _sentence(*found)) for line, *found in refused],
        moved=moved,
    )


def _sentence(same_code: int | None, same_name: int | None, candidates: int) -> str:
    if same_code is not None:
        return f"Line {same_code} has the same code: keep one of the two."
    if same_name is not None:
        return f"Line {same_name} has the same name and postal code: keep one of the two, or give each a code."
    return f"{candidates} companies here have this name and postal code: write the code of the one that is meant."


def _match(session: Session) -> None:
    """Note for each staged row which company it means."""
    session.execute(
        update(_ROWS)
        .where(_ONCE, _ROWS.c.code != "", _COMPANY.c.code != "", _COMPANY.c.code == _ROWS.c.code)
        .values(company_id=_COMPANY.c.id)
    )
    matched = _ROWS.alias("matched")
    fits = (
        select(
            _ROWS.c.line,
            _COMPANY.c.id,
            func.count().over(partition_by=_ROWS.c.line).label("candidates"),
            func.row_number().over(partition_by=_COMPANY.c.id, order_by=_ROWS.c.line).label("turn"),
        )
        .join_from(
            _ROWS,
            _COMPANY,
            and_(
                _COMPANY.c.name_key == _ROWS.c.name_key,
                func.fold(_COMPANY.c.postal_code) == _ROWS.c.postal_key,
                or_(_COMPANY.c.code == "", _ROWS.c.code == ""),
            ),
        )
        .where(
            _ONCE,
            _ROWS.c.company_id.is_(None),
            ~select(matched.c.line).where(matched.c.company_id == _COMPANY.c.id).exists(),
        )
        .subquery()
    )
    # Of two rows with codes of their own that fit one company without a code, the first is that company.
    only = and_(fits.c.candidates == 1, fits.c.turn == 1)
    session.execute(
        update(_ROWS)
        .where(_ROWS.c.line == fits.c.line)
        .values(candidates=fits.c.candidates, company_id=case((only, fits.c.id)))
    )


def _change(
    session: Session, saved: Mapping[str, tuple[Reason, dict[str, Any]]], connection_id: int | None
) -> list[tuple[int, int | None]]:
    """Change the companies of which a row says something else. Returns their ids and connections."""
    given = {field: _ROWS.c[field] != "" for field in LIMITS}
    given["owner_id"] = _ROWS.c.owner_id.is_not(None)
    differs = or_(
        *(and_(is_given, _ROWS.c[name].is_distinct_from(_COMPANY.c[name])) for name, is_given in given.items())
    )
    # Held from here on, in one order, so that two who change many companies never wait for each other.
    held = session.scalars(
        select(_COMPANY.c.id)
        .join_from(_ROWS, _COMPANY, _COMPANY.c.id == _ROWS.c.company_id)
        .where(_USABLE, differs)
        .order_by(_COMPANY.c.id)
        .with_for_update(of=_COMPANY)
    ).all()
    if not held:
        return []
    among_held = _COMPANY.c.id == func.any(bindparam("held", held, type_=ARRAY(BigInteger)))
    before = select(_COMPANY.c.id, _COMPANY.c.sync_reason, _COMPANY.c.sync_detail).where(among_held).cte("before")
    merged = {name: case((is_given, _ROWS.c[name]), else_=_COMPANY.c[name]) for name, is_given in given.items()}
    is_customer = merged["type"] == CUSTOMER
    status = _saved(merged["type"], saved)
    stays = and_(is_customer, _COMPANY.c.sync_reason.in_(STAYS))
    belongs_to = func.coalesce(literal(connection_id, BigInteger), _COMPANY.c.connection_id)
    changed = (
        update(_COMPANY)
        .where(_COMPANY.c.id == _ROWS.c.company_id, among_held)
        .values(
            **merged,
            **{name: case((stays, _COMPANY.c[name]), else_=value) for name, value in status.items()},
            sync_version=_COMPANY.c.sync_version + 1,
            attempts=case((is_customer, 0), else_=_COMPANY.c.attempts),
            connection_id=case((is_customer, belongs_to), else_=_COMPANY.c.connection_id),
        )
        .returning(_COMPANY.c.id, _COMPANY.c.connection_id, _COMPANY.c.sync_reason, _COMPANY.c.sync_detail)
        .cte("changed")
    )
    noted = _noted(
        select(changed.c.id, before.c.sync_reason, changed.c.sync_reason, changed.c.sync_detail)
        .join_from(changed, before, before.c.id == changed.c.id)
        .where(or_(before.c.sync_reason != changed.c.sync_reason, before.c.sync_detail != changed.c.sync_detail))
    )
    found = session.execute(select(changed.c.id, changed.c.connection_id).add_cte(noted))
    return list(found)


def _create(
    session: Session, saved: Mapping[str, tuple[Reason, dict[str, Any]]], connection_id: int | None
) -> tuple[int, int]:
    """Make companies of the rows that mean none that there is. Returns how many, and the id of one of them."""
    type_ = case((_ROWS.c.type == PROSPECT, PROSPECT), else_=CUSTOMER)
    values: dict[str, ColumnElement[Any]] = {
        **{name: _ROWS.c[name] for name in (*LIMITS, "owner_id")},
        "type": type_,
        **_saved(type_, saved),
        "sync_version": literal(1),
        "connection_id": case((type_ == CUSTOMER, literal(connection_id, BigInteger))),
    }
    new = (
        insert(_COMPANY)
        .from_select(
            list(values), select(*values.values()).where(_USABLE, _ROWS.c.company_id.is_(None)).order_by(_ROWS.c.line)
        )
        .returning(_COMPANY.c.id, _COMPANY.c.sync_reason, _COMPANY.c.sync_detail)
        .cte("new")
    )
    # A company begins as never sent; only what differs from that is a change.
    begun = literal(str(Reason.NEVER_SENT))
    noted = _noted(select(new.c.id, begun, new.c.sync_reason, new.c.sync_detail).where(new.c.sync_reason != begun))
    count, first = session.execute(select(func.count(), func.min(new.c.id)).select_from(new).add_cte(noted)).one()
    return count, first


def _saved(type_: Case[str], saved: Mapping[str, tuple[Reason, dict[str, Any]]]) -> dict[str, ColumnElement[Any]]:
    """The columns of the status that a company gets, by its type."""
    reasons = {name: literal(str(reason)) for name, (reason, _) in saved.items()}
    statuses = {name: literal(str(STATUS_OF[reason])) for name, (reason, _) in saved.items()}
    details = {name: literal(detail, JSONB) for name, (_, detail) in saved.items()}
    times = {name: func.now() for name, (reason, _) in saved.items() if STATUS_OF[reason] is Status.PENDING}
    return {
        "sync_status": case(statuses, value=type_),
        "sync_reason": case(reasons, value=type_),
        "sync_detail": case(details, value=type_),
        "next_attempt_at": case(times, value=type_) if times else null(),
    }


def _noted(events: Select[Any]) -> CTE:
    """History rows as a part of another statement, of (id, reason before, reason now, detail)."""
    columns = ["record_id", "from_reason", "to_reason", "detail", "kind", "cause"]
    rows = events.add_columns(literal(Company.kind), literal("import"))
    return insert(SyncEvent).from_select(columns, rows).cte("noted")
