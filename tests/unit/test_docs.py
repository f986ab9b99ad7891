"""What the documents name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, table
from webapp.status import COMES_FROM, Reason

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)+)`")
# A file, perhaps with functions that it defines: `webapp/live/publish.py`: `Publisher.publish`, `close_user`.
CODE = re.compile(
    r"`((?:webapp|workers|static|templates|tests|bench|docs)/[\w/.]+\.\w+)`(?::((?:(?:,|\s|and)+`[\w.]+`)+))?"
)
# The other way round: (`publish` in `webapp/live/publish.py`).
CODE_IN = re.compile(r"((?:`[\w.]+`(?:,|\s|and)*)+)in\s+`((?:webapp|workers|static|templates|tests)/[\w/.]+\.\w+)`")
LINKED = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def definitions(path: Path) -> set[str]:
    """The tests of a file, as pytest names them."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(f"::{node.name}")
        elif isinstance(node, ast.ClassDef):
            found |= {f"::{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_every_failure_has_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "docs/failures.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    rows = rows[1:]
    assert len(rows) == 35
    noticing = {mutation.test for mutation in MUTATIONS}
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        # `make mutate` takes the safeguard out, and sees that this test fails.
        assert noticing & {f"{path}{name}" for path, name in named}, row
        for path, name in named:
            assert name in definitions(ROOT / path), f"{path}{name}"


@pytest.mark.parametrize(
    "document", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda one: one.name
)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in LINKED.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize(
    "document", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda one: one.name
)
def test_every_file_and_function_is_where_it_is_said_to_be(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path, names in CODE.findall(text) + [(path, names) for names, path in CODE_IN.findall(text)]:
        assert (ROOT / path).is_file(), path
        code = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(?:\w+\.)?(\w+)`", names):
            assert re.search(rf"\b(def|class|function|const) {name}\b|^{name}\b.* = ", code, re.M), f"{path}: {name}"


def test_the_page_of_mutations_is_the_list() -> None:
    assert (ROOT / "docs/mutations.md").read_text(encoding="utf-8") == table()


def test_the_table_of_what_follows_upon_what_is_true() -> None:
    told: dict[str, set[str]] = {}
    for line in (ROOT / "docs/sync.md").read_text(encoding="utf-8").splitlines():
        cells = [set(re.findall(r"`(\w+)`", cell)) for cell in line.split("|")]
        if len(cells) == 5 and cells[1] <= set(Reason) and cells[1]:
            told |= dict.fromkeys(cells[1], cells[2])
    assert told == {str(reason): set(map(str, COMES_FROM.get(reason, ()))) for reason in Reason}


def test_every_mutation_has_its_code_and_its_test() -> None:
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.code) == 1, mutation.broken
        path, _, name = mutation.test.partition("::")
        assert not name or f"::{name}" in definitions(ROOT / path), mutation.test
