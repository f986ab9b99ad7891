"""A product: what the lines of orders are about, which Sage knows as a product too."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, Computed, Index, Numeric, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base
from webapp.numbers import plain_price
from webapp.sync.models import Synced

YES, NO = "yes", "no"


class Product(Synced, Base):
    """A product with its price without tax. A discontinued one can no longer be ordered. `unit` stays here.

    Many products have no code; one that has a code is the only one of it in its connection. The keys and `search_text`
    are made by the database: folded to lower case without accents, for the orders of the list and for the search.
    """

    __tablename__ = "product"
    kind: ClassVar[str] = "product"
    module: ClassVar[str] = "products"

    code: Mapped[str] = mapped_column(Text, default="")
    name: Mapped[str] = mapped_column(Text)
    unit: Mapped[str] = mapped_column(Text, default="")
    unit_price: Mapped[Decimal] = mapped_column(Numeric, default=Decimal(0))
    discontinued: Mapped[bool] = mapped_column(default=False)
    # The form that a person made it with, so that a form that is sent twice makes one product.
    made_by_form: Mapped[str | None] = mapped_column(Text)
    name_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(name)", persisted=True))
    code_key: Mapped[str] = mapped_column(Text(collation="C"), Computed("fold(code)", persisted=True))
    search_text: Mapped[str] = mapped_column(Text, Computed("fold(' ' || code || ' ' || name)", persisted=True))

    __table_args__ = (
        *Synced.sync_constraints("product"),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("unit_price >= 0", name="unit_price"),
        Index(
            "uq_product_code",
            "code",
            "connection_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("code <> ''"),
        ),
        Index(
            "uq_product_made_by_form",
            "made_by_form",
            unique=True,
            postgresql_where=text("made_by_form IS NOT NULL"),
        ),
    )

    @classmethod
    def text_of(cls, name: str, value: Any) -> str:
        """See Synced. The price is that of webapp.numbers.plain_price, and whether it is discontinued is YES or NO."""
        match name:
            case "unit_price":
                return plain_price(value)
            case "discontinued":
                return YES if value else NO
            case _:
                return super().text_of(name, value)

    def take(self, name: str, value: str) -> None:
        """See Synced. Raises ValueError or InvalidOperation for a text of no such form."""
        match name:
            case "unit_price":
                self.unit_price = Decimal(value)
            case "discontinued":
                self.discontinued = value == YES
            case _:
                super().take(name, value)
