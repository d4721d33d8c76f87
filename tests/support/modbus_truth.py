"""Units whose every word says whose it is, so that a value believed by mistake betrays itself.

A word of unit u, block b is u · 10000 + b · 1000 + n, where n counts the unit's answers. Blocks are far apart and of the same
size and table, so that an answer to one question has the very form of the answer to another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from iotcore.reading import Scalar
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, Point
from simulators.modbus_device import ModbusDevice

BLOCKS = {"a": 0, "b": 200, "c": 400}  # point → its first register; more than any hole that is read across
DIGITS = {"a": 1, "b": 2, "c": 3}
WIDTH = 3  # registers of a block: point a is a0, a1 and a2
LAST_UNIT = 5  # 5 · 10000 + 3 · 1000 + 999 still fits a word
TURNS = 1000


def truth_spec(timeout_s: float) -> DeviceSpec:
    """Three blocks of three registers: three questions a poll, alike in all but their address."""
    points = {
        f"{block}{i}": Point(modbus=ModbusWire("holding", address + i, "uint16"))
        for block, address in BLOCKS.items()
        for i in range(WIDTH)
    }
    return DeviceSpec(
        model="truth", vendor="v", title="t", device_class="air_station", protocol="modbus", source="s", verified="v",
        interval_s=60.0, points=points, modbus=ModbusLimits(timeout_s=timeout_s),
    )  # fmt: skip


class TruthUnit:
    """A simulated unit that counts its answers in its words, and remembers when it said what."""

    def __init__(self, number: int, spec: DeviceSpec) -> None:
        self.number = number
        self.device = ModbusDevice(spec)
        self.device.on_read = self._count
        self.said_s: list[float] = []  # by n
        self._count()

    def _count(self) -> None:
        n = len(self.said_s)
        self.said_s.append(time.monotonic())
        for block, address in BLOCKS.items():
            word = self.number * 10_000 + DIGITS[block] * 1000 + n % TURNS
            self.device.words.update(dict.fromkeys((("holding", address + i) for i in range(WIDTH)), word))


@dataclass(frozen=True, slots=True)
class Told:
    """One reading that the driver kept."""

    at_s: float
    values: Mapping[str, Scalar | None]
    q: Mapping[str, str]

    @property
    def is_good(self) -> bool:
        """Whether no point of it is bad."""
        return not self.q


@dataclass(slots=True)
class Book:
    """A `put` that writes down what it was given."""

    by_device: dict[str, list[Told]] = field(default_factory=dict)

    async def put(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        *,
        kind: str = "reading",
        fw: str = "",
        test: bool = False,
    ) -> None:
        del domain, ts, kind, fw, test
        self.by_device.setdefault(device, []).append(Told(time.monotonic(), dict(values), dict(q or {})))

    def between(self, device: str, first_s: float, last_s: float = float("inf")) -> list[Told]:
        """Its readings of a stretch of time."""
        return [told for told in self.by_device.get(device, []) if first_s <= told.at_s < last_s]


def lies(unit: TruthUnit, told: list[Told]) -> list[str]:
    """Every GOOD value that is not this unit's, not this point's, or that the unit had said before the last reading was told."""
    found = []
    since_s = 0.0
    for reading in told:
        for point, value in reading.values.items():
            if point in reading.q:
                continue
            assert isinstance(value, float)
            word = int(value)
            of = (word // 10_000, word % 10_000 // 1000)
            if of != (unit.number, DIGITS[point[0]]):
                found.append(f"{point} said {word}, which is of unit {of[0]}, block {of[1]}")
            elif not (said_s := _said_s(unit, word % TURNS, reading.at_s)):
                found.append(f"{point} said {word}, which the unit had not said")
            elif said_s < since_s:
                found.append(f"{point} said {word}, {reading.at_s - said_s:.3f} s old: from before the last reading")
        since_s = reading.at_s
    return found


def _said_s(unit: TruthUnit, n: int, before_s: float) -> float:
    """When the unit last gave an answer with this count, by then; 0 when it had not."""
    return max((said_s for said_s in unit.said_s[n::TURNS] if said_s <= before_s), default=0.0)
