"""What is shown where the network is away: one page that says so, kept by a service worker. No record is ever kept."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template

blueprint = Blueprint("offline", __name__)


@blueprint.get("/sw.js")
def worker() -> Response:
    """The service worker. It stands at the root because it looks after the pages under its own address.

    Browsers compare it with the one that they have; another release names other addresses in it and so is a new one.
    """
    response = make_response(render_template("offline/sw.js"))
    response.mimetype = "text/javascript"
    return response


@blueprint.get("/offline")
def page() -> str:
    """The page that the service worker keeps. It is the same for everybody, so that it tells nothing of anybody."""
    return render_template("offline/page.html")
