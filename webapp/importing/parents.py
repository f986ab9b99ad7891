"""Which company a staged row of something belongs to: its columns company_code and company_name, to company_id."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Computed, Table, Text, and_, case, func, update
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.connection.models import Connection
from webapp.importing.writing import belongs, point_to_only, refuse, usable


def company_columns() -> tuple[Column[Any], ...]:
    """The columns of staged rows that are read and written here; new ones for each table."""
    return (
        Column("company_code", Text, nullable=False),
        Column("company_name", Text, nullable=False),
        Column("company_key", Text(collation="C"), Computed("fold(company_name)", persisted=True)),
        Column("company_id", BigInteger),
    )


def find_companies(session: Session, rows: Table, connection: Connection | None) -> None:
    """Note for each row the company that has its code, else the only one of its name; refuse rows that name no such one.

    Only companies of `connection` come into question. A row in which neither is written has no company then.
    """
    session.execute(
        update(rows)
        .where(
            usable(rows),
            rows.c.company_code != "",
            Company.code != "",
            Company.code == rows.c.company_code,
            belongs(Company, connection),
        )
        .values(company_id=Company.id)
    )
    called = and_(rows.c.company_name != "", Company.name_key == rows.c.company_key, belongs(Company, connection))
    remedy = "”: write the code of the one that is meant."
    several = (" companies here are called “", rows.c.company_name, remedy)
    point_to_only(session, rows, "company_id", Company, called, *several)
    unknown = and_(rows.c.company_id.is_(None), func.concat(rows.c.company_code, rows.c.company_name) != "")
    written = func.concat_ws(
        " and none ",
        case((rows.c.company_code != "", func.concat("with the code “", rows.c.company_code, "”"))),
        case((rows.c.company_name != "", func.concat("called “", rows.c.company_name, "”"))),
    )
    refuse(session, rows, unknown, "There is no company ", written, " here: import the companies first.")
