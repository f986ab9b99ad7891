"""What an import did, for the person who asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FileReport:
    """How a file was read.

    `file` is its name without the folder; `encoding` and `delimiter` are named as people name them. `columns` maps the
    header's names to what they were used for, and `left_out` names the other columns. `notes` are sentences on what was
    found out about the whole file, such as how its dates are written. `refused` holds the line of the file and the
    reason of each row that was not taken; `mended` the lines of rows that were read although they lack quotation marks
    around a cell with a delimiter.
    """

    file: str
    encoding: str
    delimiter: str
    columns: dict[str, str]
    left_out: list[str]
    notes: list[str] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class LinesReport(FileReport):
    """How a file was read that holds parts of the records of another; `lines` counts those that can be taken."""

    lines: int = 0


@dataclass(kw_only=True)
class ImportReport(FileReport):
    """The outcome of an import of `things`, such as companies. After a dry run the counts say what would be done.

    `before` are the files that had to be read first, in their order; some of them are imports of their own.
    """

    things: str
    dry_run: bool
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    before: list[FileReport] = field(default_factory=list)
