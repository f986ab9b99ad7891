"""An open page stays equal to the database, whatever is changed, killed or restarted, and is never loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import BrowserContext, Locator, Page, WebSocketRoute, expect
from redis import Redis
from rq import Queue, Worker
from rq.utils import utcformat
from sqlalchemy import URL, delete

from tests.people import add_person, sign_in
from tests.statuses import give_status
from tests.web_processes import OwnRedis, WebProcesses, own_settings
from webapp.companies.models import Company
from webapp.config import Settings
from webapp.connection.circuit import change_state
from webapp.connection.models import AUTHORISE_AGAIN, CONNECTED, UNREACHABLE, Connection
from webapp.queue import PUSH_QUEUE
from webapp.services import Services
from webapp.status import Reason


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    with OwnRedis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(own_redis: OwnRedis) -> None:
    """What other fixtures ask for: the Redis of this module, as it is."""


@pytest.fixture(scope="module")
def settings(
    database_server: URL, template_database: str, own_redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    with own_settings(database_server, template_database, own_redis.url, tmp_path_factory.mktemp("web")) as made:
        yield made


@pytest.fixture(scope="module")
def web(settings: Settings) -> Iterator[WebProcesses]:
    with WebProcesses(settings) as running:
        yield running


@pytest.fixture
def companies(services: Services) -> Iterator[list[Company]]:
    """Three companies of a connection that works; nothing else is there, and nothing after the test."""
    with services.database.unit_of_work() as work:
        connection = Connection(api_url="http://127.0.0.1:1/v3.1", state=CONNECTED, business_name="Northwind")
        work.session.add(connection)
        work.session.flush()
        made = [
            Company(name=f"Company {number}", connection_id=connection.id, sync_reason=Reason.NEVER_SENT)
            for number in range(3)
        ]
        work.session.add_all(made)
        work.commit()
    yield made
    with services.database.unit_of_work() as work:
        work.session.execute(delete(Company))
        work.session.execute(delete(Connection))
        work.commit()


@pytest.fixture
def signed_in(context: BrowserContext, client: FlaskClient, services: Services, web: WebProcesses) -> Page:
    """A page of somebody who has signed in."""
    assert sign_in(client, add_person(services, email=f"{uuid4().hex}@example.com")).status_code == 303
    name = client.application.config["SESSION_COOKIE_NAME"]
    cookie = client.get_cookie(name)
    assert cookie is not None
    context.add_cookies([{"name": name, "value": cookie.value, "url": web.url}])
    return context.new_page()


@pytest.fixture
def change(services: Services) -> Callable[..., int]:
    """Give a company a new reason, and columns, in a transaction of its own. Returns its new version."""

    def change_one(company: Company, reason: Reason = Reason.IN_STEP, **columns: object) -> int:
        with services.database.unit_of_work() as work:
            record = work.session.get_one(Company, company.id)
            for name, value in columns.items():
                setattr(record, name, value)
            give_status(work, record, reason, {"code": str(reason)})
            work.commit()
            return record.version

    return change_one


def look(page: Page, url: str) -> None:
    """Open an address, and remember this very window."""
    page.goto(url)
    be_live(page)
    page.evaluate("window.neverLoadedAgain = true")


def be_live(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-live", "live")


def never_loaded_again(page: Page) -> bool:
    return bool(page.evaluate("window.neverLoadedAgain === true"))


def row(page: Page, company: Company) -> Locator:
    return page.locator(f'[data-row="{company.key}"]')


def test_a_record_shows_a_change_in_all_its_places(
    signed_in: Page, web: WebProcesses, companies: list[Company], change: Callable[..., int]
) -> None:
    company = companies[0]
    look(signed_in, f"{web.url}/companies/{company.id}")
    at = datetime.now(UTC) - timedelta(minutes=7)
    version = change(company, last_synchronised_at=at, sage_number="ALFKI", city="Łódź", country="PL")
    for view in signed_in.locator(f'[data-key="{company.key}"]').all():
        expect(view).to_have_attribute("data-version", str(version))
    label = signed_in.locator("[data-role=sync-label]")
    expect(label).to_have_attribute("data-status", "synchronised")
    expect(label.locator("[data-mark=label]")).to_have_attribute("data-reason", "in_step")
    expect(label).to_have_text("Synchronised")
    details = signed_in.locator("[data-role=sync-details]")
    expect(details.locator("[data-field=detail]")).to_have_text(
        "Synchronised: the account is correctly synchronised with Sage."
    )
    expect(details.locator("[data-text=sage_number]")).to_have_text("ALFKI")
    time = details.locator("[data-field=last_synchronised_at] time").last
    expect(time).to_have_text("7 min ago")
    assert time.get_attribute("datetime") == at.isoformat()
    assert (time.get_attribute("title") or "").startswith(("Today, ", "Yesterday, "))
    expect(signed_in.locator("[data-value=city]").first).to_have_text("Łódź")
    expect(signed_in.locator("[data-value=country]").first).to_have_text("Poland")
    assert never_loaded_again(signed_in)


def test_a_changed_row_is_marked_for_a_moment_and_told_politely(
    signed_in: Page, web: WebProcesses, companies: list[Company], change: Callable[..., int]
) -> None:
    # The page's clock stands still, and goes on where it is told to.
    signed_in.clock.install()
    look(signed_in, f"{web.url}/companies")
    signed_in.clock.pause_at(datetime.now(UTC) + timedelta(seconds=10))
    region = signed_in.locator("[role=status][data-role=live-summary]")
    first, *others = companies
    version = change(first)
    expect(row(signed_in, first)).to_have_attribute("data-version", str(version))
    signed_in.clock.run_for(100)
    expect(region).to_have_text("1 record changed")
    for company in others:
        version = change(company)
        expect(row(signed_in, company)).to_have_attribute("data-version", str(version))
    marked = signed_in.locator("[data-row][data-changed]")
    expect(marked).to_have_count(3)
    signed_in.clock.run_for(2_000)
    expect(marked).to_have_count(0)
    # The others wait until five seconds have passed since the first was told.
    signed_in.clock.run_for(2_800)
    expect(region).to_have_text("1 record changed")
    signed_in.clock.run_for(200)
    expect(region).to_have_text("2 records changed")


def test_counters_and_the_connection_are_live(
    signed_in: Page, web: WebProcesses, services: Services, companies: list[Company], change: Callable[..., int]
) -> None:
    look(signed_in, f"{web.url}/companies")
    pending = signed_in.locator("[data-role=status-count][data-status=pending] [data-count]")
    expect(pending).to_have_text("0")
    change(companies[0], Reason.QUEUED)
    expect(pending).to_have_text("1")
    waiting = signed_in.locator("[data-role=connection-details] [data-text=waiting]")
    expect(waiting).to_have_text("1")
    with services.database.unit_of_work() as work:
        change_state(work, work.session.get_one(Connection, companies[0].connection_id), UNREACHABLE)
    expect(signed_in.locator("[data-role=connection]")).to_have_text("Sage cannot be reached", use_inner_text=True)
    expect(signed_in.locator("[data-role=connection-banner]")).to_contain_text("Sage cannot be reached since")
    summary = signed_in.locator("[data-role=connection-details] [data-text=summary]")
    expect(summary).to_contain_text("sent to Sage as soon as its connection works")
    expect(row(signed_in, companies[0])).to_have_attribute("data-reason", "waiting_for_sage")
    assert never_loaded_again(signed_in)


def test_that_nobody_works_is_told_in_place_of_connected_and_gone_when_a_worker_is_back(
    signed_in: Page, web: WebProcesses, own_redis: OwnRedis, companies: list[Company]
) -> None:
    with Redis.from_url(own_redis.url) as redis:
        worker = Worker([Queue(PUSH_QUEUE, connection=redis)], connection=redis, name=uuid4().hex)
        worker.register_birth()
        look(signed_in, f"{web.url}/companies")
        indicator = signed_in.locator("[data-role=connection]")
        banner = signed_in.locator("[data-role=stands-still]")
        expect(indicator).to_have_text("Connected", use_inner_text=True, timeout=15_000)
        expect(banner).to_be_hidden()
        redis.hset(worker.key, "last_heartbeat", utcformat(datetime.now(UTC) - timedelta(seconds=31)))
        expect(indicator).to_have_text("Stopped", use_inner_text=True, timeout=15_000)
        expect(banner).to_contain_text("a part of Synclight has stopped")
        expect(banner).to_be_visible()
        indicator.click()
        summary = signed_in.locator("[data-role=connection-details] .facts-summary")
        expect(summary).to_contain_text("once all of Synclight runs again", use_inner_text=True)
        expect(summary).not_to_contain_text("at once, and changes", use_inner_text=True)
        worker.heartbeat()
        expect(indicator).to_have_text("Connected", use_inner_text=True, timeout=15_000)
        expect(banner).to_be_hidden()
        expect(summary).to_contain_text("sent to Sage at once, and changes", use_inner_text=True)
        expect(summary).not_to_contain_text("a worker of Synclight", use_inner_text=True)
        worker.register_death()
    assert never_loaded_again(signed_in)


@pytest.mark.parametrize("state", [UNREACHABLE, AUTHORISE_AGAIN])
def test_what_comes_first_is_the_only_banner(
    signed_in: Page, web: WebProcesses, services: Services, companies: list[Company], state: str
) -> None:
    """No worker runs, and beside that the connection does not work."""
    look(signed_in, f"{web.url}/companies")
    shown = signed_in.locator(".banner:visible")
    expect(shown).to_have_attribute("data-role", "stands-still")
    with services.database.unit_of_work() as work:
        change_state(work, work.session.get_one(Connection, companies[0].connection_id), state)
    own = signed_in.locator("[data-role=connection-banner]")
    expect(own).to_have_attribute("data-state", state)
    expect(own).to_contain_text("since")
    expect(shown).to_have_attribute("data-role", "stands-still")
    signed_in.evaluate("document.body.removeAttribute('data-still')")
    expect(shown).to_have_attribute("data-state", state)


def test_an_older_state_that_comes_late_does_not_replace_a_newer_one(
    signed_in: Page, web: WebProcesses, companies: list[Company], change: Callable[..., int]
) -> None:
    first, second, _ = companies
    sockets: list[WebSocketRoute] = []
    came: list[str] = []

    def between(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            came.append(str(message))
            socket.send(message)

        server.on_message(pass_on)

    signed_in.route_web_socket("**/socket.io/**", between)
    look(signed_in, f"{web.url}/companies")
    older = change(first, Reason.QUEUED)
    expect(row(signed_in, first)).to_have_attribute("data-version", str(older))
    newest = change(first)
    expect(row(signed_in, first)).to_have_attribute("data-version", str(newest))
    [late] = [message for message in came if f'"key":"{first.key}","version":{older},' in message]
    sockets[-1].send(late)
    fence = change(second)
    expect(row(signed_in, second)).to_have_attribute("data-version", str(fence))
    expect(row(signed_in, first)).to_have_attribute("data-version", str(newest))
    expect(row(signed_in, first)).to_have_attribute("data-status", "synchronised")


def test_names_are_text(
    signed_in: Page, web: WebProcesses, companies: list[Company], change: Callable[..., int]
) -> None:
    name = '<img src="x" onerror="window.broken = true"><b>Bold</b>'
    look(signed_in, f"{web.url}/companies")
    change(companies[0], name=name)
    expect(row(signed_in, companies[0]).locator("[data-value=name]")).to_have_text(name)
    assert row(signed_in, companies[0]).locator("[data-value=name] > *").count() == 0
    assert not signed_in.evaluate("window.broken === true")


def test_an_empty_list_fills_itself(
    signed_in: Page, web: WebProcesses, services: Services, change: Callable[..., int]
) -> None:
    look(signed_in, f"{web.url}/companies")
    expect(signed_in.locator("[data-row]")).to_have_count(0)
    with services.database.unit_of_work() as work:
        company = Company(name="The first of all")
        work.session.add(company)
        work.touch(company)
        work.commit()
    expect(row(signed_in, company)).to_be_visible()
    assert never_loaded_again(signed_in)
    with services.database.unit_of_work() as work:
        work.session.execute(delete(Company))
        work.commit()


def test_ages_go_on_by_themselves(
    signed_in: Page, web: WebProcesses, companies: list[Company], change: Callable[..., int]
) -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    change(companies[0], last_synchronised_at=now)
    signed_in.clock.install(time=now)
    look(signed_in, f"{web.url}/companies")
    age = row(signed_in, companies[0]).locator("time")
    expect(age).to_have_text("Just now")
    for forward, text in (("02:30", "2 min ago"), ("03:00:00", "3 h ago"), ("24:00:00", "Yesterday, 12:00")):
        signed_in.clock.fast_forward(forward)
        expect(age).to_have_text(text)
    signed_in.clock.fast_forward("24:00:00")
    expect(age).to_have_text("22 Nov, 12:00")
    expect(age).to_have_attribute("title", "22 Nov, 12:00:00")


def test_a_company_that_was_deleted_stays_dimmed_until_the_list_is_drawn_anew(
    signed_in: Page, web: WebProcesses, services: Services, companies: list[Company]
) -> None:
    look(signed_in, f"{web.url}/companies")
    with services.database.unit_of_work() as work:
        work.session.execute(delete(Company).where(Company.id == companies[0].id))
        work.commit()
    signed_in.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(row(signed_in, companies[0])).to_have_attribute("data-left", "")
    signed_in.locator("[data-role=list-changes]").click()
    expect(row(signed_in, companies[0])).to_have_count(0)


def test_what_happened_while_redis_was_away_is_on_the_page_when_it_is_back(
    signed_in: Page, web: WebProcesses, own_redis: OwnRedis, companies: list[Company], change: Callable[..., int]
) -> None:
    first, second, _ = companies
    look(signed_in, f"{web.url}/companies")
    own_redis.kill()
    missed = change(first)
    own_redis.start()
    expect(row(signed_in, first)).to_have_attribute("data-version", str(missed), timeout=10_000)
    heard = change(second)
    expect(row(signed_in, second)).to_have_attribute("data-version", str(heard), timeout=10_000)
    assert never_loaded_again(signed_in)


def test_what_happened_while_the_web_was_away_is_on_the_page_when_it_is_back(
    signed_in: Page, web: WebProcesses, companies: list[Company], change: Callable[..., int]
) -> None:
    look(signed_in, f"{web.url}/companies")
    # Each state of the link, in order.
    signed_in.evaluate(
        """() => {
            window.links = [];
            new MutationObserver(() => window.links.push(document.body.dataset.live))
                .observe(document.body, { attributeFilter: ["data-live"] });
        }"""
    )
    with web.killed():
        missed = change(companies[0])
    expect(row(signed_in, companies[0])).to_have_attribute("data-version", str(missed))
    be_live(signed_in)
    links: list[Any] = signed_in.evaluate("window.links")
    assert "reconnecting" in links, json.dumps(links)
    assert never_loaded_again(signed_in)
