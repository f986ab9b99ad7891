"""The four phases of an order, as its page shows them. Pure."""

from __future__ import annotations

from webapp.orders.models import CONFIRMED, VALIDATED
from webapp.status import STATUS_OF, Reason, Status

STEPS = ("Validating prices", "Prices validated", "Synchronising", "Synchronised with Sage")


def step(phase: str, reason: Reason) -> int:
    """The index in STEPS of the phase that an order is in."""
    if phase == CONFIRMED:
        return 3 if STATUS_OF[reason] is Status.SYNCHRONISED else 2
    return 1 if phase == VALIDATED else 0
