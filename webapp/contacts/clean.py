"""What people type or export as a contact, made clean: the same rules for the form and for the import.

Pure: asks no database and no network. The company is not among the fields, because only the database knows it.
"""

from __future__ import annotations

from collections.abc import Mapping

from webapp.companies.clean import Cleaned, clean_email
from webapp.languages import gettext as _
from webapp.languages import number
from webapp.sync.details import field_name
from webapp.text import clean_line, clean_lines

# The most characters that a field may have. What Sage takes is less for some, and its connector says so for each record.
LIMITS = {"name": 200, "role": 200, "email": 254, "phone": 50, "mobile": 50, "notes": 10_000}


def clean_contact(raw: Mapping[str, str]) -> Cleaned:
    """Make the fields of a contact clean, as webapp.companies.clean does those of a company.

    Fields that `raw` does not have are unknown. Cleaning what came out once more changes nothing.
    """
    values = {field: clean_line(raw.get(field, "")) for field in LIMITS}
    values["notes"] = "\n".join(clean_lines(raw.get("notes", "")))
    errors = {
        field: _(
            "The %(field)s has %(length)s characters: shorten it to %(limit)s.",
            field=field_name(field),
            length=number(len(value)),
            limit=number(LIMITS[field]),
        )
        for field, value in values.items()
        if len(value) > LIMITS[field]
    }
    if not values["name"]:
        errors["name"] = _("Every contact needs a name: give it one.")
    if "email" not in errors:
        values["email"], error = clean_email(values["email"])
        if error:
            errors["email"] = error
    return Cleaned(values, errors)
