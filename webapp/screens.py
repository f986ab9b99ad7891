"""What the screens of all modules show alike: the list, the page of a record, and the form to make or edit one.

Each function gives what the templates under templates/records need; a module adds what is its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlencode

from flask import Response, flash, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from sqlalchemy.orm import Session

from webapp.connection.models import Connection
from webapp.connection.products import PRODUCTS
from webapp.contacts.models import Contact
from webapp.filters.saved import filters_of
from webapp.forms import Difference, Field, Form, Groups, by_name
from webapp.highlighted.models import highlighted_fields
from webapp.languages import LANGUAGES, listed, speak
from webapp.languages import gettext as _
from webapp.listing.counts import count_texts
from webapp.listing.pages import Page
from webapp.listing.query import ListQuery, status_choices
from webapp.live.protocol import shown
from webapp.live.states import read_states
from webapp.modules import COMPANIES, Module
from webapp.services import services
from webapp.status import STATUS_OF, Reason, variant
from webapp.sync.conflicts import lost_values, open_conflicts
from webapp.sync.details import FIELD_NAMES, brief, day, field_name, sentence
from webapp.sync.duplicates import COMPARED, candidates
from webapp.sync.history import event_sentence
from webapp.sync.models import Synced
from webapp.sync.queries import MOST_COUNTED, PageContext, history, place_in_queue, read_page_context
from webapp.users.access import signed_in_user
from webapp.zone import Reader, current_reader

# Changes of the status that a record's page tells; all of them, up to a number that a page can carry, when asked.
_LATEST = 8
_ALL = 500

# A record waits for its company, or stays out with it.
_UP_TO_ITS_COMPANY = ("waiting_for_parent", "excluded_with_company")


class SyncedRow(Protocol):
    """What a row of any list has."""

    @property
    def id(self) -> int: ...
    @property
    def sync_version(self) -> int: ...
    @property
    def sync_reason(self) -> str: ...
    @property
    def sync_detail(self) -> dict[str, Any]: ...
    @property
    def last_synchronised_at(self) -> datetime | None: ...


def live_row(module: Module, row: SyncedRow, reader: Reader) -> dict[str, Any]:
    """A row's status with its texts and attributes.

    They are made here and not in the template, which would take most of the page's time. What the attributes hold is
    ours: numbers, and words of webapp.status and webapp.modules.
    """
    at, reason = row.last_synchronised_at, Reason(row.sync_reason)
    key = f"{module.noun}:{row.id:d}"
    state = f'data-status="{STATUS_OF[reason]}" data-reason="{reason}"'
    return {
        "state": Markup(state),  # noqa: S704
        "live": Markup(f'data-row="{key}" data-key="{key}" data-version="{row.sync_version:d}" {state}'),  # noqa: S704
        "href": Markup(f"/{module.name}/{row.id:d}"),  # noqa: S704
        "variant": variant(reason),
        "brief": brief(row.sync_detail, reader.zone, reader.now),
        "at": at.astimezone(UTC).isoformat() if at else "",
        "age": reader.age(at),
    }


def list_screen(module: Module, query: ListQuery, page: Page[Any], around: PageContext) -> dict[str, Any]:
    """What the page of a module shows, but for its rows and its own filters."""

    return {
        "module": module,
        "query": query,
        "page": page,
        "around": around,
        "statuses": status_choices(),
        "matching": _matching(query, around.module["counts"], page),
        "address": partial(list_address, module),
        "saved": filters_of(signed_in_user().saved_filters, module),
        "synced_days": [day(date.fromisoformat(one)) if one else "" for one in (query.synced_from, query.synced_to)],
        "own_query": urlencode(query.changed().pairs()),
    }


def canonical_address(query: ListQuery, module: Module) -> str | None:
    """The address of a list as every reader understands it, where a range was typed in one reader's way; else None.

    1,250 is more than a thousand to one and less than two to another: an address may be sent to either.
    """
    ends = [name for one in query.RANGES for name in (one.first, one.last)]
    is_plain = all(request.args.get(name, "") in ("", getattr(query, name)) for name in ends)
    return None if is_plain or query.problems else list_address(module, query)


def list_address(module: Module, query: ListQuery) -> str:
    """The address of a list that shows this."""
    pairs = query.pairs()
    return f"/{module.name}" + (f"?{urlencode(pairs)}" if pairs else "")


def counts_answer(
    counters: Mapping[tuple[int, str], int], bounded: Mapping[str, int], exact: Mapping[str, int] = MappingProxyType({})
) -> Response:
    """How many records each choice of a list's filters has, as a browser shows it beside the choice: {"owner:3": "17"}.

    `counters` are the module's; what they tell is told in full.
    """
    connections: dict[str, int] = defaultdict(int)
    for (connection, _status), n in counters.items():
        connections[f"connection:{connection}"] += n
    return jsonify(count_texts(bounded, {**connections, **exact}))


def _matching(query: ListQuery, counts: Mapping[str, int], page: Page[Any]) -> int | None:
    """How many records the query has, None where only counting them all would tell."""
    if query.counts_by_status:
        return sum(n for status, n in counts.items() if not query.statuses or status in query.statuses)
    if page.matching is None and query.cursor is None and page.next is None:
        return len(page.rows)
    return page.matching


def record_screen(
    session: Session, module: Module, record: Synced, editable: Collection[str], company: Any = None
) -> dict[str, Any]:
    """What the page of a record shows of its synchronisation: its state, what to do about it, and its history.

    `editable` are the fields of its form. `company` is the company that a contact or an order belongs to.
    """
    reader = current_reader()
    limit = _ALL if request.args.get("history") == "all" else _LATEST
    events = history(session, record, limit + 1)
    return {
        "module": module,
        "record": record,
        "highlighted": highlighted_fields(session, module),
        "state": shown(read_states(session, [record.key])[record.key], reader.zone, reader.now),
        "around": read_page_context(session, record.module, reader, record.connection_id),
        "events": [
            (event, event_sentence(event, who, reader, before))
            for (event, who), before in zip(events[:limit], [*(one for one, _who in events[1:]), None], strict=False)
        ],
        "has_more": len(events) > limit,
        "remedy": _remedy(module, record, editable, company),
        "sage_page": _sage_page(session, record, company),
        "conflicts": open_conflicts(session, record) if record.sync_reason == Reason.CONFLICT else (),
        "ahead": place_in_queue(session, record),
        "most_ahead": MOST_COUNTED,
        "lost": lost_values(session, record),
        "doubtful": candidates(session, record),
        "compared": COMPARED[type(record)],
        "raw": record.sync_detail.get("raw") if signed_in_user().is_admin else None,
    }


def _sage_page(session: Session, record: Synced, company: Any) -> str:
    """Where people see a record in Sage, empty where it is not there. A person stands on the page of the customer."""
    connection = session.get(Connection, record.connection_id) if record.connection_id else None
    if connection is None or record.sage_id is None or record.sync_reason == Reason.DELETED_IN_SAGE:
        return ""
    address = company.sage_page if isinstance(record, Contact) else record.sage_page
    return PRODUCTS[connection.product].page_of(address or "", services().settings)


def _remedy(module: Module, record: Synced, editable: Collection[str], company: Any) -> dict[str, str] | None:
    """Where a person who can mend the status goes: to a field of the form, or to the company that it waits for."""
    field, code = record.sync_detail.get("field", ""), record.sync_detail.get("code")
    if company is not None and code in _UP_TO_ITS_COMPANY:
        href = url_for(f"{COMPANIES.name}.record_page", record_id=company.id)
        return {"role": "parent", "words": _("Open %(name)s", name=company.name), "href": href}
    if code == "excluded":
        words, field = _("Change the type"), "type"
    elif record.sync_status == "review" and field in editable:
        named = field_name(field)
        words = _("Add %(field)s", field=named) if code == "missing" else _("Correct %(field)s", field=named)
    else:
        return None
    href = url_for(f"{module.name}.edit_page", record_id=record.id, focus=field)
    return {"role": "remedy", "words": words, "href": href}


def form_page(
    module: Module,
    record: Any | None,
    groups: Groups,
    typed: Mapping[str, str],
    choices: Mapping[str, Sequence[tuple[str, str]]],
    *,
    stored: Mapping[str, str],
    before: Mapping[str, str] | None = None,
    form: Form | None = None,
    both: Sequence[Difference] = (),
    added: bool = False,
    once: str = "",
    fixed: Mapping[str, str] | None = None,
    **own: Any,
) -> ResponseReturnValue:
    """The page of a form: empty, or as it was typed with what is wrong in it (422), or with what to choose (409).

    `record` is None for a new one. `stored` is what its fields are, `before` what they were when the person opened the
    form, if that was something else. With `added`, the same form added the record before, and what is to
    be chosen was typed since. `choices` has for each field that is chosen the values with their words, at least of those
    that the form holds. `fixed` are fields that cannot be changed, each with the sentence that says why. `?focus=country`
    begins at that field. `own` is what the module's template needs; where a field is a company, `finder` is what its
    search has found (webapp.companies.queries.search_companies).
    """
    errors = form.errors if form else {}
    page = render_template(
        f"{module.name}/form.html",
        module=module,
        record=record,
        groups=groups,
        fields=by_name(groups),
        typed=typed,
        choices=choices,
        stored=stored,
        before=form.before if form and errors else stored if before is None else before,
        errors=errors,
        differences={one.name: one for one in both},
        added=added,
        once=form.once if form else once,
        fixed=fixed or {},
        focus=request.args.get("focus", ""),
        **own,
    )
    return page, 422 if errors else 409 if both else 200


def say_what_follows(record: Synced, at_once: str, done: str = "") -> None:
    """Tell who had a record sent what happens: `at_once` where that does, else what is `done` and what it waits for."""
    if record.sync_reason == Reason.QUEUED:
        flash(at_once, "ok")
        return
    reader = current_reader()
    flash(f"{done} {sentence(record.kind, record.sync_detail, reader.zone, reader.now)}".lstrip(), "info")


def is_only_redrawn() -> bool:
    """Whether a form was sent to be drawn anew as it was typed, and not to be saved."""
    return "again" in request.form


def speak_as_typed() -> None:
    """Read a form, and answer it, in the language in which it was drawn: 1.234 is another number in another language.

    Its person may have chosen another one meanwhile, in another tab or by signing in again.
    """
    drawn_in = request.form.get("drawn_in", "")
    if drawn_in in LANGUAGES:
        speak(drawn_in)


def is_as_shown(record: Synced) -> bool:
    """Whether a record is what it was when the page was drawn whose form was sent; the form says so as `version`."""
    version = str(record.sync_version)
    return request.form.get("version", version) == version


def saved_sentence(theirs: Sequence[str], fields: Mapping[str, Field]) -> str:
    """What is said after a save; `theirs` are the fields that others changed meanwhile."""
    if not theirs:
        return _("Saved.")
    names = listed([field_name(name) if name in FIELD_NAMES else _(fields[name].label).lower() for name in theirs])
    return _("Saved. Meanwhile somebody else changed %(fields)s; that was kept.", fields=names)


def texts(record: Any, names: Collection[str]) -> dict[str, str]:
    """The fields of a record as a form holds them."""
    return {name: "" if (value := getattr(record, name)) is None else str(value) for name in names}
