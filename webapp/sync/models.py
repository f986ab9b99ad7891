"""What every record has that is kept in step with Sage, and what the sync engine remembers about it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from webapp.db import Base
from webapp.status import Mark, Reason, Status, mark

Json = dict[str, Any]
Moment = DateTime(timezone=True)


class Synced:
    """Mixin of a record that has a counterpart in Sage.

    `sync_version` grows with every change of the row, whoever makes it: SQLAlchemy adds it to each UPDATE's condition,
    so that a writer who read an older state gets StaleDataError instead of overwriting a newer one.
    `agreed` is the last state that both sides held, the base of the three-way merge; None before the first success.
    `urgent` says that a person asked for what is pending, so that it goes before what an import has queued.
    `claim` is the fence of the worker that has the row in hand: a new claim has a new number, and whoever comes back
    with an older one writes nothing.
    """

    kind: ClassVar[str]
    module: ClassVar[str]

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sync_status: Mapped[str] = mapped_column(Text, default=Status.NOT_SYNCHRONISED)
    sync_reason: Mapped[str] = mapped_column(Text, default=Reason.NEVER_SENT)
    sync_detail: Mapped[Json] = mapped_column(JSONB, default=lambda: {"code": "never_sent"})
    sync_version: Mapped[int] = mapped_column(BigInteger)
    last_synchronised_at: Mapped[datetime | None] = mapped_column(Moment)
    last_attempt_at: Mapped[datetime | None] = mapped_column(Moment)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(Moment)
    urgent: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    claim: Mapped[int | None] = mapped_column(BigInteger)
    claimed_until: Mapped[datetime | None] = mapped_column(Moment)
    sage_id: Mapped[str | None] = mapped_column(Text)
    sage_number: Mapped[str | None] = mapped_column(Text)
    # As Sage said it: only webapp.connection.products.Product.page_of tells whether it may be shown.
    sage_page: Mapped[str | None] = mapped_column(Text)
    sage_updated_at: Mapped[datetime | None] = mapped_column(Moment)
    agreed: Mapped[Json | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(Moment, server_default=text("now()"), onupdate=text("now()"))

    @declared_attr
    def connection_id(cls) -> Mapped[int | None]:
        """The connection that this record belongs to: a contact and an order to that of their company.

        None where there was no connection yet when it was made; the first one takes those (webapp.sync.sending.adopt).
        """
        return mapped_column(BigInteger, ForeignKey("sage_connection.id"))

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.sync_version}

    @classmethod
    def sync_constraints(cls, table: str) -> tuple[CheckConstraint | Index, ...]:
        """Table arguments that each synced table has: no impossible status, no second record for one Sage object."""
        return (
            # STATUS_OF of webapp.status, as a function: see migration 0030.
            CheckConstraint("sync_status = status_of(sync_reason)", name="status_and_reason"),
            # A pending record is due at some time, or it would wait for ever.
            CheckConstraint("sync_status <> 'pending' OR next_attempt_at IS NOT NULL", name="pending_has_time"),
            Index(f"uq_{table}_connection_id_sage_id", "connection_id", "sage_id", unique=True),
            # What the workers drain: what people asked for, then the rest, each oldest first. An import leaves thousands
            # that wait for their company, which would have to be passed over for each record.
            Index(
                f"ix_{table}_due",
                "connection_id",
                text("urgent DESC"),
                "next_attempt_at",
                "id",
                postgresql_where=text("sync_status = 'pending' AND sync_reason <> 'waiting_for_parent'"),
            ),
        )

    @property
    def key(self) -> str:
        """The name of this record as a live thing, such as `company:42`."""
        return f"{self.kind}:{self.id}"

    @property
    def version(self) -> int:
        """The version of this record as a live thing."""
        return self.sync_version

    @property
    def mark(self) -> Mark:
        """How its status is shown."""
        return mark(Reason(self.sync_reason))

    def shared(self, name: str) -> str:
        """A field that is kept in step with Sage, as the text that the two sides are compared by."""
        return self.text_of(name, getattr(self, name))

    @classmethod
    def text_of(cls, name: str, value: Any) -> str:
        """The value of a field that is kept in step, as it stands in its column, as such a text."""
        text: str = value
        return text

    def take(self, name: str, value: str) -> None:
        """Give a field that is kept in step the value that Sage holds, as such a text."""
        setattr(self, name, value)


class SyncEvent(Base):
    """One change of a record's status: the history, append-only.

    `user_id` is the person who caused it, None where Sage or the schedule did. `cause` says which:
    edit, confirm, choice, restore, unlink, import, resync, connection, worker, sage, or drift where all of Sage was read
    and the record was not in step, though it was shown so.
    """

    __tablename__ = "sync_event"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    record_id: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime] = mapped_column(Moment, server_default=text("clock_timestamp()"))
    from_reason: Mapped[str | None] = mapped_column(Text)
    to_reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[Json] = mapped_column(JSONB)
    cause: Mapped[str] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("app_user.id"))

    __table_args__ = (
        # COMES_FROM of webapp.status, as a function. A move writes its event in the same transaction, so that one that
        # cannot be is not made.
        CheckConstraint("may_follow(from_reason, to_reason)", name="follows"),
        Index("ix_sync_event_record", "kind", "record_id", "id"),
        Index("ix_sync_event_drift", "at", postgresql_where=text("cause = 'drift'")),
    )


class WriteIntent(Base):
    """One write to Sage, noted before the call with its idempotency key, and never deleted by a retry.

    `fields` is what `body` says, in the neutral shape: of a create the whole state of the record, of an update only what
    it changes in Sage.

    `state` is open (about to be sent, or sent without an answer that was noted), done, refused (Sage answered that it
    did not apply it) or unknown (beyond the time in which Sage remembers the key).
    """

    __tablename__ = "write_intent"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    connection_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sage_connection.id"))
    kind: Mapped[str] = mapped_column(Text)
    record_id: Mapped[int] = mapped_column(BigInteger)
    operation: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str] = mapped_column(Text, unique=True)
    fields: Mapped[Json] = mapped_column(JSONB)
    body: Mapped[Json] = mapped_column(JSONB)
    body_hash: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default="open")
    sage_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, server_default=text("clock_timestamp()"))
    finished_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (
        CheckConstraint("operation IN ('create', 'update')", name="operation"),
        CheckConstraint("state IN ('open', 'done', 'refused', 'unknown')", name="state"),
        # One unanswered create per record: the schema refuses the second customer.
        Index(
            "uq_write_intent_open_create",
            "kind",
            "record_id",
            unique=True,
            postgresql_where=text("operation = 'create' AND state IN ('open', 'unknown')"),
        ),
        Index("ix_write_intent_record", "kind", "record_id", "id"),
    )


# The cursor that says when all of a kind was read is called as the one of its changes, with this behind it.
READ_WHOLE = ", whole"


class SyncCursor(Base):
    """How far the changes of one kind of object were read from Sage. Moves only with the batch that it stands for."""

    __tablename__ = "sync_cursor"

    connection_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sage_connection.id"), primary_key=True)
    entity: Mapped[str] = mapped_column(Text, primary_key=True)
    watermark: Mapped[datetime] = mapped_column(Moment)


class SyncRun(Base):
    """A pull with its counts: progress while it runs, an entry of the run history after.

    `compared` and `drifted` are those of the kinds that were read whole: see workers.engine.pull.Tally.
    """

    __tablename__ = "sync_run"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    connection_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sage_connection.id"))
    operation: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(Moment, server_default=text("clock_timestamp()"))
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    seen: Mapped[int] = mapped_column(default=0)
    created: Mapped[int] = mapped_column(default=0)
    changed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    compared: Mapped[int] = mapped_column(default=0)
    drifted: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("app_user.id"))
    version: Mapped[int] = mapped_column(BigInteger)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy declares it so.
    __table_args__ = (Index("ix_sync_run_connection", "connection_id", "id"),)

    @property
    def key(self) -> str:
        """The name of this run as a live thing."""
        return f"run:{self.id}"


class Conflict(Base):
    """A field that both sides changed to different values, with the base that they came from."""

    __tablename__ = "conflict"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    record_id: Mapped[int] = mapped_column(BigInteger)
    field: Mapped[str] = mapped_column(Text)
    base: Mapped[Any] = mapped_column(JSONB)
    ours: Mapped[Any] = mapped_column(JSONB)
    theirs: Mapped[Any] = mapped_column(JSONB)
    found_at: Mapped[datetime] = mapped_column(Moment, server_default=text("clock_timestamp()"))
    resolved_at: Mapped[datetime | None] = mapped_column(Moment)
    taken: Mapped[str | None] = mapped_column(Text)
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("app_user.id"))

    __table_args__ = (
        Index(
            "uq_conflict_open_field",
            "kind",
            "record_id",
            "field",
            unique=True,
            postgresql_where=text("resolved_at IS NULL"),
        ),
    )


class StatusCount(Base):
    """How many records of a module and a connection have a status; connection 0 stands for those that belong to none.

    Kept by triggers in the transaction of each change, so that a count costs nothing and is never wrong. Spread over
    slots by backend, so that two writers rarely wait for each other: the count is the sum, and so is the version, which
    only grows.
    """

    __tablename__ = "status_count"

    module: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    connection_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, server_default=text("0"))
    slot: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
