"""People who use the app, and the record of what they did that matters for security."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from webapp.db import Base

SALES = "sales"
ADMIN = "admin"


class User(Base):
    """A person. `session_epoch` is written into each session when it begins; raising it ends all of that person's.

    `saved_filters` are what webapp.filters.saved makes: {module: {name: query}}.
    """

    __tablename__ = "app_user"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    active: Mapped[bool] = mapped_column(default=True)
    # A code of webapp.languages; empty for what the browser says.
    language: Mapped[str] = mapped_column(Text, default="", server_default="")
    session_epoch: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    last_login_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    saved_filters: Mapped[dict[str, dict[str, str]]] = mapped_column(
        JSONB, default=dict, server_default=text("'{}'::jsonb")
    )

    __table_args__ = (
        CheckConstraint("role IN ('sales', 'admin')", name="role"),
        # People write their address in any case; it names one person.
        Index("uq_app_user_email", text("lower(email)"), unique=True),
    )

    @property
    def is_admin(self) -> bool:
        """Whether this person may resync, connect Sage and manage users."""
        return self.role == ADMIN

    # What flask-login asks of a user. Its mixin would bring Flask into every worker process.
    is_authenticated = True
    is_anonymous = False

    @property
    def is_active(self) -> bool:
        """Whether this person may sign in."""
        return self.active

    def get_id(self) -> str:
        """The text that stands for this person in a session."""
        return str(self.id)


class EndedSession(Base):
    """A session that its owner ended by signing out, kept until it would have ended by its age.

    A session lives in a signed cookie, and a copy of that cookie would work on: this row is what refuses the copy.
    """

    __tablename__ = "ended_session"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    ends_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditEvent(Base):
    """Something that a person did, or tried, that an auditor would ask about. Append-only; holds no secret."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=text("clock_timestamp()"))
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("app_user.id"))
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text, default="")
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)

    __table_args__ = (Index("ix_audit_event_subject", "subject", "id"),)
