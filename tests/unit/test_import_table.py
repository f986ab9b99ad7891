"""Reading tables as other programs export them: encodings, delimiters, line breaks, and files that are none."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.importing.table import DELIMITERS, ImportRefused, Row, Table

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / "file.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write_file


def read(path: Path) -> tuple[Table, list[Row]]:
    table = Table.open(path)
    return table, list(table.rows())


@pytest.mark.parametrize(
    ("codec", "said"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8 with BOM"), ("utf-16", "UTF-16"), ("cp1252", "Windows-1252")],
)
def test_encodings(write: Write, codec: str, said: str) -> None:
    table, rows = read(write("name,city\nSpécialités du monde,Köln\n", codec))
    assert (table.encoding, table.header, table.lines) == (said, ["name", "city"], 2)
    assert rows == [Row(2, ["Spécialités du monde", "Köln"])]


def test_utf_16_with_its_big_end_first(write: Write) -> None:
    table, rows = read(write(b"\xfe\xff" + "name\tcity\nÅ\tÄ\n".encode("utf-16-be")))
    assert (table.encoding, table.delimiter) == ("UTF-16", "\t")
    assert rows == [Row(2, ["Å", "Ä"])]


def test_the_encoding_is_that_of_the_whole_file(write: Write) -> None:
    content = b"name\n" + b"Alder Ltd\n" * 300_000 + "Café\n".encode("cp1252")
    table, rows = read(write(content))
    assert (table.encoding, table.lines) == ("Windows-1252", 300_002)
    assert rows[-1] == Row(300_002, ["Café"])


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(write: Write, delimiter: str, end: str) -> None:
    lines = [["name", "city", "notes"], ["Alder, Birch; Ltd", "Leeds", ""], ["Cedar", "", "a|b\tc"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(lines)
    table, rows = read(write(text.getvalue()))
    assert (table.delimiter, table.header, table.lines) == (delimiter, lines[0], 3)
    assert rows == [Row(2, lines[1]), Row(3, lines[2])]


def test_a_single_column_needs_no_delimiter(write: Write) -> None:
    table, rows = read(write("name\nAlder\nBirch\n"))
    assert (table.delimiter, table.header, len(rows)) == (",", ["name"], 2)


def test_a_delimiter_in_names_does_not_mislead(write: Write) -> None:
    table, rows = read(write("company;city, state;zip\nAlder;Leeds;1\nBirch;York;2\n"))
    assert (table.delimiter, rows[0].cells) == (";", ["Alder", "Leeds", "1"])


def test_the_first_line_of_excel_names_the_delimiter(write: Write) -> None:
    table, rows = read(write("sep=;\r\nname;city\r\nAlder;Leeds\r\n"))
    assert (table.delimiter, table.header, rows) == (";", ["name", "city"], [Row(3, ["Alder", "Leeds"])])


def test_lines_are_counted_as_an_editor_counts_them(write: Write) -> None:
    table, rows = read(write('\n\nname,notes\n"Alder","one\ntwo\n\nthree"\n\n , \nBirch,\n'))
    assert table.header == ["name", "notes"]
    assert rows == [Row(4, ["Alder", "one\ntwo\n\nthree"]), Row(10, ["Birch", ""])]


def test_quotation_marks_inside_a_cell(write: Write) -> None:
    _, rows = read(write('name,city\n"The ""Old"" Inn",Leeds\nScrews 5" Ltd,York\n'))
    assert [row.cells[0] for row in rows] == ['The "Old" Inn', 'Screws 5" Ltd']


def test_rows_with_another_number_of_cells_are_refused_one_by_one(write: Write) -> None:
    _, rows = read(write("name,city,zip\nAlder,Leeds\nBirch,York,1\nCedar,Inc,Bath,2\nDelta,Hull,3,,\n"))
    hint = "A cell that {} needs quotation marks around it."
    assert rows == [
        Row(2, [], f"It has 2 cells, and the header has 3. {hint.format('spans several lines')}"),
        Row(3, ["Birch", "York", "1"]),
        Row(4, [], f"It has 4 cells, and the header has 3. {hint.format('holds a comma')}"),
        Row(5, ["Delta", "Hull", "3"]),
    ]


def test_cells_are_joined_where_only_one_way_fits(write: Write) -> None:
    _, rows = read(write("name,address,city\nAlder,24, place Kléber,Strasbourg\nBirch, Inc,1, High Street,York\n"))
    assert rows == [
        Row(2, ["Alder", "24, place Kléber", "Strasbourg"], mended=True),
        Row(3, ["Birch, Inc", "1, High Street", "York"], mended=True),
    ]


def test_cells_are_not_joined_where_every_cell_begins_with_a_space(write: Write) -> None:
    _, rows = read(write("name, address, city\nAlder, 24, place Kléber, Strasbourg\nBirch, 7 Hill, York\n"))
    assert rows[0].fault.startswith("It has 4 cells")
    assert rows[1].cells == ["Birch", " 7 Hill", " York"]


def test_wrong_quotation_marks_cost_their_own_lines_alone(write: Write) -> None:
    _, rows = read(write('name,city\n"Alder" Ltd,Leeds\nBirch,York\n"Cedar\nLtd"x,Bath\nDelta,Hull\n'))
    assert [(row.line, bool(row.fault), row.cells) for row in rows] == [
        (2, True, []),
        (3, False, ["Birch", "York"]),
        (4, True, []),
        (6, False, ["Delta", "Hull"]),
    ]
    assert rows[0].fault.startswith("The quotation marks of line 2 do not match")
    assert rows[2].fault.startswith("The quotation marks of lines 4 to 5 do not match")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_quotation_mark_that_is_never_closed_is_said(write: Write, end: str) -> None:
    lines = ["name,notes", '"Alder","one', '\u2028\x0btwo","three', "four", "Birch,", "Cedar,"]
    _, rows = read(write(end.join(lines) + end))
    assert [row.line for row in rows] == [2]
    assert rows[0].fault == (
        "The quotation marks of lines 2 to 6 do not match, or a cell is longer than 131,072 characters: "
        "the one in line 3 is still open in line 6. Close each quotation mark where its cell ends, and double those "
        "inside a cell."
    )


def test_a_quotation_mark_that_is_never_closed_costs_as_many_lines_as_a_cell_holds(write: Write) -> None:
    lines = ["name,city", "Alder,Leeds", '"Birch,York', *["Cedar,Bath"] * 30_000, "Delta,Hull"]
    _, rows = read(write("\n".join(lines)))
    last = 3 + csv.field_size_limit() // len("Cedar,Bath\n")
    assert [row.line for row in rows] == [2, 3, *range(last + 1, len(lines) + 1)]
    assert f"the one in line 3 is still open in line {last}. Close" in rows[1].fault
    assert rows[-1].cells == ["Delta", "Hull"]


def test_a_header_is_made_clean(write: Write) -> None:
    table, _ = read(write(' "Company\nname" ,\u200bcity\u00a0\nAlder,Leeds\n'.replace(' "', '"').replace('" ', '"')))
    assert table.header == ["Company name", "city"]


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n,,\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (zipped(), "is an Excel workbook or a ZIP file. Save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 9, "is an old Excel workbook. Save it as CSV"),
        (b"%PDF-1.7\n", "is a PDF file. Save it as CSV"),
        (b"\x1f\x8b\x08\x00", "is a compressed file. Save it as CSV"),
        (b"name,city\nAl\x00der,Leeds\n", "holds NUL characters"),
        ("name,city\nAlder,Leeds\n".encode("utf-16-le"), "holds NUL characters"),
        (b"name\nCaf\xe9\x81\n", "is not text in UTF-8, UTF-16 or Windows-1252"),
        (b"\xff\xfen\x00a", "is not text in UTF-8, UTF-16 or Windows-1252"),
        (",".join(f"column {number}" for number in range(100_000)).encode(), "has 100,000 columns, and at most 1,000"),
        (b'"name,city\nAlder,Leeds\n', "The first line of .* cannot be read. The quotation marks of lines 1 to 2"),
    ],
)  # fmt: skip
def test_what_is_no_table_says_why(write: Write, content: bytes, said: str) -> None:
    with pytest.raises(ImportRefused, match=said):
        Table.open(write(content))


def test_a_folder_and_a_missing_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"is not a file\. Name a CSV file"):
        Table.open(tmp_path)
    with pytest.raises(ImportRefused, match="cannot be read: No such file or directory"):
        Table.open(tmp_path / "missing.csv")


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=8), delimiter=st.sampled_from(list(DELIMITERS)))
def test_what_a_program_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("written") / "file.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["name", "city", "notes"], *rows])
    table = Table.open(path)
    assert table.header == ["name", "city", "notes"]
    kept = [cells for cells in rows if "".join(cells) and not "".join(cells).isspace()]
    assert table.delimiter == delimiter
    assert [row.cells for row in table.rows()] == kept
