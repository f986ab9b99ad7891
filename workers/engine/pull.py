"""Reading from Sage what changed there: page by page, with an overlap, harmless when it is done twice.

Customers first, then their persons, then orders, so that what belongs to a customer finds its company. What Sage alone
changed is taken over here at once. Everything else (both sides changed, or what was read may be old) is left to the
push, which reads that one record anew and decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from time import monotonic
from typing import Any

import structlog
from redis import RedisError
from redis.exceptions import LockError
from redis.lock import Lock
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    any_,
    bindparam,
    column,
    func,
    inspect,
    literal,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from webapp.companies.models import CUSTOMER, Company
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, Connection
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.services import Services
from webapp.status import Reason, Status
from webapp.sync.models import READ_WHOLE, Json, Moment, SyncCursor, Synced, SyncEvent, SyncRun, WriteIntent
from webapp.sync.sending import adopt
from webapp.sync.transitions import DRIFT, Moved, move, move_all, queue, queued_as
from workers.engine.decide import Action, RemoteState, decide
from workers.engine.due import hold_children
from workers.engine.kinds import KINDS, Kind, fields_of, new_record, not_stored, take_link
from workers.engine.match import match
from workers.engine.push import Connect, believable, connection_failed
from workers.sage.connector import AuthoriseAgain, Connector, RemoteRecord, SageError, Tombstone, Transient, Unreachable

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
# So many records are taken over in one transaction.
PAGE = 1_000
# How often a pull says how far it has come.
_PROGRESS_SECONDS = 1.0

_CANDIDATES_AT_MOST = 50
# The creates of records that wait for a person so are not tried again.
_LEFT_TO_PERSONS = (Reason.OUTCOME_UNKNOWN, Reason.GAVE_UP, Reason.POSSIBLE_DUPLICATE)
_READ_LATER = (Reason.QUEUED, Reason.WAITING_FOR_SAGE, Reason.RETRYING, Reason.WAITING_FOR_PARENT)
# Written out, because a plan that is made for any reason cannot use the indexes of this one alone.
_DELETED = literal_column(f"'{Reason.DELETED_IN_SAGE}'", Text)
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
    where there was none.
    """

    kind: Kind
    whole: bool
    began: datetime
    told: datetime | None = None
    newest: datetime | None = None
    left: datetime | None = None
    ids: set[str] = field(default_factory=set)

    def note(self, page: Sequence[RemoteRecord]) -> None:
        """Count a page as read."""
        times = [one.updated_at for one in page]
        self.newest = max([self.newest, *times] if self.newest else times, default=None)
        if self.whole:
            self.ids.update(one.id for one in page)

    def leave(self, remote: RemoteRecord) -> None:
        """Leave a record for a later pull."""
        self.left = min(self.left or remote.updated_at, remote.updated_at)


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
        read_until = _read_until(work, connection_id)
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
                _read(services, connection_id, sage, kind, read_until, tally, after_page)
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
            # Still under the lock of the connection's row, so that a pause that somebody asks for now is kept.
            change_state(work, connection, PAUSED if connection.state == PAUSED else CONNECTED)
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
    read_until: Mapping[str, datetime],
    tally: Tally,
    after_page: Callable[[], None],
) -> None:
    """Take over what changed of one kind, and move its watermark when all of that was committed."""
    began = datetime.now(UTC)
    watermark = read_until.get(kind.cursor)
    read_whole_at = read_until.get(_whole(kind))
    there = kind.collection(sage)
    every = WHOLE_EVERY if there.tells_deletions else WHOLE_OFTEN
    whole = watermark is None or read_whole_at is None or read_whole_at < began - every
    reading = Reading(kind, whole, began, watermark and watermark - OVERLAP)
    # Deletions first: a record that was deleted and made anew must not be taken for a second one.
    if watermark is not None:
        for tombstones in there.deleted(watermark - OVERLAP):
            if tombstones:
                _take_deletions(services, connection_id, kind, tombstones)
    for page in _together(there.changed(None if whole else reading.told)):
        # Where nothing changed, which is so most of the time, Sage gives one page with nothing on it.
        if page:
            _take_page(services, connection_id, page, tally, reading)
            after_page()
    with services.database.unit_of_work() as work:
        newest = reading.newest or watermark or began - BEFORE_FIRST
        if reading.left is not None and not whole:
            newest = min(newest, reading.left)
        # A time in the future would hide all that changes until then.
        _note_moment(work, connection_id, kind.cursor, min(newest, began))
        if kind.says_origin:
            _end_creates_in_doubt(work, kind, connection_id, began)
        if whole:
            _note_moment(work, connection_id, _whole(kind), began)
            tally.drifted += _have_missing_compared(work, connection_id, reading)
        work.commit()


def _together(pages: Iterator[list[RemoteRecord]]) -> Iterator[list[RemoteRecord]]:
    """Small pages as fewer large ones, because a transaction takes about as long for either.

    None waits for long, and what came before a fault is given before it.
    """
    batch: list[RemoteRecord] = []
    began = monotonic()
    try:
        for page in pages:
            batch += page
            if len(batch) >= PAGE or monotonic() - began > _PROGRESS_SECONDS:
                yield batch
                batch, began = [], monotonic()
    except SageError:
        yield batch
        raise
    yield batch


def _end_creates_in_doubt(work: UnitOfWork, kind: Kind, connection_id: int, began: datetime) -> None:
    """Note of the creates of possible duplicates that Sage has not applied them, where it has had the time to show that.

    Whatever Sage made and told of since then says by which create, and has been settled (`_settle_create`).
    """
    model = kind.model
    in_doubt = (model.sync_reason == Reason.POSSIBLE_DUPLICATE) & (model.last_attempt_at < began - OVERLAP)
    work.session.execute(
        update(WriteIntent)
        .where(
            *_is_begun(kind, connection_id),
            WriteIntent.sage_id.is_(None),
            WriteIntent.record_id.in_(select(model.id).where(in_doubt)),
        )
        .values(state="refused", finished_at=func.clock_timestamp())
    )


def _whole(kind: Kind) -> str:
    """The name of the cursor that says when all of a kind was read."""
    return f"{kind.cursor}{READ_WHOLE}"


def _have_missing_compared(work: UnitOfWork, connection_id: int, reading: Reading) -> int:
    """Have each record compared that is in step and that Sage did not show when all was read. Returns how many.

    The push finds out whether it is gone: a page can have shifted meanwhile. What was compared since the reading began
    was not missing.
    """
    model = reading.kind.model
    linked = work.session.execute(
        select(model.id, model.sage_id).where(
            model.connection_id == connection_id,
            model.sync_reason == Reason.IN_STEP,
            model.last_synchronised_at < reading.began,
        )
    )
    missing = [record_id for record_id, sage_id in linked if sage_id not in reading.ids]
    reason, detail = queued_as(work.session.get_one(Connection, connection_id))
    for start in range(0, len(missing), _AT_ONCE):
        chosen = missing[start : start + _AT_ONCE]
        where = model.id.in_(chosen) & (model.sync_reason == Reason.IN_STEP)
        move_all(work, model, where, reason, detail, cause=DRIFT)
    return len(missing)


def _forbidden() -> None:
    raise AssertionError("a pull never writes to Sage")


def _read_until(work: UnitOfWork, connection_id: int) -> dict[str, datetime]:
    """The cursors of a connection, by their names."""
    cursors = work.session.scalars(select(SyncCursor).where(SyncCursor.connection_id == connection_id))
    return {cursor.entity: cursor.watermark for cursor in cursors}


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
            company_ids = _companies_of(work, connection_id, kind, [remote])
            if kind.unique is None or detail["code"] != kind.unique.code or remote.parent not in company_ids:
                return
            connection = work.session.get_one(Connection, connection_id)
            record = new_record(kind, remote, connection, company_ids[remote.parent], without=kind.unique.field)
            work.session.add(record)
            work.session.flush()
        elif not _is_news(record, remote):
            return
        record.sage_updated_at = remote.updated_at
        move(work, record, Reason.REJECTED, detail, cause="sage")
        work.commit()


def _companies_of(
    work: UnitOfWork, connection_id: int, kind: Kind, page: Sequence[RemoteRecord]
) -> dict[str, int | None]:
    """The company of each record of Sage whose company is known here, by the id of the customer; companies have none."""
    if kind.company_id is None:
        return {"": None}
    found = work.session.execute(
        select(Company.sage_id, Company.id).where(
            Company.connection_id == connection_id,
            Company.type == CUSTOMER,
            Company.sage_id.in_({remote.parent for remote in page}),
        )
    )
    return {str(sage_id): company_id for sage_id, company_id in found}


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
            created, newly_linked = _take_strangers(work, reading, strangers, connection)
            changed += newly_linked
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


def _locked(work: UnitOfWork, kind: Kind, record_id: int) -> Synced:
    """A record as it is now, which nobody else changes until the commit.

    Session.get would raise StaleDataError where it was edited since this session read it.
    """
    wanted = select(kind.model).where(kind.model.id == record_id).options(*kind.loads).with_for_update()
    return work.session.scalars(wanted, execution_options={"populate_existing": True}).one()


def _take_change(
    work: UnitOfWork, reading: Reading, record_id: int, remote: RemoteRecord, connection: Connection
) -> int:
    """Take over a change that only Sage made; leave the rest to the push, as all that has drifted.

    Returns how many records changed here.
    """
    kind = reading.kind
    record = _locked(work, kind, record_id)
    has_drifted = _has_drifted(record, remote, reading)
    if not has_drifted and not _is_news(record, remote):
        return 0
    if record.sync_status == Status.SYNCHRONISED and not has_drifted:
        state = RemoteState(remote.fields, remote.updated_at)
        directions = connection.directions.get(kind.name, {})
        plan = decide(fields_of(record), state, record.agreed, believable(record.sage_updated_at), directions)
        # Two states with the same time cannot be told apart by age, and Sage's times are whole seconds.
        if plan.action is Action.TAKE and remote.updated_at != record.sage_updated_at:
            for name in plan.take:
                record.take(name, remote.fields[name])
            record.sage_number = remote.number
            record.sage_updated_at = remote.updated_at
            record.agreed = dict(remote.fields)
            record.last_synchronised_at = datetime.now(UTC)
            fields = list(plan.take)
            move(work, record, Reason.IN_STEP, {"code": "in_step", "taken": fields}, cause="sage")
            return 1
    # What is to be tried again reads Sage then, and keeps the wait that Sage asked for. What waits for its company waits.
    if record.sync_reason not in _READ_LATER:
        record.sage_updated_at = remote.updated_at
        queue(work, record, connection, cause=DRIFT if has_drifted else "sage")
    return 0


def _take_strangers(
    work: UnitOfWork, reading: Reading, strangers: Sequence[RemoteRecord], connection: Connection
) -> tuple[int, int]:
    """Records of Sage that none here is linked to: link the one that each is, else add one.

    A person or an order of a customer that no company is linked to is left for later, and so is one that an unanswered
    create of ours may have made. Returns how many were added and how many linked.
    """
    kind = reading.kind
    new: list[tuple[RemoteRecord, int | None]] = []
    doubtful = linked = 0
    begun = _begun_creates(work, kind, connection.id)
    company_ids = _companies_of(work, connection.id, kind, strangers)
    alike = _alike(work, kind, strangers, company_ids, connection)
    for remote in strangers:
        made_by = _create_of(kind, remote, begun)
        if made_by is not None:
            # The answer has not been recorded yet: the push that made it will do so.
            _settle_create(work, kind, made_by, remote, connection)
        if remote.parent not in company_ids or (made_by is not None and not kind.says_origin):
            reading.leave(remote)
        if remote.parent not in company_ids or made_by is not None:
            continue
        company_id = company_ids[remote.parent]
        made = {one.record_id for one in begun if one.sage_id}
        free = [(record_id, fields) for record_id, fields in alike.get(remote.id, {}).items() if record_id not in made]
        found = match(remote.fields, free, kind.keys)
        if not kind.says_origin and {one.record_id for one in begun} & set(found.ids):
            # Whether it is that one is known when its create is settled.
            reading.leave(remote)
            continue
        if found.sure is not None and not _may_be_made(found.sure, remote, begun):
            linked += _link(work, kind, found.sure, remote, connection)
            # It is spoken for, and the next stranger that resembles it is another one.
            for others in alike.values():
                others.pop(found.sure, None)
        elif found.ids:
            _add_doubtful(work, kind, remote, connection, company_id, found.ids)
            doubtful += 1
        else:
            new.append((remote, company_id))
    if new and kind.in_columns:
        _add_all(work, kind, new, connection)
    else:
        for remote, company_id in new:
            _add(work, kind, remote, connection, company_id)
    return doubtful + len(new), linked


def _begun_creates(work: UnitOfWork, kind: Kind, connection_id: int) -> Sequence[WriteIntent]:
    """Our creates whose outcome is not recorded yet."""
    return work.session.scalars(select(WriteIntent).where(*_is_begun(kind, connection_id))).all()


def _is_begun(kind: Kind, connection_id: int) -> list[ColumnElement[bool]]:
    """Conditions on a create of ours whose outcome is not recorded yet."""
    return [
        WriteIntent.connection_id == connection_id,
        WriteIntent.kind == kind.name,
        WriteIntent.operation == "create",
        WriteIntent.state.in_(["open", "unknown"]),
    ]


def _create_of(kind: Kind, remote: RemoteRecord, begun: Sequence[WriteIntent]) -> WriteIntent | None:
    """The create of ours that made a record in Sage: surely where Sage says so, else by what the create said."""
    if kind.says_origin:
        return next((one for one in begun if one.idempotency_key == remote.origin), None)
    return next((one for one in begun if match(remote.fields, [(one.record_id, one.fields)], kind.keys).ids), None)


def _settle_create(
    work: UnitOfWork, kind: Kind, intent: WriteIntent, remote: RemoteRecord, connection: Connection
) -> None:
    """Have a create that nobody goes on with, and that Sage now shows, brought to its end.

    Where Sage says which create it was, that is noted: the record is no stranger's from then on.
    """
    if kind.says_origin:
        intent.sage_id = remote.id
    record = _locked(work, kind, intent.record_id)
    if record.sync_reason in _LEFT_TO_PERSONS:
        queue(work, record, connection, cause="sage")


def _may_be_made(company_id: int, remote: RemoteRecord, begun: Sequence[WriteIntent]) -> bool:
    """Whether a create that was begun for a company could have made it another customer than `remote`.

    Codes are unique in Sage: where another customer has the code that the create said, the create was not applied.
    """
    intent = next((one for one in begun if one.record_id == company_id), None)
    return intent is not None and (not remote.fields["code"] or intent.fields["code"] != remote.fields["code"])


def _alike(
    work: UnitOfWork,
    kind: Kind,
    strangers: Sequence[RemoteRecord],
    company_ids: Mapping[str, int | None],
    connection: Connection,
) -> dict[str, dict[int, dict[str, str]]]:
    """Records that each stranger could be, by the stranger's id: those of its company, or for a company of its
    connection, that are not linked, or linked to one that was deleted, and that show a sign of being it.

    The database finds what may fit, by the columns that are indexed for it; match decides.
    """
    told = [
        {"id": one.id, "company_id": company_ids[one.parent]}
        | {sign.field: one.fields[sign.field] for sign in kind.alike}
        for one in strangers
        if one.parent in company_ids
    ]
    found_pairs = work.session.execute(_alike_of(kind), {"strangers": told, "connection": connection.id})
    pairs = {(sage_id, record_id) for sage_id, record_id in found_pairs}
    ids = {record_id for _, record_id in pairs}
    if not ids:
        return {}
    records = work.session.scalars(select(kind.model).where(kind.model.id.in_(ids)).options(*kind.loads))
    fields = {record.id: fields_of(record) for record in records}
    found: dict[str, dict[int, dict[str, str]]] = defaultdict(dict)
    for sage_id, record_id in sorted(pairs):
        found[sage_id][record_id] = fields[record_id]
    return found


@cache
def _alike_of(kind: Kind) -> CompoundSelect[str, int]:
    """The statement that pairs `strangers` (their id, company_id, and the fields that are signs) with ids of records.

    This statement and the next one are made once, because making one takes longer than running it.
    """
    model = kind.model
    fields = [column(sign.field, Text) for sign in kind.alike]
    told = func.jsonb_to_recordset(bindparam("strangers", type_=JSONB))
    stranger = told.table_valued(column("id", Text), column("company_id", BigInteger), *fields).render_derived(
        with_types=True
    )
    pairs = []
    for sign in kind.alike:
        value = stranger.c[sign.field]
        free = select(model.id).where(
            sign.column == sign.of(value),
            model.connection_id == bindparam("connection", type_=BigInteger),
            model.sage_id.is_(None) | (model.sync_reason == _DELETED),
        )
        if kind.company_id is not None:
            free = free.where(kind.company_id == stranger.c.company_id)
        # The limit has it look up each stranger by itself; to join all with all records takes ever longer.
        record = free.limit(_CANDIDATES_AT_MOST).lateral()
        pairs.append(select(stranger.c.id, record.c.id).join_from(stranger, record, true()).where(value != ""))
    return union_all(*pairs)


def _link(work: UnitOfWork, kind: Kind, record_id: int, remote: RemoteRecord, connection: Connection) -> int:
    """Link a record to the one in Sage that it is, and have the push compare the two. Returns how many were linked."""
    record = _locked(work, kind, record_id)
    if record.sync_reason == Reason.UNLINKED:
        # A person took it out of synchronisation, and only a person brings it back.
        return 0
    if record.sage_id is not None and record.sync_reason != Reason.DELETED_IN_SAGE:
        return 0
    take_link(kind, record, remote, connection)
    record.agreed = None
    queue(work, record, connection, cause="sage")
    return 1


def _add_all(
    work: UnitOfWork, kind: Kind, new: Sequence[tuple[RemoteRecord, int | None]], connection: Connection
) -> None:
    """Add the records that many of Sage are, in one statement, as equal on both sides. Only for kinds `in_columns`."""
    rows = [
        {
            "sage_id": remote.id,
            "sage_number": remote.number,
            "sage_updated_at": remote.updated_at.isoformat(),
            "company_id": company_id,
            "agreed": remote.fields,
        }
        for remote, company_id in new
    ]
    values = {"rows": rows, "connection": connection.id, "now": datetime.now(UTC)}
    first = work.session.execute(_add_all_of(kind), values).scalar_one()
    # Nobody watches a record that is new, so one of them moves the counters for all.
    one = Moved(kind.name, kind.model.module, first, connection.id)
    work.touched[one.key] = one


@cache
def _add_all_of(kind: Kind) -> Select[int]:
    """The statement that adds `rows` to a `connection`, with their history, and gives the first new id."""
    names = ["sage_id", "sage_number", "sage_updated_at", "agreed"]
    names += [] if kind.company_id is None else ["company_id"]
    types = inspect(kind.model).local_table.c
    given = func.jsonb_to_recordset(bindparam("rows", type_=JSONB))
    row = given.table_valued(*(column(name, types[name].type) for name in names)).render_derived(with_types=True)
    status = literal({"code": "in_step"}, JSONB)
    columns: dict[str, ColumnElement[Any]] = {
        **{name: row.c[name] for name in names},
        **{name: row.c.agreed[name].astext for name in kind.names},
        **{name: literal(value) for name, value in kind.in_sage.items()},
        "connection_id": bindparam("connection", type_=BigInteger),
        "sync_status": literal(str(Status.SYNCHRONISED)),
        "sync_reason": literal(str(Reason.IN_STEP)),
        "sync_detail": status,
        "sync_version": literal(1),
        "last_synchronised_at": bindparam("now", type_=Moment),
    }
    added = (
        insert(kind.model).from_select(list(columns), select(*columns.values())).returning(kind.model.id).cte("added")
    )
    event = {
        "kind": literal(kind.name),
        "record_id": added.c.id,
        "from_reason": literal(str(Reason.NEVER_SENT)),
        "to_reason": literal(str(Reason.IN_STEP)),
        "detail": status,
        "cause": literal("sage"),
    }
    noted = insert(SyncEvent).from_select(list(event), select(*event.values())).cte("noted")
    return select(func.min(added.c.id)).add_cte(noted)


def _add(work: UnitOfWork, kind: Kind, remote: RemoteRecord, connection: Connection, company_id: int | None) -> None:
    """Add the record that one of Sage is. Where it has something here that Sage lacks, such as a number, that is sent."""
    record = new_record(kind, remote, connection, company_id)
    record.agreed = dict(remote.fields)
    work.session.add(record)
    work.session.flush()
    if fields_of(record) != remote.fields:
        queue(work, record, connection, cause="sage")
        return
    record.last_synchronised_at = datetime.now(UTC)
    move(work, record, Reason.IN_STEP, {"code": "in_step"}, cause="sage")


def _add_doubtful(
    work: UnitOfWork,
    kind: Kind,
    remote: RemoteRecord,
    connection: Connection,
    company_id: int | None,
    alike: Sequence[int],
) -> None:
    """Add a record of Sage that may be one of several of ours, and hold those back for a person."""
    model = kind.model
    records = work.session.scalars(
        select(model)
        .where(model.id.in_(alike))
        .order_by(model.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    names = [record.shared(kind.title) for record in records]
    added = new_record(kind, remote, connection, company_id)
    added.agreed = dict(remote.fields)
    work.session.add(added)
    work.session.flush()
    detail = {"code": "possible_duplicate", "names": names, "ids": list(alike)}
    move(work, added, Reason.POSSIBLE_DUPLICATE, detail, cause="sage")
    for record in records:
        if record.sync_reason not in (Reason.EXCLUDED, Reason.UNLINKED):
            detail = {"code": "possible_duplicate", "names": [remote.fields[kind.title]], "ids": [added.id]}
            move(work, record, Reason.POSSIBLE_DUPLICATE, detail, cause="sage")
