"""The page on which an admin chooses the highlighted fields of a module."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import insert

from webapp.highlighted.fields import FIELDS, MOST, STANDARD, Choice, read_choice
from webapp.highlighted.models import HighlightedFields, highlighted_fields
from webapp.languages import gettext as _
from webapp.modules import MODULES, Module
from webapp.services import services
from webapp.users.access import admin_required

blueprint = Blueprint("highlighted", __name__, url_prefix="/highlighted")


@blueprint.get("/<module:module>")
@admin_required
def page(module: Module) -> ResponseReturnValue:
    """The highlighted fields of a module, to be chosen."""
    with services().database.reading() as session:
        chosen = tuple(highlighted_fields(session, module))
    return _page(module, Choice(chosen))


@blueprint.post("/<module:module>")
@admin_required
def choose(module: Module) -> ResponseReturnValue:
    """Keep the choice for everybody; with `standard`, go back to the fields that stand there by themselves."""
    is_standard = "standard" in request.form
    choice = read_choice(module, STANDARD[module.name] if is_standard else request.form.getlist("field"))
    if choice.errors:
        return _page(module, choice), 422
    with services().database.unit_of_work() as work:
        kept = insert(HighlightedFields).values(module=module.name, fields=choice.fields)
        work.session.execute(
            kept.on_conflict_do_update(index_elements=["module"], set_={"fields": kept.excluded.fields})
        )
        work.commit()
    flash(_("Each record shows these fields first from here on."), "ok")
    return redirect(url_for("highlighted.page", module=module), 303)


def _page(module: Module, choice: Choice) -> str:
    return render_template(
        "highlighted/page.html",
        module=module,
        modules=MODULES,
        fields=FIELDS[module.name],
        places=[*choice.places, *[""] * (MOST - len(choice.places))],
        errors=choice.errors,
    )
