"""How Python itself is set in a worker."""

from __future__ import annotations

import sys

from webapp.interpreter import collect_seldom


def settle() -> None:
    """Set it, once all that jobs need is loaded. Processes that are forked later have it too.

    One thread reads ahead while another one writes to the database: at each answer of that, which comes within a
    millisecond, it would otherwise wait for five until it has its turn.
    """
    collect_seldom()
    sys.setswitchinterval(0.0005)
