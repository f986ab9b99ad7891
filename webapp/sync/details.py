"""The sentences that explain a status: what is the case, then what to do.

A detail is stored as a code with parameters, {"code": "retrying", "at": "2026-11-22T10:45:00+00:00", ...}, and becomes
a sentence only here, for the reader. What Sage said literally is kept under "raw" and never enters a sentence.
"""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from typing import Any

# What a field of a record is called on the screen.
FIELD_NAMES = {
    "name": "name",
    "code": "code",
    "country": "country",
    "email": "e-mail",
    "phone": "phone",
    "tax_number": "tax number",
    "address_line_1": "address line 1",
    "address_line_2": "address line 2",
    "city": "city",
    "region": "region",
    "postal_code": "postal code",
    "notes": "notes",
    "role": "role",
    "mobile": "mobile",
    "number": "number",
    "ordered_on": "date",
    "valid_until": "last day",
    "shipping": "shipping",
    "lines": "lines",
}
NOUNS = {"company": "company", "contact": "contact", "order": "order"}
_SUBJECT = {"company": "the account", "contact": "the contact", "order": "the order"}


def clock(moment: datetime, zone: tzinfo, now: datetime) -> str:
    """A time as people say it: 10:45 today, 21 Nov 10:45 on another day, with the year in another year."""
    local, today = moment.astimezone(zone), now.astimezone(zone)
    if local.date() == today.date():
        return local.strftime("%H:%M")
    if local.year == today.year:
        return f"{local.day} {local.strftime('%b %H:%M')}"
    return f"{local.day} {local.strftime('%b %Y %H:%M')}"


def day(when: date) -> str:
    """A day as people read it: 4 Jul 1996."""
    return f"{when.day} {when.strftime('%b %Y')}"


def sentence(kind: str, detail: dict[str, Any], zone: tzinfo, now: datetime) -> str:
    """The detail of a record of `kind` (company, contact, order) as a sentence for a reader in `zone`.

    A code that is not known, as an older process may meet during an upgrade, gives a sentence that is always true.
    """
    noun = NOUNS[kind]
    field = FIELD_NAMES.get(detail.get("field", ""), detail.get("field", ""))
    match detail.get("code"):
        case "in_step":
            return f"Synchronised: {_SUBJECT[kind]} is correctly synchronised with Sage."
        case "queued":
            return "Queued: it is sent to Sage next."
        case "running":
            return "Being compared with Sage now."
        case "retrying":
            at = clock(datetime.fromisoformat(detail["at"]), zone, now)
            return f"Sage did not accept it just now. Trying again at {at} ({detail['attempt']} of {detail['of']})."
        case "waiting_for_sage":
            return _waiting(detail, zone, now)
        case "missing":
            return f"Sage needs a {field} for this {noun}. Add the {field} and save."
        case "too_long":
            return f"The {field} is too long for Sage: at most {detail['limit']} characters. Shorten it and save."
        case "malformed":
            return f"Sage does not accept this {field}. Correct it and save."
        case "altered":
            return f"Sage stored another {field} than the one that was sent. Check the {field} and save."
        case "code_taken":
            other = "customer" if kind == "company" else noun
            return f"Another {other} in Sage already has the {field} {detail['value']}. Change the {field} and save."
        case "code_in_use":
            return (
                f"Sage has the code {detail['value']} for this {noun}, and another one here has it already. "
                "Change the code of one of them, then ask an admin to resync this one."
            )
        case "code_doubled":
            return f"Another {noun} of this Sage company has the code {detail['value']}. Change the code and save."
        case "number_in_use":
            return (
                f"Sage has the number {detail['value']} for this {noun}, and another one here has it already. "
                "Change the number of one of them, then ask an admin to resync this one."
            )
        case "not_stored":
            return f"What Sage holds for this {noun} is too long to be kept here. Shorten it in Sage."
        case "refused":
            named = f" because of the {field}" if field else ""
            return f"Sage refused this {noun}{named}. Correct it and save."
        case "gave_up":
            return f"Sage did not accept this {noun} after {detail['attempts']} tries. Ask an admin to resync it."
        case "outcome_unknown":
            return "Sage never said whether it took this change. Look it up in Sage, then ask an admin to resync it."
        case "conflict":
            names = listed([FIELD_NAMES.get(name, name) for name in detail["fields"]])
            # An order that Sage has cannot be edited here.
            also = "" if kind == "order" else ", or edit and save to keep what is here"
            return f"Changed here and in Sage: {names}. Choose which to keep{also}."
        case "possible_duplicate":
            names = listed(detail["names"])
            return f"It may be the same {noun} as {names}. If it is another one, an admin can resync it to send it."
        case "deleted_in_sage":
            return f"This {noun} was deleted in Sage. An admin can restore it there or unlink it here."
        case "excluded":
            return "This company is a prospect. Change it to customer to send it to Sage."
        case "excluded_with_company":
            return f"The company of this {noun} is a prospect. Change the company to customer to send both to Sage."
        case "waiting_for_parent":
            return f"Waiting for the company {detail['name']} to reach Sage first."
        case "validated":
            return "Its prices are validated. Press Synchronise with Sage to send it; it can be edited until then."
        case "no_lines":
            return "It has no lines yet. Add what was ordered, and its prices are validated."
        case "no_price":
            return f"Line {detail['line']} has no price. Enter the price and save, and the prices are validated again."
        case "discount_too_high":
            return f"The discount of line {detail['line']} is higher than the line itself. Lower it and save."
        case "no_tax_rate":
            return f"Sage has no tax rate of {detail['percentage']}% for the {field}. Change it to one that Sage has."
        case "company_gone":
            return f"The company of this {noun} was deleted in Sage. An admin can restore it there or unlink it here."
        case "company_refused":
            return f"Sage takes no {noun} for this company: it is no customer there, or its data were removed."
        case "unlinked":
            return f"This {noun} is no longer linked to Sage. Resync it to link it again."
        case "never_sent":
            return f"This {noun} is not in Sage: no company in Sage is connected yet. Ask an admin to connect one."
        case _:
            return f"The status of this {noun} has changed. Open it again to see the details."


def brief(detail: dict[str, Any], zone: tzinfo, now: datetime) -> str:
    """What a list says in place of a time: few words for a pending record, no text where a time says it better."""
    match detail.get("code"):
        case "queued":
            return "Queued"
        case "running":
            return "Synchronising now"
        case "retrying":
            at = clock(datetime.fromisoformat(detail["at"]), zone, now)
            return f"Again at {at} ({detail['attempt']} of {detail['of']})"
        case "waiting_for_sage":
            return "Waiting for Sage"
        case "waiting_for_parent":
            return "Waiting for its company"
        case "validated":
            return "Ready to be sent"
        case _:
            return ""


def _waiting(detail: dict[str, Any], zone: tzinfo, now: datetime) -> str:
    since = clock(datetime.fromisoformat(detail["since"]), zone, now)
    match detail["state"]:
        case "connecting":
            return "Sage is not connected yet. It is sent as soon as an admin has connected Sage."
        case "paused":
            return "Synchronisation with Sage is paused. It is sent as soon as an admin resumes it."
        case "authorise_again":
            return f"Sage must be authorised again since {since}. It is sent as soon as an admin has done so."
        case _:
            return f"Sage cannot be reached since {since}; it is tried every {every(detail['every'])}."


def every(seconds: int) -> str:
    """A cycle as the word after "every": minute, 5 minutes, 2 seconds."""
    if seconds == 60:
        return "minute"
    if seconds % 60 == 0:
        return f"{seconds // 60} minutes"
    return "second" if seconds == 1 else f"{seconds} seconds"


def listed(names: list[str]) -> str:
    """Names as a sentence lists them: name, city and phone."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
