"""The worker process: everything that jobs need is loaded before it forks, so that a job costs little.

Loading it ends the process, with one line, where a setting is missing or wrong.
"""

from __future__ import annotations

import ctypes
import signal
from typing import Any

import rq
from rq.worker import DequeueStrategy
from sqlalchemy.orm import configure_mappers

import workers.jobs  # noqa: F401
from webapp.config import Settings, SettingsError
from webapp.logs import configure
from webapp.services import Services
from workers.interpreter import settle
from workers.settings import WorkerSettings

configure("worker")
try:
    _settings = Settings.load()
    # Without what opens the tokens it would be taken for a worker that works, and all that waits would wait for ever.
    WorkerSettings.load(_settings)
except SettingsError as error:
    raise SystemExit(str(error)) from None
# What a job would otherwise do first, each one again: load the driver of the database, and tie the models together.
Services.open(_settings)
configure_mappers()
settle()

# RQ gives a sign of life 15 s before this time is over, so every 10 s; webapp.queue waits for three of them.
_WORKER_TTL = 25
_JOB_MONITORING_INTERVAL = 10

_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


class Worker(rq.Worker):
    """A worker that gives a sign of life often, and that ends with the pool that started it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options |= {"worker_ttl": _WORKER_TTL, "job_monitoring_interval": _JOB_MONITORING_INTERVAL}
        super().__init__(*args, **options)

    def work(self, *args: Any, **options: Any) -> bool:
        """Work until told to stop."""
        # A pool that was killed could not stop its workers, and its successor starts new ones.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # RQ's scheduler is a further process, for retries and delays that we keep in the database instead. A line for
        # each job would be one every other second; and a pool forgets its own level when it starts a worker again.
        # From one queue after the other: where as many connections as there are workers have much to send, each drain
        # puts the next one into the queue of pushes, and nobody would ever read.
        ours = {
            "with_scheduler": False,
            "logging_level": "WARNING",
            "dequeue_strategy": DequeueStrategy.ROUND_ROBIN,
        }
        return super().work(*args, **{**options, **ours})
