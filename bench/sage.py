"""Both ways between Sage and PostgreSQL, with the sandbox as Sage, on this machine.

Reading: the product's own pull of all customers of a Sage into an empty database. Beside it in the same run, from the
same sandbox: dlt's REST API source into the same PostgreSQL, and a bare loop that only follows the same pages.
Writing: the product's own drain with 50 ms of latency in Sage, beside a bare loop that only sends the same calls, one
after the other, and notes nothing. SYNCLIGHT_BENCH_CONTACTS and SYNCLIGHT_BENCH_RECORDS make both smaller, for trying.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock
from urllib.parse import urlencode, urlsplit

from cryptography.fernet import Fernet
from psycopg import Cursor, RawCursor
from rq import Queue
from sqlalchemy import func, make_url, select, text, update

from bench.servers import own_servers
from tests.accounting import BUSINESS
from tests.sandbox_process import SandboxProcess, free_port
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import CONNECTED, Connection
from webapp.logs import configure
from webapp.queue import PUSH_QUEUE
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import SyncCursor
from webapp.sync.transitions import move_all, queued_as
from workers.engine.due import is_anything_due
from workers.engine.kinds import KINDS
from workers.engine.pull import pull
from workers.engine.push import drain
from workers.interpreter import settle
from workers.sage import open as sage
from workers.sage import tokens
from workers.sage.accounting import customers, documents, persons
from workers.sage.accounting.lists import MOST_PER_PAGE
from workers.sage.connector import CUSTOMER_FIELDS
from workers.sage.wire import Wire
from workers.sandbox.businesses import BUSINESSES
from workers.sandbox.store import Record, Store, new_id
from workers.settings import WorkerSettings

CONTACTS = int(os.environ.get("SYNCLIGHT_BENCH_CONTACTS", "100000"))
RECORDS = int(os.environ.get("SYNCLIGHT_BENCH_RECORDS", "300"))
SMALL_READS = 10_000
LATENCY = 0.05
PEERS = Path(sys.prefix) / "peers" / "bin" / "python"
# What a pull of everything asks for: list -> query.
LISTS = {
    "contacts": {"contact_type_id": customers.CUSTOMER_TYPE, "exclude_system": "true", **customers.ASKED},
    "contact_persons": persons.ASKED,
    "sales_quotes": documents.QUOTES.asked,
}

T = TypeVar("T")


def run() -> list[dict[str, Any]]:
    """The figures: {name, ours, peer, ratio, target}."""
    return [*reading(), *writing(), *side_by_side()]


# --- reading ----------------------------------------------------------------------------------------------------------


def reading() -> list[dict[str, Any]]:
    """Records a second of a full read, the memory that it takes, and how many small reads the sandbox answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few, many = folder / "few", folder / "many"
        fill(few, CONTACTS // 10)
        fill(many, CONTACTS)
        small, _ = _pulled(few, folder / "servers-of-few", CONTACTS // 10, peers=())
        whole, others = _pulled(many, folder / "servers-of-many", CONTACTS, peers=("bare", "dlt", "small"))
        # Before and after the others, so that neither has the better minutes of the machine.
        again, other = _pulled(many, folder / "servers-again", CONTACTS, peers=("bare",))
    rate = 2 * CONTACTS / (whole["seconds"] + again["seconds"])
    bare, peer = 2 * CONTACTS / (others["bare"] + other["bare"]), CONTACTS / others["dlt"]
    rows = f"of {CONTACTS:,} customers, records/s; peer:"
    return [
        row(f"full read {rows} dlt from the same sandbox", rate, peer, 3),
        row(f"full read {rows} only following the pages", rate, bare, 0.7),
        row("processor of it, ms a record", whole["cpu"] / CONTACTS * 1_000, digits=3),
        row(f"memory of it, MB; peer: with {CONTACTS // 10:,} customers", whole["peak"], small["peak"], digits=1),
        row("memory that 10 times as many take more, MB", whole["peak"] - small["peak"], target=20, digits=1),
        row("small reads that the sandbox answers, calls/s", others["small"], target=2_000),
    ]


def _pulled(
    var: Path, folder: Path, contacts: int, *, peers: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """What the pull of a sandbox took, and what each of these others gives for the same sandbox: see `measured`."""
    port = free_port()
    with SandboxProcess().start(port, var) as sandbox, own_servers(folder, sandbox_port=port) as services:
        sandbox.settings(next_link="absolute")
        connection_id = connect(services, sandbox)
        took = in_process(_pull, services.settings, connection_id)
        with services.database.unit_of_work() as work:
            stored = work.session.scalars(select(Company.sync_reason)).all()
            assert stored == [Reason.IN_STEP] * contacts, "not all customers were taken over"
        token = str(sandbox.connect()["access_token"])
        measured: dict[str, Callable[[], float]] = {
            "bare": lambda: in_process(_download, sandbox.base_url, token),
            "dlt": lambda: _dlt(services, sandbox, token, folder / "dlt"),
            "small": lambda: small_reads(sandbox, token),
        }
        return took, {name: measured[name]() for name in peers}


def fill(var: Path, contacts: int) -> None:
    """Give a sandbox that does not run yet so many customers, each with an address and a main person."""
    store = Store(var / "sandbox")
    now = int(time.time()) - 3_600
    with store.transaction():
        for number in range(contacts):
            contact, address, person = new_id(), new_id(), new_id()
            record = partial(Record, business=BUSINESS, created_at=now, updated_at=now)
            place = {
                "name": "Main Address",
                "address_type_id": "SALES",
                "is_main_address": True,
                "address_line_1": f"{number % 400}, Market Street",
                "city": "Århus",
                "postal_code": f"{10_000 + number % 90_000}",
                "country_id": "DK",
            }
            store.put(record(id=address, resource="addresses", state=place, contact_id=contact))
            main = {
                "name": "Main Contact",
                "contact_person_type_ids": ["ACCOUNTS"],
                "address_id": address,
                "telephone": f"030-{number:07}",
                "email": f"office@company{number}.example.com",
                "is_main_contact": True,
            }
            store.put(record(id=person, resource="contact_persons", state=main, contact_id=contact))
            customer = {
                "name": f"Délices Ömer ApS {number}",
                "reference": f"C{number:06}",
                "tax_number": f"DK{number:08}",
                "contact_type_ids": ["CUSTOMER"],
                "main_address_id": address,
                "main_contact_person_id": person,
            }
            store.put(record(id=contact, resource="contacts", state=customer))
    store.close()


def _pull(settings: Any, connection_id: int) -> dict[str, float]:
    """A whole pull in a process of its own: {"seconds", "cpu" (seconds of the processor), "peak" (MB)}."""
    services = _worker(settings)
    began, cpu = time.perf_counter(), time.process_time()
    pull(services, connection_id, partial(sage.connect, reads_only=True))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000}


def _download(base_url: str, token: str) -> float:
    """The seconds that it takes to follow the pages of each list from the first to the last, and to keep nothing."""
    wire, path = Wire(base_url), urlsplit(base_url).path
    headers = {"Authorization": f"Bearer {token}", "X-Business": BUSINESS}
    began = time.perf_counter()
    for name, query in LISTS.items():
        target = f"{path}/{name}?{urlencode({'items_per_page': MOST_PER_PAGE, **query})}"
        while target:
            reply = wire.send("GET", target, headers)
            assert reply.status == 200
            following = urlsplit(json.loads(reply.body)["$next"] or "")
            target = f"{following.path}?{following.query}" if following.path else ""
    return time.perf_counter() - began


def _dlt(services: Services, sandbox: SandboxProcess, token: str, folder: Path) -> float:
    """The seconds that dlt takes to load the same lists into the same PostgreSQL."""
    url = make_url(services.settings.database_url)
    asked = {
        "base_url": sandbox.base_url,
        "token": token,
        "business": BUSINESS,
        "lists": {name: {**query, "items_per_page": MOST_PER_PAGE} for name, query in LISTS.items()},
        "sockets": url.query["host"],
        "database": url.database,
        "folder": str(folder),
    }
    folder.mkdir()
    loader = Path(__file__).parent / "peers" / "dlt_load.py"
    done = subprocess.run(
        [str(PEERS), str(loader)], cwd=folder, input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    with services.database.engine.connect() as database:
        assert database.execute(text("SELECT count(*) FROM peer.contacts")).scalar() == CONTACTS
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def small_reads(sandbox: SandboxProcess, token: str) -> float:
    """How many reads of one customer a sandbox answers in a second, asked by two clients at the same time."""
    key = next(one for one in sandbox.client(BUSINESS).get("/contacts").json()["$items"])["id"]
    request = (
        f"GET /v3.1/contacts/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"X-Business: {BUSINESS}\r\n\r\n"
    ).encode()
    port = urlsplit(sandbox.origin).port or 0
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as clients:
        list(clients.map(_ask, [port] * 2, [request] * 2, [10] * 2))
        began = time.perf_counter()
        list(clients.map(_ask, [port] * 2, [request] * 2, [SMALL_READS // 2] * 2))
        return SMALL_READS / (time.perf_counter() - began)


def _ask(port: int, request: bytes, times: int) -> None:
    """Send a request again and again on one connection, each when the one before was answered."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            connection.sendall(request)
            assert answers.readline().split()[1] == b"200"
            while line := answers.readline().strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            answers.read(length)


# --- writing ----------------------------------------------------------------------------------------------------------


def writing() -> list[dict[str, Any]]:
    """How near a drain comes to what one writer can do, its processor time, and the calls that it makes."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with (
            SandboxProcess().start(port, folder / "sage") as sandbox,
            own_servers(folder, sandbox_port=port) as services,
        ):
            connection_id = connect(services, sandbox, read_until=datetime.now(UTC))
            add_companies(services, [connection_id], RECORDS)
            created = _drained(services, sandbox, connection_id)
            edit_all(services, connection_id)
            updated = _drained(services, sandbox, connection_id)
            bare = _sent_barely(sandbox)
            add_companies(services, [connection_id], 1)
            least = _least_work(services, sandbox, connection_id)
            with services.database.unit_of_work() as work:
                assert set(work.session.scalars(select(Company.sync_reason))) == {Reason.IN_STEP}
    assert len({one["id"] for one in created["ledger"]}) == len({one["id"] for one in updated["ledger"]}) == RECORDS
    rows = []
    for what, done, write in (("new", created, "POST contacts"), ("changed", updated, "PUT contacts")):
        rate, bound = RECORDS / done["seconds"], RECORDS / bare[what]
        sent = f"{RECORDS:,} {what} records sent at {LATENCY * 1_000:.0f} ms a call, records/s"
        cpu = done["cpu"] / RECORDS * 1_000
        rows += [
            row(f"{sent}; peer: only the calls, one after the other", rate, bound, 0.95, digits=2),
            row(f"processor of it, ms a {what} record", cpu, target=4, digits=2),
            row("the same; peer: its calls and its statements alone", cpu, least[what] * 1_000, digits=2),
            row(f"writes for each {what} record", done["asked"][write] / RECORDS, target=1, digits=3),
            row(f"reads for each {what} record", done["asked"].get("GET contacts", 0) / RECORDS, digits=3),
        ]
    return rows


def _drained(services: Services, sandbox: SandboxProcess, connection_id: int) -> dict[str, Any]:
    """What it took to send all that is due, and the calls that Sage saw."""
    before, sequence = sandbox.requests(), len(sandbox.ledger())
    with latency(sandbox):
        took = in_process(drain_all, services.settings, [connection_id])
    asked = {name: n - before.get(name, 0) for name, n in sandbox.requests().items()}
    return {**took, "asked": asked, "ledger": sandbox.ledger()[sequence:]}


def _sent_barely(sandbox: SandboxProcess) -> dict[str, float]:
    """The seconds that one writer needs for the calls alone: to make so many customers, and to read and change each."""
    with latency(sandbox):
        return in_process(_only_the_calls, sandbox.base_url, str(sandbox.connect()["access_token"]))


def _only_the_calls(base_url: str, token: str) -> dict[str, float]:
    wire, path = Wire(base_url), urlsplit(base_url).path
    headers = {"Authorization": f"Bearer {token}", "X-Business": BUSINESS, "Content-Type": "application/json"}

    def call(method: str, target: str, body: Any = None) -> Any:
        reply = wire.send(method, f"{path}/{target}", headers, None if body is None else json.dumps(body).encode())
        assert reply.status in (200, 201), reply.body
        return json.loads(reply.body)

    began = time.perf_counter()
    made = []
    for number in range(RECORDS):
        fields = dict.fromkeys(CUSTOMER_FIELDS, "") | a_company(number, f"B{number}")
        made.append(call("POST", "contacts", customers.create_body(fields, new_id()))["id"])
    new = time.perf_counter() - began
    for customer in made:
        item = call("GET", f"contacts/{customer}?{urlencode(customers.ASKED)}")
        remote = customers.remote_customer(item)
        call("PUT", f"contacts/{customer}", customers.update_body({**remote.fields, "city": "Odense"}, remote))
    return {"new": new, "changed": time.perf_counter() - began - new}


def _least_work(services: Services, sandbox: SandboxProcess, connection_id: int) -> dict[str, float]:
    """The processor seconds that the calls and the statements of one record take, sent by nothing but their libraries.

    One record of the connection has to be due.
    """
    token = str(sandbox.connect()["access_token"])
    with latency(sandbox):
        return in_process(_calls_and_statements, services.settings, connection_id, sandbox.base_url, token)


def _calls_and_statements(settings: Any, connection_id: int, base_url: str, token: str) -> dict[str, float]:
    services = _worker(settings)
    sent: dict[str, Any] = {}

    execute = Cursor.execute

    def note(cursor: Any, statement: Any, values: Any = None, **options: Any) -> Any:
        sent[str(statement)] = values
        return execute(cursor, statement, values, **options)

    with mock.patch.object(Cursor, "execute", note):
        drain(services, connection_id, sage.connect)
    # For a record that is in step already they find nothing, which is the same work here.
    begins = ("WITH due_company", "WITH due AS", "INSERT INTO write_intent", "WITH recorded")
    of_a_record = [one for one in sent.items() if one[0].startswith(begins)]
    assert len(of_a_record) == 4, "a record costs other statements than it did"
    took = {"new": 0.0, "changed": 0.0}
    wire, path = Wire(base_url), urlsplit(base_url).path
    headers = {"Authorization": f"Bearer {token}", "X-Business": BUSINESS, "Content-Type": "application/json"}
    with services.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        cursor = RawCursor(driver)

        def calls(what: str, *asked: tuple[str, str, bytes | None]) -> dict[str, Any]:
            began = time.process_time()
            for statement, values in of_a_record:
                cursor.execute(statement, values).fetchall()
            for method, target, body in asked:
                reply = wire.send(method, f"{path}/{target}", headers, body)
                assert reply.status in (200, 201), reply.body
                answer: dict[str, Any] = json.loads(reply.body)
            took[what] += time.process_time() - began
            return answer

        for number in range(RECORDS // 3):
            fields = dict.fromkeys(CUSTOMER_FIELDS, "") | a_company(number, f"L{number}")
            body = json.dumps(customers.create_body(fields, new_id())).encode()
            target = f"contacts/{calls('new', ('POST', 'contacts', body))['id']}"
            asked = f"{target}?{urlencode(customers.ASKED)}"
            calls("changed", ("GET", asked, None), ("PUT", target, b'{"contact":{"name":"Odense"}}'))
    return {what: seconds / (RECORDS // 3) for what, seconds in took.items()}


@contextmanager
def latency(sandbox: SandboxProcess) -> Iterator[None]:
    """While it is open, each call to the API takes LATENCY longer."""
    sandbox.fault("latency", {"path": "/v3.1"}, seconds=LATENCY)
    yield
    sandbox.clear_faults()


def drain_all(settings: Any, connection_ids: list[int]) -> dict[str, float]:
    """Send all that is due of connections, one after the other: {"seconds", "cpu" (seconds of the processor)}."""
    services = _worker(settings)
    # The jobs that begin these drains are in their hands, and wait for nobody.
    services.redis.delete(Queue(PUSH_QUEUE, connection=services.redis).key)
    with services.database.unit_of_work() as work:
        is_anything_due(work.session, connection_ids[0])
    began, cpu = time.perf_counter(), time.process_time()
    for connection_id in connection_ids:
        for turn in count():
            drain(services, connection_id, sage.connect, hands=2)
            with services.database.unit_of_work() as work:
                if not is_anything_due(work.session, connection_id):
                    break
            assert turn < 10_000, "what is due does not get less"
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def add_companies(services: Services, connection_ids: list[int], companies: int) -> None:
    """Add so many customers that Sage does not have to each connection, as a person would, and all at one moment."""
    with services.database.unit_of_work() as work:
        codes = count(work.session.scalar(select(func.count()).select_from(Company)) or 0)
        for connection in map(partial(work.session.get_one, Connection), connection_ids):
            for number in range(companies):
                create_company(work, a_company(number, f"{next(codes)}"), connection, user_id=None, cause="edit")
        work.commit()


def a_company(number: int, code: str) -> dict[str, str]:
    """The fields of an invented company."""
    return {
        "name": f"Délices Ömer ApS {number}",
        "code": code,
        "email": f"office@company{number}.example.com",
        "phone": f"030-{number:07}",
        "address_line_1": f"{number % 400}, Market Street",
        "city": "Århus",
        "country": "DK",
    }


def edit_all(services: Services, connection_id: int) -> None:
    """Change a field of each company of a connection, and have it sent."""
    with services.database.unit_of_work() as work:
        work.session.execute(update(Company).where(Company.connection_id == connection_id).values(city="Odense"))
        reason, detail = queued_as(work.session.get_one(Connection, connection_id))
        move_all(work, Company, Company.connection_id == connection_id, reason, detail, cause="edit")
        work.commit()


# --- several companies in Sage ----------------------------------------------------------------------------------------


def side_by_side() -> list[dict[str, Any]]:
    """What the pool of workers sends to four companies in Sage, beside what it sends to one."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        with (
            SandboxProcess().start(port, folder / "sage") as sandbox,
            own_servers(folder, sandbox_port=port) as services,
        ):
            now = datetime.now(UTC)
            ids = [connect(services, sandbox, business.id, read_until=now) for business in BUSINESSES]
            with workers(services, folder, sandbox):
                sandbox.fault("latency", {"path": "/v3.1"}, seconds=LATENCY)
                _sent(services, ids, 4)  # The workers have started then.
                one, four = _sent(services, ids[:1], RECORDS), _sent(services, ids, RECORDS)
    what = f"records sent to {len(ids)} companies in Sage, records/s; peer: to one"
    return [row(what, len(ids) * RECORDS / four, RECORDS / one, 3.8, digits=2)]


@contextmanager
def workers(services: Services, folder: Path, sandbox: SandboxProcess) -> Iterator[None]:
    """The pool of workers as the Procfile says."""
    lines = (Path(__file__).parent.parent / "Procfile").read_text(encoding="utf-8").splitlines()
    (command,) = [line.partition(":")[2] for line in lines if line.startswith("worker:")]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DATABASE_URL": services.settings.database_url,
        "REDIS_URL": services.settings.redis_url,
        "SYNCLIGHT_VAR": str(services.settings.var),
        "SYNCLIGHT_SANDBOX_PORT": str(services.settings.sandbox_port),
    }
    with (folder / "worker.log").open("wb") as log:
        pool = subprocess.Popen(
            shlex.split(command.replace("${SYNCLIGHT_WORKERS}", str(services.settings.workers))),
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            pool.terminate()
            pool.wait()


def _sent(services: Services, connection_ids: list[int], records: int) -> float:
    """The seconds in which the workers send so many new records of each connection."""
    add_companies(services, connection_ids, records)
    began = time.time()

    def sent_at() -> datetime | None:
        with services.database.unit_of_work() as work:
            if work.session.scalar(select(func.count()).where(Company.sync_reason != Reason.IN_STEP)):
                return None
            return work.session.scalar(select(func.max(Company.last_synchronised_at)))

    # Asked seldom: the two processors are those that send, too. The database notes when the last one was sent.
    while (ended := sent_at()) is None:
        assert time.time() - began < 600, "not all is sent"
        time.sleep(0.5)
    return ended.timestamp() - began


# --- what both need ---------------------------------------------------------------------------------------------------


def connect(
    services: Services, sandbox: SandboxProcess, business: str = BUSINESS, read_until: datetime | None = None
) -> int:
    """Connect the product to a business of a sandbox, as an admin would. Returns the connection's id.

    With `read_until` it was read already.
    """
    os.environ.setdefault("SYNCLIGHT_TOKEN_KEYS", Fernet.generate_key().decode())
    given = sandbox.connect()
    now = time.time()
    with services.database.unit_of_work() as work:
        connection = Connection(api_url=sandbox.base_url, state=CONNECTED, business_id=business)
        work.session.add(connection)
        work.session.flush()
        for kind in KINDS if read_until else ():
            work.session.add(SyncCursor(connection_id=connection.id, entity=kind.cursor, watermark=read_until))
        work.commit()
        connection_id = connection.id
    fresh = tokens.TokenSet(given["access_token"], given["refresh_token"], now + given["expires_in"], now + 86_400)
    with services.database.engine.begin() as database:
        tokens.keep(database, connection_id, WorkerSettings.load(services.settings).cipher, fresh)
    return connection_id


def _worker(settings: Any) -> Services:
    """The services of this process, which logs as a worker does, but to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    configure("worker")
    services = Services.open(settings, application_name="synclight-worker", pool_size=4)
    with services.database.engine.connect() as database:
        database.execute(text("SELECT 1"))
    settle()
    return services


def in_process(function: Callable[..., T], *args: Any) -> T:
    """What a function returns in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *args).result()


def row(
    name: str, ours: float, peer: float | None = None, target: float | None = None, digits: int = 0
) -> dict[str, Any]:
    """One line of the table. With a peer, the target is for the ratio."""
    ratio = None if peer is None else round(ours / peer, 3)
    shown = None if peer is None else round(peer, digits)
    return {
        "name": name,
        "ours": round(ours, digits or (0 if ours > 100 else 2)),
        "peer": shown,
        "ratio": ratio,
        "target": target,
    }


if __name__ == "__main__":
    for measured in run():
        print(measured)
