"""Sage's tokens: given by consent, kept encrypted, renewed by one process at a time."""

from __future__ import annotations

import json
import multiprocessing
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import structlog
from cryptography.fernet import Fernet, MultiFernet
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy import select, text
from structlog.testing import capture_logs

from tests.accounting import BUSINESS
from tests.sandbox_process import REDIRECT_URI, SandboxProcess
from tests.scripted_server import ScriptedServer, answer, serving
from webapp.config import Settings, SettingsError
from webapp.connection.models import CONNECTED, Connection
from webapp.db import Database
from webapp.logs import _EXCEPTION_AS_FIELDS
from webapp.services import Services
from workers import jobs
from workers.keys import Keys, id_of, key_id
from workers.keys import main as keys_command
from workers.sage import tokens as token_module
from workers.sage import wire as wire_module
from workers.sage.connector import AuthoriseAgain, Transient, Unreachable
from workers.sage.open import Grant, connect, exchange, keep
from workers.sage.tokens import StoredTokens, TokenEndpoint, TokenSet, opened, sealed
from workers.sandbox.businesses import BUSINESSES
from workers.settings import WorkerSettings

KEY = Fernet.generate_key().decode()
CIPHER = Keys([KEY])
NEVER = 4_000_000_000.0


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(box: SandboxProcess) -> SandboxProcess:
    box.reset()
    return box


@pytest.fixture
def worker(services: Services, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The services of a worker that has the keys, and whose Sage is the sandbox."""
    monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", KEY)
    return replace(services, settings=services.settings.model_copy(update={"sage_base_url": sandbox.base_url}))


def connection(services: Services, api_url: str, tokens: bytes | None = None, business: str | None = BUSINESS) -> int:
    """A row, with or without tokens. Returns its id."""
    with services.database.unit_of_work() as work:
        row = Connection(api_url=api_url, state=CONNECTED, business_id=business, tokens=tokens)
        work.session.add(row)
        work.session.flush()
        work.session.commit()
        return row.id


def consent(worker: Services, sandbox: SandboxProcess, connection_id: int) -> Grant:
    given = sandbox.authorise()
    return exchange(worker, connection_id, given["code"], REDIRECT_URI, given["verifier"])


def keep_grant(worker: Services, connection_id: int, grant: Grant) -> None:
    with worker.database.unit_of_work() as work:
        keep(worker, work, connection_id, grant)
        work.commit()


@pytest.fixture
def connected(worker: Services, sandbox: SandboxProcess) -> int:
    """A connection with fresh tokens."""
    connection_id = connection(worker, sandbox.base_url)
    keep_grant(worker, connection_id, consent(worker, sandbox, connection_id))
    return connection_id


def stored(services: Services, connection_id: int) -> TokenSet:
    with services.database.engine.connect() as database:
        return opened(
            database.execute(select(Connection.tokens).where(Connection.id == connection_id)).scalar_one(), CIPHER
        )


def refreshes(logs: list[Any]) -> int:
    return sum(1 for line in logs if line["event"] == "sage_token_call" and line["grant"] == "refresh_token")


class TestConsent:
    def test_a_code_gives_tokens_and_businesses_and_stores_nothing(
        self, worker: Services, sandbox: SandboxProcess
    ) -> None:
        connection_id = connection(worker, sandbox.base_url, business=None)
        given = sandbox.authorise()
        assert "/" in given["code"]

        grant = exchange(worker, connection_id, given["code"], REDIRECT_URI, given["verifier"])

        assert [one.id for one in grant.businesses] == [one.id for one in BUSINESSES]
        with worker.database.engine.connect() as database:
            assert database.execute(select(Connection.tokens)).scalar() is None

    def test_kept_tokens_open_sage_and_cannot_be_read(self, worker: Services, connected: int) -> None:
        tokens = stored(worker, connected)
        with worker.database.engine.connect() as database:
            row = database.execute(text("SELECT tokens, own_version FROM sage_connection")).one()
        for token in (tokens.access_token, tokens.refresh_token):
            assert token.encode() not in bytes(row.tokens)
        # No other writer of the row is told of it.
        assert row.own_version == 1

        with connect(worker, connected) as sage:
            assert sage.check().id == BUSINESS

    def test_a_code_works_once(self, worker: Services, sandbox: SandboxProcess) -> None:
        connection_id = connection(worker, sandbox.base_url)
        given = sandbox.authorise()
        exchange(worker, connection_id, given["code"], REDIRECT_URI, given["verifier"])

        with pytest.raises(AuthoriseAgain) as failed:
            exchange(worker, connection_id, given["code"], REDIRECT_URI, given["verifier"])
        assert failed.value.raw == {"status": "400", "code": "invalid_grant"}

    def test_a_code_without_its_verifier_is_worth_nothing(self, worker: Services, sandbox: SandboxProcess) -> None:
        with pytest.raises(AuthoriseAgain):
            exchange(worker, connection(worker, sandbox.base_url), sandbox.authorise()["code"], REDIRECT_URI, "x" * 43)

    def test_a_lost_answer_is_passing_and_a_code_is_never_sent_twice(
        self, worker: Services, sandbox: SandboxProcess
    ) -> None:
        sandbox.fault("offline", match={"path": "/token"}, times=1)

        with pytest.raises(Transient):
            consent(worker, sandbox, connection(worker, sandbox.base_url))
        assert sandbox.faults() == []

    def test_an_address_that_the_settings_do_not_name_gets_nothing(self, worker: Services) -> None:
        with serving(answer({})) as elsewhere:
            connection_id = connection(worker, elsewhere.base_url, sealed(_given("a", "b"), CIPHER))
            with pytest.raises(Unreachable), connect(worker, connection_id):
                pass
            with pytest.raises(Unreachable):
                exchange(worker, connection_id, "code", REDIRECT_URI, "verifier")
            assert elsewhere.requests == []

    def test_nothing_is_shown_of_a_grant(self, worker: Services, sandbox: SandboxProcess) -> None:
        grant = consent(worker, sandbox, connection(worker, sandbox.base_url))

        assert grant.tokens.access_token not in repr(grant)
        assert grant.tokens.refresh_token not in repr(grant) + repr(grant.tokens)


class TestRenewing:
    def test_a_fresh_token_is_used_as_it_is(self, worker: Services, connected: int) -> None:
        with capture_logs() as logs, connect(worker, connected) as sage:
            sage.check()
            sage.check()

        assert refreshes(logs) == 0

    def test_a_token_that_sage_no_longer_takes_is_renewed_once(
        self, worker: Services, sandbox: SandboxProcess, connected: int
    ) -> None:
        before = stored(worker, connected)
        sandbox.expire_access_tokens()

        with capture_logs() as logs, connect(worker, connected) as sage:
            sage.check()
            sage.check()

        assert refreshes(logs) == 1
        after = stored(worker, connected)
        assert after.access_token != before.access_token
        assert after.refresh_token != before.refresh_token

    def test_a_token_that_is_about_to_run_out_is_renewed_before_it_is_used(
        self, worker: Services, sandbox: SandboxProcess
    ) -> None:
        sandbox.settings(access_token_seconds=25)
        connection_id = connection(worker, sandbox.base_url)
        keep_grant(worker, connection_id, consent(worker, sandbox, connection_id))
        sandbox.settings(access_token_seconds=300)

        with capture_logs() as logs, connect(worker, connection_id) as sage:
            sage.check()

        assert refreshes(logs) == 1
        assert all(line.get("status") != 401 for line in logs)
        assert stored(worker, connection_id).lasts(30)

    def test_who_renewed_first_renewed_for_all(self, worker: Services, sandbox: SandboxProcess, connected: int) -> None:
        with connect(worker, connected) as one, connect(worker, connected) as other:
            one.check()
            other.check()
            sandbox.expire_access_tokens()
            with capture_logs() as logs:
                one.check()
                other.check()

        assert refreshes(logs) == 1

    def test_revoked_tokens_are_a_matter_of_authorising(
        self, worker: Services, sandbox: SandboxProcess, connected: int
    ) -> None:
        sandbox.fault("tokens_revoked")

        with connect(worker, connected) as sage, pytest.raises(AuthoriseAgain) as failed:
            sage.check()
        assert failed.value.raw == {"status": "400", "code": "invalid_grant"}

    def test_a_lost_answer_that_sage_did_not_apply_is_made_good(
        self, worker: Services, sandbox: SandboxProcess, connected: int
    ) -> None:
        sandbox.expire_access_tokens()
        sandbox.fault("offline", match={"path": "/token"}, times=1)

        with connect(worker, connected) as sage:
            assert sage.check().id == BUSINESS

    def test_a_lost_answer_that_sage_did_apply_costs_the_connection(
        self, worker: Services, sandbox: SandboxProcess, connected: int
    ) -> None:
        """The new tokens are gone and the old ones used up: nothing but a person's consent gives others."""
        sandbox.expire_access_tokens()
        sandbox.fault("reset", match={"path": "/token"}, times=1)

        with connect(worker, connected) as sage, pytest.raises(AuthoriseAgain):
            sage.check()

    @pytest.mark.parametrize("kind", ["offline", "unavailable"])
    def test_a_token_endpoint_that_is_away_is_passing(
        self, worker: Services, sandbox: SandboxProcess, connected: int, kind: str
    ) -> None:
        before = stored(worker, connected)
        sandbox.expire_access_tokens()
        sandbox.fault(kind, match={"path": "/token"})

        with connect(worker, connected) as sage:
            with pytest.raises(Transient):
                sage.customers.read("c" * 32)
            sandbox.clear_faults()
            assert sage.check().id == BUSINESS
        assert stored(worker, connected) != before

    def test_a_wrong_secret_is_told_to_the_operator(
        self, worker: Services, sandbox: SandboxProcess, connected: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SYNCLIGHT_SAGE_CLIENT_SECRET", "not-the-secret")
        sandbox.expire_access_tokens()

        with capture_logs() as logs, connect(worker, connected) as sage, pytest.raises(AuthoriseAgain):
            sage.check()

        (line,) = [line for line in logs if line["event"] == "sage_refuses_this_application"]
        assert line["code"] == "invalid_client"
        assert "not-the-secret" not in json.dumps(logs)

    def test_no_token_is_logged(self, worker: Services, sandbox: SandboxProcess) -> None:
        connection_id = connection(worker, sandbox.base_url)
        with capture_logs() as logs:
            grant = consent(worker, sandbox, connection_id)
            keep_grant(worker, connection_id, grant)
            sandbox.expire_access_tokens()
            with connect(worker, connection_id) as sage:
                sage.check()
        after = stored(worker, connection_id)

        assert refreshes(logs) == 1, "what is done with tokens is logged"
        told = json.dumps(logs)
        for tokens in (grant.tokens, after):
            assert tokens.access_token not in told
            assert tokens.refresh_token not in told

    def test_no_token_is_in_a_traceback(
        self, worker: Services, connected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Neither in what is logged of a bug, nor in what the queue keeps of a job that failed."""

        def breaks(*arguments: object, **more: object) -> None:
            raise ZeroDivisionError("a bug, with the token among the arguments of this call")

        monkeypatch.setattr(wire_module.Wire, "send", breaks)
        monkeypatch.setattr(jobs, "services", lambda: worker)
        queue = Queue(connection=worker.redis, serializer=JSONSerializer)
        job = queue.enqueue_call("workers.jobs.pull", args=(connected,), failure_ttl=300)
        SimpleWorker([queue], connection=worker.redis, serializer=JSONSerializer).work(burst=True)
        kept = job.latest_result().exc_string
        assert "ZeroDivisionError" in kept
        log = [_EXCEPTION_AS_FIELDS, structlog.processors.JSONRenderer()]
        try:
            with connect(worker, connected) as sage:
                sage.check()
        except ZeroDivisionError:
            line = {"event": "attempt_broke", "exc_info": True}
            for step in log:
                line = step(None, "error", line)  # type: ignore[operator,assignment]
        assert "ZeroDivisionError" in line
        tokens = stored(worker, connected)
        for secret in (tokens.access_token, tokens.refresh_token, KEY, "sandbox-secret"):
            assert secret not in kept + str(line) + capsys.readouterr().err

    def test_without_tokens_or_business_a_person_must_authorise(
        self, worker: Services, sandbox: SandboxProcess, connected: int
    ) -> None:
        without_tokens = connection(worker, sandbox.base_url, business="f" * 32)
        with connect(worker, without_tokens) as sage, pytest.raises(AuthoriseAgain):
            sage.check()
        without_business = connection(worker, sandbox.base_url, business=None)
        with pytest.raises(AuthoriseAgain), connect(worker, without_business):
            pass


def renew_again_and_again(
    database_url: str, token_url: str, connection_id: int, key: str, rounds: int, together: Any, results: Any
) -> None:
    """What each of two processes does: renew the same token at the same instant.

    Puts how often it asked Sage, and the token, of each round.
    """
    endpoint = TokenEndpoint(token_url, "synclight-sandbox", "sandbox-secret")
    tokens = StoredTokens(Database(database_url, pool_size=2), connection_id, Keys([key]), endpoint)
    token = tokens.access()
    for _ in range(rounds):
        together.wait(timeout=60)
        with capture_logs() as logs:
            token = tokens.renewed(token)
        results.put((refreshes(logs), token))


class TestTogether:
    def test_two_processes_renew_at_the_same_instant_once(
        self, worker: Services, sandbox: SandboxProcess, connected: int, database_url: str
    ) -> None:
        rounds = 200
        spawn = multiprocessing.get_context("spawn")
        results, together = spawn.Queue(), spawn.Barrier(2)
        arguments = (database_url, f"{sandbox.origin}/token", connected, KEY, rounds, together, results)
        processes = [spawn.Process(target=renew_again_and_again, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        told = [results.get(timeout=60) for _ in range(2 * rounds)]
        for process in processes:
            process.join(timeout=60)

        assert [process.exitcode for process in processes] == [0, 0]
        assert sum(count for count, _ in told) == rounds
        assert len({token for _, token in told}) == rounds
        with connect(worker, connected) as sage:
            assert sage.check().id == BUSINESS

    def test_who_waits_too_long_for_the_other_tries_again_later(
        self, worker: Services, sandbox: SandboxProcess, connected: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_module, "_LOCK_SECONDS", 1)
        sandbox.expire_access_tokens()
        with worker.database.engine.begin() as other:
            other.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"sage-tokens:{connected}"}
            )
            with connect(worker, connected) as sage, pytest.raises(Transient):
                sage.customers.read("c" * 32)

    def test_the_row_can_be_changed_while_its_tokens_are_renewed(self, worker: Services, services: Services) -> None:
        renamed = threading.Event()

        def script(connection: socket.socket, request: bytes) -> None:
            with services.database.unit_of_work() as work:
                work.session.get_one(Connection, connection_id).business_name = "Renamed"
                work.session.commit()
            renamed.set()
            given("new")(connection, request)

        with serving(script) as server:
            connection_id, tokens = renewing(worker, server)
            assert tokens.access() == "new"
        assert renamed.is_set()
        with worker.database.unit_of_work() as work:
            assert work.session.get_one(Connection, connection_id).business_name == "Renamed"

    def test_new_tokens_survive_a_database_that_restarts_under_them(self, worker: Services) -> None:
        """The old refresh token is used up by then, so the new ones must not be lost with their transaction."""

        def script(connection: socket.socket, request: bytes) -> None:
            with worker.database.engine.connect() as database:
                others = "application_name = 'synclight-test' AND pid <> pg_backend_pid()"
                database.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
            given("new")(connection, request)

        with serving(script) as server:
            connection_id, tokens = renewing(worker, server)
            assert tokens.access() == "new"
            assert len(server.requests) == 1
        assert stored(worker, connection_id).access_token == "new"

    def test_who_lost_the_lock_takes_what_the_other_stored(self, worker: Services) -> None:
        """A database that restarts lets two renew at once: one is refused, and the other's tokens count."""

        def script(connection: socket.socket, request: bytes) -> None:
            with worker.database.engine.begin() as database:
                tokens = sealed(_given("theirs", "refresh-theirs"), CIPHER)
                database.execute(text("UPDATE sage_connection SET tokens = :tokens"), {"tokens": tokens})
            answer({"error": "invalid_grant"}, 400)(connection, request)

        with serving(script) as server:
            _, tokens = renewing(worker, server)
            assert tokens.access() == "theirs"


def _given(access: str, refresh: str, expires_at: float = NEVER) -> TokenSet:
    return TokenSet(access, refresh, expires_at, NEVER)


def given(access: str, **changes: Any) -> Callable[[socket.socket, bytes], None]:
    """A script that gives tokens."""
    whole = {"access_token": access, "refresh_token": f"refresh-{access}", "expires_in": 300, "token_type": "bearer"}
    return answer({**whole, "refresh_token_expires_in": 2_678_400, **changes})


def renewing(services: Services, server: ScriptedServer) -> tuple[int, StoredTokens]:
    """A connection whose token has run out, and its tokens at a token endpoint that is this server."""
    connection_id = connection(services, server.base_url, sealed(_given("old", "refresh-old", expires_at=0), CIPHER))
    endpoint = TokenEndpoint(f"{server.base_url}/token", "an-id", "a-secret")
    return connection_id, StoredTokens(services.database, connection_id, CIPHER, endpoint)


class TestEndpoint:
    def test_it_is_asked_as_oauth_says(self, worker: Services) -> None:
        with serving(given("new")) as server:
            _, tokens = renewing(worker, server)
            tokens.access()

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v3.1/token HTTP/1.1")
        assert b"Content-Type: application/x-www-form-urlencoded" in head
        assert parse_qs(body.decode()) == {
            "client_id": ["an-id"],
            "client_secret": ["a-secret"],
            "grant_type": ["refresh_token"],
            "refresh_token": ["refresh-old"],
        }

    @pytest.mark.parametrize(
        "script",
        [
            answer(b"<html>We will be back</html>"),
            answer({}),
            answer([]),
            given(""),
            given("new\r\nX-Evil: 1"),
            given("n\u00e9w"),
            given("new", refresh_token=None),
            given("new", expires_in="soon"),
        ],
    )
    def test_an_answer_without_tokens_is_asked_for_once_more(
        self, worker: Services, script: Callable[[socket.socket, bytes], None]
    ) -> None:
        with serving(script) as server:
            connection_id, tokens = renewing(worker, server)
            with pytest.raises(Transient):
                tokens.access()
            assert len(server.requests) == 2
        assert stored(worker, connection_id).refresh_token == "refresh-old"

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, AuthoriseAgain),
            (401, AuthoriseAgain),
            (429, Transient),
            (500, Transient),
            (503, Transient),
            (302, Transient),
        ],
    )
    def test_a_refusal_is_not_repeated(self, worker: Services, status: int, error: type[Exception]) -> None:
        with serving(answer({"error": "unauthorized_client"}, status, Retry_After="9")) as server:
            _, tokens = renewing(worker, server)
            with pytest.raises(error) as failed:
                tokens.access()
            assert len(server.requests) == 1
        if isinstance(failed.value, Transient):
            assert failed.value.after == 9


class TestKeys:
    def test_a_new_key_encrypts_and_the_old_one_still_opens(self) -> None:
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        tokens = _given("access", "refresh")
        before = sealed(tokens, WorkerSettings(token_keys=old).cipher)

        rotated = WorkerSettings(token_keys=f"{new}, {old},").cipher

        assert opened(before, rotated) == tokens
        assert opened(sealed(tokens, rotated), WorkerSettings(token_keys=new).cipher) == tokens

    def test_tokens_of_a_key_that_is_gone_are_a_matter_of_authorising(self) -> None:
        with pytest.raises(AuthoriseAgain), capture_logs() as logs:
            opened(sealed(_given("a", "b"), CIPHER), WorkerSettings(token_keys=Fernet.generate_key().decode()).cipher)
        assert "SYNCLIGHT_TOKEN_KEYS" in logs[0]["remedy"]

    def test_what_is_stored_says_which_key_opens_it_and_nothing_of_the_key(self) -> None:
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        stored = sealed(_given("access", "refresh"), Keys([new, old]))
        assert id_of(stored) == key_id(new)
        assert new not in stored.decode()
        with pytest.raises(AuthoriseAgain):
            opened(stored, Keys([old]))

    def test_rotating_encrypts_all_anew_and_says_what_it_cannot_open(
        self, services: Services, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        old, new, lost = (Fernet.generate_key().decode() for _ in range(3))
        tokens = _given("access", "refresh")
        # Encrypted before keys had ids, by the old key, by the new one, and by one that is gone.
        how = [MultiFernet([Fernet(old)]), Keys([old]), Keys([new]), Keys([lost])]
        ids = [
            connection(services, "http://sage.test", sealed(tokens, one), business=f"{place:032x}")
            for place, one in enumerate(how)
        ]
        monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", f"{new},{old}")
        monkeypatch.setattr(Settings, "load", lambda: services.settings)
        assert keys_command(["list"]) == 0
        assert f"Key {key_id(old)}: 1 connections, still needed." in capsys.readouterr().out
        assert keys_command(["rotate"]) == 1
        said = capsys.readouterr()
        assert f"2 re-encrypted with the key {key_id(new)}." in said.out
        assert f"Key {key_id(old)}: 0 connections, can be taken out." in said.out
        assert f"the tokens of {ids[3]}." in said.err
        with services.database.engine.connect() as database:
            after = database.execute(select(Connection.tokens).order_by(Connection.id)).scalars().all()
        for one in after[:3]:
            assert opened(bytes(one), Keys([new])) == tokens
        assert opened(bytes(after[3]), Keys([lost])) == tokens
        assert not any(key in said.out + said.err for key in (old, new, lost))

    @pytest.mark.parametrize("keys", ["", " , ", "not-a-key", f"{KEY},short"], ids=["none", "blank", "one", "second"])
    def test_keys_that_are_none_are_refused(self, keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", keys)
        with pytest.raises(SettingsError) as refused:
            WorkerSettings.load(Settings())

        said = str(refused.value)
        assert said.startswith("SYNCLIGHT_TOKEN_KEYS: ")
        assert "generate_key" in said
        assert "\n" not in said
        assert not any(key.strip() in said for key in keys.split(",") if key.strip())

    def test_a_wrong_setting_is_called_as_an_operator_knows_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", KEY)
        monkeypatch.setenv("SYNCLIGHT_SAGE_CALLS_A_MINUTE", "many")
        with pytest.raises(SettingsError, match=r"^SYNCLIGHT_SAGE_CALLS_A_MINUTE .* \(it is 'many'\)$"):
            WorkerSettings.load(Settings())

    def test_keys_can_come_from_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "keys").write_text(f"{KEY}\n")
        # Whatever is read from the file stands in the environment afterwards: let pytest take it away again.
        monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", "")
        monkeypatch.delenv("SYNCLIGHT_TOKEN_KEYS")
        monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS_FILE", str(tmp_path / "keys"))

        loaded = WorkerSettings.load(Settings())

        assert loaded.token_keys.get_secret_value() == KEY
        assert KEY not in repr(loaded)

    def test_sage_itself_is_not_asked_with_the_sandboxs_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNCLIGHT_TOKEN_KEYS", KEY)
        real = Settings(sage_base_url="https://api.accounting.sage.com/v3.1/")
        with pytest.raises(SettingsError, match="SYNCLIGHT_SAGE_CLIENT_SECRET"):
            WorkerSettings.load(real)

        monkeypatch.setenv("SYNCLIGHT_SAGE_CLIENT_SECRET", "a-real-one")
        assert WorkerSettings.load(real).sage_client_secret.get_secret_value() == "a-real-one"
