"""iotcore telemetry import: exported readings back into the store; what is there already stays one reading.

A line that is none is said with its number and left out, and its neighbours go in. The embedded store may be in use meanwhile:
SQLite lets a second process write, and ours takes short turns and leaves as long a pause after each, so that the telemetry lane
finds the file free.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from iotcore.clock import Clock
from iotcore.commands import line_file, parquet_file
from iotcore.commands.whole_file import checked
from iotcore.errors import StartError, StoreError
from iotcore.process import home
from iotcore.settings import Settings
from iotcore.telemetry.embedded import EmbeddedStore
from iotcore.telemetry.line_parse import NotALineError, parse
from iotcore.telemetry.store import Later, Store
from iotcore.telemetry.stored import from_line, reading_of
from iotcore.telemetry.stores import open_store

BATCH_LINES = 5_000  # InfluxDB documentation, "Optimize writes"
EMBEDDED_LINES = 1_000  # a turn of some tens of ms
PARALLEL_PAUSE = 1.0  # times as long as the turn took
TRIES = 5  # of a store that is busy
LONGEST_WAIT_S = 30.0
SHOWN_PROBLEMS = 20
SUFFIXES = (".lp", ".lp.gz", ".parquet")


@dataclass(slots=True)
class Outcome:
    """What became of the lines of all files."""

    readings: int = 0
    refused: int = 0
    shown: list[str] = field(default_factory=list)

    def refuse(self, place: str, why: str) -> None:
        """Count it; the first of them are told."""
        self.refused += 1
        if self.refused <= SHOWN_PROBLEMS:
            self.shown.append(f"{place}: {why}")


@dataclass(frozen=True, slots=True)
class _Batch:
    places: list[int]
    records: list[bytes]


async def import_files(settings: Settings, clock: Clock, files: Sequence[Path]) -> Outcome:
    """Import files one after the other; each manifest is checked before anything is written.

    Raises:
        StartError: when a file is not what its manifest says, or cannot be read.
        StoreError: when the store does not take it; what is in is in, and importing again changes nothing.
    """
    home.check_folder(settings.folder)
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise StartError(f"{file} is neither .lp, .lp.gz nor .parquet", "Name it by what it is.")
        await asyncio.to_thread(checked, file)
    outcome = Outcome()
    async with open_store(settings, clock) as store:
        problem = await store.ensure()
        if problem is not None:
            raise StoreError(f"the telemetry store cannot be written ({problem.reason}): {problem.detail}")
        for file in files:
            await _import(store, file, outcome)
    return outcome


async def _import(store: Store, file: Path, outcome: Outcome) -> None:
    read = parquet_file.numbered_lines if file.suffix == ".parquet" else line_file.numbered_lines
    embedded = isinstance(store, EmbeddedStore)
    record = (lambda line: store.record(*reading_of(from_line(line)))) if embedded else _line
    for batch in _batches(file, read(file), record, EMBEDDED_LINES if embedded else BATCH_LINES, outcome):
        started_s = time.monotonic()
        await _write(store, file, batch, outcome)
        if embedded:
            await asyncio.sleep((time.monotonic() - started_s) * PARALLEL_PAUSE)


def _batches(
    file: Path, lines: Iterator[tuple[int, bytes]], record: Callable[[bytes], bytes], size: int, outcome: Outcome
) -> Iterator[_Batch]:
    batch = _Batch([], [])
    for number, line in lines:
        try:
            made = record(line)
        except NotALineError as error:
            outcome.refuse(f"{file}:{number}", str(error))
            continue
        batch.places.append(number)
        batch.records.append(made)
        if len(batch.records) == size:
            yield batch
            batch = _Batch([], [])
    if batch.records:
        yield batch


async def _write(store: Store, file: Path, batch: _Batch, outcome: Outcome) -> None:
    """Write a batch; a busy store is asked again a few times."""
    attempt = 1
    while isinstance(result := await store.write(b"\n".join(batch.records), len(batch.records)), Later):
        if attempt == TRIES:
            raise StoreError(
                f"the telemetry store does not take line {batch.places[0]} of {file} ({result.reason}): {result.detail}; "
                f"{outcome.readings} readings are in, and importing again changes nothing of them"
            )
        await asyncio.sleep(min(max(result.after_s, float(attempt)), LONGEST_WAIT_S))
        attempt += 1
    places = dict(zip(batch.records, batch.places, strict=True))
    for one in result.rejected:
        outcome.refuse(f"{file}:{places.get(one.record, batch.places[0])}", f"the store refused it: {one.detail}")
    outcome.readings += len(batch.records) - len(result.rejected)


def _line(line: bytes) -> bytes:
    """The line itself: what is no reading of a device (an incident, another platform's) is a line all the same."""
    if parse(line).at_ns is None:  # the server would stamp it now, each time anew
        raise NotALineError("has no timestamp")
    return line


async def run(settings: Settings, clock: Clock, files: Sequence[Path]) -> int:
    """Import, and say what became of it; 1 when something was left out."""
    outcome = await import_files(settings, clock, files)
    for problem in outcome.shown:
        sys.stderr.write(f"{problem}\n")
    if outcome.refused > len(outcome.shown):
        sys.stderr.write(f"… and {outcome.refused - len(outcome.shown)} more\n")
    sys.stdout.write(f"{outcome.readings} readings imported, {outcome.refused} lines left out\n")
    return 1 if outcome.refused else 0
