"""The sentences that explain a status: what is the case, then what to do.

A detail is stored as a code with parameters, {"code": "retrying", "at": "2026-11-22T10:45:00+00:00", ...}, and becomes
a sentence only here, for the reader. What Sage said literally is kept under "raw" and never enters a sentence.
"""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import Any

from webapp.companies.countries import country_name
from webapp.languages import N_, language, listed, month, ngettext
from webapp.languages import gettext as _
from webapp.numbers import price_text

# What a field of a record is called on the screen.
FIELD_NAMES = {
    "name": N_("name"),
    "code": N_("code"),
    "country": N_("country"),
    "email": N_("e-mail"),
    "phone": N_("phone"),
    "tax_number": N_("tax number"),
    "address_line_1": N_("address line 1"),
    "address_line_2": N_("address line 2"),
    "city": N_("city"),
    "region": N_("region"),
    "postal_code": N_("postal code"),
    "notes": N_("notes"),
    "role": N_("role"),
    "mobile": N_("mobile"),
    "number": N_("number"),
    "ordered_on": N_("date"),
    "valid_until": N_("last day"),
    "shipping": N_("shipping"),
    "lines": N_("lines"),
    "unit_price": N_("price"),
    "discontinued": N_("availability"),
    "unit": N_("unit"),
}
# Whether a product is discontinued, in words.
AVAILABILITY = {"no": N_("Sold"), "yes": N_("No longer sold")}
_IN_STEP = {
    # The product's own words for a company, in every language.
    "company": N_("Synchronised: the account is correctly synchronised with Sage."),
    "contact": N_("Synchronised: the contact is correctly synchronised with Sage."),
    "product": N_("Synchronised: the product is correctly synchronised with Sage."),
    "order": N_("Synchronised: the order is correctly synchronised with Sage."),
}

# Sentences that name the kind of the record, by their code; a noun changes the words around it. What is about a company,
# or about a number, no product can have.
_OF_KIND: dict[str, dict[str, str]] = {
    "missing": {
        "company": N_("Sage needs a %(field)s for this company. Add the %(field)s and save."),
        "contact": N_("Sage needs a %(field)s for this contact. Add the %(field)s and save."),
        "product": N_("Sage needs a %(field)s for this product. Add the %(field)s and save."),
        "order": N_("Sage needs a %(field)s for this order. Add the %(field)s and save."),
    },
    "code_taken": {
        "company": N_("Another customer in Sage already has the %(field)s %(value)s. Change the %(field)s and save."),
        "contact": N_("Another contact in Sage already has the %(field)s %(value)s. Change the %(field)s and save."),
        "product": N_("Another product in Sage already has the %(field)s %(value)s. Change the %(field)s and save."),
        "order": N_("Another order in Sage already has the %(field)s %(value)s. Change the %(field)s and save."),
    },
    "code_in_use": {
        "company": N_(
            "Sage has the code %(value)s for this company, and another one here has it already. "
            "Change the code of one of them, then ask an admin to resync this one."
        ),
        "contact": N_(
            "Sage has the code %(value)s for this contact, and another one here has it already. "
            "Change the code of one of them, then ask an admin to resync this one."
        ),
        "product": N_(
            "Sage has the code %(value)s for this product, and another one here has it already. "
            "Change the code of one of them, then ask an admin to resync this one."
        ),
        "order": N_(
            "Sage has the code %(value)s for this order, and another one here has it already. Change "
            "the code of one of them, then ask an admin to resync this one."
        ),
    },
    "code_doubled": {
        "company": N_("Another company of this Sage company has the code %(value)s. Change the code and save."),
        "contact": N_("Another contact of this Sage company has the code %(value)s. Change the code and save."),
        "product": N_("Another product of this Sage company has the code %(value)s. Change the code and save."),
        "order": N_("Another order of this Sage company has the code %(value)s. Change the code and save."),
    },
    "number_in_use": {
        "company": N_(
            "Sage has the number %(value)s for this company, and another one here has it already. "
            "Change the number of one of them, then ask an admin to resync this one."
        ),
        "contact": N_(
            "Sage has the number %(value)s for this contact, and another one here has it already. "
            "Change the number of one of them, then ask an admin to resync this one."
        ),
        "order": N_(
            "Sage has the number %(value)s for this order, and another one here has it already. "
            "Change the number of one of them, then ask an admin to resync this one."
        ),
    },
    "not_stored": {
        "company": N_("What Sage holds for this company is too long to be kept here. Shorten it in Sage."),
        "contact": N_("What Sage holds for this contact is too long to be kept here. Shorten it in Sage."),
        "product": N_("What Sage holds for this product is too long to be kept here. Shorten it in Sage."),
        "order": N_("What Sage holds for this order is too long to be kept here. Shorten it in Sage."),
    },
    "not_understood": {
        "company": N_("Sage holds this company in a form that it cannot have here. Change it in Sage."),
        "contact": N_("Sage holds this contact in a form that it cannot have here. Change it in Sage."),
        "product": N_("Sage holds this product in a form that it cannot have here. Change it in Sage."),
        "order": N_("Sage holds this order in a form that it cannot have here. Change it in Sage."),
    },
    "refused": {
        "company": N_("Sage refused this company. Correct it and save."),
        "contact": N_("Sage refused this contact. Correct it and save."),
        "product": N_("Sage refused this product. Correct it and save."),
        "order": N_("Sage refused this order. Correct it and save."),
    },
    "refused_field": {
        "company": N_("Sage refused this company because of the %(field)s. Correct it and save."),
        "contact": N_("Sage refused this contact because of the %(field)s. Correct it and save."),
        "product": N_("Sage refused this product because of the %(field)s. Correct it and save."),
        "order": N_("Sage refused this order because of the %(field)s. Correct it and save."),
    },
    "gave_up": {
        "company": N_("Sage did not accept this company after %(attempts)s tries. Ask an admin to resync it."),
        "contact": N_("Sage did not accept this contact after %(attempts)s tries. Ask an admin to resync it."),
        "product": N_("Sage did not accept this product after %(attempts)s tries. Ask an admin to resync it."),
        "order": N_("Sage did not accept this order after %(attempts)s tries. Ask an admin to resync it."),
    },
    "possible_duplicate": {
        "company": N_(
            "It may be the same company as %(names)s. If it is another one, an admin can resync it to send it."
        ),
        "contact": N_(
            "It may be the same contact as %(names)s. If it is another one, an admin can resync it to send it."
        ),
        "product": N_(
            "It may be the same product as %(names)s. If it is another one, an admin can resync it to send it."
        ),
        "order": N_("It may be the same order as %(names)s. If it is another one, an admin can resync it to send it."),
    },
    "deleted_in_sage": {
        "company": N_("This company was deleted in Sage. An admin can restore it there or unlink it here."),
        "contact": N_("This contact was deleted in Sage. An admin can restore it there or unlink it here."),
        "product": N_("This product was deleted in Sage. An admin can restore it there or unlink it here."),
        "order": N_("This order was deleted in Sage. An admin can restore it there or unlink it here."),
    },
    "excluded_with_company": {
        "company": N_(
            "The company of this company is a prospect. Change the company to customer to send both to Sage."
        ),
        "contact": N_(
            "The company of this contact is a prospect. Change the company to customer to send both to Sage."
        ),
        "order": N_("The company of this order is a prospect. Change the company to customer to send both to Sage."),
    },
    "company_gone": {
        "company": N_(
            "The company of this company was deleted in Sage. An admin can restore it there or unlink it here."
        ),
        "contact": N_(
            "The company of this contact was deleted in Sage. An admin can restore it there or unlink it here."
        ),
        "order": N_("The company of this order was deleted in Sage. An admin can restore it there or unlink it here."),
    },
    "company_refused": {
        "company": N_("Sage takes no company for this company: it is no customer there, or its data were removed."),
        "contact": N_("Sage takes no contact for this company: it is no customer there, or its data were removed."),
        "order": N_("Sage takes no order for this company: it is no customer there, or its data were removed."),
    },
    "unlinked": {
        "company": N_("This company is no longer linked to Sage. An admin can resync it to link it again."),
        "contact": N_("This contact is no longer linked to Sage. An admin can resync it to link it again."),
        "product": N_("This product is no longer linked to Sage. An admin can resync it to link it again."),
        "order": N_("This order is no longer linked to Sage. An admin can resync it to link it again."),
    },
    "never_sent": {
        "company": N_("This company is not in Sage: no company in Sage is connected yet. Ask an admin to connect one."),
        "contact": N_("This contact is not in Sage: no company in Sage is connected yet. Ask an admin to connect one."),
        "product": N_("This product is not in Sage: no company in Sage is connected yet. Ask an admin to connect one."),
        "order": N_("This order is not in Sage: no company in Sage is connected yet. Ask an admin to connect one."),
    },
    "other": {
        "company": N_("The status of this company has changed. Open it again to see the details."),
        "contact": N_("The status of this contact has changed. Open it again to see the details."),
        "product": N_("The status of this product has changed. Open it again to see the details."),
        "order": N_("The status of this order has changed. Open it again to see the details."),
    },
}


def field_name(name: str) -> str:
    """What a field is called inside a sentence."""
    return _(FIELD_NAMES[name]) if name in FIELD_NAMES else name


def field_label(name: str) -> str:
    """What a field is called where it stands alone."""
    text = field_name(name)
    return text[:1].upper() + text[1:]


def field_value(name: str, value: object) -> str:
    """A value that two sides of a record are told apart by, as people read it: what is stored, or a text of a merge."""
    match name:
        case "discontinued":
            words = AVAILABILITY["yes" if value in (True, "yes") else "no"]
            return _(words)
        case "unit_price":
            return price_text(Decimal(str(value)))
        case "country" if value:
            return country_name(str(value))
        case _:
            return "" if value is None else str(value)


def clock(moment: datetime, zone: tzinfo, now: datetime) -> str:
    """A time as people say it: 10:45 today, 21 Nov 10:45 on another day, with the year in another year."""
    local, today = moment.astimezone(zone), now.astimezone(zone)
    at = local.strftime("%H:%M")
    if local.date() == today.date():
        return at
    return f"{day(local.date(), with_year=local.year != today.year)} {at}"


def day(when: date, *, with_year: bool = True) -> str:
    """A day as people read it: 4 Jul 1996, 4. Juli 1996, 4 juil. 1996; without the year where that is clear."""
    point = "." if language() == "de" else ""
    year = f" {when.year}" if with_year else ""
    return f"{when.day}{point} {month(when.month)}{year}"


def sentence(kind: str, detail: dict[str, Any], zone: tzinfo, now: datetime) -> str:
    """The detail of a record of `kind` (company, contact, product, order) as a sentence for a reader in `zone`.

    A code that is not known, as an older process may meet during an upgrade, gives a sentence that is always true.
    """
    field = field_name(detail.get("field", ""))
    code = detail.get("code", "")
    match code:
        case "in_step":
            return _(_IN_STEP[kind])
        case "queued":
            return _("Queued: it is sent to Sage next.")
        case "running":
            return _("Being compared with Sage now.")
        case "retrying":
            at = clock(datetime.fromisoformat(detail["at"]), zone, now)
            return _(
                "Sage did not accept it just now. Trying again at %(at)s (%(attempt)s of %(of)s).",
                at=at,
                attempt=detail["attempt"],
                of=detail["of"],
            )
        case "waiting_for_sage":
            return _waiting(detail, zone, now)
        case "too_long":
            return _(
                "The %(field)s is too long for Sage: at most %(limit)s characters. Shorten it and save.",
                field=field,
                limit=detail["limit"],
            )
        case "malformed":
            return _("Sage does not accept this %(field)s. Correct it and save.", field=field)
        case "altered":
            return _(
                "Sage stored another %(field)s than the one that was sent. Check the %(field)s and save.", field=field
            )
        case "refused" if field:
            return _of_kind("refused_field", kind, field=field)
        case "outcome_unknown":
            return _("Sage never said whether it took this change. Look it up in Sage, then ask an admin to resync it.")
        case "conflict":
            names = listed([field_name(name) for name in detail["fields"]])
            # An order that Sage has cannot be edited here.
            if kind == "order":
                return _("Changed here and in Sage: %(names)s. Choose which to keep.", names=names)
            return _(
                "Changed here and in Sage: %(names)s. Choose which to keep, or edit and save to keep what is here.",
                names=names,
            )
        case "not_taken":
            names = listed([field_name(name) for name in detail["fields"]])
            return _(
                "Sage did not take what is here: %(names)s. Choose what is in Sage, or change it there.", names=names
            )
        case "possible_duplicate":
            return _of_kind(code, kind, names=listed(detail["names"]))
        case "excluded":
            return _("This company is a prospect. Change it to customer to send it to Sage.")
        case "waiting_for_parent":
            return _("Waiting for the company %(name)s to reach Sage first.", name=detail["name"])
        case "validated":
            return _("Its prices are validated. Press Synchronise with Sage to send it; it can be edited until then.")
        case "no_lines":
            return _("It has no lines yet. Add what was ordered, and its prices are validated.")
        case "no_price":
            return _(
                "Line %(line)s has no price. Enter the price and save, and the prices are validated again.",
                line=detail["line"],
            )
        case "discount_too_high":
            return _(
                "The discount of line %(line)s is higher than the line itself. Lower it and save.", line=detail["line"]
            )
        case "no_tax_rate":
            return _(
                "Sage has no tax rate of %(percentage)s%% for the %(field)s. Change it to one that Sage has.",
                percentage=detail["percentage"],
                field=field,
            )
        case "missing" | "code_taken":
            return _of_kind(code, kind, field=field, value=detail.get("value", ""))
        case "code_in_use" | "code_doubled" | "number_in_use":
            return _of_kind(code, kind, value=detail["value"])
        case "gave_up":
            return _of_kind(code, kind, attempts=detail["attempts"])
        case known if known in _OF_KIND:
            return _of_kind(code, kind)
        case _:
            return _of_kind("other", kind)


def _of_kind(code: str, kind: str, **values: object) -> str:
    return _(_OF_KIND[code][kind], **values)


def brief(detail: dict[str, Any], zone: tzinfo, now: datetime) -> str:
    """What a list says in place of a time: few words for a pending record, no text where a time says it better."""
    match detail.get("code"):
        case "queued":
            return _("Queued")
        case "running":
            return _("Synchronising now")
        case "retrying":
            at = clock(datetime.fromisoformat(detail["at"]), zone, now)
            return _("Again at %(at)s (%(attempt)s of %(of)s)", at=at, attempt=detail["attempt"], of=detail["of"])
        case "waiting_for_sage":
            return _("Waiting for Sage")
        case "waiting_for_parent":
            return _("Waiting for its company")
        case "validated":
            return _("Ready to be sent")
        case _:
            return ""


def _waiting(detail: dict[str, Any], zone: tzinfo, now: datetime) -> str:
    since = clock(datetime.fromisoformat(detail["since"]), zone, now)
    match detail["state"]:
        case "connecting":
            return _("Sage is not connected. It is sent as soon as an admin has connected Sage.")
        case "paused":
            return _("Synchronisation with Sage is paused. It is sent as soon as an admin resumes it.")
        case "authorise_again":
            return _(
                "Sage must be authorised again: there has been no access since %(since)s. "
                "It is sent as soon as an admin has authorised it.",
                since=since,
            )
        case _:
            return _(
                "Sage cannot be reached since %(since)s; it is tried %(often)s.",
                since=since,
                often=every(detail["every"]),
            )


def every(seconds: int) -> str:
    """A cycle as a sentence says it: every minute, every 5 minutes, every 2 seconds."""
    if seconds % 60 == 0:
        return ngettext("every minute", "every %(num)s minutes", seconds // 60)
    return ngettext("every second", "every %(num)s seconds", seconds)
