"""The registry as files that are read back: what is imported from an export is what was exported, to the byte.

And the rows that an import refused, as they stood, with the reasons in a column of their own, to mend and import again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from iotcore.registry.draft import Fault
from iotcore.registry.kinds import KINDS, Fields
from iotcore.registry.sheets import csv_file, workbook
from iotcore.registry.sheets.cells import cell_of
from iotcore.registry.sheets.read import tables
from iotcore.registry.sheets.table import Table, refused
from iotcore.registry.sheets.words import REASON

Document = Mapping[str, Sequence[Fields]]
RefusedRows = Mapping[str, Mapping[int, str]]  # by kind: row → id
Reasons = Mapping[tuple[str, int], Sequence[str]]  # by kind and row


def export(file: BinaryIO, path: Path, document: Document) -> None:
    """Write the document in the format that the name of `path` says.

    Raises:
        ConfigError: no format of that name, or several kinds for one CSV file.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        _json(file, document)
    elif suffix == ".xlsx":
        workbook.write(file, ((kind, KINDS[kind].fields, _cells(entries)) for kind, entries in document.items()))
    elif suffix != ".csv":
        raise refused(path, "neither of .csv, .json, .xlsx, by its name")
    elif len(document) != 1:
        raise refused(path, f"a CSV file holds one kind; add --kind {'|'.join(document)}, or write .xlsx or .json")
    else:
        ((kind, entries),) = document.items()
        csv_file.write(file, KINDS[kind].fields, _cells(entries))


def _cells(entries: Sequence[Fields]) -> Iterator[list[Any]]:
    return ([cell_of(given) for given in entry.values()] for entry in entries)


def _json(file: BinaryIO, document: Mapping[str, Sequence[Any]]) -> None:
    """An entry a line, so that two exports can be compared by lines."""
    file.write(b"{")
    for number, (kind, entries) in enumerate(document.items()):
        file.write(b",\n" if number else b"\n")
        file.write(msgspec.json.encode(kind) + b": [")
        file.writelines((b",\n  " if place else b"\n  ") + msgspec.json.encode(entry) for place, entry in enumerate(entries))
        file.write(b"\n]" if entries else b"]")
    file.write(b"\n}\n")


def rejected(
    file: BinaryIO, path: Path, kind: str, refused_rows: Mapping[str, Mapping[int, str]], faults: Sequence[Fault]
) -> None:
    """The refused rows of the file at `path`, in its own form. `kind` is what it was read as, or ""."""
    if path.suffix.lower() == ".json":
        document = msgspec.json.decode(path.read_bytes())
        _json(file, {name: [document[name][row] for row in sorted(rows)] for name, rows in refused_rows.items() if rows})
        return
    why: dict[tuple[str, int], list[str]] = {}
    for fault in faults:
        column = fault.where.partition(", ")[2]
        why.setdefault((fault.kind, fault.row), []).append(f"{column}: {fault.reason}" if column else fault.reason)
    with tables(path, kind) as found:
        parts = [(table.name, *_kept(table, refused_rows[table.kind], why)) for table in found if refused_rows[table.kind]]
        if path.suffix.lower() == ".csv":
            for _, header, rows in parts:
                csv_file.write(file, header, rows)
        else:
            workbook.write(file, parts)


def _kept(
    table: Table, wanted: Mapping[int, str], why: Mapping[tuple[str, int], Sequence[str]]
) -> tuple[list[Any], Iterator[Any]]:
    """The header and the wanted rows, each with the reason first: what is wrong may be how many cells a row has."""
    rows = table.rows()
    _, header = next(rows)
    own = [place for place, name in enumerate(header) if name != REASON]
    old = set(range(len(header))) - set(own)

    def kept() -> Iterator[list[Any]]:
        for number, cells in rows:
            if number in wanted:
                as_they_were = [cell for place, cell in enumerate(cells) if place not in old]
                yield ["; ".join(why.get((table.kind, number), ())), *as_they_were]

    return [REASON, *(str(header[place] or "") for place in own)], kept()
