"""Reading from Sage what changed there: page by page, with an overlap, harmless when it is done twice.

What Sage alone changed is taken over here at once. Everything else (both sides changed, or what was read may be old) is
left to the push, which reads that one customer anew and decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import structlog
from redis import RedisError
from redis.exceptions import LockError
from redis.lock import Lock
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from webapp.companies.models import CUSTOMER, Company
from webapp.connection.circuit import change_state
from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, Connection
from webapp.db import UnitOfWork
from webapp.services import Services
from webapp.status import Reason, Status
from webapp.sync.models import Json, SyncCursor, SyncRun, WriteIntent
from webapp.sync.transitions import move, queue
from workers.engine.decide import Action, RemoteState, decide
from workers.engine.match import match
from workers.engine.push import CUSTOMERS, Connect, believable, connection_failed, fields_of, not_stored
from workers.sage.connector import AuthoriseAgain, RemoteRecord, Tombstone, Transient, Unreachable

log = structlog.get_logger()

# Read again from this long before the newest change seen: clocks differ between Sage's machines, and its pages shift.
OVERLAP = timedelta(minutes=5)
# Of the very first read nothing is known about Sage's clock but that it is not a day behind.
BEFORE_FIRST = timedelta(days=1)
# A pull of a connection keeps others from it for this long after its last page.
_ALONE_SECONDS = 120

_CANDIDATES_AT_MOST = 50


@dataclass
class Tally:
    """What one pull did."""

    seen: int = 0
    created: int = 0
    changed: int = 0
    failed: int = 0
    newest: datetime | None = None
    known: set[str] = field(default_factory=set)


def pull(services: Services, connection_id: int, connect: Connect, user_id: int | None = None) -> None:
    """Take over what changed in Sage since the last time, and note that Sage answered.

    Where another process does so already, nothing is done. A fault of the connection is shown on the connection; a
    passing fault of Sage ends this pull, and the next one begins where the last complete one ended.
    """
    alone: Lock | None
    try:
        alone = services.redis.lock(f"synclight:pull:{connection_id}", timeout=_ALONE_SECONDS, blocking=False)
        if not alone.acquire():
            return
    except RedisError:
        # Two pulls side by side only cost calls.
        alone = None
    try:
        _pull(services, connection_id, connect, user_id, alone)
    finally:
        if alone is not None:
            _while_alone(alone.release)


def _while_alone(action: Callable[[], object]) -> None:
    """Do something with the lock. That it was lost does no harm: two pulls side by side only cost calls."""
    try:
        action()
    except (LockError, RedisError) as error:
        log.info("pull_lock_gone", error=type(error).__name__)


def _pull(services: Services, connection_id: int, connect: Connect, user_id: int | None, alone: Lock | None) -> None:
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        if connection.state in (CONNECTING, PAUSED):
            return
        cursor = work.session.get(SyncCursor, (connection_id, CUSTOMERS))
        watermark = cursor.watermark if cursor else None
        run = SyncRun(connection_id=connection_id, operation="pull", user_id=user_id)
        work.session.add(run)
        connection.last_run_at = datetime.now(UTC)
        connection.next_run_at = connection.last_run_at + timedelta(seconds=connection.cycle_seconds)
        work.touch(connection)
        work.touch(run)
        work.commit()
    tally, error = Tally(), ""
    began = datetime.now(UTC)
    try:
        with connect(services, connection_id, _forbidden) as sage:
            sage.check()
            since = watermark - OVERLAP if watermark else None
            # Deletions first: a customer that was deleted and made anew must not be taken for a second one.
            if since is not None:
                for tombstones in sage.customers.deleted(since):
                    _take_deletions(services, connection_id, tombstones)
            for page in sage.customers.changed(since):
                _take_page(services, connection_id, page, tally)
                _note_progress(services, run.id, tally)
                if alone is not None:
                    _while_alone(alone.reacquire)
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
        run.finished_at = datetime.now(UTC)
        run.error = error or None
        work.touch(run)
        if not error:
            newest = tally.newest or watermark or began - BEFORE_FIRST
            # A time in the future would hide all that changes until then.
            _move_watermark(work, connection_id, min(newest, began))
            connection = work.session.get_one(Connection, connection_id, with_for_update=True)
            connection.last_synchronised_at = datetime.now(UTC)
            work.touch(connection)
            work.pushes.add(connection_id)
            # Still under the lock of the connection's row, so that a pause that somebody asks for now is kept.
            change_state(work, connection, PAUSED if connection.state == PAUSED else CONNECTED)
        work.commit()


def _forbidden() -> None:
    raise AssertionError("a pull never writes to Sage")


def _move_watermark(work: UnitOfWork, connection_id: int, moment: datetime) -> None:
    """The watermark only grows: of two pulls side by side the later one counts."""
    statement = insert(SyncCursor).values(connection_id=connection_id, entity=CUSTOMERS, watermark=moment)
    work.session.execute(
        statement.on_conflict_do_update(
            index_elements=["connection_id", "entity"],
            set_={"watermark": func.greatest(SyncCursor.watermark, statement.excluded.watermark)},
        )
    )


def _note_progress(services: Services, run_id: int, tally: Tally) -> None:
    with services.database.unit_of_work() as work:
        run = work.session.get_one(SyncRun, run_id)
        run.seen, run.created, run.changed, run.failed = tally.seen, tally.created, tally.changed, tally.failed
        work.touch(run)
        work.commit()


def _take_deletions(services: Services, connection_id: int, tombstones: Sequence[Tombstone]) -> None:
    """Leave the companies whose customers were deleted in Sage to a person."""
    with services.database.unit_of_work() as work:
        gone = work.session.scalars(
            select(Company)
            .where(
                Company.connection_id == connection_id,
                Company.sage_id.in_([tombstone.id for tombstone in tombstones]),
                Company.sync_reason.not_in([Reason.DELETED_IN_SAGE, Reason.EXCLUDED]),
            )
            .order_by(Company.id)
            .with_for_update()
        ).all()
        for company in gone:
            move(work, company, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"}, cause="sage")
        work.commit()


def _take_page(services: Services, connection_id: int, page: Sequence[RemoteRecord], tally: Tally) -> None:
    """Take over one page, in one transaction; a customer that breaks it is shown, and the rest taken one by one."""
    try:
        _take(services, connection_id, page, tally)
    except DBAPIError as broken:
        not_stored(broken, page[0])
        for remote in page:
            try:
                _take(services, connection_id, [remote], tally)
            except DBAPIError as error:
                detail = not_stored(error, remote)
                tally.failed += 1
                log.warning("customer_not_taken", sage_id=remote.id, error=type(error.orig).__name__)
                _show_not_stored(services, connection_id, remote, detail)
    tally.newest = max([remote.updated_at for remote in page] + ([tally.newest] if tally.newest else []), default=None)


def _show_not_stored(services: Services, connection_id: int, remote: RemoteRecord, detail: Json) -> None:
    """Leave a customer that cannot be stored here as it is in Sage to a person.

    One that is new here is added without its code where that is what stands in the way. Otherwise there is nothing to
    show it on, and the log and the count of the run have it.
    """
    with services.database.unit_of_work() as work:
        company = work.session.scalar(
            select(Company)
            .where(Company.connection_id == connection_id, Company.sage_id == remote.id)
            .with_for_update()
        )
        if company is None:
            if detail["code"] != "code_in_use":
                return
            company = _new(remote, work.session.get_one(Connection, connection_id))
            company.code = ""
            work.session.add(company)
            work.session.flush()
        elif not _is_news(company, remote):
            return
        company.sage_updated_at = remote.updated_at
        move(work, company, Reason.REJECTED, detail, cause="sage")
        work.commit()


def _take(services: Services, connection_id: int, page: Sequence[RemoteRecord], tally: Tally) -> None:
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id)
        linked = {
            company.sage_id: company
            for company in work.session.scalars(
                select(Company).where(
                    Company.connection_id == connection_id, Company.sage_id.in_([remote.id for remote in page])
                )
            )
        }
        created = changed = 0
        news = [(linked[one.id].id, one) for one in page if one.id in linked and _is_news(linked[one.id], one)]
        # In the order in which everybody locks many records, so that two never wait for each other.
        for company_id, remote in sorted(news, key=itemgetter(0)):
            changed += _take_change(work, company_id, remote, connection)
        strangers = [remote for remote in page if remote.id not in linked]
        if strangers:
            created, newly_linked = _take_strangers(work, strangers, connection)
            changed += newly_linked
        work.commit()
    tally.seen += len(page)
    tally.created += created
    tally.changed += changed


def _is_news(company: Company, remote: RemoteRecord) -> bool:
    """Whether Sage says something new: our own writes come back, and the overlap repeats what was read.

    What waits for a person has seen a state of the same time already, and a doubt is not settled by a change.
    """
    if company.sync_reason in (Reason.EXCLUDED, Reason.POSSIBLE_DUPLICATE):
        return False
    known = believable(company.sage_updated_at)
    if known is not None and remote.updated_at < known:
        return False
    if company.sync_reason == Reason.DELETED_IN_SAGE:
        return True
    if company.sync_status == Status.REVIEW and remote.updated_at == company.sage_updated_at:
        return False
    return company.agreed != remote.fields


def _locked(work: UnitOfWork, company_id: int) -> Company:
    """A company as it is now, which nobody else changes until the commit.

    Session.get would raise StaleDataError where it was edited since this session read it.
    """
    wanted = select(Company).where(Company.id == company_id).with_for_update()
    return work.session.scalars(wanted, execution_options={"populate_existing": True}).one()


def _take_change(work: UnitOfWork, company_id: int, remote: RemoteRecord, connection: Connection) -> int:
    """Take over a change that only Sage made; leave the rest to the push. Returns how many records changed here."""
    company = _locked(work, company_id)
    if not _is_news(company, remote):
        return 0
    if company.sync_status == Status.SYNCHRONISED:
        state = RemoteState(remote.fields, remote.updated_at)
        plan = decide(fields_of(company), state, company.agreed, believable(company.sage_updated_at))
        # Two states with the same time cannot be told apart by age, and Sage's times are whole seconds.
        if plan.action is Action.TAKE and remote.updated_at != company.sage_updated_at:
            for name in plan.take:
                setattr(company, name, remote.fields[name])
            company.sage_number = remote.number
            company.sage_updated_at = remote.updated_at
            company.agreed = dict(remote.fields)
            company.last_synchronised_at = datetime.now(UTC)
            fields = list(plan.take)
            move(work, company, Reason.IN_STEP, {"code": "in_step", "taken": fields}, cause="sage")
            return 1
    # What is to be tried again reads Sage then, and keeps the wait that Sage asked for.
    if company.sync_reason not in (Reason.QUEUED, Reason.WAITING_FOR_SAGE, Reason.RETRYING):
        company.sage_updated_at = remote.updated_at
        queue(work, company, connection, cause="sage")
    return 0


def _take_strangers(work: UnitOfWork, strangers: Sequence[RemoteRecord], connection: Connection) -> tuple[int, int]:
    """Customers of Sage that no record is linked to: link the record that each one is, else add one.

    Returns how many were added and how many linked.
    """
    created = linked = 0
    begun = _begun_creates(work, connection.id)
    for remote in strangers:
        if remote.origin and remote.origin in begun:
            # We made it and the answer has not been recorded yet: the push that made it will do so.
            _settle_create(work, begun[remote.origin], connection)
            continue
        found = match(remote.fields, _candidates(work, remote))
        if found.sure is not None and not _may_be_made(found.sure, remote, begun):
            linked += _link(work, found.sure, remote, connection)
        elif found.ids:
            _add_doubtful(work, remote, connection, found.ids)
            created += 1
        else:
            _add(work, remote, connection)
            created += 1
    return created, linked


def _begun_creates(work: UnitOfWork, connection_id: int) -> dict[str, WriteIntent]:
    """Our creates whose outcome is not recorded yet, by their keys."""
    begun = work.session.scalars(
        select(WriteIntent).where(
            WriteIntent.connection_id == connection_id,
            WriteIntent.operation == "create",
            WriteIntent.state.in_(["open", "unknown"]),
        )
    )
    return {intent.idempotency_key: intent for intent in begun}


def _settle_create(work: UnitOfWork, intent: WriteIntent, connection: Connection) -> None:
    """Have a create whose outcome was given up, and which Sage now shows, brought to its end."""
    company = _locked(work, intent.record_id)
    if company.sync_reason == Reason.OUTCOME_UNKNOWN:
        queue(work, company, connection, cause="sage")


def _may_be_made(company_id: int, remote: RemoteRecord, begun: Mapping[str, WriteIntent]) -> bool:
    """Whether a create that was begun for a company could have made it another customer than `remote`.

    Codes are unique in Sage: where another customer has the code that the create said, the create was not applied.
    """
    intent = next((one for one in begun.values() if one.record_id == company_id), None)
    return intent is not None and (not remote.fields["code"] or intent.fields["code"] != remote.fields["code"])


def _candidates(work: UnitOfWork, remote: RemoteRecord) -> list[tuple[int, dict[str, str]]]:
    """Records that a customer of Sage could be: not linked, or linked to one that was deleted, and alike in some key.

    The database finds what may fit, by the columns that are indexed for it; match decides.
    """
    fields = remote.fields
    alike = []
    if fields["code"]:
        alike.append(func.lower(Company.code) == fields["code"].lower())
    if fields["tax_number"]:
        alike.append(Company.tax_number == fields["tax_number"])
    if fields["email"]:
        alike.append(func.lower(Company.email) == fields["email"].lower())
    alike.append(Company.name_key == func.fold(fields["name"]))
    found: dict[int, dict[str, str]] = {}
    for condition in alike:
        rows = work.session.scalars(
            select(Company)
            .where(condition, (Company.sage_id.is_(None)) | (Company.sync_reason == Reason.DELETED_IN_SAGE))
            .order_by(Company.id)
            .limit(_CANDIDATES_AT_MOST)
        )
        found |= {company.id: fields_of(company) for company in rows}
    return list(found.items())


def _link(work: UnitOfWork, company_id: int, remote: RemoteRecord, connection: Connection) -> int:
    """Link a record to the customer that it is, and have the push compare the two. Returns how many were linked."""
    company = _locked(work, company_id)
    if company.sync_reason == Reason.UNLINKED:
        # A person took it out of synchronisation, and only a person brings it back.
        return 0
    if company.sage_id is not None and company.sync_reason != Reason.DELETED_IN_SAGE:
        return 0
    company.sage_id = remote.id
    company.sage_number = remote.number
    company.sage_updated_at = remote.updated_at
    company.agreed = None
    company.type = CUSTOMER
    queue(work, company, connection, cause="sage")
    return 1


def _new(remote: RemoteRecord, connection: Connection) -> Company:
    return Company(
        **remote.fields,
        type=CUSTOMER,
        connection_id=connection.id,
        sage_id=remote.id,
        sage_number=remote.number,
        sage_updated_at=remote.updated_at,
    )


def _add(work: UnitOfWork, remote: RemoteRecord, connection: Connection) -> None:
    """Add the company that a customer of Sage is."""
    company = _new(remote, connection)
    company.agreed = dict(remote.fields)
    company.last_synchronised_at = datetime.now(UTC)
    work.session.add(company)
    work.session.flush()
    move(work, company, Reason.IN_STEP, {"code": "in_step"}, cause="sage")


def _add_doubtful(work: UnitOfWork, remote: RemoteRecord, connection: Connection, alike: Sequence[int]) -> None:
    """Add a customer of Sage that may be one of several records of ours, and hold those back for a person."""
    companies = work.session.scalars(
        select(Company)
        .where(Company.id.in_(alike))
        .order_by(Company.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    names = [company.name for company in companies]
    added = _new(remote, connection)
    added.agreed = dict(remote.fields)
    work.session.add(added)
    work.session.flush()
    detail = {"code": "possible_duplicate", "names": names, "ids": list(alike)}
    move(work, added, Reason.POSSIBLE_DUPLICATE, detail, cause="sage")
    for company in companies:
        if company.sync_reason not in (Reason.EXCLUDED, Reason.UNLINKED):
            detail = {"code": "possible_duplicate", "names": [remote.fields["name"]], "ids": [added.id]}
            move(work, company, Reason.POSSIBLE_DUPLICATE, detail, cause="sage")
