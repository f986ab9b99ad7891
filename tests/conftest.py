"""What tests share: a real PostgreSQL and Redis, a database for each test, the web app, the running product, a browser.

The servers are the embedded ones, or those of DATABASE_URL and REDIS_URL. Of a Redis that was given so, each test that
uses it empties the database that the URL names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, ClassVar
from uuid import uuid4

import psycopg
import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from redis import Redis
from sqlalchemy import URL, make_url
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed
from werkzeug.routing import Rule
from xdist.scheduler import LoadFileScheduling

from tests.people import add_admin, add_person, sign_in
from tests.screens import give_session
from tests.stack import Stack
from webapp import create_app
from webapp.config import Settings
from webapp.connection.models import CONNECTED, Connection
from webapp.db import UnitOfWork
from webapp.migrations import migrate
from webapp.run import embedded, programs
from webapp.services import Services
from webapp.users import passwords
from webapp.users.models import User

# Tests lose nothing with the machine, so nothing has to reach the disk. Statistics are those that a test asks for: nothing
# that a query does depends on what else was run before.
_FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "autovacuum": "off",
}

# How long a browser may take for anything, in ms: what a context takes by default. Many things share the machine with it.
LONG_ENOUGH = 30_000

# What of Chromium does not run. The first two are parts of its own address bar that no page shows, each with a process and
# half a second of work for every new window. The others are those that Playwright leaves out, and this list takes the
# place of Playwright's (coreBundle.js, disabledFeatures): of several lists Chromium takes the last.
_WITHOUT = [
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
]

_CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--disable-features={','.join(_WITHOUT)}",
]


# Each test of these files tells its stories by itself and needs a core for some seconds.
_STORIES = ("tests/simulation/test_engine.py", "tests/simulation/test_crashes.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first the files that run the whole product, which wait more than they work, then those that open a browser.

    Several processes take what comes next in this order (`make test`), and a long file that is begun last would keep all
    of them waiting. So the stories, which any of them can take one by one, and the short files of unit tests come last.
    """
    fixtures: dict[Path, set[str]] = {}
    for item in items:
        fixtures.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    items.sort(
        key=lambda item: (
            item.path.parent.name == "unit",
            item.nodeid.startswith(_STORIES),
            "stack" not in fixtures[item.path],
            "browser" not in fixtures[item.path],
        )
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """The tests of a file in one process, which share what the file starts, and the stories wherever there is time."""
    return _ByFile(config, log) if config.option.dist == "loadfile" else None


class _ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(_STORIES) else super()._split_scope(nodeid)


@contextmanager
def _running(program: programs.Program) -> Iterator[None]:
    process = programs.start(program)
    try:
        Retrying(retry=retry_if_result(lambda ready: not ready), stop=stop_after_delay(60), wait=wait_fixed(0.02))(
            program.ready
        )
        yield
    finally:
        process.send_signal(program.stop_signal)
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Where servers keep their data, apart from pytest's folders.

    PostgreSQL may run as another system user, and each start of pytest closes the folder that all of its runs share.
    """
    with TemporaryDirectory(prefix="synclight-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def own_folder(servers_folder: Path) -> Path:
    """Like tmp_path, for a test that starts servers."""
    return Path(mkdtemp(dir=servers_folder))


@pytest.fixture(scope="session")
def database_server(servers_folder: Path) -> Iterator[URL]:
    """The URL of a database from which others can be made."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg")
        return
    sockets = servers_folder / "run"
    program = embedded.postgres(
        servers_folder / "postgres", sockets, servers_folder / "postgres.log", settings=_FORGETFUL
    )
    with _running(program):
        yield make_url(f"postgresql+psycopg://postgres@/postgres?host={sockets}")


@pytest.fixture(scope="session")
def redis_url(servers_folder: Path) -> Iterator[str]:
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    sockets = servers_folder / "run"
    with _running(embedded.redis(servers_folder / "redis", sockets, servers_folder / "redis.log")):
        yield f"unix://{sockets / 'redis.sock'}"


def _command(server: URL, statement: str) -> None:
    """Run what PostgreSQL runs outside of transactions only."""
    with psycopg.connect(_plain(server), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def _plain(url: URL) -> str:
    """The URL as psycopg knows it, without SQLAlchemy's name of the driver."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def template_database(database_server: URL) -> Iterator[str]:
    """The name of a database with the newest schema and nothing in it."""
    name = f"synclight_template_{uuid4().hex[:12]}"
    _command(database_server, f"CREATE DATABASE {name}")
    migrate(database_server.set(database=name).render_as_string(hide_password=False))
    yield name
    _command(database_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def tests_database(database_server: URL, template_database: str) -> Iterator[URL]:
    """A database that the tests of this process use one after the other."""
    name = f"synclight_test_{uuid4().hex[:12]}"
    _command(database_server, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield database_server.set(database=name)
    _command(database_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def emptied(tests_database: URL) -> Iterator[Callable[[], None]]:
    """Has nothing in that database and all numbers begin anew, over one connection that stays open."""
    with psycopg.connect(_plain(tests_database), autocommit=True) as connection:

        def empty() -> None:
            connection.execute(_END_OTHERS)
            connection.execute(_EMPTY)

        yield empty


@pytest.fixture
def database_url(tests_database: URL, emptied: Callable[[], None]) -> Iterator[str]:
    """A database with the newest schema and nothing in it, as a URL for SQLAlchemy.

    It is emptied after each test and not made anew, which would take most of the time of a small one.
    """
    yield tests_database.render_as_string(hide_password=False)
    emptied()


# What a test has left open would keep its tables from being emptied.
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
# To delete few rows takes a tenth of the time that a new file takes. The planner takes a table that was never analysed for
# one of ten pages at least, so that one of no more is to it like one that is new.
_EMPTY = """
DO $$
DECLARE
    filled record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR filled IN
        SELECT relname, reltuples >= 0 OR pg_relation_size(oid) > 10 * 8192 AS is_large FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
        AND pg_relation_size(oid) > 0
    LOOP
        EXECUTE format(CASE WHEN filled.is_large THEN 'TRUNCATE %I CASCADE' ELSE 'DELETE FROM %I' END, filled.relname);
    END LOOP;
    PERFORM setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences
    WHERE last_value IS NOT NULL;
END
$$
"""


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        PORT=8000,
        var=tmp_path / "var",
        secret_key="only for tests",
    )


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """An empty Redis."""
    with Redis.from_url(redis_url) as connection:
        connection.flushdb()
        yield connection


@pytest.fixture
def services(settings: Settings, redis: Redis) -> Iterator[Services]:
    opened = Services.open(settings, application_name="synclight-test")
    yield opened
    opened.database.engine.dispose()
    opened.redis.close()


@pytest.fixture
def work(services: Services) -> Iterator[UnitOfWork]:
    """A transaction; it rolls back at the end unless the test commits."""
    with services.database.unit_of_work() as opened:
        yield opened


class _CompiledOnce(Rule):
    """A rule of which the code that makes addresses is compiled once for all apps of this process.

    It depends on nothing but what the rule says, and is most of the work of making an app.
    """

    _builders: ClassVar[dict[Any, Any]] = {}

    def _compile_builder(self, append_unknown: bool = True) -> Any:
        says = (self.rule, str(self.defaults), self.subdomain, self.host, append_unknown)
        if says not in self._builders:
            self._builders[says] = super()._compile_builder(append_unknown)
        return self._builders[says]


@pytest.fixture
def app(settings: Settings, redis: Redis, servers_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(Flask, "url_rule_class", _CompiledOnce)
    made = create_app(settings)
    made.testing = True
    # Each test has an app of its own, and all have the same templates: to compile them takes longer than to answer.
    compiled = servers_folder / "templates"
    compiled.mkdir(exist_ok=True)
    made.jinja_env.bytecode_cache = FileSystemBytecodeCache(str(compiled))
    yield made
    opened: Services = made.extensions["synclight"]
    opened.database.engine.dispose()
    opened.redis.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash costs next to nothing in this process; tests of passwords themselves leave it as dear as it is."""
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def sam(services: Services) -> User:
    """Somebody of the sales staff."""
    return add_person(services)


@pytest.fixture
def browser_of_sam(client: FlaskClient, sam: User) -> FlaskClient:
    assert sign_in(client, sam).status_code == 303
    return client


@pytest.fixture
def app_without_redis(settings: Settings, tmp_path: Path) -> Iterator[Flask]:
    away = settings.model_copy(update={"redis_url_setting": f"unix://{tmp_path}/nothing-listens-here.sock"})
    made = create_app(away)
    yield made
    made.extensions["synclight"].database.engine.dispose()


@pytest.fixture
def browser_of_admin(app: Flask, services: Services) -> FlaskClient:
    client = app.test_client()
    assert sign_in(client, add_admin(services)).status_code == 303
    return client


@pytest.fixture
def connection(services: Services) -> Connection:
    """A connection that works, as far as the web knows."""
    with services.database.unit_of_work() as work:
        made = Connection(api_url="http://127.0.0.1:1", business_name="Northwind Ltd", state=CONNECTED)
        work.session.add(made)
        work.commit()
    return made


@pytest.fixture(scope="module")
def stack(servers_folder: Path) -> Iterator[Stack]:
    """The whole product, as `synclight up` runs it, once for all tests of a module."""
    with Stack(Path(mkdtemp(dir=servers_folder))) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on PATH")
    expect.set_options(timeout=LONG_ENOUGH)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=_CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of its own: no cookie, no storage."""
    opened = browser.new_context(
        viewport={"width": 1280, "height": 800}, locale="en-GB", timezone_id="Europe/London", service_workers="block"
    )
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def logged_in(stack: Stack) -> Callable[..., Page]:
    """Sign a person in: `logged_in(page)`, or `logged_in(page, stack.sales)`. Returns the page, which is still blank."""

    def sign_in(page: Page, email: str | None = None) -> Page:
        give_session(page, stack.url, email or stack.admin, stack.password)
        return page

    return sign_in
