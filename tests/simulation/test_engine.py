"""The engine against chance: see tests.simulation.story. `make simulate SEEDS=10000 START=1` tells more of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.simulation.story import Story, Told, empty
from webapp.services import Services

START, SEEDS = int(os.environ.get("START", "1")), int(os.environ.get("SEEDS", "500"))
# So many stories are told by one test: to begin and to end a test takes longer than to tell a story.
BATCH = 20


@pytest.mark.parametrize("first", range(START, START + SEEDS, BATCH))
@pytest.mark.timeout(300)
def test_whatever_happens(services: Services, first: int, record_property: Callable[[str, object], None]) -> None:
    seeds = range(first, min(first + BATCH, START + SEEDS))
    told = Told()
    for seed in seeds:
        empty(services.database)
        story = Story(services, seed)
        try:
            story.tell()
        finally:
            told.add(story.told)
    record_property("stories", len(seeds))
    record_property("told", [dict(counter) for counter in told.counters])
