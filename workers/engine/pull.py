"""Reading from Sage what changed there: page by page, with an overlap, harmless when it is done twice.

Customers first, then their persons, then products, then orders, so that what belongs to a customer finds its company
and a line its product. What Sage alone changed is taken over here at once. Everything else (both sides changed, or what
was read may be old) is left to the push, which reads that one record anew and decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

import structlog
from redis import RedisError
from redis.exceptions import LockError
from redis.lock import Lock
from sqlalchemy import Select, Text, any_, bindparam, func, inspect, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from webapp.companies.models import Company
from webapp.connection.circuit import note_state
from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, Connection
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.listing.pages import last_synchronised_key
from webapp.services import Services
from webapp.status import Reason, Status
from webapp.sync.models import READ_WHOLE, Json, SyncCursor, Synced, SyncRun
from webapp.sync.sending import adopt
from webapp.sync.transitions import DRIFT, move, move_all, queue, queued_as
from workers.engine.decide import Action, RemoteState, decide
from workers.engine.due import hold_children
from workers.engine.kinds import KINDS, Kind, fields_of, new_record, not_stored, take_fields
from workers.engine.push import Connect, believable, connection_failed
from workers.engine.strangers import companies_of, end_creates_in_doubt, locked, take_strangers
from workers.engine.unchanged import Settled
from workers.sage.connector import (
    AuthoriseAgain,
    Connector,
    Listed,
    RemoteRecord,
    SageError,
    Tombstone,
    Transient,
    Unchanged,
    Unreachable,
    none_is_known,
)

log = structlog.get_logger()

# Read again from this long before the newest change seen: clocks differ between Sage's machines, and its pages shift.
OVERLAP = timedelta(minutes=5)
# Of the very first read nothing is known about Sage's clock but that it is not a day behind.
BEFORE_FIRST = timedelta(days=1)
# So often all of a kind is read, to find what the readings of changes have missed; and where Sage does not tell of all that
# goes, to find that.
WHOLE_EVERY, WHOLE_OFTEN = timedelta(days=1), timedelta(hours=1)
# A pull of a connection keeps others from it for this long after its last page.
_ALONE_SECONDS = 120
# So many records are taken over in one transaction. Where all are read it may be a larger one: most are new or as they
# were, so that nobody waits for its locks.
PAGE, WHOLE_PAGE = 1_000, 2_000
# How often a pull says how far it has come.
_PROGRESS_SECONDS = 1.0

_READ_LATER = (Reason.QUEUED, Reason.WAITING_FOR_SAGE, Reason.RETRYING, Reason.WAITING_FOR_PARENT)
# Statements that name records do so for this many.
_AT_ONCE = 2_000


@dataclass
class Tally:
    """What one pull did.

    `compared` are the linked records that were read because all of their kind was; `drifted` are those that were shown
    as in step and were not, though no reading of changes had told so, and those that Sage did not show any more.
    """

    seen: int = 0
    created: int = 0
    changed: int = 0
    failed: int = 0
    compared: int = 0
    drifted: int = 0


@dataclass
class Reading:
    """One kind while it is read: the newest change seen, the oldest one left for later, and all ids where it is read whole.

    It `began` at this moment, and what changed before `told` had been told by the readings of changes before it; None
    where there was none. `unchanged` are the ids of those that needed no call of their own.
    """

    kind: Kind
    whole: bool
    began: datetime
    told: datetime | None = None
    newest: datetime | None = None
    left: datetime | None = None
    ids: set[str] = field(default_factory=set)
    unchanged: set[str] = field(default_factory=set)

    def note(self, page: Sequence[RemoteRecord]) -> None:
        """Count a page as read."""
        times = [one.updated_at for one in page]
        self.newest = max([self.newest, *times] if self.newest else times, default=None)
        if self.whole:
            self.ids.update(one.id for one in page)

    def leave(self, remote: RemoteRecord) -> None:
        """Leave a record for a later pull."""
        self.left = min(self.left or remote.updated_at, remote.updated_at)


@dataclass(frozen=True)
class Before:
    """What earlier pulls of a connection have done: its cursors by their names, and when the last complete one began."""

    cursors: Mapping[str, datetime]
    completed: datetime | None


def pull(services: Services, connection_id: int, connect: Connect, user_id: int | None = None) -> None:
    """Take over what changed in Sage since the last time, and note that Sage answered.

    Where another process does so already, nothing is done; what a person asked for is done after it, because what the
    other one has read already is not what they mean. A fault of the connection is shown on the connection; a passing
    fault of Sage ends this pull, and the next one begins where the last complete one ended. Where other connections are
    being read by all workers but one, it is begun a little later: that one is for what people wait for.
    """
    alone: Lock | None
    try:
        alone = services.redis.lock(_lock_of(connection_id), timeout=_ALONE_SECONDS, blocking=False)
        if not alone.acquire():
            if user_id is not None:
                _postpone(services, connection_id)
            return
        if _are_too_many(services):
            alone.release()
            _postpone(services, connection_id)
            return
    except RedisError:
        # Two pulls side by side only cost calls.
        alone = None
    try:
        _pull(services, connection_id, connect, user_id, alone)
    finally:
        if alone is not None:
            _while_alone(alone.release)


def _lock_of(connection_id: int) -> str:
    return f"synclight:pull:{connection_id}"


def _are_too_many(services: Services) -> bool:
    """Whether more pulls run, with this one, than leave a worker for pushes. Raises RedisError."""
    with services.database.unit_of_work() as work:
        ids = work.session.scalars(select(Connection.id)).all()
    running: int = services.redis.exists(*map(_lock_of, ids))
    return running > services.jobs.readers_at_most()


def _postpone(services: Services, connection_id: int) -> None:
    """Have the sweep begin it as soon as it can be done."""
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        connection.next_run_at = None
        work.commit()


def _while_alone(action: Callable[[], object]) -> None:
    """Do something with the lock. That it was lost does no harm: two pulls side by side only cost calls."""
    try:
        action()
    except (LockError, RedisError) as error:
        log.info("pull_lock_gone", error=type(error).__name__)


def _pull(services: Services, connection_id: int, connect: Connect, user_id: int | None, alone: Lock | None) -> None:
    with services.database.unit_of_work() as work:
        main = main_connection(work.session)
        if main is not None and main.id == connection_id and main.state not in (CONNECTING, PAUSED):
            adopt(work, main)
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        if connection.state in (CONNECTING, PAUSED):
            return
        _end_broken_runs(work, connection_id)
        before = _before(work, connection_id)
        # By the database's clock, as the last attempts that it is compared with: those of the machines may differ.
        began = work.session.execute(select(func.clock_timestamp())).scalar_one()
        run = SyncRun(connection_id=connection_id, operation="pull", user_id=user_id)
        work.session.add(run)
        connection.last_run_at = datetime.now(UTC)
        connection.next_run_at = connection.last_run_at + timedelta(seconds=connection.cycle_seconds)
        work.touch(connection)
        work.touch(run)
        work.commit()
    tally, error = Tally(), ""
    noted_at = monotonic()

    def after_page() -> None:
        nonlocal noted_at
        if monotonic() - noted_at > _PROGRESS_SECONDS:
            noted_at = monotonic()
            _note_progress(services, run.id, tally)
            if alone is not None:
                _while_alone(alone.reacquire)

    try:
        with connect(services, connection_id, _forbidden) as sage:
            sage.check()
            for kind in KINDS:
                _read(services, connection_id, sage, kind, began, before, tally, after_page)
    except (Unreachable, AuthoriseAgain) as fault:
        error = type(fault).__name__
        connection_failed(services, connection_id, fault)
    except Transient as fault:
        error = type(fault).__name__
        log.warning("pull_broken_off", connection=connection_id, status=fault.raw.get("status"))
    except SQLAlchemyError as fault:
        # A deadlock, a restart of the database: nothing of it is Sage's, and the next pull begins where this one did.
        error = type(fault).__name__
        log.warning("pull_broken_off", connection=connection_id, error=error, exc_info=True)
    with services.database.unit_of_work() as work:
        run = work.session.get_one(SyncRun, run.id, with_for_update=True)
        _count(run, tally)
        run.finished_at = func.clock_timestamp()
        run.error = error or None
        work.touch(run)
        if not error:
            connection = work.session.get_one(Connection, connection_id, with_for_update=True)
            connection.last_synchronised_at = datetime.now(UTC)
            work.touch(connection)
            work.pushes.add(connection_id)
            # Still under the lock of the connection's row, so that a pause or an end that somebody asks for now is kept.
            note_state(work, connection, CONNECTED)
        work.commit()


def _end_broken_runs(work: UnitOfWork, connection_id: int) -> None:
    """End the runs of pulls that were killed: they cannot do it any more."""
    broken = select(SyncRun).where(SyncRun.connection_id == connection_id, SyncRun.finished_at.is_(None))
    for run in work.session.scalars(broken.with_for_update()).all():
        run.finished_at = func.clock_timestamp()
        run.error = "BrokenOff"
        work.touch(run)


def _read(
    services: Services,
    connection_id: int,
    sage: Connector,
    kind: Kind,
    began: datetime,
    before: Before,
    tally: Tally,
    after_page: Callable[[], None],
) -> None:
    """Take over what changed of one kind, and move its watermark when all of that was committed.

    The pull `began` at this moment.
    """
    watermark = before.cursors.get(kind.cursor)
    read_whole_at = before.cursors.get(_whole(kind))
    there = kind.collection(sage)
    every = WHOLE_EVERY if there.tells_deletions else WHOLE_OFTEN
    whole = watermark is None or read_whole_at is None or read_whole_at < began - every
    reading = Reading(kind, whole, began, watermark and watermark - OVERLAP)
    # Deletions first: a record that was deleted and made anew must not be taken for a second one.
    if watermark is not None:
        for tombstones in there.deleted(watermark - OVERLAP):
            if tombstones:
                _take_deletions(services, connection_id, kind, tombstones)
    unchanged: Unchanged = none_is_known
    if read_whole_at is not None and before.completed is not None:
        settled = Settled(before.completed - OVERLAP, read_whole_at, began if whole else None)
        unchanged = partial(_unchanged, services, connection_id, reading, settled)
    for page in _together(there.changed(None if whole else reading.told, unchanged), WHOLE_PAGE if whole else PAGE):
        # Where nothing changed, which is so most of the time, Sage gives one page with nothing on it.
        if page:
            _take_page(services, connection_id, page, tally, reading)
        if page or reading.unchanged:
            after_page()
    tally.seen += len(reading.unchanged)
    with services.database.unit_of_work() as work:
        newest = reading.newest or watermark or began - BEFORE_FIRST
        if reading.left is not None and not whole:
            newest = min(newest, reading.left)
        # A time in the future would hide all that changes until then.
        _note_moment(work, connection_id, kind.cursor, min(newest, began))
        if kind.says_origin:
            end_creates_in_doubt(work, kind, connection_id, began - OVERLAP)
        if whole:
            _note_moment(work, connection_id, _whole(kind), began)
            tally.drifted += _have_missing_compared(work, connection_id, reading)
        elif there.not_understood:
            _have_compared(work, connection_id, reading, there.not_understood)
        work.commit()


def _together(pages: Iterator[list[RemoteRecord]], most: int) -> Iterator[list[RemoteRecord]]:
    """Small pages as fewer large ones, of about `most` records. None waits for long, and what came before a fault is
    given before it."""
    batch: list[RemoteRecord] = []
    began = monotonic()
    try:
        for page in pages:
            batch += page
            if len(batch) >= most or monotonic() - began > _PROGRESS_SECONDS:
                yield batch
                batch, began = [], monotonic()
    except SageError:
        yield batch
        raise
    yield batch


def _whole(kind: Kind) -> str:
    """The name of the cursor that says when all of a kind was read."""
    return f"{kind.cursor}{READ_WHOLE}"


def _have_missing_compared(work: UnitOfWork, connection_id: int, reading: Reading) -> int:
    """Have each record compared that is in step and that Sage did not show when all was read. Returns how many.

    The push finds out whether it is gone: a page can have shifted meanwhile. What was compared since the reading began
    was not missing.
    """
    shown = reading.ids | reading.unchanged
    linked = work.session.execute(_in_step(connection_id, reading))
    missing = [record_id for record_id, sage_id in linked if sage_id not in shown]
    _queue_all(work, connection_id, reading.kind, missing, cause=DRIFT)
    return len(missing)


def _have_compared(work: UnitOfWork, connection_id: int, reading: Reading, sage_ids: Collection[str]) -> None:
    """Have those of these records compared that are in step. What cannot be understood is in step with nothing: the push
    finds that out, and leaves it to a person."""
    changed = work.session.scalars(_in_step(connection_id, reading).where(reading.kind.model.sage_id.in_(sage_ids)))
    _queue_all(work, connection_id, reading.kind, changed.all(), cause="sage")


def _in_step(connection_id: int, reading: Reading) -> Select[int, str | None]:
    """The ids, here and in Sage, of the records that are in step since before a reading began."""
    model = reading.kind.model
    return select(model.id, model.sage_id).where(
        model.connection_id == connection_id,
        model.sync_reason == Reason.IN_STEP,
        # In the words of an index of the lists, in which a first reading finds none.
        model.sync_status == Status.SYNCHRONISED,
        last_synchronised_key(inspect(model).local_table) < reading.began,
    )


def _queue_all(work: UnitOfWork, connection_id: int, kind: Kind, record_ids: Sequence[int], *, cause: str) -> None:
    reason, detail = queued_as(work.session.get_one(Connection, connection_id))
    for start in range(0, len(record_ids), _AT_ONCE):
        chosen = record_ids[start : start + _AT_ONCE]
        where = kind.model.id.in_(chosen) & (kind.model.sync_reason == Reason.IN_STEP)
        move_all(work, kind.model, where, reason, detail, cause=cause)


def _forbidden() -> None:
    raise AssertionError("a pull never writes to Sage")


def _before(work: UnitOfWork, connection_id: int) -> Before:
    cursors = work.session.scalars(select(SyncCursor).where(SyncCursor.connection_id == connection_id))
    completed = select(SyncRun.started_at).where(
        SyncRun.connection_id == connection_id, SyncRun.finished_at.is_not(None), SyncRun.error.is_(None)
    )
    return Before(
        {cursor.entity: cursor.watermark for cursor in cursors},
        work.session.scalar(completed.order_by(SyncRun.id.desc()).limit(1)),
    )


def _unchanged(
    services: Services, connection_id: int, reading: Reading, settled: Settled, listed: Sequence[Listed]
) -> set[str]:
    """The ids of the records that need no call of their own. They count as seen."""
    kind = reading.kind
    model = kind.model
    with services.database.reading() as session:
        wanted = select(model).where(
            model.connection_id == connection_id, model.sage_id.in_([one.id for one in listed])
        )
        records = {record.sage_id: record for record in session.scalars(wanted.options(*kind.loads))}
        found = {one.id for one in listed if one.id in records and settled.needs_no_call(records[one.id], one)}
    reading.unchanged |= found
    return found


def _note_moment(work: UnitOfWork, connection_id: int, entity: str, moment: datetime) -> None:
    """A cursor only grows: of two pulls side by side the later one counts."""
    statement = insert(SyncCursor).values(connection_id=connection_id, entity=entity, watermark=moment)
    work.session.execute(
        statement.on_conflict_do_update(
            index_elements=["connection_id", "entity"],
            set_={"watermark": func.greatest(SyncCursor.watermark, statement.excluded.watermark)},
        )
    )


def _note_progress(services: Services, run_id: int, tally: Tally) -> None:
    with services.database.unit_of_work() as work:
        work.may_be_done_again()
        run = work.session.get_one(SyncRun, run_id)
        _count(run, tally)
        work.touch(run)
        work.commit()


def _count(run: SyncRun, tally: Tally) -> None:
    for counted, number in asdict(tally).items():
        setattr(run, counted, number)


def _take_deletions(services: Services, connection_id: int, kind: Kind, tombstones: Sequence[Tombstone]) -> None:
    """Leave the records that were deleted in Sage to a person. What belongs to a company waits for it then."""
    model = kind.model
    with services.database.unit_of_work() as work:
        gone = work.session.scalars(
            select(model)
            .where(
                model.connection_id == connection_id,
                model.sage_id.in_([tombstone.id for tombstone in tombstones]),
                model.sync_reason.not_in([Reason.DELETED_IN_SAGE, Reason.EXCLUDED, Reason.WAITING_FOR_PARENT]),
            )
            .order_by(model.id)
            .with_for_update()
        ).all()
        for record in gone:
            move(work, record, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"}, cause="sage")
            if isinstance(record, Company):
                hold_children(work, record, "sage")
        work.commit()


def _take_page(
    services: Services, connection_id: int, page: Sequence[RemoteRecord], tally: Tally, reading: Reading
) -> None:
    """Take over one page, in one transaction. Where that breaks, each half by itself, down to the record that broke it.

    That one is shown.
    """
    kind = reading.kind
    try:
        _take(services, connection_id, page, tally, reading)
    except DBAPIError as error:
        detail = not_stored(kind, error, page[0])
        if len(page) > 1:
            middle = len(page) // 2
            for half in (page[:middle], page[middle:]):
                _take_page(services, connection_id, half, tally, reading)
            return
        tally.failed += 1
        log.warning("not_taken", kind=kind.name, sage_id=page[0].id, error=type(error.orig).__name__)
        _show_not_stored(services, connection_id, kind, page[0], detail)
    reading.note(page)


def _show_not_stored(services: Services, connection_id: int, kind: Kind, remote: RemoteRecord, detail: Json) -> None:
    """Leave a record that cannot be stored here as it is in Sage to a person.

    One that is new here is added without the code or number that another one has, where that is what stands in the way.
    Otherwise there is nothing to show it on, and the log and the count of the run have it.
    """
    model = kind.model
    with services.database.unit_of_work() as work:
        record = work.session.scalar(
            select(model).where(model.connection_id == connection_id, model.sage_id == remote.id).with_for_update()
        )
        if record is None:
            company_ids = companies_of(work, connection_id, kind, [remote])
            if kind.unique is None or detail["code"] != kind.unique.code or remote.parent not in company_ids:
                return
            connection = work.session.get_one(Connection, connection_id)
            company_id, without = company_ids[remote.parent], kind.unique.field
            record = new_record(work.session, kind, remote, connection, company_id, without=without)
            work.session.add(record)
            work.session.flush()
        elif not _is_news(record, remote):
            return
        record.sage_updated_at = remote.updated_at
        move(work, record, Reason.REJECTED, detail, cause="sage")
        work.commit()


def _take(services: Services, connection_id: int, page: Sequence[RemoteRecord], tally: Tally, reading: Reading) -> None:
    kind = reading.kind
    model = kind.model
    with services.database.unit_of_work() as work:
        # The watermark, which says that it was done, is committed later.
        work.may_be_done_again()
        connection = work.session.get_one(Connection, connection_id)
        named = bindparam("ids", [remote.id for remote in page], type_=ARRAY(Text))
        wanted = select(model).where(model.connection_id == connection_id, model.sage_id == any_(named))
        if reading.whole:
            wanted = wanted.options(*kind.loads)
        linked = {record.sage_id: record for record in work.session.scalars(wanted)}
        created = changed = 0
        known = [(linked[one.id], one) for one in page if one.id in linked]
        drifted = [(record.id, remote) for record, remote in known if _has_drifted(record, remote, reading)]
        news = drifted + [(record.id, remote) for record, remote in known if _is_news(record, remote)]
        # In the order in which everybody locks many records, so that two never wait for each other.
        for record_id, remote in sorted(dict(news).items()):
            changed += _take_change(work, reading, record_id, remote, connection)
        strangers = [remote for remote in page if remote.id not in linked]
        if strangers:
            taken = take_strangers(work, kind, strangers, connection)
            created, changed = taken.added, changed + taken.linked
            for remote in taken.left:
                reading.leave(remote)
        work.commit()
    tally.seen += len(page)
    tally.created += created
    tally.changed += changed
    if reading.whole:
        tally.compared += len(known)
        tally.drifted += len(drifted)


def _has_drifted(record: Synced, remote: RemoteRecord, reading: Reading) -> bool:
    """Whether a record that is shown as in step is not, and nothing but reading all of its kind tells so.

    Sage has another state than both sides agreed on and says that it is an old one, as after a backup was put back
    there; or the record itself was changed past us. What was compared since the reading began is newer than the page,
    and of what was compared shortly before, a part of Sage that lags behind may show an older state.
    """
    if not reading.whole or record.sync_reason != Reason.IN_STEP or record.last_synchronised_at is None:
        return False
    if fields_of(record) != record.agreed:
        return record.last_synchronised_at < reading.began
    is_older = record.sage_updated_at is not None and remote.updated_at < record.sage_updated_at
    was_told = reading.told is not None and remote.updated_at < reading.told
    return (
        (is_older or was_told)
        and record.agreed != remote.fields
        and record.last_synchronised_at < reading.began - OVERLAP
    )


def _is_news(record: Synced, remote: RemoteRecord) -> bool:
    """Whether Sage says something new: our own writes come back, and the overlap repeats what was read.

    What waits for a person has seen a state of the same time already, and a doubt is not settled by a change.
    """
    if record.sync_reason in (Reason.EXCLUDED, Reason.POSSIBLE_DUPLICATE):
        return False
    known = believable(record.sage_updated_at)
    if known is not None and remote.updated_at < known:
        return False
    if record.sync_reason == Reason.DELETED_IN_SAGE:
        return True
    if record.sync_status == Status.REVIEW and remote.updated_at == record.sage_updated_at:
        return False
    return record.agreed != remote.fields


def _take_change(
    work: UnitOfWork, reading: Reading, record_id: int, remote: RemoteRecord, connection: Connection
) -> int:
    """Take over a change that only Sage made; leave the rest to the push, as all that has drifted.

    Returns how many records changed here.
    """
    kind = reading.kind
    record = locked(work, kind, record_id)
    has_drifted = _has_drifted(record, remote, reading)
    if not has_drifted and not _is_news(record, remote):
        return 0
    # What was written since the reading began is newer than the page, and the answer to a write need not tell its time.
    was_written = record.last_synchronised_at is not None and record.last_synchronised_at >= reading.began
    if record.sync_status == Status.SYNCHRONISED and not has_drifted and not was_written:
        state = RemoteState(remote.fields, remote.updated_at)
        directions = connection.directions.get(kind.name, {})
        plan = decide(fields_of(record), state, record.agreed, believable(record.sage_updated_at), directions)
        # Two states with the same time cannot be told apart by age, and Sage's times are whole seconds.
        if plan.action is Action.TAKE and remote.updated_at != record.sage_updated_at:
            take_fields(work.session, record, remote, plan.take)
            record.sage_number = remote.number
            record.sage_page = remote.page or record.sage_page
            record.sage_updated_at = remote.updated_at
            record.agreed = dict(remote.fields)
            record.last_synchronised_at = func.clock_timestamp()
            fields = list(plan.take)
            move(work, record, Reason.IN_STEP, {"code": "in_step", "taken": fields}, cause="sage")
            return 1
    # What is to be tried again reads Sage then, and keeps the wait that Sage asked for. What waits for its company waits.
    if record.sync_reason not in _READ_LATER:
        record.sage_updated_at = remote.updated_at
        queue(work, record, connection, cause=DRIFT if has_drifted else "sage")
    return 0
