"""Importing contacts from a table, see webapp.importing.run.

A row means a contact of the company that has its code, else of the only company of its name: of those who are called as
the row says, compared without case and accents, the one with its e-mail address, else the only one. An empty cell says
nothing: it leaves what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Index,
    MetaData,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.contacts.changes import HERE_ONLY
from webapp.contacts.clean import LIMITS, clean_contact
from webapp.contacts.columns import COLUMNS, LABELS
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.importing.parents import company_columns, find_companies
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
)
from webapp.importing.table import Table as File
from webapp.importing.writing import (
    STAGED,
    change,
    child_standings,
    create,
    point_to_only,
    refuse,
    says,
    staged_columns,
    usable,
)
from webapp.services import Services
from webapp.sync.saving import STAYS
from webapp.text import clean_line

_TEMPORARY = MetaData()

_ROWS = Table(
    "import_contact",
    _TEMPORARY,
    *staged_columns(),
    *company_columns(),
    *(Column(name, Text, nullable=False) for name in LIMITS),
    Column("name_key", Text(collation="C"), Computed("fold(name)", persisted=True)),
    Column("email_key", Text, Computed("lower(email)", persisted=True)),
    # The first earlier row of the file about somebody of this name at this company.
    Column("namesake_line", BigInteger),
    **STAGED,
)
# Who all rows up to now are about.
_SEEN = Table(
    "import_seen_contact",
    _TEMPORARY,
    Column("line", BigInteger, nullable=False),
    Column("company_id", BigInteger, nullable=False),
    Column("name_key", Text(collation="C"), nullable=False),
    Column("email_key", Text, nullable=False),
    Index("ix_import_seen_contact", "company_id", "name_key", "line"),
    prefixes=["TEMPORARY"],
)
_COMPANY = Needed(
    ("company_code", "company_name"),
    "the companies of the contacts",
    "Call one of them company name or customer ID.",
)
_NAME = Needed(
    ("name", "first_name", "last_name"),
    "the names of contacts",
    "Call one of them name, or two of them first name and last name.",
)


def import_contacts(
    services: Services,
    path: Path,
    dry_run: bool = False,
    progress: Progress = lambda file, done, total: None,
    *,
    connection_id: int | None = None,
) -> ImportReport:
    """Create and change contacts of the companies here from a CSV file, as webapp.companies.importing does companies.

    A contact whose company is not in Sage yet waits for it. Raises ImportRefused.
    """
    file = File.open(path)
    columns = columns_of(file, COLUMNS, _COMPANY, _NAME)
    with only_import(services) as connection:
        kind = _Contacts(chosen_connection(services, connection_id))
        return import_rows(services, connection, kind, file, columns, dry_run=dry_run, progress=progress)


class _Contacts(Kind):
    """See webapp.importing.run.Kind."""

    made = Contact
    things = "contacts"
    columns = COLUMNS
    labels = LABELS
    tables = _TEMPORARY
    rows = _ROWS
    copied = ("company_code", "company_name", *LIMITS)

    def __init__(self, connection_id: int | None) -> None:
        self.connection_id = connection_id

    def clean(self, raw: Mapping[str, str]) -> tuple[tuple[Any, ...], list[str]]:
        """One row as the columns of `copied`, and what is wrong with it."""
        parts = (clean_line(raw.get(part, "")) for part in ("first_name", "last_name"))
        name = clean_line(raw.get("name", "")) or " ".join(filter(None, parts))
        company = [clean_line(raw.get(field, "")) for field in ("company_code", "company_name")]
        cleaned = clean_contact({**raw, "name": name})
        errors = list(cleaned.errors.values())
        if not any(company):
            errors.append("It names no company: write the code or the name of the company that the contact belongs to.")
        return (*company, *(cleaned.values[field] for field in LIMITS)), errors

    def stage(self, session: Session) -> None:
        """Find the companies, and refuse rows that mean the contact of an earlier row."""
        find_companies(session, _ROWS, self.sage(session))
        seen = ["line", "company_id", "name_key", "email_key"]
        session.execute(insert(_SEEN).from_select(seen, select(*(_ROWS.c[name] for name in seen)).where(usable(_ROWS))))
        namesake = and_(
            _SEEN.c.company_id == _ROWS.c.company_id,
            _SEEN.c.name_key == _ROWS.c.name_key,
            _SEEN.c.line < _ROWS.c.line,
        )
        # Namesakes are told apart by their e-mail addresses alone, so an address that is missing may be any. A row that
        # was refused stands in the way of none after it.
        for may_be_same in (
            _SEEN.c.email_key == _ROWS.c.email_key,
            _ROWS.c.email_key == "",
            _SEEN.c.email_key == "",
        ):
            same = select(func.min(_SEEN.c.line)).where(namesake, may_be_same).scalar_subquery()
            remedy = " has the same company and name: keep one of the two, or give each an e-mail address."
            refuse(session, _ROWS, same.is_not(None), "Line ", same, remedy)
            session.execute(delete(_SEEN).where(_SEEN.c.line.in_(select(_ROWS.c.line).where(~usable(_ROWS)))))
        earlier = select(func.min(_SEEN.c.line)).where(namesake).scalar_subquery()
        session.execute(update(_ROWS).where(usable(_ROWS)).values(namesake_line=earlier))

    def write(self, work: UnitOfWork) -> Written:
        """Match the rows with the contacts that there are, and write them."""
        session = work.session
        _match(session)
        sage = self.sage(session)
        standings = child_standings(sage)
        changed = change(
            session,
            Contact,
            _ROWS,
            says(_ROWS, *LIMITS),
            sage,
            standings,
            parent=Company.id == Contact.company_id,
            here_only=HERE_ONLY,
            stays=Contact.sync_reason.in_(STAYS),
        )
        source = _ROWS.join(Company.__table__, Company.id == _ROWS.c.company_id)
        values = {name: _ROWS.c[name] for name in ("company_id", *LIMITS)}
        created, moved = create(session, Contact, source, _ROWS, values, sage, standings)
        return Written(created, len(changed), [*changed, *moved])


def _match(session: Session) -> None:
    """Note for each staged row which contact it means."""
    namesake = and_(Contact.company_id == _ROWS.c.company_id, Contact.name_key == _ROWS.c.name_key)
    has_address = and_(_ROWS.c.email_key != "", func.lower(Contact.email) == _ROWS.c.email_key)
    same = " contacts of this company have this name and e-mail address: delete one of them."
    point_to_only(session, _ROWS, "record_id", Contact, and_(namesake, has_address), same)
    # Whoever changed the address meant the same person, unless the file or another row says that there are two.
    matched = _ROWS.alias("matched")
    others = ~select(matched.c.line).where(matched.c.record_id == Contact.id).exists()
    remedy = " contacts of this company have this name: write the e-mail address by which the one that is meant is known here."
    fits = and_(namesake, _ROWS.c.namesake_line.is_(None), others)
    point_to_only(session, _ROWS, "record_id", Contact, fits, remedy)
