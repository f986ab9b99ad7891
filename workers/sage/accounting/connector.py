"""The connector for Sage Accounting v3.1. See workers.sage.connector for what each method promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import structlog

from workers.sage.accounting import customers, objects
from workers.sage.accounting.lists import MOST_PER_PAGE, NotAList, items_of, next_page
from workers.sage.accounting.objects import NotUnderstood, ids_of, part_of
from workers.sage.connector import (
    AuthoriseAgain,
    Business,
    Fields,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteRecord,
    Tombstone,
    Transient,
    Unreachable,
)
from workers.sage.http import Api, Complaint, Refused, plain

log = structlog.get_logger(__name__)

_MOST_FOUND = 20
# With these it is Sage itself that answers, busy or broken. Anything else comes from what stands in front of it: a page
# for maintenance, half an answer, none.
_ANSWERED = ("400", "408", "409", "422", "425", "429", "500")

Item = Mapping[str, Any]
"""An object of an answer."""


class AccountingConnector:
    """One business in Sage Accounting."""

    def __init__(self, api: Api) -> None:
        self._api = api
        addresses = _Addresses(api)
        self.customers = Customers(api, addresses)

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


@dataclass(frozen=True)
class _Search:
    """One list in which `Collection.find` looks: what it asks for, and what must agree with one of ours.

    `unique` where there is no second one that agrees.
    """

    query: Mapping[str, str]
    wanted: Fields
    unique: bool = False

    def agrees(self, one: RemoteRecord) -> bool:
        return any(one.fields[name].casefold() == text.strip().casefold() for name, text in self.wanted.items())


class _Records(ABC):
    """The records of one list of Sage: what is the same for all kinds. See Collection for what each method promises."""

    name: str
    asked: Mapping[str, str]
    leaves_tombstones = True

    def __init__(self, api: Api) -> None:
        self._api = api

    # --- what a kind says about itself --------------------------------------------------------------------------------

    @abstractmethod
    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        """See Collection. `idempotency_key` is 32 hex digits."""

    @abstractmethod
    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        """See Collection."""

    @abstractmethod
    def _record(self, item: Item) -> RemoteRecord:
        """An object of an answer in our words. Raises NotUnderstood."""

    @abstractmethod
    def _written(self, answer: Item, body: Item) -> RemoteRecord:
        """What Sage answered a write of `body` with, in our words. Raises NotUnderstood."""

    @abstractmethod
    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        """The detail that tells a person what to mend."""

    @abstractmethod
    def _searches(self, fields: Fields, parent: str) -> Iterator[_Search]:
        """Where a record with these fields may be found."""

    def _items(self, query: Mapping[str, str]) -> Iterator[list[Item]]:
        """The pages of the list with `query`, each entry with all that was asked for."""
        return pages(self._api, f"/{self.name}", {**query, **self.asked})

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, sage_id: str) -> RemoteRecord:
        """See Collection."""
        try:
            return self._record(self._item(sage_id))
        except NotUnderstood as error:
            raise Rejected({"code": "refused"}, {"message": str(error)}) from error

    def changed(self, since: datetime | None) -> Iterator[list[RemoteRecord]]:
        """See Collection."""
        query = {} if since is None else {"updated_or_created_since": objects.since(since)}
        for items in self._items(query):
            yield self._understood(items)

    def deleted(self, since: datetime) -> Iterator[list[Tombstone]]:
        """See Collection."""
        if not self.leaves_tombstones:
            return
        query = {"deleted_since": objects.since(since), "attributes": "deleted_at"}
        for items in pages(self._api, f"/{self.name}", query):
            page = []
            for item in items:
                try:
                    page.append(objects.tombstone(item))
                except NotUnderstood as error:
                    log.warning("sage_tombstone_not_understood", list=self.name, id=error.id, error=str(error))
            yield page

    def find(self, fields: Fields, parent: str = "") -> list[RemoteRecord]:
        """See Collection. Sage's own search finds parts of words; what does not agree as a whole is left out."""
        found: dict[str, RemoteRecord] = {}
        for search in self._searches(fields, parent):
            for one in self._agreeing(search):
                found[one.id] = one
                if len(found) == _MOST_FOUND:
                    return list(found.values())
        return list(found.values())

    def _agreeing(self, search: _Search) -> Iterator[RemoteRecord]:
        for items in self._items(search.query):
            for one in self._understood(items):
                if search.agrees(one):
                    yield one
                    if search.unique:
                        return

    def _item(self, sage_id: str) -> Item:
        return self._api.get(_path(self.name, sage_id), self.asked)

    def _understood(self, items: Iterable[Item]) -> list[RemoteRecord]:
        understood = []
        for item in items:
            try:
                understood.append(self._record(item))
            except NotUnderstood as error:
                log.warning("sage_record_not_understood", list=self.name, id=error.id, error=str(error))
        return understood

    # --- writing ------------------------------------------------------------------------------------------------------

    def create(self, body: Mapping[str, Any]) -> RemoteRecord:
        """See Collection."""
        try:
            made = self._api.post(f"/{self.name}", body)
        except Refused as error:
            raise Rejected(self._refusal(error.complaints, body), error.raw) from error
        return self._outcome(made, body)

    def update(self, sage_id: str, body: Mapping[str, Any]) -> RemoteRecord:
        """See Collection."""
        try:
            changed = self._api.put(_path(self.name, sage_id), body)
        except Refused as error:
            raise Rejected(self._refusal(error.complaints, body), error.raw) from error
        return self._outcome(changed, body)

    def _outcome(self, answer: Item, body: Item) -> RemoteRecord:
        try:
            return self._written(answer, body)
        except NotUnderstood as error:
            # Sage said yes, and the state that this led to is not known.
            raise OutcomeUnknown(str(error), {"message": str(error)}) from error


class Customers(_Records):
    """The contacts of type CUSTOMER."""

    name = "contacts"
    asked = customers.ASKED

    def __init__(self, api: Api, addresses: _Addresses) -> None:
        super().__init__(api)
        self._addresses = addresses

    def changed(self, since: datetime | None) -> Iterator[list[RemoteRecord]]:
        """See Collection.

        Whether Sage moves the time of a contact when its address or its person is edited is not documented, so with
        `since` the three lists are read, and contacts are fetched of which only a part has changed.
        """
        query = {"exclude_system": "true"}
        if since is None:
            for contacts in self._items(query):
                yield self._understood(contacts)
            return
        changed = {"updated_or_created_since": objects.since(since)}
        known: set[str] = set()
        for contacts in self._items({**query, **changed}):
            for contact in contacts:
                known.update(ids_of(contact, *(part_of(contact, name) for name in _PARTS)))
            yield self._understood(contacts)
        for batch in _batches(self._with_changed_parts(changed, known), MOST_PER_PAGE):
            yield self._understood(batch)

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        return customers.create_body(fields, idempotency_key)

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        return customers.update_body(fields, remote)

    def _record(self, item: Item) -> RemoteRecord:
        return customers.remote_customer(item)

    def _written(self, answer: Item, body: Item) -> RemoteRecord:
        return customers.written_customer(answer, body)

    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        return customers.refusal(complaints, body)

    def _searches(self, fields: Fields, parent: str) -> Iterator[_Search]:
        for name, parameter in (("code", "search"), ("email", "email"), ("name", "search")):
            if wanted := fields.get(name):
                # References are unique in Sage, so there is no second one to look for.
                yield _Search({parameter: wanted}, {name: wanted}, unique=name == "code")

    def _items(self, query: Mapping[str, str]) -> Iterator[list[Item]]:
        return super()._items({"contact_type_id": customers.CUSTOMER_TYPE, **query})

    def _with_changed_parts(self, changed: Mapping[str, str], known: set[str]) -> Iterator[Item]:
        """Customers whose address or person has changed.

        `known` holds the ids of the customers that were read, and of their parts: those are left out.
        """
        asked = set(known)
        for contact_id in self._of_changed_parts(changed, known):
            if contact_id in asked:
                continue
            asked.add(contact_id)
            try:
                contact = self._item(contact_id)
            except NotFound:
                continue  # It was deleted since, and its tombstone says so.
            if customers.is_customer(contact):
                yield contact

    def _of_changed_parts(self, changed: Mapping[str, str], known: set[str]) -> Iterator[str]:
        yield from self._addresses.walk(changed)
        for persons in pages(self._api, "/contact_persons", {**changed, "attributes": "address"}):
            for person in persons:
                for address_id in ids_of(part_of(person, "address")):
                    if address_id in known or not known.isdisjoint(ids_of(person)):
                        continue
                    if contact_id := self._addresses.contact_of(address_id):
                        yield contact_id


class _Addresses:
    """Which contact each address belongs to. That never changes, so it is asked once in the life of a connector."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._contact_of: dict[str, str] = {}

    def walk(self, query: Mapping[str, str]) -> Iterator[str]:
        """The contacts of the addresses in a list, which are known from then on."""
        for addresses in pages(self._api, "/addresses", {**query, "attributes": "contact"}):
            for address in addresses:
                for address_id in ids_of(address):
                    if contact_id := self._learn(address_id, address):
                        yield contact_id

    def contact_of(self, address_id: str) -> str:
        """The contact that an address belongs to, empty where there is none: that of a bank account has none."""
        if address_id not in self._contact_of:
            try:
                self._learn(address_id, self._api.get(_path("addresses", address_id), {"attributes": "contact"}))
            except NotFound:
                return ""
        return self._contact_of[address_id]

    def _learn(self, address_id: str, address: Item) -> str:
        self._contact_of[address_id] = next(iter(ids_of(part_of(address, "contact"))), "")
        return self._contact_of[address_id]


def _path(collection: str, key: str) -> str:
    return f"/{collection}/{quote(key, safe='')}"


_PARTS = ("main_address", "delivery_address", "main_contact_person")


def pages(api: Api, path: str, query: Mapping[str, str]) -> Iterator[list[Item]]:
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


def _batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
