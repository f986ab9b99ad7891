"""Macros that all templates share."""

from __future__ import annotations

from jinja2 import DictLoader, Environment
from markupsafe import Markup

from webapp.languages import speaking
from webapp.templating import said_once


def test_a_macro_is_run_once_for_each_language_and_its_arguments() -> None:
    run: list[str] = []
    macros = """{% macro one(name, size=1) %}<b>{{ note(name) }}{{ size }}</b>{% endmacro %}"""
    environment = Environment(loader=DictLoader({"macros.html": macros}), autoescape=True)
    environment.globals["note"] = lambda name: run.append(name) or name
    one = dict(said_once(environment, "macros.html"))["one"]
    assert [one("a"), one("<"), one("a", size=2), one("a")] == ["<b>a1</b>", "<b>&lt;1</b>", "<b>a2</b>", "<b>a1</b>"]
    assert run == ["a", "<", "a"]
    with speaking("de"):
        assert one("a") == Markup("<b>a1</b>")
    assert run == ["a", "<", "a", "a"]
    assert one(Markup("<")) == Markup("<b><1</b>"), "the same letters, marked as safe"
    assert isinstance(one("a"), Markup)
