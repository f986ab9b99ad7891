"""Taking one record in hand, and recording that it is in step: each is one statement, which is a transaction of its own.

Nearly all that a push does here are these two and the note of the write in between, so they go past the ORM: what is
read, changed and written into the history goes to the database once and is committed with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Interval,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.db import Prepared
from webapp.orders.amounts import lines_text
from webapp.orders.models import Order, OrderLine
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import STATUS_OF, Reason
from webapp.sync.models import Json, SyncEvent, WriteIntent
from webapp.sync.sending import GONE, child_standing
from webapp.sync.transitions import Moved, move
from workers.engine.due import First, has_its_company, is_due
from workers.engine.kinds import KINDS, ORDERS, Kind
from workers.engine.lease import Lease
from workers.sage.connector import RemoteRecord, tidied

INTENT = cast(Table, WriteIntent.__table__)
_RECORD = bindparam("record", type_=BigInteger)
_RUNNING: Json = {"code": "running"}
_IN_STEP: Json = {"code": "in_step"}


@dataclass(frozen=True)
class Claimed:
    """A record as it was when it was claimed, and the create that was begun for it and never answered, if any.

    Of a contact or an order also its company, and the id of that company's customer. `in_full` are those of its fields
    that are sent with more than is compared: the lines of an order name their products.
    """

    kind: Kind
    id: int
    claim: int
    version: int
    connection_id: int
    attempts: int
    fields: dict[str, str]
    agreed: dict[str, str] | None
    sage_id: str | None
    known_until: datetime | None
    in_full: Mapping[str, str] = field(default_factory=dict)
    company_id: int | None = None
    parent: str = ""
    intent_id: int | None = None
    intent_key: str = ""
    intent_fields: dict[str, str] | None = None
    intent_body: dict[str, Any] | None = None
    intent_at: datetime | None = None
    directions: Mapping[str, str] = field(default_factory=dict)

    @property
    def moved(self) -> Moved:
        """What browsers are told of."""
        return Moved(self.kind.name, self.kind.model.module, self.id, self.connection_id)


def take_in_hand(services: Services, first: First, lease: Lease) -> Claimed | None:
    """Take a record in hand for as long as the lease lasts, and commit: from here on its arrows turn.

    None where it is no longer due, because somebody else was faster.
    """
    kind, database = first.kind, services.database
    moved = Moved(kind.name, kind.model.module, first.id, lease.connection_id)
    given = {"record": first.id, "connection": lease.connection_id, "left": timedelta(seconds=max(lease.left, 0))}
    row = database.commit_one(_CLAIMING[kind], given, lambda _: moved)
    if row is None:
        return None
    held = {name: getattr(row, name) for name in _in_columns(kind)}
    in_full = {}
    if kind is ORDERS:
        held["lines"] = lines = database.read_all(_LINES, {"record": first.id})
        in_full = tidied({"lines": lines_text(lines, [line.product for line in lines])}, ["lines"])
    fields = tidied({name: kind.model.text_of(name, value) for name, value in held.items()}, kind.names)
    return Claimed(
        kind=kind,
        id=first.id,
        claim=row.claim,
        version=row.sync_version,
        connection_id=lease.connection_id,
        attempts=row.attempts,
        fields=fields,
        agreed=row.agreed,
        sage_id=row.sage_id,
        known_until=row.sage_updated_at,
        in_full=in_full,
        company_id=row.company_id,
        parent=row.parent or "",
        intent_id=row.intent_id,
        intent_key=row.intent_key or "",
        intent_fields=row.intent_fields,
        intent_body=row.intent_body,
        intent_at=row.intent_at,
        directions=first.directions,
    )


def put_aside(services: Services, first: First, connection_id: int) -> None:
    """Have a contact or an order whose company is not in Sage wait for that, or leave it out with a prospect."""
    with services.database.unit_of_work() as work:
        kind = first.kind
        still = (
            select(kind.model, Company)
            .join(Company, Company.id == kind.company_id)
            .where(kind.model.id == first.id, *is_due(kind), ~has_its_company(kind))
            .with_for_update(of=kind.model)
        )
        found = work.session.execute(still, {"connection": connection_id}).one_or_none()
        if found is not None:
            record, company = found
            reason, detail = child_standing(company, work.session.get_one(Connection, connection_id))
            move(work, record, reason, detail, cause="worker")
        work.commit()


def record_in_step(services: Services, claimed: Claimed, remote: RemoteRecord, intent_id: int | None) -> bool:
    """Record that Sage holds `remote`, and that this is what the record holds, as whoever calls this has seen.

    False, and nothing is recorded, where the record was changed since it was claimed, or where another worker has it.
    """
    given = {
        "record": claimed.id,
        "claimed": claimed.claim,
        "version": claimed.version,
        "intent": intent_id,
        "there": remote.id,
        "called": remote.number,
        "page": remote.page or None,
        "changed_at": remote.updated_at,
        "equal": dict(remote.fields),
    }
    recording, database = _RECORDING[claimed.kind], services.database
    # What follows is that the next record is taken in hand, or that there is none.
    return database.commit_one(recording, given, lambda _: claimed.moved, more_follows=True) is not None


def _claiming(kind: Kind) -> Select[Any]:
    """Given `record`, `connection` and `left`, how long the claim lasts."""
    model = kind.model
    due = (
        select(model.id, model.sync_reason.label("before"))
        .where(model.id == _RECORD, *is_due(kind), has_its_company(kind))
        .with_for_update(of=model)
        .cte("due")
    )
    # By the database's clock, as the lease: those of the machines may differ.
    claim = {
        "claim": func.nextval("claim_number"),
        "claimed_until": func.clock_timestamp() + bindparam("left", type_=Interval),
        "last_attempt_at": func.clock_timestamp(),
    }
    company_id = literal(None, BigInteger) if kind.company_id is None else kind.company_id
    taken = (
        update(model)
        .where(model.id == due.c.id)
        .values(**_status(Reason.RUNNING, _RUNNING), sync_version=model.sync_version + 1, **claim)
        .returning(
            *(model.id, model.claim, model.sync_version, model.attempts, model.agreed),
            *(model.sage_id, model.sage_updated_at, company_id.label("company_id"), due.c.before),
            *(getattr(model, name) for name in _in_columns(kind)),
        )
        .cte("taken")
    )
    # Where another worker had it and is gone, its arrows turn already.
    noted = _event(kind, taken, taken.c.before, Reason.RUNNING, _RUNNING, taken.c.before != Reason.RUNNING)
    begun = and_(
        taken.c.sage_id.is_(None),
        INTENT.c.kind == kind.name,
        INTENT.c.record_id == taken.c.id,
        INTENT.c.operation == "create",
        or_(INTENT.c.state == "open", INTENT.c.state == "unknown"),
    )
    return (
        select(
            taken,
            select(Company.sage_id).where(Company.id == taken.c.company_id).scalar_subquery().label("parent"),
            INTENT.c.id.label("intent_id"),
            INTENT.c.idempotency_key.label("intent_key"),
            INTENT.c.fields.label("intent_fields"),
            INTENT.c.body.label("intent_body"),
            INTENT.c.created_at.label("intent_at"),
        )
        .select_from(taken.outerjoin(INTENT, begun))
        .add_cte(noted)
    )


def _recording(kind: Kind) -> Select[Any]:
    """Given what `record_in_step` gives."""
    model = kind.model
    recorded = (
        update(model)
        .where(
            model.id == _RECORD,
            model.claim == bindparam("claimed", type_=BigInteger),
            model.sync_version == bindparam("version", type_=BigInteger),
        )
        .values(
            **_status(Reason.IN_STEP, _IN_STEP),
            sync_version=model.sync_version + 1,
            next_attempt_at=None,
            claim=None,
            claimed_until=None,
            attempts=0,
            sage_id=bindparam("there", type_=Text),
            sage_number=bindparam("called", type_=Text),
            # An answer may leave it out, and the page of a record stays where it is.
            sage_page=func.coalesce(bindparam("page", type_=Text), model.sage_page),
            sage_updated_at=bindparam("changed_at", type_=DateTime(timezone=True)),
            agreed=bindparam("equal", type_=JSONB),
            # By the clock that says when a reading began: a page from before this is older.
            last_synchronised_at=func.clock_timestamp(),
        )
        .returning(model.id)
        .cte("recorded")
    )
    ended = (
        update(INTENT)
        .where(INTENT.c.id == bindparam("intent", type_=BigInteger), exists(select(recorded.c.id)))
        .values(state="done", sage_id=bindparam("there", type_=Text), finished_at=func.clock_timestamp())
        .cte("ended")
    )
    noted = _event(kind, recorded, literal(str(Reason.RUNNING)), Reason.IN_STEP, _IN_STEP)
    return select(recorded.c.id).add_cte(ended, noted)


def _in_columns(kind: Kind) -> list[str]:
    """Those of its fields that are columns: all but the lines of an order."""
    return [name for name in kind.names if name != "lines"]


def _lines() -> Select[str, Decimal, Decimal, Decimal, Decimal, str]:
    """Given `record`, an order: its lines, each with the id of its product in Sage, empty for one that names none.

    Whether a line takes a product that is no longer sold is not documented, so such a one is not named.
    """
    line = OrderLine
    there = and_(
        Product.id == line.product_id,
        Product.connection_id == Order.connection_id,
        *(Product.sync_reason != gone for gone in GONE),
        Product.discontinued.is_(False),
    )
    product = func.coalesce(Product.sage_id, "").label("product")
    return (
        select(line.description, line.quantity, line.unit_price, line.discount, line.tax_rate, product)
        .join(Order, Order.id == line.order_id)
        .outerjoin(Product, there)
        .where(line.order_id == _RECORD)
        .order_by(line.position)
    )


def _status(reason: Reason, detail: Json) -> dict[str, Any]:
    return {"sync_status": STATUS_OF[reason], "sync_reason": reason, "sync_detail": literal(detail, JSONB)}


def _event(
    kind: Kind, moved: CTE, before: ColumnElement[str], reason: Reason, detail: Json, *where: ColumnElement[bool]
) -> CTE:
    """The row of the history for a record that a statement has moved."""
    of_it = (literal(kind.name), moved.c.id, before, literal(str(reason)), literal(detail, JSONB), literal("worker"))
    return (
        insert(SyncEvent)
        .from_select(["kind", "record_id", "from_reason", "to_reason", "detail", "cause"], select(*of_it).where(*where))
        .cte("noted")
    )


# Made when this is imported, so that each job that is forked finds them.
_CLAIMING = {kind: Prepared(_claiming(kind)) for kind in KINDS}
_RECORDING = {kind: Prepared(_recording(kind)) for kind in KINDS}
_LINES = Prepared(_lines())
