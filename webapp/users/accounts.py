"""What can be done with the people who use the app. Pages and commands both use it.

Each function is part of the caller's unit of work and writes its row of the audit. `by` is the id of the person who did
it, None for the command line. Where sessions end, the person's open sockets are closed after the commit.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from webapp.connection.models import Connection
from webapp.db import UnitOfWork
from webapp.users.models import ADMIN, AuditEvent, EndedSession, User
from webapp.users.passwords import hash_password, is_outdated, is_password
from webapp.users.queries import find_by_email


class EmailTaken(Exception):
    """Another person has this e-mail address."""


class LastAdmin(Exception):
    """Without this admin nobody could manage users any more."""


def create_user(work: UnitOfWork, email: str, name: str, role: str, password: str, *, by: int | None = None) -> User:
    """Add a person who can sign in at once. The password is taken as it is: webapp.users.forms says which ones will do.

    Raises EmailTaken, and then the unit of work can still be used.
    """
    user = User(email=email.strip().lower(), name=name.strip(), role=role, password_hash=hash_password(password))
    try:
        with work.session.begin_nested():
            work.session.add(user)
    except IntegrityError as error:
        raise EmailTaken(email) from error
    audit(work, "user_created", user, by, {"role": role})
    return user


def sign_in(work: UnitOfWork, email: str, password: str) -> User | None:
    """The person with this e-mail address and password, None where there is no such person or where they are disabled.

    Takes as long for an address that nobody has as for a wrong password.
    """
    user = find_by_email(work.session, email)
    known = is_password(user.password_hash if user else None, password)
    if user is None:
        return None
    if not known or not user.active:
        audit(work, "sign_in_refused", user, None)
        return None
    if is_outdated(user.password_hash):
        # In place of the one that was checked, and of none that somebody sets at this moment.
        checked = (User.id == user.id) & (User.password_hash == user.password_hash)
        work.session.execute(update(User).where(checked).values(password_hash=hash_password(password)))
    user.last_login_at = datetime.now(UTC)
    audit(work, "signed_in", user, user.id)
    return user


def end_session(work: UnitOfWork, user: User, session_id: str, ends_at: datetime) -> None:
    """End one session of a person, before the time at which it would end by its age."""
    work.session.execute(delete(EndedSession).where(EndedSession.ends_at < datetime.now(UTC)))
    work.session.merge(EndedSession(id=session_id, ends_at=ends_at))
    work.signed_out.add(user.id)
    audit(work, "signed_out", user, user.id)


def rename_user(work: UnitOfWork, user: User, name: str, *, by: int | None = None) -> None:
    """Give a person another name."""
    user.name = name
    audit(work, "user_renamed", user, by)


def choose_language(user: User, language: str) -> None:
    """Give a person the language of their screens: a code of webapp.languages, empty for what the browser says."""
    user.language = language


def change_role(work: UnitOfWork, user: User, role: str, *, by: int | None = None) -> None:
    """Give a person another role; their sessions end, so that no open page keeps the old rights.

    Raises LastAdmin.
    """
    if role == user.role:
        return
    if user.is_admin:
        _keep_one_admin(work, user)
    user.role = role
    _end_sessions(work, user)
    audit(work, "role_changed", user, by, {"role": role})


def disable_user(work: UnitOfWork, user: User, *, by: int | None = None) -> None:
    """Keep a person out; their sessions end.

    Raises LastAdmin.
    """
    if not user.active:
        return
    if user.is_admin:
        _keep_one_admin(work, user)
    user.active = False
    _end_sessions(work, user)
    audit(work, "user_disabled", user, by)


def enable_user(work: UnitOfWork, user: User, *, by: int | None = None) -> None:
    """Let a disabled person sign in again, with the password that they had."""
    if user.active:
        return
    user.active = True
    audit(work, "user_enabled", user, by)


def set_password(work: UnitOfWork, user: User, password: str, *, by: int | None = None) -> None:
    """Give a person another password; their sessions end, also the one that asked unless it is given the new epoch."""
    user.password_hash = hash_password(password)
    _end_sessions(work, user)
    audit(work, "password_set", user, by)


def audit(
    work: UnitOfWork, action: str, of: User | Connection, by: int | None, data: dict[str, Any] | None = None
) -> None:
    """Write down that `by` did `action` to a person or a connection. `data` must hold no secret."""
    subject = f"user:{of.id}" if isinstance(of, User) else of.key
    work.session.add(AuditEvent(user_id=by, action=action, subject=subject, data=data or {}))


def _end_sessions(work: UnitOfWork, user: User) -> None:
    # Locked, and as it is now: of two changes at once the second ends what began after the first.
    work.session.flush()
    work.session.refresh(user, with_for_update=True)
    user.session_epoch += 1
    work.signed_out.add(user.id)


def _keep_one_admin(work: UnitOfWork, user: User) -> None:
    # The lock makes a second change of an admin wait for the first one and count anew, so that two admins who demote
    # each other at the same moment do not both succeed.
    admins = work.session.scalars(
        select(User.id).where(User.role == ADMIN, User.active).order_by(User.id).with_for_update()
    ).all()
    if set(admins) <= {user.id}:
        raise LastAdmin(user.email)
