"""Writing the staged rows of a batch into the records that they mean, each kind in a few statements for all of them.

What an update does is decided by the statement that does it, on rows that it holds, so that an edit that somebody made
a moment before is not overwritten in fields that the file says nothing about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    CTE,
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    func,
    insert,
    inspect,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import cast as cast_to
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Session

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import Connection
from webapp.status import STATUS_OF, Reason, Status
from webapp.sync.models import Json, Moment, Synced, SyncEvent
from webapp.sync.sending import has_company_in_sage
from webapp.sync.transitions import Moved, queued_as


def staged_columns() -> tuple[Column[Any], ...]:
    """The columns that every table of staged rows has, see webapp.importing.run.Kind; new ones for each table."""
    return (
        Column("line", BigInteger, nullable=False),
        Column("record_id", BigInteger),
        Column("refusal", Text),
    )


# Nothing vacuums a temporary table: rows that are merely deleted would stay in the way of the next batch.
STAGED: dict[str, Any] = {"prefixes": ["TEMPORARY"], "postgresql_on_commit": "DELETE ROWS"}


def usable(rows: Table) -> ColumnElement[bool]:
    """Which staged rows are still to be taken."""
    return rows.c.refusal.is_(None)


def refuse(session: Session, rows: Table, where: ColumnElement[bool], *sentence: str | ColumnElement[Any]) -> None:
    """Refuse the staged rows that fit, with the parts of a sentence put together."""
    session.execute(update(rows).where(usable(rows), where).values(refusal=func.concat(*sentence)))


def point_to_only(
    session: Session, rows: Table, column: str, model: type[Synced], fits: ColumnElement[bool], *sentence: Any
) -> None:
    """Note in a column of the staged rows the record that fits each; refuse those that several fit.

    The parts of the sentence follow on how many there are. A row that none fits stays as it is.
    """
    found = (
        select(rows.c.line, func.count().label("candidates"), func.min(model.id).label("id"))
        .join_from(rows, model, fits)
        .where(usable(rows), rows.c[column].is_(None))
        .group_by(rows.c.line)
        .subquery()
    )
    session.execute(
        update(rows)
        .where(rows.c.line == found.c.line)
        .values(
            {
                column: case((found.c.candidates == 1, found.c.id)),
                "refusal": case((found.c.candidates > 1, func.concat(found.c.candidates, *sentence))),
            }
        )
    )


def belongs(model: type[Synced], connection: Connection | None) -> ColumnElement[bool]:
    """Which records an import may mean: those of its connection, or where there is none, those that have none.

    In a form for which no index is asked: where nothing is known of a table yet, as all through a dry run of a first
    file, the planner would go through all of a connection's records for each row.
    """
    return model.connection_id.is_not_distinct_from(None if connection is None else connection.id)


def says(rows: Table, *names: str) -> dict[str, ColumnElement[bool]]:
    """When a staged row says something about each of these columns: an empty cell leaves what is there."""
    return {
        name: rows.c[name] != "" if isinstance(rows.c[name].type, Text) else rows.c[name].is_not(None) for name in names
    }


@dataclass(frozen=True)
class Standing:
    """A status, and the rows that get it: those for which `when` holds and that of none before it in a list.

    `detail` is that of webapp.sync.transitions.move, or an expression of type JSONB. `anew` says that its attempts are
    counted anew, as for a record that is queued.
    """

    when: ColumnElement[bool]
    reason: Reason
    detail: Json | ColumnElement[Any]
    anew: bool = True


def child_standings(connection: Connection | None) -> list[Standing]:
    """The rules of webapp.sync.sending.child_standing for many rows, of statements that have their Company."""
    parent = func.jsonb_build_object(
        *("code", "waiting_for_parent", "parent", func.concat("company:", Company.id), "name", Company.name)
    )
    excluded = {"code": "excluded_with_company"}
    standings = [Standing(Company.type == PROSPECT, Reason.EXCLUDED, excluded, anew=False)]
    if connection is not None:
        standings.append(Standing(~has_company_in_sage(), Reason.WAITING_FOR_PARENT, parent, anew=False))
    return [*standings, Standing(true(), *queued_as(connection))]


def differences(table: Table, rows: Table, said: Mapping[str, ColumnElement[bool]]) -> dict[str, ColumnElement[bool]]:
    """When a staged row says something else than the record about each of the columns `said`."""
    return {name: and_(is_said, rows.c[name].is_distinct_from(table.c[name])) for name, is_said in said.items()}


def change(
    session: Session,
    model: type[Synced],
    rows: Table,
    said: Mapping[str, ColumnElement[bool]],
    connection: Connection | None,
    standings: Sequence[Standing],
    *,
    also: ColumnElement[bool] | None = None,
    derived: Mapping[str, ColumnElement[Any]] | None = None,
    parent: ColumnElement[bool] | None = None,
    here_only: Collection[str] = (),
    stays: ColumnElement[bool],
) -> list[Moved]:
    """Change the records of which a row says something else, or for which `also` holds, and tell which they are.

    `said` maps each column to the condition under which a row says something about it. `derived` columns follow in the
    same statement. `parent` joins the Company that `standings` ask about. A record of which nothing but what is
    `here_only` changes, or for which `stays` holds, keeps its status. All conditions read `model` as it was before.
    """
    table = _table(model)
    is_row = table.c.id == rows.c.record_id
    differing = differences(table, rows, said) | ({} if also is None else {"": also})
    differs = or_(*differing.values())
    # Held from here on, in one order, so that two who change many records never wait for each other.
    held = session.scalars(
        select(table.c.id)
        .join_from(rows, table, is_row)
        .where(usable(rows), differs)
        .order_by(table.c.id)
        .with_for_update(of=table)
    ).all()
    if not held:
        return []
    among_held = table.c.id == func.any(bindparam("held", held, type_=ARRAY(BigInteger)))
    before = select(table.c.id, table.c.sync_reason, table.c.sync_detail).where(among_held).cte("before")
    # As webapp.sync.saving has it for one record.
    is_sent = or_(
        table.c.sync_status == Status.REVIEW,
        *(condition for name, condition in differing.items() if name not in here_only),
    )
    keeps = or_(~is_sent, stays)
    status = {
        name: case((keeps, table.c[name]), else_=value) for name, value in _status(standings, connection, table).items()
    }
    changed = (
        update(table)
        .where(is_row, among_held, *([] if parent is None else [parent]))
        .values(
            **{name: case((is_said, rows.c[name]), else_=table.c[name]) for name, is_said in said.items()},
            **(derived or {}),
            **status,
            sync_version=table.c.sync_version + 1,
            # Nobody waits for what a file brings as for an edit; an edit that is on its way keeps its place.
            urgent=and_(table.c.urgent, table.c.sync_status == Status.PENDING),
        )
        .returning(table.c.id, table.c.connection_id, table.c.sync_reason, table.c.sync_detail)
        .cte("changed")
    )
    noted = _noted(
        model,
        select(changed.c.id, before.c.sync_reason, changed.c.sync_reason, changed.c.sync_detail)
        .join_from(changed, before, before.c.id == changed.c.id)
        .where(or_(before.c.sync_reason != changed.c.sync_reason, before.c.sync_detail != changed.c.sync_detail)),
    )
    found = session.execute(select(changed.c.id, changed.c.connection_id).add_cte(noted))
    return [Moved(model.kind, model.module, id_, belongs_to) for id_, belongs_to in found]


def create(
    session: Session,
    model: type[Synced],
    source: FromClause,
    rows: Table,
    values: Mapping[str, ColumnElement[Any]],
    connection: Connection | None,
    standings: Sequence[Standing],
) -> tuple[int, list[Moved]]:
    """Make records of the rows that mean none that there is: how many, and what browsers are told of them all.

    `source` is `rows`, joined with what `values` and `standings` read beside them.
    """
    table = _table(model)
    columns = {**values, **_status(standings, connection, None), "sync_version": literal(1)}
    new = (
        insert(table)
        .from_select(
            list(columns),
            select(*columns.values())
            .select_from(source)
            .where(usable(rows), rows.c.record_id.is_(None))
            .order_by(rows.c.line),
        )
        .returning(table.c.id, table.c.sync_reason, table.c.sync_detail)
        .cte("new")
    )
    # A record begins as never sent; only what differs from that is a change.
    begun = {"code": "never_sent"}
    noted = _noted(
        model,
        select(new.c.id, literal(str(Reason.NEVER_SENT)), new.c.sync_reason, new.c.sync_detail).where(
            or_(new.c.sync_reason != Reason.NEVER_SENT, new.c.sync_detail != literal(begun, JSONB))
        ),
    )
    count, first = session.execute(select(func.count(), func.min(new.c.id)).select_from(new).add_cte(noted)).one()
    # Nobody watches a record that is new, so one of them moves the counters for all.
    connection_id = connection.id if connection else None
    return count, [Moved(model.kind, model.module, first, connection_id)] if count else []


def _status(
    standings: Sequence[Standing], connection: Connection | None, before: Table | None
) -> dict[str, ColumnElement[Any]]:
    """The columns of the status that rows get; `before` is the table of the rows that there are already."""
    attempts = literal(0) if before is None else before.c.attempts
    belongs_to = cast_to(null(), BigInteger) if before is None else before.c.connection_id
    ours = func.coalesce(literal(connection.id if connection else None, BigInteger), belongs_to)

    def by_standing(value: Callable[[Standing], ColumnElement[Any]]) -> ColumnElement[Any]:
        return case(*((one.when, value(one)) for one in standings))

    return {
        "sync_status": by_standing(lambda one: literal(str(STATUS_OF[one.reason]))),
        "sync_reason": by_standing(lambda one: literal(str(one.reason))),
        "sync_detail": by_standing(
            lambda one: literal(one.detail, JSONB) if isinstance(one.detail, dict) else one.detail
        ),
        "next_attempt_at": by_standing(
            lambda one: func.now() if STATUS_OF[one.reason] is Status.PENDING else cast_to(null(), Moment)
        ),
        "attempts": by_standing(lambda one: literal(0) if one.anew else attempts),
        "connection_id": ours,
    }


def _noted(model: type[Synced], events: Select[Any]) -> CTE:
    """History rows as a part of another statement, of (id, reason before, reason now, detail)."""
    columns = ["record_id", "from_reason", "to_reason", "detail", "kind", "cause"]
    rows = events.add_columns(literal(model.kind), literal("import"))
    return insert(SyncEvent).from_select(columns, rows).cte("noted")


def _table(model: type[Synced]) -> Table:
    return cast(Table, inspect(model).local_table)
