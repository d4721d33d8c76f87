"""A file of areas, premises, contacts, zones and devices as a draft: CSV, a workbook, or a JSON document.

The first row that holds anything names the columns. A column of the table that is no field is refused; a field that has no column
is not said, and an empty cell says that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from iotcore.errors import ConfigError, Problem
from iotcore.registry import draft as drafts
from iotcore.registry.draft import Draft
from iotcore.registry.kinds import KINDS, Fields
from iotcore.registry.sheets import csv_file, words, workbook
from iotcore.registry.sheets.cells import Cell, Unfit, value
from iotcore.registry.sheets.table import Row, Table, check_size, refused

FORMATS = (".csv", ".json", ".xlsx")
ZERO_LED = ("account", "phone", "serial")  # may begin with a zero, which spreadsheets drop


def read(path: Path, kind: str = "") -> Draft:
    """A file as a draft. `kind` is for a CSV file or a single sheet whose name does not say what it holds.

    Raises:
        ConfigError: the file as a whole cannot be read; what is wrong with single rows stands in the draft.
    """
    if path.suffix.lower() == ".json":
        return drafts.from_document(_document(path), str(path))
    draft = Draft()
    with tables(path, kind) as found:
        for table in found:
            _take(draft, path, table)
    return draft


def _document(path: Path) -> Any:
    check_size(path)
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise refused(path, f"cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused(path, f"is not JSON: {error}") from error


@contextmanager
def tables(path: Path, kind: str = "") -> Iterator[list[Table]]:
    """The tables of a file that are to be read, each with its kind.

    Raises:
        ConfigError: it has none, or they do not say what they hold.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise refused(path, f"neither of {', '.join(FORMATS)}, by its name")
    if suffix == ".csv":
        held = kind or words.kind_of(path.stem)
        if not held:
            raise refused(path, f"does not say what it holds; add --kind {'|'.join(KINDS)}")
        yield [csv_file.table(path, held, lambda header: _known(held, header))]
        return
    with workbook.opened(path) as found:
        yield _wanted(path, found, kind)


def _wanted(path: Path, found: Sequence[Table], kind: str) -> list[Table]:
    """The sheets that hold a kind, or this kind; what others refer to comes first."""
    if kind and not any(table.kind == kind for table in found) and len(found) == 1:
        found = [Table(found[0].name, kind, found[0].rows)]
    named = [table for table in found if table.kind and kind in ("", table.kind)]
    if not named:
        raise refused(path, f"has no sheet called {' or '.join([kind] if kind else KINDS)}; it has: {_names(found)}")
    order = list(KINDS)
    return sorted(named, key=lambda table: order.index(table.kind))


def _names(found: Sequence[Table]) -> str:
    return ", ".join(table.name for table in found)


def _known(kind: str, header: Sequence[str]) -> int:
    return sum(words.fold(name) in words.columns(kind) for name in header)


def _take(draft: Draft, path: Path, table: Table) -> None:
    rows = table.rows()
    header = next(rows, None)
    if header is None:
        return
    head = _head(path, table, header)
    draft.named[table.kind] = {one.key: one.name for one in head.columns.values()}
    for number, cells in rows:
        _row(draft, table, head, number, cells)
    draft.told += [f"{table.kind}, {one.name}: {said}" for one in head.columns.values() for said in one.told()]


@dataclass(slots=True)
class _Column:
    """A column, and what was odd in it."""

    name: str
    key: str
    type: Any
    default: Any  # UNSET for a field that must be given
    numbers: list[int] = field(default_factory=list)  # rows with a number where a text belongs
    lengths: dict[int, list[int]] = field(default_factory=dict)  # rows of digits only, by how many
    zero_led: bool = False

    def notice(self, row: int, cell: Cell, given: Any) -> None:
        """Look at a value of a column whose values may begin with a zero."""
        if isinstance(given, str) and isinstance(cell, int | float):
            self.numbers.append(row)
        if self.key in ZERO_LED and isinstance(given, str) and given.isdecimal():
            self.zero_led |= given.startswith("0")
            self.lengths.setdefault(len(given), []).append(row)

    def told(self) -> Iterator[str]:
        """What a person should look at."""
        if self.numbers:
            yield (
                f"{len(self.numbers)} cells are numbers (the first in row {self.numbers[0]}): if they began with a zero, the "
                "spreadsheet has dropped it; format the column as text"
            )
        longest = max(self.lengths, default=0)
        short = sorted(row for length, rows in self.lengths.items() if length < longest for row in rows)
        if short and not self.zero_led:
            yield (
                f"{len(short)} numbers are shorter than the others (the first in row {short[0]}): if they began with a zero, a "
                "spreadsheet has dropped it"
            )


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first row says: the columns by their place, places whose cells do not matter, how many cells it has."""

    columns: Mapping[int, _Column]
    skipped: frozenset[int]
    width: int


def _head(path: Path, table: Table, header: Row) -> _Head:
    """The columns.

    Raises:
        ConfigError: with every column that is unknown, or there twice.
    """
    kind = KINDS[table.kind]
    fields = {one.name: one for one in msgspec.structs.fields(kind.entry)}
    found: dict[int, _Column] = {}
    reasons, skipped = [], set()
    number, cells = header
    for place, cell in enumerate(cells):
        name = "" if cell is None else str(cell).strip()
        if words.fold(name) == words.fold(words.REASON):
            skipped.add(place)
        if not name or place in skipped:
            continue
        key = words.columns(table.kind).get(words.fold(name))
        if key is None:
            reasons.append(f"{name!r} is no column of {table.kind}; there are: {', '.join(kind.fields)}")
        elif any(one.key == key for one in found.values()):
            reasons.append(f"{name!r} is a second column for {key}")
        else:
            found[place] = _Column(name, key, fields[key].type, _default(fields[key]))
    if not reasons and all(one.key != "id" for one in found.values()):
        reasons.append("there is no column id (mã); the first row must name the columns")
    if reasons:
        raise ConfigError([Problem(str(path), f"{table.kind} row {number}", reason) for reason in reasons])
    return _Head(found, frozenset(skipped), max(found) + 1)


def _default(of: Any) -> Any:
    if of.default_factory is not msgspec.NODEFAULT:
        return of.default_factory()
    return msgspec.UNSET if of.default is msgspec.NODEFAULT else of.default


def _row(draft: Draft, table: Table, head: _Head, row: int, cells: Sequence[Cell]) -> None:
    entry: Fields = {}
    found: list[tuple[str, Cell, str]] = []
    if table.padded and len(cells) < head.width:
        found.append(("", None, f"has {len(cells)} cells, fewer than columns; cut off, or a separator missing?"))
    for place, cell in enumerate(cells):
        if cell is not None and place not in head.columns and place not in head.skipped:
            found.append(("", cell, f"cell {place + 1} stands under no name; a separator too many?"))
    for place, column in head.columns.items():
        if place >= len(cells) and table.padded:
            break
        cell = cells[place] if place < len(cells) else None
        try:
            entry[column.key] = _given(column, cell)
        except Unfit as unfit:
            found.append((column.key, cell, str(unfit)))
        else:
            column.notice(row, cell, entry[column.key])
    if not found:
        draft.add(table.kind, row, entry)
        return
    draft.refuse(table.kind, row, entry)
    for key, cell, reason in found:
        draft.blame(table.kind, row, key, cell, reason)


def _given(column: _Column, cell: Cell) -> Any:
    if cell is None and column.default is not msgspec.UNSET:
        return column.default
    return value(cell, column.type)
