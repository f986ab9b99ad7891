"""Strangers: records of Sage that none here is linked to, and what becomes of them.

Each is the one that it resembles, or a new one, or in doubt, and then a person is asked. None is added a second time:
neither what an unanswered create of ours made, nor what belongs to a customer that is not known here yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Text,
    bindparam,
    cast,
    column,
    exists,
    func,
    inspect,
    literal,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from webapp.companies.models import CUSTOMER, Company
from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.status import Reason, Status
from webapp.sync.models import Synced, SyncEvent, WriteIntent
from webapp.sync.transitions import Moved, move, queue
from workers.engine.kinds import Kind, fields_of, new_record, take_link
from workers.engine.match import match
from workers.sage.connector import RemoteRecord

_CANDIDATES_AT_MOST = 50
# The creates of records that wait for a person so are not tried again.
_LEFT_TO_PERSONS = (Reason.OUTCOME_UNKNOWN, Reason.GAVE_UP, Reason.POSSIBLE_DUPLICATE)
# Written out, because a plan that is made for any reason cannot use the indexes of this one alone.
_DELETED = literal_column(f"'{Reason.DELETED_IN_SAGE}'", Text)


@dataclass
class Taken:
    """What became of strangers: how many were added and how many linked, and those that were left for later."""

    added: int = 0
    linked: int = 0
    left: list[RemoteRecord] = field(default_factory=list)


def take_strangers(work: UnitOfWork, kind: Kind, strangers: Sequence[RemoteRecord], connection: Connection) -> Taken:
    """Records of Sage that none here is linked to: link the one that each is, else add one.

    A person or an order of a customer that no company is linked to is left for later, and so is one that an unanswered
    create of ours may have made.
    """
    taken = Taken()
    new: list[tuple[RemoteRecord, int | None]] = []
    begun = _begun_creates(work, kind, connection.id)
    company_ids = companies_of(work, connection.id, kind, strangers)
    alike = _alike(work, kind, strangers, company_ids, connection)
    for remote in strangers:
        if not begun and remote.id not in alike and remote.parent in company_ids:
            # Most are so, and what follows takes longer than all else that is done here for them.
            new.append((remote, company_ids[remote.parent]))
            continue
        made_by = _create_of(kind, remote, begun)
        if made_by is not None:
            # The answer has not been recorded yet: the push that made it will do so.
            _settle_create(work, kind, made_by, remote, connection)
        if remote.parent not in company_ids or (made_by is not None and not kind.says_origin):
            taken.left.append(remote)
        if remote.parent not in company_ids or made_by is not None:
            continue
        company_id = company_ids[remote.parent]
        made = {one.record_id for one in begun if one.sage_id}
        free = [(record_id, fields) for record_id, fields in alike.get(remote.id, {}).items() if record_id not in made]
        found = match(remote.fields, free, kind.keys)
        if not kind.says_origin and {one.record_id for one in begun} & set(found.ids):
            # Whether it is that one is known when its create is settled.
            taken.left.append(remote)
            continue
        sure = None
        if found.sure is not None and not _may_be_made(found.sure, remote, begun):
            sure = locked(work, kind, found.sure)
        if sure is not None and sure.sync_reason != Reason.UNLINKED:
            taken.linked += _link(work, kind, sure, remote, connection)
            # It is spoken for, and the next stranger that resembles it is another one.
            for others in alike.values():
                others.pop(sure.id, None)
        elif found.ids:
            # What a person took out of synchronisation only a person brings back.
            _add_doubtful(work, kind, remote, connection, company_id, found.ids)
            taken.added += 1
        else:
            new.append((remote, company_id))
    if new and kind.in_columns:
        _add_all(work, kind, new, connection)
    else:
        for remote, company_id in new:
            _add(work, kind, remote, connection, company_id)
    taken.added += len(new)
    return taken


def end_creates_in_doubt(work: UnitOfWork, kind: Kind, connection_id: int, before: datetime) -> None:
    """Note of the creates of possible duplicates that Sage has not applied them, if they were last tried `before` a
    moment whose changes have all been read.

    Whatever Sage made and told of since then says by which create, and has been settled (`_settle_create`).
    """
    model = kind.model
    in_doubt = (model.sync_reason == Reason.POSSIBLE_DUPLICATE) & (model.last_attempt_at < before)
    work.session.execute(
        update(WriteIntent)
        .where(
            *_is_begun(kind, connection_id),
            WriteIntent.sage_id.is_(None),
            WriteIntent.record_id.in_(select(model.id).where(in_doubt)),
        )
        .values(state="refused", finished_at=func.clock_timestamp())
    )


def companies_of(
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


def locked(work: UnitOfWork, kind: Kind, record_id: int) -> Synced:
    """A record as it is now, which nobody else changes until the commit.

    Session.get would raise StaleDataError where it was edited since this session read it.
    """
    wanted = select(kind.model).where(kind.model.id == record_id).options(*kind.loads).with_for_update()
    return work.session.scalars(wanted, execution_options={"populate_existing": True}).one()


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
    record = locked(work, kind, intent.record_id)
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
    if not work.session.scalar(_any_is_free(kind), {"connection": connection.id}):
        # As where all that is here came from Sage.
        return {}
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


# These statements are made once, because making one takes longer than running it.


def _is_free(kind: Kind) -> list[ColumnElement[bool]]:
    """Conditions on a record of a `connection` that a stranger may be. Indexes hold these alone."""
    model = kind.model
    return [
        model.connection_id == bindparam("connection", type_=BigInteger),
        model.sage_id.is_(None) | (model.sync_reason == _DELETED),
    ]


@cache
def _any_is_free(kind: Kind) -> Select[bool]:
    return select(exists().where(*_is_free(kind)))


@cache
def _alike_of(kind: Kind) -> CompoundSelect[str, int]:
    """The statement that pairs `strangers` (their id, company_id, and the fields that are signs) with ids of records."""
    model = kind.model
    fields = [column(sign.field, Text) for sign in kind.alike]
    told = func.jsonb_to_recordset(bindparam("strangers", type_=JSONB))
    stranger = told.table_valued(column("id", Text), column("company_id", BigInteger), *fields).render_derived(
        with_types=True
    )
    pairs = []
    for sign in kind.alike:
        value = stranger.c[sign.field]
        free = select(model.id).where(sign.column == sign.of(value), *_is_free(kind))
        if kind.company_id is not None:
            free = free.where(kind.company_id == stranger.c.company_id)
        # The limit has it look up each stranger by itself; to join all with all records takes ever longer.
        record = free.limit(_CANDIDATES_AT_MOST).lateral()
        pairs.append(select(stranger.c.id, record.c.id).join_from(stranger, record, true()).where(value != ""))
    return union_all(*pairs)


def _link(work: UnitOfWork, kind: Kind, record: Synced, remote: RemoteRecord, connection: Connection) -> int:
    """Link a locked record to the one in Sage that it is, and have the push compare the two. Returns how many were linked."""
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
            "sage_page": remote.page or None,
            "sage_updated_at": remote.updated_at.isoformat(),
            "company_id": company_id,
            "agreed": remote.fields,
        }
        for remote, company_id in new
    ]
    values = {"rows": rows, "connection": connection.id}
    first = work.session.execute(_add_all_of(kind), values).scalar_one()
    # Nobody watches a record that is new, so one of them moves the counters for all.
    one = Moved(kind.name, kind.model.module, first, connection.id)
    work.touched[one.key] = one


@cache
def _add_all_of(kind: Kind) -> Select[int]:
    """The statement that adds `rows` to a `connection`, with their history, and gives the first new id."""
    names = ["sage_id", "sage_number", "sage_page", "sage_updated_at", "agreed"]
    names += [] if kind.company_id is None else ["company_id"]
    types = inspect(kind.model).local_table.c
    given = func.jsonb_to_recordset(bindparam("rows", type_=JSONB))
    row = given.table_valued(*(column(name, types[name].type) for name in names)).render_derived(with_types=True)
    status = literal({"code": "in_step"}, JSONB)
    columns: dict[str, ColumnElement[Any]] = {
        **{name: row.c[name] for name in names},
        **{name: cast(row.c.agreed[name].astext, types[name].type) for name in kind.names},
        **{name: literal(value) for name, value in kind.in_sage.items()},
        "connection_id": bindparam("connection", type_=BigInteger),
        "sync_status": literal(str(Status.SYNCHRONISED)),
        "sync_reason": literal(str(Reason.IN_STEP)),
        "sync_detail": status,
        "sync_version": literal(1),
        "last_synchronised_at": func.clock_timestamp(),
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
    record = new_record(work.session, kind, remote, connection, company_id)
    record.agreed = dict(remote.fields)
    work.session.add(record)
    work.session.flush()
    if fields_of(record) != remote.fields:
        queue(work, record, connection, cause="sage")
        return
    record.last_synchronised_at = func.clock_timestamp()
    move(work, record, Reason.IN_STEP, {"code": "in_step"}, cause="sage")


def _add_doubtful(
    work: UnitOfWork,
    kind: Kind,
    remote: RemoteRecord,
    connection: Connection,
    company_id: int | None,
    alike: Sequence[int],
) -> None:
    """Add a record of Sage that may be one of several of ours, or one that was unlinked, and leave it to a person.

    Those that would go to Sage are held back. What one of them has that no two can share, as its code, is left out.
    """
    model = kind.model
    records = work.session.scalars(
        select(model)
        .where(model.id.in_(alike))
        .order_by(model.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    names = [record.shared(kind.title) for record in records]
    unique = kind.unique.field if kind.unique else ""
    is_taken = unique and remote.fields[unique] in {record.shared(unique) for record in records} - {""}
    added = new_record(work.session, kind, remote, connection, company_id, without=unique if is_taken else "")
    # Without it, both sides are not equal.
    added.agreed = None if is_taken else dict(remote.fields)
    work.session.add(added)
    work.session.flush()
    detail = {"code": "possible_duplicate", "names": names, "ids": list(alike)}
    move(work, added, Reason.POSSIBLE_DUPLICATE, detail, cause="sage")
    for record in records:
        if record.sync_reason not in (Reason.EXCLUDED, Reason.UNLINKED):
            detail = {"code": "possible_duplicate", "names": [remote.fields[kind.title]], "ids": [added.id]}
            move(work, record, Reason.POSSIBLE_DUPLICATE, detail, cause="sage")
