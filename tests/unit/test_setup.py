"""What `make` installs: locks that fit the project and name no source, and front-end files that are all there."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from requirements.vendor import VENDOR, icon_sheet
from webapp import ROOT
from webapp.status import VARIANTS, mark_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pinned(lock: str) -> dict[str, list[Version]]:
    """The versions that a lock names, several where machines differ."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9._-]+)==([^ ;]+)", line):
            found.setdefault(canonicalize_name(match[1]), []).append(Version(match[2]))
    return found


@pytest.mark.parametrize(
    ("lock", "asked"),
    [("run", PROJECT["dependencies"]), ("test", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])],
)
def test_the_lock_holds_what_the_project_asks_for(lock: str, asked: list[str]) -> None:
    """After a change of pyproject.toml: make lock."""
    versions = pinned(lock)
    for requirement in map(Requirement, asked):
        for version in versions[canonicalize_name(requirement.name)]:
            assert version in requirement.specifier, requirement


def test_tests_run_with_the_versions_that_run_in_earnest() -> None:
    run, test = pinned("run"), pinned("test")
    assert {name: versions for name, versions in test.items() if name in run}.items() <= run.items()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    requirements = re.findall(r"^[a-z0-9].*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert requirements
    assert all("--hash=sha256:" in requirement for requirement in requirements)
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)


def test_the_front_end_lock_holds_hashes_and_no_addresses() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not [name for name, package in packages.items() if "resolved" in package]


def test_the_icon_sheet_holds_every_icon() -> None:
    vendor = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["vendor"]
    sheet = ElementTree.parse(VENDOR / "icons.svg").getroot()
    symbols = {symbol.get("id"): symbol for symbol in sheet}
    assert list(symbols) == vendor["icons"]
    assert all(symbol.get("viewBox") == "0 0 24 24" and len(symbol) for symbol in symbols.values())
    assert {mark_of(variant).icon for variant in VARIANTS} <= set(symbols)
    # The pages' policy forbids inline styles.
    assert not [element for element in sheet.iter() if "style" in element.attrib]


def test_every_front_end_file_is_there() -> None:
    vendor = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["vendor"]
    assert all((VENDOR / name).stat().st_size > 1_000 for name in vendor["files"])


def test_an_icon_that_the_set_does_not_have_is_named() -> None:
    with pytest.raises(SystemExit, match="the icon set holds no 'no-such-icon'"):
        icon_sheet(["check", "no-such-icon"])
