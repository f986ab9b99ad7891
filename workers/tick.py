"""The job that the schedule names. Apart from the others, so that the process that only keeps time stays small."""

from __future__ import annotations


def tick() -> None:
    """Start what is due; see workers.jobs.start_due."""
    # Loaded in the worker, which has it already, and never in the process that keeps time.
    from workers.jobs import start_due

    start_due()
