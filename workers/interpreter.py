"""How Python itself is set in a worker."""

from __future__ import annotations

import gc
import sys


def settle() -> None:
    """Set it, once all that jobs need is loaded. Processes that are forked later have it too.

    What is loaded by now is shared by all of them, as long as the collector leaves it be. A page of a list of Sage makes
    thousands of objects that all go with it: looking through them ever again takes a tenth of the time of a reading. And
    one thread reads ahead while another writes to the database: at each answer of that, which comes within a millisecond,
    the other one would otherwise wait for five until it has its turn.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    sys.setswitchinterval(0.0005)
