"""What an import did, for the person who asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ImportReport:
    """The outcome of an import.

    `encoding` and `delimiter` are named as people name them. `columns` maps the header's names to what they were used
    for, and `left_out` names the other columns. `refused` holds the line of the file and the reason of each row that
    was not taken; `mended` the lines of rows that were read although they lack quotation marks around a cell with a
    delimiter. After a dry run the counts say what would be done.
    """

    encoding: str
    delimiter: str
    columns: dict[str, str]
    left_out: list[str]
    dry_run: bool
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)
