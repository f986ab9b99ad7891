"""A contact: a person at a company, whom Sage knows as a contact person of the customer."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Computed, FetchedValue, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.companies.models import Company
from webapp.db import Base
from webapp.sync.models import Synced


class Contact(Synced, Base):
    """A person at a company. Texts are never NULL: an unknown value is the empty text.

    `role` is what the person does there (Sage: job title). `notes` stay here. `company_name` is the company's present
    name, kept by triggers of the database so that the list of contacts needs no second table for its order and its
    search; nobody else writes it. `name_key`, `company_key` and `search_text` are made by the database as well.
    """

    __tablename__ = "contact"
    kind: ClassVar[str] = "contact"
    module: ClassVar[str] = "contacts"

    company_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("company.id"))
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text, default="")
    email: Mapped[str] = mapped_column(Text, default="")
    phone: Mapped[str] = mapped_column(Text, default="")
    mobile: Mapped[str] = mapped_column(Text, default="")
    notes: Mapped[str] = mapped_column(Text, default="")
    # The form that a person made it with, so that a form that is sent twice makes one contact.
    made_by_form: Mapped[str | None] = mapped_column(Text)
    company_name: Mapped[str] = mapped_column(Text, server_default=FetchedValue(), server_onupdate=FetchedValue())
    name_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(name)", persisted=True))
    company_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(company_name)", persisted=True))
    search_text: Mapped[str] = mapped_column(
        Text,
        Computed(
            "fold(' ' || name || ' ' || role || ' ' || email || ' ' || phone || ' ' || company_name)", persisted=True
        ),
    )

    company: Mapped[Company] = relationship(lazy="raise")

    __table_args__ = (
        *Synced.sync_constraints("contact"),
        CheckConstraint("name <> ''", name="name"),
        Index("ix_contact_company_id", "company_id", "name_key", "id"),
        Index(
            "uq_contact_made_by_form",
            "made_by_form",
            unique=True,
            postgresql_where=text("made_by_form IS NOT NULL"),
        ),
    )
