"""A customer as a contact of Sage Accounting v3.1, and back. Pure.

The address is the contact's main address; phone and e-mail are those of its main contact person, because the contact's
own e-mail is read-only in Sage. Names, lengths and required fields are those of Sage's Swagger file; that a customer
needs a country is ours and stricter. Bank details and tax treatment are neither read nor sent: the ones are none of our
business, the other follows from the country in Sage itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pycountry

from workers.sage.accounting import objects
from workers.sage.accounting.objects import NotUnderstood, kept, part_of
from workers.sage.connector import CUSTOMER_FIELDS, Fields, Rejected, RemoteRecord, tidied
from workers.sage.http import Complaint

CUSTOMER_TYPE = "CUSTOMER"
# What Sage calls the person of a contact that was made without one.
PERSON_NAME = "Main contact"

# What a list or a single read must ask for. Without nested_attributes=all, address and person come as mere names.
ASKED = {
    "attributes": "name,reference,tax_number,notes,source_guid,contact_types,created_at,updated_at,"
    "main_address,delivery_address,main_contact_person,links",
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
LIMITS = objects.limits_of(_ON_CONTACT, _ON_ADDRESS, _ON_PERSON)
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
_PATHS = {
    **{sage: ours for ours, (sage, _) in _ON_CONTACT.items()},
    **{f"main_address.{sage}": ours for ours, (sage, _) in _ON_ADDRESS.items()},
    **{f"main_contact_person.{sage}": ours for ours, (sage, _) in _ON_PERSON.items()},
    "main_address.country_id": "country",
    "main_address.country": "country",
}
_FIELD_OF = {**{f"*.{path.rpartition('.')[2]}": ours for path, ours in _PATHS.items() if path != "name"}, **_PATHS}

_ALPHA_2 = re.compile(r"[A-Z]{2}")


# --- from Sage --------------------------------------------------------------------------------------------------------


def remote_customer(contact: Mapping[str, Any]) -> RemoteRecord:
    """A contact, read with ASKED, in our words. Unknown keys and unknown words do not matter, null is the empty text.

    Raises NotUnderstood where it has no id, name or time, a text is none, or its country is none that is known.
    """
    sage_id = objects.id_of(contact)
    address, person = part_of(contact, "main_address"), part_of(contact, "main_contact_person")
    fields = tidied(
        {
            **objects.texts_of(sage_id, contact, _ON_CONTACT),
            **objects.texts_of(sage_id, address, _ON_ADDRESS),
            **objects.texts_of(sage_id, person, _ON_PERSON),
            "country": _country(sage_id, address.get("country")),
        }
    )
    if not fields["name"]:
        raise NotUnderstood(sage_id, "a contact without a name")
    return RemoteRecord(
        id=sage_id,
        number=fields["code"],
        updated_at=objects.updated_at(sage_id, (contact, address, person)),
        fields=fields,
        origin=objects.origin_of(contact),
        page=objects.page_of(contact),
        rest={
            "main_address": kept(address, _KEPT_OF_ADDRESS),
            "delivery_address": _delivery(part_of(contact, "delivery_address")),
            "main_contact_person": kept(person, _KEPT_OF_PERSON),
        },
    )


def completed(answer: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a write of `body`, with what was sent where it leaves something out.

    Such an answer may hold no more of an address or a person than its name. Then it is what was sent: reading it again
    would be a second call, and Sage can show the old state for a while.
    """
    sent = part_of(body, "contact")
    whole = dict(answer)
    for name, key in (("main_address", "country"), ("main_contact_person", "email")):
        part = part_of(answer, name)
        if key not in part:
            whole[name] = {**part, **objects.as_read(part_of(sent, name))}
    return whole


def is_customer(contact: Mapping[str, Any]) -> bool:
    """Whether a contact is of type CUSTOMER; it may be a vendor as well."""
    types = contact.get("contact_types")
    return isinstance(types, list) and any(isinstance(one, dict) and one.get("id") == CUSTOMER_TYPE for one in types)


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


def _delivery(address: Mapping[str, Any]) -> dict[str, Any]:
    """A delivery address as it is written; nothing of it is ours. Empty where there is none, or none with a country."""
    keys = {**{sage: sage for sage, _ in _ON_ADDRESS.values()}, **_KEPT_OF_ADDRESS, "country": "country_id"}
    found = kept(address, keys)
    return found if "country_id" in found else {}


# --- to Sage ----------------------------------------------------------------------------------------------------------


def create_body(fields: Fields, idempotency_key: str) -> dict[str, Any]:
    """The body of POST /contacts. Raises Rejected where Sage would refuse it.

    The key goes along twice: Sage forgets idempotency ids after 7 days, and keeps source_guid.
    """
    ours = checked(fields)
    person = {"name": PERSON_NAME, **objects.filled_of(ours, _ON_PERSON)}
    return {
        "contact": {
            "idempotency_id": idempotency_key,
            "source_guid": idempotency_key,
            "contact_type_ids": [CUSTOMER_TYPE],
            **objects.filled_of(ours, _ON_CONTACT),
            "main_address": {**objects.filled_of(ours, _ON_ADDRESS), "country_id": ours["country"]},
            "main_contact_person": person,
        }
    }


def update_body(fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
    """The body of PUT /contacts/{id}. Raises Rejected where Sage would refuse it.

    Sage's documents leave open whether a nested object is kept that a body omits, so each goes along with all that it
    holds. An empty text empties a field. A person is made only where there is something to say of one.
    """
    ours = checked(fields)
    held = {
        name: dict(remote.rest.get(name) or {}) for name in ("main_address", "delivery_address", "main_contact_person")
    }
    contact: dict[str, Any] = {
        **objects.all_of(ours, _ON_CONTACT),
        "main_address": {**held["main_address"], **objects.all_of(ours, _ON_ADDRESS), "country_id": ours["country"]},
    }
    if held["main_contact_person"] or ours["phone"] or ours["email"]:
        contact["main_contact_person"] = {
            "name": PERSON_NAME,
            **held["main_contact_person"],
            **objects.all_of(ours, _ON_PERSON),
        }
    if held["delivery_address"]:
        contact["delivery_address"] = held["delivery_address"]
    return {"contact": contact}


def checked(fields: Fields) -> dict[str, str]:
    """The fields, tidied. Raises Rejected for the first thing that Sage would refuse: missing, too long, malformed."""
    ours = objects.checked(fields, CUSTOMER_FIELDS, REQUIRED, LIMITS)
    if not _ALPHA_2.fullmatch(ours["country"]):
        raise Rejected({"code": "malformed", "field": "country"})
    return ours


def refusal(complaints: Sequence[Complaint], body: Mapping[str, Any]) -> dict[str, Any]:
    """The detail that tells a person what to mend when Sage refused `body`: see objects.refusal."""
    code = str(part_of(body, "contact").get("reference", ""))
    return objects.refusal(complaints, "contact", _FIELD_OF, LIMITS, {"code": code})
