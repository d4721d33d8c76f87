"""Readings in a file, for a back-test: a measured fire as CSV (as `iotcore sim replay` takes it), or JSON lines.

A JSON line is a canonical message (docs/device-makers.md) with the name of its device beside: `{"device": "sd-1", "boot": …}`. It
goes through the decoder of the fire lane; what that refuses is counted and told, not judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drivers.mqtt.canonical import decode
from iotcore.errors import ConfigError, Problem
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from iotcore.wire.topics import DOMAIN_OF_CLASS
from simulators.replay import load, with_baseline

MS_PER_S = 1000.0
REASONS_KEPT = 10
CSV = (".csv", ".CSV")


@dataclass(frozen=True, slots=True)
class Columns:
    """Of a CSV file: the names of its columns, the unit of smoke, and seconds of quiet put before the curve."""

    time: str = "TIME"
    smoke: str = "SMA_1"
    temperature: str = "TCA_1"
    smoke_unit: str = "1/m-od10"
    baseline_s: float = 0.0


class ReadingFile:
    """The readings of a file, and what of it was refused: how much, and the first reasons."""

    def __init__(self, path: Path, stand_in: Binding, known: Mapping[str, Binding], columns: Columns) -> None:
        self._path = path
        self._stand_in = stand_in
        self._known = known
        self._columns = columns
        self.refused = 0
        self.reasons: list[str] = []

    def __iter__(self) -> Iterator[tuple[Reading, Binding]]:
        """By the order of the file; raises ConfigError when it cannot be read."""
        return self._curve() if self._path.suffix in CSV else self._lines()

    def _curve(self) -> Iterator[tuple[Reading, Binding]]:
        """A measured fire at the one device that stands in for its detector; its clock begins at 0."""
        columns, one = self._columns, self._stand_in
        samples = load(self._path, columns.time, columns.smoke, columns.temperature, columns.smoke_unit)
        if columns.baseline_s > 0.0:
            samples = with_baseline(samples, columns.baseline_s, seed=1)
        for number, sample in enumerate(samples, start=1):
            at_ms = sample.at_s * MS_PER_S
            values = (Value("smoke", sample.smoke), Value("temperature", sample.temperature))
            yield Reading(one.device, "file", number, "reading", at_ms, at_ms, values), one

    def _lines(self) -> Iterator[tuple[Reading, Binding]]:
        accepted = {name: _accepted(one) for name, one in self._known.items()}
        directory = Directory(accepted)
        try:
            with self._path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield from self._line(line, number, directory)
        except OSError as error:
            raise ConfigError([Problem(str(self._path), "", f"cannot be read: {error.strerror}")]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(str(self._path), "", f"is not text: {error}")]) from error

    def _line(self, line: str, number: int, directory: Directory) -> Iterator[tuple[Reading, Binding]]:
        try:
            message = json.loads(line)
            device = message.pop("device", self._stand_in.device) if isinstance(message, dict) else ""
        except (ValueError, RecursionError) as error:
            self._refuse(number, f"is not JSON: {error}")
            return
        if device == self._stand_in.device and device not in directory.devices:
            directory = Directory({device: _accepted(self._stand_in)})
        if not isinstance(device, str) or device not in directory.devices:
            self._refuse(number, f"there is no device {device!r}")
            return
        binding = directory.devices[device]
        at_ms = message.get("ts", 0)
        received_ms = float(at_ms) if isinstance(at_ms, int | float) else 0.0
        topic = topics.up(binding.domain, binding.publisher, "reading", device)
        decoded = decode(
            Arrival(topic, json.dumps(_whole(message, number)).encode(), retained=False, received_ms=received_ms),
            directory,
            received_ms,
        )
        for refusal in decoded.refusals:
            self._refuse(number, f"{refusal.reason}: {refusal.detail}")
        for reading in decoded.readings:
            yield reading, binding

    def _refuse(self, number: int, reason: str) -> None:
        self.refused += 1
        if len(self.reasons) < REASONS_KEPT:
            self.reasons.append(f"line {number}: {reason}")


def _whole(message: dict[str, Any], number: int) -> dict[str, Any]:
    """With an identity, for a file that leaves it out."""
    return {"v": 1, "boot": "file", "seq": number, **message}


def _accepted(one: Binding) -> Binding:
    """The device as it was when its messages counted."""
    return one if one.accepted else replace(one, state="active")


def made_up(device: str, spec: DeviceSpec, premises: str = "") -> Binding:
    """A device that is in no registry."""
    return Binding(device, device, spec, DOMAIN_OF_CLASS[spec.device_class], device, "active", premises)
