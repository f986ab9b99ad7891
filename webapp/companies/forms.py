"""What the pages of companies are asked for: the list's query, whose state is the address, and the form of one company.

Pure: text of a request goes in, typed values and messages come out. No database and no network is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from werkzeug.datastructures import MultiDict

from webapp.companies.clean import LIMITS, Cleaned, clean_company
from webapp.companies.models import CUSTOMER, PROSPECT
from webapp.forms import Field, Form, Groups, by_name
from webapp.forms import read_form as read_any_form
from webapp.listing.query import TIME, WHOLE, ListQuery, Sort, read_list_query

TYPE_NAMES = {CUSTOMER: "Customer", PROSPECT: "Prospect"}

# The owner of companies that have none, as the address names it.
NOBODY = "none"

# The orders that the list can have, as the address names them.
SORTS = {
    "name": Sort("Name"),
    "city": Sort("City"),
    "country": Sort("Country", WHOLE),
    "last_synchronised_at": Sort("Last synchronisation", TIME, highest_first=True),
}


@dataclass(frozen=True)
class CompanyQuery(ListQuery):
    """What the list of companies shows; `owner` is a person's id as text or NOBODY."""

    SORTS: ClassVar[Mapping[str, Sort]] = SORTS
    SORT: ClassVar[str] = "name"

    type: str = ""
    owner: str = ""
    country: str = ""


def read_query(args: MultiDict[str, str], owners: Mapping[int, str], countries: Collection[str]) -> CompanyQuery:
    """The query that an address asks for.

    `owners` are the names of all people by id, `countries` all codes that there are. Never raises: what cannot be is left
    out and becomes a problem.
    """
    choices = {"type": TYPE_NAMES, "owner": {NOBODY, *map(str, owners)}, "country": countries}
    return read_list_query(CompanyQuery, args, choices)


# The form in groups, in the order in which people fill it in.
GROUPS: Groups = (
    (
        "Company",
        (
            Field("name", "Name", "organization", limit=LIMITS["name"], needed=True),
            Field("code", "Code", hint="Short and unique. Sage shows it as the reference.", limit=LIMITS["code"]),
            Field("type", "Type", kind="choice", hint="Only a customer is sent to Sage."),
            Field("owner_id", "Owner", kind="choice", live="owner"),
            Field("tax_number", "Tax number", limit=LIMITS["tax_number"]),
        ),
    ),
    (
        "Contact",
        (
            Field("email", "E-mail", "email", kind="email", limit=LIMITS["email"]),
            Field("phone", "Phone", "tel", kind="tel", limit=LIMITS["phone"]),
        ),
    ),
    (
        "Address",
        (
            Field("address_line_1", "Address line 1", "address-line1", limit=LIMITS["address_line_1"]),
            Field("address_line_2", "Address line 2", "address-line2", limit=LIMITS["address_line_2"]),
            Field("postal_code", "Postal code", "postal-code", limit=LIMITS["postal_code"]),
            Field("city", "City", "address-level2", limit=LIMITS["city"]),
            Field("region", "Region", "address-level1", limit=LIMITS["region"]),
            Field("country", "Country", "country", kind="choice", hint="Sage needs it.", live="country"),
        ),
    ),
    (
        "Notes",
        (
            Field(
                "notes",
                "Notes",
                kind="long",
                hint="For colleagues only. Notes are not sent to Sage.",
                limit=LIMITS["notes"],
            ),
        ),
    ),
)

FIELDS = by_name(GROUPS)

# The fields of a company that is not there yet.
NOTHING: dict[str, str] = dict.fromkeys(FIELDS, "")


def read_form(form: Mapping[str, str], owners: Collection[int], stored: Mapping[str, str]) -> Form:
    """A form as it was sent, cleaned. `owners` are the ids of the people who can own a company.

    `stored` is what the fields are now, for what the form does not hold: a field that was not sent stays as it is.
    Values are texts; that of `owner_id` is the number as text, empty for nobody.
    """

    def clean(typed: dict[str, str]) -> Cleaned:
        cleaned = clean_company({name: value for name, value in typed.items() if name != "owner_id"})
        owner, errors = typed["owner_id"].strip(), dict(cleaned.errors)
        if owner and owner not in {str(one) for one in owners}:
            errors["owner_id"] = "This person no longer uses Synclight. Choose another owner."
        return Cleaned({**cleaned.values, "owner_id": owner}, errors)

    return read_any_form(FIELDS, form, stored, clean)
