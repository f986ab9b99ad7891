"""The periodic jobs, as data, for `rq cron`.

Exactly one of it runs; a second one would double jobs that are harmless when doubled.
"""

from __future__ import annotations

from functools import partial

import rq.cron
from rq import Queue
from rq.serializers import JSONSerializer

from webapp.queue import PUSH_QUEUE
from workers.tick import tick

# Seconds between two looks at what is due. The cycle of a connection is at most this much late.
TICK_SECONDS = 2

# RQ 3.0 takes a serializer for `rq cron` and does not use it: its jobs would be pickled, which our workers never read.
rq.cron.Queue = partial(Queue, serializer=JSONSerializer)  # type: ignore[assignment,attr-defined]

rq.cron.register(
    tick,
    queue_name=PUSH_QUEUE,
    interval=TICK_SECONDS,
    result_ttl=0,
    failure_ttl=300,
    # Where no worker is free, the next one that is needs one tick, not all that were missed.
    ttl=TICK_SECONDS * 2,
)
