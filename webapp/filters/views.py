"""A person's saved filters of a module: to save the one of the list, to rename, to replace, to delete and to undo that.

They are kept with the person, who is read for each request anyway, so that a list asks the database for nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from webapp.filters.saved import NameTaken, Refused, Saved, filters_of, read_query, renamed, with_filter, without
from webapp.languages import gettext as _
from webapp.modules import Module
from webapp.services import services
from webapp.text import clean_line
from webapp.users.access import login_required, signed_in_user
from webapp.users.models import User

blueprint = Blueprint("filters", __name__, url_prefix="/<module:module>/filters")

# Where the session keeps the filter that was deleted last: (module, name, query).
_DELETED = "deleted_filter"


@blueprint.get("")
@login_required
def page(module: Module) -> ResponseReturnValue:
    """All saved filters of this person. A filter that was deleted a moment ago can be had back."""
    deleted = session.pop(_DELETED, None)
    return _page(module, deleted=deleted if deleted and deleted[0] == module.name else None)


@blueprint.post("")
@login_required
def save(module: Module) -> ResponseReturnValue:
    """Save the filters of an address under a name, and show the list with them."""
    name = request.form.get("name", "")
    try:
        query = read_query(request.form.get("query", ""))
        replace = "replace" in request.form
        _change(lambda saved: with_filter(saved, module, name, query, replace=replace))
    except Refused as refused:
        return _page(
            module,
            problem=str(refused),
            typed={"name": name, "query": request.form.get("query", ""), "can_replace": isinstance(refused, NameTaken)},
        ), 422
    flash(_("Saved as “%(name)s”.", name=clean_line(name)), "ok")
    return redirect(f"/{module.name}?{query}", 303)


@blueprint.post("/rename")
@login_required
def rename(module: Module) -> ResponseReturnValue:
    """Give a saved filter another name."""
    name = request.form.get("filter", "")
    try:
        _change(lambda saved: renamed(saved, module, name, request.form.get("name", "")))
    except Refused as refused:
        return _page(module, problem=str(refused), renaming=name, new_name=request.form.get("name", "")), 422
    except KeyError:
        abort(404)
    return redirect(url_for("filters.page", module=module), 303)


@blueprint.post("/delete")
@login_required
def delete(module: Module) -> ResponseReturnValue:
    """Delete a saved filter; the page that follows can bring it back."""
    name = request.form.get("filter", "")
    query = filters_of(signed_in_user().saved_filters, module).get(name)
    if query is not None:
        _change(lambda saved: without(saved, module, name))
        session[_DELETED] = (module.name, name, query)
    return redirect(url_for("filters.page", module=module), 303)


def _change(change: Callable[[Saved], Saved]) -> None:
    """Change the filters of this person, one request after the other. Raises what `change` raises; nothing is kept then."""
    with services().database.unit_of_work() as work:
        user = work.session.get_one(User, signed_in_user().id, with_for_update=True)
        user.saved_filters = cast(dict[str, dict[str, str]], change(user.saved_filters))
        work.commit()
    signed_in_user().saved_filters = user.saved_filters


def _page(module: Module, **shown: Any) -> str:
    return render_template(
        "filters/page.html", module=module, filters=filters_of(signed_in_user().saved_filters, module), **shown
    )
