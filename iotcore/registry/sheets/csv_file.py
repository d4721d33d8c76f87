"""CSV as it comes from spreadsheets: UTF-8 or UTF-16, with a comma, semicolon or tab between the cells, and the way back.

A cell that begins with = + - or @ is written with an apostrophe before it, for a spreadsheet would compute it; reading takes it
off. A row with fewer cells than the header is refused: it may be cut off.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from iotcore.registry.sheets.cells import Cell, Formula, shown
from iotcore.registry.sheets.table import Row, Table, check_size, limited, refused

DELIMITERS = (",", ";", "\t")
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
GUARDED = re.compile(r"'*[=+\-@\t\r]")
UNGUARDED = re.compile(r"'+[=+\-@\t\r]")
HEAD_BYTES = 64 * 1024
SAID_DELIMITER = re.compile(r"sep=(.)\s*")  # a first line that Excel understands


def table(path: Path, kind: str, known: Callable[[Sequence[str]], int]) -> Table:
    """The file as a table. `known` counts the cells of a header that are names of columns: it tells the delimiter.

    Raises:
        ConfigError: it cannot be read, or is too large; its rows raise it too.
    """
    check_size(path)
    encoding = _encoding(path)
    return Table(path.name, kind, partial(_rows, path, encoding, _delimiter(path, encoding, known)), padded=True)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for mark, name in MARKS if head.startswith(mark)), "utf-8")


def _delimiter(path: Path, encoding: str, known: Callable[[Sequence[str]], int]) -> str:
    with path.open("r", encoding=encoding, errors="replace", newline=None) as file:
        lines = file.read(HEAD_BYTES).splitlines()
    first = next((line for line in lines if line.strip()), "")
    if said := SAID_DELIMITER.fullmatch(first):
        return said[1]
    return max(DELIMITERS, key=lambda one: (known(next(csv.reader([first], delimiter=one), [])), first.count(one)))


def _rows(path: Path, encoding: str, delimiter: str) -> Iterator[Row]:
    return limited(path, "", _parsed(path, encoding, delimiter))


def _parsed(path: Path, encoding: str, delimiter: str) -> Iterator[Row]:
    number = 0
    with path.open("r", encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for number, cells in enumerate(reader, 1):
                if number > 1 or not (len(cells) in (1, 2) and SAID_DELIMITER.fullmatch(delimiter.join(cells))):
                    yield number, [_cell(text) for text in cells]
        except UnicodeDecodeError as error:
            raise refused(path, "is not UTF-8; in Excel: Save as, CSV UTF-8 (comma delimited)", _undecoded(path)) from error
        except csv.Error as error:
            reason = f"{error}: a quotation mark that does not close, or that stands alone within a cell"
            raise refused(path, reason, f"after row {number}") from error


def _undecoded(path: Path) -> str:
    """The first line that is not UTF-8; the decoder reads ahead and only knows the block."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number}"
    return ""


def _cell(text: str) -> Cell:
    stripped = text.strip()
    if not stripped:
        return None
    if stripped.startswith("="):
        return Formula(stripped)
    return text[1:] if UNGUARDED.match(text) else text


def write(file: BinaryIO, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file for spreadsheets: UTF-8 with its mark, commas, CRLF. A formula stays one: it was read from such a file."""
    file.write(codecs.BOM_UTF8)
    writer = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_guarded(cell) for cell in row] for row in rows)


def _guarded(cell: Any) -> str:
    return f"'{cell}" if isinstance(cell, str) and GUARDED.match(cell) else shown(cell)
