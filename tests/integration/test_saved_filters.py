"""A person's saved filters, over requests: theirs alone, and nothing of them is lost by accident."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape
from werkzeug.test import TestResponse

from tests.people import post, sign_in
from webapp.services import Services
from webapp.users.models import User


def saved(services: Services, user: User) -> dict[str, dict[str, str]]:
    with services.database.unit_of_work() as work:
        return work.session.get_one(User, user.id).saved_filters


def save(
    client: FlaskClient, name: str, query: str = "/companies?status=review&country=DE", **also: str
) -> TestResponse:
    return post(client, "/companies/filters", {"name": name, "query": query, **also})


def test_several_values_and_ranges_are_saved_and_shown_again(
    browser_of_sam: FlaskClient, services: Services, sam: User
) -> None:
    query = f"owner=none&owner={sam.id}&ordered_from=2026-01-01&total_from=12.50&total_to=99"
    answer = post(browser_of_sam, "/orders/filters", {"name": "Ours", "query": f"/orders?{query}&after=W10"})
    assert (answer.status_code, answer.location) == (303, f"/orders?{query}")
    page = browser_of_sam.get(answer.location).text
    for part in (
        f'value="{sam.id}" checked',
        'value="none" checked',
        'value="12.50"',
        'value="99"',
        "12.50",
        "2026-01-01",
    ):
        assert part in page


def test_a_filter_is_saved_and_stands_in_the_menu(browser_of_sam: FlaskClient, services: Services, sam: User) -> None:
    answer = save(browser_of_sam, "German <reds>")
    assert (answer.status_code, answer.location) == (303, "/companies?status=review&country=DE")
    assert saved(services, sam) == {"companies": {"German <reds>": "status=review&country=DE"}}
    page = browser_of_sam.get("/companies").text
    assert str(escape("German <reds>")) in page
    assert "German <reds>" not in page
    assert 'href="/companies?status=review&amp;country=DE"' in page
    # Each module has its own.
    assert "German" not in browser_of_sam.get("/contacts").text


def test_filters_stand_in_the_order_of_their_names(browser_of_sam: FlaskClient) -> None:
    for name in ("Zinc", "a longer name", "Amber", "my own"):
        save(browser_of_sam, name, f"q={name}")
    for path in ("/companies", "/companies/filters"):
        page = browser_of_sam.get(path).text
        places = [page.index(f">{name}<") for name in ("a longer name", "Amber", "my own", "Zinc")]
        assert places == sorted(places), path


def test_needs_attention_is_there_from_the_beginning(browser_of_sam: FlaskClient) -> None:
    for module in ("companies", "contacts", "products", "orders"):
        assert f'href="/{module}?status=review" data-role="needs-attention"' in browser_of_sam.get(f"/{module}").text


@pytest.mark.parametrize("query", ["/companies", "", "after=x"])
def test_nothing_is_not_saved_and_it_is_said(
    browser_of_sam: FlaskClient, services: Services, sam: User, query: str
) -> None:
    answer = save(browser_of_sam, "Everything", query)
    assert answer.status_code == 422
    assert "Set a filter first" in answer.text
    assert saved(services, sam) == {}


def test_a_taken_name_is_replaced_only_on_request(browser_of_sam: FlaskClient, services: Services, sam: User) -> None:
    save(browser_of_sam, "Mine")
    answer = save(browser_of_sam, "mine", "q=ember")
    assert answer.status_code == 422
    assert "Replace it" in answer.text
    assert 'value="q=ember"' in answer.text
    assert saved(services, sam)["companies"] == {"Mine": "status=review&country=DE"}
    assert save(browser_of_sam, "mine", "q=ember", replace="yes").status_code == 303
    assert saved(services, sam)["companies"] == {"Mine": "q=ember"}


def test_a_new_name_that_is_taken_is_still_there_to_be_mended(browser_of_sam: FlaskClient) -> None:
    save(browser_of_sam, "Mine")
    save(browser_of_sam, "Other", "q=ember")
    answer = post(browser_of_sam, "/companies/filters/rename", {"filter": "Other", "name": "MINE"})
    assert answer.status_code == 422
    assert 'name="name" value="MINE"' in answer.text


def test_it_is_renamed_deleted_and_had_back(browser_of_sam: FlaskClient, services: Services, sam: User) -> None:
    save(browser_of_sam, "Mine")
    post(browser_of_sam, "/companies/filters/rename", {"filter": "Mine", "name": "Ours"})
    assert list(saved(services, sam)["companies"]) == ["Ours"]
    assert post(browser_of_sam, "/companies/filters/rename", {"filter": "Gone", "name": "x"}).status_code == 404
    assert post(browser_of_sam, "/companies/filters/delete", {"filter": "Ours"}).status_code == 303
    assert saved(services, sam)["companies"] == {}
    page = browser_of_sam.get("/companies/filters").text
    assert "“Ours” was deleted." in page
    assert 'value="status=review&amp;country=DE"' in page
    # It is offered once.
    assert "was deleted" not in browser_of_sam.get("/companies/filters").text
    # Twice is harmless.
    assert post(browser_of_sam, "/companies/filters/delete", {"filter": "Ours"}).status_code == 303


def test_nobody_sees_those_of_another(
    app: Flask, browser_of_sam: FlaskClient, browser_of_admin: FlaskClient, services: Services, sam: User
) -> None:
    save(browser_of_sam, "Sam's own")
    for path in ("/companies", "/companies/filters"):
        assert "Sam&#39;s own" not in browser_of_admin.get(path).text
    post(browser_of_admin, "/companies/filters/delete", {"filter": "Sam's own"})
    assert list(saved(services, sam)["companies"]) == ["Sam's own"]
    stranger = app.test_client()
    sign_in(stranger, sam)
    assert "Sam&#39;s own" in stranger.get("/companies/filters").text
