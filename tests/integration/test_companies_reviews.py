"""What a person answers where a company waits for a choice."""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.people import add_admin, add_person, post, shown_version, sign_in
from tests.statuses import give_status
from webapp.companies.changes import create_company
from webapp.companies.models import Company
from webapp.connection.models import CONNECTED, Connection
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.models import Conflict, SyncEvent

AGREED = {"name": "Before", "city": "Berlin"}


def company_in(services: Services, reason: Reason, detail: dict[str, object]) -> int:
    """A company that waits for a person for this reason."""
    with services.database.unit_of_work() as work:
        connection = Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED)
        work.session.add(connection)
        work.session.flush()
        company = create_company(work, {"name": "Ours", "country": "DE"}, connection, user_id=None, cause="edit")
        company.sage_id, company.agreed = "a" * 32, AGREED
        give_status(work, company, reason, detail)
        work.commit()
        return company.id


def in_conflict(services: Services) -> int:
    company_id = company_in(services, Reason.CONFLICT, {"code": "conflict", "fields": ["name"]})
    with services.database.unit_of_work() as work:
        work.session.add(
            Conflict(kind="company", record_id=company_id, field="name", base="Before", ours="Ours", theirs="<b>T</b>")
        )
        work.commit()
    return company_id


def read(services: Services, company_id: int) -> Company:
    with services.database.unit_of_work() as work:
        return work.session.get_one(Company, company_id)


def test_sales_staff_choose_between_here_and_sage(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = in_conflict(services)
    page = client.get(f"/companies/{company_id}").text
    assert "Changed here and in Sage: name." in page
    assert "&lt;b&gt;T&lt;/b&gt;" in page
    assert "<b>T</b>" not in page
    post(client, f"/companies/{company_id}/choose", {"name": "theirs"})
    company = read(services, company_id)
    assert (company.name, company.sync_reason) == ("<b>T</b>", "queued")
    assert company.agreed == {"name": "<b>T</b>", "city": "Berlin"}
    with services.database.unit_of_work() as work:
        conflict = work.session.scalars(select(Conflict)).one()
        assert (conflict.taken, conflict.ours) == ("theirs", "Ours")
        event = work.session.scalars(select(SyncEvent).order_by(SyncEvent.id.desc())).first()
        assert event is not None
        assert (event.cause, event.user_id) == ("choice", conflict.user_id)
    # A second press finds nothing left to choose, and changes nothing.
    post(client, f"/companies/{company_id}/choose", {"name": "ours"})
    assert read(services, company_id).sync_version == company.sync_version


def test_what_changed_since_the_page_was_drawn_is_looked_at_before_the_choice(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = in_conflict(services)
    seen = shown_version(client.get(f"/companies/{company_id}").text)
    with services.database.unit_of_work() as work:
        company = work.session.get_one(Company, company_id)
        work.session.scalars(select(Conflict)).one().theirs = "Never seen"
        give_status(work, company, Reason.RUNNING, {"code": "running"})
        give_status(work, company, Reason.CONFLICT, {"code": "conflict", "fields": ["name"]})
        work.commit()
    post(client, f"/companies/{company_id}/choose", {"name": "theirs", "version": seen})
    assert read(services, company_id).sync_reason == "conflict"
    page = client.get(f"/companies/{company_id}").text
    assert "It changed once more meanwhile." in page
    post(client, f"/companies/{company_id}/choose", {"name": "theirs", "version": shown_version(page)})
    assert read(services, company_id).name == "Never seen"


def test_half_a_choice_changes_nothing(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = in_conflict(services)
    for fields in ({"name": ""}, {"name": "both"}):
        post(client, f"/companies/{company_id}/choose", fields)
        assert read(services, company_id).sync_reason == "conflict"


def test_a_code_that_another_company_has_is_not_taken(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = company_in(services, Reason.CONFLICT, {"code": "conflict", "fields": ["code"]})
    with services.database.unit_of_work() as work:
        values = {"name": "Other", "code": "TAKEN", "connection_id": read(services, company_id).connection_id}
        create_company(work, values, None, user_id=None, cause="edit")
        work.session.add(Conflict(kind="company", record_id=company_id, field="code", base="", ours="", theirs="TAKEN"))
        work.commit()
    answer = post(client, f"/companies/{company_id}/choose", {"code": "theirs"})
    assert answer.status_code == 303
    assert "Another one here has the value that is in Sage." in client.get(f"/companies/{company_id}").text
    assert read(services, company_id).sync_reason == "conflict"


def test_an_admin_restores_or_unlinks_what_was_deleted_in_sage(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_admin(services))
    restored = company_in(services, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"})
    assert "Restore in Sage" in client.get(f"/companies/{restored}").text
    post(client, f"/companies/{restored}/restore")
    company = read(services, restored)
    assert (company.sync_reason, company.sage_id, company.agreed) == ("queued", None, None)
    unlinked = company_in(services, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"})
    post(client, f"/companies/{unlinked}/unlink")
    company = read(services, unlinked)
    assert (company.sync_reason, company.sage_id) == ("unlinked", None)
    # Neither does anything to a company that was not deleted in Sage.
    version = company.sync_version
    post(client, f"/companies/{unlinked}/restore")
    assert read(services, unlinked).sync_version == version


def test_sales_staff_see_no_button_to_restore(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = company_in(services, Reason.DELETED_IN_SAGE, {"code": "deleted_in_sage"})
    assert "Restore in Sage" not in client.get(f"/companies/{company_id}").text


def test_a_value_that_lost_can_be_taken_back(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = in_conflict(services)
    page = client.get(f"/companies/{company_id}").text
    assert 'data-role="lost"' not in page, "nothing has lost yet"
    post(client, f"/companies/{company_id}/choose", {"name": "theirs"})
    page = client.get(f"/companies/{company_id}").text
    assert 'data-role="lost"' in page
    with services.database.unit_of_work() as work:
        conflict_id = str(work.session.scalars(select(Conflict.id)).one())
    assert post(client, f"/companies/{company_id}/take-back", {"conflict": conflict_id}).status_code == 303
    company = read(services, company_id)
    assert (company.name, company.sync_reason) == ("Ours", "queued")
    assert 'data-role="lost"' not in client.get(f"/companies/{company_id}").text, "it is there again"
    for wrong in (conflict_id, "999", "x", ""):
        post(client, f"/companies/{company_id}/take-back", {"conflict": wrong})
    assert read(services, company_id).name == "Ours"


def test_what_an_admin_took_out_goes_nowhere_by_a_value_that_is_taken_back(app: Flask, client: FlaskClient) -> None:
    services: Services = app.extensions["synclight"]
    sign_in(client, add_person(services))
    company_id = in_conflict(services)
    post(client, f"/companies/{company_id}/choose", {"name": "theirs"})
    with services.database.unit_of_work() as work:
        company = work.session.get_one(Company, company_id)
        give_status(work, company, Reason.UNLINKED, {"code": "unlinked"})
        company.sage_id = None
        conflict_id = str(work.session.scalars(select(Conflict.id)).one())
        work.commit()
    post(client, f"/companies/{company_id}/take-back", {"conflict": conflict_id})
    company = read(services, company_id)
    assert (company.name, company.sync_reason) == ("Ours", "unlinked")
    assert "The value is back. This company is no longer linked to Sage." in client.get(f"/companies/{company_id}").text
