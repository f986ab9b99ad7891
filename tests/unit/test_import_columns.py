"""Which column is what, by the header names of the usual programs."""

from __future__ import annotations

import pytest

from webapp.companies.columns import COLUMNS, LABELS
from webapp.contacts import columns as contacts
from webapp.importing.columns import recognise
from webapp.orders import columns as orders
from webapp.products import columns as products
from webapp.text import letters


def fields(*header: str) -> dict[str, str]:
    return {field: header[index] for field, index in recognise(header, COLUMNS).used.items()}


@pytest.mark.parametrize(
    "name", ["companyName", "Company name", "COMPANY_NAME", "company-name", "  company  name ", "Company Name*"]
)
def test_case_spaces_and_punctuation_do_not_count(name: str) -> None:
    assert fields(name) == {"name": name}


def test_northwind() -> None:
    columns = recognise(
        ["customerID", "companyName", "contactName", "contactTitle", "address", "city", "region", "postalCode",
         "country", "phone", "fax"],
        COLUMNS,
    )  # fmt: skip
    assert columns.used == {
        "code": 0, "name": 1, "address_line_1": 4, "city": 5, "region": 6, "postal_code": 7, "country": 8, "phone": 9,
    }  # fmt: skip
    assert columns.left_out == ["contactName", "contactTitle", "fax"]


def test_a_german_export() -> None:
    assert fields(
        "Kundennummer", "Firma", "Straße", "PLZ", "Ort", "Land", "Telefon", "E-Mail", "USt-IdNr.", "Bemerkung"
    ) == {
        "code": "Kundennummer", "name": "Firma", "address_line_1": "Straße", "postal_code": "PLZ", "city": "Ort",
        "country": "Land", "phone": "Telefon", "email": "E-Mail", "tax_number": "USt-IdNr.", "notes": "Bemerkung",
    }  # fmt: skip


def test_a_spanish_export() -> None:
    assert fields(
        "Código", "Nombre", "NIF", "Dirección", "Código postal", "Población", "Provincia", "País", "Teléfono"
    ) == {
        "code": "Código", "name": "Nombre", "tax_number": "NIF", "address_line_1": "Dirección", "city": "Población",
        "postal_code": "Código postal", "region": "Provincia", "country": "País", "phone": "Teléfono",
    }  # fmt: skip


def test_a_salesforce_export() -> None:
    assert fields(
        "Account Name", "Account Number", "Type", "Billing Street", "Billing City", "Billing State/Province",
        "Billing Zip/Postal Code", "Billing Country", "Shipping Street", "Phone", "Account Owner",
    ) == {
        "name": "Account Name", "code": "Account Number", "type": "Type", "address_line_1": "Billing Street",
        "city": "Billing City", "region": "Billing State/Province", "postal_code": "Billing Zip/Postal Code",
        "country": "Billing Country", "phone": "Phone", "owner": "Account Owner",
    }  # fmt: skip


def test_the_better_name_is_taken_and_the_other_left_out() -> None:
    columns = recognise(["Name", "ID", "Account Name", "Customer ID", "name"], COLUMNS)
    assert columns.used == {"name": 2, "code": 3}
    assert columns.left_out == ["Name", "ID", "name"]


def test_a_column_without_a_name_is_not_listed() -> None:
    assert recognise(["name", "", "fax"], COLUMNS).left_out == ["fax"]


PEOPLE = {
    "Salesforce": {
        "first_name": "First Name", "last_name": "Last Name", "role": "Title", "company_name": "Account Name",
        "phone": "Phone", "mobile": "Mobile", "email": "Email", "notes": "Description",
    },
    "HubSpot": {
        "first_name": "First Name", "last_name": "Last Name", "email": "Email", "phone": "Phone Number",
        "mobile": "Mobile Phone Number", "role": "Job Title", "company_name": "Company Name",
    },
    "Dynamics": {
        "name": "Full Name", "email": "Email", "company_name": "Company Name", "phone": "Business Phone",
        "mobile": "Mobile Phone", "role": "Job Title",
    },
    "Pipedrive": {
        "name": "Person - Name", "company_name": "Person - Organization", "email": "Person - Email - Work",
        "phone": "Person - Phone - Work", "mobile": "Person - Phone - Mobile", "role": "Person - Job title",
    },
    "German": {
        "first_name": "Vorname", "last_name": "Nachname", "company_name": "Firma", "company_code": "Kundennummer",
        "role": "Funktion", "mobile": "Handy", "phone": "Telefon",
    },
    "Spanish": {"first_name": "Nombre", "last_name": "Apellidos", "company_name": "Empresa", "role": "Cargo"},
}  # fmt: skip
SALES = {
    "Salesforce": {
        "number": "Order Number", "company_name": "Account Name", "company_code": "Account Number",
        "ordered_on": "Order Start Date", "owner": "Order Owner", "notes": "Description",
    },
    "Dynamics": {
        "number": "Order ID", "company_name": "Customer", "ordered_on": "Created On", "shipping": "Freight Amount",
        "valid_until": "Requested Delivery Date",
    },
    "Zoho": {
        "number": "SO Number", "company_name": "Account Name", "valid_until": "Due Date", "ordered_on": "Created Time",
    },
    "French": {
        "number": "N° commande", "company_name": "Client nom", "ordered_on": "Date de commande",
        "shipping": "Frais de port", "valid_until": "Date d'échéance",
    },
}  # fmt: skip
LINES = {
    "Salesforce": {
        "number": "Order Number", "product_code": "Product Code", "description": "Product Name",
        "quantity": "Quantity", "unit_price": "Unit Price",
    },
    "HubSpot": {
        "number": "Order name", "product_code": "SKU", "description": "Line item", "quantity": "Quantity",
        "unit_price": "Unit price", "discount_percent": "Discount %", "tax_rate": "Tax rate",
    },
    "Dynamics": {
        "number": "Order ID", "description": "Product", "quantity": "Quantity", "unit_price": "Price Per Unit",
        "discount_amount": "Manual Discount",
    },
    "German": {
        "number": "Auftragsnummer", "product_code": "Artikelnummer", "description": "Bezeichnung",
        "quantity": "Menge", "unit_price": "Einzelpreis", "discount": "Rabatt", "tax_rate": "MwSt. (%)",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        *(pytest.param(contacts.COLUMNS, header, id=f"contacts-{name}") for name, header in PEOPLE.items()),
        *(pytest.param(orders.ORDERS, header, id=f"orders-{name}") for name, header in SALES.items()),
        *(pytest.param(orders.LINES, header, id=f"lines-{name}") for name, header in LINES.items()),
    ],
)
def test_exports_of_contacts_orders_and_lines(known: dict[str, tuple[str, ...]], expected: dict[str, str]) -> None:
    header = ["Salutation", *expected.values()]
    columns = recognise(header, known)
    assert {field: header[index] for field, index in columns.used.items()} == expected
    assert columns.left_out == ["Salutation"]


def test_a_percent_sign_is_a_word() -> None:
    assert recognise(["Discount", "Discount (%)"], orders.LINES).used == {"discount": 0, "discount_percent": 1}


@pytest.mark.parametrize(
    ("known", "labels"),
    [
        (COLUMNS, LABELS),
        (contacts.COLUMNS, contacts.LABELS),
        (products.COLUMNS, products.LABELS),
        (orders.ORDERS, orders.ORDER_LABELS),
        (orders.LINES, orders.LINE_LABELS),
    ],
)
def test_no_header_name_means_two_fields(known: dict[str, tuple[str, ...]], labels: dict[str, str]) -> None:
    meant: dict[str, str] = {}
    for field, names in known.items():
        for name in names:
            assert letters(name), name
            word = letters(name.replace("%", "percent"))
            assert meant.setdefault(word, field) == field, name
    assert set(labels) == set(known)
