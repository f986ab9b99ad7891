"""The connector for Sage Accounting v3.1. See workers.sage.connector.Connector for what each method promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import structlog

from workers.sage.accounting import customers as words
from workers.sage.accounting.lists import MOST_PER_PAGE, NotAList, items_of, next_page
from workers.sage.connector import (
    AuthoriseAgain,
    Business,
    Fields,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteCustomer,
    Tombstone,
    Transient,
    Unreachable,
)
from workers.sage.http import Api, Refused, plain

log = structlog.get_logger(__name__)

_MOST_FOUND = 20
# With these it is Sage itself that answers, busy or broken. Anything else comes from what stands in front of it: a page
# for maintenance, half an answer, none.
_ANSWERED = ("400", "408", "409", "422", "425", "429", "500")


class AccountingConnector:
    """One business in Sage Accounting."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def check(self) -> Business:
        """See Connector. It asks for the business, so it tells as well whether the tokens still open it."""
        try:
            found = self._api.get(_path("businesses", self._api.business_id))
        except NotFound as error:
            raise AuthoriseAgain(f"the tokens do not open business {self._api.business_id}", error.raw) from error
        except Transient as error:
            if error.raw.get("status", "") not in _ANSWERED:
                raise Unreachable(str(error), error.raw) from error
            raise
        if found.get("id") != self._api.business_id:
            raise AuthoriseAgain(f"Sage answered for business {found.get('id')}")
        return _business(found)

    def customer(self, sage_id: str) -> RemoteCustomer:
        """See Connector."""
        try:
            return words.remote_customer(self._contact(sage_id))
        except words.NotUnderstood as error:
            raise Rejected({"code": "refused"}, {"message": str(error)}) from error

    def customers(self, changed_since: datetime | None) -> Iterator[list[RemoteCustomer]]:
        """See Connector.

        Whether Sage moves the time of a contact when its address or its person is edited is not documented, so with
        `changed_since` the three lists are read, and contacts are fetched of which only a part has changed.
        """
        query = {"contact_type_id": words.CUSTOMER_TYPE, "exclude_system": "true", **words.ASKED}
        if changed_since is None:
            for contacts in self._pages("/contacts", query):
                yield self._understood(contacts)
            return
        changed = {"updated_or_created_since": words.since(changed_since)}
        known: set[str] = set()
        for contacts in self._pages("/contacts", {**query, **changed}):
            for contact in contacts:
                known.update(_ids(contact, *(words.part_of(contact, name) for name in _PARTS)))
            yield self._understood(contacts)
        for batch in _batches(self._contacts_with_changed_parts(changed, known), MOST_PER_PAGE):
            yield self._understood(batch)

    def deleted_customers(self, since: datetime) -> Iterator[list[Tombstone]]:
        """See Connector. A deleted vendor is among them: what was deleted no longer has a type to ask for."""
        for contacts in self._pages("/contacts", {"deleted_since": words.since(since), "attributes": "deleted_at"}):
            page = []
            for contact in contacts:
                try:
                    page.append(words.tombstone(contact))
                except words.NotUnderstood as error:
                    log.warning("sage_tombstone_not_understood", id=error.id, error=str(error))
            yield page

    def create_body(self, fields: Fields, idempotency_key: str) -> dict[str, Any]:
        """See Connector. `idempotency_key` is 32 hex digits."""
        return words.create_body(fields, idempotency_key)

    def create_customer(self, body: Mapping[str, Any]) -> RemoteCustomer:
        """See Connector."""
        try:
            made = self._api.post("/contacts", body)
        except Refused as error:
            raise Rejected(words.refusal(error.complaints, body), error.raw) from error
        return _written(made, body)

    def update_body(self, fields: Fields, remote: RemoteCustomer) -> dict[str, Any]:
        """See Connector."""
        return words.update_body(fields, remote)

    def update_customer(self, sage_id: str, body: Mapping[str, Any]) -> RemoteCustomer:
        """See Connector."""
        try:
            changed = self._api.put(_path("contacts", sage_id), body)
        except Refused as error:
            raise Rejected(words.refusal(error.complaints, body), error.raw) from error
        return _written(changed, body)

    def find_customers(self, *, code: str = "", email: str = "", name: str = "") -> list[RemoteCustomer]:
        """See Connector. Sage's own search finds parts of words; what does not agree as a whole is left out."""
        found: dict[str, RemoteCustomer] = {}
        for field, wanted, query in (
            ("code", code, {"search": code}),
            ("email", email, {"email": email}),
            ("name", name, {"search": name}),
        ):
            if wanted:
                for one in self._agreeing(field, wanted, query):
                    found[one.id] = one
                    if len(found) == _MOST_FOUND:
                        return list(found.values())
        return list(found.values())

    def _agreeing(self, field: str, wanted: str, query: Mapping[str, str]) -> Iterator[RemoteCustomer]:
        query = {"contact_type_id": words.CUSTOMER_TYPE, **query, **words.ASKED}
        for contacts in self._pages("/contacts", query):
            for one in self._understood(contacts):
                if one.fields[field].casefold() == wanted.strip().casefold():
                    yield one
                    if field == "code":
                        # References are unique in Sage, so there is no second one to look for.
                        return

    def _contact(self, sage_id: str) -> dict[str, Any]:
        return self._api.get(_path("contacts", sage_id), words.ASKED)

    def _understood(self, contacts: Iterable[Mapping[str, Any]]) -> list[RemoteCustomer]:
        understood = []
        for contact in contacts:
            try:
                understood.append(words.remote_customer(contact))
            except words.NotUnderstood as error:
                log.warning("sage_customer_not_understood", id=error.id, error=str(error))
        return understood

    def _contacts_with_changed_parts(self, changed: Mapping[str, str], known: set[str]) -> Iterator[dict[str, Any]]:
        """Customers whose address or person has changed.

        `known` holds the ids of the customers that were read, and of their parts: those are left out.
        """
        asked = set(known)
        for contact_id in self._contacts_of_changed_parts(changed, known):
            if contact_id in asked:
                continue
            asked.add(contact_id)
            try:
                contact = self._contact(contact_id)
            except NotFound:
                continue  # It was deleted since, and its tombstone says so.
            if words.is_customer(contact):
                yield contact

    def _contacts_of_changed_parts(self, changed: Mapping[str, str], known: set[str]) -> Iterator[str]:
        contact_of: dict[str, str] = {}
        for addresses in self._pages("/addresses", {**changed, "attributes": "contact"}):
            for address in addresses:
                for contact_id in _ids(words.part_of(address, "contact")):
                    contact_of[str(address.get("id"))] = contact_id
                    yield contact_id
        for persons in self._pages("/contact_persons", {**changed, "attributes": "address"}):
            for person in persons:
                for address_id in _ids(words.part_of(person, "address")):
                    if known.isdisjoint(_ids(person)) and address_id not in known:
                        yield from self._contact_of(address_id, contact_of)

    def _contact_of(self, address_id: str, contact_of: dict[str, str]) -> list[str]:
        """The contact that an address belongs to, if any: that of a bank account has none."""
        if address_id not in contact_of:
            try:
                address = self._api.get(_path("addresses", address_id), {"attributes": "contact"})
            except NotFound:
                return []
            contact_of[address_id] = next(iter(_ids(words.part_of(address, "contact"))), "")
        return [contact_of[address_id]] if contact_of[address_id] else []

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[list[Mapping[str, Any]]]:
        return pages(self._api, path, query)


def _path(collection: str, key: str) -> str:
    return f"/{collection}/{quote(key, safe='')}"


def _written(answer: Mapping[str, Any], body: Mapping[str, Any]) -> RemoteCustomer:
    try:
        return words.written_customer(answer, body)
    except words.NotUnderstood as error:
        # Sage said yes, and the state that this led to is not known.
        raise OutcomeUnknown(str(error), {"message": str(error)}) from error


_PARTS = ("main_address", "delivery_address", "main_contact_person")


def pages(api: Api, path: str, query: Mapping[str, str]) -> Iterator[list[Mapping[str, Any]]]:
    """The entries of a list, a page at a time. Raises as `api.get`, and Transient for an answer that is no list."""
    number: int | None = 1
    while number is not None:
        try:
            page = api.get(path, {"page": str(number), "items_per_page": str(MOST_PER_PAGE), **query})
            items, following = items_of(page), next_page(page, number, api.base_url)
        except (NotAList, NotFound) as error:
            raise Transient(f"{path}: {error}", {"message": f"{path}: {error}"}) from error
        yield items
        number = following


def businesses(api: Api) -> list[Business]:
    """The businesses that the person who authorised may open. `api` is one without a business of its own."""
    found = (one for page in pages(api, "/businesses", {"attributes": "name"}) for one in page)
    return [_business(one) for one in found if isinstance(one.get("id"), str)]


def _business(one: Mapping[str, Any]) -> Business:
    return Business(one["id"], plain(one.get("name")) or plain(one.get("displayed_as")) or one["id"])


def _ids(*objects: Mapping[str, Any]) -> list[str]:
    return [one["id"] for one in objects if isinstance(one.get("id"), str)]


def _batches(contacts: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for contact in contacts:
        batch.append(contact)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
