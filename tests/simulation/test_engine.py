"""The engine against chance: see tests.simulation.story. `make simulate SEEDS=10000 START=1` tells more of them."""

from __future__ import annotations

import os

import pytest

from tests.simulation.story import Story, empty
from webapp.services import Services

START, SEEDS = int(os.environ.get("START", "1")), int(os.environ.get("SEEDS", "500"))
# So many stories are told by one test: to begin and to end a test takes longer than to tell a story.
BATCH = 20


@pytest.mark.parametrize("first", range(START, START + SEEDS, BATCH))
@pytest.mark.timeout(300)
def test_whatever_happens(services: Services, first: int) -> None:
    for seed in range(first, min(first + BATCH, START + SEEDS)):
        empty(services.database)
        Story(services, seed).tell()
