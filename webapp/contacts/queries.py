"""What is read about contacts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table
from sqlalchemy.orm import Session, joinedload

from webapp.contacts.forms import ContactQuery
from webapp.contacts.models import Contact
from webapp.listing.pages import Conditions, Listing, Page, last_synchronised_key, read_page

_CONTACT: Table = Contact.__table__  # type: ignore[assignment]


@dataclass(frozen=True)
class ListRow:
    """A contact as a row of the list."""

    id: int
    sync_version: int
    sync_reason: str
    sync_detail: dict[str, Any]
    name: str
    role: str
    company_id: int
    email: str
    phone: str
    last_synchronised_at: datetime | None


def _filters(query: ContactQuery, of: FromClause) -> list[ColumnElement[bool]]:
    return [of.c.company_id.in_([int(one) for one in query.company])] if query.company else []


def _beginnings(query: ContactQuery) -> list[Conditions]:
    return [[_CONTACT.c.company_id == int(one)] for one in query.company] if query.sort == "name" else []


LISTING = Listing(
    table=_CONTACT,
    row=ListRow,
    # As the indexes of migrations 0004 and 0033 have them.
    keys={
        "name": _CONTACT.c.name_key,
        "company": _CONTACT.c.company_key,
        "last_synchronised_at": last_synchronised_key(_CONTACT),
    },
    by_status=frozenset({"name", "company", "last_synchronised_at"}),
    filters=_filters,
    beginnings=_beginnings,
)


def list_contacts(session: Session, query: ContactQuery) -> Page[ListRow]:
    """One page of the contacts that `query` asks for; see webapp.listing.pages.read_page."""
    return read_page(session, LISTING, query)


def find_contact(session: Session, contact_id: int, *, lock: bool = False) -> Contact | None:
    """A contact with its company, by its id; with `lock`, nobody else changes it until this transaction ends."""
    # The company is only shown, and a lock on it would hold up all others that belong to it.
    locked = {"of": Contact} if lock else None
    return session.get(Contact, contact_id, options=[joinedload(Contact.company)], with_for_update=locked)
