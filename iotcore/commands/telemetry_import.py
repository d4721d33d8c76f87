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
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from iotcore.clock import Clock
from iotcore.commands import line_file, parquet_file
from iotcore.commands.whole_file import checked
from iotcore.errors import StartError, StoreError
from iotcore.process import home
from iotcore.settings import Settings
from iotcore.telemetry.embedded import EmbeddedStore, TelemetryFile
from iotcore.telemetry.line_parse import NotALineError, parse
from iotcore.telemetry.rollup import HOUR_MS
from iotcore.telemetry.store import Confidential, Later, Store
from iotcore.telemetry.stored import from_line, reading_of
from iotcore.telemetry.stores import TELEMETRY_DB, open_confidential, open_store
from iotcore.wire import topics

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
    measurements: list[str]
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
    async with TelemetryFile(settings.folder / TELEMETRY_DB) as own, AsyncExitStack() as stack:
        # `own` is the embedded store, or notes for the rollups what InfluxDB took late
        stores = [await stack.enter_async_context(open_store(settings, clock, own))]
        confidential = await stack.enter_async_context(open_confidential(settings, clock, own))
        if confidential is not None:
            stores.append(confidential.store)
        for store in stores:
            await _made_ready(store, clock)
        for file in files:
            await _import(stores[0], confidential, file, outcome)
    return outcome


async def _made_ready(store: Store, clock: Clock) -> None:
    problem = await store.ensure()
    if problem is not None:
        raise StoreError(f"the telemetry store cannot be written ({problem.reason}): {problem.detail}")
    if isinstance(store, EmbeddedStore):  # all that we write is late: whoever rolls up has long gone on
        touched, future_ms = store.touched, int(clock.wall_ms()) + HOUR_MS
        await store.file.in_transaction(lambda connection: touched.take(connection, future_ms))


async def _import(store: Store, confidential: Confidential | None, file: Path, outcome: Outcome) -> None:
    """Each line into the store that its class belongs to, a batch at a time."""
    embedded = isinstance(store, EmbeddedStore)
    record = (lambda line: store.record(*reading_of(from_line(line)))) if embedded else _line
    read = parquet_file.numbered_lines if file.suffix == ".parquet" else line_file.numbered_lines
    for batch in _batches(file, read(file), record, EMBEDDED_LINES if embedded else BATCH_LINES, outcome):
        started_s = time.monotonic()
        if confidential is None:
            await _write(store, file, batch, outcome)
        else:
            for part, own in _parted(batch, confidential):
                await _write(confidential.store if own else store, file, part, outcome)
        if embedded:
            await asyncio.sleep((time.monotonic() - started_s) * PARALLEL_PAUSE)


def _parted(batch: _Batch, confidential: Confidential) -> Iterator[tuple[_Batch, bool]]:
    """What of a batch is not confidential, and what is; none of it where there is none."""
    parts = (_Batch([], [], []), _Batch([], [], []))
    for place, measurement, record in zip(batch.places, batch.measurements, batch.records, strict=True):
        of = {measurement, topics.DOMAIN_OF_CLASS.get(measurement, "")}
        part = parts[bool(of & confidential.classes)]
        part.places.append(place)
        part.measurements.append(measurement)
        part.records.append(record)
    return ((part, own) for part, own in zip(parts, (False, True), strict=True) if part.records)


def _batches(
    file: Path, lines: Iterator[tuple[int, bytes]], record: Callable[[bytes], bytes], size: int, outcome: Outcome
) -> Iterator[_Batch]:
    batch = _Batch([], [], [])
    for number, line in lines:
        try:
            made = record(line)
            measurement = parse(line).measurement
        except NotALineError as error:
            outcome.refuse(f"{file}:{number}", str(error))
            continue
        batch.places.append(number)
        batch.measurements.append(measurement)
        batch.records.append(made)
        if len(batch.records) == size:
            yield batch
            batch = _Batch([], [], [])
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
