"""What makes the app installable, and what it keeps for times without a network."""

from __future__ import annotations

import json
import struct

from flask import Flask
from flask.testing import FlaskClient

from tests.people import sign_in
from webapp.users.models import User


def test_the_page_for_times_without_a_network_tells_nothing_of_anybody(client: FlaskClient, sam: User) -> None:
    stranger = client.get("/offline").text
    sign_in(client, sam)
    assert client.get("/offline").text == stranger
    worker = client.get("/sw.js")
    assert worker.mimetype == "text/javascript"
    assert worker.headers["Cache-Control"] == "no-store"
    assert "/static/" in worker.text
    assert "{{" not in worker.text


def test_the_app_can_be_installed_with_icons_for_every_shape(app: Flask, client: FlaskClient) -> None:
    with app.test_request_context():
        address = app.url_for("static", filename="icons/manifest.webmanifest")
    assert address in client.get("/login").text
    answer = client.get(address)
    assert answer.mimetype == "application/manifest+json"
    manifest = json.loads(answer.text)
    assert (manifest["start_url"], manifest["scope"], manifest["display"]) == ("/companies", "/", "standalone")
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    for icon in manifest["icons"]:
        picture = client.get(address.replace("manifest.webmanifest", icon["src"]))
        assert picture.mimetype == icon["type"], icon
        if icon["type"] == "image/png":
            width, height = struct.unpack(">II", picture.data[16:24])
            assert f"{width}x{height}" == icon["sizes"]
