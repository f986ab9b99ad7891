"""What the pages of companies are asked for: the list's query, whose state is the address, and the form of one company.

Pure: text of a request goes in, typed values and messages come out. No database and no network is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import ClassVar

from werkzeug.datastructures import MultiDict

from webapp.companies.clean import LIMITS, Cleaned, clean_company
from webapp.companies.models import CUSTOMER, PROSPECT
from webapp.forms import Field, Form, Groups, by_name
from webapp.forms import read_form as read_any_form
from webapp.languages import N_
from webapp.languages import gettext as _
from webapp.listing.query import NOBODY, TIME, WHOLE, ListQuery, Sort, read_list_query

TYPE_NAMES = {CUSTOMER: N_("Customer"), PROSPECT: N_("Prospect")}

# The orders that the list can have, as the address names them.
SORTS = {
    "name": Sort(N_("Name")),
    "city": Sort(N_("City")),
    "country": Sort(N_("Country"), WHOLE),
    "last_synchronised_at": Sort(N_("Last synchronisation"), TIME, highest_first=True),
}


@dataclass(frozen=True)
class CompanyQuery(ListQuery):
    """What the list of companies shows; `owner` are ids of people as texts, and NOBODY; a city is meant whatever its case."""

    SORTS: ClassVar[Mapping[str, Sort]] = SORTS
    SORT: ClassVar[str] = "name"
    LABELS: ClassVar[Mapping[str, str]] = {
        **ListQuery.LABELS,
        "type": N_("Type"),
        "owner": N_("Owner"),
        "country": N_("Country"),
    }

    type: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    country: tuple[str, ...] = ()
    city: str = ""


def read_query(
    args: MultiDict[str, str],
    owners: Mapping[int, str],
    countries: Collection[str],
    connections: Collection[str] = (),
    zone: tzinfo = UTC,
) -> CompanyQuery:
    """The query that an address asks for, of somebody in `zone`.

    `owners` are the names of all people by id, `countries` all codes that there are, `connections` the ids of all
    connections. Never raises: what cannot be is left out and becomes a problem.
    """
    choices: dict[str, Collection[str]] = {"type": TYPE_NAMES, "owner": {NOBODY, *map(str, owners)}}
    choices |= {"country": countries, "connection": connections}
    return read_list_query(CompanyQuery, args, choices, zone)


# The form in groups, in the order in which people fill it in.
GROUPS: Groups = (
    (
        N_("Company"),
        (
            Field("name", N_("Name"), "organization", limit=LIMITS["name"], needed=True),
            Field(
                "code", N_("Code"), hint=N_("Short and unique. Sage shows it as the reference."), limit=LIMITS["code"]
            ),
            Field("type", N_("Type"), kind="choice", hint=N_("Only a customer is sent to Sage."), live="type"),
            Field("owner_id", N_("Owner"), kind="choice", live="owner"),
            Field("tax_number", N_("Tax number"), limit=LIMITS["tax_number"]),
            Field(
                "connection_id",
                N_("Company in Sage"),
                kind="choice",
                hint=N_("Its contacts and orders go there too."),
                live=None,
            ),
        ),
    ),
    (
        N_("Contact"),
        (
            Field("email", N_("E-mail"), "email", kind="email", limit=LIMITS["email"]),
            Field("phone", N_("Phone"), "tel", kind="tel", limit=LIMITS["phone"]),
        ),
    ),
    (
        N_("Address"),
        (
            Field("address_line_1", N_("Address line 1"), "address-line1", limit=LIMITS["address_line_1"]),
            Field("address_line_2", N_("Address line 2"), "address-line2", limit=LIMITS["address_line_2"]),
            Field("postal_code", N_("Postal code"), "postal-code", limit=LIMITS["postal_code"]),
            Field("city", N_("City"), "address-level2", limit=LIMITS["city"]),
            Field("region", N_("Region"), "address-level1", limit=LIMITS["region"]),
            Field("country", N_("Country"), "country", kind="choice", hint=N_("Sage needs it."), live="country"),
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

STAYS_WITH_CONNECTION = N_(
    "Sage has this company, or may have it, so it stays there: elsewhere it would be made a second time. "
    "It can go over once it was deleted in Sage and an admin has unlinked it here."
)

# The fields of a company that is not there yet.
NOTHING: dict[str, str] = dict.fromkeys(FIELDS, "")


def read_form(
    form: Mapping[str, str],
    owners: Collection[int],
    stored: Mapping[str, str],
    connections: Collection[int] = (),
    *,
    stays: bool = False,
) -> Form:
    """A form as it was sent, cleaned. `owners` are the ids of the people who can own a company, `connections` those of
    the connections that it can belong to.

    `stored` is what the fields are now, for what the form does not hold: a field that was not sent stays as it is.
    Values are texts; those of `owner_id` and `connection_id` are the numbers as texts, empty for nobody and for none.
    With `stays`, the connection can no longer be changed.
    """

    def clean(typed: dict[str, str]) -> Cleaned:
        ids = {name: typed[name].strip() for name in ("owner_id", "connection_id")}
        cleaned = clean_company({name: value for name, value in typed.items() if name not in ids})
        errors = dict(cleaned.errors)
        if ids["owner_id"] and ids["owner_id"] not in {str(one) for one in owners}:
            errors["owner_id"] = _("This person no longer uses Synclight. Choose another owner.")
        if ids["connection_id"] and ids["connection_id"] not in {str(one) for one in connections}:
            errors["connection_id"] = _("This company in Sage is no longer connected. Choose another one.")
        return Cleaned({**cleaned.values, **ids}, errors)

    return read_any_form(FIELDS, form, stored, clean, {"connection_id": STAYS_WITH_CONNECTION} if stays else {})
