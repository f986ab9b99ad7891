"""Text from outside, made clean: what people type and what other programs export."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime

# How exports write that there is nothing: exactly so, because somebody may be called Null.
_NOTHING = frozenset({"NULL", "null", "(null)", "N/A", "n/a", "#N/A", r"\N", "-", "--", "–", "—"})  # noqa: RUF001

# Control characters that are no white space, soft hyphens, invisible marks that a copied text brings along, marks that
# turn the direction of writing (they make one name look like another), and halves of surrogate pairs.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
# What can be printed and shows nothing: the fillers of Hangul, a pattern of Braille without dots, variation selectors.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f \u180b\u180c\u180d\ufe00\ufe0e\ufe0f")
# How people write a day, beside ISO 8601.
_DAYS = ("%d/%m/%Y", "%d.%m.%Y", "%d %b %Y", "%d %B %Y")
_NUMBER = re.compile(r"(\d+)")
_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


def read_id(text: str) -> int | None:
    """The id that a text from outside names, None where it can be none. Eighteen digits always fit a bigint."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def clean_line(text: str) -> str:
    """`text` as one line in Unicode's NFC: white space trimmed and collapsed, invisible characters out.

    Empty where it says that there is nothing: NULL, N/A, a dash.
    """
    if not text:
        return ""
    text = " ".join(text.split())
    if not (text.isascii() and text.isprintable()):
        text = " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())
        if not any(letter.isprintable() and letter not in _BLANK for letter in text):
            return ""
    return "" if text in _NOTHING else text


def clean_lines(text: str) -> list[str]:
    """The lines of `text`, each clean, without those that are empty at the beginning and at the end."""
    if not text:
        return []
    return "\n".join(clean_line(part) for part in _LINE_END.split(text)).strip("\n").split("\n")


def letters(text: str) -> str:
    """The letters and digits of `text` alone, without case and accents: what people take for one word."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text).casefold() if sign.isalnum())


def natural_order(text: str) -> tuple[tuple[int | str, ...], str]:
    """What texts are sorted by as people count, 3 before 12, whatever their case and accents."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(sign))
    # Every second part is a number.
    return tuple(int(part) if at % 2 else part for at, part in enumerate(_NUMBER.split(plain))), text


def one_line(text: str) -> str:
    """`text` of a request as one line of what can be printed, in Unicode's NFC, white space collapsed; nothing of it is
    read as empty."""
    text = unicodedata.normalize("NFC", text)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def read_day(text: str) -> date | None:
    """The day that is written: 1996-07-04, with a time or without, 4/7/1996, 4.7.1996 or 4 Jul 1996; None for no day."""
    text = clean_line(text)
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        pass
    for form in _DAYS:
        try:
            return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no zone.
        except ValueError:
            continue
    return None
