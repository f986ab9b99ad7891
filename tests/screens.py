"""The web app with its data for tests of the screens: web processes in earnest, and no worker.

A status changes when a test says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect
from redis import Redis
from sqlalchemy import URL

from tests.people import PASSWORD, add_admin, sign_in_over_http
from tests.statuses import give_status
from tests.web_processes import WebProcesses, own_settings
from webapp.connection.models import CONNECTED, Connection
from webapp.services import Services
from webapp.status import Reason
from webapp.sync.records import find_record


@dataclass(frozen=True)
class Web:
    """The web app: where it is, and what no person can make happen at will."""

    url: str
    services: Services

    def set_status(self, key: str, reason: Reason, detail: dict[str, Any]) -> int:
        """Give a record a status, as a worker does. Returns its version after that."""
        with self.services.database.unit_of_work() as work:
            record = find_record(work.session, key, lock=True)
            assert record is not None
            give_status(work, record, reason, detail)
            work.commit()
            return record.sync_version

    def sign_in(self, page: Page) -> Page:
        """Sign an admin in. Returns the page, which is still blank."""
        give_session(page, self.url, "admin@example.com")
        return page


@contextmanager
def running_web(database_server: URL, template_database: str, redis_url: str, folder: Path) -> Iterator[Web]:
    """The web app on a database of its own in which there is one admin."""
    with own_settings(database_server, template_database, redis_url, folder) as settings:
        with Redis.from_url(redis_url) as redis:
            redis.flushdb()
        services = Services.open(settings)
        add_admin(services)
        with WebProcesses(settings) as web:
            yield Web(web.url, services)
        services.database.engine.dispose()


def connected() -> Connection:
    """A connection to Sage that works, and does nothing for an hour."""
    now = datetime.now(UTC)
    return Connection(
        api_url="http://127.0.0.1:1",
        business_name="Northwind Ltd",
        state=CONNECTED,
        last_synchronised_at=now,
        next_run_at=now + timedelta(hours=1),
    )


def give_session(page: Page, url: str, email: str, password: str = PASSWORD) -> None:
    """Sign somebody in, in whose browser it is: over HTTP, as the form takes a browser a second to draw."""
    with closing(sign_in_over_http(url, email, password)) as client:
        for one in client.cookies.jar:
            page.context.add_cookies([{"name": one.name, "value": one.value or "", "url": url}])


def be_live(page: Page) -> None:
    """Wait until the page gets what changes."""
    expect(page.locator("body")).to_have_attribute("data-live", "live")


def fits(page: Page) -> bool:
    """Whether nothing makes the page scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth && innerWidth <= screen.width"))
