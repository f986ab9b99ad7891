"""/_sandbox: what tests and scripts read and switch. No fault strikes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from werkzeug.wrappers import Response as AnyResponse

from workers.sandbox.businesses import LEAD
from workers.sandbox.sandbox import PEOPLES, Sandbox

View = str | Response | AnyResponse | tuple[Any, int]
"""What a view may return."""


def add_admin(app: Flask, sandbox: Sandbox) -> None:
    """Add the routes of /_sandbox."""

    @app.get("/_sandbox/ledger")
    def ledger() -> View:
        return jsonify(sandbox.store.ledger(after=request.args.get("after", 0, type=int)))

    @app.get("/_sandbox/requests")
    def requests() -> View:
        return jsonify(sandbox.requests)

    peoples = f"/_sandbox/<any({', '.join(PEOPLES)}):name>"

    @app.get(peoples)
    def records(name: str) -> View:
        return jsonify(sandbox.all(name, request.args.get("business")))

    @app.post(peoples)
    def create_record(name: str) -> View:
        fields = _fields()
        record = sandbox.create(name, fields.pop("business", LEAD.id), fields)
        return jsonify(sandbox.one(name, record.id)), 201

    @app.get(f"{peoples}/<key>")
    def one_record(name: str, key: str) -> View:
        return jsonify(sandbox.one(name, key))

    @app.post(f"{peoples}/<key>")
    def edit_record(name: str, key: str) -> View:
        sandbox.edit(name, key, _fields())
        return jsonify(sandbox.one(name, key))

    @app.delete(f"{peoples}/<key>")
    def delete_record(name: str, key: str) -> View:
        sandbox.delete(name, key)
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
