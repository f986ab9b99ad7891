"""What people type or export as a company, made clean: the same rules for the form and for the import.

Pure: asks no database and no network. The owner is not among the fields, because only the database knows the people,
nor is it checked here whether a code is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from webapp.companies.countries import country_code, nearest_country
from webapp.companies.models import CUSTOMER, PROSPECT
from webapp.languages import gettext as _
from webapp.languages import number
from webapp.sync.details import field_name
from webapp.text import clean_line, clean_lines

# The most characters that a field may have. Far above what addresses need, so that nothing true is refused; what Sage
# takes is less for some fields, and its connector says so for each record. 254 is RFC 5321's limit for an address.
LIMITS = {
    "name": 200,
    "code": 50,
    "type": 50,
    "email": 254,
    "phone": 50,
    "tax_number": 50,
    "address_line_1": 200,
    "address_line_2": 200,
    "city": 100,
    "region": 100,
    "postal_code": 30,
    "country": 100,
    "notes": 10_000,
}

_WORDS = {
    CUSTOMER: ("customer", "customers", "client", "clients", "kunde", "kunden", "cliente", "clientes", "klant"),
    PROSPECT: (
        "prospect",
        "prospects",
        "lead",
        "leads",
        "opportunity",
        "potential customer",
        "potential client",
        "interessent",
        "client potentiel",
        "cliente potencial",
        "prospecto",
    ),
}
_TYPES = {word: type_ for type_, words in _WORDS.items() for word in words}

# Addresses of this ordinary shape are well formed by any reading. They spare the full check, which takes longer than
# all the rest of a row; ends of domains under which nobody has mail are left to it.
_ORDINARY_EMAIL = re.compile(
    r"(?P<local>[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+){0,9})@"
    r"(?P<domain>(?:[A-Za-z0-9]{1,40}(?:-[A-Za-z0-9]{1,20})?\.){1,4}"
    r"(?!(?i:arpa|invalid|local|localhost|onion|test)\Z)[A-Za-z]{2,20})"
)
_LONGEST_LOCAL_PART = 64


@dataclass(frozen=True)
class Cleaned:
    """A company as it can be stored, and what is wrong with it.

    `values` has every field of LIMITS, the unknown ones as empty texts; a field with an error keeps what was written.
    `errors` maps a field to a sentence that says what to do; a company with errors must not be stored.
    """

    values: dict[str, str]
    errors: dict[str, str]


def clean_company(raw: Mapping[str, str]) -> Cleaned:
    """Make the fields of a company clean; fields that `raw` does not have are unknown.

    White space is trimmed and collapsed (notes keep their lines), texts are in Unicode's NFC, invisible characters go,
    and NULL, N/A or a dash count as nothing. A line break in the address starts its second line. The type is customer
    unless something else is written; the country becomes an alpha-2 code. Phones, postal codes and tax numbers stay as
    written. Cleaning what came out once more changes nothing.
    """
    values = {field: clean_line(raw.get(field, "")) for field in LIMITS}
    # Some exports put a whole address into one cell.
    first, *rest = [part for part in clean_lines(raw.get("address_line_1", "")) if part] or [""]
    values["address_line_1"] = first
    if rest:
        values["address_line_2"] = ", ".join([*rest, *filter(None, [values["address_line_2"]])])
    values["notes"] = "\n".join(clean_lines(raw.get("notes", "")))
    errors = too_long(values, LIMITS)
    if not values["name"]:
        errors["name"] = _("Every company needs a name: give it one.")
    for field, check in (("type", _type), ("email", clean_email), ("country", _country)):
        if field not in errors:
            values[field], error = check(values[field])
            if error:
                errors[field] = error
    return Cleaned(values, errors)


def _type(text: str) -> tuple[str, str]:
    if not text:
        return CUSTOMER, ""
    # Some exports divide customers further: "Customer - Direct".
    known = _TYPES.get(text.casefold()) or _TYPES.get(text.partition(" - ")[0].casefold())
    if known is None:
        return text, _("The type “%(text)s” is not known: write customer or prospect.", text=text)
    return known, ""


def too_long(values: Mapping[str, str], limits: Mapping[str, int]) -> dict[str, str]:
    """A sentence for each field that has more characters than it may have."""
    return {
        field: _(
            "The %(field)s has %(length)s characters: shorten it to %(limit)s.",
            field=field_name(field),
            length=number(len(value)),
            limit=number(limits[field]),
        )
        for field, value in values.items()
        if len(value) > limits[field]
    }


def clean_email(text: str) -> tuple[str, str]:
    """An e-mail address as it is stored, and a sentence on what is wrong with it; both may be empty."""
    if not text:
        return "", ""
    ordinary = _ORDINARY_EMAIL.fullmatch(text)
    if ordinary and len(ordinary["local"]) <= _LONGEST_LOCAL_PART:
        return f"{ordinary['local']}@{ordinary['domain'].lower()}", ""
    if text.count("@") > 1:
        return text, _("Only one e-mail address fits here: keep one.")
    try:
        return validate_email(text, check_deliverability=False, strict=True).normalized, ""
    except EmailNotValidError:
        return text, _("“%(text)s” is not a whole e-mail address: write it like name@example.com.", text=text)


def _country(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    code = country_code(text)
    if code:
        return code, ""
    nearest = nearest_country(text)
    if nearest:
        return text, _(
            "The country “%(text)s” is not known. Do you mean %(nearest)s? Write its name or its two-letter code.",
            text=text,
            nearest=nearest,
        )
    return text, _("The country “%(text)s” is not known. Write its name or its two-letter code.", text=text)
