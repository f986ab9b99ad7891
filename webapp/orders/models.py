"""An order of a company with its lines, each of which may be about a product.

Sage has no sales order: an order goes there as a sales quote or, where an admin chose that, as a sales invoice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Date,
    FetchedValue,
    ForeignKey,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.db import Base
from webapp.orders.amounts import LineValues, lines_text, read_lines, totals
from webapp.products.models import Product
from webapp.sync.models import Synced
from webapp.users.models import User

# How far the people's part of an order has come; the rest of its way is its synchronisation status.
VALIDATING = "validating"
VALIDATED = "validated"
CONFIRMED = "confirmed"

Amount = Numeric(14, 2)


class Order(Synced, Base):
    """An order. `number` names it for people and is unique in its connection; the database gives one where none is given.

    `phase` is validating (its prices are checked next, or must be mended), validated (somebody may have it sent) or
    confirmed (somebody did). `shipping` and the totals are amounts without and with tax in the currency of the business:
    net_total = sum of the lines' net amounts + shipping, total = net_total + tax_total; webapp.orders.amounts makes
    them. `notes` go to Sage, `internal_notes` stay here. `company_name` and the keys are as in Contact.
    """

    __tablename__ = "sales_order"
    kind: ClassVar[str] = "order"
    module: ClassVar[str] = "orders"

    number: Mapped[str] = mapped_column(Text, server_default=FetchedValue())
    company_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("company.id"))
    contact_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contact.id"))
    owner_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("app_user.id"))
    ordered_on: Mapped[date] = mapped_column(Date)
    valid_until: Mapped[date] = mapped_column(Date)
    phase: Mapped[str] = mapped_column(Text, default=VALIDATING)
    shipping: Mapped[Decimal] = mapped_column(Amount, default=Decimal(0))
    net_total: Mapped[Decimal] = mapped_column(Amount, default=Decimal(0))
    tax_total: Mapped[Decimal] = mapped_column(Amount, default=Decimal(0))
    total: Mapped[Decimal] = mapped_column(Amount, default=Decimal(0))
    notes: Mapped[str] = mapped_column(Text, default="")
    internal_notes: Mapped[str] = mapped_column(Text, default="")
    made_by_form: Mapped[str | None] = mapped_column(Text)
    company_name: Mapped[str] = mapped_column(Text, server_default=FetchedValue(), server_onupdate=FetchedValue())
    number_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(number)", persisted=True))
    company_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(company_name)", persisted=True))
    search_text: Mapped[str] = mapped_column(
        Text, Computed("fold(' ' || number || ' ' || company_name || ' ' || notes)", persisted=True)
    )

    company: Mapped[Company] = relationship(lazy="raise")
    contact: Mapped[Contact | None] = relationship(lazy="raise")
    owner: Mapped[User | None] = relationship(lazy="raise")
    lines: Mapped[list[OrderLine]] = relationship(
        lazy="raise", order_by="OrderLine.position", cascade="all, delete-orphan"
    )

    __table_args__ = (
        *Synced.sync_constraints("sales_order"),
        # Two companies in Sage number their documents alike.
        UniqueConstraint("number", "connection_id", name="uq_sales_order_number", postgresql_nulls_not_distinct=True),
        CheckConstraint("number <> ''", name="number"),
        CheckConstraint("phase IN ('validating', 'validated', 'confirmed')", name="phase"),
        CheckConstraint("valid_until >= ordered_on", name="valid_until"),
        CheckConstraint("shipping >= 0", name="shipping"),
        Index("ix_sales_order_company_id", "company_id", "ordered_on", "id"),
        # Few orders are in their first two phases, among many that were sent.
        Index(
            "ix_sales_order_unsent",
            "phase",
            "ordered_on",
            "id",
            "owner_id",
            postgresql_where=text("sync_status = 'not_synchronised'"),
        ),
        Index(
            "uq_sales_order_made_by_form",
            "made_by_form",
            unique=True,
            postgresql_where=text("made_by_form IS NOT NULL"),
        ),
    )

    @classmethod
    def text_of(cls, name: str, value: Any) -> str:
        """See Synced. Dates are ISO 8601, amounts have two places, `lines` is the text of webapp.orders.amounts."""
        match name:
            case "lines":
                return lines_text(value)
            case "ordered_on" | "valid_until":
                return str(value.isoformat())
            case "shipping":
                return f"{value:.2f}"
            case _:
                return super().text_of(name, value)

    def take(self, name: str, value: str) -> None:
        """See Synced. A line that keeps its description keeps its product. Raises ValueError for a text of no such form."""
        match name:
            case "lines":
                products = {line.description: line.product_id for line in self.lines}
                self.put_lines([replace(line, product_id=products.get(line.description)) for line in read_lines(value)])
            case "ordered_on" | "valid_until":
                setattr(self, name, date.fromisoformat(value))
            case "shipping":
                self.shipping = Decimal(value)
                self.add_up()
            case _:
                super().take(name, value)

    def put_lines(self, lines: Sequence[LineValues]) -> None:
        """Give it these lines in place of its own, and make the totals anew.

        The rows that are there are used again: new ones would be inserted before the old ones go, and no two lines of
        an order may have the same position.
        """
        del self.lines[len(lines) :]
        for row, line in zip(self.lines, lines, strict=False):
            for name, value in vars(line).items():
                setattr(row, name, value)
        for position, line in enumerate(lines[len(self.lines) :], start=len(self.lines) + 1):
            self.lines.append(OrderLine(position=position, **vars(line)))
        self.add_up()

    def add_up(self) -> None:
        """Make the totals anew, after a change of the lines or of the shipping."""
        made = totals(self.lines, self.shipping)
        self.net_total, self.tax_total, self.total = made.net, made.tax, made.total


class OrderLine(Base):
    """One line of an order. `discount` is an amount off all of it, `tax_rate` a percentage such as 20."""

    __tablename__ = "sales_order_line"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    order_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sales_order.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column()
    product_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("product.id"))
    description: Mapped[str] = mapped_column(Text)
    quantity: Mapped[Decimal] = mapped_column(Numeric)
    unit_price: Mapped[Decimal] = mapped_column(Numeric)
    discount: Mapped[Decimal] = mapped_column(Amount, default=Decimal(0))
    tax_rate: Mapped[Decimal] = mapped_column(Numeric(6, 3), default=Decimal(0))

    product: Mapped[Product | None] = relationship(lazy="raise")

    __table_args__ = (
        UniqueConstraint("order_id", "position"),
        Index(
            "ix_sales_order_line_product_id",
            "product_id",
            "order_id",
            postgresql_where=text("product_id IS NOT NULL"),
        ),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("unit_price >= 0", name="unit_price"),
        CheckConstraint("discount >= 0", name="discount"),
        CheckConstraint("tax_rate >= 0", name="tax_rate"),
    )
