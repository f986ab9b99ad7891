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
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.accounting import BUSINESS, accounting, token_of
from tests.sandbox_process import ROOT, SandboxProcess, free_port
from workers.sage.connector import NotFound, OutcomeUnknown, Rejected, SageError, Transient, tidied

SHARED = ROOT.parent / "shared"
REFEREE = SHARED / "tools" / "sage_contract.py"
SPEC = SHARED / "sage" / "accounting-v3.1-swagger.json"

pytestmark = pytest.mark.skipif(
    not (REFEREE.exists() and SPEC.exists()), reason="the referee and Sage's Swagger file are not in ../shared"
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


@pytest.mark.parametrize(
    ("others", "pages", "switches"),
    [(430, [200, 200, 31], {}), (19, [20], {"nested": "full", "size_key": "$items_per_page", "money": "number"})],
)
def test_a_full_life_of_customers_breaks_nothing(
    tmp_path: Path, others: int, pages: list[int], switches: dict[str, str]
) -> None:
    with refereed(tmp_path, **switches) as (sandbox, referee):
        token = token_of(sandbox)
        with accounting(referee.base_url, token) as sage:
            assert sage.check().id == BUSINESS
            begun = datetime.now(UTC) - timedelta(minutes=5)
            body = sage.customers.create_body(FULL, uuid.uuid4().hex)
            made = sage.customers.create(body)
            assert sage.customers.create(body).id == made.id
            with pytest.raises(Rejected):
                sage.customers.create(sage.customers.create_body({**FULL, "name": "Same code"}, uuid.uuid4().hex))

            for changes in ({"city": "Potsdam"}, {"email": ""}, {"code": "", "notes": "", "country": "FR"}, FULL):
                remote = sage.customers.read(made.id)
                fields = {**remote.fields, **changes}
                assert sage.customers.update(made.id, sage.customers.update_body(fields, remote)).fields == tidied(
                    fields
                )

            for number in range(others):
                little = {"name": f"Customer {number}", "code": f"C{number}", "country": "GB"}
                sage.customers.create(sage.customers.create_body(little, uuid.uuid4().hex))
            assert [len(page) for page in sage.customers.changed(None)] == pages
            assert sum(len(page) for page in sage.customers.changed(begun)) == others + 1
            assert list(sage.customers.changed(datetime.now(UTC) + timedelta(minutes=5))) == [[]]

            assert [one.id for one in sage.customers.find({"code": "alfki"})] == [made.id]
            assert [one.id for one in sage.customers.find({"email": FULL["email"]})] == [made.id]
            assert len(sage.customers.find({"name": "Customer 7"})) == 1

            # A part that is edited by itself, in Sage, is read through the lists of the parts.
            sandbox.fault("clock_skew", seconds=600)
            sandbox.edit(made.id, city="Köln", email="other@alfreds.example")
            (page, *_) = [page for page in sage.customers.changed(made.updated_at + timedelta(seconds=300)) if page]
            assert (page[0].id, page[0].fields["city"]) == (made.id, "Köln")

            sandbox.delete(made.id)
            assert [one.id for page in sage.customers.deleted(begun) for one in page] == [made.id]
            with pytest.raises(NotFound):
                sage.customers.read(made.id)
            with pytest.raises(NotFound):
                sage.customers.update(made.id, sage.customers.update_body(FULL, made))
        status, said, broken = referee.stop()

    assert (status, broken) == (0, [])
    assert said.endswith(" exchanges, 0 broken")
    assert int(said.split()[1]) > others + 20


def test_faults_of_sage_break_nothing_on_our_side(tmp_path: Path) -> None:
    """What was not answered is sent again with the same id and the same body, and never two writes at the same time."""
    with refereed(tmp_path) as (sandbox, referee), accounting(referee.base_url, token_of(sandbox)) as sage:
        for kind in ("error_before", "error_after", "unavailable", "rate_limited", "reject"):
            body = sage.customers.create_body({**FULL, "code": kind[:10]}, uuid.uuid4().hex)
            sandbox.fault(kind, times=1)
            with pytest.raises(SageError) as failed:
                sage.customers.create(body)
            assert isinstance(failed.value, OutcomeUnknown | Transient | Rejected)
            made = sage.customers.create(body)
            sandbox.fault(kind, times=1)
            update = sage.customers.update_body({**FULL, "code": kind[:10], "city": "Potsdam"}, made)
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
