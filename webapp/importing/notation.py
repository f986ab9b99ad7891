"""How a file writes its days and numbers: told by all of its values together, because one alone may mean two things.

04/07/1996 is a day in July or in April, and 1,234 is a thousand or one: a file whose values leave that open is refused
rather than guessed, since a wrong order would reach Sage. Nothing but `notation_of` reads a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from webapp.importing.columns import Columns
from webapp.importing.table import ImportRefused
from webapp.importing.table import Table as File
from webapp.numbers import read_number
from webapp.text import clean_line, read_day

# A time behind a day says nothing about the day.
_TIME = re.compile(r"[T ]+\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)? ?([AaPp]\.?[Mm]\.?)? ?(Z|UTC|[+-]\d{2}:?\d{2})?$")
_YEAR_FIRST = re.compile(r"(\d{4})[/.](\d{1,2})[/.](\d{1,2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([/.-])(\d{1,2})[/.-](\d{4})")
_MARKS = re.compile(r"[.,]")


class Ambiguous(Exception):
    """The values can be read in two ways, or contradict each other. The text says which and what to do."""


@dataclass(frozen=True)
class Notation:
    """How the values of one file are read. `days` says it for the report, empty where the file has no days."""

    month_first: bool = False
    comma: bool = False
    days: str = ""

    def day(self, text: str) -> date | None:
        """The day that is written, without its time; None for no day."""
        text = _TIME.sub("", clean_line(text))
        if found := _YEAR_FIRST.fullmatch(text):
            text = f"{found[1]}-{int(found[2]):02}-{int(found[3]):02}"
        elif found := _YEAR_LAST.fullmatch(text):
            one, mark, other, year = found.groups()
            text = f"{other}/{one}/{year}" if self.month_first and mark != "." else f"{one}/{other}/{year}"
        return read_day(text)

    def number(self, text: str) -> Decimal | None:
        """The number that is written; None for none."""
        text = clean_line(text)
        return read_number(text.translate(_SWAPPED) if self.comma else text)


_SWAPPED = str.maketrans(",.", ".,")


@dataclass
class NotationSniffer:
    """Tells by its values how a file writes, as csv.Sniffer tells its delimiter: add all of them, then ask."""

    _days: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, str] = field(default_factory=dict)

    def add_day(self, text: str) -> None:
        """Take note of one day. With points between, the day always comes first."""
        text = _TIME.sub("", clean_line(text))
        found = _YEAR_LAST.fullmatch(text)
        if found is None:
            if read_day(text) or _YEAR_FIRST.fullmatch(text):
                self._days.setdefault("year first", text)
        elif int(found[1]) > 12 or found[2] == ".":
            self._days.setdefault("day first", text)
        elif int(found[3]) > 12:
            self._days.setdefault("month first", text)
        elif found[1] != found[3]:
            self._days.setdefault("either", text)

    def add_number(self, text: str) -> None:
        """Take note of one number."""
        text = clean_line(text)
        if (said := _decimal_mark(text)) is not None:
            self._numbers.setdefault(said, text)

    def notation(self) -> Notation:
        """How the values are read. Raises Ambiguous."""
        days = self._days
        if "day first" in days and "month first" in days:
            raise Ambiguous(
                f"Some of its dates begin with the day, such as {days['day first']}, and some with the month, such as "
                f"{days['month first']}. Write them all as 1996-07-31."
            )
        if "either" in days and "day first" not in days and "month first" not in days:
            raise Ambiguous(
                f"None of its dates says whether the day or the month comes first in {days['either']}. "
                "Write them as 1996-07-31."
            )
        numbers = self._numbers
        if "," in numbers and "." in numbers:
            raise Ambiguous(
                f"Some of its numbers have decimals behind a comma, such as {numbers[',']}, and some behind a point, "
                f"such as {numbers['.']}. Write them all as 1234.50."
            )
        if "either" in numbers and "," not in numbers and "." not in numbers:
            raise Ambiguous(
                f"None of its numbers says whether the last three digits of {numbers['either']} are decimals. "
                "Write 1234 or 1.2340."
            )
        orders = [order for order in ("year first", "day first", "month first") if order in days]
        said = f"Dates were read with the {' or the '.join(orders)}, such as {days[orders[-1]]}." if orders else ""
        return Notation("month first" in days, "," in numbers, said)


def _decimal_mark(text: str) -> str | None:
    """The sign behind which a number has its decimals; "either" where that sign may group it, None without one."""
    marks = _MARKS.findall(text)
    if not marks:
        return None
    last = marks[-1]
    if len(set(marks)) == 2:
        return str(last)
    if len(marks) > 1:
        # The same sign twice groups thousands, so decimals come behind the other one.
        return "." if last == "," else ","
    before, after = re.split(r"[.,]", re.sub(r"[^\d.,]", "", text), maxsplit=1)
    if len(after) != 3 or before in ("", "0") or len(before) > 3:
        return str(last)
    return "either"


def notation_of(file: File, columns: Columns, *, days: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> Notation:
    """How a file writes. Raises ImportRefused where its values leave that open."""
    sniffer = NotationSniffer()
    added = [(columns.used[name], sniffer.add_day) for name in days if name in columns.used]
    added += [(columns.used[name], sniffer.add_number) for name in numbers if name in columns.used]
    for row in file.rows():
        for index, add in added:
            if row.cells:
                add(row.cells[index])
    try:
        return sniffer.notation()
    except Ambiguous as error:
        raise ImportRefused(f"{file.path.name} cannot be read: {error}") from error


@dataclass
class Share:
    """Whether a column of discounts or taxes holds fractions (0.15) or percentages (15): told by its highest number."""

    highest: Decimal = Decimal(0)
    line: int = 0

    def add(self, line: int, number: Decimal | None) -> None:
        """Take note of the number of one line."""
        if number is not None and number > self.highest:
            self.highest, self.line = number, line

    @property
    def is_fraction(self) -> bool:
        """Whether all numbers are fractions: no percentage of a whole column is below one."""
        return self.highest < 1
