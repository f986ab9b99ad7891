"""A connection: one company in Sage that this CRM is kept in step with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base

CONNECTED = "connected"
UNREACHABLE = "unreachable"
AUTHORISE_AGAIN = "authorise_again"
PAUSED = "paused"
CONNECTING = "connecting"

# All states, the one that needs people most first.
STATES = (AUTHORISE_AGAIN, UNREACHABLE, PAUSED, CONNECTING, CONNECTED)

# What orders become in Sage.
QUOTES = "quotes"
INVOICES = "invoices"


class Connection(Base):
    """One company in Sage.

    `state` is connecting (not authorised yet, or disconnected), connected, unreachable, authorise_again or paused;
    `state_since` says since when.
    `tokens` are encrypted with a key that only workers hold; the column is loaded only where it is asked for.
    `offered` are the companies in Sage that an admin who has just authorised may choose from, [{"id", "name"}, ...];
    None where nothing is to be chosen. `problem` is a code of webapp.connection.sentences that says why the last
    authorisation was not taken, None where it was.
    `directions` are the fields on which one side has the word: see webapp.connection.directions.
    `orders_as` is what orders are in Sage, quotes or invoices: chosen together with the business, and for as long as that.
    `writer` and `writer_until` are the lease of the one process that may write to this business: whoever holds a number
    that is no longer there writes nothing.
    """

    __tablename__ = "sage_connection"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    product: Mapped[str] = mapped_column(Text, default="accounting")
    api_url: Mapped[str] = mapped_column(Text)
    business_id: Mapped[str | None] = mapped_column(Text)
    business_name: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(Text, default=CONNECTING)
    state_since: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    direction: Mapped[str] = mapped_column(Text, default="two_way")
    cycle_seconds: Mapped[int] = mapped_column(default=60)
    last_run_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_synchronised_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    next_run_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    tokens: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True, deferred_raiseload=True)
    writer: Mapped[int | None] = mapped_column(BigInteger)
    writer_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    offered: Mapped[list[dict[str, str]] | None] = mapped_column(JSONB(none_as_null=True))
    problem: Mapped[str | None] = mapped_column(Text)
    directions: Mapped[dict[str, dict[str, str]]] = mapped_column(
        JSONB, default=dict, server_default=text("'{}'::jsonb")
    )
    orders_as: Mapped[str] = mapped_column(Text, default=QUOTES, server_default=text("'quotes'"))
    own_version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))

    __mapper_args__ = {"version_id_col": own_version}  # noqa: RUF012 - SQLAlchemy declares it so.
    __table_args__ = (
        CheckConstraint(
            "state IN ('connecting', 'connected', 'unreachable', 'authorise_again', 'paused')", name="state"
        ),
        CheckConstraint("direction IN ('two_way')", name="direction"),
        CheckConstraint("orders_as IN ('quotes', 'invoices')", name="orders_as"),
        # Two connections to one business would be two writers, and make each customer twice.
        Index("uq_sage_connection_business_id", "product", "business_id", unique=True),
    )

    @property
    def books_orders(self) -> bool:
        """Whether an order that is sent is booked in Sage, so that somebody must say so of each."""
        return self.orders_as == INVOICES

    @property
    def key(self) -> str:
        """The name of this connection as a live thing, such as `connection:1`."""
        return f"connection:{self.id}"


# The connections that have no access to Sage, nor a consent that waits for an admin to choose a company: what tokens one of
# them still has are to be given back.
ENDED = (Connection.state == CONNECTING) & Connection.offered.is_(None)
