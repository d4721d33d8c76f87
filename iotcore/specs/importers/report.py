"""What an import could not carry over, and what a person must look at: each with where it stands, what it is and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST = 200  # characters of a file's own text that a note repeats


class Unsayable(Exception):
    """A spec cannot say this; its text is the reason."""


class Note(NamedTuple):
    """`where` is a path in the imported file, `what` the thing, `why` the reason and, where it helps, what to write instead."""

    where: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.why}" if self.where else f"{self.what}: {self.why}"


@dataclass(frozen=True, slots=True)
class Report:
    """`points` were carried over; `left_out` was not; `check` was, but only a person can know that it is right."""

    points: int
    left_out: tuple[Note, ...]
    check: tuple[Note, ...]

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        found = [f"{self.points} points carried over, {len(self.left_out)} things left out, {len(self.check)} to check"]
        found += [f"left out  {note}" for note in self.left_out]
        found += [f"check     {note}" for note in self.check]
        return found


@dataclass(slots=True)
class Findings:
    """Notes while an import is under way."""

    left_out: list[Note] = field(default_factory=list)
    check: list[Note] = field(default_factory=list)

    def lost(self, where: str, what: str, why: str) -> None:
        """Something of the file that the spec will not have."""
        self.left_out.append(Note(where, shown(what), why))

    def doubt(self, where: str, what: str, why: str) -> None:
        """Something that was carried over and needs a look."""
        self.check.append(Note(where, shown(what), why))


def shown(text: object) -> str:
    """Text of a file as one printable line that is not too long to read."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)[: 2 * LONGEST]).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
