"""What axe finds on a page in each of its looks: wide and light, narrow and dark."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# Width in pixels and theme. What is drawn depends on the width (a wide page has a table where a narrow one has cards), and
# colours on the theme, so that two looks see all of both.
_LOOKS = ((1440, "light"), (375, "dark"))


def faults(page: Page) -> dict[str, str]:
    """What is wrong with the page as it is now, as axe's report on each look; empty where nothing is.

    Axe sees about half of what can be wrong. The width and the theme of the last look stay.
    """
    found = {}
    for width, theme in _LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        result = Axe().run(page, options={"resultTypes": ["violations"]})
        if result.violations_count:
            found[f"{width} {theme}"] = result.generate_report()
    return found


# All that can be focused, of a group of radio buttons the one that Tab comes to.
_MARK_ALL = """() => {
  const all = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  window.waiting = new Map();
  for (const one of document.querySelectorAll(all)) {
    const isOneOfMany = one.type === "radio" && !one.checked;
    if (!one.disabled && one.type !== "hidden" && one.tabIndex >= 0 && !isOneOfMany && one.checkVisibility()) {
      window.waiting.set(one, one.outerHTML.slice(0, 120));
    }
  }
}"""
# What is wrong with what is focused now; null where focus has left the page.
_LOOK = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  window.waiting.delete(one);
  const found = [];
  const looks = [getComputedStyle(one), getComputedStyle(one, "::after"), getComputedStyle(one.closest("label") ?? one)];
  const showsFocus = looks.some((look) => look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2);
  // Of a day, the browser shows itself which of its parts has the focus.
  if (!showsFocus && one.type !== "date") found.push("shows no focus");
  const box = one.getBoundingClientRect();
  const isAt = (share) => {
    const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height * share);
    return at && (one.contains(at) || at.contains(one) || at.closest("label")?.contains(one));
  };
  // Of a large text the browser shows the line that is written on.
  if (![0.5, 0.2, 0.8].some(isAt)) found.push("is covered");
  return found.map((fault) => one.outerHTML.slice(0, 120) + " " + fault);
}"""
_TABS_AT_MOST = 400


def keyboard_faults(page: Page) -> list[str]:
    """Go through a page that was just opened with the Tab key: what cannot be reached, does not show that it is focused,
    or is covered then (WCAG 2.1.1, 2.4.7, 2.4.11)."""
    page.evaluate(_MARK_ALL)
    found: list[str] = []
    for _ in range(_TABS_AT_MOST):
        page.keyboard.press("Tab")
        faults_of_one = page.evaluate(_LOOK)
        if faults_of_one is None:
            break
        found += faults_of_one
    return found + [f"{one} is not reached" for one in page.evaluate("() => [...window.waiting.values()]")]
