"""The database: engine, and the unit of work that rolls back unless it is committed.

A unit of work remembers what it changed. Only after its commit are the browsers told and the workers asked, by the
`after_commit` function that the process gave when it opened the database. What is lost there (Redis away, a crash right
after the commit) is found again from the rows: by the sweep and by the browser's own check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import local
from time import monotonic
from typing import Any, cast

import orjson
import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import ClauseElement, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.compiler import SQLCompiler

# A server that was restarted leaves dead connections in the pool; it takes longer than this to be back.
_SURELY_ALIVE_SECONDS = 0.3

# PostgreSQL calls this what is wrong with a value itself, and names the value.
_DATA_EXCEPTION = "22"

# Writes $1, $2 for bound parameters, as PostgreSQL itself does.
_NUMBERED = create_engine("postgresql+psycopg://", paramstyle="numeric_dollar").dialect

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of all models."""

    metadata = MetaData(naming_convention=NAMING)


@dataclass
class Changes:
    """What a transaction changed, as far as others have to be told.

    `touched` maps the key of each live thing that changed (`company:42`, `connection:1`) to its object; `pushes` holds
    the ids of the connections that have something to send; `signed_out` the ids of the people whose sessions end.
    """

    touched: dict[str, Any] = field(default_factory=dict)
    pushes: set[int] = field(default_factory=set)
    signed_out: set[int] = field(default_factory=set)


class UnitOfWork(Changes):
    """One transaction and what has to follow its commit.

    Its changes are handed to `after_commit` by a successful commit and dropped by a rollback.
    """

    def __init__(self, session: Session, after_commit: Callable[[Changes], None]) -> None:
        super().__init__()
        self.session = session
        self._after_commit = after_commit

    def may_be_done_again(self) -> None:
        """Let this transaction's commit return before it has reached the disk.

        For what comes to the same when it is done again: if the machine of the database dies in the second after the
        commit, this may be lost, and with it nothing but what was committed later in the same way.
        """
        self.session.connection().exec_driver_sql("SET LOCAL synchronous_commit TO off")

    def touch(self, thing: Any) -> None:
        """Note that `thing`, which has a `key`, changed in this transaction."""
        self.session.flush()  # A new thing has its key only after the insert.
        self.touched[thing.key] = thing

    def commit(self) -> None:
        """Commit, then tell browsers and workers.

        Raises what the database raises; nothing is told then. May be called again after further changes.
        """
        self.session.commit()
        if self.touched or self.pushes or self.signed_out:
            self._after_commit(self)
            self.touched, self.pushes, self.signed_out = {}, set(), set()


class Prepared:
    """A statement of which the SQL is made once, for Database.read_one, read_all and commit_one.

    What SQLAlchemy does each time that it runs a statement takes longer than the statement. It has the places of its
    values numbered as PostgreSQL wants it: the driver would look for names in the whole text at each run, and keeps what
    it finds of short texts alone. Each value goes to the driver as it is, but for a dict, which goes as JSON.
    """

    def __init__(self, statement: ClauseElement) -> None:
        """A bound parameter without a value of its own is given one by its name at each run.

        An IN of a list is for each run to write out, so that there can be none.
        """
        compiled = cast(SQLCompiler, statement.compile(dialect=_NUMBERED))
        self.sql = str(compiled)
        assert "POSTCOMPILE" not in self.sql, "write out the list of an IN"
        self._names = compiled.positiontup or []
        own = {name: value for name, value in compiled.params.items() if not compiled.binds[name].required}
        self._known = _for_driver(own)

    def with_values(self, given: Mapping[str, Any]) -> list[Any]:
        """All values of a run, as the driver takes them."""
        values = self._known | _for_driver(given)
        return [values[name] for name in self._names]


def _for_driver(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: orjson.dumps(value).decode() if isinstance(value, dict) else value for name, value in values.items()}


class _Kept(local):
    """What each thread keeps: the cursor of its single statements, if they share one, and what is committed and told to
    nobody yet."""

    def __init__(self) -> None:
        self.cursor: psycopg.RawCursor[Any] | None = None
        self.untold: dict[str, Any] = {}


class Database:
    """The engine of one process: a forked one opens its own.

    `server_settings` are settings of PostgreSQL for all connections.
    """

    def __init__(
        self,
        url: str,
        after_commit: Callable[[Changes], None] = lambda changes: None,
        *,
        pool_size: int = 5,
        application_name: str = "synclight",
        server_settings: Mapping[str, str] | None = None,
    ) -> None:
        limits = {"statement_timeout": 30_000, "lock_timeout": 10_000, "idle_in_transaction_session_timeout": 60_000}
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            # What people typed belongs in no traceback.
            hide_parameters=True,
            json_serializer=orjson.dumps,
            json_deserializer=orjson.loads,
            connect_args={
                "application_name": application_name,
                "connect_timeout": 5,
                "options": " ".join(
                    f"-c {name}={value}" for name, value in {**limits, **(server_settings or {})}.items()
                ),
            },
        )
        event.listen(self.engine, "handle_error", _leave_out_values)
        event.listen(self.engine, "checkin", _note_time)
        event.listen(self.engine, "checkout", self._refuse_dead)
        self._at_once = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._at_one_moment = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._kept = _Kept()
        self.after_commit = after_commit

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """Open a transaction; it rolls back at the end unless `commit` was called.

        Objects stay readable after the commit, so that they can be shown and published without a query.
        """
        with Session(self.engine, expire_on_commit=False) as session:
            yield UnitOfWork(session, self.after_commit)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads. Each statement is its own transaction, which saves the server two answers."""
        with Session(self._at_once, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Open a session that only reads, and sees the database as it was at its first statement.

        For what several statements tell of one thing: a page that showed what a record was under the version that it
        got a moment later would be taken for right ever after.
        """
        with Session(self._at_one_moment, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def kept_connection(self) -> Iterator[None]:
        """While it is open, the single statements of this thread share one connection.

        To get one out of the pool for each of them takes nearly as long as to run it.
        """
        with self._at_once.connect() as connection:
            driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
            self._kept.cursor = psycopg.RawCursor(driver, row_factory=namedtuple_row)
            try:
                yield
            finally:
                self._kept.cursor = None
                self._tell()

    def read_one(self, statement: Prepared, values: Mapping[str, Any]) -> Any | None:
        """As `read_all`, for the first row alone; None where there is none."""
        rows = self.read_all(statement, values)
        return rows[0] if rows else None

    def read_all(self, statement: Prepared, values: Mapping[str, Any]) -> list[Any]:
        """Run one statement that is a transaction of its own, which saves the server two answers.

        Returns its rows, named tuples. It goes straight to the driver, and raises what SQLAlchemy raises.
        """
        cursor = self._kept.cursor
        if cursor is None:
            with self.kept_connection():
                return self.read_all(statement, values)
        try:
            return cursor.execute(statement.sql, statement.with_values(values)).fetchall()
        except psycopg.Error as error:
            without_values(error)
            raise DBAPIError.instance(statement.sql, None, error, psycopg.Error, hide_parameters=True) from error

    def commit_one(
        self,
        statement: Prepared,
        values: Mapping[str, Any],
        touches: Callable[[Any], Any] | None = None,
        *,
        more_follows: bool = False,
    ) -> Any | None:
        """As `read_one`, for a statement that changes something.

        Where there is a row, browsers are told after that of what `touches` makes of it: a thing with a `key`. With
        `more_follows` they are told together with what this thread commits next in its kept connection, or at the end of
        that. Raises what the database raises; nothing is told then.
        """
        row = self.read_one(statement, values)
        if row is not None and touches is not None:
            thing = touches(row)
            self._kept.untold[thing.key] = thing
            if not more_follows or self._kept.cursor is None:
                self._tell()
        return row

    def _tell(self) -> None:
        untold, self._kept.untold = self._kept.untold, {}
        if untold:
            self.after_commit(Changes(untold))

    def _refuse_dead(self, connection: Any, record: Any, _proxy: Any) -> None:
        """Have a connection replaced that no longer answers. One that was in use a moment ago is not asked."""
        if monotonic() - record.info.get("used_at", monotonic()) > _SURELY_ALIVE_SECONDS:
            try:
                self.engine.dialect.do_ping(connection)
            except self.engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError from error


def without_values(error: psycopg.Error) -> None:
    """Leave out of an error's text what a person typed, so that no log has it.

    PostgreSQL tells in its details what stands in the row that broke a constraint, or in the line of a COPY.
    """
    if (said := error.diag.message_primary) is not None:
        is_about_value = (error.sqlstate or "").startswith(_DATA_EXCEPTION)
        error.args = (said.partition(": ")[0] if is_about_value else said,)


def _leave_out_values(context: Any) -> None:
    error, wrapped = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error):
        before = str(error)
        without_values(error)
        if wrapped is not None:
            wrapped.args = (wrapped.args[0].replace(before, str(error)), *wrapped.args[1:])


def _note_time(_connection: Any, record: Any) -> None:
    record.info["used_at"] = monotonic()
