"""What every connector must do: the Accounting one against a sandbox, and the Sage in memory that stands in for it."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.accounting import BUSINESS, CUSTOMER, LINES, ORDER, OTHER_BUSINESS, PERSON, PRODUCT, accounting, token_of
from tests.fake_sage import FakeCollection, FakeSage
from tests.sandbox_process import SandboxProcess
from webapp.orders.amounts import lines_text, read_lines
from workers.sage.accounting.documents import INVOICES, QUOTES, Document
from workers.sage.connector import (
    CUSTOMER_FIELDS,
    AuthoriseAgain,
    Collection,
    Connector,
    Listed,
    NotFound,
    Rejected,
    RemoteRecord,
    Transient,
    Unchanged,
    none_is_known,
    tidied,
)

LITTLE = {"name": "Little", "country": "GB"}
FIELDS = {"customers": CUSTOMER, "persons": PERSON, "products": PRODUCT, "orders": ORDER}
# Another value for each field of a person, a product and an order.
OTHER = {
    "email": "other@b.example",
    "ordered_on": "1996-07-05",
    "valid_until": "1996-09-01",
    "shipping": "0.50",
    "unit_price": "18.25",
    "discontinued": "yes",
    "lines": lines_text([replace(LINES[2], quantity=Decimal(2)), LINES[0]]),
}
EMPTY = {"shipping": "0.00"}
REQUIRED = {
    "persons": ("name",),
    "products": ("name", "unit_price", "discontinued"),
    "orders": ("ordered_on", "valid_until", "lines"),
}

# What the sandbox calls each collection, and each field of ours in the form of people there.
_LISTS = {"customers": "contacts", "persons": "contact_persons", "products": "products", "orders": "sales_quotes"}
_IN_SANDBOX = {
    "customers": {"code": "reference", "phone": "telephone", "country": "country_id"},
    "persons": {"role": "job_title", "phone": "telephone"},
    "products": {"code": "item_code", "name": "description", "unit_price": "price"},
    "orders": {"number": "reference", "ordered_on": "date", "shipping": "shipping_net_amount"},
}
_RATES = {Decimal(20): "GB_STANDARD", Decimal(5): "GB_LOWER", Decimal(0): "GB_ZERO"}


class Stopped(Exception):
    """What a caller raises to stop a write."""


class Sage(ABC):
    """A connector, and what people do in the Sage behind it.

    `document` is what orders are there, where that is a document of Sage Accounting.
    """

    connector: Connector
    document: Document | None = None

    def __init__(self) -> None:
        self._forbidden = False

    def stop_writes(self) -> None:
        """Let the connector's caller stop each write from now on."""
        self._forbidden = True

    def before_write(self) -> None:
        """What the connector calls right before each write."""
        if self._forbidden:
            raise Stopped

    @abstractmethod
    def add(self, kind: str = "customers", parent: str = "", /, **fields: str) -> str:
        """Somebody creates a record. Returns its id."""

    @abstractmethod
    def edit(self, key: str, kind: str = "customers", /, **fields: str) -> None:
        """Somebody edits a record."""

    @abstractmethod
    def delete(self, key: str, kind: str = "customers") -> None:
        """Somebody deletes a record."""

    @abstractmethod
    def count(self, kind: str = "customers") -> int:
        """How many records there are."""


class InMemory(Sage):
    """The Sage that stands in for it."""

    def __init__(self) -> None:
        super().__init__()
        self._fake = FakeSage(before_write=self.before_write, page_size=3)
        self.connector = self._fake

    def add(self, kind: str = "customers", parent: str = "", /, **fields: str) -> str:
        return self._of(kind).add(parent, **fields).id

    def edit(self, key: str, kind: str = "customers", /, **fields: str) -> None:
        self._of(kind).edit(key, **fields)

    def delete(self, key: str, kind: str = "customers") -> None:
        self._of(kind).delete(key)

    def count(self, kind: str = "customers") -> int:
        return len(self._of(kind).by_id)

    def _of(self, kind: str) -> FakeCollection:
        found: FakeCollection = getattr(self._fake, kind)
        return found


class InSandbox(Sage):
    """The connector of Sage Accounting, and a sandbox."""

    def __init__(self, sandbox: SandboxProcess, document: Document) -> None:
        super().__init__()
        self._sandbox = sandbox
        self.document = document
        self._lists = {**_LISTS, "orders": document.collection}
        sandbox.reset()

    def add(self, kind: str = "customers", parent: str = "", /, **fields: str) -> str:
        body = {**({"contact_id": parent} if parent else {}), **_as_typed(self.document, kind, fields)}
        return str(self._sandbox.add(self._lists[kind], **body)["id"])

    def edit(self, key: str, kind: str = "customers", /, **fields: str) -> None:
        self._sandbox.edit(key, self._lists[kind], **_as_typed(self.document, kind, fields))

    def delete(self, key: str, kind: str = "customers") -> None:
        self._sandbox.delete(key, self._lists[kind])

    def count(self, kind: str = "customers") -> int:
        return len(self._sandbox.records(self._lists[kind]))


def _as_typed(document: Document, kind: str, fields: dict[str, str]) -> dict[str, Any]:
    """What a person types into the sandbox for these fields."""
    called = {**_IN_SANDBOX[kind], "valid_until": document.until}
    typed: dict[str, Any] = {called.get(name, name): value for name, value in fields.items()}
    if "discontinued" in fields:
        typed["active"] = typed.pop("discontinued") == "no"
    if "shipping" in fields:
        typed["shipping_tax_rate_id"] = "GB_ZERO"
    if "lines" in fields:
        typed[document.lines] = [
            {
                "description": line.description,
                "quantity": str(line.quantity),
                "unit_price": str(line.unit_price),
                "discount_amount": str(line.discount),
                "tax_rate_id": _RATES[line.tax_rate],
            }
            for line in read_lines(typed.pop("lines"))
        ]
    return typed


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@contextmanager
def opened(name: str, document: Document, request: pytest.FixtureRequest) -> Iterator[Sage]:
    """The Sage of that name, with orders as `document` where it knows any."""
    if name == "memory":
        yield InMemory()
        return
    sandbox: SandboxProcess = request.getfixturevalue("sandbox")
    found = InSandbox(sandbox, document)
    token, before_write = token_of(sandbox), found.before_write
    with accounting(sandbox.base_url, token, document=document, before_write=before_write) as found.connector:
        yield found


@pytest.fixture(params=["memory", "accounting"])
def sage(request: pytest.FixtureRequest) -> Iterator[Sage]:
    with opened(request.param, QUOTES, request) as found:
        yield found


def create(sage: Sage, fields: dict[str, str]) -> RemoteRecord:
    return sage.connector.customers.create(sage.connector.customers.create_body(fields, uuid.uuid4().hex))


def read_all(sage: Sage, since: datetime | None = None) -> dict[str, RemoteRecord]:
    return {one.id: one for page in sage.connector.customers.changed(since) for one in page}


class TestWriting:
    @pytest.mark.parametrize("fields", [CUSTOMER, LITTLE], ids=["full", "little"])
    def test_a_created_customer_holds_what_was_sent(self, sage: Sage, fields: dict[str, str]) -> None:
        made = create(sage, fields)

        assert made.fields == tidied(fields)
        assert sage.connector.customers.read(made.id).fields == made.fields

    def test_what_comes_back_is_what_was_sent_tidied(self, sage: Sage) -> None:
        untidy = {**CUSTOMER, "name": "  Blanks \x00 around ", "notes": "one\r\ntwo ", "city": "New\nTown"}

        made = create(sage, untidy)

        assert sage.connector.customers.read(made.id).fields == tidied(untidy) == made.fields

    def test_the_same_body_again_makes_no_second_customer(self, sage: Sage) -> None:
        body = sage.connector.customers.create_body(CUSTOMER, uuid.uuid4().hex)

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
        made = create(sage, CUSTOMER)
        value = {"country": "FR", "email": "other@b.example", "code": "OTHER"}.get(name, "Other")

        body = sage.connector.customers.update_body({**CUSTOMER, name: value}, sage.connector.customers.read(made.id))
        changed = sage.connector.customers.update(made.id, body)

        assert changed.fields == tidied({**CUSTOMER, name: value})
        assert sage.connector.customers.read(made.id).fields == changed.fields

    @pytest.mark.parametrize("name", [name for name in CUSTOMER_FIELDS if name not in ("name", "country")])
    def test_each_field_that_may_be_empty_can_be_emptied(self, sage: Sage, name: str) -> None:
        made = create(sage, CUSTOMER)

        body = sage.connector.customers.update_body({**CUSTOMER, name: ""}, sage.connector.customers.read(made.id))
        changed = sage.connector.customers.update(made.id, body)

        assert changed.fields == tidied({**CUSTOMER, name: ""})
        assert sage.connector.customers.read(made.id).fields == changed.fields

    def test_an_update_that_changes_nothing_changes_nothing(self, sage: Sage) -> None:
        made = create(sage, CUSTOMER)
        before = sage.connector.customers.read(made.id)

        sage.connector.customers.update(made.id, sage.connector.customers.update_body(before.fields, before))

        after = sage.connector.customers.read(made.id)
        assert (after.fields, after.rest, after.origin) == (before.fields, before.rest, before.origin)

    def test_a_missing_country_is_refused_before_anything_is_sent(self, sage: Sage) -> None:
        with pytest.raises(Rejected) as refused:
            sage.connector.customers.create_body({**CUSTOMER, "country": ""}, uuid.uuid4().hex)
        assert refused.value.detail == {"code": "missing", "field": "country"}
        assert sage.count() == 0

    def test_a_code_that_another_customer_has_is_refused_by_sage(self, sage: Sage) -> None:
        sage.add(name="First", code="ALFKI")

        with pytest.raises(Rejected) as refused:
            create(sage, CUSTOMER)

        assert refused.value.detail == {"code": "code_taken", "field": "code", "value": "ALFKI"}
        assert refused.value.raw["status"] == "422"
        assert sage.count() == 1

    def test_a_code_that_another_product_has_is_refused_by_sage(self, sage: Sage) -> None:
        sage.add("products", **PRODUCT)
        products = sage.connector.products

        with pytest.raises(Rejected) as refused:
            products.create(products.create_body({**PRODUCT, "name": "Another"}, uuid.uuid4().hex))

        assert refused.value.detail == {"code": "code_taken", "field": "code", "value": PRODUCT["code"]}

    def test_what_is_gone_cannot_be_changed(self, sage: Sage) -> None:
        made = create(sage, CUSTOMER)
        body = sage.connector.customers.update_body(CUSTOMER, made)
        sage.delete(made.id)

        with pytest.raises(NotFound):
            sage.connector.customers.update(made.id, body)

    def test_a_caller_can_stop_each_write(self, sage: Sage) -> None:
        made = create(sage, CUSTOMER)
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
        made = create(sage, CUSTOMER)
        sage.add(name="Alfreds Futterkiste Nord", code="ALFKI2")

        assert [one.id for one in sage.connector.customers.find(wanted)] == [made.id]

    def test_nobody_is_found_by_nothing_or_by_a_part_of_a_name(self, sage: Sage) -> None:
        create(sage, CUSTOMER)

        assert sage.connector.customers.find({}) == []
        assert sage.connector.customers.find({"name": "Alfreds"}) == []
        assert sage.connector.customers.find({"code": "LFK", "email": "maria"}) == []


@dataclass
class Kept:
    """The persons or the orders of a customer, or the products, which belong to none."""

    sage: Sage
    kind: str
    parent: str

    @property
    def records(self) -> Collection:
        found: Collection = getattr(self.sage.connector, self.kind)
        return found

    @property
    def fields(self) -> dict[str, str]:
        return FIELDS[self.kind]

    def create(self, fields: dict[str, str] | None = None) -> RemoteRecord:
        return self.records.create(self.records.create_body(fields or self.fields, uuid.uuid4().hex, self.parent))

    def add(self, **fields: str) -> str:
        return self.sage.add(self.kind, self.parent, **{**self.fields, **fields})

    def add_number(self, number: int) -> str:
        """One that differs from all others in what is its own."""
        return self.add(**{{"persons": "role", "products": "code", "orders": "number"}[self.kind]: f"N{number}"})

    def changed(self, since: datetime | None = None, unchanged: Unchanged = none_is_known) -> list[str]:
        return [one.id for page in self.records.changed(since, unchanged) for one in page]


@pytest.fixture(
    params=[
        pytest.param((sage, kind, document), id=f"{sage}-{kind if document is QUOTES else 'invoices'}")
        for sage, kind, document in (
            ("memory", "persons", QUOTES),
            ("memory", "products", QUOTES),
            ("memory", "orders", QUOTES),
            ("accounting", "persons", QUOTES),
            ("accounting", "products", QUOTES),
            ("accounting", "orders", QUOTES),
            ("accounting", "orders", INVOICES),
        )
    ]
)
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    name, kind, document = request.param
    with opened(name, document, request) as found:
        yield Kept(found, kind, "" if kind == "products" else create(found, CUSTOMER).id)


class TestPersonsProductsAndOrders:
    def test_what_was_created_holds_what_was_sent_and_knows_its_customer(self, kept: Kept) -> None:
        made = kept.create()

        read = kept.records.read(made.id)
        assert made.fields == read.fields == tidied(kept.fields, tuple(kept.fields))
        assert made.parent == read.parent == kept.parent
        assert made.origin == read.origin
        assert bool(made.origin) == (kept.kind == "products")

    def test_the_same_body_again_makes_no_second_one(self, kept: Kept) -> None:
        before = kept.sage.count(kept.kind)
        body = kept.records.create_body(kept.fields, uuid.uuid4().hex, kept.parent)

        first, second = kept.records.create(body), kept.records.create(body)

        assert (second.id, second.fields) == (first.id, first.fields)
        assert kept.sage.count(kept.kind) == before + 1

    def test_each_field_can_be_changed_and_emptied(self, kept: Kept) -> None:
        made = kept.create()

        for name in kept.fields:
            values = [OTHER.get(name, "Other"), *([] if name in REQUIRED[kept.kind] else [EMPTY.get(name, "")])]
            for value in values:
                remote = kept.records.read(made.id)
                wanted = {**remote.fields, name: value}
                changed = kept.records.update(made.id, kept.records.update_body(wanted, remote))
                if name == "number" and not value and kept.sage.document is INVOICES:
                    # An invoice is never without a number: where it has none of ours, its own is the order's.
                    wanted[name] = made.number
                assert changed.fields == wanted == kept.records.read(made.id).fields
                assert changed.parent == kept.parent

    def test_what_people_change_in_sage_is_read(self, kept: Kept) -> None:
        key = kept.add()

        for name in kept.fields:
            kept.sage.edit(key, kept.kind, **{name: OTHER.get(name, "Other")})

        assert kept.records.read(key).fields == {name: OTHER.get(name, "Other") for name in kept.fields}

    def test_an_update_that_changes_nothing_changes_nothing(self, kept: Kept) -> None:
        before = kept.records.read(kept.add())

        kept.records.update(before.id, kept.records.update_body(before.fields, before))

        after = kept.records.read(before.id)
        assert (after.fields, after.rest, after.updated_at) == (before.fields, before.rest, before.updated_at)

    def test_what_is_missing_is_refused_before_anything_is_sent(self, kept: Kept) -> None:
        kept.sage.stop_writes()

        for name in REQUIRED[kept.kind]:
            with pytest.raises(Rejected) as refused:
                kept.create({**kept.fields, name: ""})
            assert refused.value.detail == {"code": "missing", "field": name}

    def test_what_is_gone_cannot_be_read_or_changed(self, kept: Kept) -> None:
        made = kept.create()
        body = kept.records.update_body(kept.fields, kept.records.read(made.id))
        kept.sage.delete(made.id, kept.kind)

        with pytest.raises(NotFound):
            kept.records.read(made.id)
        with pytest.raises(NotFound):
            kept.records.update(made.id, body)

    def test_a_caller_can_stop_each_write(self, kept: Kept) -> None:
        made = kept.create()
        create_body = kept.records.create_body(kept.fields, uuid.uuid4().hex, kept.parent)
        update_body = kept.records.update_body({**kept.fields, **OTHER}, kept.records.read(made.id))
        before = kept.sage.count(kept.kind)
        kept.sage.stop_writes()

        with pytest.raises(Stopped):
            kept.records.create(create_body)
        with pytest.raises(Stopped):
            kept.records.update(made.id, update_body)

        assert kept.sage.count(kept.kind) == before
        assert kept.records.read(made.id).fields == made.fields

    def test_all_of_them_come_and_later_only_what_changed(self, kept: Kept) -> None:
        ids = [kept.add_number(number) for number in range(4)]

        assert sorted(kept.changed()) == sorted(ids)
        assert kept.changed(datetime.now(UTC) + timedelta(minutes=5)) == []
        assert ids[0] in kept.changed(kept.records.read(ids[0]).updated_at)

    def test_what_is_unchanged_needs_no_call_where_a_list_does_not_tell_all(self, kept: Kept) -> None:
        """A list that tells all asks nobody; what one that does not tell all shows of an order is true of that order."""
        made = [kept.records.read(kept.add_number(n)) for n in range(4)]
        asked: dict[str, Listed] = {}

        def all_but_the_first(listed: Sequence[Listed]) -> set[str]:
            asked.update({one.id: one for one in listed})
            return {one.id for one in listed} - {made[0].id}

        came = kept.changed(None, all_but_the_first)

        if kept.kind != "orders":
            assert asked == {}
            assert len(came) == len(made)
            return
        assert came == [made[0].id]
        assert asked.keys() == {one.id for one in made}
        for one in made:
            assert asked[one.id].updated_at == one.updated_at
            assert asked[one.id].agrees(one.fields)
        for name in ("notes", "shipping", "lines"):
            kept.sage.edit(made[1].id, kept.kind, **{name: OTHER.get(name, "Other.")})
            kept.changed(None, all_but_the_first)
            assert not asked[made[1].id].agrees(made[1].fields), name
            assert asked[made[1].id].agrees(kept.records.read(made[1].id).fields), name
            kept.sage.edit(made[1].id, kept.kind, **{name: made[1].fields[name]})

    def test_what_is_deleted_leaves_a_tombstone_unless_it_is_a_quote(self, kept: Kept) -> None:
        key = kept.add()
        begun = datetime.now(UTC) - timedelta(seconds=2)
        kept.sage.delete(key, kept.kind)

        gone = [one.id for page in kept.records.deleted(begun) for one in page]

        assert gone == ([key] if kept.kind != "orders" or kept.sage.document is INVOICES else [])
        assert kept.changed() == kept.changed(begun) == []
        assert kept.records.find(kept.fields, kept.parent) == []

    def test_they_are_found_at_their_customer_alone(self, kept: Kept) -> None:
        made = kept.create()
        if kept.parent:
            Kept(kept.sage, kept.kind, create(kept.sage, {**LITTLE}).id).add()
        else:
            kept.add(code="CHAI-100", name="Chai from Ceylon")
        wanted: dict[str, str] = {
            name: text.upper() for name, text in kept.fields.items() if name in ("email", "number", "code")
        }

        assert [one.id for one in kept.records.find(wanted, kept.parent)] == [made.id]
        assert kept.records.find({}, kept.parent) == []
        assert kept.records.find({"name": "nobody", "number": "1024"}, kept.parent) == []


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
        made = connector.customers.create(connector.customers.create_body(CUSTOMER, uuid.uuid4().hex))
        assert made.fields == tidied(CUSTOMER)

        changed = connector.customers.update(
            made.id, connector.customers.update_body({**CUSTOMER, "city": "Potsdam"}, made)
        )
        assert changed.fields == tidied({**CUSTOMER, "city": "Potsdam"}) == connector.customers.read(made.id).fields


@pytest.mark.parametrize("touch", ["own", "contact"])
@pytest.mark.parametrize("field", ["city", "email", "phone", "country"])
def test_a_change_of_a_part_alone_is_a_change_of_the_customer(box: SandboxProcess, touch: str, field: str) -> None:
    """An address or a person that is edited by itself need not move the time of its contact."""
    box.settings(touch=touch)
    value = {"email": "new@b.example", "country": "FR"}.get(field, "New")
    with accounting(box.base_url, token_of(box)) as connector, box.client(business=connector.check().id) as http:
        old = connector.customers.create(connector.customers.create_body(CUSTOMER, uuid.uuid4().hex))
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
    assert changed[0].fields == tidied({**CUSTOMER, field: value})


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
        made = ours.customers.create(ours.customers.create_body(CUSTOMER, uuid.uuid4().hex))

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
            connector.customers.create(connector.customers.create_body(CUSTOMER, uuid.uuid4().hex))
    assert box.ledger() == []


def test_a_create_is_recognised_after_sage_was_restarted(tmp_path: Path) -> None:
    with SandboxProcess().start(var=tmp_path) as own, accounting(own.base_url, token_of(own)) as connector:
        body = connector.customers.create_body(CUSTOMER, uuid.uuid4().hex)
        made = connector.customers.create(body)
        own.restart()

        assert connector.customers.create(body).id == made.id
        assert len(own.contacts()) == 1


def test_all_addresses_are_read_only_for_many_persons_and_only_when_all_of_them_are(box: SandboxProcess) -> None:
    begun = datetime.now(UTC) - timedelta(minutes=5)

    def calls_for(since: datetime | None) -> tuple[int, int]:
        """How many persons came, and how often addresses were asked for."""
        before = box.requests().get("GET addresses", 0)
        with accounting(box.base_url, token_of(box)) as sage:
            came = sum(len(page) for page in sage.persons.changed(since))
        return came, box.requests().get("GET addresses", 0) - before

    with accounting(box.base_url, token_of(box)) as sage:
        for number in range(7):
            customer = box.add(name=f"Customer {number}", email=f"c{number}@example.com")
            body = sage.persons.create_body({**PERSON, "name": f"Person {number}"}, uuid.uuid4().hex, customer["id"])
            sage.persons.create(body)
            if number == 1:
                assert calls_for(None) == (2, 2), "each by itself"
    assert calls_for(None) == (7, 1), "the list"
    assert calls_for(begun) == (7, 7), "each by itself, since the list could be long"


def test_the_main_person_of_a_customer_is_none_of_its_persons(box: SandboxProcess) -> None:
    with accounting(box.base_url, token_of(box)) as connector:
        made = connector.customers.create(connector.customers.create_body(CUSTOMER, uuid.uuid4().hex))
        person = connector.persons.create(connector.persons.create_body(PERSON, uuid.uuid4().hex, made.id))
        assert len(box.records("contact_persons")) == 2

        for since in (None, datetime.now(UTC) - timedelta(minutes=5)):
            assert [one.id for page in connector.persons.changed(since) for one in page] == [person.id]
        assert connector.persons.find({"email": CUSTOMER["email"]}, made.id) == []
        assert connector.customers.read(made.id).fields == tidied(CUSTOMER)


def test_what_else_a_person_holds_survives_an_update(box: SandboxProcess) -> None:
    with accounting(box.base_url, token_of(box)) as connector, box.client(BUSINESS) as http:
        customer = connector.customers.create(connector.customers.create_body(CUSTOMER, uuid.uuid4().hex))
        store = {"contact_id": customer.id, "name": "Store", "address_type_id": "DELIVERY", "country_id": "DE"}
        address = http.post("/addresses", json={"address": {**store, "is_main_address": False}}).json()
        held = {"fax": "030-9", "is_preferred_contact": True, "contact_person_type_ids": ["SALES", "ACCOUNTS"]}
        whole = {"contact_person": {**held, "address_id": address["id"], "name": "Luc"}}
        key = http.post("/contact_persons", json=whole).json()["id"]

        remote = connector.persons.read(key)
        connector.persons.update(key, connector.persons.update_body({**PERSON, "phone": ""}, remote))

        after = http.get(f"/contact_persons/{key}").json()
        assert remote.parent == customer.id
        assert (after["name"], after["job_title"], after["telephone"]) == ("Ann Devon", "Buyer", None)
        assert (after["fax"], after["is_preferred_contact"], after["address"]["id"]) == ("030-9", True, address["id"])
        assert [one["id"] for one in after["contact_person_types"]] == ["SALES", "ACCOUNTS"]


@pytest.mark.parametrize("nested", ["base", "full"])
def test_quotes_come_with_their_lines_whatever_a_list_says_of_them(box: SandboxProcess, nested: str) -> None:
    box.settings(nested=nested)
    with accounting(box.base_url, token_of(box)) as connector:
        key = str(box.add(name="Alfreds")["id"])
        made = connector.orders.create(connector.orders.create_body(ORDER, uuid.uuid4().hex, key))
        assert made.fields == ORDER
        assert [(one.id, one.fields) for page in connector.orders.changed(None) for one in page] == [(made.id, ORDER)]


def test_a_line_that_nobody_changed_goes_back_with_all_that_sage_has(box: SandboxProcess) -> None:
    """Prices of four places and another tax than ours computes are Sage's own, and stay."""
    with accounting(box.base_url, token_of(box)) as connector:
        key = str(box.add(name="Alfreds")["id"])
        services = "1edcea0401011f0a1b8c2d3e4f504010"
        taxed = {"tax_rate_id": "GB_STANDARD", "ledger_account_id": services}
        fine = {**taxed, "description": "Fine", "quantity": "3", "unit_price": "1.2345", "tax_amount": "0.75"}
        plain = {**taxed, "description": "Plain", "quantity": "1", "unit_price": "10"}
        made = box.add("sales_quotes", contact_id=key, quote_lines=[fine, plain])
        before = box.records("sales_quotes")[0]["quote_lines"]
        remote = connector.orders.read(made["id"])
        lines = read_lines(remote.fields["lines"])

        lines[1].quantity = Decimal(2)
        wanted = {**remote.fields, "lines": lines_text(lines), "notes": "Two."}
        connector.orders.update(remote.id, connector.orders.update_body(wanted, remote))

        (after,) = box.records("sales_quotes")
        assert after["quote_lines"][0] == before[0]
        second = after["quote_lines"][1]
        assert (second["quantity"], second["tax_amount"], second["ledger_account"]["id"]) == ("2.0", "4.0", services)
        assert (after["notes"], after["total_amount"]) == ("Two.", "28.45")


def test_what_sage_takes_no_documents_for_is_said(box: SandboxProcess) -> None:
    with accounting(box.base_url, token_of(box)) as connector:
        vendor = str(box.add(name="Supplier", contact_type_ids=["VENDOR"])["id"])
        hidden = str(box.add(name="Hidden")["id"])
        box.edit(hidden, gdpr_obfuscated=True)
        for key in (vendor, hidden):
            body = connector.orders.create_body(ORDER, uuid.uuid4().hex, key)
            with pytest.raises(Rejected) as refused:
                connector.orders.create(body)
            assert refused.value.detail == {"code": "company_refused"}
            assert refused.value.raw["source"] == "contact_id"

        gone = str(box.add(name="Gone")["id"])
        box.delete(gone)
        with pytest.raises(Rejected) as refused:
            connector.persons.create_body(PERSON, uuid.uuid4().hex, gone)
        assert refused.value.detail == {"code": "company_gone"}
    assert box.records("sales_quotes") == []


def test_a_failure_to_ask_comes_before_the_write(box: SandboxProcess) -> None:
    """What the answer is understood by is asked first: a failure afterwards would say that nothing was written."""
    token = token_of(box)
    with accounting(box.base_url, token) as first, accounting(box.base_url, token) as second:
        key = str(box.add(name="Alfreds")["id"])
        for records, fields, path in (("persons", PERSON, "/v3.1/addresses"), ("orders", ORDER, "/v3.1/tax_rates")):
            body = getattr(first, records).create_body(fields, uuid.uuid4().hex, key)
            fault = box.fault("unavailable", {"path": path})
            with pytest.raises(Transient):
                getattr(second, records).create(body)
            assert box.records(_LISTS[records]) == []
            box.http.delete(f"{box.origin}/_sandbox/faults/{fault}")
            assert getattr(second, records).create(body).fields == fields
