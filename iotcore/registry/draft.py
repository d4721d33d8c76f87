"""A draft: the entries of a file before any is stored, each with the place it came from, and what is wrong with it so far.

file ─► Draft (entries as they stand, faults of their cells) ─► judging (shape, references, clashes) ─► what can be stored
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from iotcore.errors import ConfigError, Problem
from iotcore.registry.kinds import KINDS, Fields
from iotcore.registry.text import tidy, unseen


class Fault(NamedTuple):
    """What is wrong at a place of a file: `row` as a spreadsheet counts them, or the entry's place in a JSON list, from 0."""

    kind: str
    row: int
    column: str
    value: str  # as it stands there; "" for none
    reason: str
    where: str  # the place as people find it
    follows: bool = False  # only because another row is refused

    def __str__(self) -> str:
        return f"{self.where} is {self.value!r}: {self.reason}" if self.value else f"{self.where}: {self.reason}"


@dataclass(slots=True)
class Draft:
    """What a file holds: entries by kind, and their rows beside them.

    `named` are the columns of a kind as the file calls them, by field; `refused` are rows that cannot be read; `told` is what a
    person should look at although it can be stored.
    """

    tabular: bool = True
    entries: dict[str, list[Fields]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    rows: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    named: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refused: dict[str, dict[int, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})  # kind → row → id or ""
    told: list[str] = field(default_factory=list)

    def add(self, kind: str, row: int, entry: Fields) -> None:
        """One more entry."""
        self.entries[kind].append(entry)
        self.rows[kind].append(row)

    def blame(self, kind: str, row: int, column: str, value: Any, reason: str, *, follows: bool = False) -> None:
        """Something is wrong at `column`: a field, or what the file calls a column; "" for the whole row."""
        shown = "" if value is None or isinstance(value, dict | list) else str(value)
        self.faults.append(Fault(kind, row, column, shown, reason, self.where(kind, row, column), follows))

    def refuse(self, kind: str, row: int, entry: Fields) -> None:
        """A row that can be no entry; what names it cannot be stored either."""
        one = entry.get("id")
        self.refused[kind][row] = one if isinstance(one, str) else ""

    def where(self, kind: str, row: int, column: str = "") -> str:
        """A place as people find it."""
        if not self.tabular:
            return f"{kind}[{row}].{column}" if column else f"{kind}[{row}]"
        name = self.named.get(kind, {}).get(column, column)
        return f"{kind} row {row}, {name}" if name else f"{kind} row {row}"

    @property
    def count(self) -> int:
        """How many rows it has, readable or not."""
        return sum(len(part) for part in self.entries.values()) + sum(len(part) for part in self.refused.values())


def from_document(document: Any, name: str) -> Draft:
    """A JSON city document as a draft.

    Raises:
        ConfigError: it is not even a table of lists.
    """
    if not isinstance(document, dict):
        raise ConfigError([Problem(name, "", f"expected a table, got {type(document).__name__}")])
    draft = Draft(tabular=False)
    for kind, entries in document.items():
        if kind not in KINDS:
            draft.faults.append(Fault(str(kind), 0, "", "", f"unknown key; known are: {', '.join(KINDS)}", str(kind)))
        elif not isinstance(entries, list):
            draft.faults.append(Fault(kind, 0, "", "", f"expected a list, got {type(entries).__name__}", kind))
        else:
            for row, entry in enumerate(entries):
                _entry(draft, kind, row, entry)
    return draft


def _entry(draft: Draft, kind: str, row: int, entry: Any) -> None:
    if not isinstance(entry, dict):
        draft.blame(kind, row, "", entry, f"expected a table, got {type(entry).__name__}")
        draft.refuse(kind, row, {})
        return
    hidden = {key: reason for key, value in entry.items() if (reason := unseen(value))}
    for key, reason in hidden.items():
        draft.blame(kind, row, key, None, reason)
    if hidden:
        draft.refuse(kind, row, entry)
    else:
        draft.add(kind, row, {key: tidy(value) for key, value in entry.items()})
