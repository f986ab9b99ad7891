"""Which column of a table is what: header names recognised as people and programs write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from webapp.text import letters


@dataclass(frozen=True)
class Columns:
    """`used` maps a field to the index of its column; `left_out` are the header's names of the others that have one."""

    used: dict[str, int]
    left_out: list[str]


def recognise(header: Sequence[str], known: Mapping[str, Sequence[str]]) -> Columns:
    """Find the column of each field by the names in `known`, the better ones first.

    Case, accents, spaces and punctuation do not count: companyName, "Company name" and COMPANY_NAME are the same. A
    percent sign counts as the word, because it says what the numbers mean. Of two columns for one field the one with
    the better name is taken, and of equals the first.
    """
    written = [_word(name) for name in header]
    used: dict[str, int] = {}
    for field, names in known.items():
        for name in names:
            if _word(name) in written:
                used[field] = written.index(_word(name))
                break
    taken = set(used.values())
    return Columns(used, [name for index, name in enumerate(header) if name and index not in taken])


def _word(name: str) -> str:
    return letters(name.replace("%", "percent"))
