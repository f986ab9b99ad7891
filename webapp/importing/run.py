"""The way in which every kind of record is imported from a table; what a kind adds stands in its own package.

The file is taken in batches, each in a transaction of its own, so that screens move while it runs. A crash leaves whole
batches behind, and a second import of the same file does the rest: it finds what is there already and changes nothing
of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from psycopg import Connection as PsycopgConnection
from psycopg import Error as PsycopgError
from psycopg.errors import DeadlockDetected, LockNotAvailable, UniqueViolation
from sqlalchemy import Connection, MetaData, Table, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from webapp.connection.models import Connection as Sage
from webapp.connection.queries import main_connection
from webapp.db import Base, UnitOfWork, without_values
from webapp.importing.columns import Columns, recognise
from webapp.importing.report import ImportReport
from webapp.importing.table import DELIMITERS, ImportRefused
from webapp.importing.table import Table as File
from webapp.prefetch import prefetch
from webapp.services import Services
from webapp.sync.sending import adopt
from webapp.sync.transitions import Moved
from webapp.users.models import User

# Called after each batch with the name of the file, the lines of it that are done and its lines in all.
Progress = Callable[[str, int, int], None]
# One row of a table by the names of its fields, to the values that are staged and what is wrong with it.
Clean = Callable[[Mapping[str, str]], tuple[tuple[Any, ...], list[str]]]

# Large enough that a statement's fixed cost does not count, small enough that screens move and no row is held for long.
_BATCH = 5_000
# Any number that nothing else in this database locks.
_LOCK = 0x1A9057
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class Written:
    """What became of a batch: how many rows made something new or changed something, and what browsers are told."""

    created: int
    changed: int
    moved: list[Moved]


class Kind(ABC):
    """What an import must know of the records that the rows of a file mean.

    `rows` is a temporary table of `tables` with the columns line, record_id (of the record that the row means) and
    refusal (why it is not taken, NULL where it is), and with those of `copied`, which take what `clean` gives. It must
    be emptied by each commit. `made` is the model of what it makes, `things` the same in words. `connection_id` is the
    connection whose records it is about, None where there is none.
    """

    connection_id: int | None
    made: type[Base]
    things: str
    columns: Mapping[str, Sequence[str]]
    labels: Mapping[str, str]
    tables: MetaData
    rows: Table
    copied: tuple[str, ...]

    def sage(self, session: Session) -> Sage | None:
        """That connection as it is now."""
        return None if self.connection_id is None else session.get_one(Sage, self.connection_id)

    @abstractmethod
    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of `copied`, and what is wrong with it; a field without a column is not in `raw`."""

    @abstractmethod
    def stage(self, session: Session) -> None:
        """Refuse rows of the batch that repeat an earlier row of the file. Done once, whatever becomes of the batch."""

    @abstractmethod
    def write(self, work: UnitOfWork) -> Written:
        """Match the rows of the batch with the records that there are, refuse some, and write the others.

        Does not commit. What else is to be told after the commit is noted in `work`.
        """


@dataclass
class Batch:
    """Rows of a file: those to be stored with the line before their values, and what is said of the others."""

    last_line: int
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)


@contextmanager
def only_import(services: Services) -> Iterator[Connection]:
    """A connection to the database for the only import that runs. Raises ImportRefused where another one goes on."""
    with services.database.engine.connect() as connection:
        # It closes for good at the end, and with it end the temporary tables and the lock, however the import ends.
        connection.detach()
        # The server may need a moment to notice that an import before this one has ended.
        connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        try:
            connection.execute(select(func.pg_advisory_lock(_LOCK)))
        except OperationalError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise ImportRefused("Another import is running. Import this file when that one is done.") from error
            raise
        connection.commit()
        yield connection


def chosen_connection(services: Services, connection_id: int | None) -> int | None:
    """The id of the connection whose records an import is about: the chosen one, else the first, None where there is none.

    What was saved before there was a connection belongs to the first one by then. Raises ImportRefused.
    """
    with services.database.unit_of_work() as work:
        main = main_connection(work.session)
        if main is not None:
            adopt(work, main)
        if connection_id is None:
            return main.id if main else None
        if work.session.get(Sage, connection_id) is None:
            raise ImportRefused(f"There is no connection {connection_id}. The command `synclight status` lists them.")
        return connection_id


def people_by_email(connection: Connection) -> dict[str, int]:
    """The ids of the people here by their e-mail addresses in lower case."""
    return dict(connection.execute(select(func.lower(User.email), User.id)).all())


class Needed(NamedTuple):
    """A column without which a file says nothing: one of `fields`; what none of the columns holds, and what to do."""

    fields: tuple[str, ...]
    absent: str
    remedy: str


def columns_of(file: File, known: Mapping[str, Sequence[str]], *needed: Needed) -> Columns:
    """Which column of `file` is which field of `known`. Raises ImportRefused where one that is needed is absent."""
    columns = recognise(file.header, known)
    for need in needed:
        if columns.used.keys().isdisjoint(need.fields):
            shown = ", ".join(file.header[:_SHOWN_COLUMNS]) + (", ..." if len(file.header) > _SHOWN_COLUMNS else "")
            raise ImportRefused(
                f"No column of {file.path} holds {need.absent}. Its columns are: {shown}. {need.remedy}"
            )
    return columns


def described(file: File, columns: Columns, labels: Mapping[str, str]) -> dict[str, Any]:
    """What a report says about how a file is read, as the arguments of one."""
    return {
        "file": file.path.name,
        "encoding": file.encoding,
        "delimiter": DELIMITERS[file.delimiter],
        "columns": {file.header[index]: labels[field] for field, index in columns.used.items()},
        "left_out": columns.left_out,
    }


def batches(file: File, used: Mapping[str, int], clean: Clean) -> Iterator[Batch]:
    """The rows of `file`, cleaned, up to _BATCH at a time."""
    columns = list(used.items())
    rows = file.rows()
    while read := list(islice(rows, _BATCH)):
        batch = Batch(last_line=read[-1].line)
        for row in read:
            raw = {field: row.cells[index] for field, index in columns} if row.cells else {}
            values, errors = ((), [row.fault]) if row.fault else clean(raw)
            if errors:
                batch.refused.append((row.line, " ".join(errors)))
            else:
                batch.rows.append((row.line, *values))
            if row.mended:
                batch.mended.append(row.line)
        yield batch


def copy_in(session: Session, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Put rows into a temporary table."""
    psycopg: PsycopgConnection[Any] = session.connection().connection.dbapi_connection  # type: ignore[assignment]
    try:
        with psycopg.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except PsycopgError as error:
        without_values(error)
        raise


def import_rows(
    services: Services,
    connection: Connection,
    kind: Kind,
    file: File,
    columns: Columns,
    *,
    dry_run: bool,
    progress: Progress,
) -> ImportReport:
    """Create and change the records that the rows of `file` mean. A dry run does everything but keep it."""
    report = ImportReport(**described(file, columns, kind.labels), things=kind.things, dry_run=dry_run)
    kind.tables.create_all(connection, checkfirst=False)
    connection.commit()
    first = True
    for batch in prefetch(batches(file, columns.used, kind.clean)):
        report.refused += batch.refused
        report.mended += batch.mended
        with Session(connection, expire_on_commit=False) as session:
            _import_batch(UnitOfWork(session, services.database.after_commit), kind, batch, report)
        if first and not dry_run:
            # PostgreSQL looks at what a table holds a while after it was filled. Until then it takes one connection's
            # companies for few, and would go through all of them for each row.
            connection.execute(text(f"ANALYZE {kind.made.__tablename__}"))
            connection.commit()
            first = False
        progress(report.file, batch.last_line, file.lines)
    report.refused.sort()
    return report


def _import_batch(work: UnitOfWork, kind: Kind, batch: Batch, report: ImportReport) -> None:
    """Create and change what a batch says, and commit; a dry run keeps nothing but which rows it has seen.

    Somebody may make one of the records at the same moment: then the batch is matched and written once more.
    """
    rows = kind.rows
    copy_in(work.session, rows, ("line", *kind.copied), batch.rows)
    kind.stage(work.session)
    for attempt in Retrying(retry=retry_if_exception(_was_overtaken), stop=stop_after_attempt(3), reraise=True):
        with attempt, work.session.begin_nested() as savepoint:
            work.touched, work.pushes = {}, set()
            written = kind.write(work)
            refused = work.session.execute(select(rows.c.line, rows.c.refusal).where(rows.c.refusal.is_not(None)))
            refusals = [(line, reason) for line, reason in refused]
            taken = work.session.scalars(select(func.count()).where(rows.c.refusal.is_(None))).one()
            if report.dry_run:
                savepoint.rollback()
    if report.dry_run:
        work.touched, work.pushes = {}, set()
    else:
        for thing in written.moved:
            work.touched[thing.key] = thing
            if thing.connection_id is not None:
                work.pushes.add(thing.connection_id)
    work.commit()
    report.refused += refusals
    report.created += written.created
    report.changed += written.changed
    report.unchanged += taken - written.created - written.changed


def _was_overtaken(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and isinstance(error.orig, UniqueViolation | DeadlockDetected)
