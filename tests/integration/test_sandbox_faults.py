"""What goes wrong on demand: each fault does what it says, to the requests that it is for, as often as it is told."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from tests.sandbox_process import SandboxProcess
from workers.sandbox.businesses import LEAD
from workers.sandbox.faults import KINDS


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as one:
        yield one


@pytest.fixture
def sandbox(running: SandboxProcess) -> SandboxProcess:
    running.reset()
    return running


@pytest.fixture
def sage(sandbox: SandboxProcess) -> Iterator[httpx2.Client]:
    with sandbox.client(LEAD.id) as client:
        yield client


def body(name: str = "Alfreds Futterkiste") -> dict[str, Any]:
    return {
        "contact": {
            "idempotency_id": secrets.token_hex(16),
            "name": name,
            "contact_type_ids": ["CUSTOMER"],
            "main_address": {"country_id": "DE"},
        }
    }


def test_offline_drops_every_connection_of_sage_and_none_of_ours(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("offline")
    for path in ("/contacts", "/businesses"):
        with pytest.raises(httpx2.TransportError):
            sage.get(path)
    with pytest.raises(httpx2.TransportError):
        sage.post("/contacts", json=body())
    with pytest.raises(httpx2.TransportError):
        sandbox.token(grant_type="refresh_token", refresh_token="x")
    with pytest.raises(httpx2.TransportError):
        sandbox.http.get(f"{sandbox.origin}/oauth2/auth/central")
    assert sandbox.http.get(f"{sandbox.origin}/").status_code == 200
    assert sandbox.ledger() == []
    sandbox.clear_faults()
    assert sage.get("/contacts").status_code == 200


def test_a_fault_strikes_as_often_as_it_is_told(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("unavailable", times=2)
    assert [sage.get("/contacts").status_code for _ in range(3)] == [503, 503, 200]
    assert sandbox.faults() == []


def test_a_fault_strikes_only_what_matches(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    match = {"method": "post", "path": "/v3.1/contact*", "body_contains": "Unlucky"}
    sandbox.fault("unavailable", match)
    assert sandbox.faults()[0]["match"] == {**match, "method": "POST"}
    assert sage.get("/contacts").status_code == 200
    assert sage.post("/contacts", json=body("Lucky")).status_code == 201
    assert sage.post("/contacts", json=body("Unlucky")).status_code == 503


def test_latency_delays_one_answer_and_holds_up_no_other(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("latency", {"path": "/v3.1/contacts"}, seconds=0.5)
    start = time.monotonic()
    sage.get("/contacts")
    assert time.monotonic() - start >= 0.5
    sandbox.fault("latency", {"path": "/v3.1/contacts"}, seconds=20)
    assert sage.get("/user").elapsed.total_seconds() < 10


def test_an_error_before_saves_nothing(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("error_before")
    answer = sage.post("/contacts", json=body())
    assert (answer.status_code, answer.json()[0]["$dataCode"]) == (500, "UnexpectedError")
    assert sage.get("/contacts").json()["$total"] == 0


def test_an_error_after_has_saved_and_the_same_id_finds_it(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("error_after", times=1)
    sent = body()
    assert sage.get("/contacts").status_code == 200
    assert sage.post("/contacts", json=sent).status_code == 500
    assert len(sandbox.ledger()) == 1
    again = sage.post("/contacts", json=sent)
    assert (again.status_code, again.json()["id"]) == (201, sandbox.ledger()[0]["id"])
    assert len(sandbox.ledger()) == 1


def test_an_error_after_does_not_stand_in_for_a_refusal(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("error_after", times=1)
    assert sage.post("/contacts", json={"contact": {}}).status_code == 422
    assert len(sandbox.faults()) == 1


def test_no_answer_after_has_saved(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("no_answer_after", times=1)
    sent = body()
    with pytest.raises(httpx2.TransportError):
        sage.post("/contacts", json=sent)
    assert len(sandbox.ledger()) == 1
    assert sage.post("/contacts", json=sent).status_code == 201
    assert len(sandbox.ledger()) == 1


def test_the_answer_of_a_refresh_can_be_lost(sandbox: SandboxProcess) -> None:
    tokens = sandbox.connect()
    sandbox.fault("no_answer_after", {"path": "/token"}, times=1)
    with pytest.raises(httpx2.TransportError):
        sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    answer = sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert answer.json() == {"error": "invalid_grant"}


def test_reject_says_what_it_is_told(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("reject", times=1, message="Not on a Sunday.", source="name")
    entry = sage.post("/contacts", json=body()).json()[0]
    assert entry == {
        "$severity": "error",
        "$dataCode": "RecordInvalid",
        "$message": "Not on a Sunday.",
        "$source": "name",
    }
    sandbox.fault("reject", {"method": "GET"}, status=403, code="MultiUserAccessDenied", message="No access.")
    answer = sage.get("/contacts")
    assert (answer.status_code, answer.json()[0]["$dataCode"]) == (403, "MultiUserAccessDenied")
    assert sandbox.ledger() == []


@pytest.mark.parametrize("form", ["seconds", "date", "absent"])
def test_too_many_requests_in_three_forms(sandbox: SandboxProcess, sage: httpx2.Client, form: str) -> None:
    sandbox.fault("rate_limited", retry_after=form, seconds=7)
    answer = sage.get("/contacts")
    assert answer.status_code == 429
    after = answer.headers.get("retry-after")
    if form == "seconds":
        assert after == "7"
    elif form == "date":
        wait = (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds()
        assert 3 < wait <= 8
    else:
        assert after is None


def test_a_truncated_answer_is_no_json(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("truncated")
    answer = sage.get("/contacts")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r".+"):
        answer.json()


def test_html_stands_in_for_json_and_nothing_is_saved(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("html", times=1)
    answer = sage.post("/contacts", json=body())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert sandbox.ledger() == []


def test_a_dripping_answer_takes_its_time_and_is_whole(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("slow_drip", seconds=0.5)
    start = time.monotonic()
    assert sage.get("/contacts").json()["$total"] == 0
    assert time.monotonic() - start >= 0.4


def test_a_reset_breaks_off_in_the_body_of_a_write_that_was_saved(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("reset", times=1)
    with sage.stream("POST", "/contacts", json=body()) as answer:
        assert answer.status_code == 201
        with pytest.raises(httpx2.TransportError):
            answer.read()
    assert len(sandbox.ledger()) == 1


def test_withdrawn_access_stays_withdrawn(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    tokens = sandbox.connect()
    sandbox.fault("tokens_revoked")
    sandbox.clear_faults()
    assert sage.get("/contacts").status_code == 401
    answer = sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert answer.json() == {"error": "invalid_grant"}
    with sandbox.client() as client:
        assert client.get("/contacts").status_code == 200


def test_expired_access_tokens_can_be_refreshed(sandbox: SandboxProcess) -> None:
    tokens = sandbox.connect()
    sandbox.expire_access_tokens()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert sandbox.http.get(f"{sandbox.base_url}/user", headers=headers).status_code == 401
    assert sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 200


def test_a_stale_read_shows_the_state_before_the_last_write(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    made = sage.post("/contacts", json=body("Before")).json()
    path = f"/contacts/{made['id']}"
    sage.put(path, json={"contact": {"name": "After"}})
    sandbox.fault("stale_read", seconds=60, times=2)
    assert sage.get(path).json()["name"] == "Before"
    assert sage.get("/contacts?attributes=name").json()["$items"][0]["name"] == "Before"
    assert sage.get(path).json()["name"] == "After"
    new = sage.post("/contacts", json=body("New")).json()
    sandbox.fault("stale_read", seconds=60, times=2)
    assert sage.get(f"/contacts/{new['id']}").status_code == 404
    assert len(sage.get("/contacts").json()["$items"]) == 1


@pytest.mark.parametrize(("by", "seen"), [(1, [0, 1, 3]), (-1, [0, 1, 1, 2])])
def test_shifting_pages_skip_or_repeat(sandbox: SandboxProcess, sage: httpx2.Client, by: int, seen: list[int]) -> None:
    made = [sandbox.add(name=f"Customer {number}")["id"] for number in range(4)]
    sandbox.fault("shifting_pages", by=by)
    walked = [
        item["id"] for page in (1, 2) for item in sage.get(f"/contacts?items_per_page=2&page={page}").json()["$items"]
    ]
    assert walked == [made[number] for number in seen]


def test_a_wrong_clock_shows_in_times_and_date(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    sandbox.fault("clock_skew", seconds=-3600)
    answer = sage.post("/contacts", json=body())
    behind = datetime.now(UTC) - datetime.fromisoformat(answer.json()["updated_at"])
    assert 3590 < behind.total_seconds() < 3610
    shown = datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])
    assert 3590 < shown.total_seconds() < 3610
    # Tokens go by the true clock.
    assert (
        sandbox.token(grant_type="refresh_token", refresh_token=sandbox.connect()["refresh_token"]).status_code == 200
    )


def test_one_fault_can_be_switched_off_alone(sandbox: SandboxProcess) -> None:
    first, second = sandbox.fault("offline"), sandbox.fault("latency", seconds=1)
    sandbox.http.delete(f"{sandbox.origin}/_sandbox/faults/{first}")
    assert [one["id"] for one in sandbox.faults()] == [second]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"kind": "gremlins"},
        {"kind": "offline", "times": 0},
        {"kind": "offline", "match": {"colour": "red"}},
        {"kind": "offline", "seconds": 3},
        {"kind": "latency", "seconds": "long"},
        {"kind": "rate_limited", "retry_after": "soon"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: SandboxProcess, asked: dict[str, Any]) -> None:
    answer = sandbox.http.post(f"{sandbox.origin}/_sandbox/faults", json=asked)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert sandbox.faults() == []


def test_every_kind_can_be_switched_on(sandbox: SandboxProcess) -> None:
    for kind in KINDS:
        sandbox.fault(kind)
    assert {one["kind"] for one in sandbox.faults()} == set(KINDS) - {"tokens_revoked"}
