"""Importing companies from a table: each row is cleaned as the form is, and rows are written many at a time.

A row means the company that has its code. Where the row or the company has no code, it means the company of the same
name and postal code, compared without case and accents. An empty cell says nothing: it leaves what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Case,
    Column,
    Computed,
    Index,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from webapp.companies.clean import LIMITS, clean_company
from webapp.companies.columns import COLUMNS, LABELS, OWNER
from webapp.companies.models import CUSTOMER, PROSPECT, Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.importing.report import ImportReport
from webapp.importing.run import (
    Kind,
    Needed,
    Progress,
    Written,
    chosen_connection,
    columns_of,
    import_rows,
    only_import,
    people_by_email,
)
from webapp.importing.table import Table as File
from webapp.importing.writing import STAGED, Standing, belongs, change, create, refuse, says, staged_columns, usable
from webapp.orders.models import Order
from webapp.services import Services
from webapp.sync.saving import STAYS
from webapp.sync.sending import company_standing, type_changed
from webapp.text import clean_line

_TEMPORARY = MetaData()

# The rows of the batch in hand, and what was found out about them.
_ROWS = Table(
    "import_row",
    _TEMPORARY,
    *staged_columns(),
    *(Column(name, Text, nullable=False) for name in LIMITS),
    Column("owner_id", BigInteger),
    Column("name_key", Text(collation="C"), Computed("fold(name)", persisted=True)),
    Column("postal_key", Text, Computed("fold(postal_code)", persisted=True)),
    **STAGED,
)
# What all rows up to now are called, without those whose code came before.
_SEEN = Table(
    "import_seen",
    _TEMPORARY,
    Column("line", BigInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("name_key", Text(collation="C"), nullable=False),
    Column("postal_key", Text, nullable=False),
    Index("ix_import_seen_code", "code", "line"),
    Index("ix_import_seen_name", "name_key", "postal_key", "line"),
    prefixes=["TEMPORARY"],
)
_COMPANY = cast(Table, Company.__table__)
_NAME = Needed(("name",), "the names of companies", "Call one of them name, company or company name.")


def import_companies(
    services: Services,
    path: Path,
    dry_run: bool = False,
    progress: Progress = lambda file, done, total: None,
    *,
    connection_id: int | None = None,
) -> ImportReport:
    """Create and change companies from a CSV file; see docs/import.md for what is understood.

    They are companies of the connection `connection_id`, or of the first one: another connection may have a company
    that is called alike, or has the same code. A dry run does everything but the commits. Customers that were created
    or changed are queued for Sage. Two imports never run at a time. Raises ImportRefused where nothing of the file can
    be taken; a row that cannot be taken is in the report instead.
    """
    file = File.open(path)
    columns = columns_of(file, COLUMNS, _NAME)
    with only_import(services) as connection:
        kind = _Companies(chosen_connection(services, connection_id), people_by_email(connection))
        return import_rows(services, connection, kind, file, columns, dry_run=dry_run, progress=progress)


class _Companies(Kind):
    """See webapp.importing.run.Kind. `owners` maps e-mail addresses to ids of people."""

    made = Company
    things = "companies"
    columns = COLUMNS
    labels = LABELS
    tables = _TEMPORARY
    rows = _ROWS
    copied = (*LIMITS, "owner_id")

    def __init__(self, connection_id: int | None, owners: Mapping[str, int]) -> None:
        self.connection_id = connection_id
        self._owners = owners

    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of `copied`, and what is wrong with it."""
        cleaned = clean_company(raw)
        values, errors = cleaned.values, list(cleaned.errors.values())
        if not clean_line(raw.get("type", "")):
            # That a new company is a customer says nothing about one that is there already.
            values["type"] = ""
        owner = clean_line(raw.get(OWNER, "")).lower()
        if owner and owner not in self._owners:
            errors.append(f"Nobody here has the e-mail address “{owner}”: add that user, or leave the owner empty.")
        return (*values.values(), self._owners.get(owner)), errors

    def stage(self, session: Session) -> None:
        """Refuse rows that mean the company of an earlier row."""
        seen = ["line", "code", "name_key", "postal_key"]
        session.execute(insert(_SEEN).from_select(seen, select(*(_ROWS.c[name] for name in seen))))
        earlier = _SEEN.c.line < _ROWS.c.line
        same_code = select(func.min(_SEEN.c.line)).where(_SEEN.c.code == _ROWS.c.code, earlier).scalar_subquery()
        repeats_code = and_(_ROWS.c.code != "", same_code.is_not(None))
        refuse(session, _ROWS, repeats_code, "Line ", same_code, " has the same code: keep one of the two.")
        session.execute(delete(_SEEN).where(_SEEN.c.line.in_(select(_ROWS.c.line).where(~usable(_ROWS)))))
        # Companies of one name are told apart by their codes alone, so the first of them decides: if it has no code,
        # or this row has none, both mean the same company.
        same_name = (
            select(case((or_(_ROWS.c.code == "", _SEEN.c.code == ""), _SEEN.c.line)))
            .where(_SEEN.c.name_key == _ROWS.c.name_key, _SEEN.c.postal_key == _ROWS.c.postal_key, earlier)
            .order_by(_SEEN.c.line)
            .limit(1)
            .scalar_subquery()
        )
        remedy = " has the same name and postal code: keep one of the two, or give each a code."
        refuse(session, _ROWS, same_name.is_not(None), "Line ", same_name, remedy)

    def write(self, work: UnitOfWork) -> Written:
        """Match the rows with the companies that there are, and write them."""
        session = work.session
        sage = self.sage(session)
        _match(session, sage)
        said = says(_ROWS, *self.copied)
        # A prospect is out of Sage; nothing else of a company decides on its status.
        after = case((said["type"], _ROWS.c.type), else_=_COMPANY.c.type)
        followed = session.scalars(_followed()).all()
        stays = and_(after != PROSPECT, Company.sync_reason.in_(STAYS))
        changed = change(session, Company, _ROWS, said, sage, _standings(after, sage), stays=stays)
        for company in session.scalars(select(Company).where(Company.id.in_(followed))):
            type_changed(work, company, user_id=None)
        type_ = case((_ROWS.c.type == PROSPECT, PROSPECT), else_=CUSTOMER)
        values = {**{name: _ROWS.c[name] for name in self.copied}, "type": type_}
        created, moved = create(session, Company, _ROWS, _ROWS, values, sage, _standings(type_, sage))
        return Written(created, len(changed), [*changed, *moved])


def _followed() -> Select[int]:
    """The companies whose type the rows change, and to which something belongs that follows it."""
    belongs = or_(*(exists().where(model.company_id == Company.id) for model in (Contact, Order)))
    return (
        select(Company.id)
        .join_from(_ROWS, Company, Company.id == _ROWS.c.record_id)
        .where(usable(_ROWS), _ROWS.c.type != "", _ROWS.c.type != Company.type, belongs)
        .order_by(Company.id)
    )


def _standings(type_: Case[str], sage: Connection | None) -> list[Standing]:
    """The status of companies by their type."""
    excluded, sent = company_standing(PROSPECT, sage), company_standing(CUSTOMER, sage)
    return [Standing(type_ == PROSPECT, *excluded, anew=False), Standing(true(), *sent)]


def _match(session: Session, sage: Connection | None) -> None:
    """Note for each staged row which company it means."""
    session.execute(
        update(_ROWS)
        .where(
            usable(_ROWS),
            _ROWS.c.code != "",
            _COMPANY.c.code != "",
            _COMPANY.c.code == _ROWS.c.code,
            belongs(Company, sage),
        )
        .values(record_id=_COMPANY.c.id)
    )
    matched = _ROWS.alias("matched")
    fits = (
        select(
            _ROWS.c.line,
            _COMPANY.c.id,
            func.count().over(partition_by=_ROWS.c.line).label("candidates"),
            func.row_number().over(partition_by=_COMPANY.c.id, order_by=_ROWS.c.line).label("turn"),
        )
        .join_from(
            _ROWS,
            _COMPANY,
            and_(
                _COMPANY.c.name_key == _ROWS.c.name_key,
                func.fold(_COMPANY.c.postal_code) == _ROWS.c.postal_key,
                or_(_COMPANY.c.code == "", _ROWS.c.code == ""),
                belongs(Company, sage),
            ),
        )
        .where(
            usable(_ROWS),
            _ROWS.c.record_id.is_(None),
            ~select(matched.c.line).where(matched.c.record_id == _COMPANY.c.id).exists(),
        )
        .subquery()
    )
    # Of two rows with codes of their own that fit one company without a code, the first is that company.
    several = func.concat(
        fits.c.candidates, " companies here have this name and postal code: write the code of the one that is meant."
    )
    only = and_(fits.c.candidates == 1, fits.c.turn == 1)
    session.execute(
        update(_ROWS)
        .where(_ROWS.c.line == fits.c.line)
        .values(record_id=case((only, fits.c.id)), refusal=case((fits.c.candidates > 1, several)))
    )
