"""Importing orders from a table, with their lines from another one or from the same; see webapp.importing.run.

A row means the order that has its number. The lines of an order are taken together: a line that cannot be taken keeps
its whole order back, because an order with a wrong total would reach Sage. Of an order that Sage has, or may be getting
this moment, a file changes only what stays here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    Index,
    Integer,
    MetaData,
    Numeric,
    ScalarSelect,
    Table,
    Text,
    and_,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import Session

from webapp.companies.columns import OWNER
from webapp.companies.models import Company
from webapp.connection.models import Connection as Sage
from webapp.connection.queries import hold_what_orders_become
from webapp.db import UnitOfWork
from webapp.importing.notation import Notation, notation_of
from webapp.importing.parents import company_columns, find_companies
from webapp.importing.report import FileReport, ImportReport, LinesReport
from webapp.importing.run import (
    Kind,
    Progress,
    Written,
    chosen_connection,
    columns_of,
    import_rows,
    only_import,
    people_by_email,
)
from webapp.importing.table import Table as File
from webapp.importing.writing import (
    STAGED,
    Standing,
    belongs,
    change,
    child_standings,
    create,
    differences,
    refuse,
    says,
    staged_columns,
    usable,
)
from webapp.orders.changes import MAY_BE_THERE
from webapp.orders.clean import MOST_LINES, clean_order_header
from webapp.orders.columns import ORDER_LABELS, ORDERS
from webapp.orders.models import CONFIRMED, VALIDATED, VALIDATING, Amount, Order, OrderLine
from webapp.orders.staged_lines import (
    LINE_VALUES,
    NUMBER,
    STAGED_LINES,
    Reading,
    lines_table,
    stage_lines,
    tables_beside,
)
from webapp.products.importing import import_catalogue, known_products, products_in
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.saving import STAYS
from webapp.sync.transitions import Moved
from webapp.text import clean_line, letters

# For how many days an order holds whose file does not say it.
_DAYS_VALID = 30
_HIGHEST_TOTAL = Decimal("999999999999.99")

_TEMPORARY = MetaData()
_ORDER = cast(Table, Order.__table__)

# The orders of the batch in hand. `lines` to `problem_line` are what the file's lines of the order come to, NULL where
# it has none; `first_fault` is the first of these lines that cannot be taken. `has_new_lines` says that they are not
# those that the order has here.
_ROWS = Table(
    "import_order",
    _TEMPORARY,
    *staged_columns(),
    *company_columns(),
    Column("number", Text, nullable=False),
    Column("ordered_on", Date),
    Column("valid_until", Date),
    Column("shipping", Amount),
    Column("notes", Text, nullable=False),
    Column("internal_notes", Text, nullable=False),
    Column("owner_id", BigInteger),
    Column("lines", Integer),
    Column("net", Numeric),
    Column("tax", Numeric),
    Column("problem", Text),
    Column("problem_line", Integer),
    Column("first_fault", BigInteger),
    Column("has_new_lines", Boolean, nullable=False, server_default=false()),
    **STAGED,
)
_SEEN = Table(
    "import_seen_order",
    _TEMPORARY,
    Column("line", BigInteger, nullable=False),
    Column("number", Text, nullable=False),
    Index("ix_import_seen_order", "number", "line"),
    prefixes=["TEMPORARY"],
)


_NOT_BOOKED = (
    "Orders become invoices in Sage here, and an import books none: open an order and press Synchronise with Sage to "
    "book it."
)


def import_orders(
    services: Services,
    path: Path,
    dry_run: bool = False,
    progress: Progress = lambda file, done, total: None,
    *,
    lines: Path | None = None,
    connection_id: int | None = None,
) -> ImportReport:
    """Create and change orders from a CSV file, as webapp.companies.importing does companies.

    Their lines come from the file `lines`, else from the same file if it has quantities, else from one beside it whose
    name says so. Where the lines name products that are not here, a products.csv beside the file is imported first.
    Orders come in as confirmed, or as validating where their prices are not valid; where sending them would book them in
    Sage, as validated. Raises ImportRefused.
    """
    file = File.open(path)
    columns = columns_of(file, ORDERS, NUMBER)
    table = lines_table(file, lines)
    reading = Reading.of(table)
    notation = notation_of(file, columns, days=("ordered_on", "valid_until"), numbers=("shipping",))
    has_lines_inside = table.path == file.path
    with only_import(services) as connection:
        before: list[FileReport] = []
        sage_id, owners = chosen_connection(services, connection_id), people_by_email(connection)
        with Session(connection) as session:
            products = known_products(session, sage_id)
        beside = _products_file(path)
        if beside is not None and not reading.product_codes <= products.keys():
            before.append(import_catalogue(services, connection, beside, dry_run, progress, connection_id=sage_id))
            with Session(connection) as session:
                products = {**(products_in(beside) if dry_run else {}), **known_products(session, sage_id)}
        read = stage_lines(connection, reading, products, progress)
        kind = _Orders(sage_id, notation, owners, table.path.name, has_lines_inside)
        report = import_rows(services, connection, kind, file, columns, dry_run=dry_run, progress=progress)
        with Session(connection) as session:
            sage = kind.sage(session)
            is_booked_one_by_one = sage is not None and sage.books_orders and report.created + report.changed > 0
        _note_lines(connection, read, report.file)
    report.notes += filter(None, [notation.days])
    if has_lines_inside:
        report.columns |= read.columns
        report.left_out = [name for name in report.left_out if name not in read.columns]
        report.notes += [*read.notes, f"The same file holds their lines: {read.lines:,}."]
        report.refused = sorted({*report.refused, *read.refused})
    else:
        before.append(read)
    report.before = before
    if is_booked_one_by_one:
        report.notes.append(_NOT_BOOKED)
    return report


def _products_file(path: Path) -> Path | None:
    return next((found for found in tables_beside(path) if letters(found.stem) in ("product", "products")), None)


def _note_lines(connection: Connection, report: LinesReport, orders: str) -> None:
    """Say which lines were not taken: those with a fault, and those of orders that the file has not."""
    lines = STAGED_LINES.c
    is_read = select(_SEEN.c.line).where(_SEEN.c.number == lines.number).exists()
    nowhere = func.concat("No order ", lines.number, f" was read from {orders}.")
    refused = select(lines.line, func.coalesce(lines.fault, nowhere)).where(or_(lines.fault.is_not(None), ~is_read))
    report.refused = [(line, reason) for line, reason in connection.execute(refused.order_by(lines.line))]
    count: int = connection.execute(select(func.count()).select_from(STAGED_LINES)).scalar_one()
    report.lines = count - len(report.refused)


class _Orders(Kind):
    """See webapp.importing.run.Kind. `lines_file` is called so in sentences; `owners` maps e-mail addresses to ids."""

    made = Order
    things = "orders"
    columns = ORDERS
    labels = ORDER_LABELS
    tables = _TEMPORARY
    rows = _ROWS
    copied = (
        *("number", "company_code", "company_name", "ordered_on", "valid_until", "shipping", "notes"),
        *("internal_notes", "owner_id"),
    )

    def __init__(
        self,
        connection_id: int | None,
        notation: Notation,
        owners: Mapping[str, int],
        lines_file: str,
        has_lines_inside: bool,
    ) -> None:
        self.connection_id = connection_id
        self._notation = notation
        self._owners = owners
        self._lines_file = lines_file
        self._has_lines_inside = has_lines_inside

    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of `copied`, and what is wrong with it."""
        texts = {name: clean_line(raw.get(name, "")) for name in ORDERS}
        first, last = (self._notation.day(texts[name]) for name in ("ordered_on", "valid_until"))
        if first and last and last < first:
            # Some programs fill it in with any day; then the file does not say it.
            texts["valid_until"], last = "", None
        shipping = self._notation.number(texts["shipping"])
        cleaned = clean_order_header(
            {
                "number": texts["number"],
                "ordered_on": first.isoformat() if first else texts["ordered_on"],
                "valid_until": last.isoformat() if last else texts["valid_until"],
                "shipping": texts["shipping"] if shipping is None else f"{shipping:f}",
                **{name: raw.get(name, "") for name in ("notes", "internal_notes")},
            }
        )
        errors = [
            f"{ORDER_LABELS[name].capitalize()}: {sentence}"
            for name, sentence in cleaned.errors.items()
            # An empty cell says nothing.
            if texts[name]
        ]
        if not texts["number"]:
            errors.append("Every order needs its number: write it in each row.")
        values = cleaned.values
        return (
            texts["number"],
            texts["company_code"],
            texts["company_name"],
            first,
            last,
            values["shipping"] if texts["shipping"] else None,
            values["notes"],
            values["internal_notes"],
            self._owners.get(texts[OWNER].lower()),
        ), errors

    def stage(self, session: Session) -> None:
        """Refuse rows that mean the order of an earlier row, find the companies, and add up the lines."""
        hold_what_orders_become(session)
        session.execute(insert(_SEEN).from_select(["line", "number"], select(_ROWS.c.line, _ROWS.c.number)))
        same = (
            select(func.min(_SEEN.c.line))
            .where(_SEEN.c.number == _ROWS.c.number, _SEEN.c.line < _ROWS.c.line)
            .scalar_subquery()
        )
        if self._has_lines_inside:
            # Each row of an order is one of its lines, and the first speaks for the order.
            session.execute(delete(_ROWS).where(same.is_not(None)))
        else:
            refuse(session, _ROWS, same.is_not(None), "Line ", same, " has the same number: keep one of the two.")
        find_companies(session, _ROWS, self.sage(session))
        self._add_up_lines(session)

    def _add_up_lines(self, session: Session) -> None:
        lines = STAGED_LINES.c
        of_batch = lines.number.in_(select(_ROWS.c.number).where(usable(_ROWS)))
        position = func.row_number().over(partition_by=lines.number, order_by=lines.line).label("position")
        placed = select(lines.line, position).where(of_batch).subquery()
        session.execute(
            update(STAGED_LINES).where(lines.line == placed.c.line, of_batch).values(position=placed.c.position)
        )
        has_problem = lines.problem.is_not(None)
        sums = (
            select(
                lines.number,
                func.count().label("lines"),
                func.sum(lines.net).label("net"),
                func.sum(lines.tax).label("tax"),
                func.min(lines.line).filter(lines.fault.is_not(None)).label("first_fault"),
                func.min(lines.position).filter(has_problem).label("problem_line"),
                func.array_agg(aggregate_order_by(lines.problem, lines.position))
                .filter(has_problem)[1]
                .label("problem"),
            )
            .where(of_batch)
            .group_by(lines.number)
            .subquery()
        )
        values = {column.name: column for column in sums.c if column.name != "number"}
        session.execute(update(_ROWS).where(_ROWS.c.number == sums.c.number).values(values))
        fault = f" of {self._lines_file}, which is one of its lines, cannot be taken: mend it first."
        refuse(session, _ROWS, _ROWS.c.first_fault.is_not(None), "Line ", _ROWS.c.first_fault, fault)
        most = f" lines, and an order has {MOST_LINES} at most: divide it into several orders."
        refuse(session, _ROWS, _ROWS.c.lines > MOST_LINES, "It has ", _ROWS.c.lines, most)
        total = _ROWS.c.net + _ROWS.c.tax + func.coalesce(_ROWS.c.shipping, 0)
        refuse(session, _ROWS, total > _HIGHEST_TOTAL, "It comes to more than an order can: check its prices.")

    def write(self, work: UnitOfWork) -> Written:
        """Match the rows with the orders that there are, and write them with their lines."""
        session = work.session
        sage = self.sage(session)
        _match(session, sage)
        changed = _change(session, sage)
        created, moved = _create(session, sage)
        _put_lines(session)
        return Written(created, len(changed), [*changed, *moved])


_HERE_ONLY = ("internal_notes", "owner_id")
_NEUTRAL = ("ordered_on", "valid_until", "shipping", "notes")


def _match(session: Session, sage: Sage | None) -> None:
    """Note for each staged row which order it means, and what of it is new; refuse what cannot be.

    The orders are held from here on, so that none of them goes to Sage while it is compared.
    """
    named = select(_ROWS.c.number).where(usable(_ROWS))
    meant = select(Order.id, Order.number).where(Order.number.in_(named), belongs(Order, sage))
    held = meant.order_by(Order.id).with_for_update().cte("held")
    session.execute(update(_ROWS).where(usable(_ROWS), _ROWS.c.number == held.c.number).values(record_id=held.c.id))
    is_order, is_new = Order.id == _ROWS.c.record_id, _ROWS.c.record_id.is_(None)
    new = func.concat("Order ", _ROWS.c.number, " is new, and the row does not say ")
    refuse(session, _ROWS, and_(is_new, _ROWS.c.company_id.is_(None)), new, "whose it is: write its company.")
    refuse(session, _ROWS, and_(is_new, _ROWS.c.ordered_on.is_(None)), new, "of which day it is: write its date.")
    name = select(Order.company_name).where(is_order, Order.company_id != _ROWS.c.company_id).scalar_subquery()
    elsewhere = func.concat(
        "Order ", _ROWS.c.number, " belongs to ", name, " here: give the other order another number."
    )
    refuse(session, _ROWS, name.is_not(None), elsewhere)

    # An order that begins later than it ended, or is said to end before it begins, holds as long as a new one.
    first = func.coalesce(_ROWS.c.ordered_on, Order.ordered_on)
    last = func.coalesce(_ROWS.c.valid_until, Order.valid_until)
    session.execute(update(_ROWS).where(is_order, last < first).values(valid_until=first + _DAYS_VALID))

    session.execute(
        update(_ROWS)
        .where(
            _ROWS.c.lines.is_not(None),
            or_(_same_lines() != _ROWS.c.lines, _lines_here() != _ROWS.c.lines),
        )
        .values(has_new_lines=true())
    )
    is_closed = or_(Order.sage_id.is_not(None), Order.sync_reason.in_(MAY_BE_THERE))
    differing = differences(_ORDER, _ROWS, says(_ROWS, *_NEUTRAL))
    closed = select(Order.id).where(is_order, is_closed, or_(_ROWS.c.has_new_lines, *differing.values())).exists()
    sentence = " is in Sage or on its way there, so its lines, dates, shipping and notes can no longer be changed here."
    refuse(session, _ROWS, closed, "Order ", _ROWS.c.number, sentence)


def _lines_here() -> ScalarSelect[int]:
    """How many lines the order of a row has here."""
    return select(func.count()).where(OrderLine.order_id == _ROWS.c.record_id).scalar_subquery()


def _same_lines() -> ScalarSelect[int]:
    """How many lines of the order of a row are as the file says."""
    lines = STAGED_LINES.c
    return (
        select(func.count())
        .join_from(STAGED_LINES, OrderLine, OrderLine.position == lines.position)
        .where(
            lines.number == _ROWS.c.number,
            OrderLine.order_id == _ROWS.c.record_id,
            OrderLine.product_id.is_not_distinct_from(lines.product_id),
            OrderLine.quantity == lines.quantity,
            or_(~lines.says_description, OrderLine.description == lines.description),
            or_(~lines.says_price, OrderLine.unit_price == lines.unit_price),
            or_(~lines.says_discount, OrderLine.discount == lines.discount),
            or_(~lines.says_tax, OrderLine.tax_rate == lines.tax_rate),
        )
        .correlate(_ROWS)
        .scalar_subquery()
    )


def _change(session: Session, sage: Sage | None) -> list[Moved]:
    """Change the orders of which a row says something else, but for their lines, as webapp.orders.changes does.

    Where orders are booked in Sage, nobody has confirmed yet what the file says of one.
    """
    has_new_lines = _ROWS.c.has_new_lines
    is_valid = _ROWS.c.problem.is_(None)
    is_booked = literal(sage is not None and sage.books_orders)
    was_confirmed = Order.phase == CONFIRMED
    saved = case((~is_valid, VALIDATING), (and_(was_confirmed, ~is_booked), CONFIRMED), else_=VALIDATED)
    said_anew = or_(*differences(_ORDER, _ROWS, says(_ROWS, *_NEUTRAL)).values())
    phase = case((has_new_lines, saved), (and_(was_confirmed, is_booked, said_anew), VALIDATED), else_=Order.phase)
    shipping = func.coalesce(_ROWS.c.shipping, Order.shipping)
    net = case((has_new_lines, _ROWS.c.net), else_=Order.net_total - Order.shipping) + shipping
    tax = case((has_new_lines, _ROWS.c.tax), else_=Order.tax_total)
    # The prices of lines that stay were validated before, so what was found out about them stays too.
    was_validated = and_(~has_new_lines, Order.phase != CONFIRMED)
    return change(
        session,
        Order,
        _ROWS,
        says(_ROWS, *_NEUTRAL, *_HERE_ONLY),
        sage,
        _standings(phase, sage),
        also=has_new_lines,
        derived={"phase": phase, "net_total": net, "tax_total": tax, "total": net + tax},
        parent=Company.id == Order.company_id,
        here_only=_HERE_ONLY,
        stays=or_(was_validated, and_(phase == CONFIRMED, Order.sync_reason.in_(STAYS))),
    )


def _create(session: Session, sage: Sage | None) -> tuple[int, list[Moved]]:
    """Make orders of the rows that mean none that there is, but for their lines: how many, and who is told."""
    problem = func.coalesce(_ROWS.c.problem, case((_ROWS.c.lines.is_(None), "no_lines")))
    # Nobody who imports orders of the past means to book them all.
    sent = VALIDATED if sage is not None and sage.books_orders else CONFIRMED
    phase = case((problem.is_(None), sent), else_=VALIDATING)
    shipping = func.coalesce(_ROWS.c.shipping, 0)
    net, tax = func.coalesce(_ROWS.c.net, 0) + shipping, func.coalesce(_ROWS.c.tax, 0)
    values = {
        **{name: _ROWS.c[name] for name in ("number", "company_id", "ordered_on", "notes", *_HERE_ONLY)},
        "valid_until": func.coalesce(_ROWS.c.valid_until, _ROWS.c.ordered_on + _DAYS_VALID),
        "phase": phase,
        "shipping": shipping,
        "net_total": net,
        "tax_total": tax,
        "total": net + tax,
    }
    source = _ROWS.join(Company.__table__, Company.id == _ROWS.c.company_id)
    made = create(session, Order, source, _ROWS, values, sage, _standings(phase, sage, problem))
    is_made = and_(_ROWS.c.record_id.is_(None), Order.number == _ROWS.c.number, belongs(Order, sage))
    session.execute(update(_ROWS).where(usable(_ROWS), is_made).values(record_id=Order.id))
    return made


def _standings(
    phase: ColumnElement[str], sage: Sage | None, problem: ColumnElement[str] = _ROWS.c.problem
) -> list[Standing]:
    """The rules of webapp.sync.sending.order_standing for many rows."""
    mend = func.jsonb_strip_nulls(func.jsonb_build_object("code", problem, "line", _ROWS.c.problem_line))
    return [
        Standing(phase == VALIDATING, Reason.NEVER_SENT, mend, anew=False),
        Standing(phase == VALIDATED, Reason.NEVER_SENT, {"code": "validated"}, anew=False),
        *child_standings(sage),
    ]


def _put_lines(session: Session) -> None:
    """Give the orders whose lines are new those of the file."""
    has_new = and_(usable(_ROWS), _ROWS.c.has_new_lines)
    session.execute(delete(OrderLine).where(OrderLine.order_id.in_(select(_ROWS.c.record_id).where(has_new))))
    lines = STAGED_LINES.c
    values = (_ROWS.c.record_id, lines.position, *(lines[name] for name in LINE_VALUES))
    session.execute(
        insert(OrderLine).from_select(
            ["order_id", "position", *LINE_VALUES],
            select(*values).join_from(STAGED_LINES, _ROWS, _ROWS.c.number == lines.number).where(has_new),
        )
    )
