"""The whole product with real processes, while they are killed, stopped and restarted at random and people edit.

People here change phones and people in Sage change cities, so that no two ever change the same field: whatever was
acknowledged must be on both sides in the end. `SEED=n` in the environment tells the same story again, as far as the
machine lets it.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from html import unescape
from typing import Any

import httpx2
import psutil
import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.sandbox_process import local_client
from tests.stack import Stack, wait_until

COMPANIES = 12
# A worker that was killed holds the writer's lease for 45 s, and what failed is tried again after 10 s and a minute.
LONGEST_HEALING = 180


class People:
    """Those who edit, here and in Sage. They try again until they are told that it is saved."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._here = stack.browser(stack.sales)
        self._sage = local_client(base_url=f"{stack.sandbox_url}/_sandbox", timeout=10)
        # What was acknowledged, by the company's name: the phone that was typed here, the city that was typed in Sage.
        self.phones: dict[str, str] = {}
        self.cities: dict[str, str] = {}
        self.ids: dict[str, int] = {}

    def close(self) -> None:
        self._here.close()
        self._sage.close()

    def add(self, name: str) -> None:
        """Somebody adds a company here."""
        form = {
            "name": name,
            "type": "customer",
            "country": "GB",
            "phone": "0",
            "city": "London",
            "once": f"once {name}",
        }
        address = self._saved("/companies/new", form)
        self.ids[name] = int(address.rsplit("/", 1)[1])
        self.phones[name], self.cities[name] = "0", "London"

    def edit_here(self, name: str, phone: str) -> None:
        self._saved(f"/companies/{self.ids[name]}/edit", {"phone": phone})
        self.phones[name] = phone

    def edit_in_sage(self, name: str, city: str) -> None:
        """Somebody in Sage edits it, where it is there already and nothing of ours is on its way there.

        Sage has no lock: between our read of a customer and our write of it nobody can tell who was first.
        """
        for one in self.customers():
            if one["name"] == name and ("synchronised",) in statuses(self._stack, name):
                self._ask_sage("POST", f"/contacts/{one['id']}", {"city": city})
                self.cities[name] = city

    def customers(self) -> list[dict[str, Any]]:
        """What Sage holds."""
        found: list[dict[str, Any]] = self._ask_sage("GET", "/contacts").json()
        return found

    def created(self) -> list[str]:
        """The names of all customers that were made over the API, one for each time."""
        ledger = self._ask_sage("GET", "/ledger").json()
        return [
            entry["body"]["contact"]["name"]
            for entry in ledger
            if (entry["operation"], entry["resource"], entry["by"]) == ("create", "contacts", "api")
        ]

    def fault(self, kind: str, **options: Any) -> None:
        """An operator has Sage fail."""
        self._ask_sage("POST", "/faults", {"kind": kind, **options})

    def end_faults(self) -> None:
        self._ask_sage("DELETE", "/faults")

    def _ask_sage(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """Ask the sandbox until it answers: it may be one of those that died."""
        answers: list[httpx2.Response] = []

        def answered() -> bool:
            try:
                answers.append(self._sage.request(method, path, json=body))
            except httpx2.TransportError:
                return False
            return True

        wait_until(answered, 60)
        return answers[-1].raise_for_status()

    def _saved(self, path: str, form: dict[str, str]) -> str:
        """Send a form until it is taken. Returns where it leads to."""
        taken: list[str] = []

        def is_taken() -> bool:
            try:
                page = self._here.get(path)
                token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
                if page.status_code != 200 or token is None:
                    return False
                answer = self._here.post(path, data={**form, "csrf_token": unescape(token[1])})
            except httpx2.TransportError:
                return False
            if answer.status_code == 303:
                taken.append(answer.headers["location"])
            return bool(taken)

        wait_until(is_taken, 60)
        return taken[0]


def shocks(stack: Stack, people: People, chance: random.Random) -> list[tuple[str, Callable[[], object]]]:
    """What can happen to the processes, and to Sage."""

    def kill(name: str, *, child: bool = False) -> None:
        running = family(stack, name)
        (running[1] if child else running[0]).kill()

    def stop_for_a_while(name: str, children: int | None = None) -> None:
        stopped = family(stack, name)[1:][:children]
        for one in stopped:
            _signal(one, signal.SIGSTOP)
        time.sleep(chance.uniform(1, 3))
        for one in stopped:
            _signal(one, signal.SIGCONT)

    writes = {"method": "POST", "path": "/v3.1/contacts"}
    return [
        ("a worker dies", lambda: kill("worker", child=True)),
        ("all workers die", lambda: kill("worker")),
        ("the workers stand still", lambda: stop_for_a_while("worker")),
        ("a web process dies", lambda: kill("web", child=True)),
        ("a web process stands still", lambda: stop_for_a_while("web", 1)),
        ("Redis dies", lambda: kill("redis")),
        ("PostgreSQL dies", lambda: kill("postgres")),
        ("the schedule dies", lambda: kill("cron")),
        ("Sage answers late", lambda: people.fault("latency", match=writes, times=2, seconds=2)),
        ("Sage fails after the write", lambda: people.fault("error_after", match=writes, times=2)),
        ("Sage dies", lambda: kill("sandbox")),
    ]


def family(stack: Stack, name: str) -> list[psutil.Process]:
    """The process that runs as `name`, and those below it. Waits for one that is being started again."""
    found: list[psutil.Process] = []

    def runs() -> bool:
        found.clear()
        try:
            parent = stack.process(name)
            found.extend([parent, *parent.children(recursive=True)])
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return False
        return len(found) > 1 or name not in ("web", "worker")

    wait_until(runs, 60)
    return found


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def rows(stack: Stack) -> list[tuple[Any, ...]]:
    """What the database says of each company: name, status, phone, city, version."""
    with stack.database() as connection:
        return connection.execute(
            "SELECT name, sync_status, phone, city, sync_version, id FROM company ORDER BY id"
        ).fetchall()


def statuses(stack: Stack, name: str) -> list[tuple[str, ...]]:
    """The status of the companies with this name."""
    with stack.database() as connection:
        return connection.execute("SELECT sync_status FROM company WHERE name = %s", (name,)).fetchall()


def healed(stack: Stack) -> bool:
    try:
        return {row[1] for row in rows(stack)} == {"synchronised"}
    except psycopg.OperationalError:
        return False


@pytest.mark.timeout(LONGEST_HEALING + 120)
def test_whatever_dies_nothing_is_lost_doubled_or_falsely_green(
    stack: Stack, page: Page, logged_in: Callable[..., Page]
) -> None:
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    people = People(stack)
    names = [f"Chaos {number:02}" for number in range(COMPANIES)]
    logged_in(page, stack.sales)
    page.goto(f"{stack.url}/companies")
    expect(page.locator("body")).to_have_attribute("data-live", "live")
    page.evaluate("window.neverReloaded = true")
    possible = shocks(stack, people, chance)
    # Each once in a random order; more than one may be on its way at a time.
    for number, (told, shock) in enumerate(chance.sample(possible, len(possible))):
        print(f"round {number}: {told}")
        shock()
        if number < COMPANIES:
            people.add(names[number])
        for name in chance.sample(sorted(people.ids), min(3, len(people.ids))):
            people.edit_here(name, phone=str(chance.randrange(10**6)))
        stack.wait_ready(60)
        for name in chance.sample(sorted(people.ids), min(2, len(people.ids))):
            people.edit_in_sage(name, city=f"City {chance.randrange(10**6)}")
    people.end_faults()
    stack.wait_ready(60)
    # What was typed in Sage last needs a pull to be seen at all.
    wait_until(lambda: healed(stack) and not different(stack, people), LONGEST_HEALING)

    found = {row[0]: row for row in rows(stack)}
    assert {name: found[name][2] for name in people.ids} == people.phones
    assert {name: found[name][3] for name in people.ids} == people.cities
    assert sorted(people.created()) == sorted(people.ids), "a second customer in Sage"
    assert sorted(one["name"] for one in people.customers()) == sorted(people.ids)
    expect(page.locator("body")).to_have_attribute("data-live", "live", timeout=30_000)
    for name, status, _phone, city, version, id_ in found.values():
        row = page.locator(f"[data-row='company:{id_}']")
        if row.count():  # Those that were added while it was open wait for "update the list".
            expect(row).to_have_attribute("data-version", str(version), timeout=35_000)
            expect(row).to_have_attribute("data-status", status)
            expect(row.locator("[data-value=city]")).to_have_text(city)
            expect(row.locator("[data-value=name]")).to_have_text(name)
    assert page.evaluate("window.neverReloaded")
    people.close()


def different(stack: Stack, people: People) -> list[str]:
    """The names of the companies that are not the same on both sides."""
    sage = {one["name"]: one for one in people.customers()}
    return [
        name
        for name, _, phone, city, _, _ in rows(stack)
        if name not in sage
        or (sage[name]["main_contact_person"] or {}).get("telephone", "") != phone
        or sage[name]["main_address"]["city"] != city
    ]
