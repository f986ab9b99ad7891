"""Connector and sandbox against Sage's own description of its API, by a referee between the two.

The referee and the description are not part of the project: without them these tests are skipped.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.accounting import BUSINESS, CUSTOMER, LINES, ORDER, PERSON, PRODUCT, accounting, token_of
from tests.sandbox_process import ROOT, SandboxProcess, free_port
from webapp.orders.amounts import lines_text
from workers.sage.accounting.documents import INVOICES
from workers.sage.connector import (
    PRODUCT_GONE,
    Collection,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteRecord,
    SageError,
    Transient,
)

SHARED = ROOT.parent / "shared"
REFEREE = SHARED / "tools" / "sage_contract.py"
SPEC = SHARED / "sage" / "accounting-v3.1-swagger.json"

pytestmark = pytest.mark.skipif(
    not (REFEREE.exists() and SPEC.exists()), reason="the referee and Sage's Swagger file are not in ../shared"
)


class Referee:
    """The referee between a client and a server. `stop` ends it and gives its verdict."""

    def __init__(self, upstream: str, report: Path) -> None:
        self._report = report
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}/v3.1"
        command = [sys.executable, str(REFEREE), "--spec", str(SPEC), "--upstream", upstream]
        self._process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{port}", "--report", str(report)], stdout=subprocess.PIPE, text=True
        )
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError), stop=stop_after_delay(30), wait=wait_fixed(0.05), reraise=True
        ):
            with attempt:
                assert self._process.poll() is None, "the referee ended while it started"
                socket.create_connection(("127.0.0.1", port), timeout=1).close()

    def stop(self) -> tuple[int, str, list[dict[str, str]]]:
        """Its exit status, its line, and what was broken."""
        self._process.send_signal(signal.SIGTERM)
        said, _ = self._process.communicate(timeout=20)
        broken = [json.loads(line) for line in self._report.read_text().splitlines()]
        return self._process.returncode, said.strip(), broken

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait(timeout=10)


@contextmanager
def refereed(tmp_path: Path, **switches: str) -> Iterator[tuple[SandboxProcess, Referee]]:
    with SandboxProcess().start(var=tmp_path) as sandbox:
        sandbox.settings(**switches)
        referee = Referee(sandbox.base_url, tmp_path / "contract.jsonl")
        try:
            yield sandbox, referee
        finally:
            referee.kill()


AT_ONCE = 8


@pytest.mark.parametrize(
    ("others", "lives", "pages", "exchanges", "switches"),
    [
        (205, 170, [200, 6], 2000, {}),
        (19, 5, [20], 90, {"nested": "full", "size_key": "$items_per_page", "money": "number"}),
    ],
)
def test_a_full_life_of_customers_persons_and_quotes_breaks_nothing(
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    others: int,
    lives: int,
    pages: list[int],
    exchanges: int,
    switches: dict[str, str],
) -> None:
    with refereed(tmp_path, **switches) as (sandbox, referee):
        token = token_of(sandbox)
        with accounting(referee.base_url, token) as sage:
            assert sage.check().id == BUSINESS
            begun = datetime.now(UTC) - timedelta(minutes=5)
            made = _lived(
                sage.customers, CUSTOMER, "", [{"city": "Potsdam"}, {"code": "", "notes": "", "country": "FR"}]
            )
            with pytest.raises(Rejected):
                sage.customers.create(sage.customers.create_body({**CUSTOMER, "name": "Same code"}, uuid.uuid4().hex))
            person = _lived(sage.persons, PERSON, made.id, [{"role": "", "mobile": ""}])
            fewer = lines_text(LINES[1:])
            order = _lived(sage.orders, ORDER, made.id, [{"notes": "", "shipping": "0.00"}, {"lines": fewer}])

            for number in range(others):
                sandbox.add(name=f"Customer {number}", reference=f"C{number}")
            assert [len(page) for page in sage.customers.changed(None)] == pages
            assert sum(len(page) for page in sage.customers.changed(begun)) == others + 1
            assert list(sage.customers.changed(datetime.now(UTC) + timedelta(minutes=5))) == [[]]
            assert _ids(sage.customers.find({"code": "alfki"})) == [made.id]
            assert _ids(sage.customers.find({"email": CUSTOMER["email"]})) == [made.id]

            _live_at_once(referee.base_url, token, [one["id"] for one in sandbox.contacts()][1 : lives + 1])
            assert sum(len(page) for page in sage.persons.changed(begun)) == lives + 1
            assert sum(len(page) for page in sage.orders.changed(begun)) == lives + 1

            # A part that is edited by itself, in Sage, is read through the lists of the parts.
            sandbox.fault("clock_skew", seconds=600)
            sandbox.edit(made.id, city="Köln", email="other@alfreds.example")
            (page, *_) = [page for page in sage.customers.changed(made.updated_at + timedelta(seconds=300)) if page]
            assert (page[0].id, page[0].fields["city"]) == (made.id, "Köln")

            sandbox.delete(made.id)
            gone: list[tuple[Collection, RemoteRecord]]
            gone = [(sage.customers, made), (sage.persons, person), (sage.orders, order)]
            for records, one in gone[:2]:
                assert one.id in [tombstone.id for page in records.deleted(begun) for tombstone in page]
            assert list(sage.orders.deleted(begun)) == []
            for records, one in gone:
                body = records.update_body(one.fields, one)
                with pytest.raises(NotFound):
                    records.read(one.id)
                with pytest.raises(NotFound):
                    records.update(one.id, body)
        status, said, broken = referee.stop()

    record_property("said", said)
    assert (status, broken) == (0, [])
    assert said.endswith(" exchanges, 0 broken")
    assert int(said.split()[1]) > exchanges, said


def test_a_full_life_of_products_breaks_nothing(tmp_path: Path) -> None:
    with refereed(tmp_path) as (sandbox, referee):
        with accounting(referee.base_url, token_of(sandbox)) as sage:
            begun = datetime.now(UTC) - timedelta(minutes=5)
            changes = [
                {"unit_price": "19.50", "discontinued": "yes"},
                {"code": "", "name": "Tea", "discontinued": "no"},
            ]
            made = _lived(sage.products, PRODUCT, "", changes)
            # A price that includes tax is one without it here, and goes back as it is until it is changed here.
            taxed = {"price_name": "Shop", "price": "24.00", "price_includes_tax": True}
            more = {"price_name": "Trade", "price": "11.2345", "price_includes_tax": False}
            rate = {"sales_tax_rate_id": "GB_STANDARD"}
            other = sandbox.add("products", item_code="T", description="Taxed", sales_prices=[taxed, more], **rate)
            remote = sage.products.read(other["id"])
            assert remote.fields["unit_price"] == "20.00"
            named = sage.products.update(other["id"], sage.products.update_body({**remote.fields, "name": "T"}, remote))
            (held,) = (one for one in sandbox.records("products") if one["id"] == other["id"])
            assert [one["price"] for one in held["sales_prices"]] == ["24.0", "11.2345"]
            assert (named.fields["unit_price"], held["sales_prices"][0]["price_includes_tax"]) == ("20.00", True)
            cheaper = sage.products.update_body({**named.fields, "unit_price": "18.00"}, named)
            assert sage.products.update(other["id"], cheaper).fields["unit_price"] == "18.00"
            (held,) = (one for one in sandbox.records("products") if one["id"] == other["id"])
            told = [(one["price"], one["price_name"], one["price_includes_tax"]) for one in held["sales_prices"]]
            assert told == [("18.0", "Shop", False), ("11.2345", "Trade", False)]
            assert _ids(sage.products.find({"code": "t"})) == [other["id"]]
            assert sorted(one.id for page in sage.products.changed(None) for one in page) == sorted(
                [made.id, other["id"]]
            )
            # A line names it, in a quote, until it is gone.
            customer = sage.customers.create(sage.customers.create_body(CUSTOMER, uuid.uuid4().hex))
            lines = {**ORDER, "lines": lines_text(LINES, [made.id, "", ""])}
            quote = sage.orders.create(sage.orders.create_body(lines, uuid.uuid4().hex, customer.id))
            assert (quote.fields, quote.products) == (ORDER, (made.id, "", ""))
            body = sage.orders.update_body({**ORDER, "lines": lines_text(LINES, [other["id"]] * 3)}, quote)
            assert sage.orders.update(quote.id, body).products == (made.id, other["id"], other["id"])
            sandbox.delete(made.id, "products")
            with pytest.raises(Rejected) as refused:
                sage.orders.create(sage.orders.create_body(lines, uuid.uuid4().hex, customer.id))
            assert refused.value.detail["code"] == PRODUCT_GONE
            assert [one.id for page in sage.products.deleted(begun) for one in page] == [made.id]
        status, said, broken = referee.stop()
    assert (status, broken) == (0, [])
    assert int(said.split()[1]) > 20, said


def test_a_full_life_of_invoices_breaks_nothing(tmp_path: Path) -> None:
    with refereed(tmp_path) as (sandbox, referee):
        with accounting(referee.base_url, token_of(sandbox), document=INVOICES) as sage:
            begun = datetime.now(UTC) - timedelta(minutes=5)
            customer = sage.customers.create(sage.customers.create_body(CUSTOMER, uuid.uuid4().hex))
            changes = [{"notes": "", "shipping": "0.00", "valid_until": "1996-09-01"}, {"lines": lines_text(LINES[1:])}]
            made = _lived(sage.orders, ORDER, customer.id, changes)
            assert sandbox.records("sales_invoices")[0]["status"]["id"] == "UNPAID"
            with pytest.raises(Rejected) as refused:
                sage.orders.create(
                    sage.orders.create_body({**ORDER, "valid_until": "1996-07-01"}, "0" * 32, customer.id)
                )
            assert refused.value.detail == {"code": "refused", "field": "valid_until"}
            others = [
                sage.orders.create(
                    sage.orders.create_body({**ORDER, "number": f"N{number}"}, f"{number:032x}", customer.id)
                )
                for number in range(1, 4)
            ]
            for since in (None, begun):
                assert sum(len(page) for page in sage.orders.changed(since)) == 4
            assert _ids(sage.orders.find(ORDER, customer.id)) == [made.id]

            sandbox.edit(others[0].id, "sales_invoices", paid=True)
            paid = sage.orders.read(others[0].id)
            with pytest.raises(Rejected):
                sage.orders.update(paid.id, sage.orders.update_body({**paid.fields, "notes": "Late"}, paid))
            assert list(sage.orders.deleted(begun)) == [[], []]
            sandbox.delete(made.id, "sales_invoices")
            assert [one.id for page in sage.orders.deleted(begun) for one in page] == [made.id]
            assert sum(len(page) for page in sage.orders.changed(begun)) == 3
            with pytest.raises(NotFound):
                sage.orders.read(made.id)
            with pytest.raises(NotFound):
                sage.orders.update(made.id, sage.orders.update_body(made.fields, made))
        status, said, broken = referee.stop()

    assert (status, broken) == (0, []), said
    assert int(said.split()[1]) > 40, said


def _lived(records: Collection, fields: dict[str, str], parent: str, changes: list[dict[str, str]]) -> RemoteRecord:
    """A record that was created twice with one key, and changed; it holds `fields` in the end."""
    body = records.create_body(fields, uuid.uuid4().hex, parent)
    made = records.create(body)
    assert records.create(body).id == made.id
    assert made.fields == fields
    for changed in (*changes, fields):
        remote = records.read(made.id)
        wanted = {**remote.fields, **changed}
        assert records.update(made.id, records.update_body(wanted, remote)).fields == wanted
    return records.read(made.id)


def _live_at_once(base_url: str, token: str, customers: list[str]) -> None:
    """The life of each customer with a person and a quote, several at the same time as several workers would.

    The referee holds each answer back for some hundredths of a second, so that one after the other takes far longer.
    """
    posting = Lock()

    def live(mine: list[str]) -> None:
        with accounting(base_url, token) as sage:
            for key in mine:
                customer = sage.customers.read(key)
                sage.customers.update(key, sage.customers.update_body({**customer.fields, "city": "Bath"}, customer))
                person = sage.persons.create(sage.persons.create_body(PERSON, uuid.uuid4().hex, key))
                sage.persons.update(person.id, sage.persons.update_body({**PERSON, "role": "Owner"}, person))
                assert _ids(sage.persons.find(PERSON, key)) == [person.id]
                body = sage.orders.create_body(ORDER, uuid.uuid4().hex, key)
                # Sage numbers quotes in sequence: one POST at a time.
                with posting:
                    order = sage.orders.create(body)
                sage.orders.update(
                    order.id, sage.orders.update_body({**ORDER, "notes": ""}, sage.orders.read(order.id))
                )
                assert _ids(sage.orders.find(ORDER, key)) == [order.id]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(live, (customers[first::AT_ONCE] for first in range(AT_ONCE))))


def _ids(records: list[RemoteRecord]) -> list[str]:
    return [one.id for one in records]


def test_faults_of_sage_break_nothing_on_our_side(tmp_path: Path) -> None:
    """What was not answered is sent again with the same id and the same body, and never two writes at the same time."""
    with refereed(tmp_path) as (sandbox, referee), accounting(referee.base_url, token_of(sandbox)) as sage:
        for kind in ("error_before", "error_after", "unavailable", "rate_limited", "reject"):
            body = sage.customers.create_body({**CUSTOMER, "code": kind[:10]}, uuid.uuid4().hex)
            sandbox.fault(kind, times=1)
            with pytest.raises(SageError) as failed:
                sage.customers.create(body)
            assert isinstance(failed.value, OutcomeUnknown | Transient | Rejected)
            made = sage.customers.create(body)
            sandbox.fault(kind, times=1)
            update = sage.customers.update_body({**CUSTOMER, "code": kind[:10], "city": "Potsdam"}, made)
            with pytest.raises(SageError):
                sage.customers.update(made.id, update)
            sage.customers.update(made.id, update)
        status, said, broken = referee.stop()
        names = [one["reference"] for one in sandbox.contacts()]

    assert (status, broken) == (0, []), said
    assert len(names) == len(set(names)) == 5


def test_the_referee_does_find_what_is_broken(tmp_path: Path) -> None:
    with refereed(tmp_path) as (sandbox, referee), sandbox.client(BUSINESS, referee.base_url) as http:
        http.post("/contacts", json={"contact": {"name": "No key", "contact_type_ids": ["CUSTOMER"]}})
        http.get("/contacts", params={"items_per_page": "500"}, headers={"X-Business": ""})
        http.get("/customers")
        status, said, broken = referee.stop()

    assert status == 1
    assert {one["rule"] for one in broken} == {"no-idempotency-id", "bad-parameter", "no-x-business", "unknown-path"}
    assert "0 broken" not in said
