"""Which side has the word on a field: what an admin can choose, and how it is kept. Pure.

Without a word of an admin a field goes both ways, and where both sides change it a person is asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from webapp.languages import N_

TO_SAGE = "to_sage"
FROM_SAGE = "from_sage"
BOTH = "both"

CHOICES = {
    BOTH: N_("Both ways; a person is asked where both changed it"),
    TO_SAGE: N_("To Sage: what is here counts"),
    FROM_SAGE: N_("From Sage: what is there counts"),
}

# By the kind of record, as connections keep them: {"company": {"phone": "to_sage"}}.
Directions = dict[str, dict[str, str]]

# The fields that are kept in step, by kind. An order that Sage has is edited there alone, so nobody chooses for it.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "company": (
        "name",
        "code",
        "email",
        "phone",
        "tax_number",
        "address_line_1",
        "address_line_2",
        "city",
        "region",
        "postal_code",
        "country",
        "notes",
    ),
    "contact": ("name", "role", "email", "phone", "mobile"),
    "product": ("code", "name", "unit_price", "discontinued"),
}


def read_directions(form: Mapping[str, str]) -> Directions:
    """The directions that a form has under names such as `company.phone`. What cannot be is left at both ways."""
    return {
        kind: {name: form[key] for name in names if form.get(key := f"{kind}.{name}") in (TO_SAGE, FROM_SAGE)}
        for kind, names in FIELDS.items()
    }
