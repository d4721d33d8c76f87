"""A maker's list of units: CSV with the columns model, serial, secret (SHA-256 in hex), checked whole before anything is kept."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Container, Iterable
from pathlib import Path

from iotcore.errors import ConfigError, Problem
from iotcore.registry.claims import UnitEntry

COLUMNS = ("model", "serial", "secret")
SERIAL = re.compile(r"[A-Za-z0-9_-]{1,64}")  # it is the common name of the unit's request
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
MAX_BYTES = 32 * 1024 * 1024  # about 300,000 units


def read(path: Path, models: Container[str]) -> list[UnitEntry]:
    """The units in a file. Lines are counted as the file has them, the heading is line 1.

    Raises:
        ConfigError: with all that is wrong, line by line.
    """
    entries: list[UnitEntry] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, ...], int] = {}
    for line, row in _rows(path):
        entry = UnitEntry(row["model"], row["serial"], row["secret"].lower())
        said = list(_wrong(entry, models))
        for what in (("unit", entry.model, entry.serial), ("secret", entry.secret)):
            first = seen.setdefault(what, line)
            if first != line and what[-1]:
                said.append(f"the same {what[0]} stands in line {first}")
        problems += [Problem(str(path), f"line {line}", reason) for reason in said]
        entries.append(entry)
    if not entries:
        problems.append(Problem(str(path), "", "holds no unit"))
    if problems:
        raise ConfigError(problems)
    return entries


def _rows(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise ConfigError([Problem(str(path), "", f"has more than {MAX_BYTES} bytes; divide it")])
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), "", f"is not UTF-8: {error}")]) from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), restval="")
    names = tuple(name.strip().lower() for name in reader.fieldnames or ())
    if sorted(names) != sorted(COLUMNS):
        raise ConfigError([Problem(str(path), "line 1", f"names the columns {', '.join(names)}; needed: {', '.join(COLUMNS)}")])
    reader.fieldnames = names
    for row in reader:
        yield reader.line_num, {name: str(row[name]).strip() for name in COLUMNS}


def _wrong(entry: UnitEntry, models: Container[str]) -> Iterable[str]:
    if entry.model not in models:
        yield f"no spec describes the model {entry.model!r}"
    if not SERIAL.fullmatch(entry.serial):
        yield f"the serial {entry.serial[:80]!r} has other characters than A–Z, a–z, 0–9, _ and -, or more than 64"
    if entry.secret and not SHA256_HEX.fullmatch(entry.secret):
        yield "the secret is no SHA-256 in hex (64 digits): a list holds hashes, never the secrets themselves"
