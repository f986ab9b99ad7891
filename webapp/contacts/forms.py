"""What the pages of contacts are asked for: the list's query, whose state is the address, and the form of one contact.

Pure: text of a request goes in, typed values and messages come out. No database and no network is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import ClassVar

from werkzeug.datastructures import MultiDict

from webapp.companies.clean import Cleaned
from webapp.contacts.clean import LIMITS, clean_contact
from webapp.forms import Field, Form, Groups, by_name
from webapp.forms import read_form as read_any_form
from webapp.languages import N_
from webapp.languages import gettext as _
from webapp.listing.query import TIME, ListQuery, Sort, read_list_query

# The orders that the list can have, as the address names them.
SORTS = {
    "name": Sort(N_("Name")),
    "company": Sort(N_("Company")),
    "last_synchronised_at": Sort(N_("Last synchronisation"), TIME, highest_first=True),
}


@dataclass(frozen=True)
class ContactQuery(ListQuery):
    """What the list of contacts shows; `company` are ids of companies as texts."""

    SORTS: ClassVar[Mapping[str, Sort]] = SORTS
    SORT: ClassVar[str] = "name"
    LABELS: ClassVar[Mapping[str, str]] = {**ListQuery.LABELS, "company": N_("Company")}

    company: tuple[str, ...] = ()


def read_query(
    args: MultiDict[str, str], companies: Collection[str], connections: Collection[str] = (), zone: tzinfo = UTC
) -> ContactQuery:
    """The query that an address asks for, of somebody in `zone`.

    `companies` has the ids of the companies that the address names, as far as there are such; `connections` are the ids
    of all connections. Never raises: what cannot be is left out and becomes a problem.
    """
    return read_list_query(ContactQuery, args, {"company": companies, "connection": connections}, zone)


# The form in groups, in the order in which people fill it in.
GROUPS: Groups = (
    (
        N_("Contact"),
        (
            Field("name", N_("Name"), "name", limit=LIMITS["name"], needed=True),
            Field(
                "role", N_("Role"), "organization-title", hint=N_("What the person does there."), limit=LIMITS["role"]
            ),
            Field("company_id", N_("Company"), kind="company", needed=True, live="company_name"),
        ),
    ),
    (
        N_("Contact details"),
        (
            Field("email", N_("E-mail"), "email", kind="email", limit=LIMITS["email"]),
            Field("phone", N_("Phone"), "tel", kind="tel", limit=LIMITS["phone"]),
            Field("mobile", N_("Mobile"), "tel", kind="tel", limit=LIMITS["mobile"]),
        ),
    ),
    (
        N_("Notes"),
        (
            Field(
                "notes",
                N_("Notes"),
                kind="long",
                hint=N_("For colleagues only. Notes are not sent to Sage."),
                limit=LIMITS["notes"],
            ),
        ),
    ),
)
FIELDS = by_name(GROUPS)

# The fields of a contact that is not there yet.
NOTHING: dict[str, str] = dict.fromkeys(FIELDS, "")

STAYS_WITH_COMPANY = N_("Sage knows this contact at its company, so it stays there.")


def read_form(
    form: Mapping[str, str], companies: Collection[str], stored: Mapping[str, str], *, stays: bool = False
) -> Form:
    """A form as it was sent, cleaned. `companies` are those of the ids that the form names, as texts, that there are.

    `stored` is what the fields are now, for what the form does not hold: a field that was not sent stays as it is.
    With `stays`, the company can no longer be changed.
    """

    def clean(typed: dict[str, str]) -> Cleaned:
        cleaned = clean_contact({name: value for name, value in typed.items() if name != "company_id"})
        company, errors = typed["company_id"].strip(), dict(cleaned.errors)
        if company not in companies:
            errors["company_id"] = _("Every contact belongs to a company: search for it, then choose it.")
        return Cleaned({**cleaned.values, "company_id": company}, errors)

    return read_any_form(FIELDS, form, stored, clean, {"company_id": STAYS_WITH_COMPANY} if stays else None)
