"""What axe finds on a page in each of its looks: wide, middling and narrow, light and dark."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# Width in pixels, theme, and the rules to look for; none means all. What is drawn depends on the width (a wide page has
# a table where a narrow one has cards), and colours on the theme.
_LOOKS = ((1440, "light", ()), (768, "dark", ()), (375, "light", ()), (375, "dark", ("color-contrast",)))


def faults(page: Page) -> dict[str, str]:
    """What is wrong with the page as it is now, as axe's report on each look; empty where nothing is.

    Axe sees about half of what can be wrong. The width and the theme of the last look stay.
    """
    found = {}
    for width, theme, rules in _LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
        result = Axe().run(page, options=options)
        if result.violations_count:
            found[f"{width} {theme}"] = result.generate_report()
    return found
