"""The languages of the screens: whose turn it is, its texts, its numbers and its names of months.

English is the source: a text is written as a British English sentence and looked up by it.

- In templates `{{ _("Save") }}`, with values `{{ _("Open %(name)s", name=company.name) }}`, with a number
  `{{ ngettext("%(num)s change", "%(num)s changes", n) }}`.
- In Python the same at the time of the request: `from webapp.languages import gettext as _, ngettext`.
- A constant, such as the label of a field, is marked, `N_("Country")`, and looked up where it is shown: `_(field.label)`.
  webapp.status imports nothing of ours: its labels are taken up by webapp.translations.extract.
- One message is one whole sentence. Nothing is put together from pieces that are translated alone: where a sentence
  names a kind of record, there is one message for each kind. A literal % is written %%.
- Numbers go in through `number`, dates through webapp.zone and webapp.sync.details.

After new texts `make translations` brings the catalogues up to date (webapp/translations/LANGUAGE/LC_MESSAGES);
tests/unit/test_translations.py fails until each one has its translation.

The language is a context variable, so that a sentence needs no argument for it: webapp.frame sets it for each request,
webapp.live.gateway for each frame. Everywhere else, such as in the workers and on the command line, it is English.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

FOLDER = Path(__file__).parent / "translations"
ENGLISH = "en"

# The languages by their code, each in its own words, and the locale whose numbers and names of countries it uses.
LANGUAGES: Mapping[str, str] = {
    ENGLISH: "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "pt": "Português",
}
LOCALES: Mapping[str, str] = {ENGLISH: "en_GB", "de": "de_DE", "es": "es_ES", "fr": "fr_FR", "pt": "pt_PT"}

# Here a number of four digits stands without a separator (CLDR, minimumGroupingDigits).
_NO_SHORT_GROUPS = frozenset({"es", "pt"})

_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def language() -> str:
    """The code of the language that is spoken now."""
    return _spoken.get()


def speak(code: str) -> None:
    """Speak this language from now on in this greenlet, English where the code is none of LANGUAGES."""
    _spoken.set(code if code in LANGUAGES else ENGLISH)


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Speak this language inside the block."""
    token = _spoken.set(code if code in LANGUAGES else ENGLISH)
    try:
        yield
    finally:
        _spoken.reset(token)


def N_(message: str) -> str:
    """`message` as it is: marks a constant for the catalogues."""
    return message


def NN_(singular: str, plural: str) -> tuple[str, str]:
    """Both forms of a message as they are: marks a constant for `ngettext`."""
    return singular, plural


def gettext(message: str, /, **values: object) -> str:
    """`message` in the language that is spoken now, with its values."""
    return _catalogue(language()).gettext(message) % values


def ngettext(singular: str, plural: str, num: int, /, **values: object) -> str:
    """The form of a message for `num` things; the message holds the number itself as %(num)s."""
    return _catalogue(language()).ngettext(singular, plural, num) % {"num": number(num), **values}


def number(value: int | Decimal, places: int | None = None) -> str:
    """A number as people read it, with as many decimals as asked for: 1,234.50, 1.234,50, 1 234,50."""
    text = f"{value:,}" if places is None else f"{value:,.{places}f}"
    code = language()
    if code == ENGLISH:
        return text
    group, point = _signs(code)
    if code in _NO_SHORT_GROUPS and len(text.partition(".")[0].lstrip("-")) == 5:
        group = ""
    return text.translate({ord(","): group, ord("."): point})


def decimal_sign() -> str:
    """What stands before the decimals of a number."""
    return _signs(language())[1]


def month(of: int) -> str:
    """The short name of a month from 1 to 12, as it stands in a date."""
    return months()[of - 1]


def months() -> Sequence[str]:
    """The short names of the twelve months."""
    return _months(language())


def best(cookie: str, accepted: Sequence[str]) -> str:
    """The language for somebody who has chosen `cookie` (empty for nothing), else whose browser accepts these, best first.

    `accepted` are tags such as de-AT. English where none of them is ours.
    """
    if cookie in LANGUAGES:
        return cookie
    return next((code for tag in accepted if (code := tag.partition("-")[0].lower()) in LANGUAGES), ENGLISH)


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: name, city and phone."""
    if len(names) == 1:
        return names[0]
    return gettext("%(names)s and %(last)s", names=", ".join(names[:-1]), last=names[-1])


def catalogue_path(code: str) -> Path:
    """The file with the translations into a language."""
    return FOLDER / code / "LC_MESSAGES" / "messages.po"


@cache
def _catalogue(code: str) -> NullTranslations:
    """The translations of a language, compiled in memory at their first use: a release holds text alone."""
    if code == ENGLISH:
        return NullTranslations()
    compiled = io.BytesIO()
    with catalogue_path(code).open("rb") as file:
        write_mo(compiled, read_po(file, locale=code))
    compiled.seek(0)
    return GNUTranslations(compiled)


@cache
def _signs(code: str) -> tuple[str, str]:
    symbols = Locale.parse(LOCALES[code]).number_symbols["latn"]
    return symbols["group"], symbols["decimal"]


@cache
def _months(code: str) -> tuple[str, ...]:
    # British English alone has a month of four letters in CLDR; columns of dates look calmer without it.
    names = Locale.parse(ENGLISH if code == ENGLISH else LOCALES[code]).months["format"]["abbreviated"]
    return tuple(names[month] for month in range(1, 13))
