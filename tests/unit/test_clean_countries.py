"""Countries by the names that people write."""

from __future__ import annotations

import pycountry
import pytest

from webapp.companies.countries import country_choices, country_code, country_name, nearest_country


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("DE", "Germany|Deutschland|Allemagne|Alemania|DE|DEU|germany|GERMANY| Federal Republic of Germany|BRD"),
        ("GB", "UK|U.K.|GB|GBR|Great Britain|United Kingdom|The United Kingdom|England|Vereinigtes Königreich"),
        ("US", "USA|U.S.A.|US|United States|United States of America|Estados Unidos|EE.UU.|États-Unis|America"),
        ("NL", "Netherlands|The Netherlands|Holland|Nederland|Pays-Bas|Holanda"),
        ("MX", "México|Mexico|Mexique|MEX"),
        ("VE", "Venezuela|Venezuela, Bolivarian Republic of"),
        ("IE", "Ireland|Republic of Ireland|Éire|Irland"),
        ("CH", "Switzerland|Schweiz|Suisse|Svizzera"),
        ("AT", "Österreich|Oesterreich|Austria|Autriche"),
        ("CI", "Côte d'Ivoire|Cote d\u2019Ivoire|Ivory Coast"),
        ("KR", "South Korea|Republic of Korea|Korea, Republic of"),
        ("TR", "Turkey|Türkiye|Turkiye"),
        ("CZ", "Czechia|Czech Republic|Česko|Tschechien"),
        ("BA", "Bosnia and Herzegovina|Bosnia & Herzegovina"),
        ("GR", "Greece|Ελλάδα|EL"),
        ("KN", "Saint Kitts and Nevis|St. Kitts & Nevis|St Kitts and Nevis"),
        ("XK", "Kosovo|XK"),
        ("NA", "NA|Namibia"),
    ],
)  # fmt: skip
def test_a_country_by_many_names(code: str, names: str) -> None:
    assert {name: country_code(name) for name in names.split("|")} == dict.fromkeys(names.split("|"), code)


@pytest.mark.parametrize("text", ["", "---", "?", "the", "Narnia", "ZZ", "XX", "12", "Kongo", "EU"])
def test_what_is_no_country_or_may_be_two(text: str) -> None:
    assert country_code(text) is None


def test_every_country_of_the_standard_is_known_by_its_codes_and_its_names() -> None:
    for country in pycountry.countries:
        names = (country.alpha_2, country.alpha_3, country.name, country_name(country.alpha_2))
        assert {country_code(name) for name in names} == {country.alpha_2}


def test_the_choices_are_all_countries_in_the_order_of_their_names() -> None:
    choices = country_choices()
    assert len(choices) == len(pycountry.countries) + 1
    assert choices[:3] == (("AF", "Afghanistan"), ("AX", "Åland Islands"), ("AL", "Albania"))
    assert all(country_code(name) == code and country_name(code) == name for code, name in choices)


def test_a_name_for_screens() -> None:
    assert country_name("GB") == "United Kingdom"
    assert country_name("") == ""
    assert country_name("ZZ") == "ZZ"


def test_the_nearest_country_is_offered_or_none() -> None:
    assert nearest_country("Untied Kingdom") == "United Kingdom"
    assert nearest_country("Frankriech") == "France"
    assert nearest_country("qqqqq") is None
