"""Which company a staged row of something belongs to: its columns company_code and company_name, to company_id."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Computed, Table, Text, and_, case, func, select, update
from sqlalchemy.orm import Session

from webapp.companies.models import Company
from webapp.importing.writing import refuse, usable


def company_columns() -> tuple[Column[Any], ...]:
    """The columns of staged rows that are read and written here; new ones for each table."""
    return (
        Column("company_code", Text, nullable=False),
        Column("company_name", Text, nullable=False),
        Column("company_key", Text(collation="C"), Computed("fold(company_name)", persisted=True)),
        Column("company_id", BigInteger),
    )


def find_companies(session: Session, rows: Table) -> None:
    """Note for each row the company that has its code, else the only one of its name; refuse rows that name no such one.

    A row in which neither is written has no company then.
    """
    session.execute(
        update(rows)
        .where(usable(rows), rows.c.company_code != "", Company.code != "", Company.code == rows.c.company_code)
        .values(company_id=Company.id)
    )
    named = (
        select(rows.c.line, func.count().label("candidates"), func.min(Company.id).label("id"))
        .join_from(rows, Company, Company.name_key == rows.c.company_key)
        .where(usable(rows), rows.c.company_id.is_(None), rows.c.company_name != "")
        .group_by(rows.c.line)
        .subquery()
    )
    several = func.concat(
        *(named.c.candidates, " companies here are called “", rows.c.company_name),
        "”: write the code of the one that is meant.",
    )
    session.execute(
        update(rows)
        .where(rows.c.line == named.c.line)
        .values(
            company_id=case((named.c.candidates == 1, named.c.id)),
            refusal=case((named.c.candidates > 1, several)),
        )
    )
    unknown = and_(rows.c.company_id.is_(None), func.concat(rows.c.company_code, rows.c.company_name) != "")
    written = func.concat_ws(
        " and none ",
        case((rows.c.company_code != "", func.concat("with the code “", rows.c.company_code, "”"))),
        case((rows.c.company_name != "", func.concat("called “", rows.c.company_name, "”"))),
    )
    refuse(session, rows, unknown, "There is no company ", written, " here: import the companies first.")
