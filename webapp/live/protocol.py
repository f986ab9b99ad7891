"""The messages between browser and server: what a `watch` may hold, and a state as the browser gets it.

Pure: a message or a state goes in, a message comes out. docs/live.md describes the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Any

from webapp.companies.countries import country_name
from webapp.companies.forms import TYPE_NAMES
from webapp.connection.products import PRODUCTS
from webapp.connection.sentences import banner, state_text, summary
from webapp.languages import gettext
from webapp.live.states import State
from webapp.numbers import amount_text, price_text
from webapp.orders.phases import step
from webapp.status import STATUS_OF, Reason, mark, variant
from webapp.sync.details import AVAILABILITY, brief, day, sentence

VERSION = 1

# A page shows a hundred rows at most; five hundred leaves room and keeps one message from reading half the database.
MOST_THINGS = 500
_LONGEST_KEY = 40
# What a bigint of PostgreSQL can hold.
_HIGHEST_VERSION = 2**63 - 1


class BadWatch(ValueError):
    """A `watch` that is not one. The text says what is wrong with it."""


def read_watch(message: object) -> dict[str, int]:
    """The keys and versions of a `watch`: {"v": 1, "things": {key: version, ...}}, at most 500 of them.

    A key may be of any kind: one that does not exist is answered as gone. Raises BadWatch.
    """
    if not isinstance(message, dict) or message.get("v") != VERSION:
        raise BadWatch(f"A watch must be an object with v = {VERSION}.")
    things = message.get("things")
    if not isinstance(things, dict):
        raise BadWatch("things must be an object of keys and versions.")
    if len(things) > MOST_THINGS:
        raise BadWatch(f"At most {MOST_THINGS} things can be watched at once, not {len(things)}.")
    for key, version in things.items():
        if len(key) > _LONGEST_KEY:
            raise BadWatch(f"A key has at most {_LONGEST_KEY} characters.")
        # True is an int to Python.
        if type(version) is not int or not 0 <= version <= _HIGHEST_VERSION:
            raise BadWatch("A version must be a whole number from 0.")
    return things


def message(things: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What `changes` carries, and what a `watch` is answered with."""
    return {"v": VERSION, "things": list(things)}


def still(stands_still: bool) -> dict[str, Any]:
    """Whether nobody is there to send to Sage and to read from it: beside the answer to a `watch`, and on its own."""
    return {"v": VERSION, "still": stands_still}


def refusal(error: str) -> dict[str, Any]:
    """The answer to a `watch` that could not be served."""
    return {"v": VERSION, "error": error}


def gone(key: str, version: int) -> dict[str, Any]:
    """The answer for a thing that does not exist, or no longer does."""
    return {"key": key, "version": version, "gone": True}


def shown(state: State, zone: tzinfo, now: datetime) -> dict[str, Any]:
    """A state of webapp.live.states as the browser gets it: with its texts, for a reader in `zone`."""
    match state["key"].partition(":")[0]:
        case "connection":
            return _shown_connection(state, zone, now)
        case "module" | "run":
            return state
        case kind:
            return _shown_record(kind, state, zone, now)


_DAYS = ("ordered_on", "valid_until")


def _shown_record(kind: str, state: State, zone: tzinfo, now: datetime) -> dict[str, Any]:
    reason = Reason(state["reason"])
    return {
        "key": state["key"],
        "version": state["version"],
        "status": STATUS_OF[reason],
        "reason": reason,
        "variant": variant(reason),
        "label": gettext(mark(reason).label),
        "detail": sentence(kind, state["detail"], zone, now),
        "brief": brief(state["detail"], zone, now),
        "at": state["at"],
        "attempt_at": state["attempt_at"],
        # What waits for others, or for the connection, has no time of its own.
        "next_at": state["next_at"] if reason is Reason.RETRYING else None,
        "sage_number": state["sage_number"],
        "values": shown_values(kind, state),
        # As a field for a day holds them.
        "days": {name: state["values"][name] for name in _DAYS if kind == "order"},
    }


def shown_values(kind: str, state: State) -> dict[str, str]:
    """The values of a record as people read them: the names of countries, days such as 4 Jul 1996, amounts with commas."""
    values: dict[str, str] = state["values"]
    match kind:
        case "company":
            type_ = TYPE_NAMES[values["type"]]
            return values | {"country": country_name(values["country"]), "type": gettext(type_)}
        case "product":
            price = Decimal(values["unit_price"])
            words = AVAILABILITY["yes" if values["discontinued"] == "True" else "no"]
            return values | {"unit_price": price_text(price) if price else "", "discontinued": gettext(words)}
        case "order":
            days = {name: day(date.fromisoformat(values[name])) for name in _DAYS}
            amounts = {
                name: amount_text(Decimal(values[name])) for name in ("shipping", "net_total", "tax_total", "total")
            }
            return values | days | amounts | {"step": str(step(values["phase"], Reason(state["reason"])))}
        case _:
            return values


def _shown_connection(state: State, zone: tzinfo, now: datetime) -> dict[str, Any]:
    # A worker of the release before says nothing of others.
    cycle, among = state["cycle_seconds"], state.get("among") or 1
    alike = state.get("alike") or among
    since = datetime.fromisoformat(state["since"])
    return {
        "key": state["key"],
        "version": state["version"],
        "state": state["state"],
        "state_text": state_text(state["state"], alike, among, state["business"]),
        "product": PRODUCTS[state["product"]].name,
        "business": state["business"],
        "at": state["at"],
        "next_at": state["next_at"],
        "waiting": state["waiting"],
        "among": among,
        "summary": summary(state["state"], cycle),
        "banner": banner(
            state["state"],
            since.astimezone(UTC),
            cycle,
            zone,
            now,
            state["business"] if among > 1 else "",
            ended=bool(state["business"]),
        ),
    }
