"""A company: a customer of ours, or a prospect that Sage does not know."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Computed, FetchedValue, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.db import Base
from webapp.sync.models import Synced
from webapp.users.models import User

CUSTOMER = "customer"
PROSPECT = "prospect"


class Company(Synced, Base):
    """A company. Texts are never NULL: an unknown value is the empty text, so that comparing and sorting need no special case.

    `country` is an ISO 3166 alpha-2 code in capitals. `name_key` and `search_text` are made by the database from the
    other columns: folded to lower case without accents, for sorting and for search.
    """

    __tablename__ = "company"
    kind: ClassVar[str] = "company"
    module: ClassVar[str] = "companies"

    name: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(Text, default="")
    type: Mapped[str] = mapped_column(Text, default=CUSTOMER)
    email: Mapped[str] = mapped_column(Text, default="")
    phone: Mapped[str] = mapped_column(Text, default="")
    tax_number: Mapped[str] = mapped_column(Text, default="")
    address_line_1: Mapped[str] = mapped_column(Text, default="")
    address_line_2: Mapped[str] = mapped_column(Text, default="")
    city: Mapped[str] = mapped_column(Text, default="")
    region: Mapped[str] = mapped_column(Text, default="")
    postal_code: Mapped[str] = mapped_column(Text, default="")
    country: Mapped[str] = mapped_column(Text, default="")
    notes: Mapped[str] = mapped_column(Text, default="")
    # The form that a person made it with, so that a form that is sent twice makes one company.
    made_by_form: Mapped[str | None] = mapped_column(Text)
    owner_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("app_user.id"))
    name_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(name)", persisted=True))
    search_text: Mapped[str] = mapped_column(
        Text,
        Computed(
            "fold(' ' || name || ' ' || code || ' ' || city || ' ' || email || ' ' || tax_number)", persisted=True
        ),
    )
    # For the orders of the list, where a company without city or country comes last. How they are made stands in
    # migrations 0002 and 0028 alone, because the ranks of all countries do.
    city_key: Mapped[str] = mapped_column(
        Text(collation="C"), server_default=FetchedValue(), server_onupdate=FetchedValue()
    )
    country_rank: Mapped[int] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())

    owner: Mapped[User | None] = relationship(lazy="raise")

    __table_args__ = (
        *Synced.sync_constraints("company"),
        CheckConstraint("type IN ('customer', 'prospect')", name="type"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("country ~ '^([A-Z]{2})?$'", name="country"),
        # A code names one company of a connection, as in Sage; many companies have none.
        Index(
            "uq_company_code",
            "code",
            "connection_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("code <> ''"),
        ),
        Index(
            "uq_company_made_by_form",
            "made_by_form",
            unique=True,
            postgresql_where=text("made_by_form IS NOT NULL"),
        ),
    )
