"""The paths under /v3.1: who may, which business, then reading and writing as Sage does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import orjson

from workers.sandbox import reference
from workers.sandbox.books import Books, Clock, Shown
from workers.sandbox.businesses import BUSINESSES, BY_ID, LEAD, USER_ID, Business
from workers.sandbox.oauth import OAuth
from workers.sandbox.resources import RESOURCES, SALES_INVOICES, Resource
from workers.sandbox.rules import (
    DEFAULT_PER_PAGE,
    IDEMPOTENCY_ID,
    MOST_PER_PAGE,
    Problem,
    Refused,
    body_hash,
    chosen,
    invalid,
    names_parameter,
    not_found,
    page_of,
    time_parameter,
    whole_parameter,
)
from workers.sandbox.store import Filter, Record, Store, new_id
from workers.sandbox.switches import Switches

PREFIX = "/v3.1/"
# For what orjson, which takes a fifth of the time, does not.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
LONGEST_BODY = 1_000_000
"""Bytes that a body may have."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` has no query; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `headers` do not hold Content-Length."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Api:
    """Answers requests under /v3.1."""

    def __init__(self, store: Store, oauth: OAuth, switches: Callable[[], Switches], clock: Clock, origin: str) -> None:
        """`clock` gives seconds since 1970 as Sage's clock shows them; `origin` is the sandbox's own address."""
        self._store = store
        self._oauth = oauth
        self._switches = switches
        self._clock = clock
        self._origin = origin

    def one_at_a_time(self, request: Request) -> tuple[str, str] | None:
        """What no second request may hold at the same time: business and collection of a POST that Sage numbers."""
        name = request.path.removeprefix(PREFIX).strip("/")
        resource = RESOURCES.get(name)
        if request.method != "POST" or resource is None or not resource.sequential:
            return None
        return request.headers.get("x-business", LEAD.id), name

    def answer(self, request: Request, shift: int = 0) -> Answer:
        """Read or write, and say how it went; never raises for what a client did wrong.

        `shift` moves every page of a list but the first by so many records, for a list that changes under its reader.
        """
        business = request.headers.get("x-business", "")
        try:
            return self._answer(request, shift)
        except Refused as refused:
            return self.refusal(refused, business)

    def refusal(self, refused: Refused, business: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Sage's error answer: an array of entries, or the first alone when the switch says so."""
        entries = [one.as_json() for one in refused.problems]
        value: Any = entries[0] if self._switches().errors == "object" else entries
        known = {"X-Business": business} if business in BY_ID else {}
        return _json(refused.status, value, {**known, **(headers or {})})

    def _answer(self, request: Request, shift: int) -> Answer:
        allowed = self._oauth.allowed(request.headers.get("authorization", ""))
        granted = [one for one in BUSINESSES if one.id in allowed["businesses"]]
        collection, _, key = request.path.removeprefix(PREFIX).strip("/").partition("/")
        if collection in ("businesses", "user"):
            return self._about_user(request, granted, collection, key)
        business = request.headers.get("x-business") or granted[0].id
        if business not in {one.id for one in granted}:
            raise Refused(403, Problem("MultiUserAccessDenied", "You have no access to this business."))
        echo = {"X-Business": business}
        if collection in reference.lists():
            return self._about_list(request, collection, key, echo)
        resource = RESOURCES.get(collection)
        if resource is None or "/" in key:
            raise not_found()
        if request.method == "GET":
            return (
                self._one(request, business, resource, key, echo)
                if key
                else self._many(request, business, resource, shift, echo)
            )
        if request.method not in (("PUT", "DELETE") if key else ("POST",)):
            raise _not_allowed()
        if allowed["scope"] != "full_access":
            raise Refused(403, Problem("AuthorizationFailure", "This access is for reading only."))
        if not key:
            return self._create(request, business, resource, echo)
        record = self._store.get(business, resource.name, key)
        if record is None:
            raise not_found()
        return (
            self._update(request, record, resource, echo)
            if request.method == "PUT"
            else self._delete(request, record, resource, echo)
        )

    # --- reading ------------------------------------------------------------------------------------------------------

    def _one(self, request: Request, business: str, resource: Resource, key: str, echo: dict[str, str]) -> Answer:
        record = self._store.get(business, resource.name, key)
        if record is None:
            raise not_found()
        attributes = names_parameter(request.query, "attributes") or frozenset({"all"})
        nested = names_parameter(request.query, "nested_attributes")
        return _json(200, self._shown().items([record], attributes, nested)[0], echo)

    def _many(self, request: Request, business: str, resource: Resource, shift: int, echo: dict[str, str]) -> Answer:
        query = request.query
        number = whole_parameter(query, "page", 1, 10**9)
        size = whole_parameter(query, "items_per_page", DEFAULT_PER_PAGE, MOST_PER_PAGE)
        narrowed = Filter(
            business,
            resource.name,
            changed_since=time_parameter(query, "updated_or_created_since"),
            deleted_since=time_parameter(query, "deleted_since") if resource.tombstones else None,
            **{name: query.get(name) for name in resource.filters},
        )
        page = page_of(self._store.total(narrowed), number, size)
        offset = max(0, page.offset + (shift if page.number > 1 else 0))
        records = self._store.page(narrowed, offset, page.size)
        nested = names_parameter(query, "nested_attributes") if resource.nested_in_lists else None
        items = self._shown().items(records, names_parameter(query, "attributes"), nested)
        return self._envelope(request, resource.name, self._store.total(narrowed), page.number, page.size, items, echo)

    def _about_list(self, request: Request, collection: str, key: str, echo: dict[str, str]) -> Answer:
        if request.method != "GET":
            raise _not_allowed()
        entries = reference.lists()[collection]
        if key:
            if key not in entries:
                raise not_found()
            return _json(200, reference.in_full(collection, key), echo)
        names = names_parameter(request.query, "attributes")
        items = [
            chosen(reference.in_full(collection, one), names) for one in reference.narrowed(collection, request.query)
        ]
        return self._page_of_all(request, collection, items, echo)

    def _about_user(self, request: Request, granted: list[Business], collection: str, key: str) -> Answer:
        if request.method != "GET":
            raise _not_allowed()
        if collection == "user":
            return _json(
                200,
                {
                    "id": USER_ID,
                    "displayed_as": "Sam Sandbox",
                    "$path": "/user",
                    "first_name": "Sam",
                    "last_name": "Sandbox",
                    "initials": "SS",
                    "email": "sam@sandbox.example",
                    "locale": "en-GB",
                },
            )
        if not key:
            names = names_parameter(request.query, "attributes")
            return self._page_of_all(request, "businesses", [chosen(_business(one), names) for one in granted], {})
        found = granted[0] if key == "lead" else next((one for one in granted if one.id == key), None)
        if found is None:
            raise not_found()
        return _json(200, _business(found))

    def _page_of_all(self, request: Request, collection: str, items: list[Any], echo: dict[str, str]) -> Answer:
        number = whole_parameter(request.query, "page", 1, 10**9)
        size = whole_parameter(request.query, "items_per_page", DEFAULT_PER_PAGE, MOST_PER_PAGE)
        page = page_of(len(items), number, size)
        shown = items[page.offset : page.offset + page.size]
        return self._envelope(request, collection, len(items), page.number, page.size, shown, echo)

    def _envelope(
        self,
        request: Request,
        collection: str,
        total: int,
        number: int,
        size: int,
        items: list[Any],
        echo: dict[str, str],
    ) -> Answer:
        switches = self._switches()
        start = f"{self._origin}{PREFIX}{collection}" if switches.next_link == "absolute" else f"/{collection}"
        others = {name: value for name, value in request.query.items() if name not in ("page", "items_per_page")}

        def link(page: int) -> str:
            return f"{start}?{urlencode({'page': page, 'items_per_page': size, **others})}"

        last = max(1, -(-total // size))
        return _json(
            200,
            {
                "$total": total,
                "$page": number,
                "$next": link(number + 1) if number < last else None,
                "$back": link(number - 1) if number > 1 else None,
                switches.size_key: size,
                "$items": items,
            },
            echo,
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    def _create(self, request: Request, business: str, resource: Resource, echo: dict[str, str]) -> Answer:
        body = _parsed(request, resource)
        inner = dict(body[resource.namespace])
        key = inner.pop("idempotency_id", None)
        digest = body_hash(request.method, request.path, body)
        if key is not None:
            if not isinstance(key, str) or not IDEMPOTENCY_ID.fullmatch(key):
                raise invalid("This field must be 32 hexadecimal digits.", "idempotency_id")
            before = self._store.answer(business, key)
            if before is not None:
                if before[0] != digest:
                    raise invalid("This idempotency id was used with another body.", "idempotency_id")
                return Answer(before[1], before[2], {**_headers(), **echo})
        with self._store.transaction():
            record = self._books(business).create(resource, inner)
            self._store.record_write(record, "create", "api", body)
            answer = self._written(201, record, echo)
            if key is not None:
                self._store.keep_answer(business, key, digest, answer.status, answer.body)
        return answer

    def _update(self, request: Request, record: Record, resource: Resource, echo: dict[str, str]) -> Answer:
        body = _parsed(request, resource)
        inner = {name: value for name, value in body[resource.namespace].items() if name != "idempotency_id"}
        with self._store.transaction():
            changed = self._books(record.business).update(record, resource, inner)
            self._store.record_write(changed, "update", "api", body)
            return self._written(200, changed, echo)

    def _delete(self, request: Request, record: Record, resource: Resource, echo: dict[str, str]) -> Answer:
        """An invoice is made void and given back; everything else is gone."""
        with self._store.transaction():
            if resource is SALES_INVOICES:
                voided = self._books(record.business).void(record, request.query.get("void_reason", ""))
                self._store.record_write(voided, "delete", "api", {})
                return self._written(200, voided, echo)
            self._books(record.business).delete(record)
            self._store.record_write(record, "delete", "api", {})
        return Answer(204, b"", {**_headers(), **echo})

    def _written(self, status: int, record: Record, echo: dict[str, str]) -> Answer:
        return _json(status, self._shown().items([record], frozenset({"all"}), None)[0], echo)

    def _books(self, business: str) -> Books:
        return Books(self._store, business, self._clock, self._switches())

    def _shown(self) -> Shown:
        return Shown(self._store, self._switches(), self._origin)


def _parsed(request: Request, resource: Resource) -> dict[str, Any]:
    """The JSON body with its one namespace. Raises Refused (400, 415 or 422)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, Problem("UnsupportedMediaType", "The body must be application/json."))
    if len(request.body) > LONGEST_BODY:
        raise Refused(400, Problem("InvalidRequest", "The body is too large."))
    try:
        body = json.loads(request.body, parse_float=Decimal)
    except ValueError:
        raise Refused(400, Problem("InvalidRequest", "The body is not valid JSON.")) from None
    if not isinstance(body, dict) or not isinstance(body.get(resource.namespace), dict):
        raise invalid("This field is required.", resource.namespace)
    if len(body) > 1:
        raise invalid(f"The body may hold {resource.namespace} and nothing beside it.")
    return body


def _not_allowed() -> Refused:
    return Refused(405, Problem("MethodNotAllowed", "This method is not allowed here."))


def _business(one: Business) -> dict[str, Any]:
    return {
        "id": one.id,
        "displayed_as": one.name,
        "$path": f"/businesses/{one.id}",
        "name": one.name,
        "country": reference.base("countries", one.country_id),
        "created_at": "2015-01-01T00:00:00Z",
        "updated_at": "2015-01-01T00:00:00Z",
        "subscriptions": [{"name": "Accounting Plus", "active": True}],
    }


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json", "x_request_id": new_id()}


def _json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    try:
        body = orjson.dumps(value)
    except TypeError:
        # A refusal names the field as the client did, which may hold half of a surrogate pair.
        body = _ENCODER.encode(value).encode(errors="replace")
    return Answer(status, body, {**_headers(), **(headers or {})})
