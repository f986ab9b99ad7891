"""The sandbox over HTTP: tokens, businesses, lists, writes and refusals as Sage has them."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.sandbox_process import REDIRECT_URI, SandboxProcess, local_client
from workers.sandbox.businesses import BUSINESSES, LEAD
from workers.sandbox.reference import account_id

OTHER = BUSINESSES[1]
BASE = {"id", "displayed_as", "$path"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess().start(var=tmp_path_factory.mktemp("sandbox")) as one:
        yield one


@pytest.fixture
def sandbox(running: SandboxProcess) -> SandboxProcess:
    running.reset()
    return running


@pytest.fixture
def sage(sandbox: SandboxProcess) -> Iterator[httpx2.Client]:
    """An authorised client of the lead business."""
    with sandbox.client(LEAD.id) as client:
        yield client


def contact(**fields: Any) -> dict[str, Any]:
    """The body of a POST of a customer in Germany."""
    known = {
        "name": "Alfreds Futterkiste",
        "contact_type_ids": ["CUSTOMER"],
        "main_address": {
            "address_line_1": "Obere Str. 57",
            "city": "Berlin",
            "postal_code": "12209",
            "country_id": "DE",
        },
    }
    return {"contact": {**known, **fields}}


def add(sage: httpx2.Client, **fields: Any) -> dict[str, Any]:
    answer = sage.post("/contacts", json=contact(**fields))
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def refusals(answer: httpx2.Response, status: int = 422) -> dict[str, str]:
    """Source -> message of an error answer, whose shape is checked."""
    assert answer.status_code == status, answer.text
    entries = answer.json()
    assert isinstance(entries, list)
    assert entries
    assert all(entry.keys() == {"$severity", "$dataCode", "$message", "$source"} for entry in entries)
    return {entry["$source"]: entry["$message"] for entry in entries}


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_code_becomes_tokens_as_sage_gives_them(sandbox: SandboxProcess) -> None:
    given = sandbox.authorise(state="back-to-me")
    assert given["code"].startswith("GB/")
    assert (given["country"], given["state"]) == ("GB", "back-to-me")
    tokens = sandbox.connect()
    assert tokens.keys() == {
        "access_token",
        "scope",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_token_expires_in",
        "requested_by_id",
    }
    assert (tokens["scope"], tokens["token_type"]) == ("full_access", "bearer")
    assert (tokens["expires_in"], tokens["refresh_token_expires_in"]) == (300, 2_678_400)
    assert len(tokens["access_token"]) <= 2048


def exchange(sandbox: SandboxProcess, given: dict[str, str], **changes: str) -> httpx2.Response:
    form = {"code": given["code"], "redirect_uri": REDIRECT_URI, "code_verifier": given["verifier"], **changes}
    return sandbox.token(grant_type="authorization_code", **form)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "another-verifier"}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:2/elsewhere"}, "invalid_grant"),
        ({"code": "GB/0000"}, "invalid_grant"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": "somebody-else"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"code": ""}, "invalid_request"),
    ],
)
def test_a_wrong_exchange_gives_no_token(sandbox: SandboxProcess, changes: dict[str, str], error: str) -> None:
    given = sandbox.authorise()
    form = {
        "grant_type": "authorization_code",
        "code": given["code"],
        "redirect_uri": REDIRECT_URI,
        "code_verifier": given["verifier"],
    }
    answer = sandbox.token(**{**form, **changes})
    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_a_code_works_once(sandbox: SandboxProcess) -> None:
    given = sandbox.authorise()
    assert exchange(sandbox, given).status_code == 200
    assert exchange(sandbox, given).json() == {"error": "invalid_grant"}


def test_a_code_that_is_too_old_is_refused(sandbox: SandboxProcess) -> None:
    sandbox.settings(code_seconds=0)
    assert exchange(sandbox, sandbox.authorise()).json() == {"error": "invalid_grant"}


def test_the_token_endpoint_takes_a_form_and_no_json(sandbox: SandboxProcess) -> None:
    answer = sandbox.http.post(f"{sandbox.origin}/token", json={"grant_type": "refresh_token"})
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_request"})


def test_a_refresh_gives_both_tokens_anew_and_the_old_one_dies(sandbox: SandboxProcess) -> None:
    first = sandbox.connect()
    second = sandbox.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert second.status_code == 200
    assert second.json()["access_token"] != first["access_token"]
    again = sandbox.token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})
    third = sandbox.token(grant_type="refresh_token", refresh_token=second.json()["refresh_token"])
    assert third.status_code == 200


def test_of_two_refreshes_at_once_one_wins(sandbox: SandboxProcess) -> None:
    token = sandbox.connect()["refresh_token"]

    def refresh(_: int) -> int:
        form = {"client_id": "synclight-sandbox", "client_secret": "sandbox-secret"}
        answer = httpx2.post(
            f"{sandbox.origin}/token", data={**form, "grant_type": "refresh_token", "refresh_token": token}
        )
        return int(answer.status_code)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(refresh, range(8))) == [200] + [400] * 7


def test_rotation_can_be_lenient(sandbox: SandboxProcess) -> None:
    sandbox.settings(rotation="lenient")
    token = sandbox.connect()["refresh_token"]
    assert sandbox.token(grant_type="refresh_token", refresh_token=token).status_code == 200
    assert sandbox.token(grant_type="refresh_token", refresh_token=token).status_code == 200


def test_a_revoked_connection_cannot_refresh_and_its_access_token_lives_out(sandbox: SandboxProcess) -> None:
    tokens = sandbox.connect()
    form = {"client_id": "synclight-sandbox", "client_secret": "sandbox-secret", "token": tokens["refresh_token"]}
    assert sandbox.http.post(f"{sandbox.origin}/revoke", data=form).json() == {"success": "ok"}
    assert sandbox.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 400
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert sandbox.http.get(f"{sandbox.base_url}/user", headers=headers).status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer nonsense", "Basic abc"])
def test_without_a_valid_token_nothing_is_answered(sandbox: SandboxProcess, header: str) -> None:
    for path in ("/contacts", "/businesses", "/countries/GB", "/nowhere"):
        answer = sandbox.http.get(f"{sandbox.base_url}{path}", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.json()[0]["$dataCode"] == "AuthorizationFailure"


def test_an_access_token_expires(sandbox: SandboxProcess) -> None:
    sandbox.settings(access_token_seconds=0)
    with sandbox.client() as client:
        refusals(client.get("/contacts"), 401)


def test_a_refresh_token_is_no_access_token(sandbox: SandboxProcess) -> None:
    headers = {"Authorization": f"Bearer {sandbox.connect()['refresh_token']}"}
    refusals(sandbox.http.get(f"{sandbox.base_url}/contacts", headers=headers), 401)


def test_a_token_for_reading_writes_nothing(sandbox: SandboxProcess) -> None:
    token = exchange(sandbox, sandbox.authorise(scope="readonly")).json()["access_token"]
    with local_client(base_url=sandbox.base_url, headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/contacts").status_code == 200
        refusals(client.post("/contacts", json=contact()), 403)
    assert sandbox.ledger() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "somebody-else"},
        {"response_type": "token"},
        {"redirect_uri": "javascript:alert(1)"},
        {"code_challenge_method": "plain"},
    ],
)
def test_the_authorise_page_refuses_what_sage_refuses(sandbox: SandboxProcess, changes: dict[str, str]) -> None:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"verifier").digest()).rstrip(b"=").decode()
    form = {
        "response_type": "code",
        "client_id": "synclight-sandbox",
        "redirect_uri": REDIRECT_URI,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **changes,
    }
    for method in ("GET", "POST"):
        options: dict[str, Any] = {"params": form} if method == "GET" else {"data": form}
        answer = sandbox.http.request(method, f"{sandbox.origin}/oauth2/auth/central", **options)
        assert answer.status_code == 400
        assert "location" not in answer.headers


def test_a_person_may_refuse(sandbox: SandboxProcess) -> None:
    given = sandbox.authorise(decision="deny")
    assert given["error"] == "access_denied"
    assert "code" not in given


# --- businesses -------------------------------------------------------------------------------------------------------


def test_there_are_several_businesses_and_the_lead_one_is_northwind(sage: httpx2.Client) -> None:
    listed = sage.get("/businesses").json()
    assert [item["displayed_as"] for item in listed["$items"]] == [one.name for one in BUSINESSES]
    assert len(BUSINESSES) == 4
    lead = sage.get("/businesses/lead").json()
    assert (lead["id"], lead["displayed_as"]) == (LEAD.id, "Northwind Traders Ltd")
    assert sage.get(f"/businesses/{OTHER.id}").json()["subscriptions"][0]["active"] is True
    assert refusals(sage.get("/businesses/0"), 404)
    assert sage.get("/user").json()["email"]


def test_a_new_sandbox_is_empty(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    assert sage.get("/contacts").json() == {
        "$total": 0,
        "$page": 1,
        "$next": None,
        "$back": None,
        "$itemsPerPage": 20,
        "$items": [],
    }
    assert sandbox.contacts() == []
    assert sandbox.ledger() == []


def test_another_business_sees_nothing(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    made = add(sage, reference="ALFKI")
    with sandbox.client(OTHER.id) as other:
        assert other.get("/contacts").json()["$total"] == 0
        refusals(other.get(f"/contacts/{made['id']}"), 404)
        refusals(other.put(f"/contacts/{made['id']}", json={"contact": {"name": "Mine"}}), 404)
        refusals(other.delete(f"/contacts/{made['id']}"), 404)
        refusals(other.get(f"/addresses/{made['main_address']['id']}"), 404)
        body = {
            "contact_person": {
                "address_id": made["main_address"]["id"],
                "name": "X",
                "contact_person_type_ids": ["SALES"],
            }
        }
        assert "address_id" in refusals(other.post("/contact_persons", json=body))
        # The same reference is free there: it is unique in a business, not beyond.
        assert other.post("/contacts", json=contact(reference="ALFKI")).status_code == 201
    assert len(sandbox.contacts(LEAD.id)) == 1
    assert len(sandbox.contacts()) == 2


def test_the_business_is_echoed_and_the_lead_one_is_the_default(sandbox: SandboxProcess) -> None:
    with sandbox.client() as client:
        assert client.get("/contacts").headers["x-business"] == LEAD.id
        answer = client.get("/contacts", headers={"X-Business": OTHER.id})
        assert answer.headers["x-business"] == OTHER.id
        assert answer.headers["x_request_id"]
        assert "x-business" not in client.get("/businesses").headers
        refusals(client.get("/contacts", headers={"X-Business": "0" * 32}), 403)


def test_only_the_businesses_that_were_granted_can_be_reached(sandbox: SandboxProcess) -> None:
    token = exchange(sandbox, sandbox.authorise(business=OTHER.id)).json()["access_token"]
    with local_client(base_url=sandbox.base_url, headers={"Authorization": f"Bearer {token}"}) as client:
        assert [one["id"] for one in client.get("/businesses").json()["$items"]] == [OTHER.id]
        assert client.get("/businesses/lead").json()["id"] == OTHER.id
        refusals(client.get("/contacts", headers={"X-Business": LEAD.id}), 403)


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_walk_sees_every_record_once_and_a_page_past_the_end_repeats_the_last(
    sandbox: SandboxProcess, sage: httpx2.Client
) -> None:
    made = [sandbox.add(name=f"Customer {number:02}")["id"] for number in range(7)]
    seen: list[str] = []
    link: str | None = "/contacts?items_per_page=3"
    while link:
        page = sage.get(link).json()
        assert page["$total"] == 7
        assert page["$itemsPerPage"] == 3
        seen += [item["id"] for item in page["$items"]]
        link = page["$next"]
        assert link is None or link.startswith("/contacts?")
    assert seen == made
    past = sage.get("/contacts?items_per_page=3&page=9").json()
    assert (past["$page"], past["$next"], [item["id"] for item in past["$items"]]) == (3, None, made[6:])
    assert past["$back"].startswith("/contacts?page=2")


def test_next_keeps_the_other_parameters(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    for number in range(3):
        sandbox.add(name=f"Bäcker & Söhne {number}")
    page = sage.get("/contacts", params={"search": "bäcker & s", "attributes": "name", "items_per_page": 1}).json()
    follow = sage.get(page["$next"]).json()
    assert follow["$total"] == 3
    assert follow["$items"][0]["name"] == "Bäcker & Söhne 1"


@pytest.mark.parametrize("query", ["items_per_page=0", "items_per_page=201", "items_per_page=x", "page=0", "page=-1"])
def test_a_page_that_cannot_be_is_refused(sage: httpx2.Client, query: str) -> None:
    assert query.partition("=")[0] in refusals(sage.get(f"/contacts?{query}"))


def test_items_carry_what_was_asked_for(sage: httpx2.Client) -> None:
    add(sage, reference="ALFKI", main_contact_person={"name": "Maria Anders", "email": "maria@alfreds.example"})
    assert sage.get("/contacts").json()["$items"][0].keys() == BASE
    some = sage.get("/contacts?attributes=reference,main_address").json()["$items"][0]
    assert some.keys() == BASE | {"reference", "main_address"}
    assert some["main_address"].keys() == BASE
    nested = sage.get("/contacts?attributes=main_address&nested_attributes=city").json()["$items"][0]
    assert nested["main_address"].keys() == BASE | {"city"}
    full = sage.get("/contacts?attributes=all&nested_attributes=all").json()["$items"][0]
    assert full["main_address"]["country"] == {
        "id": "DE",
        "displayed_as": "Germany (DE)",
        "$path": "/countries/DE",
    }
    assert full["main_contact_person"]["email"] == full["email"] == "maria@alfreds.example"
    assert full["displayed_as"] == "Alfreds Futterkiste (ALFKI)"
    assert (full["balance"], full["contact_types"][0]["id"]) == ("0.0", "CUSTOMER")


def test_search_email_and_type_narrow_the_list(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    first = sandbox.add(name="Ärzte & Co", reference="AERZTE", email="Praxis@Example.com")
    sandbox.add(name="Zebra Ltd", reference="ZEB")
    vendor = add(sage, name="Supplier", contact_type_ids=["VENDOR"])

    def found(**params: str) -> list[str]:
        return [item["id"] for item in sage.get("/contacts", params=params).json()["$items"]]

    assert found(search="ärzte") == [first["id"]]
    assert found(search="aerz") == [first["id"]]
    assert found(search="%") == []
    assert found(email="praxis@example.com") == [first["id"]]
    assert found(email="praxis") == []
    assert found(contact_type_id="VENDOR") == [vendor["id"]]
    assert len(found(contact_type_id="CUSTOMER")) == 2
    assert found(contact_type_id="CUST") == []


def test_since_is_inclusive_for_changes_and_exclusive_for_deletions(
    sandbox: SandboxProcess, sage: httpx2.Client
) -> None:
    kept, gone = sandbox.add(name="Kept"), sandbox.add(name="Gone")
    sandbox.delete(gone["id"])

    def ids(**params: str) -> list[str]:
        return [item["id"] for item in sage.get("/contacts", params=params).json()["$items"]]

    assert kept["updated_at"].endswith("Z")
    assert ids(updated_or_created_since=kept["updated_at"]) == [kept["id"]]
    assert ids(updated_or_created_since=kept["updated_at"].replace("Z", ".500Z")) == []
    tombstone = sage.get("/contacts?deleted_since=2020-01-01&attributes=deleted_at").json()["$items"][0]
    assert (tombstone["id"], tombstone.keys()) == (gone["id"], BASE | {"deleted_at"})
    assert ids(deleted_since=tombstone["deleted_at"]) == []
    assert ids() == [kept["id"]]
    refusals(sage.get(f"/contacts/{gone['id']}"), 404)


@pytest.mark.parametrize("moment", ["yesterday", "2026-11-22T10:00:00", "2026-11-22T10:00:00 01:00", "22/11/2026"])
def test_a_time_without_a_zone_is_refused(sage: httpx2.Client, moment: str) -> None:
    refusals(sage.get("/contacts", params={"updated_or_created_since": moment}))


def test_the_fixed_lists(sage: httpx2.Client) -> None:
    assert sage.get("/countries/GB").json() == {
        "id": "GB",
        "displayed_as": "United Kingdom (GB)",
        "$path": "/countries/GB",
    }
    assert sage.get("/countries").json()["$total"] > 240
    refusals(sage.get("/countries/XX"), 404)
    refusals(sage.post("/countries", json={}), 405)
    for name in ("contact_types", "contact_person_types", "address_types", "currencies"):
        assert sage.get(f"/{name}").json()["$items"][0].keys() == BASE


# --- writes -----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_contact(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    made = add(
        sage,
        reference="ALFKI",
        credit_limit=2000,
        tax_number="DE123",
        main_contact_person={"name": "Maria Anders", "email": "maria@alfreds.example", "telephone": "030"},
    )
    assert (made["credit_limit"], made["tax_number"], made["email"]) == ("2000.0", "DE123", "maria@alfreds.example")
    assert made["main_address"].keys() == BASE
    path = f"/contacts/{made['id']}"
    change = {"name": "Alfreds", "main_address": {"city": "Potsdam"}, "main_contact_person": {"email": "m@a.example"}}
    changed = sage.put(path, json={"contact": change})
    assert changed.status_code == 200
    whole = sage.get(path, params={"nested_attributes": "all"}).json()
    assert (whole["name"], whole["reference"], whole["email"]) == ("Alfreds", "ALFKI", "m@a.example")
    assert (whole["main_address"]["city"], whole["main_address"]["postal_code"]) == ("Potsdam", "12209")
    assert whole["main_contact_person"]["telephone"] == "030"
    assert whole["main_address"]["id"] == made["main_address"]["id"]
    gone = sage.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    refusals(sage.get(path), 404)
    refusals(sage.delete(path), 404)
    for name in ("addresses", "contact_persons"):
        assert sage.get(f"/{name}").json()["$total"] == 0
        assert sage.get(f"/{name}?deleted_since=2020-01-01").json()["$total"] == 1
    told = [(line["sequence"], line["resource"], line["operation"], line["by"]) for line in sandbox.ledger()]
    assert told == [
        (1, "contacts", "create", "api"),
        (2, "contacts", "update", "api"),
        (3, "contacts", "delete", "api"),
    ]
    assert sandbox.ledger()[1]["body"] == {"contact": change}
    assert sandbox.ledger()[1]["business"] == LEAD.id


def test_addresses_and_persons_hang_on_a_contact(sage: httpx2.Client) -> None:
    made = add(sage)
    where = {"address_type_id": "DELIVERY", "name": "Store", "is_main_address": False, "country_id": "FR"}
    address = sage.post("/addresses", json={"address": {**where, "contact_id": made["id"]}})
    assert address.status_code == 201, address.text
    person = {
        "address_id": address.json()["id"],
        "name": "Luc",
        "contact_person_type_ids": ["SALES"],
        "email": "l@x.fr",
    }
    first = sage.post("/contact_persons", json={"contact_person": person})
    assert first.status_code == 201, first.text
    # The first person of a contact is its main one, and its e-mail is the contact's.
    assert first.json()["is_main_contact"] is True
    assert sage.get(f"/contacts/{made['id']}").json()["email"] == "l@x.fr"
    main = {**person, "address_id": made["main_address"]["id"], "email": "main@x.fr", "is_main_contact": True}
    second = sage.post("/contact_persons", json={"contact_person": main}).json()
    assert sage.get(f"/contact_persons/{first.json()['id']}").json()["is_main_contact"] is False
    whole = sage.get(f"/contacts/{made['id']}").json()
    assert (whole["email"], whole["main_contact_person"]["id"]) == ("main@x.fr", second["id"])
    of_contact = sage.get("/contact_persons", params={"contact_id": made["id"]}).json()
    of_address = sage.get("/contact_persons", params={"address_id": address.json()["id"]}).json()
    assert (of_contact["$total"], of_address["$total"]) == (2, 1)
    refusals(sage.delete(f"/addresses/{made['main_address']['id']}"))
    assert sage.delete(f"/addresses/{address.json()['id']}").status_code == 204
    assert sage.get("/contact_persons", params={"contact_id": made["id"]}).json()["$total"] == 1


def test_a_change_of_a_person_moves_its_own_time_and_on_demand_the_contacts(
    sandbox: SandboxProcess, sage: httpx2.Client
) -> None:
    made = add(sage, main_contact_person={"name": "Maria"})
    sandbox.fault("clock_skew", seconds=100)
    person = f"/contact_persons/{made['main_contact_person']['id']}"
    assert sage.put(person, json={"contact_person": {"mobile": "1"}}).json()["updated_at"] > made["updated_at"]
    assert sage.get(f"/contacts/{made['id']}").json()["updated_at"] == made["updated_at"]
    sandbox.settings(touch="contact")
    sage.put(person, json={"contact_person": {"mobile": "2"}})
    assert sage.get(f"/contacts/{made['id']}").json()["updated_at"] > made["updated_at"]


def test_a_put_that_changes_nothing_moves_no_time(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    made = add(sage)
    sandbox.fault("clock_skew", seconds=100)
    assert sage.put(f"/contacts/{made['id']}", json={"contact": {"name": made["name"]}}).json() == made


@pytest.mark.parametrize(
    ("fields", "source", "message"),
    [
        ({"name": None}, "name", "required"),
        ({"name": " "}, "name", "required"),
        ({"name": "x" * 101}, "name", "100"),
        ({"name": 5}, "name", "text"),
        ({"contact_type_ids": []}, "contact_type_ids", "required"),
        ({"contact_type_ids": ["FRIEND"]}, "contact_type_ids", "found"),
        ({"reference": "x" * 11}, "reference", "10"),
        ({"email": "a@b.example"}, "email", "cannot be set"),
        ({"balance": "5.0"}, "balance", "cannot be set"),
        ({"nonsense": 1}, "nonsense", "does not exist"),
        ({"credit_limit": "much"}, "credit_limit", "amount"),
        ({"credit_limit": -1}, "credit_limit", "amount"),
        ({"credit_limit": "1e999999"}, "credit_limit", "amount"),
        ({"credit_days": 366}, "credit_days", "365"),
        ({"credit_terms": "never"}, "credit_terms", "one of"),
        ({"main_address": None}, "main_address.country_id", "This field is required."),
        ({"main_address": {"city": "Berlin"}}, "main_address.country_id", "This field is required."),
        ({"main_address": {"country_id": ""}}, "main_address.country_id", "This field is required."),
        ({"main_address": {"country_id": "XX"}}, "main_address.country_id", "found"),
        ({"main_address": {"country_id": "DE", "postal_code": "x" * 11}}, "main_address.postal_code", "10"),
        ({"main_address": {"country_id": "DE", "city": "x" * 51}}, "main_address.city", "50"),
        ({"main_contact_person": {"email": "nobody"}}, "main_contact_person.email", "e-mail"),
        ({"main_contact_person": "Maria"}, "main_contact_person", "object"),
    ],
)
def test_what_sage_refuses(
    sandbox: SandboxProcess, sage: httpx2.Client, fields: dict[str, Any], source: str, message: str
) -> None:
    said = refusals(sage.post("/contacts", json=contact(**fields)))
    assert said.keys() == {source}
    assert message in said[source]
    assert sandbox.contacts() == []
    assert sandbox.ledger() == []


def test_every_problem_is_named_at_once(sage: httpx2.Client) -> None:
    said = refusals(sage.post("/contacts", json={"contact": {"reference": "x" * 11}}))
    assert said.keys() == {"name", "contact_type_ids", "reference", "main_address.country_id"}


def test_a_reference_is_unique_until_its_holder_is_deleted(sage: httpx2.Client) -> None:
    first, second = add(sage, reference="ALFKI"), add(sage, name="Other", reference="OTHER")
    assert refusals(sage.post("/contacts", json=contact(reference="alfki"))).keys() == {"reference"}
    assert refusals(sage.put(f"/contacts/{second['id']}", json={"contact": {"reference": "ALFKI"}})).keys() == {
        "reference"
    }
    assert sage.put(f"/contacts/{first['id']}", json={"contact": {"reference": "ALFKI"}}).status_code == 200
    sage.delete(f"/contacts/{first['id']}")
    assert sage.put(f"/contacts/{second['id']}", json={"contact": {"reference": "ALFKI"}}).status_code == 200


def test_what_is_no_json_body_is_refused(sage: httpx2.Client) -> None:
    refusals(sage.post("/contacts", content=b"{", headers={"Content-Type": "application/json"}), 400)
    refusals(sage.post("/contacts", content=b"{}", headers={"Content-Type": "text/plain"}), 415)
    refusals(sage.post("/contacts", json={"name": "without its namespace"}))
    refusals(sage.patch("/contacts/1", json=contact()), 405)
    refusals(sage.post("/contacts", json=contact(notes="x" * 1_000_000)), 400)
    # JSON can escape half of a surrogate pair, which no text of a database can hold.
    half = json.dumps(contact(name="\ud83d", **{"\ud83d": 1}))
    refusals(sage.post("/contacts", content=half, headers={"Content-Type": "application/json"}))
    refusals(sage.get("/nowhere"), 404)
    head = sage.head("/contacts")
    assert (head.status_code, head.content) == (405, b"")
    assert sage.get("/contacts").status_code == 200


def test_the_same_idempotency_id_gives_the_same_answer_and_one_record(
    sandbox: SandboxProcess, sage: httpx2.Client
) -> None:
    key = secrets.token_hex(16)
    first = sage.post("/contacts", json=contact(idempotency_id=key))
    sage.put(f"/contacts/{first.json()['id']}", json={"contact": {"name": "Changed since"}})
    again = sage.post("/contacts", json=contact(idempotency_id=key))
    assert (again.status_code, again.json()) == (201, first.json())
    assert len(sandbox.contacts()) == 1
    assert refusals(sage.post("/contacts", json=contact(idempotency_id=key, name="Another"))).keys() == {
        "idempotency_id"
    }
    assert refusals(sage.post("/contacts", json=contact(idempotency_id="short"))).keys() == {"idempotency_id"}
    with sandbox.client(OTHER.id) as other:
        assert other.post("/contacts", json=contact(idempotency_id=key)).json()["id"] != first.json()["id"]


def test_a_refused_request_leaves_its_idempotency_id_free(sage: httpx2.Client) -> None:
    key = secrets.token_hex(16)
    refusals(sage.post("/contacts", json=contact(idempotency_id=key, name="")))
    assert sage.post("/contacts", json=contact(idempotency_id=key)).status_code == 201


def test_a_second_post_while_one_runs_is_refused_but_not_in_another_business(sandbox: SandboxProcess) -> None:
    clients = [sandbox.client(one) for one in (LEAD.id, LEAD.id, OTHER.id)]
    sandbox.fault("latency", {"method": "POST"}, seconds=0.7)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda client: client.post("/contacts", json=contact()), clients))
    assert sorted(answer.status_code for answer in answers[:2]) == [201, 429]
    assert answers[2].status_code == 201
    refusals(next(answer for answer in answers if answer.status_code == 429), 429)
    assert len(sandbox.contacts(LEAD.id)) == 1


# --- where Sage varies ------------------------------------------------------------------------------------------------


def test_the_switches(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    made = add(sage, credit_limit=12.5, main_contact_person={"name": "Maria", "telephone": "030"})
    add(sage)
    path = f"/contacts/{made['id']}"
    sandbox.settings(
        money="number",
        next_link="absolute",
        size_key="$items_per_page",
        nested="full",
        omitted_parts="cleared",
        errors="object",
    )
    page = sage.get("/contacts?items_per_page=1").json()
    assert page["$next"].startswith(f"{sandbox.base_url}/contacts?page=2")
    assert page["$items_per_page"] == 1
    assert sage.get(page["$next"]).json()["$page"] == 2
    whole = sage.get(path).json()
    assert (whole["credit_limit"], whole["main_address"]["city"]) == (12.5, "Berlin")
    assert sage.get("/contacts/0").json()["$dataCode"] == "RecordNotFound"
    sage.put(path, json={"contact": {"name": "Alone"}})
    cleared = sage.get(path).json()
    assert (cleared["main_address"]["city"], cleared["main_address"]["country"]["id"]) == (None, "DE")
    assert cleared["main_contact_person"]["telephone"] is None
    assert sandbox.http.post(f"{sandbox.origin}/_sandbox/settings", json={"money": "gold"}).status_code == 422
    assert sandbox.http.post(f"{sandbox.origin}/_sandbox/settings", json={"nonsense": 1}).status_code == 422


# --- what a person does -----------------------------------------------------------------------------------------------


def test_what_a_person_does_arrives_and_is_told_from_what_the_api_does(
    sandbox: SandboxProcess, sage: httpx2.Client
) -> None:
    made = sandbox.add(name="By hand", reference="HAND", city="Leeds", email="hand@example.com")
    assert made["business"] == LEAD.id
    assert made["main_address"]["country"]["id"] == "GB"
    edited = sandbox.edit(made["id"], city="York", contact_name="Harry", tax_number="GB1")
    assert edited["main_address"]["city"] == "York"
    seen = sage.get(f"/contacts/{made['id']}?nested_attributes=all").json()
    assert (seen["main_address"]["city"], seen["tax_number"]) == ("York", "GB1")
    assert (seen["main_contact_person"]["name"], seen["email"]) == ("Harry", "hand@example.com")
    form = sandbox.http.post(f"{sandbox.origin}/_sandbox/contacts/{made['id']}", data={"name": "By form"})
    assert form.json()["name"] == "By form"
    assert sandbox.edit(made["id"], contact={"main_address": {"city": "Hull"}})["main_address"]["city"] == "Hull"
    sandbox.delete(made["id"])
    assert [line["by"] for line in sandbox.ledger()] == ["person"] * 5
    assert [line["operation"] for line in sandbox.ledger()] == ["create", "update", "update", "update", "delete"]


def test_a_person_is_held_to_the_same_rules(sandbox: SandboxProcess) -> None:
    made = sandbox.add(name="By hand")
    address = f"{sandbox.origin}/_sandbox/contacts"
    assert sandbox.http.post(f"{address}/{made['id']}", json={"country_id": ""}).status_code == 422
    assert sandbox.http.post(f"{address}/{made['id']}", json={"colour": "red"}).status_code == 422
    assert sandbox.http.post(f"{address}/0", json={"name": "x"}).status_code == 404
    assert sandbox.http.post(address, json={"business": "0", "name": "x"}).status_code == 404


def test_other_sites_cannot_reach_the_sandbox(sandbox: SandboxProcess) -> None:
    made = sandbox.add(name="Untouched")
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        for path in (f"/customers/{made['id']}/delete", "/reset", "/faults", "/_sandbox/reset", "/oauth2/auth/central"):
            assert sandbox.http.post(f"{sandbox.origin}{path}", headers=headers).status_code == 403
    rebound = sandbox.http.get(f"{sandbox.origin}/_sandbox/contacts", headers={"Host": "evil.example"})
    assert (rebound.status_code, "Untouched" in rebound.text) == (400, False)
    assert [one["name"] for one in sandbox.contacts()] == ["Untouched"]


# --- persons, quotes, tax rates and ledger accounts -------------------------------------------------------------------

ACCOUNT = account_id(4000)
CHAI = {"description": "Chai", "ledger_account_id": ACCOUNT, "quantity": 3, "unit_price": "18", "discount_amount": 1.5}
TAXED = {**CHAI, "tax_rate_id": "GB_STANDARD", "tax_amount": 10.5}
BOOK = {"description": "A book", "ledger_account_id": ACCOUNT, "quantity": "0.5", "unit_price": 9.99}


def quote(contact_id: str, /, **fields: Any) -> dict[str, Any]:
    """The body of a POST of a quote with one line."""
    known = {"contact_id": contact_id, "date": "1996-07-04", "expiry_date": "1996-08-01", "quote_lines": [TAXED]}
    return {"sales_quote": {**known, **fields}}


def quoted(sage: httpx2.Client, contact_id: str, **fields: Any) -> dict[str, Any]:
    answer = sage.post("/sales_quotes", json=quote(contact_id, **fields))
    assert answer.status_code == 201, answer.text
    return answer.json()  # type: ignore[no-any-return]


def test_the_tax_rates_and_ledger_accounts_of_a_business(sage: httpx2.Client) -> None:
    rates = sage.get("/tax_rates?attributes=percentage").json()["$items"]
    assert {one["id"]: one["percentage"] for one in rates} == {
        "GB_STANDARD": "20.0",
        "GB_LOWER": "5.0",
        "GB_ZERO": "0.0",
        "GB_EXEMPT": "0.0",
        "GB_NO_TAX": "0.0",
    }
    assert sage.get("/tax_rates/GB_LOWER").json()["name"] == "Lower Rate"
    assert sage.get("/ledger_accounts").json()["$items"][0].keys() == BASE
    sales = sage.get("/ledger_accounts?visible_in=sales&attributes=all").json()["$items"]
    assert {one["visible_in_sales"] for one in sales} == {True}
    assert ACCOUNT in {one["id"] for one in sales}
    assert len(sales) < sage.get("/ledger_accounts").json()["$total"]


def test_a_quote_is_added_up_and_money_is_text(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    key = add(sage)["id"]
    shipping = {"shipping_net_amount": 32.38, "shipping_tax_rate_id": "GB_STANDARD"}
    made = quoted(sage, key, **shipping, quote_lines=[TAXED, BOOK], reference="10248")

    assert made["quote_lines"] == [
        {"id": line["id"], "displayed_as": line["displayed_as"]} for line in made["quote_lines"]
    ]
    read = sage.get(f"/sales_quotes/{made['id']}?nested_attributes=all").json()
    wanted = {
        "quote_number": "SQ-1",
        "contact_name": "Alfreds Futterkiste",
        "shipping_tax_amount": "6.48",
        "shipping_total_amount": "38.86",
        # 3 x 18 - 1.50, and half of 9.99, which is 5.00.
        "net_amount": "89.88",
        "tax_amount": "16.98",
        "total_amount": "106.86",
        "total_quantity": "3.5",
        "total_discount_amount": "1.5",
        "status": {"id": "DRAFT", "displayed_as": "Draft"},
    }
    assert {name: read[name] for name in wanted} == wanted
    assert read["contact"]["id"] == key
    lines = [(one["net_amount"], one["tax_amount"], one["total_amount"]) for one in read["quote_lines"]]
    assert lines == [("52.5", "10.5", "63.0"), ("5.0", "0.0", "5.0")]
    assert "deleted_at" not in read
    sandbox.settings(money="number")
    assert sage.get(f"/sales_quotes/{made['id']}").json()["total_amount"] == 106.86


@pytest.mark.parametrize(
    ("fields", "source"),
    [
        ({"quote_lines": []}, "quote_lines"),
        ({"quote_lines": ["Chai"]}, "quote_lines"),
        ({"quote_lines": [{**TAXED, "tax_amount": None}]}, "quote_lines.tax_amount"),
        ({"quote_lines": [{**BOOK, "tax_rate_id": "GB_LOWER"}]}, "quote_lines.tax_amount"),
        ({"quote_lines": [{**BOOK, "ledger_account_id": "0"}]}, "quote_lines.ledger_account_id"),
        ({"quote_lines": [{**BOOK, "quantity": None}]}, "quote_lines.quantity"),
        ({"quote_lines": [{**BOOK, "unit_price": "a lot"}]}, "quote_lines.unit_price"),
        ({"quote_lines": [{**BOOK, "discount_amount": 10}]}, "quote_lines.discount_amount"),
        ({"quote_lines": [{**BOOK, "colour": "red"}]}, "quote_lines.colour"),
        ({"date": "4 July"}, "date"),
        ({"date": "1996-07-32"}, "date"),
        ({"date": None}, "date"),
        ({"expiry_date": "1996-07-03"}, "expiry_date"),
        ({"reference": "x" * 26}, "reference"),
        ({"notes": "x" * 2001}, "notes"),
        ({"shipping_net_amount": 1}, "shipping_tax_rate_id"),
        ({"contact_id": "0" * 32}, "contact_id"),
        ({"total_amount": 1}, "total_amount"),
    ],
)
def test_what_sage_refuses_of_a_quote(
    sandbox: SandboxProcess, sage: httpx2.Client, fields: dict[str, Any], source: str
) -> None:
    key = add(sage)["id"]
    assert refusals(sage.post("/sales_quotes", json=quote(key, **fields))).keys() == {source}
    assert sandbox.records("sales_quotes") == []


@pytest.mark.parametrize("rate", ["GB_ZERO", "GB_EXEMPT", "GB_NO_TAX", None])
def test_a_line_without_tax_needs_no_amount_of_it_and_has_none(sage: httpx2.Client, rate: str | None) -> None:
    for sent in ({}, {"tax_amount": 5}):
        made = quoted(sage, add(sage)["id"], quote_lines=[{**BOOK, "tax_rate_id": rate, **sent}])
        assert (made["tax_amount"], made["total_amount"]) == ("0.0", "5.0")


def test_only_customers_that_can_be_recognised_get_quotes(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    vendor = add(sage, contact_type_ids=["VENDOR"])["id"]
    hidden = add(sage)["id"]
    sandbox.edit(hidden, gdpr_obfuscated=True)
    assert sage.get(f"/contacts/{hidden}").json()["gdpr_obfuscated"] is True
    made = quoted(sage, add(sage)["id"])
    for key in (vendor, hidden):
        assert refusals(sage.post("/sales_quotes", json=quote(key))).keys() == {"contact_id"}
        moved = {"sales_quote": {"contact_id": key}}
        assert refusals(sage.put(f"/sales_quotes/{made['id']}", json=moved)).keys() == {"contact_id"}


def test_the_life_of_a_quote(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    key = add(sage)["id"]
    path = f"/sales_quotes/{quoted(sage, key, notes='Soon', reference='A')['id']}?nested_attributes=all"
    before = sage.get(path).json()
    sandbox.fault("clock_skew", seconds=60)

    assert sage.put(path, json={"sales_quote": {"quote_lines": [TAXED], "notes": "Soon"}}).status_code == 200
    assert sage.get(path).json() == before
    assert sage.put(path, json={"sales_quote": {"notes": "", "quote_lines": [BOOK, TAXED]}}).status_code == 200
    after = sage.get(path).json()
    assert (after["notes"], after["reference"], after["total_amount"]) == (None, "A", "68.0")
    assert after["updated_at"] > before["updated_at"]
    assert {line["id"] for line in after["quote_lines"]}.isdisjoint({line["id"] for line in before["quote_lines"]})

    assert sage.delete(path).status_code == 204
    assert (sage.get(path).status_code, sage.delete(path).status_code) == (404, 404)
    # There is no list of deleted quotes: the parameter means nothing.
    assert sage.get("/sales_quotes?deleted_since=2020-01-01T00:00:00Z").json()["$total"] == 0
    written = [(one["resource"], one["operation"]) for one in sandbox.ledger()]
    assert written == [
        ("contacts", "create"),
        *(("sales_quotes", one) for one in ("create", "update", "update", "delete")),
    ]
    assert quoted(sage, key)["quote_number"] == "SQ-2"


def test_quotes_are_narrowed_and_go_with_their_contact(sandbox: SandboxProcess, sage: httpx2.Client) -> None:
    first, second = add(sage)["id"], add(sage, name="Bolero")["id"]
    made = [
        quoted(sage, key, reference=reference)["id"] for key, reference in ((first, "X1"), (first, "x1"), (second, "Y"))
    ]

    def listed(query: str) -> list[str]:
        return [one["id"] for one in sage.get(f"/sales_quotes?{query}").json()["$items"]]

    assert listed(f"contact_id={first}") == made[:2]
    assert listed("search=X1") == made[:2]
    assert listed("search=bolero") == made[2:]
    assert listed("updated_or_created_since=2999-01-01T00:00:00Z") == []
    # A list names the lines of a quote; what is in them only a single read says, or the switch.
    asked = "/sales_quotes?attributes=quote_lines&nested_attributes=all"
    assert "quantity" not in sage.get(asked).json()["$items"][0]["quote_lines"][0]
    sandbox.settings(nested="full")
    assert sage.get(asked).json()["$items"][0]["quote_lines"][0]["quantity"] == "3.0"
    sage.delete(f"/contacts/{first}")
    assert listed("") == made[2:]


def test_quotes_are_posted_one_at_a_time_and_once_for_each_idempotency_id(sandbox: SandboxProcess) -> None:
    with sandbox.client(LEAD.id) as sage:
        body = quote(add(sage)["id"], idempotency_id=secrets.token_hex(16))
        sandbox.fault("latency", {"path": "/v3.1/sales_quotes"}, seconds=1)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: sage.post("/sales_quotes", json=body).status_code, range(2)))
        assert sorted(answers) == [201, 429]
        sandbox.clear_faults()
        again = sage.post("/sales_quotes", json=body)
        assert (again.status_code, len(sandbox.records("sales_quotes"))) == (201, 1)
        other = sage.post("/sales_quotes", json={"sales_quote": {**body["sales_quote"], "notes": "Another"}})
        assert refusals(other).keys() == {"idempotency_id"}


def test_a_person_writes_quotes_and_contact_persons(sandbox: SandboxProcess) -> None:
    key = sandbox.add(name="Alfreds")["id"]
    person = sandbox.add("contact_persons", contact_id=key, name="Ann")
    assert (person["contact_id"], person["is_main_contact"]) == (key, False)
    assert sandbox.edit(person["id"], "contact_persons", email="ann@x.example")["email"] == "ann@x.example"
    lines = [{"description": "Chai", "quantity": 3, "unit_price": "18", "tax_rate_id": "GB_STANDARD"}, BOOK]
    made = sandbox.add("sales_quotes", contact_id=key, quote_lines=lines)
    assert (made["tax_amount"], made["total_amount"]) == ("10.8", "69.8")

    edited = sandbox.edit(made["id"], "sales_quotes", reference="R", quote_lines=[{"quantity": 2.5}, {}])

    assert (edited["reference"], edited["tax_amount"], edited["total_amount"]) == ("R", "9.0", "59.0")
    assert edited["quote_lines"][1] == made["quote_lines"][1]
    assert {one["by"] for one in sandbox.ledger()} == {"person"}
    sandbox.delete(made["id"], "sales_quotes")
    sandbox.delete(person["id"], "contact_persons")
    assert sandbox.records("sales_quotes") == sandbox.records("contact_persons") == []
    wrong = sandbox.http.post(f"{sandbox.origin}/_sandbox/sales_quotes", json={"contact_id": key, "quote_lines": ["x"]})
    assert wrong.status_code == 422
