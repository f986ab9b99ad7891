"""How a contact comes to be and is edited: the fields, and the status that follows."""

from __future__ import annotations

from collections.abc import Mapping

from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.contacts.models import Contact
from webapp.db import UnitOfWork
from webapp.sync.saving import STAYS, put_values, send_saved
from webapp.sync.sending import have_sent

# What Sage never gets.
HERE_ONLY = ("notes",)

# Of these columns a contact consists, as far as people can edit it.
EDITABLE = ("company_id", "name", "role", "email", "phone", "mobile", *HERE_ONLY)


def create_contact(
    work: UnitOfWork, values: Mapping[str, object], connection: Connection | None, *, user_id: int | None, cause: str
) -> Contact:
    """Add a contact of the company `values["company_id"]` with these cleaned values, and have it sent with its company.

    Raises NoResultFound where there is no such company.
    """
    contact = Contact(**{name: value for name, value in values.items() if name in EDITABLE})
    work.session.add(contact)
    work.session.flush()
    have_sent(work, contact, connection, cause=cause, user_id=user_id)
    return contact


def edit_contact(
    work: UnitOfWork,
    contact: Contact,
    values: Mapping[str, object],
    connection: Connection | None,
    *,
    user_id: int | None,
    cause: str = "edit",
) -> list[str]:
    """Give a contact these cleaned values; have it sent where Sage should know. Returns the changed fields.

    The company of a contact that Sage may have must not change, because a person there cannot move: the caller sees to
    that (webapp.sync.sending.may_be_in_sage).
    """
    changed = put_values(work, contact, values, EDITABLE, user_id=user_id)
    if "company_id" in changed:
        contact.connection_id = work.session.get_one(Company, contact.company_id).connection_id
    send_saved(
        work,
        contact,
        changed,
        connection,
        user_id=user_id,
        cause=cause,
        here_only=HERE_ONLY,
        stays=contact.sync_reason in STAYS,
    )
    return changed
