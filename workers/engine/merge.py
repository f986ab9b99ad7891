"""Three-way merge, field by field. Pure.

The base is what both sides last agreed on. A field that one side changed is taken from it; a field that both changed to
the same value is agreed; a field that both changed to different values is a conflict, and nobody wins it. Where an admin
has said that one side has the word on a field, that side wins it, and what the other had changed is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from webapp.connection.directions import FROM_SAGE, TO_SAGE

Fields = Mapping[str, str]


@dataclass(frozen=True)
class FieldConflict:
    """A field that both sides changed to different values. `base` is None where they never agreed on one."""

    field: str
    base: str | None
    ours: str
    theirs: str


@dataclass(frozen=True)
class Merged:
    """The outcome of a merge.

    `fields` is the merged state and holds our value where there is a conflict. `to_sage` and `from_sage` name the
    fields that the merged state changes there and here. `overruled` are changes of one side that gave way because the
    other has the word. All are in the order of our fields.
    """

    fields: dict[str, str]
    to_sage: tuple[str, ...]
    from_sage: tuple[str, ...]
    conflicts: tuple[FieldConflict, ...]
    overruled: tuple[FieldConflict, ...] = ()


def merge(
    agreed: Fields | None, ours: Fields, theirs: Fields, directions: Mapping[str, str] = MappingProxyType({})
) -> Merged:
    """Merge two states that come from `agreed`.

    Both states have the same fields. `directions` names those on which one side has the word (see
    webapp.connection.directions). Without an agreed state (a customer that was found in Sage and linked), an empty value
    gives way to one that is not, whatever the direction, and two different ones are a conflict. A field that `agreed`
    lacks, because it was not compared at that time, is treated the same way.
    """
    fields: dict[str, str] = {}
    to_sage: list[str] = []
    from_sage: list[str] = []
    conflicts: list[FieldConflict] = []
    overruled: list[FieldConflict] = []
    for name, our in ours.items():
        their = theirs[name]
        base = agreed.get(name) if agreed is not None else None
        fields[name] = our
        if our == their:
            continue
        # With no base, the empty value is the one that nobody ever set.
        start = base if base is not None else ""
        winner = {TO_SAGE: our, FROM_SAGE: their}.get(directions.get(name, ""))
        if winner is not None and (winner or base is not None):
            fields[name] = winner
            (to_sage if winner == our else from_sage).append(name)
            if (their if winner == our else our) != start:
                overruled.append(FieldConflict(name, base, our, their))
        elif our == start:
            fields[name] = their
            from_sage.append(name)
        elif their == start:
            to_sage.append(name)
        else:
            conflicts.append(FieldConflict(name, base, our, their))
    return Merged(fields, tuple(to_sage), tuple(from_sage), tuple(conflicts), tuple(overruled))
