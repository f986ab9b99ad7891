"""Calls to Sage's API for one business: who we are, which business is meant, and what an answer means.

What an answer means is data: `ANSWERS` for answers, the three `NETWORK` errors for none.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import structlog

from workers.sage.connector import (
    AuthoriseAgain,
    NotFound,
    OutcomeUnknown,
    Rejected,
    SageError,
    Transient,
    Unreachable,
    tidy,
)
from workers.sage.wire import NoAnswer, NotSent, Reply, Wire

log = structlog.get_logger(__name__)


class Call(Enum):
    """What a call does, which decides what its failure means."""

    READ = "GET"
    CREATE = "POST"
    CHANGE = "PUT"


@dataclass(frozen=True)
class Complaint:
    """One entry of an error answer of Sage: $dataCode, $message, $source. Each may be empty."""

    code: str
    message: str
    source: str


class Refused(Rejected):
    """Sage refused a write for what is in it. `complaints` is what it said, for whoever knows the fields."""

    def __init__(self, complaints: Sequence[Complaint], raw: Mapping[str, Any]) -> None:
        super().__init__({"code": "refused"}, raw)
        self.complaints = tuple(complaints)


@dataclass(frozen=True)
class Meaning:
    """A row of the table: an answer with a status from `first` to `last`, and with this `code` if one is given."""

    first: int
    last: int
    read: type[SageError]
    create: type[SageError]
    change: type[SageError]
    code: str | None = None

    def error(self, call: Call) -> type[SageError]:
        """The error for a call of this kind."""
        return {Call.READ: self.read, Call.CREATE: self.create, Call.CHANGE: self.change}[call]


# The first row that fits counts. A 5xx may have been applied (Sage's guide on idempotency), and so may anything that is
# no answer of Sage's API at all: a redirect, a page with status 200.
ANSWERS = (
    Meaning(401, 401, AuthoriseAgain, AuthoriseAgain, AuthoriseAgain),
    Meaning(403, 403, AuthoriseAgain, AuthoriseAgain, AuthoriseAgain, code="MultiUserAccessDenied"),
    # A right that this person lacks in Sage: without reading nothing goes, while a write may be about one record.
    Meaning(403, 403, AuthoriseAgain, Refused, Refused),
    Meaning(404, 404, NotFound, Refused, NotFound),
    Meaning(408, 409, Transient, Transient, Transient),
    Meaning(425, 425, Transient, Transient, Transient),
    Meaning(429, 429, Transient, Transient, Transient),
    Meaning(400, 499, Transient, Refused, Refused),
    Meaning(100, 999, Transient, OutcomeUnknown, OutcomeUnknown),
)
# What was sent and got no whole answer, or one that cannot be read.
NETWORK: Mapping[Call, type[Transient | OutcomeUnknown]] = {
    Call.READ: Transient,
    Call.CREATE: OutcomeUnknown,
    Call.CHANGE: OutcomeUnknown,
}

# Sage names the business in the answer to every path but these.
_WITHOUT_ECHO = ("businesses", "user")

_DECODER = json.JSONDecoder(parse_float=Decimal)

LONGEST_WAIT = 86_400.0
_LONGEST_MESSAGE = 500


class Bearer(Protocol):
    """Where the access token comes from."""

    def access(self) -> str:
        """A token that has not run out. Raises AuthoriseAgain, Transient or Unreachable."""

    def renewed(self, refused: str) -> str:
        """Another token than `refused`, which Sage no longer takes. Raises as `access`."""


class Calls(Protocol):
    """How many calls may be sent: see workers.sage.budget."""

    def turn(self) -> AbstractContextManager[None]:
        """Within it one call is sent. Waits for it; raises Transient."""

    def has_room(self) -> bool:
        """Whether calls are left beyond those that are kept for what people wait for."""


class Uncounted:
    """Any number of calls."""

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def has_room(self) -> bool:
        return True


class Api:
    """Sage's API under one base URL. One thread at a time uses it.

    With a `business_id` each call names it in X-Business, and the answer must name it too, but for answers about
    businesses themselves: after an answer for another one, nothing more is sent. Without one neither is done.
    Each request is sent within a turn of `calls`, and `before_write` is called right before each one that writes; what
    they raise stops the request.
    """

    def __init__(
        self,
        base_url: str,
        bearer: Bearer,
        business_id: str | None,
        before_write: Callable[[], None] = lambda: None,
        wire: Wire | None = None,
        calls: Calls | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._path = urlsplit(self.base_url).path
        self._bearer = bearer
        self.business_id = business_id or ""
        self._before_write = before_write
        self._calls = calls or Uncounted()
        self._wire = wire or Wire(base_url)
        self._other_business = ""

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object at `path`, encoded, such as /contacts.

        Raises NotFound, Transient, Unreachable or AuthoriseAgain.
        """
        return self._call(Call.READ, path, query or {}, None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What Sage made of `body`. Raises Refused, OutcomeUnknown, Transient, Unreachable or AuthoriseAgain."""
        return self._call(Call.CREATE, path, {}, body)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What Sage made of `body`. Raises as `post`, and NotFound."""
        return self._call(Call.CHANGE, path, {}, body)

    def has_room(self) -> bool:
        """Whether calls are left beyond those that are kept for what people wait for."""
        return self._calls.has_room()

    def close(self) -> None:
        """Close the connection to Sage."""
        self._wire.close()

    def _call(self, call: Call, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._other_business:
            raise AuthoriseAgain(f"Sage answered for business {self._other_business}", {})
        target = self._path + path + (f"?{_encoded(*query.items())}" if query else "")
        content = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        token = self._bearer.access()
        reply = self._send(call, path, target, token, content)
        if reply.status == 401:
            # Sage applied nothing, so the same call may be sent again.
            reply = self._send(call, path, target, self._bearer.renewed(token), content)
        return self._understood(call, path, reply)

    def _send(self, call: Call, path: str, target: str, token: str, content: bytes | None) -> Reply:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "synclight"}
        if self.business_id:
            headers["X-Business"] = self.business_id
        if content is not None:
            headers["Content-Type"] = "application/json"
        # A turn may have to be waited for, and whether we may still write is asked after that.
        with self._calls.turn():
            if content is not None:
                self._before_write()
            began = time.perf_counter()
            try:
                reply = self._wire.send(call.value, target, headers, content)
            except NotSent as error:
                log.warning("sage_unreachable", method=call.value, path=path, error=str(error))
                raise Unreachable(str(error)) from error
            except NoAnswer as error:
                log.warning("sage_gave_no_answer", method=call.value, path=path, error=str(error))
                raise NETWORK[call](str(error), {"message": str(error)}) from error
        # Neither the query (it can hold a name or an address) nor a body belongs in a log.
        log.info(
            "sage_call",
            method=call.value,
            path=path,
            status=reply.status,
            request_id=request_id(reply),
            ms=round((time.perf_counter() - began) * 1000, 1),
        )
        return reply

    def _understood(self, call: Call, path: str, reply: Reply) -> dict[str, Any]:
        named = reply.headers.get("x-business", "")
        asked = self.business_id if path.split("/")[1] not in _WITHOUT_ECHO else ""
        if asked and named and named != asked:
            self._other_business = named
            log.error("sage_answered_for_another_business", asked=asked, answered=named)
            raise AuthoriseAgain(f"Sage answered for business {named}", raw_of(reply, ()))
        if not 200 <= reply.status < 300:
            raise failure(call, reply)
        value = parsed(reply.body)
        if isinstance(value, dict) and (named or not asked):
            return value
        text = "Sage's answer does not say for which business it is" if isinstance(value, dict) else "no JSON object"
        log.warning("sage_answer_not_understood", method=call.value, status=reply.status, error=text)
        raise NETWORK[call](text, {**raw_of(reply, ()), "message": text})


@lru_cache(64)
def _encoded(*query: tuple[str, str]) -> str:
    """A query as an address has it. All reads of single records have one of a few."""
    return urlencode(query)


def failure(call: Call, reply: Reply) -> SageError:
    """What an answer that is no success means for a call. Pure."""
    complaints = complaints_of(reply)
    codes = {one.code for one in complaints}
    kind = next(
        row.error(call)
        for row in ANSWERS
        if row.first <= reply.status <= row.last and (row.code is None or row.code in codes)
    )
    raw = raw_of(reply, complaints)
    text = f"{reply.status} {raw.get('code', '')} {raw.get('message', '')}".rstrip()
    if issubclass(kind, Refused):
        return Refused(complaints, raw)
    if issubclass(kind, Transient | OutcomeUnknown):
        return kind(text, raw, retry_after(reply.headers, datetime.now(UTC)))
    return kind(text, raw)


def complaints_of(reply: Reply) -> tuple[Complaint, ...]:
    """The entries of an error answer: Sage sends a list, and in some places one object. Anything else has none."""
    value = parsed(reply.body)
    entries = value if isinstance(value, list) else [value]
    return tuple(
        Complaint(plain(one.get("$dataCode")), plain(one.get("$message")), plain(one.get("$source")))
        for one in entries[:20]
        if isinstance(one, dict)
    )


def raw_of(reply: Reply, complaints: Sequence[Complaint]) -> dict[str, str]:
    """What Sage said, for admins: each a text, absent where Sage said nothing."""
    said = {
        "status": str(reply.status),
        "code": ", ".join(dict.fromkeys(one.code for one in complaints if one.code)),
        "message": "; ".join(one.message for one in complaints if one.message)[:_LONGEST_MESSAGE],
        "source": ", ".join(one.source for one in complaints if one.source)[:_LONGEST_MESSAGE],
        "request_id": request_id(reply),
    }
    return {name: text for name, text in said.items() if text}


def request_id(reply: Reply) -> str:
    """Sage's name of the call, by which Sage's support finds it; empty where it gave none."""
    return plain(reply.headers.get("x_request_id") or reply.headers.get("x-request-id"))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """How many seconds Retry-After asks to wait: it is a number, an HTTP date, or absent. At most a day.

    A date is compared with the answer's own Date, so that a wrong clock on either side does not count.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return min(float(text), LONGEST_WAIT)
    until = _http_date(text)
    if until is None:
        return None
    seconds = (until - (_http_date(headers.get("date", "")) or now)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parsed(body: bytes) -> Any:
    """The JSON value of a body, with Decimal for numbers that have a fraction; None where it is none."""
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        return None


def plain(value: object) -> str:
    """A text from outside as it may be stored, shown and logged: tidied, with an end; empty where it is none."""
    return tidy(value[:_LONGEST_MESSAGE]) if isinstance(value, str) else ""
