"""What is read about people."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from webapp.users.models import EndedSession, User


def find_by_email(session: Session, email: str) -> User | None:
    """The person with this e-mail address, in whatever case it is written."""
    return session.scalar(select(User).where(func.lower(User.email) == email.strip().lower()))


def find_signed_in(session: Session, user_id: int, epoch: int, session_id: str) -> User | None:
    """The person of a session, None where it has ended or the person is disabled. One query by primary keys."""
    return session.scalar(
        select(User).where(
            User.id == user_id,
            User.active,
            User.session_epoch == epoch,
            ~exists().where(EndedSession.id == session_id),
        )
    )


def list_people(session: Session) -> Sequence[User]:
    """Everybody, those who can sign in first, by name."""
    return session.scalars(select(User).order_by(User.active.desc(), func.lower(User.name), User.id)).all()
