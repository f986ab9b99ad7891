"""How a company comes to be and is edited: the fields, the rules of the business, and the status that follows."""

from __future__ import annotations

from collections.abc import Mapping

from webapp.companies.models import PROSPECT, Company
from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.status import Reason
from webapp.sync.conflicts import choose
from webapp.sync.sending import have_sent, type_changed

# What a person decides by a word of its own, and not by saving.
STAYS = (Reason.UNLINKED, Reason.POSSIBLE_DUPLICATE)

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
)


def create_company(
    work: UnitOfWork, values: Mapping[str, object], connection: Connection | None, *, user_id: int | None, cause: str
) -> Company:
    """Add a company with these cleaned values, and have it sent to Sage if it is a customer.

    Raises IntegrityError on flush where another company has the same code.
    """
    company = Company(**{name: value for name, value in values.items() if name in EDITABLE})
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
    """
    changed = [name for name in EDITABLE if name in values and getattr(company, name) != values[name]]
    if company.sync_reason == Reason.CONFLICT:
        # Whoever saves keeps what is here: the page says so.
        fields = company.sync_detail.get("fields", [])
        choose(work, company, dict.fromkeys(fields, "ours"), user_id)
    for name in changed:
        setattr(company, name, values[name])
    if "type" in changed:
        type_changed(work, company, user_id=user_id)
    stays = company.sync_reason in STAYS and company.type != PROSPECT
    if (changed or company.sync_status == "review") and not stays:
        have_sent(work, company, connection, cause=cause, user_id=user_id)
    elif changed:
        work.touch(company)
    return changed
