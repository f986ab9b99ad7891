"""Records that may be the same: what a person sees, and what becomes of them when somebody decides."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from tests.integration.test_engine import GERMAN, Engine
from tests.people import add_admin, add_person, post, sign_in
from webapp.companies.models import Company
from webapp.contacts.models import Contact
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.conflicts import lost_values
from webapp.sync.models import WriteIntent
from webapp.sync.resync import unlink


@pytest.fixture
def engine(services: Services) -> Engine:
    return Engine(services)


@pytest.fixture
def doubt(engine: Engine) -> tuple[int, int, int]:
    """Two companies of ours of one name, and a customer of Sage that may be either. Returns their ids, Sage's last."""
    ours = [engine.add(name="Müller", code="", postal_code="12209", phone=str(number)) for number in (1, 2)]
    theirs = engine.sage.customers.add(name="Müller", code="M77", postal_code="12209", country="DE", phone="030")
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        added = work.session.scalars(select(Company).where(Company.sage_id == theirs.id)).one()
        assert added.sync_reason == Reason.POSSIBLE_DUPLICATE
    return ours[0], ours[1], added.id


@pytest.fixture
def admin(app: Flask, services: Services) -> FlaskClient:
    client = app.test_client()
    sign_in(client, add_admin(services))
    return client


def names(engine: Engine) -> list[tuple[int, str]]:
    with engine.services.database.unit_of_work() as work:
        found = work.session.execute(select(Company.id, Company.sync_reason).order_by(Company.id)).all()
    return [(row.id, row.sync_reason) for row in found]


def test_they_stand_side_by_side(admin: FlaskClient, engine: Engine, doubt: tuple[int, int, int]) -> None:
    first, second, added = doubt
    page = admin.get(f"/companies/{added}").text
    assert 'data-role="duplicates"' in page
    for other in (first, second):
        assert f'href="/companies/{other}"' in page
    assert page.count('data-role="same"') == 2
    # In words, not by its code.
    assert ">Germany<" in page[page.index('data-role="duplicates"') :]
    assert admin.get(f"/companies/{first}").text.count('data-role="same"') == 1


@pytest.mark.parametrize("from_sage", [True, False])
def test_two_become_one(admin: FlaskClient, engine: Engine, doubt: tuple[int, int, int], from_sage: bool) -> None:
    first, second, added = doubt
    with engine.services.database.unit_of_work() as work:
        work.session.add(Contact(company_id=added, name="Maria"))
        work.commit()
    asked, other = (added, first) if from_sage else (first, added)
    answer = post(admin, f"/companies/{asked}/same", {"other": str(other)})
    assert answer.location == f"/companies/{first}"
    assert [one for one, _ in names(engine)] == [first, second]
    engine.push()
    company = engine.company(first)
    # Both have a phone, and they differ: a person chooses, and nothing is lost.
    assert company.sync_reason == Reason.CONFLICT
    assert company.sage_number == "M77"
    with engine.services.database.unit_of_work() as work:
        assert work.session.scalars(select(Contact.company_id)).all() == [first]
    assert engine.company(second).sync_reason == Reason.IN_STEP, "it is another company, and Sage has it now"
    created = [entry for entry in engine.sage.ledger if entry.operation == "create" and entry.by == "us"]
    assert len(created) == 1


def test_two_of_ours_cannot_become_one(admin: FlaskClient, engine: Engine, doubt: tuple[int, int, int]) -> None:
    first, second, _ = doubt
    before = names(engine)
    for other in (str(second), str(first), "999", "", "x"):
        post(admin, f"/companies/{first}/same", {"other": other})
    assert names(engine) == before
    assert "There is no doubt about these two any more." in admin.get("/companies").text


def test_they_stay_two_while_sage_may_have_made_one_of_its_own(
    admin: FlaskClient, engine: Engine, doubt: tuple[int, int, int]
) -> None:
    first, _, added = doubt
    intent = {"connection_id": engine.connection_id, "kind": "company", "record_id": first, "operation": "create"}
    with engine.services.database.unit_of_work() as work:
        work.session.add(WriteIntent(**intent, idempotency_key="k", fields={}, body={}, body_hash=""))
        work.commit()
    post(admin, f"/companies/{added}/same", {"other": str(first)})
    assert "Sage has not said yet" in admin.get(f"/companies/{added}").text
    assert len(names(engine)) == 3


def test_what_was_edited_of_the_one_that_goes_can_be_taken_back(
    admin: FlaskClient, engine: Engine, doubt: tuple[int, int, int]
) -> None:
    first, _, added = doubt
    engine.edit(added, city="Typed here")
    post(admin, f"/companies/{added}/same", {"other": str(first)})
    engine.push()
    with engine.services.database.unit_of_work() as work:
        lost = lost_values(work.session, work.session.get_one(Company, first))
    assert [(one.field, value) for one, value in lost] == [("city", "Typed here")]


def test_twice_is_once(admin: FlaskClient, engine: Engine, doubt: tuple[int, int, int]) -> None:
    first, _, added = doubt
    for _ in range(2):
        assert post(admin, f"/companies/{first}/same", {"other": str(added)}).status_code == 303
    assert added not in dict(names(engine))


def test_sales_staff_see_the_doubt_and_do_not_decide(
    app: Flask, services: Services, engine: Engine, doubt: tuple[int, int, int]
) -> None:
    sam = app.test_client()
    sign_in(sam, add_person(services))
    page = sam.get(f"/companies/{doubt[2]}").text
    assert 'data-role="duplicates"' in page
    assert 'data-role="same"' not in page
    assert post(sam, f"/companies/{doubt[0]}/same", {"other": str(doubt[2])}).status_code == 403


# What a person took out of synchronisation.


@pytest.fixture
def unlinked(engine: Engine) -> int:
    """A company that was deleted in Sage, and unlinked here."""
    company_id = engine.add()
    engine.push()
    engine.sage.customers.delete(engine.company(company_id).sage_id or "")
    engine.pull()
    with engine.services.database.unit_of_work() as work:
        unlink(work, work.session.get_one(Company, company_id), None)  # type: ignore[arg-type]
        work.commit()
    return company_id


def made_anew(engine: Engine, code: str) -> int:
    """A customer in Sage that resembles the one that was deleted; returns what it is here."""
    there = engine.sage.customers.add(**{**GERMAN, "code": code})
    engine.pull()
    engine.push()
    with engine.services.database.unit_of_work() as work:
        added = work.session.scalars(select(Company).where(Company.sage_id == there.id)).one()
        assert added.sync_reason == Reason.POSSIBLE_DUPLICATE
        return added.id


@pytest.mark.parametrize("code", ["ALFKI", ""])
def test_what_resembles_an_unlinked_one_is_shown_and_a_person_links_it(
    admin: FlaskClient, engine: Engine, unlinked: int, code: str
) -> None:
    added = made_anew(engine, code)
    assert names(engine) == [(unlinked, "unlinked"), (added, "possible_duplicate")]
    assert "It may be the same company as Alfreds Futterkiste." in admin.get(f"/companies/{added}").text
    post(admin, f"/companies/{added}/same", {"other": str(unlinked)})
    engine.push()
    assert names(engine) == [(unlinked, "in_step")]
    assert [one.fields["code"] for one in engine.sage.customers.by_id.values()] == ["ALFKI"]


def test_who_resyncs_an_unlinked_one_is_told_first_what_sage_has_by_now(
    admin: FlaskClient, engine: Engine, unlinked: int
) -> None:
    added = made_anew(engine, "")
    post(admin, f"/companies/{unlinked}/resync")
    engine.push()
    assert names(engine) == [(unlinked, "possible_duplicate"), (added, "possible_duplicate")]
    assert len(engine.sage.customers.by_id) == 1
    page = admin.get(f"/companies/{unlinked}").text
    assert "It may be the same company as Alfreds Futterkiste." in page
    assert 'data-role="same"' in page
    # Whoever asks again has seen it: it is another one.
    post(admin, f"/companies/{unlinked}/resync")
    engine.push()
    assert dict(names(engine))[unlinked] == "in_step"
    assert len(engine.sage.customers.by_id) == 2


def test_what_is_another_one_than_the_unlinked_keeps_its_code_in_sage(
    admin: FlaskClient, engine: Engine, unlinked: int
) -> None:
    added = made_anew(engine, "ALFKI")
    post(admin, f"/companies/{added}/resync")
    engine.push()
    assert names(engine) == [(unlinked, "unlinked"), (added, "rejected")]
    assert "ALFKI" in admin.get(f"/companies/{added}").text
    assert [one.fields["code"] for one in engine.sage.customers.by_id.values()] == ["ALFKI"]
    # Free, it is taken over.
    engine.edit(unlinked, code="OLD")
    post(admin, f"/companies/{added}/resync")
    engine.push()
    assert engine.company(added).code == "ALFKI"
    assert names(engine) == [(unlinked, "unlinked"), (added, "in_step")]
