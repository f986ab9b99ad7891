"""What the whole product costs while nobody uses it: memory, processor time, the time of a start, an idle socket.

Memory is the proportional set size (PSS, proc_pid_smaps(5)): pages that processes share count once in all. There is no
peer for these figures; each stands beside its target.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.live import SOCKETS, open_sockets, prepare_peer
from tests.stack import Stack

PROGRAMS = ("web", "worker", "cron", "sandbox", "postgres", "redis")
REST_SECONDS = 30
SAMPLES = 7


def run() -> list[dict[str, Any]]:
    """The figures: {name, ours, peer, ratio, target}."""
    prepare_peer()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), SYNCLIGHT_CYCLE_SECONDS="60")
        with stack:
            stack.stop()
            began = time.monotonic()
            stack.start()
            started = time.monotonic() - began
            with closing(stack.browser()) as browser:
                for _ in range(20):  # Both web processes have shown a page then.
                    browser.get("/companies").raise_for_status()
                cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
            processor = _processor_seconds(stack.pid)
            time.sleep(REST_SECONDS)
            processor = (_processor_seconds(stack.pid) - processor) / REST_SECONDS
            everything = _megabytes(stack.pid)
            parts = {name: _megabytes(stack.process(name).pid) for name in PROGRAMS}
            with open_sockets([stack.url], cookie) as end:
                with_sockets = _megabytes(stack.process("web").pid)
                end()
    return [
        _row("start on data that is there, until ready, s", started, 6),
        _row("memory of all at rest, MB", everything, 450),
        *(_row(f"of it {name}, MB", megabytes) for name, megabytes in parts.items()),
        _row("processor at rest, % of one", 100 * processor),
        _row(f"memory of an idle socket of {SOCKETS:,}, kB", (with_sockets - parts["web"]) / SOCKETS * 1_000),
    ]


def _row(name: str, ours: float, target: float | None = None) -> dict[str, Any]:
    return {"name": name, "ours": round(ours, 1), "peer": None, "ratio": None, "target": target}


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _megabytes(pid: int) -> float:
    """The memory of a process and all below it. The median of some looks, because jobs come and go."""
    looks = []
    for _ in range(SAMPLES):
        looks.append(sum(_bytes(process) for process in _tree(pid)) / 1e6)
        time.sleep(1)
    return median(looks)


def _bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0  # It ended between the two looks.


def _processor_seconds(pid: int) -> float:
    """What a process and all below it have used so far, with those that ended and were waited for."""
    return sum(sum(process.cpu_times()[:4]) for process in _tree(pid))
