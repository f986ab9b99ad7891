"""A customer as a contact of Sage Accounting v3.1, and back. Pure.

The address is the contact's main address; phone and e-mail are those of its main contact person, because the contact's
own e-mail is read-only in Sage. Names, lengths and required fields are those of Sage's Swagger file; that a customer
needs a country is ours and stricter. Bank details and tax treatment are neither read nor sent: the ones are none of our
business, the other follows from the country in Sage itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pycountry

from workers.sage.connector import Fields, Rejected, RemoteCustomer, Tombstone, tidied, tidy
from workers.sage.http import Complaint

CUSTOMER_TYPE = "CUSTOMER"
# What Sage calls the person of a contact that was made without one.
PERSON_NAME = "Main contact"

# What a list or a single read must ask for. Without nested_attributes=all, address and person come as mere names.
ASKED = {
    "attributes": "name,reference,tax_number,notes,source_guid,contact_types,created_at,updated_at,"
    "main_address,delivery_address,main_contact_person",
    "nested_attributes": "all",
}

# Our field -> Sage's, and how many characters it may have.
_ON_CONTACT = {
    "name": ("name", 100),
    "code": ("reference", 10),
    "tax_number": ("tax_number", 255),
    "notes": ("notes", 4000),
}
_ON_ADDRESS = {
    "address_line_1": ("address_line_1", 50),
    "address_line_2": ("address_line_2", 50),
    "city": ("city", 50),
    "region": ("region", 50),
    "postal_code": ("postal_code", 10),
}
_ON_PERSON = {"phone": ("telephone", 50), "email": ("email", 100)}
LIMITS = {name: limit for part in (_ON_CONTACT, _ON_ADDRESS, _ON_PERSON) for name, (_, limit) in part.items()}
REQUIRED = ("name", "country")

# What else of a part an update sends back, so that Sage keeps it: key in the answer -> key in the body.
_KEPT_OF_ADDRESS = {"name": "name", "address_type": "address_type_id"}
_KEPT_OF_PERSON = {
    "name": "name",
    "job_title": "job_title",
    "mobile": "mobile",
    "fax": "fax",
    "contact_person_types": "contact_person_type_ids",
    "is_preferred_contact": "is_preferred_contact",
    "address": "address_id",
}

# Where Sage complains -> our field. The last part alone serves too, but for `name`, which persons and addresses have.
_FIELD_OF = {
    **{sage: ours for ours, (sage, _) in _ON_CONTACT.items()},
    **{f"main_address.{sage}": ours for ours, (sage, _) in _ON_ADDRESS.items()},
    **{f"main_contact_person.{sage}": ours for ours, (sage, _) in _ON_PERSON.items()},
    "main_address.country_id": "country",
    "main_address.country": "country",
}
_FIELD_OF_LAST = {path.rpartition(".")[2]: ours for path, ours in _FIELD_OF.items() if path != "name"}

_SAYS_MISSING = re.compile(r"\b(required|blank|missing|empty)\b", re.IGNORECASE)
_SAYS_TAKEN = re.compile(r"\b(taken|already|unique|duplicate|in use|exists)\b", re.IGNORECASE)
_SAYS_LONG = re.compile(r"\b(too long|maximum|at most)\b", re.IGNORECASE)
# One address, as people write it: RFC 5322 allows far more, and Sage's own check is not documented.
_EMAIL = re.compile(r"[^\s@,;:<>()\[\]\\\"]+@[^\s@,;:<>()\[\]\\\".]+(\.[^\s@,;:<>()\[\]\\\".]+)+")
_ID = re.compile(r"[\x21-\x7e]{1,100}")
_KEY = re.compile(r"[0-9a-f]{32}")
_ALPHA_2 = re.compile(r"[A-Z]{2}")


class NotUnderstood(Exception):
    """A contact that cannot be put into our words. `id` is Sage's, empty where even that is missing."""

    def __init__(self, sage_id: str, text: str) -> None:
        super().__init__(text)
        self.id = sage_id


# --- from Sage --------------------------------------------------------------------------------------------------------


def remote_customer(contact: Mapping[str, Any]) -> RemoteCustomer:
    """A contact, read with ASKED, in our words. Unknown keys and unknown words do not matter, null is the empty text.

    Raises NotUnderstood where it has no id, name or time, a text is none, or its country is none that is known.
    """
    sage_id = _id(contact)
    address, person = part_of(contact, "main_address"), part_of(contact, "main_contact_person")
    fields = tidied(
        {
            **{ours: _text(sage_id, contact, sage) for ours, (sage, _) in _ON_CONTACT.items()},
            **{ours: _text(sage_id, address, sage) for ours, (sage, _) in _ON_ADDRESS.items()},
            **{ours: _text(sage_id, person, sage) for ours, (sage, _) in _ON_PERSON.items()},
            "country": _country(sage_id, address.get("country")),
        }
    )
    if not fields["name"]:
        raise NotUnderstood(sage_id, "a contact without a name")
    return RemoteCustomer(
        id=sage_id,
        number=fields["code"],
        updated_at=_updated_at(sage_id, (contact, address, person)),
        fields=fields,
        origin=_origin(contact.get("source_guid")),
        rest={
            "main_address": _kept(address, _KEPT_OF_ADDRESS),
            "delivery_address": _delivery(part_of(contact, "delivery_address")),
            "main_contact_person": _kept(person, _KEPT_OF_PERSON),
        },
    )


def written_customer(answer: Mapping[str, Any], body: Mapping[str, Any]) -> RemoteCustomer:
    """The customer that Sage answered a write of `body` with.

    Such an answer may hold no more of an address or a person than its name. Then it is what was sent: reading it again
    would be a second call, and Sage can show the old state for a while. Raises NotUnderstood.
    """
    sent = part_of(body, "contact")
    whole = dict(answer)
    for name, key in (("main_address", "country"), ("main_contact_person", "email")):
        part = part_of(answer, name)
        if key not in part:
            whole[name] = {**part, **_as_read(part_of(sent, name))}
    return remote_customer(whole)


def _as_read(sent: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a body in the form of an answer: `country_id` becomes `country`, with its id inside."""
    read: dict[str, Any] = {}
    for name, value in sent.items():
        if name.endswith("_ids"):
            read[f"{name.removesuffix('_ids')}s"] = [{"id": one} for one in value]
        elif name.endswith("_id"):
            read[name.removesuffix("_id")] = {"id": value}
        else:
            read[name] = value
    return read


def is_customer(contact: Mapping[str, Any]) -> bool:
    """Whether a contact is of type CUSTOMER; it may be a vendor as well."""
    types = contact.get("contact_types")
    return isinstance(types, list) and any(isinstance(one, dict) and one.get("id") == CUSTOMER_TYPE for one in types)


def part_of(contact: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside another one; an empty one where it is null or missing."""
    part = contact.get(name)
    return part if isinstance(part, dict) else {}


def tombstone(contact: Mapping[str, Any]) -> Tombstone:
    """An entry of a list of deleted contacts. Raises NotUnderstood."""
    sage_id = _id(contact)
    deleted_at = moment(contact.get("deleted_at"))
    if deleted_at is None:
        raise NotUnderstood(sage_id, "a deleted contact without a time")
    return Tombstone(sage_id, deleted_at)


def _id(contact: Mapping[str, Any]) -> str:
    sage_id = contact.get("id")
    if not isinstance(sage_id, str) or not _ID.fullmatch(sage_id):
        raise NotUnderstood("", "a contact without an id")
    return sage_id


def moment(value: object) -> datetime | None:
    """A time of Sage: ISO 8601 of any precision, in UTC where it names no zone. None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def since(when: datetime) -> str:
    """A time as a query parameter. Sage counts whole seconds, so the second that it lies in is asked for in full."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(sage_id: str, holder: Mapping[str, Any], key: str) -> str:
    value = holder.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Some texts that look like numbers come as such.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise NotUnderstood(sage_id, f"{key} is no text")


def _origin(value: object) -> str:
    """The key of the create that made a contact. Other programs put other things there, and those say nothing to us."""
    return value if isinstance(value, str) and _KEY.fullmatch(value) else ""


def _country(sage_id: str, value: object) -> str:
    """Sage's ids of countries are ISO 3166 alpha-2; an id that is not is looked up by the country's name."""
    if value is None or value == {}:
        return ""
    if isinstance(value, dict):
        code = value.get("id")
        if code is None:
            return ""
        if isinstance(code, str) and _ALPHA_2.fullmatch(code):
            return code
        named = value.get("displayed_as")
        found = _countries_by_name().get(named.partition(" (")[0].casefold()) if isinstance(named, str) else None
        if found:
            return found
    raise NotUnderstood(sage_id, "the country is none that is known")


@cache
def _countries_by_name() -> Mapping[str, str]:
    names: dict[str, str] = {}
    for country in pycountry.countries:
        for attribute in ("name", "common_name", "official_name"):
            if name := getattr(country, attribute, None):
                names[name.casefold()] = country.alpha_2
    return names


def _updated_at(sage_id: str, parts: Sequence[Mapping[str, Any]]) -> datetime:
    """The newest change. An edit of the address or the person need not move the time of the contact itself."""
    times = [when for part in parts if (when := moment(part.get("updated_at")) or moment(part.get("created_at")))]
    if not times:
        raise NotUnderstood(sage_id, "a contact without a time")
    return max(times)


def _kept(part: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """What a part holds besides our fields, in the form in which it is written. Without what is empty."""
    kept: dict[str, Any] = {}
    for read, written in keys.items():
        value = part.get(read)
        if isinstance(value, dict):
            value = value.get("id")
        elif isinstance(value, str):
            value = tidy(value, with_lines=True)
        elif isinstance(value, list):
            value = [one["id"] for one in value if isinstance(one, dict) and isinstance(one.get("id"), str)]
        if value not in (None, "", []):
            kept[written] = value
    return kept


def _delivery(address: Mapping[str, Any]) -> dict[str, Any]:
    """A delivery address as it is written; nothing of it is ours. Empty where there is none, or none with a country."""
    keys = {**{sage: sage for sage, _ in _ON_ADDRESS.values()}, **_KEPT_OF_ADDRESS, "country": "country_id"}
    kept = _kept(address, keys)
    return kept if "country_id" in kept else {}


# --- to Sage ----------------------------------------------------------------------------------------------------------


def create_body(fields: Fields, idempotency_key: str) -> dict[str, Any]:
    """The body of POST /contacts. Raises Rejected where Sage would refuse it.

    The key goes along twice: Sage forgets idempotency ids after 7 days, and keeps source_guid.
    """
    ours = checked(fields)
    person = {"name": PERSON_NAME, **_filled(ours, _ON_PERSON)}
    return {
        "contact": {
            "idempotency_id": idempotency_key,
            "source_guid": idempotency_key,
            "contact_type_ids": [CUSTOMER_TYPE],
            **_filled(ours, _ON_CONTACT),
            "main_address": {**_filled(ours, _ON_ADDRESS), "country_id": ours["country"]},
            "main_contact_person": person,
        }
    }


def update_body(fields: Fields, remote: RemoteCustomer) -> dict[str, Any]:
    """The body of PUT /contacts/{id}. Raises Rejected where Sage would refuse it.

    Sage's documents leave open whether a nested object is kept that a body omits, so each goes along with all that it
    holds. An empty text empties a field. A person is made only where there is something to say of one.
    """
    ours = checked(fields)
    kept = {
        name: dict(remote.rest.get(name) or {}) for name in ("main_address", "delivery_address", "main_contact_person")
    }
    contact: dict[str, Any] = {
        **_all(ours, _ON_CONTACT),
        "main_address": {**kept["main_address"], **_all(ours, _ON_ADDRESS), "country_id": ours["country"]},
    }
    if kept["main_contact_person"] or ours["phone"] or ours["email"]:
        contact["main_contact_person"] = {
            "name": PERSON_NAME,
            **kept["main_contact_person"],
            **_all(ours, _ON_PERSON),
        }
    if kept["delivery_address"]:
        contact["delivery_address"] = kept["delivery_address"]
    return {"contact": contact}


def checked(fields: Fields) -> dict[str, str]:
    """The fields, tidied. Raises Rejected for the first thing that Sage would refuse: missing, too long, malformed."""
    ours = tidied(fields)
    for name in REQUIRED:
        if not ours[name]:
            raise Rejected({"code": "missing", "field": name})
    for name, limit in LIMITS.items():
        if len(ours[name]) > limit:
            raise Rejected({"code": "too_long", "field": name, "limit": limit})
    if ours["email"] and not _EMAIL.fullmatch(ours["email"]):
        raise Rejected({"code": "malformed", "field": "email"})
    if not _ALPHA_2.fullmatch(ours["country"]):
        raise Rejected({"code": "malformed", "field": "country"})
    return ours


def refusal(complaints: Sequence[Complaint], body: Mapping[str, Any]) -> dict[str, Any]:
    """The detail that tells a person what to mend when Sage refused `body`.

    The first complaint about a field of ours counts.
    """
    for complaint in complaints:
        path = complaint.source.removeprefix("contact.")
        field = _FIELD_OF.get(path) or _FIELD_OF_LAST.get(path.rpartition(".")[2])
        if field is None:
            continue
        if _SAYS_MISSING.search(complaint.message):
            return {"code": "missing", "field": field}
        if field == "code" and _SAYS_TAKEN.search(complaint.message):
            return {"code": "code_taken", "field": field, "value": str(part_of(body, "contact").get("reference", ""))}
        if field in LIMITS and _SAYS_LONG.search(complaint.message):
            return {"code": "too_long", "field": field, "limit": LIMITS[field]}
        return {"code": "refused", "field": field}
    return {"code": "refused"}


def _all(ours: Fields, names: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    return {sage: ours[name] for name, (sage, _) in names.items()}


def _filled(ours: Fields, names: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    return {sage: text for sage, text in _all(ours, names).items() if text}
