"""Importing contacts into a real database: whose they are, which one a row means, and what waits for its company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, text

from tests.importing import NORTHWIND, connect, counts, events, history, status
from webapp.companies.changes import create_company
from webapp.companies.clean import clean_company
from webapp.companies.importing import import_companies
from webapp.connection.models import CONNECTED, PAUSED, Connection
from webapp.contacts.changes import create_contact, edit_contact
from webapp.contacts.clean import clean_contact
from webapp.contacts.importing import import_contacts
from webapp.contacts.models import Contact
from webapp.importing.report import ImportReport
from webapp.importing.table import ImportRefused
from webapp.services import Services

Import = Callable[..., ImportReport]


@pytest.fixture
def run(services: Services, tmp_path: Path) -> Import:
    """Import a file with this text."""

    def run_import(content: str, dry_run: bool = False) -> ImportReport:
        path = tmp_path / "contacts.csv"
        path.write_text(content, encoding="utf-8")
        return import_contacts(services, path, dry_run)

    return run_import


@pytest.fixture
def connection(services: Services) -> Connection:
    return connect(services, CONNECTED)


def add_company(services: Services, sage: Connection | None = None, *, in_sage: bool = False, **fields: str) -> int:
    with services.database.unit_of_work() as work:
        company = create_company(work, clean_company(fields).values, sage, user_id=None, cause="edit")
        if in_sage:
            company.sage_id = f"sage-{company.id}"
        work.commit()
        return company.id


def contacts(services: Services) -> list[Contact]:
    with services.database.unit_of_work() as work:
        return list(work.session.scalars(select(Contact).order_by(Contact.id)))


@pytest.mark.skipif(not NORTHWIND.exists(), reason="the Northwind files are not beside the project")
def test_northwind(services: Services, connection: Connection) -> None:
    import_companies(services, NORTHWIND / "customers.csv")
    report = import_contacts(services, NORTHWIND / "customers.csv")
    assert counts(report) == (91, 0, 0, 0)
    assert report.columns == {
        "customerID": "the company's code",
        "companyName": "the company's name",
        "contactName": "name",
        "contactTitle": "role",
        "phone": "phone",
    }
    imported = {contact.company_name: contact for contact in contacts(services)}
    assert len(imported) == 91
    maria = imported["Alfreds Futterkiste"]
    assert (maria.name, maria.role, maria.phone) == ("Maria Anders", "Sales Representative", "030-0074321")
    assert (maria.sync_status, maria.sync_reason) == ("pending", "waiting_for_parent")
    assert maria.sync_detail["name"] == "Alfreds Futterkiste"
    assert counts(import_contacts(services, NORTHWIND / "customers.csv")) == (0, 0, 91, 0)
    assert {contact.sync_version for contact in contacts(services)} == {1}


@pytest.mark.parametrize("state", [None, CONNECTED, PAUSED])
@pytest.mark.parametrize("in_sage", [False, True])
@pytest.mark.parametrize("type_", ["customer", "prospect"])
def test_new_and_changed_rows_have_the_status_that_a_person_gives(
    services: Services, run: Import, state: str | None, in_sage: bool, type_: str
) -> None:
    sage = connect(services, state) if state else None
    company_id = add_company(services, sage, in_sage=in_sage and state is not None, name="Alder", type=type_)
    with services.database.unit_of_work() as work:
        values = {**clean_contact({"name": "By hand"}).values, "company_id": company_id}
        create_contact(work, values, sage, user_id=None, cause="import")
        work.commit()
    assert counts(run("company,name\nalder,By file\n")) == (1, 0, 0, 0)
    by_hand, by_file = contacts(services)
    assert status(by_file) == status(by_hand)
    assert history(services, by_file) == history(services, by_hand)

    with services.database.unit_of_work() as work:
        work.session.execute(text("UPDATE contact SET attempts = 3"))
        contact = work.session.get_one(Contact, by_hand.id)
        edit_contact(work, contact, {"role": "Owner"}, sage, user_id=None, cause="import")
        work.commit()
    assert counts(run("company,name,role\nAlder,By file,Owner\n")) == (0, 1, 0, 0)
    by_hand, by_file = contacts(services)
    assert status(by_file) == status(by_hand)
    assert history(services, by_file) == history(services, by_hand)


def test_notes_alone_are_not_sent_and_what_is_sent_waits_for_edits(
    services: Services, run: Import, connection: Connection
) -> None:
    add_company(services, connection, in_sage=True, name="Alder")
    run("company,name\nAlder,Ann\n")
    with services.database.engine.begin() as database:
        database.execute(
            text(
                "UPDATE contact SET sync_status = 'synchronised', sync_reason = 'in_step', next_attempt_at = NULL, "
                "urgent = true"
            )
        )
    assert counts(run("company,name,notes\nAlder,Ann,Call before noon\n")) == (0, 1, 0, 0)
    [ann] = contacts(services)
    assert (ann.notes, ann.sync_reason, ann.sync_version) == ("Call before noon", "in_step", 2)
    # What people ask for goes to Sage before what a file brings.
    run("company,name,role\nAlder,Ann,Owner\n")
    [ann] = contacts(services)
    assert (ann.sync_reason, ann.urgent) == ("queued", False)


def test_the_company_is_that_of_the_code_or_else_the_only_one_of_the_name(services: Services, run: Import) -> None:
    first = add_company(services, name="Birch", code="B1")
    second = add_company(services, name="Birch", code="B2")
    third = add_company(services, name="Cédar", code="C")
    report = run(
        "customer ID,company,name\nB2,Birch,Ann\nB1,,Bob\n,CEDAR,Cem\nX,Cedar,Dan\n,Birch,Eve\nX,Fir,Fay\n,Fir,Gus\n"
        "X,,Hal\n,,Ida\n"
    )
    assert {contact.name: contact.company_id for contact in contacts(services)} == {
        "Ann": second,
        "Bob": first,
        "Cem": third,
        "Dan": third,
    }
    there_is_none, remedy = "There is no company", "here: import the companies first."
    assert report.refused == [
        (6, "2 companies here are called “Birch”: write the code of the one that is meant."),
        (7, f"{there_is_none} with the code “X” and none called “Fir” {remedy}"),
        (8, f"{there_is_none} called “Fir” {remedy}"),
        (9, f"{there_is_none} with the code “X” {remedy}"),
        (10, "It names no company: write the code or the name of the company that the contact belongs to."),
    ]


def test_a_row_means_who_is_called_so_at_the_company(services: Services, run: Import) -> None:
    add_company(services, name="Alder")
    add_company(services, name="Birch")
    run("company,name,email\nAlder,Ann Lee,\nBirch,Ann Lee,lee@example.com\n")
    # The name is compared without case and accents, and a new address is a new address of the same person.
    report = run("company,first name,last name,email\nAlder,Ánn,LEE,ann@example.com\nBirch,Ann,Lee,lee@example.org\n")
    assert counts(report) == (0, 2, 0, 0)
    assert [(contact.company_name, contact.name, contact.email) for contact in contacts(services)] == [
        ("Alder", "Ánn LEE", "ann@example.com"),
        ("Birch", "Ann Lee", "lee@example.org"),
    ]


def test_namesakes_at_one_company_are_told_apart_by_their_addresses(services: Services, run: Import) -> None:
    add_company(services, name="Alder")
    content = "company,name,email\nAlder,Ann,a@example.com\nAlder,Ann,b@example.com\n"
    assert counts(run(content)) == (2, 0, 0, 0)
    assert counts(run(content)) == (0, 0, 2, 0)
    turned = "company,name,email,role\nAlder,Ann,b@example.com,Buyer\nAlder,Ann,A@example.com,Owner\n"
    assert counts(run(turned)) == (0, 2, 0, 0)
    assert [contact.role for contact in contacts(services)] == ["Owner", "Buyer"]
    [(line, reason)] = run("company,name\nAlder,Ann\n").refused
    assert (line, reason) == (
        2,
        "2 contacts of this company have this name: write the e-mail address by which the one that is meant is known "
        "here.",
    )


def test_the_later_of_two_rows_for_one_person_is_refused(
    services: Services, run: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.importing.run._BATCH", 2)
    add_company(services, name="Alder")
    report = run("company,name,email\nAlder,Ann,a@example.com\nAlder,Bob,\nAlder,ann,\nAlder,Ann,c@example.com\n")
    assert report.refused == [
        (4, "Line 2 has the same company and name: keep one of the two, or give each an e-mail address.")
    ]
    assert [contact.email for contact in contacts(services)] == ["a@example.com", "", "c@example.com"]


def test_each_refused_row_has_its_line_and_reason(services: Services, run: Import) -> None:
    add_company(services, name="Alder")
    report = run(f"company,name,email,role\nAlder,,x@example.com,\nAlder,Bob,nobody,\nAlder,Cem,,{'x' * 201}\n")
    assert report.refused == [
        (2, "Every contact needs a name: give it one."),
        (3, "“nobody” is not a whole e-mail address: write it like name@example.com."),
        (4, "The role has 201 characters: shorten it to 200."),
    ]


def test_a_dry_run_says_the_same_and_does_nothing(services: Services, run: Import, connection: Connection) -> None:
    add_company(services, connection, name="Alder")
    began = len(events(services))
    content = "company,name\nAlder,Ann\nAlder,Ann\nBirch,Bob\n"
    tried = run(content, dry_run=True)
    assert contacts(services) == []
    assert len(events(services)) == began
    done = run(content)
    assert (counts(done), done.refused) == (counts(tried), tried.refused) == ((1, 0, 0, 2), tried.refused)


def test_a_company_that_becomes_a_prospect_takes_its_contacts_along(
    services: Services, run: Import, connection: Connection, tmp_path: Path
) -> None:
    add_company(services, connection, name="Alder", code="A")
    run("company,name\nAlder,Ann\n")
    path = tmp_path / "companies.csv"
    path.write_text("code,name,type\nA,Alder,prospect\n")
    assert counts(import_companies(services, path)) == (0, 1, 0, 0)
    [ann] = contacts(services)
    assert (ann.sync_reason, ann.sync_detail) == ("excluded", {"code": "excluded_with_company"})


@pytest.mark.parametrize(
    ("header", "said"),
    [("name,city", "holds the companies of the contacts"), ("company,city", "holds the names of contacts")],
)
def test_a_file_without_what_is_needed_says_what_it_has(run: Import, header: str, said: str) -> None:
    with pytest.raises(ImportRefused, match=f"No column .* {said}. Its columns are: {header.replace(',', ', ')}. Call"):
        run(f"{header}\nAlder,Leeds\n")
