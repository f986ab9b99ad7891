"""The pages: /_sandbox for tests and scripts, the consent page of OAuth, and the page for people.

The sandbox has no login. What keeps other sites' pages from posting to it is the check of Origin and Sec-Fetch-Site,
which browsers set on every form post; scripts send neither.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from workers.sandbox.businesses import BUSINESSES, LEAD
from workers.sandbox.faults import FaultError
from workers.sandbox.oauth import Consent, ConsentError
from workers.sandbox.rules import Refused
from workers.sandbox.sandbox import Sandbox

View = str | Response | AnyResponse | tuple[Any, int]


def create_pages(sandbox: Sandbox) -> Flask:
    """The Flask application of everything that is not Sage's API."""
    app = Flask(__name__, static_url_path="/static")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _guard(app, sandbox)
    _add_admin(app, sandbox)
    _add_consent(app, sandbox)
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
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
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


def _add_admin(app: Flask, sandbox: Sandbox) -> None:
    @app.get("/_sandbox/ledger")
    def ledger() -> View:
        return jsonify(sandbox.store.ledger(after=request.args.get("after", 0, type=int)))

    @app.get("/_sandbox/contacts")
    def contacts() -> View:
        return jsonify(sandbox.contacts(request.args.get("business")))

    @app.post("/_sandbox/contacts")
    def create_contact() -> View:
        fields = _fields()
        record = sandbox.create_contact(fields.pop("business", LEAD.id), fields)
        return jsonify(sandbox.contact(record.id)), 201

    @app.get("/_sandbox/contacts/<key>")
    def contact(key: str) -> View:
        return jsonify(sandbox.contact(key))

    @app.post("/_sandbox/contacts/<key>")
    def edit_contact(key: str) -> View:
        sandbox.edit_contact(key, _fields())
        return jsonify(sandbox.contact(key))

    @app.delete("/_sandbox/contacts/<key>")
    def delete_contact(key: str) -> View:
        sandbox.delete_contact(key)
        return Response(status=204)

    @app.get("/_sandbox/faults")
    def list_faults() -> View:
        return jsonify([one.as_json() for one in sandbox.faults])

    @app.post("/_sandbox/faults")
    def add_fault() -> View:
        return jsonify(sandbox.add_fault(_fields()).as_json()), 201

    @app.delete("/_sandbox/faults")
    @app.delete("/_sandbox/faults/<key>")
    def remove_faults(key: str | None = None) -> View:
        sandbox.remove_faults(key=key)
        return Response(status=204)

    @app.post("/_sandbox/reset")
    def reset() -> View:
        sandbox.reset()
        return Response(status=204)

    @app.get("/_sandbox/settings")
    def switches() -> View:
        return jsonify(asdict(sandbox.switches))

    @app.post("/_sandbox/settings")
    def change_switches() -> View:
        try:
            sandbox.change_switches(_fields())
        except ValueError as error:
            return jsonify({"error": str(error)}), 422
        return jsonify(asdict(sandbox.switches))

    @app.post("/_sandbox/expire_access_tokens")
    def expire_access_tokens() -> View:
        sandbox.oauth.expire_access_tokens()
        return Response(status=204)


def _fields() -> dict[str, Any]:
    """The fields of a JSON object or of a form. Stops with 400 for anything else."""
    if not request.is_json:
        return request.form.to_dict()
    value = request.get_json()
    if not isinstance(value, dict):
        abort(400, "The body must be a JSON object.")
    return value


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
        page.headers["Content-Security-Policy"] = _consent_policy(asked)
        return page


def _consent_policy(asked: Consent) -> str:
    """The policy of the consent page: browsers hold the redirect after a form's post to form-action as well."""
    back = urlsplit(asked.redirect_uri)
    return (
        f"default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {back.scheme}://{back.netloc}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
