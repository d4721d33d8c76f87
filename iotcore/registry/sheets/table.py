"""A table as a file holds it: rows of cells, read one after the other; and how large a file may be.

The limits keep a wrong or hostile file from taking the machine's memory: 100,000 devices are about 15 MB of CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from iotcore.errors import ConfigError, Problem
from iotcore.registry.sheets.cells import Cell

MAX_FILE_BYTES = 200_000_000
MAX_UNPACKED_BYTES = 1_000_000_000  # of a workbook, which is a zip file
MAX_ROWS = 500_000  # of a table
MAX_COLUMNS = 200

Row = tuple[int, Sequence[Cell]]  # its number, from 1, and its cells


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet of a workbook, or a CSV file: `name` is the sheet's, `kind` is "" when its name says none.

    `padded`: each row must have as many cells as the header.
    """

    name: str
    kind: str
    rows: Callable[[], Iterator[Row]]
    padded: bool = False


def refused(path: Path, reason: str, where: str = "") -> ConfigError:
    """A file that cannot be read as a table."""
    return ConfigError([Problem(str(path), where, reason)])


def check_size(path: Path) -> None:
    """Refuse what is too large; raises ConfigError, also when it is not there."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror}") from error
    if size > MAX_FILE_BYTES:
        raise refused(path, f"has {size / 1e6:.0f} MB of at most {MAX_FILE_BYTES / 1e6:.0f}: split it")


def limited(path: Path, name: str, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows that are not empty, as long as there are not too many."""
    for number, cells in rows:
        if number > MAX_ROWS:
            raise refused(path, f"more than {MAX_ROWS} rows: split it", name)
        if len(cells) > MAX_COLUMNS and any(cell is not None for cell in cells[MAX_COLUMNS:]):
            raise refused(path, f"more than {MAX_COLUMNS} columns", f"{name} row {number}")
        if any(cell is not None for cell in cells):
            yield number, cells
