"""Every benchmark, one after the other: `make bench`, or `python -m bench live idle` for some of them.

A benchmark is a module of this folder with a function `run` that returns rows {name, ours, peer, ratio, target}; None
where there is no peer or no target. Each runs in a process of its own. Writes bench/results.json and prints a table.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"

Row = dict[str, Any]


def benchmarks() -> dict[str, Callable[[], list[Row]]]:
    """All benchmarks by name."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("__"))
    modules = {name: import_module(f"bench.{name}") for name in names}
    return {name: module.run for name, module in modules.items() if hasattr(module, "run")}


def main(names: list[str]) -> int:
    """Run these, or all where none is named. Returns the exit status: 1 where one of them failed."""
    known = benchmarks()
    if unknown := set(names) - set(known):
        raise SystemExit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    console = Console(stderr=True)
    found: dict[str, list[Row]] = {}
    failed = []
    for name in names or known:
        console.print(f"Measuring {name} ...", style="dim")
        # A fresh interpreter, so that what one benchmark loads does not weigh on the next.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            try:
                found[name] = process.submit(known[name]).result()
            except Exception as error:
                console.print_exception()
                failed.append(f"{name}: {error}")
    machine = {"processors": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    results = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "rows": found}
    RESULTS.write_text(f"{json.dumps(results, indent=2, ensure_ascii=False)}\n", encoding="utf-8")

    table = Table("What", "Ours", "Peer", "Ratio", "Target", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for rows in found.values():
        for row in rows:
            figures = ("ours", "peer", "ratio", "target")
            table.add_row(row["name"], *("" if row[figure] is None else f"{row[figure]:,}" for figure in figures))
    Console().print(table)
    for line in failed:
        console.print(f"Failed: {line}", style="bold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
