"""What an admin chose to highlight. A module without a row shows its standard fields."""

from __future__ import annotations

from sqlalchemy import Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, Session, mapped_column

from webapp.db import Base
from webapp.highlighted.fields import FIELDS, STANDARD
from webapp.modules import Module


class HighlightedFields(Base):
    """The fields of `module` that the pages of its records show first, in their order."""

    __tablename__ = "highlighted_fields"

    module: Mapped[str] = mapped_column(Text, primary_key=True)
    fields: Mapped[list[str]] = mapped_column(ARRAY(Text))


def highlighted_fields(session: Session, module: Module) -> dict[str, str]:
    """The labels of the fields that are highlighted in a module, by name, in their order.

    A field that a later release no longer has is left out.
    """
    chosen = session.get(HighlightedFields, module.name)
    known = FIELDS[module.name]
    return {name: known[name] for name in (chosen.fields if chosen else STANDARD[module.name]) if name in known}
