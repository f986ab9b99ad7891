"""What every connector must do: the Accounting one against a sandbox, and the Sage in memory that stands in for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.accounting import OTHER_BUSINESS, accounting, token_of
from tests.fake_sage import FakeSage
from tests.sandbox_process import SandboxProcess
from workers.sage.connector import (
    CUSTOMER_FIELDS,
    AuthoriseAgain,
    Connector,
    NotFound,
    Rejected,
    RemoteRecord,
    tidied,
)

FULL = {
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
LITTLE = {"name": "Little", "country": "GB"}
# Sage's field of each of ours, in the form of people in the sandbox.
_IN_SANDBOX = {"code": "reference", "phone": "telephone", "country": "country_id"}


class Stopped(Exception):
    """What a caller raises to stop a write."""


@dataclass
class Sage:
    """A connector, and what people do in the Sage behind it."""

    connector: Connector
    add: Callable[..., str]
    edit: Callable[..., object]
    delete: Callable[[str], object]
    count: Callable[[], int]
    stop_writes: Callable[[], None]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(params=["memory", "accounting"])
def sage(request: pytest.FixtureRequest) -> Iterator[Sage]:
    forbidden: list[bool] = []

    def before_write() -> None:
        if forbidden:
            raise Stopped

    def stop_writes() -> None:
        forbidden.append(True)

    if request.param == "memory":
        fake = FakeSage(before_write=before_write, page_size=3)
        yield Sage(
            fake,
            lambda **fields: fake.add(**fields).id,
            fake.edit,
            fake.delete,
            lambda: len(fake.customers_by_id),
            stop_writes,
        )
        return
    sandbox: SandboxProcess = request.getfixturevalue("sandbox")
    sandbox.reset()

    def in_sandbox(fields: dict[str, str]) -> dict[str, str]:
        return {_IN_SANDBOX.get(name, name): value for name, value in fields.items()}

    with accounting(sandbox.base_url, token_of(sandbox), before_write=before_write) as connector:
        yield Sage(
            connector,
            lambda **fields: str(sandbox.add(**in_sandbox(fields))["id"]),
            lambda key, **fields: sandbox.edit(key, **in_sandbox(fields)),
            sandbox.delete,
            lambda: len(sandbox.contacts()),
            stop_writes,
        )


def create(sage: Sage, fields: dict[str, str]) -> RemoteRecord:
    return sage.connector.customers.create(sage.connector.customers.create_body(fields, uuid.uuid4().hex))


def read_all(sage: Sage, since: datetime | None = None) -> dict[str, RemoteRecord]:
    return {one.id: one for page in sage.connector.customers.changed(since) for one in page}


class TestWriting:
    @pytest.mark.parametrize("fields", [FULL, LITTLE], ids=["full", "little"])
    def test_a_created_customer_holds_what_was_sent(self, sage: Sage, fields: dict[str, str]) -> None:
        made = create(sage, fields)

        assert made.fields == tidied(fields)
        assert sage.connector.customers.read(made.id).fields == made.fields

    def test_what_comes_back_is_what_was_sent_tidied(self, sage: Sage) -> None:
        untidy = {**FULL, "name": "  Blanks \x00 around ", "notes": "one\r\ntwo ", "city": "New\nTown"}

        made = create(sage, untidy)

        assert sage.connector.customers.read(made.id).fields == tidied(untidy) == made.fields

    def test_the_same_body_again_makes_no_second_customer(self, sage: Sage) -> None:
        body = sage.connector.customers.create_body(FULL, uuid.uuid4().hex)

        first, second = sage.connector.customers.create(body), sage.connector.customers.create(body)

        assert (second.id, second.fields) == (first.id, first.fields)
        assert sage.count() == 1

    def test_a_customer_remembers_the_key_that_made_it(self, sage: Sage) -> None:
        key = uuid.uuid4().hex
        made = sage.connector.customers.create(sage.connector.customers.create_body(LITTLE, key))

        assert made.origin == sage.connector.customers.read(made.id).origin == key
        assert sage.connector.customers.read(sage.add(name="By hand")).origin == ""

    @pytest.mark.parametrize("name", CUSTOMER_FIELDS)
    def test_each_field_can_be_changed(self, sage: Sage, name: str) -> None:
        made = create(sage, FULL)
        value = {"country": "FR", "email": "other@b.example", "code": "OTHER"}.get(name, "Other")

        body = sage.connector.customers.update_body({**FULL, name: value}, sage.connector.customers.read(made.id))
        changed = sage.connector.customers.update(made.id, body)

        assert changed.fields == tidied({**FULL, name: value})
        assert sage.connector.customers.read(made.id).fields == changed.fields

    @pytest.mark.parametrize("name", [name for name in CUSTOMER_FIELDS if name not in ("name", "country")])
    def test_each_field_that_may_be_empty_can_be_emptied(self, sage: Sage, name: str) -> None:
        made = create(sage, FULL)

        body = sage.connector.customers.update_body({**FULL, name: ""}, sage.connector.customers.read(made.id))
        changed = sage.connector.customers.update(made.id, body)

        assert changed.fields == tidied({**FULL, name: ""})
        assert sage.connector.customers.read(made.id).fields == changed.fields

    def test_an_update_that_changes_nothing_changes_nothing(self, sage: Sage) -> None:
        made = create(sage, FULL)
        before = sage.connector.customers.read(made.id)

        sage.connector.customers.update(made.id, sage.connector.customers.update_body(before.fields, before))

        after = sage.connector.customers.read(made.id)
        assert (after.fields, after.rest, after.origin) == (before.fields, before.rest, before.origin)

    def test_a_missing_country_is_refused_before_anything_is_sent(self, sage: Sage) -> None:
        with pytest.raises(Rejected) as refused:
            sage.connector.customers.create_body({**FULL, "country": ""}, uuid.uuid4().hex)
        assert refused.value.detail == {"code": "missing", "field": "country"}
        assert sage.count() == 0

    def test_a_code_that_another_customer_has_is_refused_by_sage(self, sage: Sage) -> None:
        sage.add(name="First", code="ALFKI")

        with pytest.raises(Rejected) as refused:
            create(sage, FULL)

        assert refused.value.detail == {"code": "code_taken", "field": "code", "value": "ALFKI"}
        assert refused.value.raw["status"] == "422"
        assert sage.count() == 1

    def test_what_is_gone_cannot_be_changed(self, sage: Sage) -> None:
        made = create(sage, FULL)
        body = sage.connector.customers.update_body(FULL, made)
        sage.delete(made.id)

        with pytest.raises(NotFound):
            sage.connector.customers.update(made.id, body)

    def test_a_caller_can_stop_each_write(self, sage: Sage) -> None:
        made = create(sage, FULL)
        bodies = (
            sage.connector.customers.create_body(LITTLE, uuid.uuid4().hex),
            sage.connector.customers.update_body(LITTLE, made),
        )
        sage.stop_writes()

        with pytest.raises(Stopped):
            sage.connector.customers.create(bodies[0])
        with pytest.raises(Stopped):
            sage.connector.customers.update(made.id, bodies[1])

        assert sage.count() == 1
        assert sage.connector.customers.read(made.id).fields == made.fields


class TestReading:
    def test_sage_says_which_business_it_is(self, sage: Sage) -> None:
        assert sage.connector.check().name == "Northwind Traders Ltd"

    def test_all_customers_come_once_over_all_pages(self, sage: Sage) -> None:
        ids = {sage.add(name=f"Customer {number}") for number in range(7)}

        read = [one.id for page in sage.connector.customers.changed(None) for one in page]

        assert sorted(read) == sorted(ids)

    def test_an_empty_sage_has_no_customers(self, sage: Sage) -> None:
        assert read_all(sage) == {}

    def test_only_what_changed_since_then_is_read(self, sage: Sage) -> None:
        sage.add(name="Known")
        later = datetime.now(UTC) + timedelta(minutes=5)

        assert read_all(sage, later) == {}
        assert {one.fields["name"] for one in read_all(sage, datetime.now(UTC) - timedelta(minutes=5)).values()} == {
            "Known"
        }

    def test_the_moment_itself_belongs_to_what_changed_since_then(self, sage: Sage) -> None:
        key = sage.add(name="Known")

        assert key in read_all(sage, sage.connector.customers.read(key).updated_at)

    def test_deleted_customers_leave_a_tombstone(self, sage: Sage) -> None:
        key = sage.add(name="Going")
        begun = datetime.now(UTC) - timedelta(seconds=2)
        sage.delete(key)

        gone = [one for page in sage.connector.customers.deleted(begun) for one in page]

        assert [one.id for one in gone] == [key]
        assert gone[0].deleted_at > begun.replace(microsecond=0)
        assert read_all(sage) == {}
        with pytest.raises(NotFound):
            sage.connector.customers.read(key)

    @pytest.mark.parametrize(
        "wanted",
        [
            {"code": "alfki"},
            {"email": "MARIA@alfreds.example"},
            {"name": "ALFREDS Futterkiste"},
            {"code": "X", "name": "alfreds futterkiste"},
        ],
    )
    def test_a_customer_is_found_by_code_email_or_name(self, sage: Sage, wanted: dict[str, str]) -> None:
        made = create(sage, FULL)
        sage.add(name="Alfreds Futterkiste Nord", code="ALFKI2")

        assert [one.id for one in sage.connector.customers.find(wanted)] == [made.id]

    def test_nobody_is_found_by_nothing_or_by_a_part_of_a_name(self, sage: Sage) -> None:
        create(sage, FULL)

        assert sage.connector.customers.find({}) == []
        assert sage.connector.customers.find({"name": "Alfreds"}) == []
        assert sage.connector.customers.find({"code": "LFK", "email": "maria"}) == []


# --- what only the Accounting connector and its sandbox know ----------------------------------------------------------


@pytest.fixture
def box(sandbox: SandboxProcess) -> SandboxProcess:
    sandbox.reset()
    return sandbox


def test_many_pages_are_read_to_the_end(box: SandboxProcess) -> None:
    with accounting(box.base_url, token_of(box)) as connector:
        for number in range(405):
            connector.customers.create(
                connector.customers.create_body({"name": f"N {number}", "country": "GB"}, f"{number:032x}")
            )

        pages = list(connector.customers.changed(None))

    assert [len(page) for page in pages] == [200, 200, 5]
    assert len({one.id for page in pages for one in page}) == 405


@pytest.mark.parametrize("switches", [{"next_link": "absolute"}, {"size_key": "$items_per_page"}, {"money": "number"}])
def test_lists_are_read_in_every_spelling(box: SandboxProcess, switches: dict[str, str]) -> None:
    box.settings(**switches)
    with accounting(box.base_url, token_of(box)) as connector:
        for number in range(201):
            box.add(name=f"N {number}")

        assert sum(len(page) for page in connector.customers.changed(None)) == 201


@pytest.mark.parametrize("nested", ["base", "full"])
def test_an_answer_to_a_write_is_understood_with_and_without_its_parts(box: SandboxProcess, nested: str) -> None:
    box.settings(nested=nested)
    with accounting(box.base_url, token_of(box)) as connector:
        made = connector.customers.create(connector.customers.create_body(FULL, uuid.uuid4().hex))
        assert made.fields == tidied(FULL)

        changed = connector.customers.update(
            made.id, connector.customers.update_body({**FULL, "city": "Potsdam"}, made)
        )
        assert changed.fields == tidied({**FULL, "city": "Potsdam"}) == connector.customers.read(made.id).fields


@pytest.mark.parametrize("touch", ["own", "contact"])
@pytest.mark.parametrize("field", ["city", "email", "phone", "country"])
def test_a_change_of_a_part_alone_is_a_change_of_the_customer(box: SandboxProcess, touch: str, field: str) -> None:
    """An address or a person that is edited by itself need not move the time of its contact."""
    box.settings(touch=touch)
    value = {"email": "new@b.example", "country": "FR"}.get(field, "New")
    with accounting(box.base_url, token_of(box)) as connector, box.client(business=connector.check().id) as http:
        old = connector.customers.create(connector.customers.create_body(FULL, uuid.uuid4().hex))
        box.add(name="Another one")
        whole = http.get(f"/contacts/{old.id}", params={"nested_attributes": "all"}).json()
        # Sage's clock moves on, so that only what is edited now is newer than the mark.
        box.fault("clock_skew", seconds=120)
        mark = old.updated_at + timedelta(seconds=60)
        path, body = {
            "city": (f"/addresses/{whole['main_address']['id']}", {"address": {"city": value}}),
            "country": (f"/addresses/{whole['main_address']['id']}", {"address": {"country_id": value}}),
            "email": (f"/contact_persons/{whole['main_contact_person']['id']}", {"contact_person": {"email": value}}),
            "phone": (
                f"/contact_persons/{whole['main_contact_person']['id']}",
                {"contact_person": {"telephone": value}},
            ),
        }[field]
        assert http.put(path, json=body).status_code == 200

        changed = [one for page in connector.customers.changed(mark) for one in page]

    assert [(one.id, one.fields[field]) for one in changed] == [(old.id, value)]
    assert changed[0].updated_at > mark
    assert changed[0].fields == tidied({**FULL, field: value})


@pytest.mark.parametrize("omitted", ["kept", "cleared"])
def test_what_is_not_ours_survives_an_update(box: SandboxProcess, omitted: str) -> None:
    """Whether Sage keeps a nested object that a PUT omits is not documented: nothing is lost in either case."""
    box.settings(omitted_parts=omitted)
    with accounting(box.base_url, token_of(box)) as connector:
        key = box.add(
            name="Careful",
            contact_type_ids=["CUSTOMER", "VENDOR"],
            credit_limit="2000.0",
            main_contact_person={
                "name": "Maria",
                "job_title": "Chief",
                "mobile": "0170",
                "contact_person_type_ids": ["SALES"],
            },
            delivery_address={"address_line_1": "Hafen 1", "city": "Hamburg", "country_id": "DE"},
        )["id"]
        (before,) = box.contacts()
        remote = connector.customers.read(key)

        connector.customers.update(
            key, connector.customers.update_body({**remote.fields, "city": "Bath", "phone": "1"}, remote)
        )

        (after,) = box.contacts()
    kept = ("contact_types", "credit_limit", "currency", "source_guid", "delivery_address")
    assert {name: stripped(after[name]) for name in kept} == {name: stripped(before[name]) for name in kept}
    person = after["main_contact_person"]
    assert (person["name"], person["job_title"], person["mobile"], person["telephone"]) == (
        "Maria",
        "Chief",
        "0170",
        "1",
    )
    assert stripped(person["contact_person_types"]) == stripped(before["main_contact_person"]["contact_person_types"])
    assert after["main_address"]["city"] == "Bath"


def stripped(value: Any) -> Any:
    """A value without its times."""
    if isinstance(value, dict):
        return {name: stripped(inner) for name, inner in value.items() if name not in ("updated_at", "created_at")}
    return [stripped(one) for one in value] if isinstance(value, list) else value


def test_a_customer_without_a_person_gets_one(box: SandboxProcess) -> None:
    with accounting(box.base_url, token_of(box)) as connector:
        key = str(box.add(name="Alone")["id"])
        assert box.contacts()[0]["main_contact_person"] is None
        remote = connector.customers.read(key)

        connector.customers.update(
            key, connector.customers.update_body({**remote.fields, "email": "a@b.example"}, remote)
        )

        assert connector.customers.read(key).fields["email"] == "a@b.example"
        assert box.contacts()[0]["main_contact_person"]["name"] == "Main contact"


def test_vendors_are_none_of_our_customers(box: SandboxProcess) -> None:
    box.add(name="Supplier", contact_type_ids=["VENDOR"])
    both = box.add(name="Both", contact_type_ids=["VENDOR", "CUSTOMER"])["id"]
    with accounting(box.base_url, token_of(box)) as connector:
        for since in (None, datetime.now(UTC) - timedelta(minutes=5)):
            assert [one.id for page in connector.customers.changed(since) for one in page] == [both]
        assert connector.customers.find({"name": "Supplier"}) == []


def test_another_business_sees_nothing_of_ours(box: SandboxProcess) -> None:
    token = token_of(box)
    with accounting(box.base_url, token) as ours, accounting(box.base_url, token, business=OTHER_BUSINESS) as other:
        made = ours.customers.create(ours.customers.create_body(FULL, uuid.uuid4().hex))

        assert list(other.customers.changed(None)) == [[]]
        with pytest.raises(NotFound):
            other.customers.read(made.id)


def test_a_business_that_the_tokens_do_not_open_is_a_matter_of_authorising(box: SandboxProcess) -> None:
    with accounting(box.base_url, token_of(box), business="f" * 32) as connector:
        with pytest.raises(AuthoriseAgain):
            connector.check()
        with pytest.raises(AuthoriseAgain):
            list(connector.customers.changed(None))
        with pytest.raises(AuthoriseAgain):
            connector.customers.create(connector.customers.create_body(FULL, uuid.uuid4().hex))
    assert box.ledger() == []


def test_a_create_is_recognised_after_sage_was_restarted(tmp_path: Path) -> None:
    with SandboxProcess().start(var=tmp_path) as own, accounting(own.base_url, token_of(own)) as connector:
        body = connector.customers.create_body(FULL, uuid.uuid4().hex)
        made = connector.customers.create(body)
        own.restart()

        assert connector.customers.create(body).id == made.id
        assert len(own.contacts()) == 1
