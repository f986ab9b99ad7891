"""What an admin asks for: compare with Sage again, restore what was deleted there, take a record out of it."""

from __future__ import annotations

from sqlalchemy import select, update

from webapp.companies.models import CUSTOMER, Company
from webapp.connection.models import Connection
from webapp.connection.queries import list_connections, main_connection
from webapp.db import UnitOfWork
from webapp.orders.models import CONFIRMED, Order
from webapp.status import Reason
from webapp.sync.duplicates import in_doubt_about
from webapp.sync.models import Synced, WriteIntent
from webapp.sync.records import OF_MODULE, find_record
from webapp.sync.sending import adopt, have_sent
from webapp.sync.transitions import move, move_all, queued_as


class UnknownKeyError(Exception):
    """There is no such record or module. The text is the key."""


def resync(work: UnitOfWork, keys: list[str], user_id: int | None) -> int:
    """Have records compared with Sage again, both ways, and commit. Returns how many.

    A key is `company:42`, `contact:7`, `product:3`, `order:9` or `module:companies` and the like. Twice in a row, or while
    it runs, is harmless: the record goes round once more. Prospects stay out, and so do orders that nobody had sent.
    Raises UnknownKeyError before anything is done.

    Whoever names one record has looked at it: what was unlinked is linked again, a possible duplicate is another
    company, and a create that Sage never answered and no longer remembers was not applied. With a whole module nobody
    says that, and such records stay as they are. What was unlinked, and may be what Sage has by now, is a possible
    duplicate first.
    """
    records: list[Synced] = []
    modules: list[type[Synced]] = []
    for key in keys:
        kind, _, name = key.partition(":")
        if kind == "module" and name in OF_MODULE:
            modules.append(OF_MODULE[name])
            continue
        record = find_record(work.session, key, lock=True)
        if record is None:
            raise UnknownKeyError(key)
        records.append(record)
    main = main_connection(work.session)
    for record in records:
        if record.sync_reason == Reason.OUTCOME_UNKNOWN:
            _give_up_unknown(work, record)
        others = in_doubt_about(work.session, record) if record.sync_reason == Reason.UNLINKED else ()
        if others:
            # To send it would make a second one in Sage, and its own page has not told of those others yet.
            called = "number" if isinstance(record, Order) else "name"
            names, ids = [one.shared(called) for one in others], [one.id for one in others]
            detail = {"code": "possible_duplicate", "names": names, "ids": ids}
            move(work, record, Reason.POSSIBLE_DUPLICATE, detail, cause="resync", user_id=user_id)
            continue
        have_sent(work, record, main, cause="resync", user_id=user_id)
    work.commit()
    if modules and main is not None:
        adopt(work, main)
    return len(records) + sum(
        _resync_all(work, model, connection, user_id)
        for model in modules
        for connection in list_connections(work.session)
    )


def _give_up_unknown(work: UnitOfWork, record: Synced) -> None:
    work.session.execute(
        update(WriteIntent)
        .where(WriteIntent.kind == record.kind, WriteIntent.record_id == record.id, WriteIntent.state == "unknown")
        .values(state="refused")
    )


def _resync_all(work: UnitOfWork, model: type[Synced], connection: Connection, user_id: int | None) -> int:
    """Have all records of a module and a connection compared again, a batch at a time, so that nobody who edits one
    waits for all.

    Those that do not go to Sage, and those that only an admin who looked at them may send, are left out.
    """
    reason, detail = queued_as(connection)
    mine = model.connection_id == connection.id
    count = after = 0
    while True:
        last = work.session.scalar(
            select(model.id).where(mine, model.id > after).order_by(model.id).offset(_BATCH - 1).limit(1)
        )
        where = mine & (model.id > after) & model.sync_reason.not_in(_LEFT_OUT)
        if model is Company:
            where &= Company.type == CUSTOMER
        elif model is Order:
            where &= Order.phase == CONFIRMED
        if last is not None:
            where &= model.id <= last
        count += move_all(
            work,
            model,
            where,
            reason,
            detail,
            cause="resync",
            user_id=user_id,
            limit=_BATCH,
        )
        work.commit()
        if last is None:
            return count
        after = last


_BATCH = 2_000
_LEFT_OUT = (
    Reason.UNLINKED,
    Reason.POSSIBLE_DUPLICATE,
    Reason.OUTCOME_UNKNOWN,
    Reason.EXCLUDED,
    Reason.WAITING_FOR_PARENT,
)


def restore(work: UnitOfWork, record: Synced, connection: Connection | None, user_id: int) -> None:
    """Make a record that was deleted in Sage there anew. Does nothing where it was not deleted there."""
    if record.sync_reason != Reason.DELETED_IN_SAGE:
        return
    _unlink(record)
    have_sent(work, record, connection, cause="restore", user_id=user_id)


def unlink(work: UnitOfWork, record: Synced, user_id: int) -> None:
    """Take a record that was deleted in Sage out of synchronisation. Does nothing where it was not deleted there."""
    if record.sync_reason != Reason.DELETED_IN_SAGE:
        return
    _unlink(record)
    move(work, record, Reason.UNLINKED, {"code": "unlinked"}, cause="unlink", user_id=user_id)


def _unlink(record: Synced) -> None:
    record.sage_id = None
    record.sage_number = None
    record.sage_page = None
    record.sage_updated_at = None
    record.agreed = None
