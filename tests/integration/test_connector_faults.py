"""What the connector makes of a Sage that fails: the sandbox's faults, and servers that misbehave in other ways."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from tests.accounting import BUSINESS, OTHER_BUSINESS, GivenToken, accounting, token_of
from tests.sandbox_process import SandboxProcess, free_port
from tests.scripted_server import answer, serving
from webapp.orders.amounts import LineValues, lines_text
from workers.sage import wire as wire_module
from workers.sage.accounting.connector import AccountingConnector
from workers.sage.accounting.documents import INVOICES
from workers.sage.connector import (
    AuthoriseAgain,
    Collection,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteRecord,
    SageError,
    Transient,
    Unreachable,
)
from workers.sage.http import Api
from workers.sage.wire import NoAnswer, NotSent, Wire

FIELDS = {"name": "Alfreds Futterkiste", "country": "DE", "code": "ALFKI"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as running:
        yield running


class Life:
    """One customer in a sandbox, and each kind of call on it."""

    def __init__(self, sandbox: SandboxProcess, connector: AccountingConnector) -> None:
        self.sandbox = sandbox
        self.connector = connector
        self.known: RemoteRecord = connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))
        self.body = connector.customers.create_body({"name": "New", "country": "GB"}, uuid.uuid4().hex)
        self.update = connector.customers.update_body({**FIELDS, "city": "Berlin"}, self.known)

    def create(self) -> RemoteRecord:
        return self.connector.customers.create(self.body)

    def change(self) -> RemoteRecord:
        return self.connector.customers.update(self.known.id, self.update)

    def read(self) -> RemoteRecord:
        return self.connector.customers.read(self.known.id)

    def read_all(self) -> list[Any]:
        return list(self.connector.customers.changed(None))

    def applied(self) -> set[str]:
        """What of the two writes Sage has carried out."""
        names = {one["name"] for one in self.sandbox.contacts()}
        cities = {one["main_address"]["city"] for one in self.sandbox.contacts()}
        return ({"create"} if "New" in names else set()) | ({"change"} if "Berlin" in cities else set())


@pytest.fixture
def life(sandbox: SandboxProcess) -> Iterator[Life]:
    sandbox.reset()
    with accounting(sandbox.base_url, token_of(sandbox)) as connector:
        yield Life(sandbox, connector)


FAULTS: list[tuple[str, dict[str, Any], type[SageError], type[SageError], bool]] = [
    # fault, options, error of a read, error of a write, whether the write was applied
    ("offline", {}, Transient, OutcomeUnknown, False),
    ("unavailable", {}, Transient, OutcomeUnknown, False),
    ("rate_limited", {}, Transient, Transient, False),
    ("error_before", {"match": {"path": "/v3.1/"}}, Transient, OutcomeUnknown, False),
    ("error_after", {}, Transient, OutcomeUnknown, True),
    ("no_answer_after", {}, Transient, OutcomeUnknown, True),
    ("truncated", {}, Transient, OutcomeUnknown, True),
    ("html", {}, Transient, OutcomeUnknown, False),
    ("reset", {}, Transient, OutcomeUnknown, True),
    ("reject", {}, Transient, Rejected, False),
    ("reject", {"status": 415, "code": "UnsupportedMediaType"}, Transient, Rejected, False),
    ("reject", {"status": 403, "code": "MultiUserAccessDenied"}, AuthoriseAgain, AuthoriseAgain, False),
]
ON_WRITES_ONLY = {"error_before", "error_after", "no_answer_after", "reject"}


@pytest.mark.parametrize(("kind", "options", "read", "write", "applied"), FAULTS)
def test_a_fault_is_told_apart(
    life: Life, kind: str, options: dict[str, Any], read: type[SageError], write: type[SageError], applied: bool
) -> None:
    life.sandbox.fault(kind, **options)

    for name, call in (("create", life.create), ("change", life.change)):
        with pytest.raises(SageError) as failed:
            call()
        assert type(failed.value) is write, (name, failed.value)
    if kind not in ON_WRITES_ONLY:
        for reading in (life.read, life.read_all):
            with pytest.raises(SageError) as failed:
                reading()
            assert type(failed.value) is read, failed.value

    life.sandbox.clear_faults()
    assert life.applied() == ({"create", "change"} if applied else set())


@pytest.mark.parametrize(
    "kind", ["error_before", "error_after", "no_answer_after", "truncated", "html", "reset", "offline"]
)
def test_after_an_unknown_outcome_the_same_body_leads_to_one_customer(life: Life, kind: str) -> None:
    life.sandbox.fault(kind, times=1)

    with pytest.raises(OutcomeUnknown):
        life.create()
    made = life.create()

    assert [one["name"] for one in life.sandbox.contacts()].count("New") == 1
    assert made.fields["name"] == "New"


@pytest.mark.parametrize("kind", ["error_before", "error_after", "no_answer_after", "truncated", "html", "reset"])
def test_after_an_unknown_outcome_the_same_body_leads_to_one_person_and_one_quote(life: Life, kind: str) -> None:
    line = LineValues("Chai", Decimal(3), Decimal(18))
    order = {"number": "1", "ordered_on": "1996-07-04", "valid_until": "1996-08-01", "lines": lines_text([line])}
    collection: Collection
    for collection, fields, listed in (
        (life.connector.persons, {"name": "Ann"}, "contact_persons"),
        (life.connector.orders, order, "sales_quotes"),
    ):
        body = collection.create_body(fields, uuid.uuid4().hex, life.known.id)
        before = len(life.sandbox.records(listed))
        # What else a create asks for was asked for its body.
        life.sandbox.fault(kind, {"path": f"/v3.1/{listed}"}, times=1)

        with pytest.raises(OutcomeUnknown):
            collection.create(body)
        made = collection.create(body)

        assert len(life.sandbox.records(listed)) == before + 1
        life.sandbox.fault(kind, {"path": f"/v3.1/{listed}/"}, times=1)
        with pytest.raises(OutcomeUnknown):
            collection.update(made.id, collection.update_body(made.fields, made))
        assert collection.read(made.id).fields == made.fields


@pytest.mark.parametrize(("form", "low", "high"), [("seconds", 90, 90), ("date", 85, 91), ("absent", None, None)])
@pytest.mark.parametrize("skew", [0, 3600])
def test_the_wait_of_a_429_is_known_in_all_three_forms(
    life: Life, form: str, low: float | None, high: float | None, skew: int
) -> None:
    if skew:
        life.sandbox.fault("clock_skew", seconds=skew)
    life.sandbox.fault("rate_limited", retry_after=form, seconds=90)

    for call in (life.create, life.read):
        with pytest.raises(Transient) as failed:
            call()
        after = failed.value.after
        assert after is None if low is None or high is None else after is not None and low <= after <= high


def test_the_wait_of_a_503_comes_with_an_unknown_outcome(life: Life) -> None:
    life.sandbox.fault("unavailable", retry_after=40)

    with pytest.raises(OutcomeUnknown) as failed:
        life.create()
    assert failed.value.after == 40


def test_what_sage_refuses_says_which_field(life: Life) -> None:
    life.sandbox.fault("reject", message="The format is wrong.", source="contact.tax_number", times=1)

    with pytest.raises(Rejected) as failed:
        life.change()

    assert failed.value.detail == {"code": "refused", "field": "tax_number"}
    raw = failed.value.raw
    assert raw.pop("request_id")
    assert raw == {
        "status": "422",
        "code": "RecordInvalid",
        "message": "The format is wrong.",
        "source": "contact.tax_number",
    }


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("offline", {}, Unreachable),
        ("unavailable", {}, Unreachable),
        ("truncated", {}, Unreachable),
        ("rate_limited", {}, Transient),
    ],
)
def test_the_check_tells_a_sage_that_is_away_from_one_that_is_busy(
    life: Life, kind: str, options: dict[str, Any], error: type[SageError]
) -> None:
    life.sandbox.fault(kind, **options)

    with pytest.raises(SageError) as failed:
        life.connector.check()
    assert type(failed.value) is error


def test_a_read_heals_by_itself(life: Life) -> None:
    life.sandbox.fault("offline", times=1)

    with pytest.raises(Transient):
        life.read()
    assert life.read().fields == life.known.fields


@pytest.mark.parametrize("by", [1, -1, 50])
def test_pages_that_shift_end(life: Life, by: int) -> None:
    for number in range(401):
        life.sandbox.add(name=f"N {number}")
    life.sandbox.fault("shifting_pages", by=by)

    pages = life.read_all()

    assert len(pages) == 3
    seen = {one.id for page in pages for one in page}
    assert len(seen) >= 402 - 2 * max(by, 1)


def test_one_customer_that_cannot_be_understood_does_not_stop_the_others() -> None:
    broken = {"id": "c" * 32, "name": None, "updated_at": "2026-11-02T09:00:00Z"}
    good = {"id": "d" * 32, "name": "Good", "updated_at": "2026-11-02T09:00:00Z"}
    page = {"$items": [broken, good, None], "$next": None}
    with serving(answer(page)) as server, accounting(server.base_url) as connector, capture_logs() as logs:
        assert [[one.fields["name"] for one in page] for page in connector.customers.changed(None)] == [["Good"]]
    assert ("c" * 32, "warning") in {(line.get("id"), line["log_level"]) for line in logs}


def test_nobody_listens(tmp_path: Path) -> None:
    with accounting(f"http://127.0.0.1:{free_port()}/v3.1") as connector:
        for call in (
            lambda: connector.customers.read("c" * 32),
            lambda: connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex)),
            connector.check,
        ):
            with pytest.raises(Unreachable):
                call()


def test_a_name_that_does_not_exist() -> None:
    with closing(Wire("http://sage.invalid/v3.1")) as wire, pytest.raises(NotSent):
        wire.send("GET", "/", {})


# --- servers that misbehave -------------------------------------------------------------------------------------------


CONTACT = {"id": "c" * 32, "name": "Alfreds", "updated_at": "2026-11-02T09:00:00Z"}
LIST = {"$items": [CONTACT], "$next": None}


def test_each_call_names_the_business_and_the_bearer() -> None:
    with serving(answer(CONTACT)) as server, accounting(server.base_url, "a-token") as connector:
        connector.customers.read("c" * 32)
        connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))

    for request in server.requests:
        assert b"X-Business: " + BUSINESS.encode() in request
        assert b"Authorization: Bearer a-token" in request
    assert server.requests[1].startswith(b"POST /v3.1/contacts HTTP/1.1")
    assert b"Content-Type: application/json" in server.requests[1]


def test_after_an_answer_for_another_business_nothing_more_is_sent() -> None:
    with serving(answer(CONTACT, X_Business=OTHER_BUSINESS)) as server, accounting(server.base_url) as connector:
        body = connector.customers.create_body(FIELDS, uuid.uuid4().hex)
        with pytest.raises(AuthoriseAgain):
            connector.customers.read("c" * 32)
        calls: list[Callable[[], RemoteRecord]] = [
            lambda: connector.customers.create(body),
            lambda: connector.customers.read("c" * 32),
        ]
        for call in calls:
            with pytest.raises(AuthoriseAgain):
                call()

        assert len(server.requests) == 1


def test_an_answer_that_does_not_name_the_business_proves_nothing() -> None:
    with serving(answer(CONTACT, X_Business="")) as server, accounting(server.base_url) as connector:
        with pytest.raises(Transient):
            connector.customers.read("c" * 32)
        with pytest.raises(OutcomeUnknown):
            connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with (
        serving(answer(LIST)) as elsewhere,
        serving(answer(b"", status, Location=f"{elsewhere.base_url}/contacts")) as server,
        accounting(server.base_url) as connector,
    ):
        with pytest.raises(Transient):
            list(connector.customers.changed(None))
        with pytest.raises(OutcomeUnknown):
            connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))

        assert elsewhere.requests == []


def test_no_page_is_fetched_from_another_host() -> None:
    with (
        serving(answer(LIST)) as elsewhere,
        serving(answer({**LIST, "$next": f"{elsewhere.base_url}/contacts?page=2"})) as server,
        accounting(server.base_url) as connector,
    ):
        with pytest.raises(Transient):
            list(connector.customers.changed(None))

        assert elsewhere.requests == []


def test_a_list_that_leads_back_to_itself_ends() -> None:
    with serving(answer({**LIST, "$next": "/contacts?page=1"})) as server, accounting(server.base_url) as connector:
        with pytest.raises(Transient):
            list(connector.customers.changed(None))

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        answer({"an": "object"}),
        answer([CONTACT]),
        answer(b"null"),
        answer(b"[" * 200_000),
        answer(b'{"$items": [' + b'{"id": NaN}, ' * 3),
        answer(b"\xff\xfe\x00"),
    ],
)
def test_an_answer_that_is_no_list_is_none(script: Callable[[socket.socket, bytes], None]) -> None:
    with serving(script) as server, accounting(server.base_url) as connector, pytest.raises(Transient):
        list(connector.customers.changed(None))


def test_an_answer_without_an_id_leaves_the_outcome_of_a_write_open() -> None:
    with (
        serving(answer({"name": "Alfreds"})) as server,
        accounting(server.base_url) as connector,
        pytest.raises(OutcomeUnknown),
    ):
        connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))


def test_an_id_is_a_name_and_no_path() -> None:
    with serving(answer(CONTACT)) as server, accounting(server.base_url) as connector:
        connector.customers.read("../users?x=1#y")

    assert server.requests[0].startswith(b"GET /v3.1/contacts/..%2Fusers%3Fx%3D1%23y?")


# How long a whole call may take in the tests below, and how soon after that it must have ended, on a busy machine too:
# what drips takes 25 s, and what is silent never ends.
CALL, TOLERANCE = 0.6, 5.0


def dripping(whole: bytes) -> Callable[[socket.socket, bytes], None]:
    """A script that sends a byte every now and then: each read gets something, and the whole takes minutes."""

    def script(connection: socket.socket, request: bytes) -> None:
        for byte in whole:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return script


HEAD = f"HTTP/1.1 200 OK\r\nX-Business: {BUSINESS}\r\nContent-Length: 500\r\n\r\n".encode()


def in_pieces(connection: socket.socket, request: bytes) -> None:
    connection.sendall(HEAD)
    dripping(b" " * 500)(connection, request)


def silent(connection: socket.socket, request: bytes) -> None:
    connection.recv(1)


@pytest.mark.parametrize("script", [dripping(HEAD + b" " * 500), in_pieces, silent], ids=["head", "body", "silent"])
def test_a_call_ends_with_its_deadline(script: Callable[[socket.socket, bytes], None]) -> None:
    with serving(script) as server, accounting(server.base_url, call_seconds=CALL) as connector:
        body = connector.customers.create_body(FIELDS, uuid.uuid4().hex)
        calls: list[tuple[Callable[[], RemoteRecord], type[SageError]]] = [
            (lambda: connector.customers.read("c" * 32), Transient),
            (lambda: connector.customers.create(body), OutcomeUnknown),
        ]
        for call, error in calls:
            began = time.monotonic()
            with pytest.raises(error):
                call()
            assert CALL - 0.1 <= time.monotonic() - began <= CALL + TOLERANCE


def test_the_sandboxs_drip_is_within_the_deadline_or_not(sandbox: SandboxProcess) -> None:
    sandbox.reset()
    token = token_of(sandbox)
    sandbox.add(name="Slow")
    sandbox.fault("slow_drip", seconds=0.3)
    with accounting(sandbox.base_url, token) as patient, accounting(sandbox.base_url, token, call_seconds=0.1) as hasty:
        assert len(next(patient.customers.changed(None))) == 1
        with pytest.raises(Transient):
            next(hasty.customers.changed(None))
        with pytest.raises(OutcomeUnknown):
            hasty.customers.create(hasty.customers.create_body(FIELDS, uuid.uuid4().hex))
    sandbox.clear_faults()
    assert {one["name"] for one in sandbox.contacts()} == {"Slow", FIELDS["name"]}


def reset_in_the_middle(connection: socket.socket, request: bytes) -> None:
    connection.sendall(HEAD + b" " * 100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closed_in_the_middle(connection: socket.socket, request: bytes) -> None:
    connection.sendall(HEAD + b" " * 100)
    connection.close()


def closed_at_once(connection: socket.socket, request: bytes) -> None:
    connection.close()


def gzip_cut_off(connection: socket.socket, request: bytes) -> None:
    # All of the text is there, and only its checksum is missing.
    answer(gzip.compress(json.dumps(CONTACT).encode())[:-8], Content_Encoding="gzip")(connection, request)


def too_large(connection: socket.socket, request: bytes) -> None:
    answer({**CONTACT, "notes": "x" * 300_000})(connection, request)


def too_large_when_unzipped(connection: socket.socket, request: bytes) -> None:
    whole = json.dumps({**CONTACT, "notes": "x" * 10_000_000}).encode()
    answer(gzip.compress(whole), Content_Encoding="gzip")(connection, request)


def in_an_encoding_nobody_asked_for(connection: socket.socket, request: bytes) -> None:
    answer(json.dumps(CONTACT).encode(), Content_Encoding="br")(connection, request)


def no_http(connection: socket.socket, request: bytes) -> None:
    connection.sendall(b"220 mail.example ESMTP\r\n")
    connection.close()


WHOLE = json.dumps(CONTACT).encode()
NAMED = f"HTTP/1.1 200 OK\r\nX-Business: {BUSINESS}\r\n".encode()
CHUNKED = NAMED + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(WHOLE), WHOLE)
LONG = NAMED + b"Content-Length: %d\r\n" % len(WHOLE)


def sending(whole: bytes) -> Callable[[socket.socket, bytes], None]:
    """A script that sends these bytes and waits for the next request."""
    return lambda connection, request: connection.sendall(whole)


def saying(whole: bytes) -> Callable[[socket.socket, bytes], None]:
    """A script that sends these bytes and closes the connection."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(whole)
        connection.close()

    return script


def without_an_end(connection: socket.socket, request: bytes) -> None:
    connection.sendall(NAMED)
    while True:
        connection.sendall(b"X-More: " + b"x" * 10_000 + b"\r\n")


# The text of each of the last five is whole JSON: nothing but its frame tells that it is not all that was to come.
@pytest.mark.parametrize(
    "script",
    [
        reset_in_the_middle,
        closed_in_the_middle,
        closed_at_once,
        gzip_cut_off,
        too_large,
        too_large_when_unzipped,
        in_an_encoding_nobody_asked_for,
        no_http,
        without_an_end,
        saying(NAMED + b"Content-Length: %d\r\n\r\n" % (len(WHOLE) + 1) + WHOLE),
        saying(CHUNKED),
        saying(LONG + b"Content-Length: 1\r\n\r\n" + WHOLE),
        saying(LONG + b"Transfer-Encoding: chunked\r\n\r\n" + WHOLE),
        saying(NAMED + b"Content-Length: -1\r\n\r\n" + WHOLE),
    ],
)
def test_half_an_answer_is_none(script: Callable[[socket.socket, bytes], None]) -> None:
    with serving(script) as server, accounting(server.base_url, most_bytes=200_000) as connector:
        with pytest.raises(Transient):
            connector.customers.read("c" * 32)
        with pytest.raises(OutcomeUnknown):
            connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))


def test_a_zipped_answer_is_read() -> None:
    script = answer(gzip.compress(json.dumps(CONTACT).encode()), Content_Encoding="gzip")
    with serving(script) as server, accounting(server.base_url) as connector:
        assert connector.customers.read("c" * 32).fields["name"] == "Alfreds"


@pytest.mark.parametrize(
    "script",
    [
        sending(CHUNKED + b"0\r\nX-Business: other\r\n\r\n"),
        saying(NAMED + b"\r\n" + WHOLE),
        sending(b"HTTP/1.1 103 Early\r\n\r\n" + LONG + b"\r\n" + WHOLE),
    ],
    ids=["chunks", "until-the-end", "after-another"],
)
def test_an_answer_in_any_frame_is_read(script: Callable[[socket.socket, bytes], None]) -> None:
    with serving(script) as server, accounting(server.base_url) as connector:
        for _ in range(2):
            assert connector.customers.read("c" * 32).fields["name"] == "Alfreds"


def test_an_answer_that_nobody_asked_for_is_not_the_next_one() -> None:
    other = json.dumps({**CONTACT, "name": "Another"}).encode()
    unasked = NAMED + b"Content-Length: %d\r\n\r\n" % len(other) + other

    begun: set[socket.socket] = set()

    def ahead(connection: socket.socket, request: bytes) -> None:
        rest = unasked[10:] if connection in begun else b""
        begun.add(connection)
        connection.sendall(rest + LONG + b"\r\n" + WHOLE + unasked[:10])

    with serving(ahead) as server, accounting(server.base_url) as connector:
        for _ in range(3):
            assert connector.customers.read("c" * 32).fields["name"] == "Alfreds"


def test_a_head_cannot_be_given_another_line() -> None:
    """And what is wrong is not told: it could be the token."""
    with serving(answer(CONTACT)) as server, closing(Wire(server.base_url)) as wire:
        for target, headers in (("/v3.1/a b", {}), ("/v3.1", {"Authorization": "Bearer secret\r\nX: y"})):
            with pytest.raises(NotSent) as raised:
                wire.send("GET", target, headers)
            assert "secret" not in str(raised.value)
        assert server.requests == []


def test_a_connection_that_sage_closed_meanwhile_is_not_used_again() -> None:
    closed = threading.Event()

    def once(connection: socket.socket, request: bytes) -> None:
        answer(CONTACT)(connection, request)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with serving(once) as server, accounting(server.base_url) as connector:
        for _ in range(3):
            assert connector.customers.read("c" * 32).id == "c" * 32
            assert closed.wait(timeout=10)
            closed.clear()


def test_the_environment_cannot_send_calls_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with serving(answer(CONTACT)) as server, accounting(server.base_url) as connector:
        assert connector.customers.read("c" * 32).id == "c" * 32


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v3.1", "file:///etc/passwd", "127.0.0.1:8010/v3.1", ""])
def test_only_http_has_a_wire(url: str) -> None:
    with pytest.raises(ValueError, match="no http or https address"):
        Wire(url)


def test_nothing_is_sent_once_the_time_is_over() -> None:
    """A write that begins late could overlap with the next writer's."""
    with serving(answer(CONTACT)) as server, closing(Wire(server.base_url, call_seconds=-1)) as wire:
        with pytest.raises((NotSent, NoAnswer)):
            wire.send("POST", "/v3.1/contacts", {}, b"{}")
        assert server.requests == []


def test_a_call_leaves_nothing_to_the_collector() -> None:
    """What it left would be as large as a page of a list, and there until the collector comes by."""
    with serving(answer(CONTACT)) as server, closing(Wire(server.base_url)) as wire:
        gc.collect()
        gc.disable()
        try:
            assert wire.send("GET", "/v3.1/contacts", {}).status == 200
            assert not [one for one in gc.get_objects() if isinstance(one, wire_module._Answer)]
        finally:
            gc.enable()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that has signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(key.private_bytes(*formats))
    return tmp_path / "certificate", tmp_path / "key"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Lets the machine trust a certificate for one test."""

    def trust(path: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        wire_module._trusted.cache_clear()

    yield trust
    wire_module._trusted.cache_clear()


def test_a_certificate_that_nobody_vouches_for_gets_no_token(certificate: tuple[Path, Path]) -> None:
    with serving(answer(CONTACT), tls=certificate) as server, accounting(server.base_url) as connector:
        with pytest.raises(Unreachable):
            connector.customers.read("c" * 32)
        with pytest.raises(Unreachable):
            connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))
        assert server.requests == []


def test_calls_work_over_tls_and_end_with_their_deadline(
    certificate: tuple[Path, Path], trusted: Callable[[Path], None]
) -> None:
    trusted(certificate[0])
    with serving(answer(CONTACT), tls=certificate) as server, accounting(server.base_url) as connector:
        for _ in range(2):
            assert connector.customers.read("c" * 32).fields["name"] == "Alfreds"
    with (
        serving(dripping(HEAD), tls=certificate) as server,
        accounting(server.base_url, call_seconds=CALL) as connector,
        pytest.raises(Transient),
    ):
        connector.customers.read("c" * 32)


# --- tokens on the way ------------------------------------------------------------------------------------------------


class Renewing(GivenToken):
    """A bearer that has one more token."""

    def __init__(self) -> None:
        super().__init__("old")
        self.refused: list[str] = []

    def renewed(self, refused: str) -> str:
        self.refused.append(refused)
        return "new"


def only_for(token: bytes) -> Callable[[socket.socket, bytes], None]:
    refusal = [{"$severity": "error", "$dataCode": "AuthorizationFailure", "$message": "", "$source": ""}]

    def script(connection: socket.socket, request: bytes) -> None:
        allowed = b"Bearer " + token in request
        (answer(CONTACT) if allowed else answer(refusal, 401))(connection, request)

    return script


def test_a_write_that_an_old_token_was_refused_for_is_sent_once_more() -> None:
    writes: list[None] = []
    bearer = Renewing()
    with serving(only_for(b"new")) as server:
        with closing(Api(server.base_url, bearer, BUSINESS, lambda: writes.append(None))) as api:
            connector = AccountingConnector(api)
            connector.customers.create(connector.customers.create_body(FIELDS, uuid.uuid4().hex))

        assert (len(server.requests), bearer.refused) == (2, ["old"])
        assert server.requests[0].partition(b"\r\n\r\n")[2] == server.requests[1].partition(b"\r\n\r\n")[2]
    # Each request that writes is asked for, the repeated one too.
    assert len(writes) == 2


def test_an_answer_that_says_that_the_invoice_is_void_is_no_success() -> None:
    """Sage says so where somebody made it void meanwhile: our create was sent again, or our change came too late."""
    invoice = {"id": "f" * 32, "status": {"id": "VOID"}, "updated_at": "2026-11-01T08:00:00Z"}
    taxes = {"$items": [], "$next": None}

    def script(connection: socket.socket, request: bytes) -> None:
        answer(taxes if request.startswith(b"GET /v3.1/tax_rates") else invoice)(connection, request)

    with serving(script) as server, accounting(server.base_url, document=INVOICES) as connector:
        with pytest.raises(Rejected) as failed:
            connector.orders.create({"sales_invoice": {}})
        assert failed.value.raw == {"message": "it is void in Sage"}
        with pytest.raises(NotFound):
            connector.orders.update("f" * 32, {"sales_invoice": {}})


def test_a_token_that_is_refused_twice_is_a_matter_of_authorising() -> None:
    with serving(only_for(b"none")) as server, closing(Api(server.base_url, Renewing(), BUSINESS)) as api:
        with pytest.raises(AuthoriseAgain):
            AccountingConnector(api).customers.read("c" * 32)
        assert len(server.requests) == 2


def test_no_token_and_no_body_is_ever_logged(life: Life) -> None:
    secret = "a-very-secret-token"
    with capture_logs() as logs:
        life.create()
        life.connector.customers.find({"name": "Alfreds Futterkiste", "email": "someone@b.example"})
        life.sandbox.fault("reject", message="Something about Alfreds", times=1)
        with pytest.raises(Rejected):
            life.change()
        with accounting(life.sandbox.base_url, secret) as stranger, pytest.raises(AuthoriseAgain):
            stranger.check()
        with pytest.raises(NotFound):
            life.connector.customers.read("d" * 32)

    calls = [line for line in logs if line["event"] == "sage_call"]
    assert len(calls) >= 5
    assert all(line["request_id"] for line in calls)
    told = json.dumps(logs)
    for hidden in (secret, "Bearer", "Alfreds", "someone", "New"):
        assert hidden not in told


def test_errors_hold_no_token(life: Life) -> None:
    with accounting(life.sandbox.base_url, "a-very-secret-token") as stranger, pytest.raises(AuthoriseAgain) as failed:
        stranger.check()
    assert "secret" not in f"{failed.value} {failed.value.raw} {failed.value!r}"
