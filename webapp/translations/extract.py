"""Find all texts of the screens and bring the catalogues up to date: `make translations`.

A new text gets an empty translation, and one that is no longer used goes. Nothing is guessed: a text that was changed is
a new text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from webapp.languages import ENGLISH, LANGUAGES, catalogue_path
from webapp.status import FILTER_TEXT, VARIANTS, mark_of

_ROOT = Path(__file__).resolve().parents[2]
_KEYWORDS: dict[str, tuple[int, ...] | None] = {
    "_": None,
    "gettext": None,
    "N_": None,
    "ngettext": (1, 2),
    "NN_": (1, 2),
}
# Spaces at the end of a line of a template belong to no sentence.
_OPTIONS = {"**.html": {"trimmed": "true", "silent": "false"}}


def extract() -> Catalog:
    """All texts of the screens, in the order of the files."""
    found = Catalog(project="Synclight", charset="utf-8")
    for name, line, message in _messages():
        found.add(message, locations=[(name, line)] if name else [])
    return found


def updated(code: str) -> Catalog:
    """The catalogue of a language as it is after an update: exactly the texts of the screens."""
    with catalogue_path(code).open("rb") as file:
        held = read_po(file, locale=code)
    # The day stays as it is: a catalogue changes only where its texts do.
    day = held.creation_date
    result = Catalog(
        locale=code, project="Synclight", charset="utf-8", fuzzy=False, creation_date=day, revision_date=day
    )
    for message in extract():
        if not message.id:
            continue
        old = held.get(message.id)
        result.add(message.id, old.string if old else None)
    return result


def write(code: str, catalogue: Catalog) -> None:
    """Store the catalogue of a language, sorted, so that two changes of it seldom meet."""
    path = catalogue_path(code)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalogue, width=0, sort_output=True, no_location=True, omit_header=False)


def is_translated(message: Message) -> bool:
    """Whether a message has its translation, in all forms where it has several."""
    forms = (message.string,) if isinstance(message.string, str) else message.string
    return bool(forms) and all(forms or ())


def _messages() -> Iterator[tuple[str, int, str | tuple[str, ...]]]:
    for folder, method in (("webapp", [("**.py", "python")]), ("templates", [("**.html", "jinja2.ext:babel_extract")])):
        found = extract_from_dir(_ROOT / folder, method, _OPTIONS, _KEYWORDS, directory_filter=lambda path: True)
        yield from ((f"{folder}/{name}", line, message) for name, line, message, *_ in found)
    for label in (*FILTER_TEXT.values(), *(mark_of(variant).label for variant in VARIANTS)):
        yield "", 0, label


def main() -> None:
    """Bring all catalogues up to date, and say what is left to translate."""
    for code in LANGUAGES:
        if code == ENGLISH:
            continue
        if not catalogue_path(code).exists():
            write(code, Catalog(locale=code))
        catalogue = updated(code)
        write(code, catalogue)
        missing = sum(1 for one in catalogue if one.id and not is_translated(one))
        print(f"{code}: {len(catalogue)} texts, {missing} to translate")


if __name__ == "__main__":
    main()
