"""Names of countries: from what people write to an ISO 3166-1 alpha-2 code, and from the code to a name for screens.

The codes and their ISO names come from pycountry, the names in other languages from Unicode's CLDR through Babel, and a
small table adds what people write and neither of them lists.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache, lru_cache

import pycountry
from babel import Locale

from webapp.languages import LOCALES, language
from webapp.text import letters

# The languages in which the names of countries are understood.
LANGUAGES = (
    "en_GB",
    "en",
    "de",
    "fr",
    "es",
    "pt",
    "it",
    "nl",
    "ca",
    "da",
    "sv",
    "nb",
    "fi",
    "pl",
    "cs",
    "hu",
    "ro",
    "el",
    "tr",
)

# Kosovo has no code in ISO 3166; the EU's institutions, CLDR and many banks use this one of the private range.
KOSOVO = "XK"

# Compared without case, accents, spaces and punctuation, so "EE.UU." and "eeuu" are one entry.
_USUAL_NAMES = {
    "AE": ("UAE", "Emirates"),
    "AT": ("Oesterreich",),
    "BA": ("Bosnia",),
    "CD": ("DRC", "DR Congo"),
    "CI": ("Ivory Coast",),
    "CN": ("PRC", "PR China", "Mainland China"),
    "CZ": ("Tschechische Republik", "République tchèque", "República Checa", "Repubblica Ceca"),
    "DE": ("BRD",),
    "DK": ("Daenemark",),
    "GB": (
        "UK",
        "Great Britain",
        "Britain",
        "England",
        "Scotland",
        "Wales",
        "Northern Ireland",
        "Großbritannien",
        "Grande-Bretagne",
        "Gran Bretaña",
        "Gran Bretagna",
        "Grã-Bretanha",
        "Groot-Brittannië",
        "Angleterre",
        "Inglaterra",
        "Inghilterra",
    ),
    "GR": ("EL", "Hellas"),
    "IE": ("Eire", "Republic of Ireland"),
    "KR": ("Korea",),
    "MK": ("Macedonia",),
    "MM": ("Burma",),
    "MO": ("Macau",),
    "NL": ("Holland", "Hollande", "Holanda", "Olanda"),
    "PS": ("Palestine",),
    "SZ": ("Swaziland",),
    "TL": ("East Timor",),
    "TR": ("Turkey", "Tuerkei"),
    "US": (
        "America",
        "EEUU",
        "EUA",
        "Vereinigte Staaten von Amerika",
        "États-Unis d'Amérique",
        "Estados Unidos de América",
        "Stati Uniti d'America",
    ),
    "VA": ("Vatican",),
}


def country_code(text: str) -> str | None:
    """The alpha-2 code of the country that `text` means: a code, or a name in one of LANGUAGES; None where it is none.

    "Germany", "Deutschland", "DE" and "DEU" all give "DE". Understands no postal abbreviations such as "F-" and
    corrects no spelling: see `nearest_country`.
    """
    if len(text) == 2 and text in _codes():
        return text
    return _code_of_name(text)


def nearest_country(text: str) -> str | None:
    """The name for screens of the country that is written most like `text`, None where none is."""
    code = _nearest_code(text)
    return country_name(code) if code else None


@lru_cache(maxsize=1024)
def _nearest_code(text: str) -> str | None:
    names = _names()
    close = difflib.get_close_matches(_word(text), names, n=1, cutoff=0.75)
    return names[close[0]] if close else None


def country_name(code: str) -> str:
    """The name, in the reader's language, of the country with this alpha-2 code; an unknown code stands for itself."""
    return _shown_names(language()).get(code, code)


def country_choices() -> tuple[tuple[str, str], ...]:
    """All countries as (alpha-2 code, name in the reader's language), in the order of their names."""
    return _choices(language())


@cache
def _choices(of: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_shown_names(of).items(), key=lambda pair: _word(pair[1])))


@cache
def _codes() -> frozenset[str]:
    return frozenset(country.alpha_2 for country in pycountry.countries) | {KOSOVO}


@cache
def _shown_names(of: str) -> dict[str, str]:
    territories = Locale.parse(LOCALES[of]).territories
    return {code: territories[code] for code in _codes()}


# A file names few countries, each of them often.
@lru_cache(maxsize=4096)
def _code_of_name(text: str) -> str | None:
    return _names().get(_word(text))


@cache
def _names() -> dict[str, str]:
    """Code by name. Built at the first need: a form sends codes, so that most processes never load all languages."""
    names: dict[str, str] = {}
    # ISO's own names come first: "Congo" alone is the name of CG there, whatever it may mean elsewhere.
    for code, name in _iso_names():
        names.setdefault(_word(name), code)
    names |= {_word(name): code for code, usual in _USUAL_NAMES.items() for name in usual}
    certain = frozenset(names)
    ambiguous: set[str] = set()
    for one in LANGUAGES:
        for code, name in Locale.parse(one).territories.items():
            word = _word(name)
            if code in _codes() and word not in certain and names.setdefault(word, code) != code:
                ambiguous.add(word)
    return {name: code for name, code in names.items() if name not in ambiguous}


def _iso_names() -> Iterator[tuple[str, str]]:
    for country in pycountry.countries:
        code = country.alpha_2
        yield code, code
        yield code, country.alpha_3
        for kind in ("name", "official_name", "common_name"):
            name = getattr(country, kind, None)
            if name:
                yield code, name
                # ISO sorts by the main word: "Korea, Republic of" is the Republic of Korea.
                main, _, rest = name.partition(", ")
                yield code, f"{rest} {main}"
    yield KOSOVO, KOSOVO


def _word(name: str) -> str:
    """The name as one word, equal for the usual ways to write it: & and and, St and Saint, with and without The."""
    word = letters(name.replace("&", " and ")).removeprefix("the")
    return f"st{word.removeprefix('saint')}" if word.startswith("saint") else word
