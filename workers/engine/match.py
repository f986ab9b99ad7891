"""Which record of ours a record in Sage is, before anything is linked. Pure.

The order of trust is the product's: of a customer number, tax number, e-mail, name with postal code; of a person e-mail,
then name; of a product its number, then its name; of an order its number alone. The first key on which anything
agrees decides: one record is a sure match, several are doubtful.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# Reads the keys that a record can be recognised by from its fields, the most trusted first.
Keys = Callable[[Mapping[str, str]], dict[str, str]]

_NOT_ALNUM = re.compile(r"[^0-9a-z]+")


@dataclass(frozen=True)
class Match:
    """The records that a record in Sage may be: none, one that is sure, or several of which a person must choose."""

    ids: tuple[int, ...]

    @property
    def sure(self) -> int | None:
        """The one record that it is; None where there is none or more than one."""
        return self.ids[0] if len(self.ids) == 1 else None


def customer_keys(fields: Mapping[str, str]) -> dict[str, str]:
    """The keys of a customer, normalised; a key that its fields do not fill is absent."""
    found = {
        "number": fields["code"].strip().casefold(),
        "tax_number": plain(fields["tax_number"]),
        "email": fields["email"].strip().casefold(),
        "name_and_postal_code": "",
    }
    name, postal_code = plain(fields["name"]), plain(fields["postal_code"])
    if name and postal_code:
        found["name_and_postal_code"] = f"{name} {postal_code}"
    return {key: value for key, value in found.items() if value}


def person_keys(fields: Mapping[str, str]) -> dict[str, str]:
    """The keys of a person among the persons of one customer, as above."""
    found = {"email": fields["email"].strip().casefold(), "name": plain(fields["name"])}
    return {key: value for key, value in found.items() if value}


def product_keys(fields: Mapping[str, str]) -> dict[str, str]:
    """The keys of a product, as above."""
    found = {"number": fields["code"].strip().casefold(), "name": plain(fields["name"])}
    return {key: value for key, value in found.items() if value}


def order_keys(fields: Mapping[str, str]) -> dict[str, str]:
    """The key of an order, as above."""
    number = fields["number"].strip().casefold()
    return {"number": number} if number else {}


def plain(text: str) -> str:
    """Lower case letters and digits only, accents removed: `GB 123-456` and `gb123456` are the same tax number."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return _NOT_ALNUM.sub("", "".join(char for char in decomposed if not unicodedata.combining(char)))


def match(
    theirs: Mapping[str, str], ours: Iterable[tuple[int, Mapping[str, str]]], keys: Keys = customer_keys
) -> Match:
    """Find a record of Sage among records of ours, given as pairs of id and fields.

    A record whose own number differs is not the same, whatever else agrees: numbers are given by people who mean them.
    """
    candidates = [(record_id, keys(fields)) for record_id, fields in ours]
    # Of most strangers nothing here is a candidate, and making their keys would be for nothing.
    wanted = keys(theirs) if candidates else {}
    for key, value in wanted.items():
        ids = tuple(
            record_id
            for record_id, has in candidates
            if has.get(key) == value and (key == "number" or not _differ(wanted, has, "number"))
        )
        if ids:
            return Match(ids)
    return Match(())


def _differ(a: Mapping[str, str], b: Mapping[str, str], key: str) -> bool:
    return key in a and key in b and a[key] != b[key]
