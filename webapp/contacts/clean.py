"""What people type or export as a contact, made clean: the same rules for the form and for the import.

Pure: asks no database and no network. The company is not among the fields, because only the database knows it.
"""

from __future__ import annotations

from collections.abc import Mapping

from webapp.companies.clean import Cleaned, clean_email, too_long
from webapp.languages import gettext as _
from webapp.text import clean_line, clean_lines

# The most characters that a field may have. What Sage takes is less for some, and its connector says so for each record.
LIMITS = {"name": 200, "role": 200, "email": 254, "phone": 50, "mobile": 50, "notes": 10_000}


def clean_contact(raw: Mapping[str, str]) -> Cleaned:
    """Make the fields of a contact clean, as webapp.companies.clean does those of a company.

    Fields that `raw` does not have are unknown. Cleaning what came out once more changes nothing.
    """
    values = {field: clean_line(raw.get(field, "")) for field in LIMITS}
    values["notes"] = "\n".join(clean_lines(raw.get("notes", "")))
    errors = too_long(values, LIMITS)
    if not values["name"]:
        errors["name"] = _("Every contact needs a name: give it one.")
    if "email" not in errors:
        values["email"], error = clean_email(values["email"])
        if error:
            errors["email"] = error
    return Cleaned(values, errors)
