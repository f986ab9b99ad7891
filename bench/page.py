"""The list page in Chromium: what a first visit brings over the network, and how quickly it answers a person.

The processor is slowed down four times, as a cheap phone's is beside a desk's. "Interaction to next paint" is the
longest that the Event Timing API tells for a click of the way: filter, open a record, go back.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from bench.live import prepare_companies, running_servers
from tests.web_processes import WebProcesses

SLOWED_DOWN = 4
ROUNDS = 5

# Kept from before the first paint on: the longest interaction in milliseconds, and the sum of all layout shifts.
_OBSERVE = """
window.longest = 0; window.shift = 0;
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (entry.interactionId) window.longest = Math.max(window.longest, entry.duration);
}).observe({ type: "event", durationThreshold: 16, buffered: true });
new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def run() -> list[dict[str, Any]]:
    """The figures: {name, ours, peer, ratio, target}."""
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder)) as settings:
        cookie = prepare_companies(settings)
        with WebProcesses(settings) as web, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            name, _, value = cookie.partition("=")
            bytes_, longest, shift = 0, 0.0, 0.0
            for _ in range(ROUNDS):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                context.add_cookies([{"name": name, "value": value, "url": web.url}])
                context.add_init_script(_OBSERVE)
                page = context.new_page()
                bytes_ = _first_visit(page, web.url)
                longest = max(longest, _interactions(page))
                shift = max(shift, page.evaluate("window.shift"))
                context.close()
            browser.close()
    slowed = f"at {SLOWED_DOWN} x CPU slow-down"
    return [
        _row("first visit of the list with 50 companies, everything, kB on the wire", bytes_ / 1000, 60),
        _row(f"interaction to next paint {slowed}, the longest of filter, open, back, ms", longest, 200),
        _row(f"layout shift {slowed}, the whole way", shift, 0.02),
    ]


def _row(name: str, ours: float, target: float) -> dict[str, Any]:
    return {"name": name, "ours": round(ours, 3), "peer": None, "ratio": None, "target": target}


def _first_visit(page: Page, url: str) -> int:
    """Open the list with an empty cache. Returns the bytes that came, headers and all."""
    chromium = page.context.new_cdp_session(page)
    came: list[float] = []
    chromium.on("Network.loadingFinished", lambda event: came.append(event["encodedDataLength"]))
    chromium.send("Network.enable")
    chromium.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED_DOWN})
    page.goto(f"{url}/companies")
    page.wait_for_selector("body[data-live=live]")
    return int(sum(came))


def _interactions(page: Page) -> float:
    """Filter, open a record, go back. Returns the longest time to the next paint, in milliseconds."""
    page.locator("[data-role=status-count][data-status=not_synchronised]").click()
    page.wait_for_url("**/companies?status=not_synchronised")
    page.locator("[data-row] [data-value=name]").first.click()
    page.wait_for_selector("[data-role=sync-details]")
    # Events are told when their frame was painted.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.go_back()
    page.wait_for_selector("[data-row]")
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    return float(page.evaluate("window.longest"))
