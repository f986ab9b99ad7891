"""The sandbox keeps what it answered, whatever becomes of its process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.sandbox_process import ROOT, SandboxProcess, free_port, local_client
from workers.sandbox.businesses import LEAD
from workers.sandbox.store import Store


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path) as one:
        yield one


def body(number: int) -> dict[str, Any]:
    return {
        "contact": {
            "idempotency_id": f"{number:032x}",
            "name": f"Customer {number}",
            "reference": f"C{number}",
            "contact_type_ids": ["CUSTOMER"],
            "main_address": {"country_id": "DE"},
        }
    }


def state(sandbox: SandboxProcess) -> tuple[Any, ...]:
    """All that a sandbox shows of what it keeps."""
    return sandbox.ledger(), sandbox.contacts(), sandbox.records("sales_quotes"), sandbox.faults(), sandbox.settings()


def test_a_restart_loses_nothing(sandbox: SandboxProcess) -> None:
    tokens = sandbox.connect()
    headers = {"Authorization": f"Bearer {tokens['access_token']}", "X-Business": LEAD.id}
    with local_client(base_url=sandbox.base_url, headers=headers) as sage:
        made = sage.post("/contacts", json=body(1)).json()
        sandbox.edit(made["id"], city="Potsdam")
        gone = sandbox.add(name="Gone")
        sandbox.delete(gone["id"])
        line = {"description": "Chai", "quantity": "3", "unit_price": "18"}
        sandbox.add("sales_quotes", contact_id=made["id"], quote_lines=[line])
        sandbox.fault("latency", times=3, seconds=0.01)
        sandbox.settings(money="number")
        before = state(sandbox)
    sandbox.restart()
    assert state(sandbox) == before
    with local_client(base_url=sandbox.base_url, headers=headers) as sage:
        again = sage.post("/contacts", json=body(1))
        assert (again.status_code, again.json()) == (201, made)
        assert sage.get("/contacts?deleted_since=2020-01-01").json()["$items"][0]["id"] == gone["id"]
    assert len(sandbox.ledger()) == 5
    assert sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 200
    sandbox.restart()
    assert sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 400


def test_a_kill_in_mid_write_loses_no_answered_write(sandbox: SandboxProcess) -> None:
    answered: list[str] = []

    def write(client: httpx2.Client) -> None:
        for number in range(100_000):
            try:
                answer = client.post("/contacts", json=body(number))
            except httpx2.TransportError:
                return
            assert answer.status_code == 201, answer.text
            answered.append(answer.json()["id"])
            if number == 50:
                sandbox.kill()

    with ThreadPoolExecutor(1) as pool, sandbox.client(LEAD.id) as client:
        pool.submit(write, client).result(timeout=60)
    sandbox.restart()
    assert len(answered) == 51
    kept = [one["id"] for one in sandbox.contacts()]
    assert kept[:51] == answered
    assert [line["id"] for line in sandbox.ledger()] == kept
    assert [line["sequence"] for line in sandbox.ledger()] == list(range(1, len(kept) + 1))


def test_a_reset_forgets_all_but_the_tokens(sandbox: SandboxProcess) -> None:
    with sandbox.client(LEAD.id) as sage:
        sage.post("/contacts", json=body(1))
        sandbox.fault("latency", seconds=0.01)
        sandbox.settings(money="number")
        sandbox.reset()
        assert (sandbox.contacts(), sandbox.ledger(), sandbox.faults()) == ([], [], [])
        assert sandbox.settings()["money"] == "string"
        assert sage.post("/contacts", json=body(1)).status_code == 201
    assert sandbox.ledger()[0]["sequence"] == 1


def test_a_second_sandbox_on_the_same_state_says_what_to_do(sandbox: SandboxProcess, tmp_path: Path) -> None:
    second = _start_again(tmp_path, free_port())
    assert second.returncode == 1
    assert second.stderr.strip().endswith("Stop it or set SYNCLIGHT_VAR to another folder.")
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_says_what_to_do(sandbox: SandboxProcess, tmp_path: Path) -> None:
    port = int(sandbox.origin.rpartition(":")[2])
    second = _start_again(tmp_path / "elsewhere", port)
    assert second.returncode == 1
    assert second.stderr.strip().endswith("Set SYNCLIGHT_SANDBOX_PORT.")
    assert "Traceback" not in second.stderr


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox" / "sandbox.sqlite3").write_bytes(b"no database " * 500)
    started = _start_again(tmp_path, free_port())
    assert started.returncode == 1
    assert started.stderr.strip().endswith(f"Delete {tmp_path / 'sandbox'} to begin anew.")
    assert "Traceback" not in started.stderr


def test_a_state_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "sandbox" / "sandbox.sqlite3-wal").mkdir(parents=True)
    started = _start_again(tmp_path, free_port())
    assert started.returncode == 1
    assert started.stderr.strip().endswith("Mend that, or set SYNCLIGHT_VAR.")
    assert "Delete" not in started.stderr


def test_an_empty_sandbox_is_small(sandbox: SandboxProcess) -> None:
    status = Path(f"/proc/{sandbox.pid}/status").read_text(encoding="ascii")
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident < 60 * 1024


def test_tokens_are_not_kept_in_the_clear(sandbox: SandboxProcess, tmp_path: Path) -> None:
    tokens = sandbox.connect()
    sandbox.stop()
    kept = b"".join(file.read_bytes() for file in (tmp_path / "sandbox").iterdir())
    assert kept
    assert tokens["refresh_token"].encode() not in kept
    assert tokens["access_token"].encode() not in kept


def _start_again(var: Path, port: int) -> subprocess.CompletedProcess[str]:
    environment = {"SYNCLIGHT_VAR": str(var), "SYNCLIGHT_SANDBOX_PORT": str(port), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-m", "workers.sandbox"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_counts_how_often_each_list_is_asked(tmp_path: Path) -> None:
    with SandboxProcess().start(var=tmp_path) as sandbox, sandbox.client(LEAD.id) as sage:
        assert sandbox.requests() == {}
        key = sandbox.add(name="A customer")["id"]
        sage.get("/contacts")
        sage.get(f"/contacts/{key}")
        sandbox.fault("unavailable")
        assert sage.put(f"/contacts/{key}", json={}).status_code == 503
        assert sandbox.requests() == {"GET contacts": 2, "PUT contacts": 1}
        sandbox.reset()
        assert sandbox.requests() == {}


def test_an_answer_is_kept_for_seven_days_and_costs_the_same_beside_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    steps = count()
    store._sql.set_progress_handler(lambda: next(steps) < 0, 100)

    def kept(number: int) -> int:
        """How many hundreds of steps SQLite takes to keep one more."""
        before = next(steps)
        store.keep_answer(LEAD.id, f"{number:032x}", "hash", 201, b"{}")
        return next(steps) - before

    first = kept(0)
    with store.transaction():
        for number in range(1, 3_000):
            kept(number)
    assert kept(3_000) <= first + 5
    assert store.answer(LEAD.id, f"{0:032x}") == ("hash", 201, b"{}")
    a_week_later = time.time() + 7 * 86_400
    monkeypatch.setattr(time, "time", lambda: a_week_later)
    assert store.answer(LEAD.id, f"{0:032x}") is None
    kept(3_001)
    assert store._sql.execute("SELECT count(*) FROM answer").fetchone() == (1,)
    store.close()
