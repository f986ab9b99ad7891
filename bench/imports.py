"""Importing 100,000 companies and a contact of each from CSV files: rows per second, from the file to the last commit.

Beside it in the same run, on the same server: what PostgreSQL alone needs to take the same file as it is (COPY into a
table of texts without an index, the upper bound), and the same companies added one by one as the form does it (the
lower bound, on fewer rows). The server is the embedded one with its own settings, so each commit reaches the disk.
"""

from __future__ import annotations

import csv
import random
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from bench.servers import own_servers
from webapp.companies.changes import create_company
from webapp.companies.clean import clean_company
from webapp.companies.importing import import_companies
from webapp.connection.models import CONNECTED, Connection
from webapp.contacts.importing import import_contacts
from webapp.importing.report import ImportReport
from webapp.services import Services

ROWS = 100_000
ROWS_ONE_BY_ONE = 2_000
TARGET = 5_000  # rows a second

_HEADER = [
    "customerID",
    "companyName",
    "address",
    "city",
    "region",
    "postalCode",
    "country",
    "phone",
    "e-mail",
    "VAT number",
    "notes",
]
_CONTACTS_HEADER = ["customerID", "first name", "last name", "job title", "e-mail", "phone", "mobile phone"]
_WORDS = ["Alder", "Birch", "Café", "Délices", "Ömer", "Fjord", "Señor", "Harbour", "Isar", "São", "Łódź", "Wolski"]
_FORMS = ["Ltd", "GmbH", "S.A.", "SARL", "AB", "Oy", "BV", "S.p.A."]
_PLACES = [
    ("Berlin", "Germany"),
    ("México D.F.", "Mexico"),
    ("London", "UK"),
    ("Portland", "USA"),
    ("Strasbourg", "France"),
    ("Caracas", "Venezuela"),
    ("Århus", "Danmark"),
    ("Wien", "Österreich"),
]


def write_companies(path: Path, rows: int, phone: str = "030") -> None:
    """Write a file of invented companies as a CRM exports it; the same each time but for how phones begin."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_HEADER)
        for number in range(rows):
            city, country = chance.choice(_PLACES)
            name = f"{chance.choice(_WORDS)} {chance.choice(_WORDS)} {chance.choice(_FORMS)} {number}"
            writer.writerow(
                [
                    f"C{number:06}",
                    name,
                    f"{chance.randrange(400)}, Market Street",
                    city,
                    "NULL",
                    f"{10_000 + number % 90_000}",
                    country,
                    f"{phone}-{number:07}",
                    f"office@company{number}.example.com",
                    f"DE{number:09}",
                    "" if number % 3 else "Pays on time.\nCall before noon.",
                ]
            )


def write_contacts(path: Path, rows: int, role: str = "Buyer") -> None:
    """Write a file of invented people, one at each of the companies above; the same each time but for what they do."""
    chance = random.Random(2)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_CONTACTS_HEADER)
        for number in range(rows):
            first, last = chance.choice(_WORDS), chance.choice(_WORDS)
            address = f"{first}.{number}@company{number}.example.com".encode("ascii", "ignore").decode()
            writer.writerow([f"C{number:06}", first, last, role, address, f"030-{number:07}", ""])


def run() -> list[dict[str, Any]]:
    """The figures, in rows a second: {name, ours, peer, ratio, target}."""
    with tempfile.TemporaryDirectory() as folder, own_servers(Path(folder)) as services:
        _add_connection(services)
        path, changed = Path(folder) / "companies.csv", Path(folder) / "changed.csv"
        write_companies(path, ROWS)
        write_companies(changed, ROWS, phone="031")
        people, promoted = Path(folder) / "contacts.csv", Path(folder) / "promoted.csv"
        write_contacts(people, ROWS)
        write_contacts(promoted, ROWS, role="Owner")
        copied = ROWS / _seconds(lambda: _copy_raw(services, path))
        reports: list[ImportReport] = []
        created = ROWS / _seconds(lambda: reports.append(import_companies(services, path)))
        unchanged = ROWS / _seconds(lambda: reports.append(import_companies(services, path)))
        updated = ROWS / _seconds(lambda: reports.append(import_companies(services, changed)))
        copied_people = ROWS / _seconds(lambda: _copy_raw(services, people))
        met = ROWS / _seconds(lambda: reports.append(import_contacts(services, people)))
        known = ROWS / _seconds(lambda: reports.append(import_contacts(services, people)))
        moved_up = ROWS / _seconds(lambda: reports.append(import_contacts(services, promoted)))
        one_by_one = ROWS_ONE_BY_ONE / _seconds(lambda: _one_by_one(services, path))
        found = [(report.created, report.changed, report.unchanged, report.refused) for report in reports]
        assert found == [(ROWS, 0, 0, []), (0, 0, ROWS, []), (0, ROWS, 0, [])] * 2, "an import did something else"

    rows = f"of {ROWS:,} companies, rows/s; peer:"
    contacts = f"of {ROWS:,} contacts, rows/s; peer: COPY of the raw file"
    return [
        _row(f"first import {rows} one by one", created, one_by_one, TARGET),
        _row(f"first import {rows} COPY of the raw file", created, copied, TARGET),
        _row(f"second import, nothing new, {rows} COPY of the raw file", unchanged, copied),
        _row(f"third import, each row changed, {rows} COPY of the raw file", updated, copied),
        _row(f"first import {contacts}", met, copied_people, TARGET),
        _row(f"second import, nothing new, {contacts}", known, copied_people),
        _row(f"third import, each row changed, {contacts}", moved_up, copied_people),
    ]


def _row(name: str, ours: float, peer: float, target: float | None = None) -> dict[str, Any]:
    return {"name": name, "ours": round(ours), "peer": round(peer), "ratio": round(ours / peer, 3), "target": target}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _add_connection(services: Services) -> None:
    """A connection to a Sage that works."""
    with services.database.unit_of_work() as work:
        work.session.add(Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED))
        work.commit()


def _copy_raw(services: Services, path: Path) -> None:
    """Have PostgreSQL take the file as it is."""
    url = make_url(services.settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with path.open(encoding="utf-8", newline="") as file:
        width = len(next(csv.reader(file)))
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS raw")
        cursor.execute(f"CREATE TABLE raw ({', '.join(f'column_{number} text' for number in range(width))})")
        with cursor.copy("COPY raw FROM STDIN (FORMAT csv, HEADER)") as copy, path.open("rb") as file:
            while chunk := file.read(1 << 16):
                copy.write(chunk)


def _one_by_one(services: Services, path: Path) -> None:
    """Add the first companies of the file as a person would: each in its own transaction."""
    fields = {"companyName": "name", "address": "address_line_1", "city": "city", "region": "region", "phone": "phone"}
    fields |= {"postalCode": "postal_code", "country": "country", "e-mail": "email", "VAT number": "tax_number"}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(islice(csv.DictReader(file), ROWS_ONE_BY_ONE)):
            with services.database.unit_of_work() as work:
                connection = work.session.get_one(Connection, 1)
                raw = {field: row[name] for name, field in fields.items()} | {"code": f"ONE{number}"}
                create_company(work, clean_company(raw).values, connection, user_id=None, cause="edit")
                work.commit()


if __name__ == "__main__":
    for measured in run():
        print(measured)
