"""Replay: a measured fire from a CSV file as a fire detector's timeline.

`load` reads and checks the file, `with_baseline` puts a quiet time before it, `play` walks it in real or scaled time.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from random import Random
from statistics import median

from iotcore.errors import ConfigError, Problem
from simulators.optics import SMOKE_UNITS, decibels_per_metre

QUIET_S = 10.0  # the head of a curve taken as its quiet noise, before smoke can have travelled
QUIET_SAMPLES = 5  # and at least so many samples
PROBLEMS_SHOWN = 20  # a file of the wrong kind has as many problems as rows


@dataclass(frozen=True, slots=True)
class Sample:
    """What a detector measures at one moment: seconds on the timeline, smoke in dB/m, temperature in °C."""

    at_s: float
    smoke: float
    temperature: float


def load(path: Path, time: str, smoke: str, temperature: str, smoke_unit: str = "1/m-od10") -> tuple[Sample, ...]:
    """Read the three named columns; `time` in seconds, `temperature` in °C, `smoke` in `smoke_unit` (see optics).

    Raises:
        ConfigError: with every problem: a missing column (the file's are listed), bad numbers, time that does not advance.
    """
    if smoke_unit not in SMOKE_UNITS:
        raise ConfigError([Problem(str(path), "smoke_unit", f"unknown {smoke_unit!r}; known are: {', '.join(SMOKE_UNITS)}")])
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            missing = [name for name in (time, smoke, temperature) if name not in columns]
            if missing:
                listed = ", ".join(columns) or "none: the file is empty"
                raise ConfigError([Problem(str(path), name, f"no such column; the file has: {listed}") for name in missing])
            rows = list(reader)
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError([Problem(str(path), "", f"is not CSV: {error}")]) from error
    return _samples(rows, (time, smoke, temperature), smoke_unit, str(path))


def with_baseline(samples: Sequence[Sample], seconds: float, seed: int) -> tuple[Sample, ...]:
    """Put `seconds` of quiet before the curve: its first values drawn anew, with their noise, at its own pace.

    The first values are those of the first 10 s, at least five. The same seed gives the same baseline. Times of the
    curve itself do not change: the baseline's are smaller than the first sample's.
    """
    start_s = samples[0].at_s
    quiet = [s for i, s in enumerate(samples) if i < QUIET_SAMPLES or s.at_s < start_s + QUIET_S]
    pace_s = median(later.at_s - earlier.at_s for earlier, later in pairwise(samples)) if samples[1:] else 1.0
    random = Random(seed)
    count = int(seconds / pace_s)
    drawn = [
        Sample(start_s - (count - i) * pace_s, random.choice(quiet).smoke, random.choice(quiet).temperature) for i in range(count)
    ]
    return (*drawn, *samples)


def resample(samples: Sequence[Sample], every_s: float, phase_s: float = 0.0) -> tuple[Sample, ...]:
    """The same curve as a detector with another report interval would tell it: linear between the samples."""
    out, i = [], 0
    at_s, end_s = samples[0].at_s + phase_s, samples[-1].at_s
    while at_s <= end_s:
        while i + 2 < len(samples) and samples[i + 1].at_s < at_s:
            i += 1
        out.append(_between(samples[i], samples[min(i + 1, len(samples) - 1)], at_s))
        at_s = samples[0].at_s + phase_s + len(out) * every_s
    return tuple(out)


async def play(samples: Sequence[Sample], speed: float = 1.0) -> AsyncIterator[Sample]:
    """Yield each sample when its time has come, `speed` times faster than it was measured; a slow consumer is not waited for."""
    if not speed > 0.0:
        raise ValueError(f"speed must be greater than 0, got {speed}")
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    for sample in samples:
        due_s = started_s + (sample.at_s - samples[0].at_s) / speed
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        yield sample


def source_ms(sample: Sample, samples: Sequence[Sample], started_ms: float, speed: float = 1.0) -> float:
    """The time stamp that the replayed detector gives a sample, ms UTC, for a play that started at `started_ms`.

    Stamps keep the curve's own pace and meet the clock at its end, so that a fast play lies in the past and never ahead: the
    rules see the slopes that were measured, at any speed. At speed 1 a stamp is simply the time of playing.
    """
    start_s, end_s = samples[0].at_s, samples[-1].at_s
    return started_ms + 1000.0 * ((end_s - start_s) / speed - (end_s - sample.at_s))


def _samples(rows: list[dict[str, str]], columns: tuple[str, str, str], smoke_unit: str, file: str) -> tuple[Sample, ...]:
    samples: list[Sample] = []
    problems: list[Problem] = []
    for line, row in enumerate(rows, start=2):  # line 1 is the header
        numbers = [_number(row, column, file, line, problems) for column in columns]
        at_s, smoke, temperature = numbers
        if at_s is None or smoke is None or temperature is None:
            continue
        if samples and at_s <= samples[-1].at_s:
            problems.append(Problem(file, f"line {line}.{columns[0]}", f"time {at_s:g} does not come after {samples[-1].at_s:g}"))
            continue
        try:
            samples.append(Sample(at_s, decibels_per_metre(smoke, smoke_unit), temperature))
        except ValueError as error:
            problems.append(Problem(file, f"line {line}.{columns[1]}", str(error)))
    if not rows:
        problems.append(Problem(file, "", "has a header but no rows"))
    if problems:
        more = len(problems) - PROBLEMS_SHOWN
        shown = problems[:PROBLEMS_SHOWN] + ([Problem(file, "", f"and {more} more problems")] if more > 0 else [])
        raise ConfigError(shown)
    return tuple(samples)


def _number(row: dict[str, str], column: str, file: str, line: int, problems: list[Problem]) -> float | None:
    text = row[column]
    try:
        number = float(text)
    except (TypeError, ValueError):  # a short row has None
        number = float("nan")
    if isfinite(number):
        return number
    problems.append(Problem(file, f"line {line}.{column}", f"is not a finite number: {text!r}"))
    return None


def _between(before: Sample, after: Sample, at_s: float) -> Sample:
    if after.at_s <= before.at_s:
        return Sample(at_s, before.smoke, before.temperature)
    part = (at_s - before.at_s) / (after.at_s - before.at_s)
    return Sample(
        at_s,
        before.smoke + part * (after.smoke - before.smoke),
        before.temperature + part * (after.temperature - before.temperature),
    )
