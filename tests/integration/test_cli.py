"""The commands against a real database and Redis: most of them called in this process, some in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import URL, select

from tests.people import add_person
from tests.stack import OUR_SETTINGS, ROOT, SYNCLIGHT
from webapp.cli import main
from webapp.companies.changes import create_company
from webapp.companies.clean import clean_company
from webapp.companies.models import Company
from webapp.config import Settings
from webapp.connection.models import CONNECTED, Connection
from webapp.services import Services
from webapp.users.models import User
from webapp.users.passwords import is_password

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def environment(settings: Settings, redis: Redis, redis_url: str) -> dict[str, str]:
    """The settings of a product that has this test's database."""
    return {
        "DATABASE_URL": settings.database_url.replace("postgresql+psycopg", "postgresql"),
        "REDIS_URL": redis_url,
        "SYNCLIGHT_VAR": str(settings.var),
    }


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process: `run("status", "--json")`; further settings as keywords."""
    # The log of a process of its own; here it would stay set up for all tests that follow.
    monkeypatch.setattr("webapp.logs.configure", lambda program: None)
    # Whoever runs the tests may have set up a product of their own.
    without = dict.fromkeys(name for name in os.environ if name.startswith(OUR_SETTINGS))

    def command(*arguments: str, stdin: str = "", **further: str) -> Done:
        settings = {**without, **environment, **further}
        done = CliRunner().invoke(main, arguments, input=stdin, env=settings, catch_exceptions=False)
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    return command


@pytest.fixture
def run_apart(environment: dict[str, str]) -> Run:
    """Run a command as a person does, in a process of its own, which takes a good second to start."""

    def command(*arguments: str, stdin: str = "", **further: str) -> Done:
        return subprocess.run(
            [SYNCLIGHT, *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment, **further},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return command


def add_company(services: Services, **fields: str) -> Company:
    with services.database.unit_of_work() as work:
        connection = work.session.scalar(select(Connection))
        if connection is None:
            connection = Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED)
            work.session.add(connection)
        values = clean_company({"name": "Futterkiste", "country": "DE", "type": "customer", **fields}).values
        company = create_company(work, values, connection, user_id=None, cause="edit")
        work.commit()
    return company


def test_status_for_programs(run: Run, services: Services) -> None:
    add_company(services)
    told = json.loads(run("status", "--json").stdout)
    nothing = {"synchronised": 0, "pending": 0, "review": 0, "not_synchronised": 0}
    assert told["companies"] == {**nothing, "pending": 1}
    assert told["contacts"] == told["orders"] == nothing
    [connection] = told["connections"]
    assert connection == {
        "id": connection["id"],
        "product": "accounting",
        "business": "",
        "state": "connected",
        "last_synchronised_at": None,
        "compared_at": None,
        "waiting": 1,
    }


def test_status_for_people(run: Run, services: Services) -> None:
    add_company(services)
    lines = run("status").stdout.splitlines()
    assert any(line.split() == ["Companies", "0", "1", "0", "0"] for line in lines)
    assert lines[-1].endswith("to Sage Accounting: connected, last synchronised never, 1 waiting.")


def test_import_tells_every_row_that_it_did_not_take(
    run: Run, run_apart: Run, services: Services, tmp_path: Path
) -> None:
    table = tmp_path / "crm.csv"
    table.write_text(
        "Account Name,Country,Shoe size\nAround the Horn,UK,9\n,France,8\nBlauer See,Nowhereland,7\n", encoding="utf-8"
    )
    done = run("import", str(table), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Companies: 1 would be created, 0 would be changed, 0 unchanged, 2 refused."
    assert json.loads(run("status", "--json").stdout)["companies"]["not_synchronised"] == 0

    lines = run_apart("import", str(table)).stdout.splitlines()
    assert lines[-1] == "Companies: 1 created, 0 changed, 0 unchanged, 2 refused."
    assert [line.split(":")[0] for line in lines if line.startswith("Line ")] == ["Line 3", "Line 4"]
    assert "Left out: Shoe size." in lines
    assert (
        run("import", str(table)).stdout.splitlines()[-1] == "Companies: 0 created, 0 changed, 1 unchanged, 2 refused."
    )
    with services.database.unit_of_work() as work:
        assert work.session.scalars(select(Company.name)).all() == ["Around the Horn"]


def test_import_of_orders_tells_what_it_read_first(run: Run, services: Services, tmp_path: Path) -> None:
    add_company(services)
    (tmp_path / "orders.csv").write_text("order no,company,order date\nA1,Futterkiste,31/12/2026\n", encoding="utf-8")
    (tmp_path / "items.csv").write_text("order no,SKU,qty\nA1,T,1200\nA2,T,1\n", encoding="utf-8")
    (tmp_path / "products.csv").write_text("SKU,name,price\nT,Tea,1.50\n", encoding="utf-8")
    args = ("import", "--kind", "order", str(tmp_path / "orders.csv"))
    assert run(*args).stdout.splitlines() == [
        "products.csv:",
        "Read as UTF-8, with comma between the columns.",
        "Columns: SKU = code, name = name, price = price.",
        "Products: 1 created, 0 changed, 0 unchanged, 0 refused.",
        "",
        "items.csv:",
        "Read as UTF-8, with comma between the columns.",
        "Columns: order no = number of the order, SKU = product, qty = quantity.",
        "Line 3: No order A2 was read from orders.csv.",
        "Lines of orders: 1 read, 1 refused.",
        "",
        "orders.csv:",
        "Read as UTF-8, with comma between the columns.",
        "Columns: order no = number, company = the company's name, order date = date.",
        "Dates were read with the day first, such as 31/12/2026.",
        "Orders: 1 created, 0 changed, 0 unchanged, 0 refused.",
    ]
    assert json.loads(run("status", "--json").stdout)["orders"]["pending"] == 1
    refused = run("import", "--kind", "contact", "--lines", str(tmp_path / "items.csv"), str(tmp_path / "orders.csv"))
    assert refused.returncode == 2
    assert "Only orders have lines" in refused.stderr


def test_import_of_no_table_at_all(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "empty.csv"
    table.write_text("")
    done = run("import", str(table))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert run("import", str(tmp_path / "absent.csv")).returncode == 2


def test_resync_of_records_and_modules(run: Run, services: Services) -> None:
    company = add_company(services)
    assert run("resync", company.key).stdout == "1 record is being compared with Sage.\n"
    assert run("resync", "module:companies", company.key).stdout == "2 records are being compared with Sage.\n"
    assert run("resync", "module:contacts", "module:orders").stdout == "0 records are being compared with Sage.\n"


@pytest.mark.parametrize("key", ["company:999", "company:x", "module:nothing", "42"])
def test_resync_of_what_does_not_exist(run: Run, key: str) -> None:
    done = run("resync", key)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: There is no {key}. ")
    assert len(done.stderr.splitlines()) == 1


def test_user_add(run_apart: Run, services: Services) -> None:
    password = "a long enough password"
    done = run_apart("user", "add", "Grace@Example.com", "--role", "admin", "--password-stdin", stdin=f"{password}\n")
    assert (done.returncode, done.stdout) == (0, "Grace@Example.com can sign in now.\n")
    with services.database.unit_of_work() as work:
        user = work.session.scalars(select(User)).one()
        assert (user.role, user.name) == ("admin", "Grace")
        assert is_password(user.password_hash, password)


def test_user_add_refuses_what_the_page_refuses(run: Run, services: Services) -> None:
    add_person(services, email="sam@example.com")
    taken = run("user", "add", "SAM@example.com", "--role", "sales", "--password-stdin", stdin="long enough for all\n")
    assert (taken.returncode, taken.stderr) == (1, "Error: SAM@example.com is somebody already.\n")
    short = run("user", "add", "new@example.com", "--role", "sales", "--password-stdin", stdin="short\n")
    assert short.returncode == 1
    assert "short" not in short.stderr.replace("at least", "")
    assert run("user", "add", "new@example.com", "--role", "owner").returncode == 2


def test_settings_names_each_setting_and_shows_no_secret(run_apart: Run, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("the secret of a file")
    done = run_apart(
        "settings",
        SYNCLIGHT_SECRET_KEY_FILE=str(key),
        SYNCLIGHT_TOKEN_KEYS="the secret of workers",
        SYNCLIGHT_CYCLE_SECONDS="7",
    )
    assert done.returncode == 0, done.stderr
    assert "the secret of" not in done.stdout
    lines = done.stdout.splitlines()
    assert "SYNCLIGHT_CYCLE_SECONDS=7  (from the environment; default 60)" in lines
    assert "SYNCLIGHT_SECRET_KEY=(set)  (from SYNCLIGHT_SECRET_KEY_FILE)" in lines
    assert "SYNCLIGHT_TOKEN_KEYS=(set)  (from the environment)" in lines
    assert "DATABASE_URL=(set)  (from the environment)" in lines
    assert "PORT=8000  (default)" in lines
    assert "SYNCLIGHT_SANDBOX_PORT=8010  (default)" in lines
    assert "SYNCLIGHT_SAGE_BASE_URL=  (default)" in lines
    # Each one says what it is for.
    assert all(line.startswith("    ") and len(line) > 20 for line in lines[1::2])


def test_migrate_makes_the_database_and_a_second_run_changes_nothing(run: Run, database_server: URL) -> None:
    name = "synclight_made_by_migrate"
    url = database_server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    server = database_server.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        for _ in range(2):
            done = run("migrate", DATABASE_URL=url)
            assert done.returncode == 0, done.stderr
        assert json.loads(run("status", "--json", DATABASE_URL=url).stdout)["connections"] == []
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.mark.parametrize("command", [("status",), ("resync", "module:companies"), ("migrate",)])
def test_a_database_that_is_away_is_one_clear_line(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: The database cannot be reached. Start it with `synclight up`, or set DATABASE_URL.\n"
    )


def test_a_database_without_tables_is_one_clear_line(run: Run, database_server: URL) -> None:
    empty = database_server.set(drivername="postgresql").render_as_string(hide_password=False)
    done = run("status", DATABASE_URL=empty)
    assert (done.returncode, done.stderr) == (
        1,
        "Error: The database has no tables of this version. Run `synclight migrate`.\n",
    )


def test_a_wrong_setting_is_one_clear_line(run_apart: Run) -> None:
    done = run_apart("status", SYNCLIGHT_CYCLE_SECONDS="0")
    assert done.returncode == 1
    assert done.stderr == "Error: SYNCLIGHT_CYCLE_SECONDS should be greater than or equal to 1 (it is '0')\n"


def test_a_wrong_setting_that_may_hold_a_password_is_not_shown(run: Run) -> None:
    done = run("status", DATABASE_URL="mysql://sam:hunter2@127.0.0.1/crm")
    assert (done.returncode, done.stderr) == (1, "Error: DATABASE_URL must start with postgresql://\n")


def test_up_loads_nothing_that_it_does_not_need() -> None:
    """It lives as long as the product, and what it loads stays in memory."""
    heavy = ["flask", "sqlalchemy", "rq", "redis", "psycopg", "gevent", "rich", "structlog", "httpx2"]
    script = f"import sys, webapp.cli, webapp.run.up; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
