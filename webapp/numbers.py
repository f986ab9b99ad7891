"""Numbers and amounts: as people type them or programs export them, as they are shown, and rounded. Pure."""

from __future__ import annotations

import re
import unicodedata
from decimal import ROUND_HALF_UP, Decimal

from webapp.languages import ENGLISH, decimal_sign, language, number

_CENT = Decimal("0.01")
# What Sage shows as a double is noise beyond this, and no total shows it.
PRICE_PLACES = 10
# No quantity and no price comes near, and the product of two of them is one that can be told to the cent.
TOO_HIGH = Decimal(10) ** 12
_SMALLEST = Decimal(1).scaleb(-PRICE_PLACES)
# Signs that stand between the thousands and mean nothing: spaces of all widths, and the apostrophes of Switzerland.
_GAPS = re.compile("[\\s'\u2019_]")
# Numbers of this shape are the same by any reading; an import has millions of them.
_ORDINARY_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")
_CURRENCY_CODE = re.compile(r"^[A-Z]{3}(?=[\d\s.,-])|(?<=[\d\s.,])[A-Z]{3}$")
# Languages in which a point divides thousands.
_POINT_GROUPS = frozenset({"de", "es", "pt"})


def read_number(text: str) -> Decimal | None:
    """The number that a person means, None where it is none: 1,234.50 and 1.234,50, 1234,5, £12, 12.00 EUR, 1 234.

    Where both a comma and a point stand, the last one begins the decimals. One of them alone with three digits behind it
    is read as the reader's language writes numbers: 1,234 are thousands in English and decimals elsewhere, 1.234 are
    thousands in German, Spanish and Portuguese.
    """
    if _ORDINARY_NUMBER.fullmatch(text) and not _is_grouped(text):
        return Decimal(text)
    plain = _CURRENCY_CODE.sub("", text.strip().upper())
    plain = _GAPS.sub("", "".join(sign for sign in plain if unicodedata.category(sign) != "Sc"))
    found = re.fullmatch(r"([+-]?)([0-9.,]*[0-9][0-9.,]*)", plain)
    if found is None:
        return None
    sign, digits = found.groups()
    decimal_mark = _decimal_mark(digits)
    whole, _, decimals = digits.rpartition(decimal_mark) if decimal_mark else (digits, "", "")
    groups = re.split("[.,]", whole)
    if (not decimals.isdigit() and decimals) or len({mark for mark in whole if mark in ".,"}) > 1:
        return None
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:])):
        return None
    return Decimal(f"{sign}{''.join(groups) or '0'}.{decimals or '0'}")


def _decimal_mark(digits: str) -> str:
    """The sign behind which the decimals stand, empty where there are none."""
    comma, point = digits.rfind(","), digits.rfind(".")
    if comma >= 0 and point >= 0:
        return "," if comma > point else "."
    if point >= 0:
        return "." if digits.count(".") == 1 and not _is_grouped(digits) else ""
    return "," if digits.count(",") == 1 and not _is_grouped(digits) else ""


def _is_grouped(digits: str) -> bool:
    """Whether the one comma or point in `digits` divides thousands."""
    if not re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", digits):
        return False
    return language() == ENGLISH if "," in digits else language() in _POINT_GROUPS


def plain(number: Decimal) -> str:
    """A number without the zeros that say nothing: 12, 0.5."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount_text(amount: Decimal) -> str:
    """An amount as the reader writes it: 1,234.50."""
    return number(amount, 2)


def number_text(of: Decimal) -> str:
    """A number as the reader writes it, without the zeros that say nothing: 12, 0.5, 0,5."""
    return number(of, decimals(of))


def price_text(price: Decimal) -> str:
    """The price of one unit as the reader writes it: 1,234.50, 0.0125."""
    return number(price, _price_places(price))


def plain_price(price: Decimal) -> str:
    """The price of one unit with a point and two decimals, and further ones where they say something: 12.50, 0.0125."""
    return f"{price:.{_price_places(price)}f}"


def _price_places(price: Decimal) -> int:
    return max(2, decimals(price))


def decimals(number: Decimal) -> int:
    """How many decimals a number has that say something."""
    return len(plain(number).partition(".")[2])


def typed_number(text: str) -> str:
    """A number of a database or of a calculation as the reader would type it: 0.5, 0,5; thousands are not divided."""
    return text.replace(".", decimal_sign())


def without_noise(number: Decimal) -> Decimal:
    """A quantity, or the price of one unit, of which a thousand may be ordered: with PRICE_PLACES decimals at most."""
    return number.quantize(_SMALLEST, ROUND_HALF_UP) if decimals(number) > PRICE_PLACES else number


def rounded(amount: Decimal) -> Decimal:
    """An amount of two places."""
    return amount.quantize(_CENT, ROUND_HALF_UP)
