"""Persons as contact persons of Sage Accounting, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from workers.sage.accounting import persons
from workers.sage.accounting.objects import NotUnderstood
from workers.sage.accounting.persons import completed, create_body, fitting_type, remote_person, update_body
from workers.sage.connector import Rejected
from workers.sage.http import Complaint

KEY = "0123456789abcdef0123456789abcdef"
CONTACT = "c" * 32
FIELDS = {"name": "Ann Devon", "role": "Buyer", "email": "ann@x.example", "phone": "1", "mobile": "2"}
PERSON: dict[str, Any] = {
    "id": "p" * 32,
    "displayed_as": "Ann Devon",
    "name": "Ann Devon",
    "job_title": "Buyer",
    "telephone": "1",
    "mobile": "2",
    "email": "ann@x.example",
    "fax": "3",
    "contact_person_types": [{"id": "SALES", "displayed_as": "Sales"}, {"displayed_as": "no id"}],
    "address": {"id": "a" * 32, "displayed_as": "Main Address"},
    "is_main_contact": False,
    "is_preferred_contact": True,
    "created_at": "2026-11-01T08:00:00Z",
    "updated_at": "2026-11-02T09:00:00Z",
    "something_new": {"of": ["Sage"]},
}


def test_a_person_in_our_words() -> None:
    read = remote_person(PERSON, CONTACT)

    assert read.fields == FIELDS
    assert (read.id, read.parent, read.origin, read.number) == ("p" * 32, CONTACT, "", "")
    assert read.updated_at == datetime(2026, 11, 2, 9, tzinfo=UTC)


def test_what_is_null_or_missing_is_empty() -> None:
    bare = {"id": "x", "name": "Ann", "job_title": None, "created_at": "2026-11-01T08:00:00Z"}
    assert remote_person(bare, CONTACT).fields == {"name": "Ann", "role": "", "email": "", "phone": "", "mobile": ""}
    assert persons.address_of(bare) == ""
    assert not persons.is_main(bare)


@pytest.mark.parametrize(
    "person",
    [{**PERSON, "name": " "}, {**PERSON, "id": None}, {**PERSON, "mobile": ["2"]}, {"id": "x", "name": "No time"}],
)
def test_what_is_no_person_is_not_understood(person: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        remote_person(person, CONTACT)


def test_a_person_of_no_contact_is_not_understood() -> None:
    with pytest.raises(NotUnderstood):
        remote_person(PERSON, "")


def test_a_new_person_hangs_on_the_address_and_is_not_the_main_one() -> None:
    assert create_body({**FIELDS, "mobile": ""}, KEY, "a" * 32, "CUSTOMER") == {
        "contact_person": {
            "idempotency_id": KEY,
            "address_id": "a" * 32,
            "contact_person_type_ids": ["CUSTOMER"],
            "is_main_contact": False,
            "name": "Ann Devon",
            "job_title": "Buyer",
            "telephone": "1",
            "email": "ann@x.example",
        }
    }


def test_an_update_sends_back_what_else_the_person_holds_and_empties_what_is_empty() -> None:
    assert update_body({**FIELDS, "phone": ""}, remote_person(PERSON, CONTACT)) == {
        "contact_person": {
            "fax": "3",
            "contact_person_type_ids": ["SALES"],
            "is_main_contact": False,
            "is_preferred_contact": True,
            "address_id": "a" * 32,
            "name": "Ann Devon",
            "job_title": "Buyer",
            "telephone": "",
            "mobile": "2",
            "email": "ann@x.example",
        }
    }


def test_an_answer_that_leaves_something_out_holds_what_was_sent() -> None:
    body = create_body(FIELDS, KEY, "a" * 32, "CUSTOMER")
    short = {"id": "x", "name": "ANN DEVON", "created_at": "2026-11-01T08:00:00Z"}

    whole = completed(short, body)

    assert remote_person(whole, CONTACT).fields == {**FIELDS, "name": "ANN DEVON"}
    assert persons.address_of(whole) == "a" * 32


@pytest.mark.parametrize(
    ("types", "chosen"),
    [
        (["ACCOUNTS", "SALES", "CUSTOMER"], "CUSTOMER"),
        (["ACCOUNTS", "SALES"], "SALES"),
        (["SOMETHING", "ELSE"], "SOMETHING"),
        ([], ""),
    ],
)
def test_the_type_that_fits_is_chosen(types: list[str], chosen: str) -> None:
    assert fitting_type([{"id": one} for one in types]) == chosen


@pytest.mark.parametrize(("name", "limit"), [("name", 50), ("role", 50), ("email", 100), ("phone", 50), ("mobile", 50)])
def test_what_is_too_long_is_refused(name: str, limit: int) -> None:
    at_most = {**FIELDS, name: "x" * limit if name != "email" else f"{'x' * (limit - 10)}@b.example"}
    create_body(at_most, KEY, "a", "CUSTOMER")

    longer = {**at_most, name: f"x{at_most[name]}"}
    detail = {"code": "too_long", "field": name, "limit": limit}
    with pytest.raises(Rejected) as refused:
        create_body(longer, KEY, "a", "CUSTOMER")
    assert refused.value.detail == detail
    with pytest.raises(Rejected) as refused:
        update_body(longer, remote_person(PERSON, CONTACT))
    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({**FIELDS, "name": " \n"}, {"code": "missing", "field": "name"}),
        ({**FIELDS, "email": "ann at x"}, {"code": "malformed", "field": "email"}),
    ],
)
def test_what_sage_would_refuse_is_refused(fields: dict[str, str], detail: dict[str, str]) -> None:
    with pytest.raises(Rejected) as refused:
        create_body(fields, KEY, "a", "CUSTOMER")
    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("source", "message", "detail"),
    [
        ("email", "is invalid", {"code": "refused", "field": "email"}),
        ("contact_person.job_title", "is too long", {"code": "too_long", "field": "role", "limit": 50}),
        ("name", "This field is required.", {"code": "missing", "field": "name"}),
        ("address_id", "could not be found", {"code": "refused"}),
        ("", "", {"code": "refused"}),
    ],
)
def test_a_refusal_names_our_field(source: str, message: str, detail: dict[str, Any]) -> None:
    assert persons.refusal([Complaint("RecordInvalid", message, source)]) == detail
