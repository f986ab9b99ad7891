"""Which column is what, by the header names of the usual programs."""

from __future__ import annotations

import pytest

from webapp.companies.columns import COLUMNS, LABELS
from webapp.importing.columns import recognise
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


def test_no_header_name_means_two_fields() -> None:
    meant: dict[str, str] = {}
    for field, names in COLUMNS.items():
        for name in names:
            assert letters(name), name
            assert meant.setdefault(letters(name), field) == field, name
    assert set(LABELS) == set(COLUMNS)
