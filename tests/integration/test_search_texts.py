"""The texts that searches read follow the records, whoever changes these: migration 0027."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import delete, func, inspect, text, update
from sqlalchemy.orm import Session

from webapp.companies.models import PROSPECT, Company
from webapp.contacts.models import Contact
from webapp.orders.models import VALIDATED, Order
from webapp.products.models import Product
from webapp.services import Services
from webapp.status import Reason, Status

KINDS = (Company, Contact, Product, Order)


def assert_the_same(session: Session) -> None:
    """Each record has its text, with the same in each column, and there is no other text."""
    for kind in KINDS:
        table = kind.__tablename__
        columns = [one["name"] for one in inspect(session.connection()).get_columns(f"{table}_text")]
        assert {"id", "search_text"} < set(columns)
        there, here = (f"SELECT {', '.join(columns)} FROM {one}" for one in (table, f"{table}_text"))
        assert session.execute(text(f"({there} EXCEPT {here}) UNION ALL ({here} EXCEPT {there})")).all() == []


def places(session: Session) -> list[Any]:
    """Where each text stands: one that is written anew stands elsewhere."""
    return [
        session.execute(text(f"SELECT id, ctid FROM {kind.__tablename__}_text ORDER BY id")).all() for kind in KINDS
    ]


def test_the_texts_follow_the_records(services: Services) -> None:
    with Session(services.database.engine) as session:
        names = ("Alfreds", "Bólido", "Chop-suey")
        companies = [Company(name=name, city="Łódź", country="PL") for name in names]
        session.add_all([*companies, Product(name="Chai", code="P1", unit_price=18)])
        session.flush()
        day = date(2026, 1, 2)
        for company in companies:
            session.add(Contact(name=f"Ana of {company.name}", company_id=company.id))
            session.add(Order(company_id=company.id, ordered_on=day, valid_until=day, notes="By train"))
        session.commit()
        # Many in one statement, as an import makes them.
        columns = "company_id, role, email, phone, mobile, notes, sync_status, sync_reason, sync_detail, sync_version, attempts"
        session.execute(text(f"INSERT INTO contact (name, {columns}) SELECT name || ' Jr', {columns} FROM contact"))
        assert session.scalar(text("SELECT count(*) FROM contact_text")) == 6
        assert_the_same(session)

        first, second, third = companies
        first.name, first.owner_id, first.type, first.city = "Ångström", None, PROSPECT, ""
        session.flush()
        assert_the_same(session)
        assert session.scalar(text("SELECT count(*) FROM sales_order_text WHERE company_key = 'angstrom'")) == 1

        session.execute(update(Contact).where(Contact.company_id == second.id).values(company_id=third.id))
        session.execute(update(Order).values(phase=VALIDATED, total=Order.id, notes="By ship"))
        session.execute(update(Product).values(name="Chang", unit_price=19, discontinued=True))
        assert_the_same(session)

        session.execute(delete(Order).where(Order.company_id == second.id))
        session.execute(delete(Company).where(Company.id == second.id))
        assert session.scalar(text("SELECT count(*) FROM company_text")) == 2
        assert_the_same(session)


def test_a_change_of_the_status_writes_no_text(services: Services) -> None:
    with Session(services.database.engine) as session:
        company = Company(name="Alfreds")
        session.add_all([company, Product(name="Chai", unit_price=18)])
        session.flush()
        day = date(2026, 1, 2)
        session.add(Contact(name="Ana", company_id=company.id))
        session.add(Order(company_id=company.id, ordered_on=day, valid_until=day))
        session.flush()
        before = places(session)
        assert [len(rows) for rows in before] == [1, 1, 1, 1]
        for kind in KINDS:
            moved = {"sync_status": Status.PENDING, "sync_reason": Reason.RUNNING, "next_attempt_at": func.now()}
            # The form saves what it holds, also where that is what it was.
            same = {"name": kind.name} if kind is not Order else {"notes": Order.notes, "total": Order.total}
            session.execute(update(kind).values(**moved, **same, sync_version=kind.sync_version + 1))
        assert places(session) == before
