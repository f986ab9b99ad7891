"""Importing companies into a real database: what comes to be, what changes, what is refused, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from tests.importing import NORTHWIND, before, connect, counts, events, history, status
from tests.stack import wait_until
from webapp.companies.changes import create_company, edit_company
from webapp.companies.clean import clean_company
from webapp.companies.importing import import_companies
from webapp.companies.models import Company
from webapp.connection.models import CONNECTED, CONNECTING, PAUSED, UNREACHABLE, Connection
from webapp.importing.report import ImportReport
from webapp.importing.table import ImportRefused
from webapp.queue import PUSH_QUEUE
from webapp.services import Services
from webapp.users.models import SALES, User

CUSTOMERS = NORTHWIND / "customers.csv"

NORTHWIND_COUNTRIES = {
    *("AR", "AT", "BE", "BR", "CA", "CH", "DE", "DK", "ES", "FI", "FR"),
    *("GB", "IE", "IT", "MX", "NO", "PL", "PT", "SE", "US", "VE"),
}
Import = Callable[..., ImportReport]


@pytest.fixture
def run(services: Services, tmp_path: Path) -> Import:
    """Import a file with this text."""

    def run_import(content: str, dry_run: bool = False) -> ImportReport:
        path = tmp_path / "companies.csv"
        path.write_text(content, encoding="utf-8")
        return import_companies(services, path, dry_run)

    return run_import


@pytest.fixture
def connection(services: Services) -> Connection:
    return connect(services, CONNECTED)


def companies(services: Services) -> list[Company]:
    with services.database.unit_of_work() as work:
        return list(work.session.scalars(select(Company).order_by(Company.id)))


@pytest.mark.skipif(not NORTHWIND.exists(), reason="the Northwind files are not beside the project")
def test_northwind(services: Services, connection: Connection) -> None:
    first = import_companies(services, CUSTOMERS)
    assert counts(first) == (91, 0, 0, 0)
    assert first.columns == {
        "customerID": "code",
        "companyName": "name",
        "address": "address line 1",
        "city": "city",
        "region": "region",
        "postalCode": "postal code",
        "country": "country",
        "phone": "phone",
    }
    assert first.left_out == ["contactName", "contactTitle", "fax"]
    assert (first.encoding, first.delimiter) == ("UTF-8", "comma")
    # This file was exported without quotation marks, and some addresses hold a comma.
    assert len(first.mended) == 24

    imported = {company.code: company for company in companies(services)}
    assert len(imported) == 91
    assert imported["ALFKI"].name == "Alfreds Futterkiste"
    assert (imported["ALFKI"].country, imported["ALFKI"].region) == ("DE", "")
    assert imported["ANTON"].address_line_1 == "Mataderos 2312"
    assert (imported["BLONP"].address_line_1, imported["BLONP"].city) == ("24, place Kléber", "Strasbourg")
    found = {company.country for company in imported.values()}
    assert found == NORTHWIND_COUNTRIES
    assert {(company.sync_status, company.sync_reason) for company in imported.values()} == {("pending", "queued")}
    assert {company.connection_id for company in imported.values()} == {connection.id}

    second = import_companies(services, CUSTOMERS)
    assert counts(second) == (0, 0, 91, 0)
    assert {company.sync_version for company in companies(services)} == {1}
    assert len(events(services)) == 91


@pytest.mark.parametrize("state", [None, CONNECTED, UNREACHABLE, PAUSED, CONNECTING])
@pytest.mark.parametrize("type_", ["customer", "prospect"])
def test_a_new_row_has_the_status_of_a_company_that_a_person_adds(
    services: Services, run: Import, state: str | None, type_: str
) -> None:
    there = connect(services, state) if state else None
    with services.database.unit_of_work() as work:
        create_company(
            work, clean_company({"name": "By hand", "type": type_}).values, there, user_id=None, cause="import"
        )
        work.commit()
    run(f"name,type\nBy file,{type_}\n")
    by_hand, by_file = companies(services)
    assert status(by_file) == status(by_hand)
    assert history(services, by_file) == history(services, by_hand)


@pytest.mark.parametrize("state", [None, CONNECTED, UNREACHABLE])
@pytest.mark.parametrize(
    ("before", "after"), [("customer", "customer"), ("customer", "prospect"), ("prospect", "customer")]
)
def test_a_changed_row_has_the_status_of_a_company_that_a_person_edits(
    services: Services, run: Import, state: str | None, before: str, after: str
) -> None:
    there = connect(services, state) if state else None
    with services.database.unit_of_work() as work:
        for code in ("HAND", "FILE"):
            values = clean_company({"name": code, "code": code, "type": before}).values
            made = create_company(work, values, there, user_id=None, cause="import")
            made.attempts = 3
        work.commit()
    with services.database.unit_of_work() as work:
        company = work.session.scalars(select(Company).where(Company.code == "HAND")).one()
        values = clean_company({"name": "HAND", "code": "HAND", "type": after, "city": "Leeds"}).values
        edit_company(work, company, values, there, user_id=None, cause="import")
        work.commit()
    assert counts(run(f"name,code,type,city\nFILE,FILE,{after},Leeds\n")) == (0, 1, 0, 0)
    by_hand, by_file = companies(services)
    assert status(by_file) == status(by_hand)
    assert history(services, by_file) == history(services, by_hand)


def test_a_second_import_changes_only_what_the_file_says_otherwise(
    services: Services, run: Import, connection: Connection
) -> None:
    run("code,name,city,phone,notes\nA,Alder Ltd,Leeds,0113,old\nB,Birch Ltd,York,0190,\n")
    report = run("code,name,city,phone\nA,Alder Ltd,,0114\nB,Birch Ltd,York,NULL\n")
    assert counts(report) == (0, 1, 1, 0)
    alder, birch = companies(services)
    assert (alder.phone, alder.city, alder.notes, alder.sync_version) == ("0114", "Leeds", "old", 2)
    assert (birch.phone, birch.sync_version) == ("0190", 1)


def test_the_type_of_a_company_stays_where_the_file_does_not_say_it(
    services: Services, run: Import, connection: Connection
) -> None:
    run("code,name,type\nA,Alder Ltd,Lead\n")
    assert counts(run("code,name,city\nA,Alder Ltd,Leeds\n")) == (0, 1, 0, 0)
    (alder,) = companies(services)
    assert (alder.type, alder.sync_reason) == ("prospect", "excluded")


def test_a_review_stays_a_review_where_the_file_says_nothing_new(
    services: Services, run: Import, connection: Connection
) -> None:
    run("code,name\nA,Alder Ltd\n")
    with services.database.unit_of_work() as work:
        work.session.execute(
            text(
                "UPDATE company SET sync_status = 'review', sync_reason = 'rejected', next_attempt_at = NULL, "
                """sync_detail = '{"code": "missing", "field": "country"}'"""
            )
        )
        work.session.commit()
    assert counts(run("code,name\nA,Alder Ltd\n")) == (0, 0, 1, 0)
    assert companies(services)[0].sync_reason == "rejected"
    assert counts(run("code,name,country\nA,Alder Ltd,Venezuela\n")) == (0, 1, 0, 0)
    (alder,) = companies(services)
    assert (alder.sync_status, alder.sync_reason, alder.country) == ("pending", "queued", "VE")
    assert [(made.from_reason, made.to_reason) for made in events(services)][-1] == ("rejected", "queued")


@pytest.mark.parametrize("reason", ["unlinked", "possible_duplicate"])
def test_what_an_admin_decides_is_not_decided_by_a_file(
    services: Services, run: Import, connection: Connection, reason: str
) -> None:
    run("name,code,country,city\nAlpha,A1,DE,Berlin\n")
    status = "review" if reason == "possible_duplicate" else "not_synchronised"
    with services.database.engine.begin() as database:
        database.execute(
            text("UPDATE company SET sync_status = :status, sync_reason = :reason, next_attempt_at = NULL"),
            {"status": status, "reason": reason},
        )
    assert counts(run("name,code,country,city\nAlpha,A1,DE,Potsdam\n")) == (0, 1, 0, 0)
    (company,) = companies(services)
    assert (company.city, company.sync_reason, company.next_attempt_at) == ("Potsdam", reason, None)


def test_without_code_name_and_postal_code_say_which_company(services: Services, run: Import) -> None:
    run("name,zip,city\nCafé Æther,1000,Brussels\nCafé Æther,2000,Antwerp\n")
    report = run("name,zip,city\nCAFE ÆTHER,2000,Antwerpen\nCafé Æther,3000,Leuven\n")
    assert counts(report) == (1, 1, 0, 0)
    assert [(company.name, company.city) for company in companies(services)] == [
        ("Café Æther", "Brussels"),
        ("CAFE ÆTHER", "Antwerpen"),
        ("Café Æther", "Leuven"),
    ]


def test_a_company_without_code_gets_the_code_of_its_row(services: Services, run: Import) -> None:
    run("name,zip\nAlder Ltd,LS1\n")
    assert counts(run("code,name,zip\nA,alder ltd,ls1\n")) == (0, 1, 0, 0)
    (alder,) = companies(services)
    assert (alder.code, alder.name) == ("A", "alder ltd")


def test_of_two_rows_with_codes_the_first_is_the_company_without(services: Services, run: Import) -> None:
    run("name\nAlder Ltd\n")
    assert counts(run("code,name\nA,Alder Ltd\nB,Alder Ltd\n")) == (1, 1, 0, 0)
    assert [company.code for company in companies(services)] == ["A", "B"]
    assert counts(run("code,name\nA,Alder Ltd\nB,Alder Ltd\n")) == (0, 0, 2, 0)


def test_a_row_without_code_that_could_mean_several_companies_is_refused(services: Services, run: Import) -> None:
    run("code,name\nA,Alder Ltd\nB,Alder Ltd\n")
    report = run("name,city\nAlder Ltd,Leeds\nCedar Ltd,York\n")
    assert counts(report) == (1, 0, 0, 1)
    assert report.refused == [
        (2, "2 companies here have this name and postal code: write the code of the one that is meant.")
    ]


def test_the_later_of_two_rows_for_one_company_is_refused(services: Services, run: Import) -> None:
    report = run("code,name,zip\nA,Alder,1\n,Birch,2\nA,Cedar,3\n,BIRCH,2\nB,Birch,2\n,Alder,1\nC,Alder,1\n")
    same = "has the same name and postal code: keep one of the two, or give each a code."
    assert report.refused == [
        (4, "Line 2 has the same code: keep one of the two."),
        (5, f"Line 3 {same}"),
        (6, f"Line 3 {same}"),
        (7, f"Line 2 {same}"),
    ]
    assert [(company.code, company.name) for company in companies(services)] == [
        ("A", "Alder"),
        ("", "Birch"),
        ("C", "Alder"),
    ]


def test_rows_that_repeat_a_row_of_an_earlier_batch_are_refused(
    services: Services, run: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.importing.run._BATCH", 2)
    report = run("code,name\nA,Alder\n,Birch\nC,Cedar\nA,Delta\nE,Birch\nC,Cedar\n,Fjord\n")
    assert [line for line, _ in report.refused] == [5, 6, 7]
    assert [company.name for company in companies(services)] == ["Alder", "Birch", "Cedar", "Fjord"]


def test_each_refused_row_has_its_line_and_reason(services: Services, run: Import) -> None:
    report = run(
        "name,country,email,notes\n"
        "Alder,Germany,info@example.com,\n"
        ',France,,"two\nlines"\n'
        "Birch,Germny,nobody,\n"
        "Cedar,Spain\n"
        "Delta,Spain,,\n"
    )
    assert counts(report) == (2, 0, 0, 3)
    assert report.refused == [
        (3, "Every company needs a name: give it one."),
        (
            5,
            "“nobody” is not a whole e-mail address: write it like name@example.com. "
            "The country “Germny” is not known. Do you mean Germany? Write its name or its two-letter code.",
        ),
        (6, "It has 2 cells, and the header has 4. A cell that spans several lines needs quotation marks around it."),
    ]


def test_the_owner_is_found_by_e_mail(services: Services, run: Import) -> None:
    with services.database.unit_of_work() as work:
        owner = User(email="Ann@example.com", name="Ann", role=SALES, password_hash="")
        work.session.add(owner)
        work.session.commit()
    report = run("name,owner\nAlder,ann@example.com\nBirch,\nCedar,bob@example.com\n")
    assert [company.owner_id for company in companies(services)] == [owner.id, None]
    assert report.refused == [
        (4, "Nobody here has the e-mail address “bob@example.com”: add that user, or leave the owner empty.")
    ]


def test_a_dry_run_says_the_same_and_does_nothing(services: Services, run: Import, connection: Connection) -> None:
    run("code,name\nA,Alder\nB,Birch\n")
    content = "code,name\nA,Alder Ltd\nB,Birch\nC,Cedar\n,Cedar\n"
    tried = run(content, dry_run=True)
    assert (tried.dry_run, *counts(tried)) == (True, 1, 1, 1, 1)
    assert [company.name for company in companies(services)] == ["Alder", "Birch"]
    assert len(events(services)) == 2
    done = run(content)
    assert (counts(done), done.refused) == (counts(tried), tried.refused)


def test_a_batch_of_a_dry_run_does_not_go_through_what_those_before_it_left(
    services: Services, run: Import, connection: Connection
) -> None:
    """PostgreSQL believes that there are as many as fit into the space, and that few of them are of a connection."""
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND pid <> pg_backend_pid()"
    read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'company'"

    def ask(question: str) -> Any:
        with services.database.unit_of_work() as work:
            return work.session.scalar(text(question), {"name": "synclight-test"})

    with services.database.unit_of_work() as work:
        # What an earlier test has had PostgreSQL find out about the table outlives its rows.
        work.session.execute(text("DELETE FROM pg_statistic WHERE starelid = 'company'::regclass"))
        work.session.commit()
    read_before = ask(read)
    rows = 10_000
    content = "".join(f"{number},Company {number}\n" for number in range(rows))
    assert counts(run(f"code,name\n{content}", dry_run=True)) == (rows, 0, 0, 0)
    # A connection tells the statistics all that it has read when it ends.
    services.database.engine.dispose()
    wait_until(lambda: ask(others) == 0)
    assert ask(read) - read_before < rows / 10, "no row means a company that is there"


def test_counters_move_and_the_worker_is_asked(services: Services, run: Import, connection: Connection) -> None:
    run("name,type\nAlder,\nBirch,lead\n")
    with services.database.unit_of_work() as work:
        counted = dict(
            work.session.execute(
                text("SELECT status, sum(n)::int FROM status_count WHERE module = 'companies' GROUP BY status")
            ).all()
        )
    assert counted == {"pending": 1, "not_synchronised": 1}
    assert services.redis.llen(f"rq:queue:{PUSH_QUEUE}") == 1


def test_nothing_is_asked_or_told_where_nothing_changed(
    services: Services, run: Import, connection: Connection
) -> None:
    run("name\nAlder\n")
    services.redis.flushdb()
    run("name\nAlder\n")
    run("name\nBirch\n", dry_run=True)
    assert services.redis.llen(f"rq:queue:{PUSH_QUEUE}") == 0


def test_what_is_watched_is_published(services: Services, run: Import, connection: Connection) -> None:
    run("code,name\nA,Alder\n")
    (alder,) = companies(services)
    services.redis.zadd("synclight:watched", {alder.key: 9e12, "module:companies": 9e12})
    listener = services.redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe("synclight:live")
    listener.get_message(timeout=5)
    run("code,name\nA,Alder Ltd\nB,Birch\n")
    message = listener.get_message(timeout=5)
    assert message is not None
    assert f'"{alder.key}"' in message["data"].decode()
    assert '"module:companies"' in message["data"].decode()


def test_an_edit_between_matching_and_writing_is_kept(services: Services, run: Import, connection: Connection) -> None:
    run("code,name,city,phone\nA,Alder,Leeds,1\n")

    def edit() -> None:
        with services.database.engine.begin() as other:
            other.execute(text("UPDATE company SET phone = '2', city = 'York', sync_version = sync_version + 1"))

    with before(services, "FOR UPDATE", 1, edit):
        assert counts(run("code,name,city\nA,Alder,Bath\n")) == (0, 1, 0, 0)
    (alder,) = companies(services)
    assert (alder.city, alder.phone, alder.sync_version) == ("Bath", "2", 3)


def test_a_code_that_somebody_takes_at_the_same_moment_means_their_company(
    services: Services, run: Import, connection: Connection
) -> None:
    def create() -> None:
        with services.database.unit_of_work() as work:
            values = clean_company({"name": "Alder", "code": "A", "phone": "1"}).values
            create_company(work, values, connection, user_id=None, cause="edit")
            work.commit()

    with before(services, "INSERT INTO company", 1, create):
        assert counts(run("code,name,city\nA,Alder,Leeds\nB,Birch,York\n")) == (1, 1, 0, 0)
    assert sorted((company.code, company.phone, company.city) for company in companies(services)) == [
        ("A", "1", "Leeds"),
        ("B", "", "York"),
    ]


def test_after_a_crash_a_second_import_does_the_rest(
    services: Services, run: Import, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.importing.run._BATCH", 2)
    content = "name\n" + "".join(f"Company {number}\n" for number in range(7))

    def crash() -> None:
        raise RuntimeError("the machine went away")

    with before(services, "INSERT INTO company", 3, crash), pytest.raises(RuntimeError, match="the machine went away"):
        run(content)
    assert len(companies(services)) == 4
    assert counts(run(content)) == (3, 0, 4, 0)
    assert len(events(services)) == 7


def test_two_imports_do_not_run_at_a_time(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "companies.csv"
    path.write_text("name\nAlder\n")

    def meanwhile(file: str, done: int, total: int) -> None:
        with pytest.raises(ImportRefused, match="Another import is running"):
            import_companies(services, path)

    import_companies(services, path, progress=meanwhile)
    assert import_companies(services, path).unchanged == 1


def test_progress_is_told_in_lines(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.importing.run._BATCH", 2)
    path = tmp_path / "companies.csv"
    path.write_text("name\nAlder\nBirch\nCedar\n")
    told: list[tuple[str, int, int]] = []
    import_companies(services, path, progress=lambda file, done, total: told.append((file, done, total)))
    assert told == [("companies.csv", 3, 4), ("companies.csv", 4, 4)]


def test_nothing_of_an_import_is_left_in_the_pool(services: Services, run: Import) -> None:
    run("name\nAlder\n")
    with services.database.engine.connect() as connection:
        assert connection.scalar(select(func.to_regclass("import_row"))) is None
        # Other databases of the server belong to others.
        here = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        mine = text(f"{here} WHERE locktype = 'advisory' AND datname = current_database()")
        # The server ends a session, and with it the lock, a moment after the import has closed its connection.
        wait_until(lambda: connection.scalar(mine) == 0)


def test_postgresql_knows_what_the_table_holds_after_the_first_batch(
    services: Services, run: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.importing.run._BATCH", 2)
    run("name\nAlder\nBirch\nCedar\n")
    with services.database.engine.connect() as connection:
        known = text("SELECT reltuples FROM pg_class WHERE oid = 'company'::regclass")
        assert connection.scalar(known) == 2


def test_a_file_without_names_says_what_it_has(run: Import) -> None:
    with pytest.raises(
        ImportRefused, match=r"No column .* holds the names of companies. Its columns are: city, zip. Call"
    ):
        run("city,zip\nLeeds,LS1\n")


def test_a_file_with_a_header_only_creates_nothing(run: Import) -> None:
    assert counts(run("name,city\n")) == (0, 0, 0, 0)


def test_text_that_looks_like_code_is_stored_as_it_is(services: Services, run: Import) -> None:
    name = "<script>alert(1)</script> \\x41 '); DROP TABLE company; -- %s {0}"
    run(f'name\n"{name}"\n')
    assert [company.name for company in companies(services)] == [name]
