"""How a company comes to be and is edited: the fields, the rules of the business, and the status that follows."""

from __future__ import annotations

from collections.abc import Mapping

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.sync.saving import STAYS, put_values, send_saved
from webapp.sync.sending import connection_changed, have_sent, type_changed

# Of these columns a company consists, as far as people can edit it.
EDITABLE = (
    "name",
    "code",
    "type",
    "email",
    "phone",
    "tax_number",
    "address_line_1",
    "address_line_2",
    "city",
    "region",
    "postal_code",
    "country",
    "notes",
    "owner_id",
    "connection_id",
)


def create_company(
    work: UnitOfWork, values: Mapping[str, object], connection: Connection | None, *, user_id: int | None, cause: str
) -> Company:
    """Add a company with these cleaned values, and have it sent to Sage if it is a customer.

    `connection` is the one that it belongs to where the values name none. Raises IntegrityError on flush where another
    company of that connection has the same code.
    """
    company = Company(**{name: value for name, value in values.items() if name in EDITABLE})
    if company.connection_id is None and connection is not None:
        company.connection_id = connection.id
    work.session.add(company)
    work.session.flush()
    have_sent(work, company, connection, cause=cause, user_id=user_id)
    return company


def edit_company(
    work: UnitOfWork,
    company: Company,
    values: Mapping[str, object],
    connection: Connection | None,
    *,
    user_id: int | None,
    cause: str = "edit",
) -> list[str]:
    """Give a company these cleaned values; have it sent to Sage if that changed anything. Returns the changed fields.

    A company that a person must review is sent again even where nothing changed: saving is the remedy that the
    sentences name. What was unlinked, or may be a duplicate, is sent when an admin resyncs it, and not by saving.

    The connection of a company that Sage has, or may have, must not change: the caller sees to that
    (webapp.sync.sending.may_be_in_sage).
    """
    changed = put_values(work, company, values, EDITABLE, user_id=user_id)
    if "connection_id" in changed:
        connection_changed(work, company, user_id=user_id)
    if "type" in changed:
        type_changed(work, company, user_id=user_id)
    stays = company.sync_reason in STAYS and company.type != PROSPECT
    send_saved(work, company, changed, connection, user_id=user_id, cause=cause, stays=stays)
    return changed
