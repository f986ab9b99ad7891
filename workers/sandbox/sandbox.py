"""The sandbox as a whole, without sockets: its state, what people do in it, and answers without faults."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from workers.sandbox import documents, faults, reference
from workers.sandbox.api import Answer, Api, Request
from workers.sandbox.books import Books, Shown
from workers.sandbox.businesses import BY_ID
from workers.sandbox.faults import Fault
from workers.sandbox.oauth import OAuth, TokenError
from workers.sandbox.resources import (
    ADDRESS_PART,
    CONTACT_PERSONS,
    CONTACTS,
    PERSON_PART,
    PRODUCTS,
    RESOURCES,
    SALES_INVOICES,
    SALES_QUOTES,
    Resource,
)
from workers.sandbox.rules import invalid, not_found
from workers.sandbox.store import Filter, Record, Store
from workers.sandbox.switches import Switches

EVERYTHING = frozenset({"all"})
PEOPLES = (CONTACTS.name, CONTACT_PERSONS.name, SALES_QUOTES.name, SALES_INVOICES.name, PRODUCTS.name)
"""The collections that people write as well, on the page or through /_sandbox."""

# A person edits one form; Sage keeps its fields in three records.
_FLAT = {
    **{
        name: ("main_address", name)
        for name in ADDRESS_PART
        if name not in ("name", "address_type_id", "is_main_address")
    },
    **{
        name: ("main_contact_person", name)
        for name in ("job_title", "telephone", "mobile", "email", "fax")
        if name in PERSON_PART
    },
    "contact_name": ("main_contact_person", "name"),
}


class Sandbox:
    """State and behaviour. One per process; not for threads."""

    def __init__(self, folder: Path, origin: str, client_id: str, client_secret: str) -> None:
        """Open the state in `folder`. `origin` is the sandbox's own address. Raises store.StoreError."""
        self.store = Store(folder)
        self.origin = origin
        self.switches = Switches(**(self.store.setting("switches") or {}))
        self.faults = [faults.parse(one) for one in self.store.setting("faults") or ()]
        self.oauth = OAuth(self.store, client_id, client_secret, lambda: self.switches)
        self.api = Api(self.store, self.oauth, lambda: self.switches, self.now, origin)
        self.requests: Counter[str] = Counter()
        """How often each list was asked since the start or the last reset, whatever became of it: "GET contacts"."""

    def now(self) -> int:
        """Seconds since 1970 as Sage's clock shows them."""
        return int(time.time() + self.skew)

    @property
    def skew(self) -> float:
        """By how many seconds Sage's clock is wrong."""
        return sum(float(one.options["seconds"]) for one in self.faults if one.kind == "clock_skew")

    # --- faults and switches ------------------------------------------------------------------------------------------

    def strike(self, kind: str, request: Request) -> Fault | None:
        """The first fault of this kind that strikes the request, counted down; None where none does."""
        for one in self.faults:
            if one.kind == kind and one.strikes(request.method, request.path, request.body):
                if one.times is not None:
                    self._keep_faults(faults.struck(self.faults, one))
                return one
        return None

    def add_fault(self, asked: Mapping[str, Any]) -> Fault:
        """Switch a fault on. `tokens_revoked` happens at once and is not kept. Raises faults.FaultError."""
        fault = faults.parse(asked)
        if fault.kind == "tokens_revoked":
            self.oauth.revoke_all()
        else:
            self._keep_faults([*self.faults, fault])
        return fault

    def remove_faults(self, *, key: str | None = None, kind: str | None = None) -> None:
        """Switch off the fault with this id, those of this kind, or all."""
        left = [
            one for one in self.faults if (key is not None and one.id != key) or (kind is not None and one.kind != kind)
        ]
        self._keep_faults(left)

    def change_switches(self, changes: Mapping[str, Any]) -> None:
        """Set switches by name. Raises ValueError with what is allowed."""
        self.switches = self.switches.changed(changes)
        self.store.keep_setting("switches", asdict(self.switches))

    def reset(self) -> None:
        """As at the first start: no records, ledger or faults, all switches at their defaults. Tokens stay valid."""
        self.store.empty()
        self.requests.clear()
        self.faults = []
        self.switches = Switches()

    def _keep_faults(self, left: list[Fault]) -> None:
        self.faults = left
        self.store.keep_setting("faults", [one.as_json() for one in left])

    # --- what a person does in Sage -----------------------------------------------------------------------------------

    def create(self, name: str, business: str, fields: Mapping[str, Any]) -> Record:
        """Add a record to a collection of PEOPLES as a person would.

        Takes the fields of Sage's body. A customer also takes, flat, those of the form (`city`, `email`,
        `contact_name` for the person's name); the type is customer and the country the business's unless it is said. A
        contact person takes `contact_id` in place of an address, and a quote or an invoice needs no more than that and its
        lines. A product takes its first sales price as `price` and needs no ledger accounts.
        Raises Refused (404 for an unknown business, 422).
        """
        if business not in BY_ID:
            raise not_found()
        resource = RESOURCES[name]
        body = self._of_person(business, resource, fields, None)
        with self.store.transaction():
            record = self._books(business).create(resource, body)
            self.store.record_write(record, "create", "person", {resource.namespace: body})
        return record

    def edit(self, name: str, key: str, fields: Mapping[str, Any]) -> Record:
        """Change a record as a person would; fields as in `create`.

        The lines of a quote or an invoice are given in their order, each with what changes of it. A contact may be made
        unrecognisable with `gdpr_obfuscated`, and an invoice paid with `paid`. Raises Refused (404 or 422).
        """
        resource, record = RESOURCES[name], self._live(name, key)
        body = self._of_person(record.business, resource, fields, record)
        obfuscated, paid = body.pop("gdpr_obfuscated", False), body.pop("paid", False)
        with self.store.transaction():
            books = self._books(record.business)
            changed = books.update(record, resource, body)
            if obfuscated:
                changed = books.obfuscate(changed)
            if paid and resource is SALES_INVOICES:
                changed = books.pay(changed)
            self.store.record_write(changed, "update", "person", {resource.namespace: body})
        return changed

    def delete(self, name: str, key: str) -> None:
        """Delete a record as a person would, or make an invoice void. Raises Refused (404 or 422)."""
        record = self._live(name, key)
        with self.store.transaction():
            if record.resource == SALES_INVOICES.name:
                self._books(record.business).void(record, "Deleted by a person in Sage")
            else:
                self._books(record.business).delete(record)
            self.store.record_write(record, "delete", "person", {})

    def one(self, name: str, key: str) -> dict[str, Any]:
        """A record in full, with all that belongs to it, and its business. Raises Refused (404)."""
        return self.in_full([self._live(name, key)])[0]

    def all(self, name: str, business: str | None = None) -> list[dict[str, Any]]:
        """Every live record of a collection in a business, or in all, in the order of creation, each as `one`."""
        return [
            shown
            for chosen in ([business] if business else BY_ID)
            for shown in self.in_full(self.store.page(Filter(chosen, name), offset=0, limit=-1))
        ]

    def of_contact(self, key: str, name: str) -> list[dict[str, Any]]:
        """The live records of a collection that belong to a contact, oldest first, each as `one`."""
        return self.in_full(self.store.of_contact(key, name))

    def in_full(self, records: list[Record]) -> list[dict[str, Any]]:
        """Records as `one` gives them. What belongs to a contact says to which."""
        items = Shown(self.store, self.switches, self.origin).items(records, EVERYTHING, EVERYTHING)
        return [
            {**item, "business": record.business, **({"contact_id": record.contact_id} if record.contact_id else {})}
            for item, record in zip(items, records, strict=True)
        ]

    def _live(self, name: str, key: str) -> Record:
        record = self.store.many([key]).get(key)
        if record is None or record.deleted_at is not None or record.resource != name:
            raise not_found()
        return record

    def _of_person(
        self, business: str, resource: Resource, fields: Mapping[str, Any], record: Record | None
    ) -> dict[str, Any]:
        """The body of a write from what a person gave; `record` is what is changed, None for a new one."""
        if resource is CONTACTS:
            body = _grouped(fields)
            if record is None:
                country = {"country_id": BY_ID[business].country_id}
                body = {
                    "contact_type_ids": ["CUSTOMER"],
                    **body,
                    "main_address": {**country, **(body.get("main_address") or {})},
                }
            return body
        if resource is PRODUCTS:
            return _product(fields, record)
        if resource is CONTACT_PERSONS:
            return dict(fields) if record else self._new_person(fields)
        return _document(
            documents.DOCUMENTS[resource.name], fields, record, datetime.fromtimestamp(self.now(), UTC).date()
        )

    def _new_person(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        contact = self._live(CONTACTS.name, str(fields.get("contact_id")))
        given = {name: value for name, value in fields.items() if name != "contact_id"}
        return {
            "address_id": contact.state["main_address_id"],
            "contact_person_type_ids": ["CUSTOMER_MAIN"],
            "is_main_contact": False,
            **given,
        }

    def _books(self, business: str) -> Books:
        return Books(self.store, business, self.now, self.switches)

    # --- answers without faults ---------------------------------------------------------------------------------------

    def answer_token(self, request: Request) -> Answer:
        """POST /token and POST /revoke: a form in, JSON out, errors in OAuth's words with status 400."""
        if request.method != "POST":
            return _oauth(405, {"error": "invalid_request"})
        try:
            form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
            if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
                raise TokenError("invalid_request")
            return _oauth(200, self.oauth.token(form) if request.path == "/token" else self.oauth.revoke(form))
        except UnicodeDecodeError:
            return _oauth(400, {"error": "invalid_request"})
        except TokenError as error:
            return _oauth(400, {"error": error.error})


def _oauth(status: int, value: Mapping[str, Any]) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", "Cache-Control": "no-store"})


def _document(
    kind: documents.Document, fields: Mapping[str, Any], record: Record | None, today: date
) -> dict[str, Any]:
    """The body of a quote or an invoice.

    Sage's own form fills in today, a month, the ledger account of sales and each line's tax.
    """
    body = {} if record else {"date": today.isoformat(), kind.until: (today + timedelta(days=30)).isoformat()}
    body |= json.loads(json.dumps(fields), parse_float=Decimal)
    given = body.get(kind.lines)
    if isinstance(given, list) and all(isinstance(one, dict) for one in given):
        before = record.state[kind.lines] if record else []
        body[kind.lines] = [
            _line(one, before[position] if position < len(before) else {}) for position, one in enumerate(given)
        ]
    return body


def _line(given: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"ledger_account_id": reference.account_id(4000), **before, **given}
    line = {name: value for name, value in whole.items() if name != "id"}
    same = all(line.get(name) == before.get(name) for name in documents.TAXED)
    return line if same or "tax_amount" in given else documents.with_tax(line)


def _product(fields: Mapping[str, Any], record: Record | None) -> dict[str, Any]:
    """The body of a product, whose form has one price, and a word for whether it is sold. New ones are booked as usual."""
    accounts = {"sales_ledger_account_id": 4000, "purchase_ledger_account_id": 5000}
    body: dict[str, Any] = {}
    if record is None:
        body = {name: reference.account_id(code) for name, code in accounts.items()}
    body |= json.loads(json.dumps(fields), parse_float=Decimal)
    if "price" in body:
        prices = list(record.state.get("sales_prices") or ()) if record else []
        first = prices[0] if prices else {"price_name": "Sales Price", "price_includes_tax": False}
        body["sales_prices"] = [{**first, "price": body.pop("price") or "0"}, *prices[1:]]
    if body.get("active") in ("yes", "no"):
        body["active"] = body["active"] == "yes"
    return body


def _grouped(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a contact from the flat fields of a form, from Sage's own nesting, or from both."""
    inner = fields.get("contact", fields)
    if not isinstance(inner, Mapping):
        raise invalid("This field must be an object.", "contact")
    body: dict[str, Any] = {}
    for name, value in inner.items():
        group, field = _FLAT.get(name, ("", name))
        if not group:
            body[name] = {**body.get(name, {}), **value} if isinstance(value, Mapping) else value
        else:
            body.setdefault(group, {})[field] = value
    return body
