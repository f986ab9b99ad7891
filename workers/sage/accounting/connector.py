"""The connector for Sage Accounting v3.1. See workers.sage.connector for what each method promises."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from webapp.prefetch import prefetch
from workers.sage.accounting import customers, documents, objects, persons, products
from workers.sage.accounting.documents import Document
from workers.sage.accounting.lists import MOST_PER_PAGE
from workers.sage.accounting.objects import ids_of, part_of
from workers.sage.accounting.records import PAGES_AHEAD, RAW_PAGES_AHEAD, Item, Records, Search, pages, path_of
from workers.sage.connector import (
    AuthoriseAgain,
    Business,
    Fields,
    NotFound,
    Rejected,
    RemoteRecord,
    Tombstone,
    Transient,
    Unchanged,
    Unreachable,
    none_is_known,
)
from workers.sage.http import Api, Complaint, plain

# With these it is Sage itself that answers, busy or broken. Anything else comes from what stands in front of it: a page
# for maintenance, half an answer, none.
_ANSWERED = ("400", "408", "409", "422", "425", "429", "500")
# Asking for more addresses than these of one page of persons takes longer than reading the list of all.
_FEW_ADDRESSES = 5
_PARTS = ("main_address", "delivery_address", "main_contact_person")


class AccountingConnector:
    """One business in Sage Accounting."""

    def __init__(self, api: Api, document: Document = documents.QUOTES) -> None:
        """`document` is what orders are in Sage."""
        self._api = api
        addresses = _Addresses(api)
        self.customers = Customers(api, addresses)
        self.persons = Persons(api, addresses)
        books = _Books(api)
        self.products = Products(api, books)
        self.orders = Orders(api, document, books)

    def has_room(self) -> bool:
        """See workers.sage.connector."""
        return self._api.has_room()

    def check(self) -> Business:
        """See Connector. It asks for the business, so it tells as well whether the tokens still open it."""
        try:
            found = self._api.get(path_of("businesses", self._api.business_id))
        except NotFound as error:
            raise AuthoriseAgain(f"the tokens do not open business {self._api.business_id}", error.raw) from error
        except Transient as error:
            if error.raw.get("status", "") not in _ANSWERED:
                raise Unreachable(str(error), error.raw) from error
            raise
        if found.get("id") != self._api.business_id:
            raise AuthoriseAgain(f"Sage answered for business {found.get('id')}")
        return _business(found)


class Customers(Records):
    """The contacts of type CUSTOMER."""

    name = "contacts"
    asked = customers.ASKED

    def __init__(self, api: Api, addresses: _Addresses) -> None:
        super().__init__(api)
        self._addresses = addresses

    def _changed(self, since: datetime | None) -> Iterator[list[RemoteRecord]]:
        """What `changed` gives.

        Whether Sage moves the time of a contact when its address or its person is edited is not documented, so with
        `since` the three lists are read, and contacts are fetched of which only a part has changed.
        """
        query = {"exclude_system": "true"}
        if since is None:
            # Nothing else is asked on the way, so that a page can be fetched while the one before is understood.
            for contacts in prefetch(self._items(query), RAW_PAGES_AHEAD):
                yield self._understood(contacts)
            return
        changed = objects.changed_since(since)
        known: set[str] = set()
        for contacts in self._items({**query, **changed}):
            for contact in contacts:
                known.update(ids_of(contact, *(part_of(contact, name) for name in _PARTS)))
            yield self._understood(contacts)
        for batch in _batches(self._with_changed_parts(changed, known), MOST_PER_PAGE):
            yield self._understood(batch)

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        """See Collection."""
        return customers.create_body(fields, idempotency_key)

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        """See Collection."""
        return customers.update_body(fields, remote)

    def _record(self, item: Item) -> RemoteRecord:
        return customers.remote_customer(item)

    def _completed(self, answer: Item, body: Item) -> Item:
        return customers.completed(answer, body)

    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        return customers.refusal(complaints, body)

    def _prepare(self, body: Item) -> None:
        """The answer speaks for itself."""

    def _searches(self, fields: Fields, parent: str) -> Iterator[Search]:
        for name, parameter in (("code", "search"), ("email", "email"), ("name", "search")):
            if wanted := fields.get(name):
                # References are unique in Sage, so there is no second one to look for.
                yield Search({parameter: wanted}, {name: wanted}, unique=name == "code")

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
        for person in _all(self._api, "/contact_persons", {**changed, "attributes": "address"}):
            address_id = persons.address_of(person)
            if address_id in known or not known.isdisjoint(ids_of(person)):
                continue
            if contact_id := self._addresses.contact_of(address_id):
                yield contact_id


class Persons(Records):
    """The contact persons of contacts, but for the main ones."""

    name = "contact_persons"
    asked = persons.ASKED
    tells_deletions = False

    def __init__(self, api: Api, addresses: _Addresses) -> None:
        super().__init__(api)
        self._addresses = addresses

    def _changed(self, since: datetime | None) -> Iterator[list[RemoteRecord]]:
        """What `changed` gives. The contacts of many addresses are told soonest by the list of all addresses."""
        if since is not None:
            yield from super()._changed(since)
            return
        for items in self._items({}):
            self._addresses.prepare({persons.address_of(one) for one in items})
            yield self._understood(items)

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        """See Collection. What is wrong with the fields is said before anything is asked of Sage."""
        persons.checked(fields)
        return persons.create_body(fields, idempotency_key, self._addresses.main_of(parent), self._type)

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        """See Collection."""
        return persons.update_body(fields, remote)

    def _record(self, item: Item) -> RemoteRecord:
        return persons.remote_person(item, self._addresses.contact_of(persons.address_of(item)))

    def _completed(self, answer: Item, body: Item) -> Item:
        return persons.completed(answer, body)

    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        return persons.refusal(complaints)

    def _searches(self, fields: Fields, parent: str) -> Iterator[Search]:
        wanted = {name: fields[name] for name in ("email", "name") if fields.get(name)}
        if wanted:
            yield Search({"contact_id": parent} if parent else {}, wanted)

    def _prepare(self, body: Item) -> None:
        sent = objects.as_read(part_of(body, "contact_person"))
        self._addresses.contact_of(persons.address_of(sent))

    def _items(self, query: Mapping[str, str]) -> Iterator[list[Item]]:
        for page in super()._items(query):
            yield [one for one in page if not persons.is_main(one)]

    @cached_property
    def _type(self) -> str:
        found = persons.fitting_type(_all(self._api, "/contact_person_types", {}))
        if not found:
            raise Rejected({"code": "refused"}, {"message": "Sage has no type of contact persons"})
        return found


class Products(Records):
    """The products; services and stock items are none of ours."""

    name = "products"
    asked = products.ASKED

    def __init__(self, api: Api, books: _Books) -> None:
        super().__init__(api)
        self._books = books

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        """See Collection. What is wrong with the fields is said before anything is asked of Sage."""
        products.checked(fields)
        return products.create_body(fields, idempotency_key, self._books.sales_account, self._books.purchase_account)

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        """See Collection."""
        return products.update_body(fields, remote)

    def _record(self, item: Item) -> RemoteRecord:
        return products.remote_product(item, lambda: self._books.rates)

    def _completed(self, answer: Item, body: Item) -> Item:
        return products.completed(answer, body)

    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        return products.refusal(complaints, body)

    def _searches(self, fields: Fields, parent: str) -> Iterator[Search]:
        for name in ("code", "name"):
            if wanted := fields.get(name):
                yield Search({"search": wanted}, {name: wanted})

    def _prepare(self, body: Item) -> None:
        if products.includes_tax(part_of(body, "product")):
            self._books.rates  # noqa: B018 - it is read for what it keeps.


class Orders(Records):
    """The sales quotes, or the sales invoices: Sage knows no origin of either.

    A deleted quote leaves no tombstone, and an invoice stays where it was and is void.
    """

    def __init__(self, api: Api, document: Document, books: _Books) -> None:
        super().__init__(api)
        self._document = document
        self._books = books
        self.name = document.collection
        self.asked = document.asked
        self.asked_of_one = document.asked_of_one
        self.leaves_tombstones = self.tells_deletions = document.is_booked

    def changed(self, since: datetime | None, unchanged: Unchanged = none_is_known) -> Iterator[list[RemoteRecord]]:
        """See Collection."""
        pages_of_all = self._with_lines(objects.changed_since(since), unchanged)
        return prefetch(map(self._understood, pages_of_all), PAGES_AHEAD)

    def deleted(self, since: datetime) -> Iterator[list[Tombstone]]:
        """See Collection. What was made void is found among what has changed."""
        yield from super().deleted(since)
        if self._document.is_booked:
            query = {**objects.changed_since(since), "attributes": "status,updated_at"}
            for items in pages(self._api, f"/{self.name}", query):
                void = [one for one in items if self._document.is_void(one)]
                yield self._each(void, documents.tombstone_of_void)

    def create_body(self, fields: Fields, idempotency_key: str, parent: str = "") -> dict[str, Any]:
        """See Collection."""
        documents.checked(fields)
        account, rates = self._books.sales_account, self._books.rates
        return documents.create_body(self._document, fields, idempotency_key, parent, account, rates)

    def create(self, body: Mapping[str, Any]) -> RemoteRecord:
        """See Collection. What a create sent again finds void is not made anew before a person wants it."""
        try:
            return super().create(body)
        except NotFound as error:
            raise Rejected({"code": "refused"}, error.raw) from error

    def update_body(self, fields: Fields, remote: RemoteRecord) -> dict[str, Any]:
        """See Collection."""
        documents.checked(fields)
        return documents.update_body(self._document, fields, remote, self._books.sales_account, self._books.rates)

    def update(self, sage_id: str, body: Mapping[str, Any]) -> RemoteRecord:
        """See Collection. Sage refuses to change what is void, which is as good as gone."""
        try:
            return super().update(sage_id, body)
        except Rejected:
            if self._document.is_booked:
                self._item(sage_id)
            raise

    def _record(self, item: Item) -> RemoteRecord:
        return documents.remote_order(self._document, item, self._books.rates)

    def _completed(self, answer: Item, body: Item) -> Item:
        self._refuse_void(answer)
        return documents.completed(self._document, answer, body)

    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        return documents.refusal(self._document, complaints, body)

    def _searches(self, fields: Fields, parent: str) -> Iterator[Search]:
        if number := fields.get("number"):
            query = {"search": number, **({"contact_id": parent} if parent else {})}
            yield Search(query, {"number": number})

    def _prepare(self, body: Item) -> None:
        self._books.rates  # noqa: B018 - it is read for what it keeps.

    def _item(self, sage_id: str) -> Item:
        found = super()._item(sage_id)
        self._refuse_void(found)
        return found

    def _items(self, query: Mapping[str, str]) -> Iterator[list[Item]]:
        return self._with_lines(query, none_is_known)

    def _with_lines(self, query: Mapping[str, str], unchanged: Unchanged) -> Iterator[list[Item]]:
        """The documents of the list with what is in their lines, but for those that are `unchanged` or void.

        Whether a list says what is in the lines is not documented. Where it does not, each document is read, and comes as
        a page of its own, so that no page waits for hundreds of calls.
        """
        for page in super()._items(query):
            whole: list[Item] = []
            named: list[Item] = []
            for one in page:
                if not self._document.is_void(one):
                    (whole if documents.has_its_lines(self._document, one) else named).append(one)
            yield whole
            known = unchanged(documents.listed(self._document, named)) if named else ()
            for sage_id in ids_of(*named):
                if sage_id in known:
                    continue
                try:
                    yield [self._item(sage_id)]
                except NotFound:
                    continue  # It was deleted since.

    def _refuse_void(self, item: Item) -> None:
        """Raises NotFound for what is void: it is no document any more."""
        if self._document.is_void(item):
            raise NotFound("it is void", {"message": "it is void in Sage"})


class _Books:
    """What a business books by, asked for once in the life of a connector: tax rates and ledger accounts."""

    def __init__(self, api: Api) -> None:
        self._api = api

    @cached_property
    def rates(self) -> documents.Rates:
        """The tax rates of sales."""
        return documents.rates_of(_all(self._api, "/tax_rates", {"usage": "sales", "attributes": "percentage"}))

    @cached_property
    def sales_account(self) -> str:
        """The account that sales are booked on. Raises Rejected where there is none."""
        return self._account("sales", documents.sales_account_of)

    @cached_property
    def purchase_account(self) -> str:
        """The account that purchases are booked on. Raises Rejected where there is none."""
        return self._account("expenses", products.purchase_account_of)

    def _account(self, visible_in: str, pick: Callable[[Iterable[Item]], str]) -> str:
        attributes = f"ledger_account_type,visible_in_{visible_in},is_control_account"
        asked = {"visible_in": visible_in, "attributes": attributes}
        found = pick(_all(self._api, "/ledger_accounts", asked))
        if not found:
            raise Rejected({"code": "refused"}, {"message": f"Sage has no ledger account for {visible_in}"})
        return found


class _Addresses:
    """Which contact each address belongs to, and which is a contact's main one: asked once in the life of a connector.

    The first never changes, and a connector lives as long as a job.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._contact_of: dict[str, str] = {"": ""}
        self._main_of: dict[str, str] = {}
        self._walked = False

    def walk(self, query: Mapping[str, str]) -> Iterator[str]:
        """The contacts of the addresses in a list, which are known from then on."""
        for address in _all(self._api, "/addresses", {**query, "attributes": "contact"}):
            for address_id in ids_of(address):
                if contact_id := self._learn(address_id, address):
                    yield contact_id

    def prepare(self, address_ids: Collection[str]) -> None:
        """Be ready for `contact_of` of these: where many are not known, all are read, once."""
        unknown = [one for one in address_ids if one not in self._contact_of]
        if len(unknown) > _FEW_ADDRESSES and not self._walked:
            for _ in self.walk({}):
                pass
            self._walked = True

    def main_of(self, contact_id: str) -> str:
        """The main address of a contact. Raises Rejected where the contact, or its address, is gone."""
        if contact_id not in self._main_of:
            try:
                contact = self._api.get(path_of("contacts", contact_id), {"attributes": "main_address"})
            except NotFound as error:
                raise Rejected({"code": "company_gone"}, error.raw) from error
            for address_id in ids_of(part_of(contact, "main_address")):
                self._main_of[contact_id] = address_id
                self._contact_of[address_id] = contact_id
        if contact_id not in self._main_of:
            raise Rejected({"code": "refused"}, {"message": "the contact has no main address"})
        return self._main_of[contact_id]

    def contact_of(self, address_id: str) -> str:
        """The contact that an address belongs to, empty where there is none: that of a bank account has none."""
        if address_id not in self._contact_of:
            try:
                self._learn(address_id, self._api.get(path_of("addresses", address_id), {"attributes": "contact"}))
            except NotFound:
                return ""
        return self._contact_of[address_id]

    def _learn(self, address_id: str, address: Item) -> str:
        self._contact_of[address_id] = next(iter(ids_of(part_of(address, "contact"))), "")
        return self._contact_of[address_id]


def businesses(api: Api) -> list[Business]:
    """The businesses that the person who authorised may open. `api` is one without a business of its own."""
    found = _all(api, "/businesses", {"attributes": "name"})
    return [_business(one) for one in found if isinstance(one.get("id"), str)]


def _all(api: Api, path: str, query: Mapping[str, str]) -> Iterator[Item]:
    for page in pages(api, path, query):
        yield from page


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
