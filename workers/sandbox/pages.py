"""The consent page of OAuth and the page for people.

The sandbox has no login. What keeps other sites' pages from posting to it is the check of Origin and Sec-Fetch-Site,
which browsers set on every form post; scripts send neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, url_for

from workers.sandbox import reference
from workers.sandbox.admin import View, add_admin
from workers.sandbox.businesses import BUSINESSES, BY_ID, LEAD
from workers.sandbox.documents import DOCUMENTS, number_of
from workers.sandbox.faults import KINDS, Fault, FaultError, Kind
from workers.sandbox.forms import KINDS as KINDS_OF_RECORDS
from workers.sandbox.forms import OF_COLLECTION, changes_of, field_of, form_of, title_of, values_of
from workers.sandbox.forms import Kind as Records
from workers.sandbox.oauth import ConsentError
from workers.sandbox.rules import Refused, page_of
from workers.sandbox.sandbox import Sandbox
from workers.sandbox.store import Filter


def create_pages(sandbox: Sandbox) -> Flask:
    """The Flask application of everything that is not Sage's API."""
    app = Flask(__name__, static_url_path="/static")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _guard(app, sandbox)
    add_admin(app, sandbox)
    _add_consent(app, sandbox)
    _add_pages(app, sandbox)
    return app


def _guard(app: Flask, sandbox: Sandbox) -> None:
    @app.before_request
    def refuse_other_sites() -> None:
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none") or (origin is not None and origin != f"http://{request.host}"):
            abort(403, "Posts from other sites are refused.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.setdefault(
            "Content-Security-Policy",
            _policy("'self'"),
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    @app.errorhandler(Refused)
    def refused(error: Refused) -> View:
        return jsonify([one.as_json() for one in error.problems]), error.status

    @app.errorhandler(FaultError)
    def bad_fault(error: FaultError) -> View:
        return jsonify({"error": str(error)}), 422


def _add_consent(app: Flask, sandbox: Sandbox) -> None:
    @app.route("/oauth2/auth/central", methods=["GET", "POST"])
    def consent() -> View:
        try:
            asked = sandbox.oauth.consent(request.values)
        except ConsentError as error:
            return render_template("refused.html", message=str(error)), 400
        if request.method == "POST":
            if request.form.get("decision") == "deny":
                return redirect(asked.back(error="access_denied"))
            return redirect(sandbox.oauth.approve(asked, request.form.getlist("business")))
        page = app.make_response(render_template("consent.html", asked=request.args, businesses=BUSINESSES, lead=LEAD))
        # Browsers hold the redirect that follows a form's post to form-action as well.
        back = urlsplit(asked.redirect_uri)
        page.headers["Content-Security-Policy"] = _policy(f"'self' {back.scheme}://{back.netloc}")
        return page


# --- the page for people ----------------------------------------------------------------------------------------------

_PER_PAGE = 25
_DONE = {
    **{f"created-{kind.path}": f"The {kind.noun} was added." for kind in KINDS_OF_RECORDS.values()},
    **{f"saved-{kind.path}": f"The {kind.noun} was saved." for kind in KINDS_OF_RECORDS.values()},
    **{f"deleted-{kind.path}": f"The {kind.noun} was deleted." for kind in KINDS_OF_RECORDS.values()},
    "deleted-invoices": "The invoice was made void.",
    "fault-on": "The fault is switched on.",
    "fault-off": "The fault is switched off.",
    "faults-off": "All faults are switched off.",
    "revoked": "Every token was revoked. Sage must be authorised again.",
    "reset": "The sandbox was emptied.",
}


def _add_pages(app: Flask, sandbox: Sandbox) -> None:
    @app.context_processor
    def frame() -> dict[str, Any]:
        return {
            "businesses": BUSINESSES,
            "business": BY_ID.get(request.values.get("business", ""), LEAD),
            "faults_on": [KINDS[kind].title for kind in dict.fromkeys(one.kind for one in sandbox.faults)],
            "done": _DONE.get(request.args.get("done", "")),
        }

    @app.template_filter("moment")
    def moment(text: str) -> str:
        """An ISO 8601 time in UTC as people read it."""
        return datetime.fromisoformat(text).strftime("%-d %b %Y, %H:%M:%S")

    @app.template_filter("cents")
    def cents(amount: str | float) -> str:
        """An amount with two places, or as many as a price has; Sage leaves zeros out."""
        whole, _, decimals = f"{Decimal(amount).normalize():f}".partition(".")
        return f"{whole}.{decimals:0<2}"

    @app.get("/")
    def home() -> View:
        business = BY_ID.get(request.args.get("business", ""), LEAD)
        search = request.args.get("q", "").strip()
        narrowed = Filter(business.id, "contacts", search=search or None)
        total = sandbox.store.total(narrowed)
        page = page_of(total, max(1, request.args.get("page", 1, type=int)), _PER_PAGE)
        kinds: dict[str, list[tuple[Kind, Fault | None]]] = {}
        for kind in KINDS.values():
            fault = next((one for one in sandbox.faults if one.kind == kind.name), None)
            kinds.setdefault(kind.group, []).append((kind, fault))
        return render_template(
            "home.html",
            customers=[
                {**one, "changed_at": _last_change(one)}
                for one in sandbox.in_full(sandbox.store.page(narrowed, page.offset, page.size))
            ],
            total=total,
            page=page,
            search=search,
            groups=kinds,
            ledger=_told(sandbox, sandbox.store.ledger(newest=15)),
        )

    @app.get("/products")
    def products() -> View:
        business = BY_ID.get(request.args.get("business", ""), LEAD)
        search = request.args.get("q", "").strip()
        narrowed = Filter(business.id, "products", search=search or None)
        total = sandbox.store.total(narrowed)
        page = page_of(total, max(1, request.args.get("page", 1, type=int)), _PER_PAGE)
        found = sandbox.in_full(sandbox.store.page(narrowed, page.offset, page.size))
        return render_template(
            "products.html",
            products=[{**one, **values_of(KINDS_OF_RECORDS["products"], one)} for one in found],
            total=total,
            page=page,
            search=search,
        )

    # What belongs to no other record is added on the page of its list.
    listed = "/<any(customers, products):path>"

    @app.get(f"{listed}/new")
    def new(path: str) -> View:
        return _form_page(sandbox, KINDS_OF_RECORDS[path], None, {"country_id": LEAD.country_id, "active": "yes"})

    @app.post(listed)
    def create(path: str) -> View:
        business, kind = request.form.get("business", LEAD.id), KINDS_OF_RECORDS[path]
        try:
            sandbox.create(kind.collection, business, _sent(kind, None))
        except Refused as error:
            return _form_again(sandbox, kind, error, None)
        return redirect(_list_of(kind, business, done=f"created-{path}"))

    one = f"/<any({', '.join(KINDS_OF_RECORDS)}):path>/<key>"

    @app.get(one)
    def record(path: str, key: str) -> View:
        kind = KINDS_OF_RECORDS[path]
        shown = _found(sandbox, kind, key)
        return _form_page(sandbox, kind, shown, values_of(kind, shown))

    @app.post(one)
    def save(path: str, key: str) -> View:
        kind = KINDS_OF_RECORDS[path]
        shown = _found(sandbox, kind, key)
        before = _sent(kind, shown, "was-")
        # Only what the person changed, so that a field changed elsewhere meanwhile is not put back.
        changed = {name: value for name, value in _sent(kind, shown).items() if value != before.get(name)}
        try:
            sandbox.edit(kind.collection, key, changes_of(kind, shown, changed))
        except Refused as error:
            return _form_again(sandbox, kind, error, shown)
        return redirect(_back(kind, shown, f"saved-{path}"))

    @app.post(f"{one}/delete")
    def delete(path: str, key: str) -> View:
        kind = KINDS_OF_RECORDS[path]
        shown = _found(sandbox, kind, key)
        try:
            sandbox.delete(kind.collection, key)
        except Refused as error:
            return _form_page(sandbox, kind, shown, values_of(kind, shown), said={"": error.problems[0].message}), 422
        return redirect(_back(kind, shown, f"deleted-{path}"))

    @app.post("/faults")
    def switch_fault() -> View:
        form = request.form
        kind, business = form.get("kind", ""), form.get("business", LEAD.id)
        if form.get("switch") == "off":
            sandbox.remove_faults(kind=kind or None)
            return redirect(
                url_for("home", business=business, done="fault-off" if kind else "faults-off", _anchor="faults")
            )
        asked: dict[str, Any] = {"kind": kind}
        for name in ("seconds", "by", "times"):
            value = form.get(name, type=float)
            if value is not None:
                asked[name] = int(value) if value == int(value) else value
        sandbox.remove_faults(kind=kind)
        fault = sandbox.add_fault(asked)
        done = "revoked" if fault.kind == "tokens_revoked" else "fault-on"
        return redirect(url_for("home", business=business, done=done, _anchor="faults"))

    @app.post("/reset")
    def empty() -> View:
        sandbox.reset()
        return redirect(url_for("home", done="reset"))

    @app.errorhandler(404)
    def no_page(_: Exception) -> View:
        return render_template("refused.html", title="Not found", message="There is nothing at this address."), 404


def _last_change(shown: dict[str, Any]) -> str:
    """The newest change of a customer, its address or its person: Sage keeps a time for each."""
    parts = (shown, shown["main_address"] or {}, shown["main_contact_person"] or {})
    return max(str(part.get("updated_at", "")) for part in parts)


def _found(sandbox: Sandbox, kind: Records, key: str) -> dict[str, Any]:
    try:
        return sandbox.one(kind.collection, key)
    except Refused:
        abort(404)


def _back(kind: Records, shown: dict[str, Any], done: str) -> str:
    """Where one is after a write: at the customer that it belongs to, or at the list."""
    if "contact_id" in shown:
        return url_for("record", path="customers", key=shown["contact_id"], done=done)
    return _list_of(kind, shown["business"], done=done)


def _list_of(kind: Records, business: str, **more: Any) -> str:
    """The page with the list of products, or that of customers."""
    return url_for("products" if kind.path == "products" else "home", business=business, **more)


def _sent(kind: Records, shown: dict[str, Any] | None, prefix: str = "") -> dict[str, str]:
    """What the form sent, or with "was-" what it showed. Browsers send line ends as CR LF."""
    names = [name for _, fields in form_of(kind, shown) for name, _ in fields]
    sent = request.form
    return {name: sent[prefix + name].replace("\r\n", "\n") for name in names if prefix + name in sent}


def _form_page(
    sandbox: Sandbox,
    kind: Records,
    shown: dict[str, Any] | None,
    values: Mapping[str, Any],
    was: Mapping[str, Any] | None = None,
    said: Mapping[str, str] | None = None,
) -> str:
    """The page of a record: its form, and below a customer's what belongs to it."""
    of_customer = shown["id"] if shown and kind.path == "customers" else None
    return render_template(
        "record.html",
        kind=kind,
        title=title_of(kind, shown),
        form=form_of(kind, shown),
        values=values,
        was=values if was is None else was,
        shown=shown,
        said=said,
        customer=sandbox.one("contacts", shown["contact_id"]) if shown and "contact_id" in shown else None,
        persons=sandbox.of_contact(of_customer, "contact_persons") if of_customer else [],
        documents=[
            (one, sandbox.of_contact(of_customer, name) if of_customer else []) for name, one in DOCUMENTS.items()
        ],
        document=DOCUMENTS.get(kind.collection),
        list_address=_list_of(kind, shown["business"] if shown else request.values.get("business", LEAD.id)),
        countries=_countries(),
    )


def _form_again(sandbox: Sandbox, kind: Records, error: Refused, shown: dict[str, Any] | None) -> View:
    """The form with what was typed and what Sage says about each field."""
    said = {field_of(one.source): one.message for one in error.problems}
    return _form_page(sandbox, kind, shown, _sent(kind, shown), _sent(kind, shown, "was-"), said), 422


def _countries() -> list[tuple[str, str]]:
    return list(reference.lists()["countries"].items())


_OTHERS = {"addresses": "Address"}
_VERBS = {"create": "created", "update": "changed", "delete": "deleted"}


def _told(sandbox: Sandbox, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of the ledger, newest first, with the words and the name that the page shows."""
    known = sandbox.store.many(entry["id"] for entry in entries)
    told = []
    for entry in reversed(entries):
        record, kind = known.get(entry["id"]), OF_COLLECTION.get(entry["resource"])
        state = record.state if record else {}
        told.append(
            {
                **entry,
                "verb": _VERBS[entry["operation"]],
                "what": kind.noun.capitalize() if kind else _OTHERS[entry["resource"]],
                "name": number_of(state) or state.get("name") or state.get("description"),
                "path": kind.path if kind and record and record.deleted_at is None else None,
            }
        )
    return told


def _policy(forms_to: str) -> str:
    """The content security policy: own styles and images, no scripts, forms to `forms_to`."""
    return (
        f"default-src 'none'; style-src 'self'; img-src 'self'; form-action {forms_to}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
