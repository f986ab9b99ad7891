"""What is read about people."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import Session

from webapp.db import Database, Prepared
from webapp.users.models import EndedSession, User

# Prepared, because every request and every message of a socket asks it.
_SIGNED_IN = Prepared(
    select(User.__table__).where(
        User.id == bindparam("user_id"),
        User.active,
        User.session_epoch == bindparam("epoch"),
        ~exists().where(EndedSession.id == bindparam("session_id")),
    )
)


def find_by_email(session: Session, email: str) -> User | None:
    """The person with this e-mail address, in whatever case it is written."""
    return session.scalar(select(User).where(func.lower(User.email) == email.strip().lower()))


def find_signed_in(database: Database, user_id: int, epoch: int, session_id: str) -> User | None:
    """The person of a session, None where it has ended or the person is disabled. One query by primary keys.

    It is a copy to be read: what changes a person reads them in its own transaction.
    """
    row = database.read_one(_SIGNED_IN, {"user_id": user_id, "epoch": epoch, "session_id": session_id})
    return None if row is None else User(**row._asdict())


def list_people(session: Session) -> Sequence[User]:
    """Everybody, those who can sign in first, by name."""
    return session.scalars(select(User).order_by(User.active.desc(), func.lower(User.name), User.id)).all()
