"""A person of a customer as a contact person of Sage Accounting v3.1, and back. Pure.

In Sage a person hangs on an address, and the address on a contact. Names, lengths and required fields are those of
Sage's Swagger file. A contact's main person is none of these: its phone and e-mail are the customer's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workers.sage.accounting import objects
from workers.sage.accounting.objects import NotUnderstood, kept, part_of
from workers.sage.connector import PERSON_FIELDS, Fields, RemoteRecord, tidied
from workers.sage.http import Complaint

# What a list or a single read must ask for.
ASKED = {
    "attributes": "name,job_title,telephone,mobile,email,fax,contact_person_types,address,is_main_contact,"
    "is_preferred_contact,created_at,updated_at"
}

_ON_PERSON = {
    "name": ("name", 50),
    "role": ("job_title", 50),
    "phone": ("telephone", 50),
    "mobile": ("mobile", 50),
    "email": ("email", 100),
}
LIMITS = objects.limits_of(_ON_PERSON)

# What else an update sends back, so that Sage keeps it: key in the answer -> key in the body.
_KEPT = {
    "fax": "fax",
    "contact_person_types": "contact_person_type_ids",
    "is_main_contact": "is_main_contact",
    "is_preferred_contact": "is_preferred_contact",
    "address": "address_id",
}

_FIELD_OF = {f"*.{sage}": ours for ours, (sage, _) in _ON_PERSON.items()}

# The types that fit a person at a customer, the best one first. A business may have none of them.
_FITTING_TYPES = ("CUSTOMER", "PURCHASING", "SALES")


def remote_person(person: Mapping[str, Any], contact_id: str) -> RemoteRecord:
    """A contact person, read with ASKED, in our words; `contact_id` is the contact that its address belongs to.

    Raises NotUnderstood where it has no id, name, time or contact, or a text is none.
    """
    sage_id = objects.id_of(person)
    fields = tidied(objects.texts_of(sage_id, person, _ON_PERSON), PERSON_FIELDS)
    if not fields["name"]:
        raise NotUnderstood(sage_id, "a person without a name")
    if not contact_id:
        raise NotUnderstood(sage_id, "a person of no contact")
    return RemoteRecord(
        id=sage_id,
        number="",
        updated_at=objects.updated_at(sage_id, (person,)),
        fields=fields,
        parent=contact_id,
        rest=kept(person, _KEPT),
    )


def address_of(person: Mapping[str, Any]) -> str:
    """The id of the address that a person hangs on, empty where it names none."""
    return next(iter(objects.ids_of(part_of(person, "address"))), "")


def is_main(person: Mapping[str, Any]) -> bool:
    """Whether it is the main person of its contact; Sage says that there is at most one."""
    return person.get("is_main_contact") is True


def completed(answer: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a write of `body`, with what was sent where it leaves something out."""
    return {**objects.as_read(part_of(body, "contact_person")), **answer}


def fitting_type(types: Iterable[Mapping[str, Any]]) -> str:
    """The type that a new person gets, of those that the business has. Empty where there are none."""
    ids = objects.ids_of(*types)
    return next((one for one in _FITTING_TYPES if one in ids), ids[0] if ids else "")


def create_body(fields: Fields, idempotency_key: str, address_id: str, type_id: str) -> dict[str, Any]:
    """The body of POST /contact_persons. Raises Rejected where Sage would refuse it.

    Nobody whom it makes is the main person: that one's phone and e-mail are those of the customer.
    """
    ours = checked(fields)
    return {
        "contact_person": {
            "idempotency_id": idempotency_key,
            "address_id": address_id,
            "contact_person_type_ids": [type_id],
            "is_main_contact": False,
            **objects.filled_of(ours, _ON_PERSON),
        }
    }


def update_body(fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
    """The body of PUT /contact_persons/{id}, with all that the person holds. An empty text empties a field.

    Raises Rejected where Sage would refuse it.
    """
    return {"contact_person": {**remote.rest, **objects.all_of(checked(fields), _ON_PERSON)}}


def checked(fields: Fields) -> dict[str, str]:
    """The fields, tidied. Raises Rejected for the first thing that Sage would refuse: missing, too long, malformed."""
    return objects.checked(fields, PERSON_FIELDS, ("name",), LIMITS)


def refusal(complaints: Sequence[Complaint]) -> dict[str, Any]:
    """The detail that tells a person what to mend when Sage refused a write: see objects.refusal."""
    return objects.refusal(complaints, "contact_person", _FIELD_OF, LIMITS, {})
