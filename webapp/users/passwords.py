"""Passwords: Argon2id hashes, made anew at the next sign-in after the parameters below were changed."""

from __future__ import annotations

import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# The least that OWASP's Password Storage Cheat Sheet recommends: 19 MiB, two passes, one lane. It takes some 20 ms, in
# which no other request of the process moves; more would be felt by everybody who watches while somebody signs in.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

# What the password of somebody who does not exist is compared with, so that the answer takes as long as for others.
_NOBODY = _HASHER.hash(secrets.token_urlsafe())


def hash_password(password: str) -> str:
    """The hash to keep of a password; it holds its own salt and parameters."""
    return _HASHER.hash(_normal(password))


def is_password(password_hash: str | None, password: str) -> bool:
    """Whether `password` is the one of this hash. No hash, for a name that nobody has, is a no that takes as long."""
    try:
        _HASHER.verify(password_hash or _NOBODY, _normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than those of today."""
    return _HASHER.check_needs_rehash(password_hash)


def _normal(password: str) -> str:
    """One form for the several ways in which keyboards write the same letters (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
