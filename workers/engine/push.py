"""Bringing records and Sage in step, one record at a time: observe, decide, act, record.

Everything that could be lost is written down first. A claim is committed before Sage is asked, the intent of a write
before the write, and an outcome only onto the claim that it belongs to: whoever was overtaken writes nothing. Sage is
never called inside a transaction.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from threading import Event, Lock
from time import monotonic
from typing import Any, cast

import structlog
from sqlalchemy import ColumnElement, bindparam, delete, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.dml import ReturningInsert

from webapp.companies.models import Company
from webapp.connection.circuit import note_state
from webapp.connection.directions import TO_SAGE
from webapp.connection.models import AUTHORISE_AGAIN, UNREACHABLE, Connection
from webapp.db import Prepared, UnitOfWork
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.conflicts import close_others
from webapp.sync.models import Conflict, Synced, WriteIntent
from webapp.sync.transitions import move, queue
from workers.engine.claim import INTENT, Claimed, put_aside, record_in_step, take_in_hand
from workers.engine.decide import Action, Plan, Remote, RemoteState, decide
from workers.engine.due import first_due, hold_children, is_anything_due, let_children_go
from workers.engine.kinds import KINDS, Kind, fields_of, not_stored, take_fields
from workers.engine.lease import Lease, LeaseLostError
from workers.engine.merge import FieldConflict
from workers.engine.outcome import RETRY_SECONDS, verdict, with_raw
from workers.sage.connector import (
    PRODUCT_GONE,
    AuthoriseAgain,
    Collection,
    Connector,
    Fields,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteRecord,
    SageError,
    Transient,
    Unreachable,
)

log = structlog.get_logger()

# Opens Sage for a connection; the second argument is called right before each write, and may forbid it.
Connect = Callable[[Services, int, Callable[[], None]], AbstractContextManager[Connector]]

# What was read from Sage so long ago is not written over.
FRESH_SECONDS = 2.0
# A job looks this often whether it is to make way (Jobs.should_make_way), and none lasts longer than the longest. It goes
# on where nobody waits, because another process with connections of its own costs as much as dozens of records.
LOOKS_EVERY, LONGEST = timedelta(seconds=5), timedelta(seconds=30)
# Sage remembers an idempotency id for 7 days; a day is left for clocks that differ and for the time of the call.
KEY_REMEMBERED = timedelta(days=6)
# A time of Sage that is further ahead of this machine's clock than clocks differ is wrong.
_FUTURE = timedelta(hours=1)
# Where Sage has no time for anybody, nothing is sent for as long as it asks, in seconds: this long where it asks for
# nothing, and at most for a cycle, since Sage may be better by then.
_REST, _LONGEST_REST = 10.0, 60.0


@dataclass
class Drain:
    """What the hands of one drain share. Whoever calls Sage holds `turn`, so that calls come one after the other.

    From the read of a record to the write that follows from it the turn is kept: the time in between is what nobody
    protects. It goes on no longer than `until`, and `looks_at` is when it looks whether it is to end before that.
    """

    services: Services
    connection_id: int
    sage: Connector
    lease: Lease
    until: datetime
    looks_at: datetime
    turn: Lock = field(default_factory=Lock)
    over: Event = field(default_factory=Event)


def drain(services: Services, connection_id: int, connect: Connect, hands: int = 1) -> None:
    """Bring every due record of a connection in step, until none is due.

    Does nothing where another process does so already. Contacts and orders whose company has reached Sage are let go
    first. With two `hands` one record is claimed, noted and recorded here while Sage is asked about another one.
    """
    began = datetime.now(UTC)
    while _has_something_due(services, connection_id):
        lease = Lease.take(services.database, connection_id)
        if lease is None:
            return
        rest, makes_way = 0.0, False
        try:
            with connect(services, connection_id, lease.check) as sage:
                shared = Drain(services, connection_id, sage, lease, began + LONGEST, began + LOOKS_EVERY)
                makes_way = _until_none_is_due(shared, hands)
                if not makes_way and not sage.has_room():
                    # What is left is for people. The sweep goes on when there is room for the rest.
                    return
        except (Unreachable, AuthoriseAgain) as error:
            connection_failed(services, connection_id, error)
            return
        except Transient as error:
            # Sage answers, and refuses whoever asks: the sweep begins again when the rest is over.
            rest = min(error.after or _REST, _LONGEST_REST)
            log.warning("push_broken_off", connection=connection_id, rest=rest, **_for_log(error))
            return
        except LeaseLostError:
            log.warning("lease_lost", connection=connection_id)
            return
        finally:
            lease.release(rest)
        if makes_way:
            # Once the lease is free: whoever finds it taken leaves it at that.
            services.jobs.push(connection_id)
            return
        # What became due between the last look and the release was told to nobody else.


def _until_none_is_due(drain: Drain, hands: int) -> bool:
    """Bring due records in step. True where more may be due, and another job is to go on."""
    services, connection_id = drain.services, drain.connection_id
    done: list[bool] = []
    with services.database.unit_of_work() as work:
        let_children_go(work, connection_id)
    try:
        if hands == 1:
            return _go_on(drain, done)
        with ThreadPoolExecutor(hands) as pool:
            working = [pool.submit(_go_on, drain, done) for _ in range(hands)]
        # Of each hand, so that what stopped one of them is raised.
        make_way = [hand.result() for hand in working]
        return any(make_way)
    finally:
        if any(done):
            with services.database.unit_of_work() as work:
                connection = work.session.get_one(Connection, connection_id, with_for_update=True)
                connection.last_synchronised_at = datetime.now(UTC)
                work.touch(connection)
                work.commit()


def _go_on(drain: Drain, done: list[bool]) -> bool:
    """Bring one record after the other in step, and note of each whether that succeeded. True when it makes way.

    It ends as well when none is due, or when nothing else can be done now, be it another hand that finds that.
    """
    try:
        with drain.services.database.kept_connection():
            while not drain.over.is_set() and (succeeded := _one(drain)) is not None:
                done.append(succeeded)
                if _makes_way(drain):
                    drain.over.set()
                    return True
            return False
    except BaseException:
        drain.over.set()
        raise


def _makes_way(drain: Drain) -> bool:
    """Whether this job ends though more may be due."""
    now = datetime.now(UTC)
    if now < min(drain.looks_at, drain.until):
        return False
    drain.looks_at = now + LOOKS_EVERY
    return now >= drain.until or drain.services.jobs.should_make_way()


def connection_failed(services: Services, connection_id: int, error: SageError) -> None:
    """Show a fault of the connection, once; records wait. A pause or an end is the wish of a person and stays."""
    state = AUTHORISE_AGAIN if isinstance(error, AuthoriseAgain) else UNREACHABLE
    log.warning("connection_failed", connection=connection_id, state=state, **_for_log(error))
    with services.database.unit_of_work() as work:
        connection = work.session.get_one(Connection, connection_id, with_for_update=True)
        note_state(work, connection, state)


def _has_something_due(services: Services, connection_id: int) -> bool:
    with services.database.unit_of_work() as work:
        return is_anything_due(work.session, connection_id)


def _one(drain: Drain) -> bool | None:
    """Bring the next due record in step, and say whether that succeeded; None where none is due.

    Raises Unreachable, AuthoriseAgain, Transient and LeaseLostError: then nothing else of this connection can be done
    now.
    """
    services = drain.services
    drain.lease.renew()
    first = first_due(services.database, drain.connection_id, only_urgent=not drain.sage.has_room())
    if first is None:
        return None
    if not first.can_go:
        put_aside(services, first, drain.connection_id)
        return False
    claimed = take_in_hand(services, first, drain.lease)
    if claimed is None:
        return False
    bound = log.bind(kind=claimed.kind.name, record=claimed.id, connection=drain.connection_id)
    try:
        _synchronise(drain, claimed)
        return True
    except SageError as error:
        bound.info("attempt_failed", error=type(error).__name__, **_for_log(error))
        if not isinstance(error, Rejected | NotFound):
            # Where Sage itself is away, that is the fault, and the record is not to blame. What was begun stays noted.
            # Where Sage is there for others, this record is tried again later, and keeps nobody waiting.
            try:
                with drain.turn:
                    drain.sage.check()
            except (Unreachable, AuthoriseAgain):
                _let_go(services, claimed)
                raise
            except Transient:
                _failed(services, claimed, error)
                raise
        _failed(services, claimed, error)
    except (LeaseLostError, SQLAlchemyError):
        raise
    except Exception:
        # One record that we cannot handle must not stop the others; it is tried again and then shown to a person.
        bound.exception("attempt_broke")
        _failed(services, claimed, Transient("internal error"))
    return False


# The statements of each record are made once, because making one takes longer than running it.


def _note(kind: Kind) -> ReturningInsert[int]:
    model = kind.model
    names = ("connection_id", "kind", "record_id", "operation", "idempotency_key", "fields", "body", "body_hash")
    values: dict[str, ColumnElement[Any]] = {
        name: bindparam(f"intent_{name}", type_=INTENT.c[name].type) for name in names
    }
    values["state"] = literal("open")
    still = select(*values.values()).where(
        model.id == values["record_id"], model.claim == bindparam("claim"), model.sync_reason == Reason.RUNNING
    )
    return insert(INTENT).from_select(list(values), still.with_for_update()).returning(INTENT.c.id)


_NOTES = {kind: _note(kind) for kind in KINDS}
_NOTES_ALONE = {kind: Prepared(note) for kind, note in _NOTES.items()}
_END = (
    update(INTENT)
    .where(INTENT.c.id == bindparam("intent"))
    .values(state=bindparam("ended"), sage_id=bindparam("made"), finished_at=func.clock_timestamp())
)


def _synchronise(drain: Drain, claimed: Claimed) -> None:
    """Observe, decide, act and record for one record."""
    try:
        _create_or_compare(drain, claimed)
    except Rejected as error:
        if error.detail.get("code") != PRODUCT_GONE:
            raise
        # Sage tells of what was deleted, and by the next try the lines no longer name it.
        raise Transient("Sage does not have a product of its lines", error.raw) from error


def _create_or_compare(drain: Drain, claimed: Claimed) -> None:
    if claimed.sage_id is None:
        try:
            _create(drain, claimed)
        except NotFound as error:
            if claimed.company_id is None:
                raise
            _compare_company(drain.services, claimed, claimed.company_id)
            raise Transient("Sage does not have the customer", error.raw) from error
        return
    with drain.turn:
        record = _compare(drain.services, drain.sage, claimed, claimed.sage_id)
    record()


def _compare(services: Services, sage: Connector, claimed: Claimed, sage_id: str) -> Callable[[], None]:
    """Read the record in Sage, decide, and write there what is to be sent. Returns what records the outcome here."""
    try:
        remote = claimed.kind.collection(sage).read(sage_id)
    except NotFound:
        plan = decide(claimed.fields, Remote.DELETED, claimed.agreed)
    else:
        read_at = monotonic()
        state = RemoteState(remote.fields, remote.updated_at)
        plan = decide(claimed.fields, state, claimed.agreed, _known_until(claimed), claimed.directions)
        if plan.action is Action.ASK_CONFLICT and (ours := _unanswered(services, claimed, remote.fields)):
            agreed = {**(claimed.agreed or {}), **ours}
            plan = decide(claimed.fields, state, agreed, _known_until(claimed), claimed.directions)
    match plan.action:
        case Action.NOTHING | Action.TAKE:
            return partial(_in_step, services, claimed, remote, overruled=plan.overruled)
        case Action.SEND:
            return _update(services, sage, claimed, remote, plan, read_at)
        case Action.ASK_CONFLICT:
            detail = {"code": "conflict", "fields": [found.field for found in plan.conflicts]}
            return partial(_conflict, services, claimed, remote, plan.conflicts, detail)
        case Action.ASK_DELETED:
            return partial(_settle, services, claimed, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"})
        case Action.READ_AGAIN:
            raise Transient("Sage gave back an older state than it had before")
        case Action.CREATE:
            raise AssertionError("a record that is linked is never created")


def _unanswered(services: Services, claimed: Claimed, theirs: Fields) -> dict[str, str]:
    """The fields that Sage has from updates of ours whose answer was lost: nobody there has changed them.

    These are the updates since the last one that was answered, the newest ten at most. What an update carried along as
    Sage had it is none of ours.
    """
    with services.database.unit_of_work() as work:
        newest = work.session.execute(
            select(WriteIntent.state, WriteIntent.operation, WriteIntent.fields)
            .where(WriteIntent.kind == claimed.kind.name, WriteIntent.record_id == claimed.id)
            .order_by(WriteIntent.id.desc())
            .limit(10)
        ).all()
    unanswered = takewhile(lambda intent: intent.state != "done" and intent.operation == "update", newest)
    said = [intent.fields for intent in unanswered if intent.state != "refused"]
    return {name: value for name, value in theirs.items() if any(fields.get(name) == value for fields in said)}


def _known_until(claimed: Claimed) -> datetime | None:
    """The time of the newest state of Sage that was seen, as far as it proves that an older one lags behind.

    A state that is still older at the last try is what Sage holds, as after a backup was put back.
    """
    return believable(claimed.known_until) if claimed.attempts < len(RETRY_SECONDS) else None


def believable(moment: datetime | None) -> datetime | None:
    """A time that Sage gave; None for one in the future, to which nothing that happens now can be compared."""
    return moment if moment is not None and moment <= datetime.now(UTC) + _FUTURE else None


def _compare_company(services: Services, claimed: Claimed, company_id: int) -> None:
    """Have the company compared whose customer Sage does not find, before its contact or order is tried again."""
    with services.database.unit_of_work() as work:
        company = work.session.get_one(Company, company_id, with_for_update=True)
        if company.sync_reason == Reason.IN_STEP:
            queue(work, company, work.session.get_one(Connection, claimed.connection_id), cause="sage")
        work.commit()


def _create(drain: Drain, claimed: Claimed) -> None:
    """Make the record in Sage, or find out what became of the try before.

    The same body with the same key gives the same record and makes no second one, so an unanswered create is simply
    sent again, as it was then; what has changed here since follows as an update. The answer is the first one, which says
    nothing of what became of the record in Sage since, so that is read; what has changed since the answer is a change of
    Sage's.
    """
    remote: RemoteRecord | None
    again_in: float | None = None
    services, there = drain.services, claimed.kind.collection(drain.sage)
    intent_id, body = claimed.intent_id, claimed.intent_body
    if intent_id is not None and claimed.intent_at and claimed.intent_at < datetime.now(UTC) - KEY_REMEMBERED:
        remote = _look_up(drain, claimed)
        if remote is None:
            # Sage no longer remembers the key: a person must look before anything is repeated.
            _finish_intent(services, claimed, intent_id, "unknown")
            _settle(services, claimed, Reason.OUTCOME_UNKNOWN, {"code": "outcome_unknown"})
            return
    else:
        if intent_id is None or body is None:
            key = uuid.uuid4().hex
            # That of a company asks nothing, so it is made and noted while Sage is asked about another one.
            with drain.turn if claimed.kind.asks_to_create else nullcontext():
                body = there.create_body({**claimed.fields, **claimed.in_full}, key, claimed.parent)
            intent_id = _intend(services, claimed, "create", key, claimed.fields, body)
            if intent_id is None:
                return
        try:
            with drain.turn:
                remote = there.create(body)
        except OutcomeUnknown:
            raise
        except SageError as error:
            # Of this sending Sage surely applied nothing. Of an earlier one under the same key nothing is known, and a
            # refusal says nothing of it: it can be about a right that we had then. Where Sage has nothing that it made,
            # a refused body is given up, and the next try begins anew, with what the record holds by then.
            remote = None
            if claimed.intent_id is not None and isinstance(error, Rejected | NotFound):
                remote = _look_up(drain, claimed)
            if remote is None:
                if claimed.intent_id is None or isinstance(error, Rejected | NotFound):
                    _finish_intent(services, claimed, intent_id, "refused")
                raise
        else:
            if claimed.intent_id is not None:
                again_in = _look_again_in(drain, there, remote)
    if claimed.intent_fields is None:
        _in_step(services, claimed, remote, intent_id, wrote=claimed.fields)
    else:
        _in_step(services, claimed, remote, intent_id, sent=claimed.intent_fields, again_in=again_in)


def _look_again_in(drain: Drain, there: Collection, answer: RemoteRecord) -> float | None:
    """In how many seconds a record must be compared once more of which a create that was sent again was answered with
    this; None where Sage still holds just that.

    What Sage does not show was deleted, or was made just now and is not shown everywhere yet.
    """
    try:
        with drain.turn:
            now = there.read(answer.id)
    except NotFound:
        return RETRY_SECONDS[0]
    return None if now.fields == answer.fields else 0


def _look_up(drain: Drain, claimed: Claimed) -> RemoteRecord | None:
    """The record that an old, unanswered create made, if it made one.

    It is looked for by what that create said; ours may have been edited since. Of a customer only the key of that
    create is proof. A person or an order says nothing of its origin: there one that agrees in all that was looked for,
    and that is linked to nothing else here, is what was made, and of several nobody knows which.
    """
    kind = claimed.kind
    made = claimed.intent_fields or claimed.fields
    sought = {name: made[name] for name in kind.sought}
    with drain.turn:
        found = kind.collection(drain.sage).find(sought, claimed.parent)
    if kind.says_origin:
        return next((remote for remote in found if remote.origin == claimed.intent_key), None)
    same = [remote for remote in found if all(remote.fields[name] == value for name, value in sought.items())]
    model = kind.model
    with drain.services.database.unit_of_work() as work:
        linked = work.session.scalars(
            select(model.sage_id).where(
                model.connection_id == claimed.connection_id, model.sage_id.in_([remote.id for remote in same])
            )
        ).all()
    free = [remote for remote in same if remote.id not in linked]
    return free[0] if len(free) == 1 else None


def _update(
    services: Services, sage: Connector, claimed: Claimed, remote: RemoteRecord, plan: Plan, read_at: float
) -> Callable[[], None]:
    """Give the record in Sage the merged state. Returns what records the outcome here.

    Sage has no lock, so what somebody changes there between our read and our write is overwritten. A process that was
    held up in between, so that this time is no longer a moment, reads anew.
    """
    there = claimed.kind.collection(sage)
    ours = {name: text for name, text in claimed.in_full.items() if plan.fields[name] == claimed.fields[name]}
    changed = {name: value for name, value in plan.fields.items() if value != remote.fields[name]}
    try:
        body = there.update_body({**plan.fields, **ours}, remote)
    except Rejected as error:
        return _refused(services, claimed, remote, changed, error)
    intent_id = _intend(services, claimed, "update", uuid.uuid4().hex, changed, body, plan.overruled)
    if intent_id is None:
        return lambda: None
    if monotonic() - read_at > FRESH_SECONDS:
        _finish_intent(services, claimed, intent_id, "refused", plan.overruled)
        return partial(_let_go, services, claimed)
    try:
        after = there.update(remote.id, body)
    except OutcomeUnknown:
        # Sage is read before the next try, and that answers the question.
        _finish_intent(services, claimed, intent_id, "unknown")
        raise
    except Rejected as error:
        _finish_intent(services, claimed, intent_id, "refused", plan.overruled)
        return _refused(services, claimed, remote, changed, error)
    except SageError:
        _finish_intent(services, claimed, intent_id, "refused", plan.overruled)
        raise
    return partial(_in_step, services, claimed, after, intent_id, wrote=plan.fields)


def _refused(
    services: Services, claimed: Claimed, remote: RemoteRecord, changed: Fields, error: Rejected
) -> Callable[[], None]:
    """What follows where Sage does not take an update. Returns what records that here.

    Raises the error where a person can mend the record, or where the next try may do. What is changed in Sage only is for
    a person to choose: there may be nothing to mend, as of an invoice that was paid, or of lines that Sage itself keeps
    with a product that is gone.
    """
    if claimed.kind.is_mended_here or (error.detail.get("code") == PRODUCT_GONE and claimed.attempts == 0):
        raise error
    found = [FieldConflict(name, _base(claimed, name), ours, remote.fields[name]) for name, ours in changed.items()]
    detail = with_raw({"code": "not_taken", "fields": list(changed)}, error)
    return partial(_conflict, services, claimed, remote, found, detail)


def _base(claimed: Claimed, name: str) -> str | None:
    return (claimed.agreed or {}).get(name)


def _intend(
    services: Services,
    claimed: Claimed,
    operation: str,
    key: str,
    fields: Fields,
    body: dict[str, Any],
    overruled: Sequence[FieldConflict] = (),
) -> int | None:
    """Note a write before it is sent, and what gives way by it. None where it must not be sent any more.

    That is where another worker has the record now, and where somebody edited or linked it since it was claimed: what
    was decided is out of date then, and it goes round again.
    """
    values = {
        "connection_id": claimed.connection_id,
        "kind": claimed.kind.name,
        "record_id": claimed.id,
        "operation": operation,
        "idempotency_key": key,
        "fields": dict(fields),
        "body": body,
        "body_hash": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
    }
    given = {**{f"intent_{name}": value for name, value in values.items()}, "claim": claimed.claim}
    if not overruled and (noted := services.database.commit_one(_NOTES_ALONE[claimed.kind], given)):
        return cast(int, noted.id)
    with services.database.unit_of_work() as work:
        intent_id = work.session.scalar(_NOTES[claimed.kind], given)
        if intent_id is not None:
            # With the answer it would come too late: nobody may be left to note it, and the value would be gone.
            _note_overruled(work, claimed, overruled)
        elif record := _claimed_row(work, claimed):
            _release(record)
        work.commit()
        return intent_id


def _finish_intent(
    services: Services, claimed: Claimed, intent_id: int, state: str, overruled: Sequence[FieldConflict] = ()
) -> None:
    """Note how a failed write ended. A worker that was overtaken leaves the intent to the one that has it now.

    `overruled` is what would have given way by the write and did not.
    """
    with services.database.unit_of_work() as work:
        if _claimed_row(work, claimed) is not None:
            _end(work, intent_id, state)
            if overruled:
                _forget_overruled(work, claimed, intent_id, overruled)
            work.commit()


def _end(work: UnitOfWork, intent_id: int, state: str, sage_id: str | None = None) -> None:
    work.session.execute(_END, {"intent": intent_id, "ended": state, "made": sage_id})


def _claimed_row(work: UnitOfWork, claimed: Claimed, loads: Sequence[ORMOption] = ()) -> Synced | None:
    """The record, locked, if it is still ours; None where it was claimed again by another worker since."""
    record = work.session.get(claimed.kind.model, claimed.id, with_for_update=True, options=loads)
    if record is None or record.claim != claimed.claim:
        log.warning("overtaken", kind=claimed.kind.name, record=claimed.id)
        return None
    return record


def _in_step(
    services: Services,
    claimed: Claimed,
    remote: RemoteRecord,
    intent_id: int | None = None,
    *,
    wrote: Fields | None = None,
    sent: Fields | None = None,
    again_in: float | None = None,
    overruled: Sequence[FieldConflict] = (),
) -> None:
    """Record what Sage holds now, and take it over: green only where both sides are equal then, field by field.

    `sent` is the state of the record that Sage's answer belongs to: the one of the claim, or an older one where a
    create was sent again. Each field that still has that value here gets Sage's. For most that changes nothing; it
    brings in what was changed in Sage, and what Sage made of a value that it stores in another way. A field that a
    person changed since keeps the person's value, and the record goes round again, with Sage's state as the base.

    `wrote` is what was written just now, if anything was: a value that Sage answers with something else than a spelling
    of it was not taken. It stays here, and a person is told. Of a create that was sent again nobody knows whether Sage
    did not take the value or somebody changed it there since: that field goes round again, and has no base. What is
    to be compared once more, in `again_in` seconds, is linked and not green before that.

    `overruled` are the changes that gave way because the other side has the word: they are noted, to be taken back.

    Raises Rejected where Sage holds what cannot be stored here.
    """
    states = [state for state in (remote.fields, wrote, sent) if state is not None]
    is_usual = again_in is None and not overruled and all(state == claimed.fields for state in states)
    try:
        if not (is_usual and record_in_step(services, claimed, remote, intent_id)):
            _take_over(services, claimed, remote, intent_id, wrote, sent, again_in, overruled)
    except DBAPIError as error:
        raise Rejected(not_stored(claimed.kind, error, remote)) from error


def _take_over(
    services: Services,
    claimed: Claimed,
    remote: RemoteRecord,
    intent_id: int | None,
    wrote: Fields | None,
    sent: Fields | None,
    again_in: float | None,
    overruled: Sequence[FieldConflict],
) -> None:
    """See _in_step."""
    before = sent or claimed.fields
    is_spelling_of = claimed.kind.is_spelling_of
    dropped = [
        name for name, value in (wrote or sent or {}).items() if not is_spelling_of(name, value, remote.fields[name])
    ]
    with services.database.unit_of_work() as work:
        record = _claimed_row(work, claimed, claimed.kind.loads)
        if record is None:
            return
        if intent_id is not None:
            _end(work, intent_id, "done", remote.id)
        taken = [
            name
            for name, value in fields_of(record).items()
            if value == before[name] and value != remote.fields[name] and name not in dropped
        ]
        take_fields(work.session, record, remote, taken)
        _note_overruled(work, claimed, overruled)
        record.sage_id = remote.id
        record.sage_number = remote.number
        # An answer may leave it out, and the page of a record stays where it is.
        record.sage_page = remote.page or record.sage_page
        record.sage_updated_at = remote.updated_at
        record.attempts = 0
        _release(record)
        equal = again_in is None and fields_of(record) == remote.fields
        record.agreed = dict(remote.fields)
        if equal:
            record.last_synchronised_at = func.clock_timestamp()
        elif sent:
            record.agreed = {name: value for name, value in remote.fields.items() if name not in dropped}
        if record.sync_reason != Reason.RUNNING:
            work.touch(record)
        elif dropped and wrote and not claimed.kind.is_mended_here:
            _note_conflicts(
                work,
                record,
                [FieldConflict(name, _base(claimed, name), wrote[name], remote.fields[name]) for name in dropped],
            )
            move(work, record, Reason.CONFLICT, {"code": "not_taken", "fields": dropped}, cause="worker")
        elif dropped and wrote:
            move(work, record, Reason.REJECTED, {"code": "altered", "field": dropped[0]}, cause="worker")
        elif equal:
            detail = {"code": "in_step", "taken": taken} if taken else {"code": "in_step"}
            move(work, record, Reason.IN_STEP, detail, cause="worker")
        else:
            # By the clock that says what is due.
            now = work.session.execute(select(func.clock_timestamp())).scalar_one()
            due = now + timedelta(seconds=again_in or 0)
            move(work, record, Reason.QUEUED, {"code": "queued"}, cause="worker", due=due)
        work.commit()


def _note_overruled(work: UnitOfWork, claimed: Claimed, overruled: Sequence[FieldConflict]) -> None:
    """Keep the values that gave way because the other side has the word on their fields.

    A write that is tried again notes them once more: the same values stay one entry.
    """
    for found in overruled:
        values = {
            "base": found.base,
            "ours": found.ours,
            "theirs": found.theirs,
            "taken": "ours" if claimed.directions[found.field] == TO_SAGE else "theirs",
        }
        of_field = select(Conflict).where(
            Conflict.kind == claimed.kind.name, Conflict.record_id == claimed.id, Conflict.field == found.field
        )
        entry = work.session.scalar(of_field.order_by(Conflict.id.desc()).limit(1))
        if entry is None or any(getattr(entry, name) != value for name, value in values.items()):
            entry = Conflict(kind=claimed.kind.name, record_id=claimed.id, field=found.field, **values)
            work.session.add(entry)
        entry.resolved_at = datetime.now(UTC)


def _forget_overruled(work: UnitOfWork, claimed: Claimed, intent_id: int, overruled: Sequence[FieldConflict]) -> None:
    """Drop what was noted with a write that was not applied: both sides have what they had, and there is nothing to take
    back. What an earlier write had noted stays, because that one may have been applied.
    """
    noted = select(WriteIntent.created_at).where(WriteIntent.id == intent_id).scalar_subquery()
    work.session.execute(
        delete(Conflict).where(
            Conflict.kind == claimed.kind.name,
            Conflict.record_id == claimed.id,
            Conflict.field.in_([found.field for found in overruled]),
            Conflict.found_at >= noted,
            Conflict.resolved_at.is_not(None),
            Conflict.user_id.is_(None),
        )
    )


def _conflict(
    services: Services,
    claimed: Claimed,
    remote: RemoteRecord,
    conflicts: Sequence[FieldConflict],
    detail: dict[str, Any],
) -> None:
    """Leave it to a person which side's values to keep. Nothing of it is written anywhere until then."""
    with services.database.unit_of_work() as work:
        record = _claimed_row(work, claimed)
        if record is not None:
            _note_conflicts(work, record, conflicts)
            record.sage_updated_at = remote.updated_at
            _release(record)
            if record.sync_reason == Reason.RUNNING:
                move(work, record, Reason.CONFLICT, detail, cause="worker")
        work.commit()


def _note_conflicts(work: UnitOfWork, record: Synced, conflicts: Sequence[FieldConflict]) -> None:
    """Note the fields of which a person must choose a value, and no others."""
    for found in conflicts:
        values = {"base": found.base, "ours": found.ours, "theirs": found.theirs}
        statement = insert(Conflict).values(kind=record.kind, record_id=record.id, field=found.field, **values)
        work.session.execute(
            statement.on_conflict_do_update(
                index_elements=["kind", "record_id", "field"],
                index_where=text("resolved_at IS NULL"),
                set_=values,
            )
        )
    close_others(work, record, [found.field for found in conflicts])


def _settle(
    services: Services,
    claimed: Claimed,
    reason: Reason,
    detail: dict[str, Any],
    attempts: int | None = None,
    due: datetime | None = None,
) -> None:
    """End an attempt with this status, unless the record was edited since: then it goes round again."""
    with services.database.unit_of_work() as work:
        record = _claimed_row(work, claimed)
        if record is not None:
            _release(record)
            if record.sync_reason == Reason.RUNNING:
                record.attempts = record.attempts if attempts is None else attempts
                move(work, record, reason, detail, cause="worker", due=due)
                if reason is Reason.DELETED_IN_SAGE and isinstance(record, Company):
                    hold_children(work, record, "worker")
        work.commit()


def _failed(services: Services, claimed: Claimed, error: SageError) -> None:
    """Record a failed attempt: tried again later, or shown to a person."""
    with services.database.unit_of_work() as work:
        # By the clock that says what is due: one that runs behind would have it tried again at once.
        now = work.session.execute(select(func.clock_timestamp())).scalar_one()
    outcome = verdict(error, claimed.attempts, now, random.random())  # noqa: S311 - it spreads waits, no secret
    _settle(services, claimed, outcome.reason, outcome.detail, outcome.attempts, outcome.due)


def _let_go(services: Services, claimed: Claimed) -> None:
    """Give a record back as it was before it was claimed; the circuit says what it waits for."""
    _settle(services, claimed, Reason.QUEUED, {"code": "queued"})


def _release(record: Synced) -> None:
    record.claim = None
    record.claimed_until = None


def _for_log(error: SageError) -> dict[str, Any]:
    """What an operator needs of an error. Sage's message can quote a customer's data, so it stays with the record."""
    return {key: error.raw.get(key) for key in ("status", "code", "request_id")}
