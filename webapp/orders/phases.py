"""The four phases of an order, as its page shows them. Pure."""

from __future__ import annotations

from webapp.languages import N_
from webapp.orders.models import CONFIRMED, VALIDATED
from webapp.status import STATUS_OF, Reason, Status

STEPS = (N_("Validating prices"), N_("Prices validated"), N_("Synchronising"), N_("Synchronised with Sage"))


def step(phase: str, reason: Reason) -> int:
    """The index in STEPS of the phase that an order is in."""
    if phase == CONFIRMED:
        return 3 if STATUS_OF[reason] is Status.SYNCHRONISED else 2
    return 1 if phase == VALIDATED else 0
