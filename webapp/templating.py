"""Macros that all templates share, and that are run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from jinja2 import Environment
from jinja2.runtime import Macro
from markupsafe import Markup

from webapp.languages import language


def said_once(environment: Environment, file: str) -> Iterator[tuple[str, Callable[..., Markup]]]:
    """The macros of a file of templates, by their names.

    They look at nothing of a request but its language. So what one says is made once for each language and for each set
    of arguments, which only templates give.
    """
    for name, macro in vars(environment.get_template(file).module).items():
        if isinstance(macro, Macro):
            yield name, _kept(macro)


def _kept(macro: Macro) -> Callable[..., Markup]:
    @lru_cache(maxsize=None, typed=True)  # "<" is one text, and the same marked as safe is another.
    def said(_language: str, *values: Any, **named: Any) -> Markup:
        return Markup(macro(*values, **named))  # noqa: S704

    return lambda *values, **named: said(language(), *values, **named)
