"""A table in a text file, as any usual program exports it: its encoding, its delimiter, and its rows by their lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from webapp.text import clean_line


class ImportRefused(Exception):
    """Nothing of a file can be imported. The text says why and what to do."""


class Row(NamedTuple):
    """One record of a table. `line` is the line of the file on which it begins, counted from 1.

    It has one cell for each column, or none and a `fault`: a sentence that says why it cannot be read. `mended` says
    that it had more cells, which were joined again.
    """

    line: int
    cells: list[str]
    fault: str = ""
    mended: bool = False


# Python's codec by the name that people know.
_CODECS = {"UTF-8": "utf-8", "UTF-8 with BOM": "utf-8-sig", "UTF-16": "utf-16", "Windows-1252": "cp1252"}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}

_AS_CSV = "Save it as CSV, then import that file"
_OTHER_FORMATS = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF file"),
    (b"\x1f\x8b", "a compressed file"),
)
_CHUNK = 1 << 20
_SAMPLE = 1 << 16
_SAMPLE_RECORDS = 20
_MOST_COLUMNS = 1_000
# Excel reads its own delimiter from such a first line, and some programs write it for Excel's sake.
_DELIMITER_LINE = re.compile(r'"?sep=([,;\t|])"?\s*')


@dataclass(frozen=True)
class Table:
    """A table in a file. `delimiter` is a key of DELIMITERS; `lines` is the number of the last line."""

    path: Path
    encoding: str
    delimiter: str
    header: list[str]
    lines: int

    @classmethod
    def open(cls, path: Path) -> Table:
        """Find out how the file is written and read its header.

        Reads the whole file once, so that an encoding is said only where all of the file is in it.
        Raises ImportRefused where there is no file, it is no text, it is empty or has no header.
        """
        encoding, lines = _examine(path)
        with path.open(encoding=_CODECS[encoding], newline="") as file:
            sample = file.read(_SAMPLE)
        told = _DELIMITER_LINE.match(sample)
        delimiter = told[1] if told else _likely_delimiter(sample)
        header = next(cls(path, encoding, delimiter, [], lines)._records(), None)
        if header is None:
            raise ImportRefused(f"{path} is empty. Export it again, with a first line that names the columns.")
        if header.fault:
            raise ImportRefused(f"The first line of {path}, which names the columns, cannot be read. {header.fault}")
        if len(header.cells) > _MOST_COLUMNS:
            raise ImportRefused(
                f"{path} has {len(header.cells):,} columns, and at most {_MOST_COLUMNS:,} are read. "
                "Export it again with fewer, one row for each record."
            )
        return cls(path, encoding, delimiter, [clean_line(cell) for cell in header.cells], lines)

    def rows(self) -> Iterator[Row]:
        """All rows after the header, without the empty ones. A row that cannot be read comes with its fault."""
        width = len(self.header)
        for row in islice(self._records(), 1, None):
            # Some programs end each row with a delimiter.
            if len(row.cells) > width and not any(row.cells[width:]):
                del row.cells[width:]
            if len(row.cells) == width or row.fault:
                yield row
            elif joined := _joined(row.cells, width, self.delimiter):
                yield Row(row.line, joined, mended=True)
            else:
                yield Row(row.line, [], _width_sentence(len(row.cells), width, self.delimiter))

    def _records(self) -> Iterator[Row]:
        """All records that are not empty, the header among them."""
        with self.path.open(encoding=_CODECS[self.encoding], newline="") as file:
            read: list[str] = []
            # Strict, because a quotation mark in the wrong place otherwise swallows the rows after it in silence.
            reader = csv.reader(_noted(file, read), delimiter=self.delimiter, strict=True)
            while True:
                line = reader.line_num + 1
                read.clear()
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    yield Row(line, [], _quotes_sentence(line, read, self.delimiter))
                    continue
                if line == 1 and cells and _DELIMITER_LINE.fullmatch(self.delimiter.join(cells)):
                    continue
                if any(cells) and not "".join(cells).isspace():
                    yield Row(line, cells)


def _examine(path: Path) -> tuple[str, int]:
    """The encoding of all of a file and the number of its last line. Raises ImportRefused where it is no text."""
    if path.exists() and not path.is_file():
        raise ImportRefused(f"{path} is not a file. Name a CSV file.")
    try:
        with path.open("rb") as file:
            start = file.read(4)
        for magic, what in _OTHER_FORMATS:
            if start.startswith(magic):
                raise ImportRefused(f"{path} is {what}. {_AS_CSV}.")
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "UTF-16", _lines_in(path, "UTF-16")
        if start.startswith(codecs.BOM_UTF8):
            return "UTF-8 with BOM", _lines_in(path, "UTF-8 with BOM")
        try:
            return "UTF-8", _lines_in(path, "UTF-8")
        except UnicodeDecodeError:
            return "Windows-1252", _lines_in(path, "Windows-1252")
    except UnicodeDecodeError as error:
        raise ImportRefused(f"{path} is not text in UTF-8, UTF-16 or Windows-1252. {_AS_CSV} (UTF-8).") from error
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}.") from error


def _lines_in(path: Path, encoding: str) -> int:
    """The number of a file's last line. Raises UnicodeDecodeError where not all of it is in `encoding`."""
    line_feeds = returns = 0
    ended = True
    with path.open(encoding=_CODECS[encoding], newline="") as file:
        while text := file.read(_CHUNK):
            if "\0" in text:
                raise ImportRefused(f"{path} holds NUL characters, so it is no plain text. {_AS_CSV} (UTF-8).")
            line_feeds += text.count("\n")
            returns += text.count("\r")
            ended = text.endswith(("\n", "\r"))
    return max(line_feeds, returns) + (not ended)


def _likely_delimiter(sample: str) -> str:
    """The delimiter under which most records are as wide as the first; of equals, the one that makes it widest."""
    best, best_score = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        widths = [len(cells) for cells in islice((cells for cells in reader if cells), _SAMPLE_RECORDS)]
        if len(sample) == _SAMPLE and 1 < len(widths) < _SAMPLE_RECORDS:
            widths.pop()  # The sample ends inside this record.
        if widths and widths[0] > 1:
            score = (widths.count(widths[0]) / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _joined(cells: list[str], width: int, delimiter: str) -> list[str] | None:
    """`cells` joined where a text such as "24, place Kléber" was exported without quotation marks.

    A delimiter that a space follows belongs to the text. None where that does not give exactly `width` cells: then
    nobody knows which cell is which.
    """
    joined = cells[:1]
    for cell in cells[1:]:
        if cell.startswith(" "):
            joined[-1] += delimiter + cell
        else:
            joined.append(cell)
    return joined if len(joined) == width else None


def _width_sentence(found: int, width: int, delimiter: str) -> str:
    hint = f"holds a {DELIMITERS[delimiter]}" if found > width else "spans several lines"
    return f"It has {found} cells, and the header has {width}. A cell that {hint} needs quotation marks around it."


def _noted(lines: Iterable[str], read: list[str]) -> Iterator[str]:
    """Lines as they are; `read` has those that were taken."""
    for line in lines:
        read.append(line)
        yield line


def _quotes_sentence(first: int, read: Sequence[str], delimiter: str) -> str:
    """What is wrong with the lines `read`, of which the first has this number: a record that cannot be read."""
    last = first + len(read) - 1
    where, still_open = f"line {first}", ""
    if last > first:
        # The last line may close a quotation mark, and what the others leave open is their last cell.
        left_open = next(csv.reader(read[:-1], delimiter=delimiter))[-1]
        opened = last - sum(1 for _ in io.StringIO(left_open, newline=""))
        where, still_open = f"lines {first} to {last}", f": the one in line {opened} is still open in line {last}"
    return (
        f"The quotation marks of {where} do not match, or a cell is longer than {csv.field_size_limit():,} characters"
        f"{still_open}. Close each quotation mark where its cell ends, and double those inside a cell."
    )
