"""What people type and export as a company, made clean."""

from __future__ import annotations

import unicodedata

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st

from webapp.companies.clean import _ORDINARY_EMAIL, LIMITS, clean_company
from webapp.text import clean_line

FAULTLESS = {"name": "Alder Ltd"}

# Texts as they come: words, the words that mean something here, and anything that Unicode has.
PIECES = st.sampled_from(
    [
        "Alder",
        " ",
        "\t",
        "\r\n",
        "\n",
        "NULL",
        "-",
        "N/A",
        "é",
        "e\u0301",
        "\u00a0",
        "\u200b",
        "\u202e",
        "\x00",
        "ﬁ",
        "İ",
    ]
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(PIECES, max_size=6).map("".join),
    st.sampled_from(
        ["Germany", "DE", "germny", "lead", "Customer - Direct", "info@EXAMPLE.com", "a@b@c.com", "ä@exämple.com"]
    ),
)
RAW = st.dictionaries(st.sampled_from(list(LIMITS)), TEXTS)


def values(**raw: str) -> dict[str, str]:
    return clean_company(FAULTLESS | raw).values


def errors(**raw: str) -> dict[str, str]:
    return clean_company(FAULTLESS | raw).errors


def test_a_name_is_all_that_a_company_needs() -> None:
    cleaned = clean_company({"name": "Alder Ltd"})
    assert cleaned.errors == {}
    assert cleaned.values == dict.fromkeys(LIMITS, "") | {"name": "Alder Ltd", "type": "customer"}


@pytest.mark.parametrize("nothing", ["", "  ", "NULL", "-", "N/A", "\u200b", "\u200d", "\u3164\ufe0f", "\x00", r"\N"])
def test_without_a_name_it_says_so(nothing: str) -> None:
    assert clean_company({"name": nothing}).errors == {"name": "Every company needs a name: give it one."}


def test_somebody_may_be_called_null() -> None:
    assert values(name="Null & Partner")["name"] == "Null & Partner"
    assert values(name="Null")["name"] == "Null"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("  Wolski  Zajazd\t", "Wolski Zajazd"),
        ("Alder\u00a0Ltd", "Alder Ltd"),
        ("Alder\r\nLtd", "Alder Ltd"),
        ("Cafe\u0301", "Café"),
        ("Al\x00d\x07er", "Alder"),
        ("\ufeffAlder\u200b", "Alder"),
        ("drawoF\u202e Ltd", "drawoF Ltd"),
        ("Nguyễn Ltd", "Nguyễn Ltd"),
        ("株式会社 東京", "株式会社 東京"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # noqa: RUF001
        ("👩\u200d🌾 Farm", "👩\u200d🌾 Farm"),
    ],
)
def test_a_name_is_trimmed_and_composed(written: str, kept: str) -> None:
    assert values(name=written)["name"] == kept


def test_notes_keep_their_lines() -> None:
    assert values(notes="\n  one  two \r\n\r\nthree\x0b\n\n")["notes"] == "one two\n\nthree"


def test_a_line_break_in_the_address_starts_its_second_line() -> None:
    cleaned = values(address_line_1="Building 7\n12, High Street\nLeeds")
    assert (cleaned["address_line_1"], cleaned["address_line_2"]) == ("Building 7", "12, High Street, Leeds")
    cleaned = values(address_line_1="Building 7\r\n12 High Street", address_line_2="Door 3")
    assert (cleaned["address_line_1"], cleaned["address_line_2"]) == ("Building 7", "12 High Street, Door 3")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("", "customer"),
        ("Customer", "customer"),
        ("CLIENT", "customer"),
        ("Kunde", "customer"),
        ("Customer - Direct", "customer"),
        ("prospect", "prospect"),
        ("Lead", "prospect"),
        ("Interessent", "prospect"),
        ("Potential customer", "prospect"),
    ],
)
def test_the_type_in_usual_words(written: str, kept: str) -> None:
    assert values(type=written)["type"] == kept


@pytest.mark.parametrize("word", ["Supplier", "Former customer", "c"])
def test_an_unknown_type_is_not_guessed(word: str) -> None:
    cleaned = clean_company(FAULTLESS | {"type": word})
    assert cleaned.errors == {"type": f"The type “{word}” is not known: write customer or prospect."}
    assert cleaned.values["type"] == word


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Info@Example.COM ", "Info@example.com"),
        ("first.last+crm@mail.example.co.uk", "first.last+crm@mail.example.co.uk"),
        ("o'neill@example.ie", "o'neill@example.ie"),
        ("post@müller.example", "post@müller.example"),
    ],
)
def test_a_well_formed_e_mail(written: str, kept: str) -> None:
    cleaned = clean_company(FAULTLESS | {"email": written})
    assert (cleaned.errors, cleaned.values["email"]) == ({}, kept)


@pytest.mark.parametrize(
    "written",
    ["nobody", "a@b", "@example.com", "a..b@example.com", "a@example..com", "a b@example.com", "a@localhost",
     "a@firm.test", "x" * 65 + "@example.com", "Ann <ann@example.com>"],
)  # fmt: skip
def test_what_is_no_whole_e_mail(written: str) -> None:
    assert errors(email=written) == {
        "email": f"“{written}” is not a whole e-mail address: write it like name@example.com."
    }


@pytest.mark.parametrize("written", ["a@example.com, b@example.com", "a@example.com;b@example.com", "a@b@example.com"])
def test_only_one_e_mail(written: str) -> None:
    assert errors(email=written) == {"email": "Only one e-mail address fits here: keep one."}


@given(st.from_regex(_ORDINARY_EMAIL, fullmatch=True))
def test_the_quick_check_of_e_mails_agrees_with_the_full_one(address: str) -> None:
    cleaned = clean_company(FAULTLESS | {"email": address})
    if len(address.partition("@")[0]) <= 64 and len(address) <= 254:
        assert cleaned.values["email"] == validate_email(address, check_deliverability=False, strict=True).normalized


def test_an_unknown_country_names_the_nearest() -> None:
    assert errors(country="Germny") == {
        "country": "The country “Germny” is not known. Do you mean Germany? Write its name or its two-letter code."
    }
    assert errors(country="Qwxyz") == {
        "country": "The country “Qwxyz” is not known. Write its name or its two-letter code."
    }


@pytest.mark.parametrize("field", LIMITS)
def test_a_field_has_room_and_an_end(field: str) -> None:
    room = {"type": "customer", "country": "Germany", "email": "a" * 60 + "@" + "b" * 60 + "." + "c" * 60 + ".com"}
    longest = room.get(field, "x" * LIMITS[field])
    assert field not in errors(**{field: longest})
    cleaned = clean_company(FAULTLESS | {field: "x" * (LIMITS[field] + 1)})
    assert f"{LIMITS[field] + 1:,} characters" in cleaned.errors[field]
    assert f"shorten it to {LIMITS[field]:,}" in cleaned.errors[field]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert set(clean_company({"type": "x", "email": "x", "country": "xx"}).errors) == {
        "name",
        "type",
        "email",
        "country",
    }


@given(RAW)
def test_cleaning_twice_is_cleaning_once(raw: dict[str, str]) -> None:
    once = clean_company(raw)
    again = clean_company(once.values)
    assert again.values == once.values
    assert again.errors == once.errors


@given(RAW)
def test_what_is_clean_can_be_stored(raw: dict[str, str]) -> None:
    cleaned = clean_company(raw)
    assert set(cleaned.values) == set(LIMITS)
    for field, value in cleaned.values.items():
        assert value == unicodedata.normalize("NFC", value)
        assert all(sign == "\n" or unicodedata.category(sign) not in {"Cc", "Cs"} for sign in value)
        assert value == value.strip()
        assert field == "notes" or "\n" not in value
    if not cleaned.errors:
        assert cleaned.values["name"]
        assert cleaned.values["type"] in {"customer", "prospect"}
        assert len(cleaned.values["country"]) in {0, 2}


@given(st.text())
def test_a_line_has_single_spaces_alone(text: str) -> None:
    line = clean_line(text)
    assert line.split() == [part for part in line.split(" ") if part]
    assert "  " not in line
    assert clean_line(line) == line
