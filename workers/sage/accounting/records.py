"""The flow that all kinds of records share: one list of Sage, read by pages and written record by record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import structlog

from webapp.prefetch import prefetch
from workers.sage.accounting import objects
from workers.sage.accounting.lists import MOST_PER_PAGE, NotAList, items_of, next_page
from workers.sage.accounting.objects import NotUnderstood
from workers.sage.connector import (
    Fields,
    NotFound,
    OutcomeUnknown,
    Rejected,
    RemoteRecord,
    Tombstone,
    Transient,
    Unchanged,
    none_is_known,
)
from workers.sage.http import Api, Complaint, Refused

log = structlog.get_logger(__name__)

Read = TypeVar("Read")

_MOST_FOUND = 20
# As many as are taken over in one transaction, so that Sage works while the database does.
PAGES_AHEAD = 10
# A page that is not understood yet takes several times as much memory.
RAW_PAGES_AHEAD = 2

Item = Mapping[str, Any]
"""An object of an answer."""


@dataclass(frozen=True)
class Search:
    """One list in which `Collection.find` looks: what it asks for, and what must agree with one of ours.

    `unique` where there is no second one that agrees.
    """

    query: Mapping[str, str]
    wanted: Fields
    unique: bool = False

    def agrees(self, one: RemoteRecord) -> bool:
        """Whether a record is one that is looked for, compared without case."""
        return any(one.fields[name].casefold() == text.strip().casefold() for name, text in self.wanted.items())


class Records(ABC):
    """The records of one list of Sage: what is the same for all kinds. See Collection for what each method promises."""

    name: str
    """The list's, which is its path too."""
    asked: Mapping[str, str]
    """What a list must ask for, and a single read as well if nothing else is said."""
    asked_of_one: Mapping[str, str] | None = None
    leaves_tombstones = True
    tells_deletions = True

    def __init__(self, api: Api) -> None:
        self._api = api
        self.not_understood: set[str] = set()

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
    def _completed(self, answer: Item, body: Item) -> Item:
        """The answer to a write of `body`, with what was sent where Sage leaves something out."""

    @abstractmethod
    def _refusal(self, complaints: Sequence[Complaint], body: Item) -> dict[str, Any]:
        """The detail that tells a person what to mend."""

    @abstractmethod
    def _searches(self, fields: Fields, parent: str) -> Iterator[Search]:
        """Where a record with these fields may be found."""

    @abstractmethod
    def _prepare(self, body: Item) -> None:
        """Ask for what the answer to a write of `body` is understood by.

        It comes before the write: a failure to ask afterwards would say that nothing was written.
        """

    def _items(self, query: Mapping[str, str]) -> Iterator[list[Item]]:
        """The pages of the list with `query`, each entry with all that was asked for."""
        return pages(self._api, f"/{self.name}", {**query, **self.asked})

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, sage_id: str) -> RemoteRecord:
        """See Collection."""
        try:
            return self._record(self._item(sage_id))
        except NotUnderstood as error:
            raise Rejected({"code": "not_understood"}, {"message": str(error)}) from error

    def changed(self, since: datetime | None, unchanged: Unchanged = none_is_known) -> Iterator[list[RemoteRecord]]:
        """See Collection. Pages are fetched while the ones before are in use, so nothing else may be asked then."""
        return prefetch(self._changed(since), PAGES_AHEAD)

    def _changed(self, since: datetime | None) -> Iterator[list[RemoteRecord]]:
        for items in self._items(objects.changed_since(since)):
            yield self._understood(items)

    def deleted(self, since: datetime) -> Iterator[list[Tombstone]]:
        """See Collection."""
        if not self.leaves_tombstones:
            return
        query = {"deleted_since": objects.since(since), "attributes": "deleted_at"}
        for items in pages(self._api, f"/{self.name}", query):
            yield self._each(items, objects.tombstone)

    def find(self, fields: Fields, parent: str = "") -> list[RemoteRecord]:
        """See Collection. Sage's own search finds parts of words; what does not agree as a whole is left out."""
        found: dict[str, RemoteRecord] = {}
        for search in self._searches(fields, parent):
            for one in self._agreeing(search):
                found[one.id] = one
                if len(found) == _MOST_FOUND:
                    return list(found.values())
        return list(found.values())

    def _agreeing(self, search: Search) -> Iterator[RemoteRecord]:
        for items in self._items(search.query):
            for one in self._understood(items):
                if search.agrees(one):
                    yield one
                    if search.unique:
                        return

    def _item(self, sage_id: str) -> Item:
        return self._api.get(path_of(self.name, sage_id), self.asked_of_one or self.asked)

    def _understood(self, items: Iterable[Item]) -> list[RemoteRecord]:
        return self._each(items, self._record)

    def _each(self, items: Iterable[Item], read: Callable[[Item], Read]) -> list[Read]:
        """What `read` makes of each object. One that it does not understand is left out, noted and logged."""
        understood = []
        for item in items:
            try:
                understood.append(read(item))
            except NotUnderstood as error:
                self.not_understood.add(error.id)
                log.warning("sage_record_not_understood", list=self.name, id=error.id, error=str(error))
        return understood

    # --- writing ------------------------------------------------------------------------------------------------------

    def create(self, body: Mapping[str, Any]) -> RemoteRecord:
        """See Collection."""
        self._prepare(body)
        try:
            made = self._api.post(f"/{self.name}", body)
        except Refused as error:
            raise Rejected(self._refusal(error.complaints, body), error.raw) from error
        return self._outcome(made, body)

    def update(self, sage_id: str, body: Mapping[str, Any]) -> RemoteRecord:
        """See Collection."""
        self._prepare(body)
        try:
            changed = self._api.put(path_of(self.name, sage_id), body)
        except Refused as error:
            raise Rejected(self._refusal(error.complaints, body), error.raw) from error
        return self._outcome(changed, body)

    def _outcome(self, answer: Item, body: Item) -> RemoteRecord:
        try:
            return self._record(self._completed(answer, body))
        except NotUnderstood as error:
            # Sage said yes, and the state that this led to is not known.
            raise OutcomeUnknown(str(error), {"message": str(error)}) from error


def path_of(collection: str, key: str) -> str:
    """The path of one object, whatever its id holds."""
    return f"/{collection}/{quote(key, safe='')}"


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
