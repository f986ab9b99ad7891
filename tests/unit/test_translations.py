"""Every text of the screens has its translation in every language, with the same values in it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from babel.messages import Catalog, Message
from babel.messages.pofile import read_po

from webapp.languages import (
    ENGLISH,
    LANGUAGES,
    LOCALES,
    best,
    catalogue_path,
    gettext,
    language,
    listed,
    ngettext,
    number,
    speaking,
)
from webapp.numbers import read_number
from webapp.orders.amounts import LineValues
from webapp.orders.clean import clean_order_lines
from webapp.orders.forms import typed_lines
from webapp.sync.details import day, sentence
from webapp.translations.extract import extract, is_translated, updated
from webapp.zone import Reader

TRANSLATED = [code for code in LANGUAGES if code != ENGLISH]
VALUES = re.compile(r"%\(\w+\)s|%%")
NOW = datetime(2026, 11, 22, 10, 45, tzinfo=UTC)


def catalogue(code: str) -> Catalog:
    with catalogue_path(code).open("rb") as file:
        return read_po(file, locale=code)


def texts(held: Catalog) -> dict[object, Message]:
    return {one.id: one for one in held if one.id}


@pytest.mark.parametrize("code", TRANSLATED)
def test_the_catalogue_has_exactly_the_texts_of_the_screens(code: str) -> None:
    found, held = {one.id for one in extract() if one.id}, texts(catalogue(code)).keys()
    assert found - held == set(), "run make translations"
    assert held - found == set(), "run make translations"


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_text_is_translated_in_all_its_forms(code: str) -> None:
    held = texts(catalogue(code))
    assert [one.id for one in held.values() if not is_translated(one)] == []
    assert [one.id for one in held.values() if one.fuzzy] == []
    forms = {len(one.string) for one in held.values() if isinstance(one.string, tuple)}
    assert forms == {catalogue(code).num_plurals}


@pytest.mark.parametrize("code", TRANSLATED)
def test_a_translation_has_the_values_of_its_text(code: str) -> None:
    for one in texts(catalogue(code)).values():
        originals = one.id if isinstance(one.id, tuple) else (one.id,)
        forms = one.string if isinstance(one.string, tuple) else (one.string,)
        for original, form in zip(originals, forms, strict=True):
            assert set(VALUES.findall(str(form))) == set(VALUES.findall(original)), one.id


def test_a_text_without_translation_is_noticed() -> None:
    missing = Catalog(locale="de")
    missing.add("Save")
    assert not is_translated(texts(missing)["Save"])
    missing.add(("%(num)s change", "%(num)s changes"), ("%(num)s Änderung", ""))
    assert not is_translated(texts(missing)[("%(num)s change", "%(num)s changes")])
    assert len(updated("de")) == len(extract())


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en", "Synchronised: the account is correctly synchronised with Sage."),
        ("de", "Synchronisiert: Die Firma stimmt mit Sage überein."),
        ("es", "Sincronizado: la empresa está correctamente sincronizada con Sage."),
        ("fr", "Synchronisé : la société est correctement synchronisée avec Sage."),
        ("pt", "Sincronizado: a empresa está corretamente sincronizada com o Sage."),
    ],
)
def test_the_sentence_of_the_product_is_said_in_each_language(code: str, said: str) -> None:
    with speaking(code):
        assert sentence("company", {"code": "in_step"}, UTC, NOW) == said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en", "Sage needs a country for this contact. Add the country and save."),
        ("de", "Sage benötigt für diesen Kontakt das Feld „Land“. Füllen Sie „Land“ aus und speichern Sie."),
        ("es", "Sage necesita el campo «país» para este contacto. Rellene «país» y guarde."),
        ("fr", "Sage a besoin du champ « pays » pour ce contact. Renseignez « pays » et enregistrez."),
        ("pt", "O Sage precisa do campo «país» para este contacto. Preencha «país» e guarde."),
    ],
)
def test_a_sentence_is_right_for_its_kind_of_record(code: str, said: str) -> None:
    with speaking(code):
        assert sentence("contact", {"code": "missing", "field": "country"}, UTC, NOW) == said


@pytest.mark.parametrize(
    ("code", "amount", "thousand", "when", "age", "names"),
    [
        ("en", "1,234.50", "12,345", "4 Jul 1996", "4 min ago", "a, b and c"),
        ("de", "1.234,50", "12.345", "4. Juli 1996", "vor 4 Min.", "a, b und c"),
        ("es", "1234,50", "12.345", "4 jul 1996", "hace 4 min", "a, b y c"),
        ("fr", "1\u202f234,50", "12\u202f345", "4 juil. 1996", "il y a 4 min", "a, b et c"),
        ("pt", "1234,50", "12\u00a0345", "4 jul. 1996", "há 4 min", "a, b e c"),
    ],
)
def test_numbers_days_and_ages(code: str, amount: str, thousand: str, when: str, age: str, names: str) -> None:
    with speaking(code):
        assert (number(Decimal("1234.5"), 2), number(12345)) == (amount, thousand)
        assert day(date(1996, 7, 4)) == when
        assert Reader(UTC, NOW).age(NOW - timedelta(minutes=4)) == age
        assert listed(["a", "b", "c"]) == names
    assert language() == ENGLISH


def test_each_number_has_its_form() -> None:
    both = ("Queued behind 1 other.", "Queued behind %(num)s others.")
    with speaking("de"):
        assert ngettext(*both, 1) == "In der Warteschlange hinter 1 anderen."
        assert ngettext(*both, 2000) == "In der Warteschlange hinter 2.000 anderen."
    assert ngettext(*both, 2000) == "Queued behind 2,000 others."


def test_a_person_chooses_else_the_browser_says() -> None:
    assert best("fr", ["de-DE"]) == "fr"
    assert best("", ["it-IT", "de-AT", "en"]) == "de"
    assert best("xx", ["pt-BR"]) == "pt"
    assert best("", ["nl"]) == best("", []) == ENGLISH
    assert LANGUAGES.keys() == LOCALES.keys()


@pytest.mark.parametrize(
    ("code", "typed", "meant"),
    [
        ("en", "1.234", "1.234"),
        ("en", "1,234", "1234"),
        ("de", "1.234", "1234"),
        ("de", "1,234", "1.234"),
        ("de", "1.234,50", "1234.50"),
        ("de", "0.125", "0.125"),
        ("de", "12.50", "12.50"),
        ("es", "12.345", "12345"),
        ("pt", "1,5", "1.5"),
        ("fr", "1\u202f234,5", "1234.5"),
        ("fr", "1.234", "1.234"),
        ("fr", "1,234", "1.234"),
    ],
)
def test_a_number_is_read_as_its_language_writes_it(code: str, typed: str, meant: str) -> None:
    with speaking(code):
        assert read_number(typed) == Decimal(meant)


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_line_that_is_opened_and_saved_stays_as_it_is(code: str) -> None:
    line = LineValues("Chai", Decimal("1.125"), Decimal("1234.50"), Decimal("0.10"), Decimal("5.125"))
    with speaking(code):
        cleaned = clean_order_lines(typed_lines([line]))
    assert (cleaned.lines, cleaned.errors) == ([line], {})


def test_a_literal_percent_sign_is_one() -> None:
    assert gettext("Tax %%") == "Tax %"
