"""How Python itself is set in a worker."""

from __future__ import annotations

import gc
import sys

from webapp.interpreter import keep_loaded


def settle() -> None:
    """Set it, once all that jobs need is loaded. Processes that are forked later have it too.

    A page of a list of Sage makes thousands of objects that go with it: to look through them ever again takes a tenth of
    the time. One thread reads ahead while another one writes to the database: at each answer of that, which comes within
    a millisecond, it would otherwise wait for five until it has its turn.
    """
    keep_loaded()
    gc.set_threshold(20_000)
    sys.setswitchinterval(0.0005)
