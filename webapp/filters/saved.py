"""What a person may save of a list's address, and under which name. Pure: text of a request goes in, sentences come out.

The filters of a person are {module: {name: query}}; people see them by name, whatever the order. A query is the address of the
list after the question mark, without the place in the list. It is kept as it is asked for: what it names and can be no
more (an owner who has left) the list itself says when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from webapp.languages import gettext as _
from webapp.modules import Module
from webapp.text import clean_line, natural_order

Saved = Mapping[str, Mapping[str, str]]

# As many as a menu shows without a search of its own.
MOST = 20
LONGEST_NAME = 60
_LONGEST_QUERY = 1_500

# Where in the list somebody is; a saved filter begins at its beginning.
_PLACES = ("after", "before")


class Refused(ValueError):
    """This cannot be saved. The text is a sentence that says why and what to do."""


class NameTaken(Refused):
    """Another filter of this person has the name already."""


def read_query(text: str) -> str:
    """The query of an address without the place in the list. Raises Refused where it asks for nothing."""
    pairs = [(name, value) for name, value in parse_qsl(text.partition("?")[2] or text) if name not in _PLACES]
    query = urlencode(pairs)
    if not pairs:
        raise Refused(_("Nothing is filtered or sorted yet. Set a filter first, then save it."))
    if len(query) > _LONGEST_QUERY:
        raise Refused(_("These are more filters than can be saved. Take some away, then save."))
    return query


def filters_of(saved: Saved, module: Module) -> Mapping[str, str]:
    """The queries of a module's saved filters, in the order of their names."""
    return dict(sorted(saved.get(module.name, {}).items(), key=lambda one: natural_order(one[0])))


def with_filter(saved: Saved, module: Module, name: str, query: str, *, replace: bool = False) -> Saved:
    """The filters with one more, or with another query under this name where it may `replace` one.

    Raises Refused, NameTaken among others.
    """
    name = _checked(name)
    filters = dict(filters_of(saved, module))
    known = _find(filters, name)
    if known is not None and not replace:
        raise NameTaken(_("You have a filter “%(name)s” already. Choose another name, or replace it.", name=known))
    if known is None and len(filters) >= MOST:
        raise Refused(_("You have %(num)s filters here, and no more can be kept. Delete one, then save.", num=MOST))
    filters[known or name] = query
    return {**saved, module.name: filters}


def renamed(saved: Saved, module: Module, name: str, new_name: str) -> Saved:
    """The filters with another name for one of them. Raises Refused; KeyError where there is none."""
    new_name = _checked(new_name)
    filters = filters_of(saved, module)
    other = _find({one: query for one, query in filters.items() if one != name}, new_name)
    if other is not None:
        raise NameTaken(_("You have a filter “%(name)s” already. Choose another name.", name=other))
    if name not in filters:
        raise KeyError(name)
    return {**saved, module.name: {new_name if one == name else one: query for one, query in filters.items()}}


def without(saved: Saved, module: Module, name: str) -> Saved:
    """The filters without one; the same where there is none of this name."""
    return {
        **saved,
        module.name: {one: query for one, query in filters_of(saved, module).items() if one != name},
    }


def _checked(name: str) -> str:
    name = clean_line(name)
    if not name:
        raise Refused(_("Give the filter a name, then save."))
    if len(name) > LONGEST_NAME:
        raise Refused(_("A name has %(num)s characters at most. Shorten it, then save.", num=LONGEST_NAME))
    return name


def _find(filters: Mapping[str, str], name: str) -> str | None:
    """The name of a filter that is called so, whatever the case of its letters."""
    return next((one for one in filters if one.casefold() == name.casefold()), None)
