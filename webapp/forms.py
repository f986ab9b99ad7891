"""Forms of records: the fields that a module declares, a form as it was sent, and the merge with what others saved.

Pure: text of a request goes in, cleaned values and sentences come out. No database and no network is asked.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self

from webapp.text import one_line

_LONGEST_MARK = 64


@dataclass(frozen=True)
class Field:
    """One field of a form: its label and how a browser can help to fill it in.

    `kind` is choice, company (chosen by a search), long (several lines), or the type of an input. `limit` is the most
    characters that it takes. `live` names the words for the value in the live state of the record, where they are not
    the value itself; None where the state has no words that a form could compare.
    """

    name: str
    label: str
    autocomplete: str = "off"
    kind: str = "text"
    hint: str = ""
    limit: int | None = None
    needed: bool = False
    live: str | None = ""


# Fields in groups with their titles, in the order in which people fill them in.
Groups = tuple[tuple[str, tuple[Field, ...]], ...]


def by_name(groups: Groups) -> dict[str, Field]:
    """All fields of a form, in its order."""
    return {one.name: one for _, group in groups for one in group}


def groups_for(groups: Groups, connections: Collection[int], chosen: str, form: Form | None = None) -> Groups:
    """The groups of a form. Where there is nothing to choose from, nobody is asked for a connection.

    One that is `chosen` and is no longer there is asked for again, as one that is wrong in the `form` that was sent.
    """
    is_wrong = form is not None and "connection_id" in form.errors
    if len(connections) > 1 or is_wrong or (chosen and chosen not in {str(one) for one in connections}):
        return groups
    return tuple((title, tuple(one for one in group if one.name != "connection_id")) for title, group in groups)


class Cleaned(Protocol):
    """What cleaning the fields of a form gives: their values, and a sentence for each that is wrong."""

    @property
    def values(self) -> Mapping[str, str]: ...
    @property
    def errors(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Difference:
    """A field that somebody else changed while it was edited: what it was, what they made of it, what was typed here."""

    name: str
    before: str
    theirs: str
    yours: str


@dataclass(frozen=True)
class Form:
    """A form of a record as it was sent.

    `typed` is every field exactly as it came, to be shown again; `values` are the cleaned ones, to be stored. `errors`
    maps a field to a sentence. `before` holds what the fields were when the form was opened, `taken` the fields for which
    the person took the newer value of somebody else. `once` is the mark of a form that makes a record.
    """

    typed: dict[str, str]
    values: dict[str, str]
    errors: dict[str, str]
    before: dict[str, str]
    taken: frozenset[str]
    once: str = ""

    def with_error(self, name: str, sentence: str) -> Self:
        """This form with an error that only the database could find."""
        return replace(self, errors={**self.errors, name: sentence})


def read_form(
    names: Iterable[str],
    form: Mapping[str, str],
    stored: Mapping[str, str],
    clean: Callable[[dict[str, str]], Cleaned],
    fixed: Mapping[str, str] | None = None,
) -> Form:
    """A form with these fields as it was sent, cleaned.

    `stored` is what the fields are now, for what the form does not hold: a field that was not sent stays as it is.
    `clean` gives the value of every field, as a text, and the errors. `fixed` maps a field that can no longer be changed
    to the sentence that says why: it stays as it is, and a form that holds another value is refused.

    `now-FIELD` is what the person decided about a change of others that they were told of while they typed: from there on
    the form begins at what the field is now, which "take" puts into it, too.
    """
    names, fixed = tuple(names), fixed or {}
    settled = {name for name in names if f"now-{name}" in form}
    before = {
        name: stored[name] if name in settled else _lines(form.get(f"was-{name}", stored[name])) for name in names
    }
    taken = frozenset(name for name in names if is_taken(form, name))
    typed = {name: before[name] if name in taken else _lines(form.get(name, stored[name])) for name in names}
    refused = {name: why for name, why in fixed.items() if typed[name] not in (before[name], stored[name])}
    typed |= {name: stored[name] for name in fixed}
    cleaned = clean(typed)
    errors = {**cleaned.errors, **refused}
    in_order = {name: errors[name] for name in names if name in errors}
    values = {name: cleaned.values[name] for name in names}
    return Form(typed, values, in_order, before, taken, one_line(form.get("once", ""))[:_LONGEST_MARK])


def is_taken(form: Mapping[str, str], name: str) -> bool:
    """Whether the person takes what others made of a field, as it was when the form was drawn, or as it is now."""
    return form.get(f"take-{name}") == "theirs" or form.get(f"now-{name}") == "take"


def _lines(text: str) -> str:
    """Text of a form with the line ends that are stored; browsers send CRLF."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def merged(form: Form, stored: Mapping[str, str]) -> tuple[dict[str, str], list[Difference], list[str]]:
    """What to store of `form` where the record is `stored` by now: three ways, field by field.

    Returns the values; the fields that both changed to different values, for the person to choose; and the fields that
    only others changed, whose newer value stands.
    """
    values: dict[str, str] = {}
    both: list[Difference] = []
    theirs: list[str] = []
    for name, typed in form.values.items():
        before, now = form.before[name], stored[name]
        if now == before or typed == now:
            values[name] = typed
        elif typed == before:
            values[name] = now
            theirs.append(name)
        else:
            values[name] = typed
            both.append(Difference(name, before, now, typed))
    return values, both, theirs
