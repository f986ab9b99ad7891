"""Reading ahead: what comes next is made while the database works on what is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], most: int = 1) -> Iterator[Item]:
    """The same items, up to `most` of them made in a second thread while the one before them is in use.

    What `items` raises is raised here, in its turn. `items` must not use what its consumer uses.
    """
    nothing = object()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        coming = deque(pool.submit(next, items, nothing) for _ in range(most))
        while (item := coming.popleft().result()) is not nothing:
            coming.append(pool.submit(next, items, nothing))
            yield item  # type: ignore[misc]
    finally:
        # A consumer that leaves waits for the one item that is being made, and for no other.
        pool.shutdown(cancel_futures=True)
