"""Workbooks (.xlsx), read row by row and written so that the same tables make the same bytes.

A workbook is a zip file of XML: its unpacked size is limited before anything is unpacked, and a document type definition, which
no spreadsheet writes, is refused before any of it is parsed.
"""

from __future__ import annotations

import datetime as dt
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

import openpyxl
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.utils.exceptions import IllegalCharacterError, InvalidFileException

from iotcore.errors import ConfigError, Problem
from iotcore.registry.sheets import words
from iotcore.registry.sheets.cells import Broken, Cell, Formula
from iotcore.registry.sheets.table import MAX_UNPACKED_BYTES, Row, Table, check_size, limited, refused

OLD = b"\xd0\xcf\x11\xe0"  # a compound file: .xls, or a workbook with a password
HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
MERGED = re.compile(rb'mergeCell ref="([A-Z0-9:]{1,40})"')
MAX_SAID = 5  # merged ranges that are named
ZEROS = re.compile("0{2,40}")  # a number format that shows leading zeros
SAVED = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # what a workbook of ours says, whenever it was written
ZIP_TIME = SAVED.timetuple()[:6]
MODIFIED = re.compile(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*")
COLUMN_WIDTH = 18  # characters
TEXT = "@"  # the number format of text: digits that are typed there stay text


@contextmanager
def opened(path: Path) -> Iterator[list[Table]]:
    """The sheets of a workbook, as long as it is open, each with the kind that its name says.

    Raises:
        ConfigError: it cannot be read, is too large, or hides something; its rows raise it too.
    """
    check_size(path)
    with _readable(path):
        merged = _inspected(path)
        book = _opened(path)
    try:
        yield [_table(path, sheet, merged, alone=len(book.worksheets) == 1) for sheet in book.worksheets]
    finally:
        book.close()


def _table(path: Path, sheet: Any, merged: Mapping[str, Sequence[str]], *, alone: bool) -> Table:
    part = str(getattr(sheet, "_worksheet_path", "")).lstrip("/")
    kind = words.kind_of(sheet.title)
    if (kind or alone) and part in merged:
        reason = f"merged cells ({', '.join(merged[part])}): only the first holds anything; unmerge them and fill each"
        raise refused(path, reason, sheet.title)
    return Table(sheet.title, kind, partial(_rows, path, sheet))


def _inspected(path: Path) -> dict[str, list[str]]:
    """Refuse what is no harmless workbook; the merged cells by part of the file."""
    merged = {}
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MAX_UNPACKED_BYTES:
            raise refused(path, f"unpacks to {size / 1e6:.0f} MB of at most {MAX_UNPACKED_BYTES / 1e6:.0f}: split it")
        for member in archive.infolist():
            with archive.open(member) as part:
                head = part.read(HEAD_BYTES)
                if b"<!DOCTYPE" in head.replace(b"\0", b"") or b"<!ENTITY" in head.replace(b"\0", b""):
                    raise refused(path, "holds a document type definition, which no workbook needs", member.filename)
                if member.filename.startswith("xl/worksheets/") and (ranges := _merged(head, part.read)):
                    merged[member.filename] = ranges
    return merged


def _merged(head: bytes, read: Callable[[int], bytes]) -> list[str]:
    found: list[str] = []
    tail = head
    while len(found) < MAX_SAID:
        found += [one.decode() for one in MERGED.findall(tail)]
        more = read(CHUNK_BYTES)
        if not more:
            break
        tail = tail[-60:] + more
    return sorted(set(found))[:MAX_SAID]


def _opened(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which extensions of a sheet it does not keep; we write none back
        return openpyxl.load_workbook(path, read_only=True, data_only=False, keep_links=False)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        with path.open("rb") as file:
            if file.read(len(OLD)) == OLD:
                raise refused(path, "an old workbook (.xls), or one with a password; save it as .xlsx without one")
        yield
    except (zipfile.BadZipFile, KeyError, ValueError, InvalidFileException, ParseError, SyntaxError, EOFError) as error:
        raise refused(path, f"is no workbook that can be read ({error}); save it again as .xlsx") from error
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror or error}") from error


def _rows(path: Path, sheet: Any) -> Iterator[Row]:
    with _readable(path):
        sheet.reset_dimensions()  # what it says of its own size may be anything
        yield from limited(path, sheet.title, ((n, [_cell(one) for one in row]) for n, row in enumerate(sheet.iter_rows(), 1)))


def _cell(cell: Any) -> Cell:
    given: Any = cell.value
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    kind = cell.data_type
    if kind == "f":
        return Formula(str(given))
    if kind == "e":
        return Broken(str(given))
    if kind == "n" and isinstance(given, int) and ZEROS.fullmatch(cell.number_format):
        return str(given).zfill(len(cell.number_format))  # as it is shown
    found: Cell = given
    return found


def write(file: BinaryIO, sheets: Iterable[tuple[str, Sequence[str], Iterable[Sequence[Any]]]]) -> None:
    """Sheets as a workbook: name, header, rows of cells. A text stays text, whatever it looks like.

    Raises:
        ConfigError: a text that no workbook can hold.
    """
    book = openpyxl.Workbook(write_only=True)
    for name, header, rows in sheets:
        sheet = book.create_sheet(name)
        sheet.freeze_panes = "A2"
        for number, _ in enumerate(header, 1):
            sheet.column_dimensions[get_column_letter(number)].width = COLUMN_WIDTH
        sheet.append([_styled(sheet, column, bold=True) for column in header])
        for row in rows:
            try:
                sheet.append([_written(sheet, cell) for cell in row])
            except IllegalCharacterError as error:
                reason = "holds a character that no workbook can; export as CSV or JSON"
                raise ConfigError([Problem(name, str(row[0]), reason)]) from error
    _save(book, file)


def _written(sheet: Any, given: Any) -> Any:
    if isinstance(given, Formula | Broken):  # it was read from a workbook, and goes back to be mended
        return given.text
    if isinstance(given, str):
        return _styled(sheet, given) if given else None
    if isinstance(given, float) and float(f"{given:.16g}") != given:  # what openpyxl writes of a number
        cell = WriteOnlyCell(sheet, repr(given))
        cell.data_type = "n"
        return cell
    return given


def _styled(sheet: Any, text: str, *, bold: bool = False) -> Any:
    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"  # whatever it begins with: a text is never computed
    cell.number_format = TEXT
    if bold:
        cell.font = Font(bold=True)
    return cell


def _save(book: Any, file: BinaryIO) -> None:
    """Save it and take out when that was: the same tables make the same bytes."""
    with tempfile.TemporaryFile() as scratch:
        book.save(scratch)
        with zipfile.ZipFile(scratch) as saved, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in saved.namelist():
                content = saved.read(name)
                if name == "docProps/core.xml":
                    content = MODIFIED.sub(rb"\g<1>" + f"{SAVED:%Y-%m-%dT%H:%M:%SZ}".encode(), content)
                member = zipfile.ZipInfo(name, ZIP_TIME)
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, content)
