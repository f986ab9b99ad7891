"""Templates as webapp.templating runs them beside those that Jinja runs itself."""

from __future__ import annotations

from flask import Flask
from flask.templating import Environment as FlaskEnvironment
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader, Template
from markupsafe import Markup, escape

from webapp.languages import speaking
from webapp.templating import Environment, escaped, said_once

VALUES = st.one_of(
    st.text(),
    st.text(alphabet="<>&'\"a"),
    st.text(alphabet="<>&'\"a").map(Markup),
    st.integers(),
    st.none(),
    st.lists(st.text(alphabet="<>&'\"a"), max_size=2),
)

# Each way in which a template puts values out, or puts them together and then out.
PAGE = """
{%- macro one(value) %}<b title="{{ value }}">{{ value }}</b>{% endmacro %}
{%- macro around(value) %}<i>{{ caller() }}{{ value }}</i>{% endmacro %}
{%- set kept %}{{ value }}<hr>{% endset %}
{{ value }}{{ value ~ "<" ~ value }}{{ one(value) }}{{ one(kept) }}{{ kept }}{{ missing }}{{ "<" }}{{ value|string|upper }}
{%- call around(value) %}{{ value }}{{ one(value) }}{% endcall %}
{%- filter replace("a", "b") %}{{ value }}{% endfilter %}
{%- autoescape false %}{{ value }}{% endautoescape %}
{%- for each in [value, kept] %}{{ each }}{{ loop.index }}{% endfor %}
{{ "%s<br>"|safe|format(value) }}{{ [value, kept]|join("<") }}
"""


def _page(kind: type[FlaskEnvironment]) -> Template:
    return kind(Flask(__name__), loader=DictLoader({"page.html": PAGE}), autoescape=True).get_template("page.html")


OURS, JINJAS = _page(Environment), _page(FlaskEnvironment)


@given(VALUES)
def test_a_value_is_escaped_as_markupsafe_escapes_it(value: object) -> None:
    assert str(escaped(value)) == str(escape(value))


@given(VALUES)
def test_a_page_is_what_jinja_makes_of_it(value: object) -> None:
    assert OURS.render(value=value) == JINJAS.render(value=value)


def test_a_macro_is_run_once_for_each_language_and_its_arguments() -> None:
    run: list[str] = []
    macros = """{% macro one(name, size=1) %}<b>{{ note(name) }}{{ size }}</b>{% endmacro %}"""
    environment = Environment(Flask(__name__), loader=DictLoader({"macros.html": macros}), autoescape=True)
    environment.globals["note"] = lambda name: run.append(name) or name
    one = dict(said_once(environment, "macros.html"))["one"]
    assert [one("a"), one("<"), one("a", size=2), one("a")] == ["<b>a1</b>", "<b>&lt;1</b>", "<b>a2</b>", "<b>a1</b>"]
    assert run == ["a", "<", "a"]
    with speaking("de"):
        assert one("a") == Markup("<b>a1</b>")
    assert run == ["a", "<", "a", "a"]
    assert isinstance(one("a"), Markup)
