"""How Python itself is set in a process that serves: what it collects, and how often."""

from __future__ import annotations

import gc


def settle() -> None:
    """Set it in a web process, once all that is needed is loaded. Processes that are forked later have it too.

    A page leaves some five hundred objects to the collector. Each time that it comes one reader waits, and so for a few
    pages' only; and a tenth of a second when it looks through all there is, most of which is SQL that is kept. That comes
    to ten megabytes more between two such times.
    """
    keep_loaded()
    gc.set_threshold(2_000, 10, 100)


def keep_loaded() -> None:
    """Have the collector leave be what is loaded by now, so that processes share it for as long as they live."""
    gc.collect()
    gc.freeze()
