"""What all objects of Sage Accounting v3.1 have in common: ids, times, texts, references to others, and how one is
refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from workers.sage.connector import Fields, Rejected, Tombstone, tidied, tidy
from workers.sage.http import Complaint

Names = Mapping[str, tuple[str, int]]
"""Our field -> Sage's, and how many characters it may have."""

_SAYS_MISSING = re.compile(r"\b(required|blank|missing|empty)\b", re.IGNORECASE)
_SAYS_TAKEN = re.compile(r"\b(taken|already|unique|duplicate|in use|exists)\b", re.IGNORECASE)
_SAYS_LONG = re.compile(r"\b(too long|maximum|at most)\b", re.IGNORECASE)
_LONGEST_PAGE = 500
# One address, as people write it: RFC 5322 allows far more, and Sage's own check is not documented.
_EMAIL = re.compile(r"[^\s@,;:<>()\[\]\\\"]+@[^\s@,;:<>()\[\]\\\".]+(\.[^\s@,;:<>()\[\]\\\".]+)+")
_ID = re.compile(r"[\x21-\x7e]{1,100}")
_KEY = re.compile(r"[0-9a-f]{32}")


class NotUnderstood(Exception):
    """An object that cannot be put into our words. `id` is Sage's, empty where even that is missing."""

    def __init__(self, sage_id: str, text: str) -> None:
        super().__init__(text)
        self.id = sage_id


# --- from Sage --------------------------------------------------------------------------------------------------------


def id_of(item: Mapping[str, Any]) -> str:
    """The id of an object. Raises NotUnderstood."""
    sage_id = item.get("id")
    if not isinstance(sage_id, str) or not _ID.fullmatch(sage_id):
        raise NotUnderstood("", "an object without an id")
    return sage_id


def ids_of(*items: Mapping[str, Any]) -> list[str]:
    """The ids of the objects that have one."""
    return [one["id"] for one in items if isinstance(one.get("id"), str)]


def part_of(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside another one; an empty one where it is null or missing."""
    part = item.get(name)
    return part if isinstance(part, dict) else {}


def objects_of(item: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list inside another one; none where it is null or missing."""
    entries = item.get(name)
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def origin_of(item: Mapping[str, Any]) -> str:
    """The key of the create that made an object, by its source_guid. Other programs put other things there, and those
    say nothing to us."""
    value = item.get("source_guid")
    return value if isinstance(value, str) and _KEY.fullmatch(value) else ""


def page_of(item: Mapping[str, Any]) -> str:
    """Where people see an object, by its link for people; empty where it has none."""
    for link in objects_of(item, "links"):
        address = link.get("href")
        if link.get("rel") == "alternate" and isinstance(address, str) and len(address) <= _LONGEST_PAGE:
            return "" if "\0" in address else address
    return ""


def text_of(sage_id: str, holder: Mapping[str, Any], key: str) -> str:
    """A text, empty where it is null or missing. Raises NotUnderstood for `sage_id`."""
    value = holder.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Some texts that look like numbers come as such.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise NotUnderstood(sage_id, f"{key} is no text")


def texts_of(sage_id: str, holder: Mapping[str, Any], names: Names) -> dict[str, str]:
    """Our fields of those names. Raises NotUnderstood for `sage_id`."""
    return {ours: text_of(sage_id, holder, sage) for ours, (sage, _) in names.items()}


def amount_of(sage_id: str, holder: Mapping[str, Any], key: str) -> Decimal:
    """An amount, zero where it is null or missing. Raises NotUnderstood."""
    value = holder.get(key)
    amount = Decimal(0) if value is None else decimal_of(value)
    if amount is None:
        raise NotUnderstood(sage_id, f"{key} is no amount")
    return amount


def decimal_of(value: object) -> Decimal | None:
    """A number or the text of one, None for anything else. workers.sage.http.parsed makes Decimals of fractions."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        # A float is one of `as_number`, in a body of ours: its text has the digits that were put in.
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    # A number beyond any amount would need more digits than a Decimal keeps.
    return number if number.is_finite() and number.adjusted() < 15 else None


def ledger_account_of(items: Iterable[Mapping[str, Any]], type_id: str, visible: str) -> str:
    """The ledger account that something is booked on: the first of a type, then the first that says it is `visible`.

    Empty where there is none. Control accounts take nothing.
    """
    usable = [one for one in items if one.get("is_control_account") is not True and ids_of(one)]
    of_type = [one for one in usable if str(part_of(one, "ledger_account_type").get("id")).upper() == type_id]
    seen = [one for one in usable if one.get(visible) is True]
    return next((str(one["id"]) for one in (*of_type, *seen)), "")


def moment(value: object) -> datetime | None:
    """A time of Sage: ISO 8601 of any precision, in UTC where it names no zone. None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def since(when: datetime) -> str:
    """A time as a query parameter. Sage counts whole seconds, so the second that it lies in is asked for in full."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def changed_since(when: datetime | None) -> dict[str, str]:
    """What a list must be asked with to show only what was created or changed then or later; all without a time."""
    return {} if when is None else {"updated_or_created_since": since(when)}


def updated_at(sage_id: str, parts: Iterable[Mapping[str, Any]]) -> datetime:
    """The newest change of an object and its parts. Raises NotUnderstood where none has a time."""
    times = [when for part in parts if (when := moment(part.get("updated_at")) or moment(part.get("created_at")))]
    if not times:
        raise NotUnderstood(sage_id, "an object without a time")
    return max(times)


def tombstone(item: Mapping[str, Any]) -> Tombstone:
    """An entry of a list of deleted objects. Raises NotUnderstood."""
    sage_id = id_of(item)
    deleted_at = moment(item.get("deleted_at"))
    if deleted_at is None:
        raise NotUnderstood(sage_id, "a deleted object without a time")
    return Tombstone(sage_id, deleted_at)


def kept(part: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """What a part holds under `keys` (in the answer -> in the body), as it is written. Without what is empty."""
    found: dict[str, Any] = {}
    for read, written in keys.items() if part else ():
        value = part.get(read)
        if value is None:
            continue
        if isinstance(value, dict):
            value = value.get("id")
        elif isinstance(value, str):
            value = tidy(value, with_lines=True)
        elif isinstance(value, list):
            value = [one["id"] for one in value if isinstance(one, dict) and isinstance(one.get("id"), str)]
        if value not in (None, "", []):
            found[written] = value
    return found


def as_read(sent: Mapping[str, Any]) -> dict[str, Any]:
    """An object of a body in the form of an answer: `country_id` becomes `country`, with its id inside."""
    read: dict[str, Any] = {}
    for name, value in sent.items():
        if name.endswith("_ids"):
            read[f"{name.removesuffix('_ids')}s"] = [{"id": one} for one in value]
        elif name.endswith("_id"):
            read[name.removesuffix("_id")] = {"id": value}
        else:
            read[name] = value
    return read


# --- to Sage ----------------------------------------------------------------------------------------------------------


def checked(fields: Fields, names: Sequence[str], required: Iterable[str], limits: Mapping[str, int]) -> dict[str, str]:
    """The fields, tidied. Raises Rejected for the first thing that Sage would refuse: missing, too long, malformed."""
    ours = tidied(fields, names)
    for name in required:
        if not ours[name]:
            raise Rejected({"code": "missing", "field": name})
    for name, limit in limits.items():
        if len(ours[name]) > limit:
            raise Rejected({"code": "too_long", "field": name, "limit": limit})
    if ours.get("email") and not _EMAIL.fullmatch(ours["email"]):
        raise Rejected({"code": "malformed", "field": "email"})
    return ours


def all_of(ours: Fields, names: Names) -> dict[str, str]:
    """Our fields under Sage's names, the empty ones too: an update empties them."""
    return {sage: ours[name] for name, (sage, _) in names.items()}


def filled_of(ours: Fields, names: Names) -> dict[str, str]:
    """Our fields under Sage's names, without the empty ones."""
    return {sage: text for sage, text in all_of(ours, names).items() if text}


def as_number(amount: Decimal) -> float:
    """A Decimal as JSON writes it: a float only carries it there, and every amount of up to 15 digits survives that."""
    return float(amount)


def limits_of(*parts: Names) -> dict[str, int]:
    """Our field -> how many characters it may have."""
    return {name: limit for part in parts for name, (_, limit) in part.items()}


def refusal(
    complaints: Sequence[Complaint],
    namespace: str,
    field_of: Mapping[str, str],
    limits: Mapping[str, int],
    unique: Mapping[str, str],
) -> dict[str, Any]:
    """The detail that tells a person what to mend when Sage refused a write.

    `field_of` leads from where Sage complains to our field: the dotted path below the namespace, or the last part of
    it after a star, "*.city". `unique` has what was sent for each field that no two records share. The first complaint
    about a field of ours counts.
    """
    for complaint in complaints:
        path = complaint.source.removeprefix(f"{namespace}.")
        field = field_of.get(path) or field_of.get(f"*.{path.rpartition('.')[2]}")
        if field is None:
            continue
        if _SAYS_MISSING.search(complaint.message):
            return {"code": "missing", "field": field}
        if field in unique and _SAYS_TAKEN.search(complaint.message):
            return {"code": "code_taken", "field": field, "value": unique[field]}
        if field in limits and _SAYS_LONG.search(complaint.message):
            return {"code": "too_long", "field": field, "limit": limits[field]}
        return {"code": "refused", "field": field}
    return {"code": "refused"}
