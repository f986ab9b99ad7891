"""What an admin asks for: compare with Sage again, restore what was deleted there, take a record out of it."""

from __future__ import annotations

from sqlalchemy import select, update

from webapp.companies.changes import have_sent
from webapp.companies.models import CUSTOMER, Company
from webapp.connection.models import CONNECTED, Connection
from webapp.connection.queries import main_connection
from webapp.db import UnitOfWork
from webapp.status import Reason
from webapp.sync.models import WriteIntent
from webapp.sync.transitions import move, move_all, waiting_for_sage


class UnknownKeyError(Exception):
    """There is no such record or module. The text is the key."""


def resync(work: UnitOfWork, keys: list[str], user_id: int | None) -> int:
    """Have records compared with Sage again, both ways, and commit. Returns how many.

    A key is `company:42` or `module:companies`. Twice in a row, or while it runs, is harmless: the record goes round
    once more. Prospects stay out. Raises UnknownKeyError before anything is done.

    Whoever names one record has looked at it: what was unlinked is linked again, a possible duplicate is another
    company, and a create that Sage never answered and no longer remembers was not applied. With a whole module nobody
    says that, and such records stay as they are.
    """
    companies = []
    modules = []
    for key in keys:
        kind, _, name = key.partition(":")
        if key == "module:companies":
            modules.append(key)
            continue
        company = None
        if kind == "company" and name.isdigit():
            company = work.session.get(Company, int(name), with_for_update=True)
        if company is None:
            raise UnknownKeyError(key)
        companies.append(company)
    connection = main_connection(work.session)
    for company in companies:
        if company.sync_reason == Reason.OUTCOME_UNKNOWN:
            _give_up_unknown(work, company)
        have_sent(work, company, connection, cause="resync", user_id=user_id)
    work.commit()
    return len(companies) + (_resync_all(work, connection, user_id) if modules and connection else 0)


def _give_up_unknown(work: UnitOfWork, company: Company) -> None:
    work.session.execute(
        update(WriteIntent)
        .where(WriteIntent.kind == company.kind, WriteIntent.record_id == company.id, WriteIntent.state == "unknown")
        .values(state="refused")
    )


def _resync_all(work: UnitOfWork, connection: Connection, user_id: int | None) -> int:
    """Have all customers compared again, a batch at a time, so that nobody who edits one waits for all.

    Those that only an admin who looked at them may send are left out.
    """
    reason, detail = Reason.QUEUED, {"code": "queued"}
    if connection.state != CONNECTED:
        reason, detail = Reason.WAITING_FOR_SAGE, waiting_for_sage(connection)
    count = after = 0
    while True:
        last = work.session.scalar(
            select(Company.id).where(Company.id > after).order_by(Company.id).offset(_BATCH - 1).limit(1)
        )
        where = (Company.id > after) & (Company.type == CUSTOMER) & Company.sync_reason.not_in(_ONE_BY_ONE)
        if last is not None:
            where &= Company.id <= last
        count += move_all(
            work,
            Company,
            where,
            reason,
            detail,
            cause="resync",
            user_id=user_id,
            connection=connection,
            limit=_BATCH,
        )
        work.commit()
        if last is None:
            return count
        after = last


_BATCH = 2_000
_ONE_BY_ONE = (Reason.UNLINKED, Reason.POSSIBLE_DUPLICATE, Reason.OUTCOME_UNKNOWN)


def restore(work: UnitOfWork, company: Company, connection: Connection | None, user_id: int) -> None:
    """Make a company that was deleted in Sage there anew. Does nothing where it was not deleted there."""
    if company.sync_reason != Reason.DELETED_IN_SAGE:
        return
    _unlink(company)
    have_sent(work, company, connection, cause="restore", user_id=user_id)


def unlink(work: UnitOfWork, company: Company, user_id: int) -> None:
    """Take a company that was deleted in Sage out of synchronisation. Does nothing where it was not deleted there."""
    if company.sync_reason != Reason.DELETED_IN_SAGE:
        return
    _unlink(company)
    move(work, company, Reason.UNLINKED, {"code": "unlinked"}, cause="unlink", user_id=user_id)


def _unlink(company: Company) -> None:
    company.sage_id = None
    company.sage_number = None
    company.sage_updated_at = None
    company.agreed = None
