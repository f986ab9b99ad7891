"""Customers as contacts of Sage Accounting, and back."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sage.accounting import customers, objects
from workers.sage.accounting.customers import LIMITS, checked, completed, remote_customer
from workers.sage.accounting.objects import NotUnderstood, since
from workers.sage.connector import CUSTOMER_FIELDS, Rejected, tidied
from workers.sage.http import Complaint

KEY = "0123456789abcdef0123456789abcdef"

FIELDS = {
    "name": "Alfreds Futterkiste",
    "code": "ALFKI",
    "email": "maria@alfreds.example",
    "phone": "030-0074321",
    "tax_number": "DE123456789",
    "address_line_1": "Obere Str. 57",
    "address_line_2": "Hof 2",
    "city": "Berlin",
    "region": "Berlin",
    "postal_code": "12209",
    "country": "DE",
    "notes": "Pays late.\nAsk for Maria.",
}

# A contact as Sage gives it with all of its nested attributes; keys that we do not know are among them.
CONTACT: dict[str, Any] = {
    "id": "c" * 32,
    "displayed_as": "Alfreds Futterkiste (ALFKI)",
    "$path": "/contacts/" + "c" * 32,
    "created_at": "2026-11-01T08:00:00Z",
    "updated_at": "2026-11-02T09:00:00Z",
    "contact_types": [{"id": "VENDOR"}, {"id": "CUSTOMER", "displayed_as": "Customer"}],
    "name": "Alfreds Futterkiste",
    "reference": "ALFKI",
    "tax_number": "DE123456789",
    "notes": "Pays late.\nAsk for Maria.",
    "source_guid": KEY,
    "balance": "2000.0",
    "credit_terms": "a word that Sage invented yesterday",
    "main_address": {
        "id": "a" * 32,
        "name": "Main Address",
        "address_line_1": "Obere Str. 57",
        "address_line_2": "Hof 2",
        "city": "Berlin",
        "region": "Berlin",
        "postal_code": "12209",
        "country": {"id": "DE", "displayed_as": "Germany (DE)", "$path": "/countries/DE"},
        "address_type": {"id": "SALES", "displayed_as": "Sales"},
        "is_main_address": True,
        "updated_at": "2026-11-03T10:00:00.123456789Z",
    },
    "delivery_address": {
        "id": "d" * 32,
        "name": "Delivery Address",
        "address_line_1": "Hafen 1",
        "address_line_2": None,
        "city": "Hamburg",
        "country": {"id": "DE"},
        "address_type": {"id": "DELIVERY"},
    },
    "main_contact_person": {
        "id": "p" * 32,
        "name": "Maria Anders",
        "job_title": "Sales Representative",
        "telephone": "030-0074321",
        "mobile": "0170-1",
        "email": "maria@alfreds.example",
        "fax": None,
        "contact_person_types": [{"id": "ACCOUNTS", "displayed_as": "Accounts"}],
        "is_main_contact": True,
        "is_preferred_contact": True,
        "address": {"id": "a" * 32},
        "updated_at": "2026-11-02T09:00:00Z",
    },
}


def contact(**changes: Any) -> dict[str, Any]:
    """The contact with other values; `main_address__city` names a field of a part."""
    changed = deepcopy(CONTACT)
    for name, value in changes.items():
        part, separator, key = name.partition("__")
        if separator:
            changed[part][key] = value
        else:
            changed[part] = value
    return changed


class TestReading:
    def test_every_field_comes_from_its_place(self) -> None:
        read = remote_customer(CONTACT)

        assert read.fields == FIELDS
        assert (read.id, read.number, read.origin) == ("c" * 32, "ALFKI", KEY)

    def test_the_newest_part_says_when_it_changed(self) -> None:
        assert remote_customer(CONTACT).updated_at == datetime(2026, 11, 3, 10, 0, 0, 123456, tzinfo=UTC)

    def test_null_and_absent_are_the_empty_text(self) -> None:
        bare = {"id": "x", "name": "Only a name", "updated_at": "2026-11-02T09:00:00+01:00"}
        nulls = {**bare, **dict.fromkeys(CONTACT.keys() - bare.keys())}

        for one in (bare, nulls):
            read = remote_customer(one)
            assert read.fields == tidied({"name": "Only a name"})
            assert read.updated_at == datetime(2026, 11, 2, 8, 0, tzinfo=UTC)

    @pytest.mark.parametrize(
        "text",
        ["2026-11-02T09:00:00Z", "2026-11-02T09:00:00.5Z", "2026-11-02T10:00+01:00", "2026-11-02T09:00:00.1234567Z"],
    )
    def test_times_of_any_precision_are_read(self, text: str) -> None:
        read = remote_customer({"id": "x", "name": "n", "updated_at": text})

        assert read.updated_at.replace(microsecond=0) == datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

    def test_a_number_where_a_text_is_expected_is_that_text(self) -> None:
        assert remote_customer(contact(reference=4711)).fields["code"] == "4711"

    def test_what_the_database_cannot_store_is_left_out(self) -> None:
        read = remote_customer(contact(name="A\x00B\ud800C", main_address__city="New\r\n York", notes="a\r\nb\x07"))

        assert (read.fields["name"], read.fields["city"], read.fields["notes"]) == ("ABC", "New York", "a\nb")

    def test_a_country_with_another_id_is_found_by_its_name(self) -> None:
        country = {"id": "countries-276", "displayed_as": "Germany (DE)"}

        assert remote_customer(contact(main_address__country=country)).fields["country"] == "DE"

    @pytest.mark.parametrize(
        "broken",
        [
            contact(id=None),
            contact(id=17),
            contact(id="a\x00b"),
            contact(id="a b"),
            contact(id="x" * 101),
            contact(name=None),
            contact(name="  "),
            contact(name=["a", "list"]),
            contact(reference={"an": "object"}),
            contact(notes=True),
            contact(main_address__country={"id": "ZZZ", "displayed_as": "Atlantis"}),
            contact(main_address__country="DE"),
            {"id": "x", "name": "no time"},
            {"id": "x", "name": "before all time", "updated_at": "0001-01-01T00:00:00+14:00"},
            {"id": "x", "name": "no time", "updated_at": "yesterday", "created_at": None},
        ],
    )
    def test_what_cannot_be_put_into_our_words_is_said_so(self, broken: dict[str, Any]) -> None:
        with pytest.raises(NotUnderstood):
            remote_customer(broken)

    def test_parts_of_the_wrong_kind_count_as_absent(self) -> None:
        read = remote_customer(contact(main_address="a text", main_contact_person=[1]))

        assert (read.fields["city"], read.fields["email"], read.fields["name"]) == ("", "", FIELDS["name"])

    def test_what_other_programs_put_into_the_place_of_our_key_is_none(self) -> None:
        assert remote_customer(contact(source_guid="import of 2019")).origin == ""
        assert remote_customer(contact(source_guid={"an": "object"})).origin == ""

    def test_what_is_only_sent_back_can_be_stored_too(self) -> None:
        odd = contact(main_contact_person__job_title="Chief\x00 \ud800Buyer ", delivery_address__city="Ham\x00burg")

        rest = remote_customer(odd).rest

        assert rest["main_contact_person"]["job_title"] == "Chief Buyer"
        assert rest["delivery_address"]["city"] == "Hamburg"

    def test_a_deleted_one_has_its_time(self) -> None:
        gone = objects.tombstone({"id": "x", "deleted_at": "2026-11-02T09:00:00Z"})

        assert (gone.id, gone.deleted_at) == ("x", datetime(2026, 11, 2, 9, 0, tzinfo=UTC))
        with pytest.raises(NotUnderstood):
            objects.tombstone({"id": "x", "deleted_at": None})

    def test_a_vendor_alone_is_no_customer(self) -> None:
        assert customers.is_customer(CONTACT)
        assert not customers.is_customer(contact(contact_types=[{"id": "VENDOR"}, "CUSTOMER", None]))
        assert not customers.is_customer(contact(contact_types=None))

    def test_the_whole_second_is_asked_for(self) -> None:
        assert since(datetime(2026, 11, 2, 9, 0, 0, 999999, tzinfo=UTC)) == "2026-11-02T09:00:00Z"


class TestWriting:
    def test_a_new_customer_has_address_person_and_both_keys(self) -> None:
        body = customers.create_body(FIELDS, KEY)["contact"]

        assert body["idempotency_id"] == body["source_guid"] == KEY
        assert body["contact_type_ids"] == ["CUSTOMER"]
        assert body["reference"] == "ALFKI"
        assert body["main_address"]["country_id"] == "DE"
        assert body["main_contact_person"] == {
            "name": "Main contact",
            "telephone": "030-0074321",
            "email": "maria@alfreds.example",
        }
        assert "email" not in body

    def test_what_is_empty_is_not_sent_with_a_new_customer(self) -> None:
        body = customers.create_body({"name": "Little", "country": "GB"}, KEY)["contact"]

        assert body["main_address"] == {"country_id": "GB"}
        assert body["main_contact_person"] == {"name": "Main contact"}
        assert "reference" not in body

    def test_an_update_sends_along_all_that_the_parts_hold(self) -> None:
        body = customers.update_body({**FIELDS, "city": "Potsdam"}, remote_customer(CONTACT))["contact"]

        assert body["main_address"] == {
            "name": "Main Address",
            "address_type_id": "SALES",
            "address_line_1": "Obere Str. 57",
            "address_line_2": "Hof 2",
            "city": "Potsdam",
            "region": "Berlin",
            "postal_code": "12209",
            "country_id": "DE",
        }
        assert body["main_contact_person"] == {
            "name": "Maria Anders",
            "job_title": "Sales Representative",
            "mobile": "0170-1",
            "contact_person_type_ids": ["ACCOUNTS"],
            "is_preferred_contact": True,
            "address_id": "a" * 32,
            "telephone": "030-0074321",
            "email": "maria@alfreds.example",
        }
        assert body["delivery_address"] == {
            "name": "Delivery Address",
            "address_type_id": "DELIVERY",
            "address_line_1": "Hafen 1",
            "city": "Hamburg",
            "country_id": "DE",
        }

    def test_an_empty_text_empties_the_field(self) -> None:
        body = customers.update_body({**FIELDS, "code": "", "phone": "", "city": ""}, remote_customer(CONTACT))[
            "contact"
        ]

        assert (body["reference"], body["main_contact_person"]["telephone"], body["main_address"]["city"]) == (
            "",
            "",
            "",
        )

    def test_the_types_of_a_contact_stay_as_they_are(self) -> None:
        assert "contact_type_ids" not in customers.update_body(FIELDS, remote_customer(CONTACT))["contact"]

    def test_a_person_is_made_only_where_there_is_something_to_say_of_one(self) -> None:
        alone = remote_customer(contact(main_contact_person=None))
        silent = {**FIELDS, "phone": "", "email": ""}

        assert "main_contact_person" not in customers.update_body(silent, alone)["contact"]
        made = customers.update_body(FIELDS, alone)["contact"]["main_contact_person"]
        assert made == {"name": "Main contact", "telephone": FIELDS["phone"], "email": FIELDS["email"]}

    def test_bodies_can_be_stored_as_json(self) -> None:
        for body in (customers.create_body(FIELDS, KEY), customers.update_body(FIELDS, remote_customer(CONTACT))):
            assert json.loads(json.dumps(body)) == body

    def test_an_answer_that_only_names_its_parts_is_completed_with_what_was_sent(self) -> None:
        body = customers.update_body({**FIELDS, "city": "Potsdam"}, remote_customer(CONTACT))
        names = contact(main_address={"id": "a" * 32}, main_contact_person={"id": "p" * 32}, name="As Sage has it")

        read = remote_customer(completed(names, body))

        assert read.fields == {**FIELDS, "city": "Potsdam", "name": "As Sage has it"}
        assert read.rest == remote_customer(CONTACT).rest

    def test_an_answer_with_whole_parts_is_believed(self) -> None:
        body = customers.update_body({**FIELDS, "city": "Potsdam"}, remote_customer(CONTACT))

        assert remote_customer(completed(contact(main_address__city="POTSDAM"), body)).fields["city"] == "POTSDAM"


class TestChecking:
    @pytest.mark.parametrize("name", ["name", "country"])
    def test_what_is_required(self, name: str) -> None:
        with pytest.raises(Rejected) as refused:
            checked({**FIELDS, name: " "})
        assert refused.value.detail == {"code": "missing", "field": name}

    @pytest.mark.parametrize("name", [name for name in LIMITS if name != "email"])
    def test_what_is_too_long(self, name: str) -> None:
        checked({**FIELDS, name: "x" * LIMITS[name]})
        with pytest.raises(Rejected) as refused:
            checked({**FIELDS, name: "x" * (LIMITS[name] + 1)})
        assert refused.value.detail == {"code": "too_long", "field": name, "limit": LIMITS[name]}

    def test_an_email_may_have_100_characters(self) -> None:
        checked({**FIELDS, "email": "x" * 90 + "@b.example"})
        with pytest.raises(Rejected) as refused:
            checked({**FIELDS, "email": "x" * 91 + "@b.example"})
        assert refused.value.detail == {"code": "too_long", "field": "email", "limit": 100}

    @pytest.mark.parametrize(
        "email",
        ["a@b.example", "a.b+c@d-e.example", "Jörg@müller.example", "o'hara@b.example"],
    )
    def test_an_email_that_people_have(self, email: str) -> None:
        assert checked({**FIELDS, "email": email})["email"] == email

    @pytest.mark.parametrize(
        "email",
        [
            "a",
            "a@b",
            "a@b.example, c@d.example",
            "a@b.example;c@d.example",
            "a b@c.example",
            "@b.example",
            "a@@b.example",
            "a@b..example",
            "a@.b",
            "Maria <a@b.example>",
        ],
    )
    def test_an_email_that_is_none_or_several(self, email: str) -> None:
        with pytest.raises(Rejected) as refused:
            checked({**FIELDS, "email": email})
        assert refused.value.detail == {"code": "malformed", "field": "email"}

    def test_a_country_is_a_code_of_two_letters(self) -> None:
        with pytest.raises(Rejected) as refused:
            checked({**FIELDS, "country": "Germany"})
        assert refused.value.detail == {"code": "malformed", "field": "country"}

    def test_what_is_missing_comes_before_what_is_too_long(self) -> None:
        with pytest.raises(Rejected) as refused:
            checked({"name": "x" * 200})
        assert refused.value.detail == {"code": "missing", "field": "country"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("source", "message", "detail"),
        [
            ("name", "This field is required.", {"code": "missing", "field": "name"}),
            ("main_address.country_id", "can't be blank", {"code": "missing", "field": "country"}),
            ("contact.main_address.country_id", "is required", {"code": "missing", "field": "country"}),
            ("reference", "has already been taken", {"code": "code_taken", "field": "code", "value": "ALFKI"}),
            ("contact.reference", "must be unique", {"code": "code_taken", "field": "code", "value": "ALFKI"}),
            ("name", "has already been taken", {"code": "refused", "field": "name"}),
            ("reference", "is odd", {"code": "refused", "field": "code"}),
            ("postal_code", "is too long (maximum is 10)", {"code": "too_long", "field": "postal_code", "limit": 10}),
            ("main_contact_person.email", "is invalid", {"code": "refused", "field": "email"}),
            ("tax_number", "The format is wrong.", {"code": "refused", "field": "tax_number"}),
            # The name of a person is no field of ours.
            ("main_contact_person.name", "This field is required.", {"code": "refused"}),
            ("credit_limit", "must be positive", {"code": "refused"}),
            ("", "This record cannot be saved.", {"code": "refused"}),
        ],
    )
    def test_a_complaint_becomes_what_a_person_can_mend(
        self, source: str, message: str, detail: dict[str, Any]
    ) -> None:
        complaint = Complaint("RecordInvalid", message, source)

        assert customers.refusal([complaint], customers.create_body(FIELDS, KEY)) == detail

    def test_the_first_complaint_about_a_field_of_ours_counts(self) -> None:
        complaints = [
            Complaint("RecordInvalid", "is odd", "credit_limit"),
            Complaint("RecordInvalid", "is odd", "main_address.city"),
            Complaint("RecordInvalid", "is required", "name"),
        ]

        assert customers.refusal(complaints, {}) == {"code": "refused", "field": "city"}


_texts = st.text(st.characters(codec="utf-8"), max_size=10)
_fields = st.fixed_dictionaries(
    {name: _texts for name in CUSTOMER_FIELDS if name not in ("name", "country", "email", "code")}
    | {
        "name": _texts.filter(lambda text: tidied({"name": text})["name"] != ""),
        "country": st.sampled_from(["GB", "DE", "CI"]),
    }
    | {"email": st.sampled_from(["", " a@b.example "]), "code": st.text(max_size=9)}
)


def as_sage_answers(body: dict[str, Any]) -> dict[str, Any]:
    """The contact that a body makes, in the form in which Sage shows it: blanks around texts gone, empty texts null."""

    def trimmed(part: dict[str, Any]) -> dict[str, Any]:
        return {key: (value.strip() or None) if isinstance(value, str) else value for key, value in part.items()}

    sent = body["contact"]
    address, person = sent["main_address"], sent.get("main_contact_person", {})
    return {
        **trimmed(sent),
        "id": "c" * 32,
        "updated_at": "2026-11-02T09:00:00Z",
        "main_address": {**trimmed(address), "country": {"id": address["country_id"]}},
        "main_contact_person": trimmed(person),
    }


@given(_fields)
def test_what_was_sent_comes_back_as_the_same(fields: dict[str, str]) -> None:
    read = remote_customer(as_sage_answers(customers.create_body(fields, KEY)))
    assert read.fields == tidied(fields)

    again = remote_customer(as_sage_answers(customers.update_body(fields, read)))
    assert again.fields == read.fields


@given(st.dictionaries(st.sampled_from(CUSTOMER_FIELDS), st.text()))
def test_tidying_twice_is_tidying_once(fields: dict[str, str]) -> None:
    once = tidied(fields)

    assert tidied(once) == once
    assert tuple(once) == CUSTOMER_FIELDS
    assert all("\x00" not in text and text == text.strip() for text in once.values())
