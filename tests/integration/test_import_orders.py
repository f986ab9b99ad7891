"""Importing products and orders with their lines into a real database: totals to the cent, phases, and what is refused."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import selectinload

from tests.importing import NORTHWIND, before, connect, counts, events, history, status
from webapp.companies.changes import create_company
from webapp.companies.clean import clean_company
from webapp.companies.importing import import_companies
from webapp.connection.models import CONNECTED, Connection
from webapp.importing.report import ImportReport, LinesReport
from webapp.importing.table import ImportRefused
from webapp.orders.amounts import LineValues
from webapp.orders.changes import create_order, edit_order
from webapp.orders.importing import import_orders
from webapp.orders.models import Order
from webapp.products.changes import create_product
from webapp.products.importing import import_products
from webapp.products.models import Product
from webapp.services import Services
from webapp.users.models import SALES, User

Import = Callable[..., ImportReport]

LINES = "order no,product,qty,price\nA1,Tea,2,1.50\nA1,Milk,1,0.99\nA2,Tea,10,1.50\n"
ORDERS = "order no,company,order date,shipping\nA1,Alder,2026-03-01,4.00\nA2,Alder,2026-03-02,\n"


@pytest.fixture
def run(services: Services, tmp_path: Path) -> Import:
    """Import a file with this text; more files stand beside it by their names."""

    def run_import(content: str, dry_run: bool = False, **beside: str) -> ImportReport:
        for name, text_ in {"orders": content, **beside}.items():
            (tmp_path / f"{name}.csv").write_text(text_, encoding="utf-8")
        return import_orders(services, tmp_path / "orders.csv", dry_run)

    return run_import


@pytest.fixture
def connection(services: Services) -> Connection:
    return connect(services, CONNECTED)


@pytest.fixture
def alder(services: Services, connection: Connection) -> int:
    """A customer that Sage has."""
    with services.database.unit_of_work() as work:
        values = clean_company({"name": "Alder", "code": "A"}).values
        company = create_company(work, values, connection, user_id=None, cause="edit")
        company.sage_id = "sage-1"
        work.commit()
        return company.id


def orders(services: Services) -> list[Order]:
    with services.database.unit_of_work() as work:
        return list(work.session.scalars(select(Order).options(selectinload(Order.lines)).order_by(Order.id)))


def products(services: Services) -> list[Product]:
    with services.database.unit_of_work() as work:
        return list(work.session.scalars(select(Product).order_by(Product.id)))


def lines(order: Order) -> list[tuple[Any, ...]]:
    return [(line.description, line.quantity, line.unit_price, line.discount, line.tax_rate) for line in order.lines]


def execute(services: Services, statement: str) -> None:
    with services.database.engine.begin() as database:
        database.execute(text(statement))


def northwind_totals() -> dict[str, Decimal]:
    """What each order of the files comes to, added up apart from the product."""
    cent, found = Decimal("0.01"), defaultdict(Decimal)
    with (NORTHWIND / "order-details.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            amount = Decimal(line["unitPrice"]) * Decimal(line["quantity"]) * (1 - Decimal(line["discount"]))
            found[line["orderID"]] += amount.quantize(cent, ROUND_HALF_UP)
    with (NORTHWIND / "orders.csv").open(encoding="utf-8", newline="") as file:
        # Names without quotation marks may hold a comma, but only behind the freight.
        for row in csv.reader(file):
            if row[0] != "orderID":
                found[row[0]] += Decimal(row[7]).quantize(cent, ROUND_HALF_UP)
    return found


@pytest.mark.skipif(not NORTHWIND.exists(), reason="the Northwind files are not beside the project")
def test_northwind(services: Services, connection: Connection) -> None:
    import_companies(services, NORTHWIND / "customers.csv")
    execute(services, "UPDATE company SET sage_id = 'sage-' || id WHERE code <> 'VINET'")
    tried = import_orders(services, NORTHWIND / "orders.csv", dry_run=True)
    assert counts(tried) == (830, 0, 0, 0)
    assert (orders(services), products(services)) == ([], [])

    report = import_orders(services, NORTHWIND / "orders.csv")
    assert counts(report) == (830, 0, 0, 0)
    assert report.notes == ["Dates were read with the year first, such as 1996-07-04."]
    catalogue, read = report.before
    assert isinstance(catalogue, ImportReport)
    assert (catalogue.file, counts(catalogue)) == ("products.csv", (77, 0, 0, 0))
    assert isinstance(read, LinesReport)
    assert (read.file, read.lines, read.refused) == ("order-details.csv", 2155, [])
    assert read.notes == ["discount was read as a fraction: 0.15 is 15 % off the line."]

    imported = orders(services)
    assert {order.number: order.total for order in imported} == northwind_totals()
    assert sum(len(order.lines) for order in imported) == 2155
    assert all(line.product_id for order in imported for line in order.lines)
    assert {order.phase for order in imported} == {"confirmed"}
    reasons = {(order.company_name == "Vins et alcools Chevalier", order.sync_reason) for order in imported}
    assert reasons == {(True, "waiting_for_parent"), (False, "queued")}
    first = imported[0]
    assert (first.number, first.company_name) == ("10248", "Vins et alcools Chevalier")
    assert (first.ordered_on, first.valid_until, first.shipping) == (
        date(1996, 7, 4),
        date(1996, 8, 1),
        Decimal("32.38"),
    )
    assert lines(first)[0] == ("Queso Cabrales", 12, 14, 0, 0)

    again = import_orders(services, NORTHWIND / "orders.csv")
    assert counts(again) == (0, 0, 830, 0)
    # The products are there, so nobody asked for them.
    assert [one.file for one in again.before] == ["order-details.csv"]
    assert {order.sync_version for order in orders(services)} == {1}
    assert counts(import_products(services, NORTHWIND / "products.csv")) == (0, 0, 77, 0)
    assert sum(product.discontinued for product in products(services)) == 8


def line_values(*rows: tuple[str, str, str]) -> list[LineValues]:
    return [LineValues(name, Decimal(quantity), Decimal(price)) for name, quantity, price in rows]


@pytest.mark.parametrize("price", ["1.50", "0"])
@pytest.mark.parametrize("is_in_sage", [True, False])
@pytest.mark.parametrize("type_", ["customer", "prospect"])
def test_new_and_changed_rows_have_the_status_that_a_person_gives(
    services: Services, run: Import, alder: int, connection: Connection, price: str, is_in_sage: bool, type_: str
) -> None:
    execute(services, f"UPDATE company SET type = '{type_}', sage_id = {'sage_id' if is_in_sage else 'NULL'}")
    day = date(2026, 3, 1)
    values = {"company_id": alder, "number": "HAND", "ordered_on": day, "valid_until": date(2026, 3, 31)}
    with services.database.unit_of_work() as work:
        made = line_values(("Tea", "2", price))
        create_order(work, values, made, connection, user_id=None, cause="import", confirmed=True)
        work.commit()
    content = "order no,company,order date\nFILE,Alder,2026-03-01\n"
    row = "order no,product,qty,price\nFILE,Tea,{},{}\n"
    assert counts(run(content, order_lines=row.format(2, price))) == (1, 0, 0, 0)

    def agree() -> None:
        by_hand, by_file = orders(services)
        assert status(by_file) == status(by_hand)
        assert (by_file.phase, by_file.total, lines(by_file)) == (by_hand.phase, by_hand.total, lines(by_hand))
        assert [made[:4] for made in history(services, by_file)] == [made[:4] for made in history(services, by_hand)]

    agree()
    for quantity, changed in (("3", "1.25"), ("4", "0"), ("4", "2")):
        with services.database.unit_of_work() as work:
            found = select(Order).where(Order.number == "HAND").options(selectinload(Order.lines))
            made = line_values(("Tea", quantity, changed))
            edit_order(work, work.session.scalars(found).one(), {}, made, connection, user_id=None)
            work.commit()
        assert counts(run(content, order_lines=row.format(quantity, changed))) == (0, 1, 0, 0)
        agree()


def test_a_second_import_changes_only_what_the_file_says_otherwise(services: Services, run: Import, alder: int) -> None:
    run(ORDERS, order_lines=LINES)
    first, second = orders(services)
    assert (first.net_total, first.total, second.total) == (Decimal("7.99"), Decimal("7.99"), 15)
    assert first.valid_until == date(2026, 3, 31)
    assert counts(run(ORDERS, order_lines=LINES)) == (0, 0, 2, 0)
    assert counts(run(ORDERS.replace("4.00", "5.01"), order_lines=LINES)) == (0, 1, 1, 0)
    assert counts(run(ORDERS.replace("03-01,4.00", "06-01,"), order_lines=LINES.replace("0.99", "1.09"))) == (
        0,
        1,
        1,
        0,
    )
    first, second = orders(services)
    assert (first.shipping, first.total, first.sync_version) == (Decimal("5.01"), Decimal("9.10"), 3)
    assert (first.ordered_on, first.valid_until) == (date(2026, 6, 1), date(2026, 7, 1))
    assert second.sync_version == 1


def test_of_an_order_in_sage_only_what_stays_here_changes(services: Services, run: Import, alder: int) -> None:
    with services.database.unit_of_work() as work:
        work.session.add(User(email="ann@example.com", name="Ann", role=SALES, password_hash=""))
        work.commit()
    run(ORDERS, order_lines=LINES)
    execute(services, "UPDATE sales_order SET sage_id = number, sync_status = 'synchronised', sync_reason = 'in_step'")
    refused = run(ORDERS.replace("4.00", "5.00"), order_lines=LINES.replace("A2,Tea,10", "A2,Tea,11"))
    sentence = "is in Sage or on its way there, so its lines, dates, shipping and notes can no longer be changed here."
    assert refused.refused == [(2, f"Order A1 {sentence}"), (3, f"Order A2 {sentence}")]
    header, *rows = ORDERS.splitlines()
    told = "\n".join([f"{header},owner,internal notes", *(f"{row},ann@example.com,Called" for row in rows)])
    assert counts(run(told, order_lines=LINES)) == (0, 2, 0, 0)
    for order in orders(services):
        assert (order.internal_notes, order.sync_reason, order.sync_version) == ("Called", "in_step", 2)
        assert order.owner_id is not None
        assert order.total in (Decimal("7.99"), 15)


def test_an_order_that_reaches_sage_while_it_is_compared_is_left_alone(
    services: Services, run: Import, alder: int
) -> None:
    run(ORDERS, order_lines=LINES)
    reach = partial(execute, services, "UPDATE sales_order SET sage_id = number, sync_version = sync_version + 1")
    with before(services, "FOR UPDATE", 1, reach):
        report = run(ORDERS.replace("4.00", "5.00"), order_lines=LINES)
    assert counts(report) == (0, 0, 1, 1)
    assert report.refused[0][1].startswith("Order A1 is in Sage or on its way there")
    assert orders(services)[0].shipping == 4


def test_what_is_wrong_with_a_row_is_said(services: Services, run: Import, alder: int) -> None:
    with services.database.unit_of_work() as work:
        create_product(work, {"code": "P1", "name": "Tea", "unit_price": Decimal(2)}, None, user_id=None, cause="edit")
        work.commit()
    run("order no,company,order date\nOLD,Alder,2026-03-01\n", order_lines="order no,product ID,qty\nOLD,P1,1\n")
    with services.database.unit_of_work() as work:
        create_company(work, clean_company({"name": "Birch"}).values, None, user_id=None, cause="edit")
        work.commit()
    report = run(
        "order no,company,order date,freight\n"
        "1,Alder,2026-02-30,\n2,Alder,2026-03-01,-4\n,Alder,2026-03-01,\n4,,2026-03-01,\n5,Alder,,\n"
        "OLD,Birch,2026-03-01,\n7,Alder,2026-03-01,\n7,Alder,2026-03-01,\n8,Alder,2026-03-01,\n9,Alder,2026-03-01,\n"
        "10,Alder,2026-03-01,\n",
        order_lines="order no,product ID,qty,price\n"
        "1,P1,1,1\n7,P1,1,1\n8,P1,2,1\n8,P9,1,1\n9,P1,none,1\n10,P1,1,1.12345678901\n99,P1,1,1\n",
    )
    new = "is new, and the row does not say"
    cannot = "of order_lines.csv, which is one of its lines, cannot be taken: mend it first."
    assert report.refused == [
        (2, "Date: Enter the date of the order as a day, such as 31/12/2026."),
        (3, "Shipping: Enter the shipping as an amount from 0, or leave it empty."),
        (4, "Every order needs its number: write it in each row."),
        (5, f"Order 4 {new} whose it is: write its company."),
        (6, f"Order 5 {new} of which day it is: write its date."),
        (7, "Order OLD belongs to Alder here: give the other order another number."),
        (9, "Line 8 has the same number: keep one of the two."),
        (10, f"Line 5 {cannot}"),
        (11, f"Line 6 {cannot}"),
        (12, f"Line 7 {cannot}"),
    ]
    [read] = report.before
    assert read.refused == [
        (2, "No order 1 was read from orders.csv."),
        (5, "There is no product P9 here: import the products first, or give the line a description."),
        (6, "Enter the quantity as a number above 0."),
        (7, "Enter the price with 10 decimals at most."),
        (8, "No order 99 was read from orders.csv."),
    ]
    assert [order.number for order in orders(services)] == ["OLD", "7"]
    # What the file does not say of a line is what the product says.
    assert lines(orders(services)[0]) == [("Tea", 1, 2, 0, 0)]


def test_lines_that_belong_to_no_order_refuse_the_file(services: Services, run: Import, alder: int) -> None:
    with pytest.raises(
        ImportRefused, match=r"to which orders 2 rows of order_lines.csv belong, .* Line 3: It has 5 cells"
    ):
        run(ORDERS, order_lines="order no,product,qty,price\nA1,Tea,1,1\nA1,Tea,Green,1,1\n,Milk,1,1\nA2,Tea,1,1\n")
    assert orders(services) == []


@pytest.mark.parametrize(
    ("header", "written", "discount"),
    [
        ("discount", "0.15", "1.50"),
        ("discount", "15%", "1.50"),
        ("discount %", "15", "1.50"),
        ("discount percentage", "0.5", "0.05"),
        ("discount amount", "0.15", "0.15"),
        ("Rabatt %", "33.333", "3.33"),
        ("discount", "", "0"),
        ("discount,discount amount", "15,0.50", "0.50"),
    ],
)
def test_discounts(services: Services, run: Import, alder: int, header: str, written: str, discount: str) -> None:
    run(ORDERS, order_lines=f"order no,product,qty,price,{header}\nA1,Tea,4,2.50,{written}\n")
    assert orders(services)[0].lines[0].discount == Decimal(discount)
    assert orders(services)[0].total == 14 - Decimal(discount)


def test_a_discount_that_may_be_either_refuses_the_file(services: Services, run: Import, alder: int) -> None:
    with pytest.raises(
        ImportRefused, match=r"15 in line 3 may be a percentage or an amount\. Call the column Discount"
    ):
        run(ORDERS, order_lines="order no,product,qty,price,Discount\nA1,Tea,1,1,0.5\nA2,Tea,1,1,15\n")


def test_an_order_whose_prices_are_not_valid_waits_for_a_person(services: Services, run: Import, alder: int) -> None:
    content = ORDERS + "A3,Alder,2026-03-03,\n"
    report = run(
        content, order_lines="order no,product,qty,price,discount %\nA1,Tea,1,1,\nA1,Milk,1,,\nA2,Tea,1,1,120\n"
    )
    assert counts(report) == (3, 0, 0, 0)
    assert [(order.phase, order.sync_reason, order.sync_detail) for order in orders(services)] == [
        ("validating", "never_sent", {"code": "no_price", "line": 2}),
        ("validating", "never_sent", {"code": "discount_too_high", "line": 1}),
        ("validating", "never_sent", {"code": "no_lines"}),
    ]


def test_orders_and_lines_in_one_file_with_the_day_first(
    services: Services, run: Import, alder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the second line of an order comes in another batch than the order.
    monkeypatch.setattr("webapp.importing.run._BATCH", 1)
    content = (
        "Auftragsnummer;Kunde;Auftragsdatum;gültig bis;Versandkosten;Artikel;Menge;Einzelpreis;MwSt %\n"
        "A1;Alder;01.02.2026;31.01.2026;4,90;Tee;1.000;0,25;19\n"
        "A1;Alder;01.02.2026;31.01.2026;4,90;Milch;2;1.234,50;7\n"
        "A2;Alder;13.02.2026;01.04.2026;;Tee;0,5;2,00;19\n"
    )
    report = run(content)
    assert counts(report) == (2, 0, 0, 0)
    assert report.notes == [
        "Dates were read with the day first, such as 01.02.2026.",
        "The same file holds their lines: 3.",
    ]
    assert report.left_out == []
    first, second = orders(services)
    assert lines(first) == [("Tee", 1000, Decimal("0.25"), 0, 19), ("Milch", 2, Decimal("1234.50"), 0, 7)]
    assert (first.ordered_on, first.valid_until) == (date(2026, 2, 1), date(2026, 3, 3))
    assert (first.net_total, first.tax_total, first.total) == (
        Decimal("2723.90"),
        Decimal("220.33"),
        Decimal("2944.23"),
    )
    assert (second.valid_until, second.total) == (date(2026, 4, 1), Decimal("1.19"))
    assert counts(run(content)) == (0, 0, 2, 0)


def test_dates_that_can_be_read_in_two_ways_refuse_the_file(services: Services, run: Import, alder: int) -> None:
    content = ORDERS.replace("2026-03-01", "03/04/2026").replace("2026-03-02", "{}")
    with pytest.raises(ImportRefused, match="None of its dates says whether the day or the month comes first in 03/04"):
        run(content.format("04/03/2026"), order_lines=LINES)
    report = run(content.format("04/30/2026"), order_lines=LINES)
    assert report.notes == ["Dates were read with the month first, such as 04/30/2026."]
    assert [order.ordered_on for order in orders(services)] == [date(2026, 3, 4), date(2026, 4, 30)]


def test_the_file_with_the_lines_must_be_there(services: Services, run: Import, alder: int, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"none beside it is called order-details\.csv .* Name it with --lines"):
        run(ORDERS)
    with pytest.raises(ImportRefused, match=r"order_details\.csv and order_lines\.csv may all hold the lines"):
        run(ORDERS, order_lines=LINES, order_details=LINES)
    report = import_orders(services, tmp_path / "orders.csv", lines=tmp_path / "order_details.csv")
    assert counts(report) == (2, 0, 0, 0)


def test_products(services: Services, tmp_path: Path) -> None:
    path = tmp_path / "products.csv"

    def run(content: str) -> ImportReport:
        path.write_text(content, encoding="utf-8")
        return import_products(services, path)

    report = run(
        "SKU,product name,price,discontinued\nT,Tea,1.50,0\nM,Milk,0.0125,yes\nT,Tee,1,0\nX,,1,0\nY,Yam,,0\n"
        "Z,Zest,1.12345678901,0\nW,Wine,3,perhaps\n,None,1,0\n"
    )
    assert counts(report) == (2, 0, 0, 6)
    assert [reason for _, reason in report.refused] == [
        "Line 2 has the same code: keep one of the two.",
        "Every product needs a name: give it one.",
        "Every product needs a price: give it one.",
        "The price “1.12345678901” is not an amount from 0 with 10 decimals at most: correct it.",
        "“perhaps” does not say whether it is still sold: write yes or no.",
        "Every product needs a code: give it one.",
    ]
    assert counts(run("SKU,product name,price,discontinued\nT,Tea,1.60,\nM,Milk,0.0125,\n")) == (0, 1, 1, 0)
    assert [(one.code, one.unit_price, one.discontinued) for one in products(services)] == [
        ("T", Decimal("1.60"), False),
        ("M", Decimal("0.0125"), True),
    ]
    assert events(services) == []
