"""How many records each choice of a filter has, counted no further than it tells: the more there is, the more a count costs."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import TextClause
from sqlalchemy.orm import Session

from webapp.languages import number

# Where there are more, how many says little.
MOST = 1_000


def read_counts(session: Session, statement: TextClause) -> dict[str, int]:
    """What a statement counts, by choice: the filter and its value, `owner:3`.

    The statement gives rows of choice and n, and counts no further than the parameter `most`, one more than MOST.
    """
    return {row.choice: row.n for row in session.execute(statement, {"most": MOST + 1})}


def count_texts(bounded: Mapping[str, int], exact: Mapping[str, int]) -> dict[str, str]:
    """Counts as people read them; those that were counted up to a bound end in a plus where there are more."""
    return {choice: count_text(n) for choice, n in bounded.items()} | {choice: number(n) for choice, n in exact.items()}


def count_text(n: int) -> str:
    """A number as people read it that was counted up to one more than MOST."""
    return number(n) if n <= MOST else f"{number(MOST)}+"
