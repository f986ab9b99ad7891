"""A full life of contacts, addresses, persons and quotes through the referee that knows Sage's own Swagger file."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.sandbox_process import ROOT, SandboxProcess, free_port
from workers.sandbox.businesses import BUSINESSES, LEAD
from workers.sandbox.reference import account_id

SHARED = ROOT.parent / "shared"
REFEREE = SHARED / "tools" / "sage_contract.py"
SPEC = SHARED / "sage" / "accounting-v3.1-swagger.json"

pytestmark = pytest.mark.skipif(
    not REFEREE.exists(), reason="../shared with the referee of Sage's contract is not there"
)


@contextmanager
def referee(upstream: str, report: Path) -> Iterator[tuple[str, list[str]]]:
    """Run the referee before `upstream`: its base URL, and a list that holds its summary line after the end."""
    port = free_port()
    command = [sys.executable, str(REFEREE), "--spec", str(SPEC), "--upstream", upstream]
    process = subprocess.Popen(
        [*command, "--listen", f"127.0.0.1:{port}", "--report", str(report)], stdout=subprocess.PIPE, text=True
    )
    summary: list[str] = []
    base = f"http://127.0.0.1:{port}/v3.1"
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx2.TransportError),
            stop=stop_after_delay(30),
            wait=wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                httpx2.get(f"http://127.0.0.1:{port}/")
        yield base, summary
    finally:
        process.send_signal(signal.SIGTERM)
        summary.append(process.communicate(timeout=20)[0].strip())


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path) as one:
        yield one


def test_a_full_life_breaks_nothing(sandbox: SandboxProcess, tmp_path: Path) -> None:
    report = tmp_path / "contract.jsonl"
    with referee(sandbox.base_url, report) as (base, summary), sandbox.client(LEAD.id, base_url=base) as sage:
        _live(sage)
        for kind in ("error_before", "error_after", "reject"):
            sandbox.fault(kind, times=1)
            assert sage.post("/contacts", json=_contact(f"Under {kind}")).status_code in (422, 500)
        for kind in ("rate_limited", "unavailable"):
            sandbox.fault(kind, times=1)
            assert sage.get("/contacts").status_code in (429, 503)
        sandbox.settings(next_link="absolute", size_key="$items_per_page", money="number", nested="full")
        assert sage.get("/contacts?attributes=all&items_per_page=1").status_code == 200
        with sandbox.client(BUSINESSES[1].id, base_url=base) as other:
            assert other.get("/contacts?attributes=all").json()["$total"] == 0
    broken = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert broken == []
    counted = re.fullmatch(r"contract: (\d+) exchanges, 0 broken", summary[0])
    assert counted is not None, summary
    assert int(counted[1]) > 60


def _contact(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "contact": {
            "idempotency_id": secrets.token_hex(16),
            "name": name,
            "contact_type_ids": ["CUSTOMER"],
            "main_address": {"address_line_1": "Obere Str. 57", "city": "Berlin", "country_id": "DE"},
            **fields,
        }
    }


def _live(sage: httpx2.Client) -> None:
    fixed = ("contact_types", "contact_person_types", "address_types", "countries", "currencies")
    for name in (*fixed, "tax_rates", "ledger_accounts"):
        listed = sage.get(f"/{name}?items_per_page=200&attributes=all").json()
        assert sage.get(f"/{name}/{listed['$items'][0]['id']}").status_code == 200
    person = {
        "name": "Maria Anders",
        "job_title": "Owner",
        "email": "maria@alfreds.example",
        "telephone": "030-0074321",
    }
    made = [
        sage.post(
            "/contacts",
            json=_contact(
                f"Customer {number}", reference=f"C{number}", credit_limit="2000.0", main_contact_person=person
            ),
        ).json()
        for number in range(12)
    ]
    for one in made:
        assert sage.get(f"/contacts/{one['id']}?nested_attributes=all").status_code == 200
        sage.put(
            f"/contacts/{one['id']}", json={"contact": {"name": "Renamed", "delivery_address": {"country_id": "FR"}}}
        )
    contact_id = made[0]["id"]
    where = {"name": "Store", "address_type_id": "DELIVERY", "is_main_address": False, "country_id": "FR"}
    address = sage.post(
        "/addresses", json={"address": {**where, "contact_id": contact_id, "idempotency_id": secrets.token_hex(16)}}
    ).json()
    assert sage.put(f"/addresses/{address['id']}", json={"address": {"city": "Lille"}}).status_code == 200
    held = {"address_id": address["id"], "name": "Luc", "contact_person_type_ids": ["SALES"]}
    luc = sage.post(
        "/contact_persons", json={"contact_person": {**held, "idempotency_id": secrets.token_hex(16)}}
    ).json()
    assert sage.put(f"/contact_persons/{luc['id']}", json={"contact_person": {"mobile": "06"}}).status_code == 200
    accounts = {"sales_ledger_account_id": account_id(4000), "purchase_ledger_account_id": account_id(5000)}
    chai = {"description": "Chai", "item_code": "1", **accounts, "sales_prices": [{"price_name": "List", "price": 18}]}
    product = sage.post("/products", json={"product": {**chai, "idempotency_id": secrets.token_hex(16)}}).json()
    sage.put(f"/products/{product['id']}", json={"product": {"cost_price": "9.5", "active": False}})
    read = sage.get(f"/products/{product['id']}").json()
    assert (read["cost_price"], read["active"], read["sales_prices"][0]["price"]) == ("9.5", False, "18.0")
    assert sage.get("/products?search=cha&attributes=all").json()["$total"] == 1
    assert (
        sage.post(
            "/products", json={"product": {"idempotency_id": secrets.token_hex(16), **accounts, "description": " "}}
        ).status_code
        == 422
    )
    line = {
        "product_id": product["id"],
        "description": "Chai",
        "ledger_account_id": account_id(4000),
        "quantity": 3,
        "unit_price": 18.25,
    }
    made_quote = {
        "idempotency_id": secrets.token_hex(16),
        "contact_id": contact_id,
        "date": "1996-07-04",
        "expiry_date": "1996-08-01",
        "quote_lines": [{**line, "tax_rate_id": "GB_STANDARD", "tax_amount": 10.95}],
    }
    quote = sage.post("/sales_quotes", json={"sales_quote": made_quote}).json()
    assert sage.put(f"/sales_quotes/{quote['id']}", json={"sales_quote": {"quote_lines": [line]}}).status_code == 200
    read = sage.get(f"/sales_quotes/{quote['id']}?nested_attributes=all").json()
    assert (read["total_amount"], read["quote_lines"][0]["product"]["id"]) == ("54.75", product["id"])
    late = {**made_quote, "idempotency_id": secrets.token_hex(16), "date": "1996-08-02"}
    assert sage.post("/sales_quotes", json={"sales_quote": late}).status_code == 422
    invoice = _live_of_an_invoice(sage, {**made_quote, "contact_id": made[1]["id"]})
    for path in ("/contacts", "/addresses", "/contact_persons", "/sales_quotes", "/sales_invoices"):
        link: str | None = f"{path}?items_per_page=5&attributes=all"
        while link:
            link = sage.get(link).json()["$next"]
        assert sage.get(path, params={"updated_or_created_since": "2026-01-01T00:00:00Z"}).status_code == 200
    assert sage.get("/contacts?attributes=all&nested_attributes=all&contact_type_id=CUSTOMER").json()["$total"] == 12
    assert sage.get(f"/addresses/{address['id']}?nested_attributes=all").status_code == 200
    assert sage.get(f"/contact_persons/{luc['id']}?nested_attributes=all").status_code == 200
    assert sage.post("/contacts", json=_contact("Doubled", reference="C1")).status_code == 422
    assert sage.get("/contacts/0").status_code == 404
    assert sage.delete(f"/contacts/{invoice['contact']['id']}").status_code == 422
    assert sage.delete(f"/sales_quotes/{quote['id']}").status_code == 204
    assert sage.delete(f"/products/{product['id']}").status_code == 204
    assert sage.get(f"/sales_quotes/{quote['id']}").status_code == 404
    assert sage.delete(f"/contact_persons/{luc['id']}").status_code == 204
    assert sage.delete(f"/addresses/{address['id']}").status_code == 204
    assert sage.delete(f"/contacts/{contact_id}").status_code == 204
    for path in ("/contacts", "/addresses", "/contact_persons"):
        assert sage.get(f"{path}?deleted_since=2020-01-01T00:00:00Z&attributes=all").json()["$total"] >= 1
    for path in ("/businesses", "/businesses/lead", f"/businesses/{LEAD.id}", "/user"):
        assert sage.get(path).status_code == 200


def _live_of_an_invoice(sage: httpx2.Client, quote: dict[str, Any]) -> dict[str, Any]:
    """An invoice with the lines of a quote: made, changed, refused and made void. Returns what is left of it."""
    body = {name: value for name, value in quote.items() if name not in ("expiry_date", "quote_lines")}
    body |= {"idempotency_id": secrets.token_hex(16), "reference": "10248", "invoice_lines": quote["quote_lines"]}
    made = sage.post("/sales_invoices", json={"sales_invoice": body}).json()
    assert sage.post("/sales_invoices", json={"sales_invoice": body}).json() == made
    path = f"/sales_invoices/{made['id']}"
    assert (made["invoice_number"], made["status"]["id"], made["due_date"]) == ("SI-1", "UNPAID", "1996-08-03")
    assert (made["total_amount"], made["outstanding_amount"]) == ("65.7", "65.7")

    line = {**quote["quote_lines"][0], "quantity": 1, "tax_amount": 3.65}
    changed = {"due_date": "1996-08-01", "invoice_lines": [line]}
    assert sage.put(path, json={"sales_invoice": changed}).status_code == 200
    read = sage.get(f"{path}?nested_attributes=all").json()
    assert (read["due_date"], read["total_amount"], len(read["invoice_lines"])) == ("1996-08-01", "21.9", 1)
    early = sage.put(path, json={"sales_invoice": {"due_date": "1996-07-03"}})
    assert (early.status_code, early.json()[0]["$source"]) == (422, "due_date")
    assert sage.get("/sales_invoices?search=1024&attributes=all").json()["$total"] == 1
    assert sage.get(f"/sales_invoices?contact_id={quote['contact_id']}").json()["$total"] == 1

    without = sage.delete(path)
    assert (without.status_code, without.json()[0]["$source"]) == (422, "void_reason")
    voided = sage.delete(path, params={"void_reason": "Ordered twice"}).json()
    assert (voided["status"]["id"], voided["void_reason"], voided["editable"]) == ("VOID", "Ordered twice", False)
    assert voided["outstanding_amount"] == "0.0"
    assert sage.get(path).json()["status"]["id"] == "VOID"
    assert sage.put(path, json={"sales_invoice": {"notes": "Too late"}}).status_code == 422
    assert sage.delete(path, params={"void_reason": "Again"}).status_code == 422
    assert sage.get("/sales_invoices?deleted_since=2020-01-01T00:00:00Z").json()["$total"] == 0

    draft = {**body, "idempotency_id": secrets.token_hex(16), "status_id": "DRAFT"}
    key = sage.post("/sales_invoices", json={"sales_invoice": draft}).json()["id"]
    assert sage.delete(f"/sales_invoices/{key}").json()["status"]["id"] == "VOID"
    return voided
