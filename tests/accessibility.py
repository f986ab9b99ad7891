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
