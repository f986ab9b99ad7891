"""What people type about people: which values will do, and the sentence for each one that will not. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from webapp.languages import LANGUAGES, N_
from webapp.languages import gettext as _
from webapp.text import clean_line
from webapp.users.models import ADMIN, SALES

ROLES = {SALES: N_("Sales"), ADMIN: N_("Admin")}

# A person alone chooses it and nothing else protects the sign-in; the upper end keeps hashing cheap.
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 256

_LONGEST_NAME = 100
_LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3: a path of 256 with its angle brackets.
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)*")

# Browsers take a backslash for a slash and drop tabs and line ends, so that these could hide another host.
_OWN_PATH = re.compile(r"/(?!/)[^\\\x00-\x20\x7f]*")


@dataclass
class Checked:
    """What a form held, trimmed but for the password, and one sentence for each field that is wrong."""

    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def check_person(raw: Mapping[str, str]) -> Checked:
    """A new person: name, email, role, password."""
    checked = Checked()
    _check_name(checked, raw)
    email = checked.values["email"] = raw.get("email", "").strip()
    if not email:
        checked.errors["email"] = _("Enter an e-mail address.")
    elif len(email) > _LONGEST_EMAIL or not _EMAIL.fullmatch(email):
        checked.errors["email"] = _("Enter an e-mail address such as name@example.com.")
    _check_role(checked, raw)
    _check_password(checked, raw, email)
    return checked


def check_name(raw: Mapping[str, str]) -> Checked:
    """Another name: name."""
    checked = Checked()
    _check_name(checked, raw)
    return checked


def check_language(raw: Mapping[str, str]) -> Checked:
    """The language of one's screens: language, empty for what the browser says."""
    checked = Checked()
    chosen = checked.values["language"] = raw.get("language", "")
    if chosen and chosen not in LANGUAGES:
        checked.errors["language"] = _("Choose one of the languages.")
    return checked


def check_role(raw: Mapping[str, str]) -> Checked:
    """Another role: role."""
    checked = Checked()
    _check_role(checked, raw)
    return checked


def check_password(raw: Mapping[str, str], email: str) -> Checked:
    """Another password of the person with this e-mail address: password."""
    checked = Checked()
    _check_password(checked, raw, email)
    return checked


def own_path(raw: str) -> str | None:
    """`raw` if it is the address of a page of ours, such as `/companies?q=a`, else None."""
    return raw if _OWN_PATH.fullmatch(raw) else None


def _check_name(checked: Checked, raw: Mapping[str, str]) -> None:
    name = checked.values["name"] = clean_line(raw.get("name", ""))
    if not name:
        checked.errors["name"] = _("Enter a name.")
    elif len(name) > _LONGEST_NAME:
        checked.errors["name"] = _("Shorten the name to %(limit)s letters.", limit=_LONGEST_NAME)


def _check_role(checked: Checked, raw: Mapping[str, str]) -> None:
    role = checked.values["role"] = raw.get("role", "")
    if role not in ROLES:
        checked.errors["role"] = _("Choose a role.")


def _check_password(checked: Checked, raw: Mapping[str, str], email: str) -> None:
    password = checked.values["password"] = raw.get("password", "")
    fault = _fault_of_password(password, email)
    if fault:
        checked.errors["password"] = fault


def _fault_of_password(password: str, email: str) -> str | None:
    if len(password) < SHORTEST_PASSWORD:
        return _("Use at least %(limit)s characters. A few words in a row are fine.", limit=SHORTEST_PASSWORD)
    if len(password) > LONGEST_PASSWORD:
        return _("Use at most %(limit)s characters.", limit=LONGEST_PASSWORD)
    if password.strip().lower() == email.lower():
        return _("Use something other than the e-mail address.")
    if len(set(password)) < 4:
        return _("Use more than a few different characters.")
    return None
