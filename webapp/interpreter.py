"""How Python itself is set in a process that serves: what it collects, and how often."""

from __future__ import annotations

import gc


def collect_seldom() -> None:
    """Set it, once all that is needed is loaded. Processes that are forked later have it too.

    What is loaded by now is shared by all of them, as long as the collector leaves it be. And a page, be it one that is
    drawn or one of a list of Sage, makes thousands of objects that go with it: to look through them ever again takes a
    tenth of its time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
