"""Registers that lie in sound frames, against the real driver: what a spec can tell is bad, and what nobody can, said as it is.

The table is the one of docs/simulators.md: a value that is believed although it is false stands here as BELIEVED.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from drivers.modbus.poller import Poller
from iotcore.clock import SystemClock
from iotcore.reading import Scalar
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, Point
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.modbus_faults import parse
from tests.support.modbus_truth import Book, Told
from tests.support.until import until

CLOCK = SystemClock()
INTERVAL_S = 0.1
STUCK_S = 0.4
TRUE, BELIEVED = "true", "believed"
VALUES: dict[str, Scalar | None] = {
    "pressure": 1008.5, "temperature": 20.5, "level": 1200.0, "count": 5.0, "tilt": -12.0, "alarm": False, "moving": 0.0,
}  # fmt: skip
SPEC = DeviceSpec(
    model="content", vendor="v", title="t", device_class="water_station", protocol="modbus", source="s", verified="v",
    interval_s=60.0, modbus=ModbusLimits(timeout_s=0.5),
    points={
        "pressure": Point(range=(500, 1100), modbus=ModbusWire("input", 0, "float32")),
        "temperature": Point(range=(-40, 60), modbus=ModbusWire("input", 2, "float32")),
        "level": Point(range=(0, 60_000), sentinels=(65_535.0,), modbus=ModbusWire("input", 4, "uint16")),
        "count": Point(modbus=ModbusWire("input", 5, "uint32")),
        "tilt": Point(scale=0.1, range=(-90, 90), modbus=ModbusWire("input", 7, "int16")),
        "moving": Point(stuck_after_s=STUCK_S, modbus=ModbusWire("input", 8, "uint16")),
        "alarm": Point(kind="bool", modbus=ModbusWire("discrete", 0, "bit")),
    },
)  # fmt: skip


class _Device(ModbusDevice):
    """`moving` moves with every read of the registers, as a life-check word does."""

    def __init__(self) -> None:
        super().__init__(SPEC, VALUES)
        self.on_read = self._move

    def _move(self) -> None:
        self.set("moving", float((self.reads * 7) % 50_000))


@contextlib.asynccontextmanager
async def _polled(device: ModbusDevice) -> AsyncIterator[Book]:
    book = Book()
    async with ModbusServer({1: device}) as server:
        binding = Binding("unit", "unit", SPEC, "water", "modbus-1", "active", connection=server.connection())
        directory = Directory({"unit": binding})
        polling = asyncio.create_task(Poller(lambda: directory, book.put, CLOCK, interval_s=INTERVAL_S).run())
        try:
            yield book
        finally:
            polling.cancel()
            await asyncio.wait([polling])


def _read_as(told: Told) -> dict[str, str]:
    """By point: TRUE, BELIEVED, or why it is bad."""
    return {
        point: told.q.get(point) or (TRUE if value == VALUES[point] or point == "moving" else BELIEVED)
        for point, value in told.values.items()
    }


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("swapped_words", {"pressure": "bad:out_of_range", "temperature": BELIEVED, "count": BELIEVED}),
        ("nan", {"pressure": "bad:not_finite", "temperature": "bad:not_finite"}),
        ("infinite:plus", {"pressure": "bad:not_finite", "temperature": "bad:not_finite"}),
        ("infinite:minus", {"pressure": "bad:not_finite", "temperature": "bad:not_finite"}),
        ("stuck", {"moving": "bad:stuck"}),
        (
            "ones",
            {
                "pressure": "bad:not_finite",
                "temperature": "bad:not_finite",
                "level": "bad:no_value",
                "count": BELIEVED,
                "tilt": BELIEVED,
                "moving": "bad:stuck",
                "alarm": BELIEVED,
            },
        ),
    ],
)
async def test_what_a_spec_can_tell_is_bad(fault: str, wrong: Mapping[str, str]) -> None:
    device = _Device()
    wanted = dict.fromkeys(VALUES, TRUE) | dict(wrong)
    async with _polled(device) as book:
        told = book.by_device.setdefault("unit", [])
        await until(lambda: bool(told) and _read_as(told[-1]) == dict.fromkeys(VALUES, TRUE))
        device.fault = parse(fault)
        began_s = CLOCK.monotonic_s()
        await until(lambda: _read_as(told[-1]) == wanted)
        took_s = CLOCK.monotonic_s() - began_s
        assert took_s < (STUCK_S if "bad:stuck" in wrong.values() else 0.0) + 1.0  # intervals of 0.1 s; the rest is the machine's
        device.fault = None
        await until(lambda: _read_as(told[-1]) == dict.fromkeys(VALUES, TRUE))


async def test_an_infinity_or_nan_is_never_a_value() -> None:
    device = _Device()
    device.fault = parse("infinite")
    async with _polled(device) as book:
        await until(lambda: len(book.by_device.get("unit", [])) > 2)
    assert {told.values["pressure"] for told in book.by_device["unit"]} == {None}


async def test_a_counter_that_wraps_is_told_as_it_stands_and_a_range_shows_the_wrap() -> None:
    device = _Device()
    async with _polled(device) as book:
        told = book.by_device.setdefault("unit", [])
        await until(lambda: bool(told))
        before = len(told)
        device.fault = parse("counter_wrap")
        await until(lambda: len(told) > before + 12)
    after = told[before + 1 :]
    counts = [value for reading in after if isinstance(value := reading.values["count"], float)]
    wrapped = next(i for i, count in enumerate(counts) if count < 20)
    assert min(counts[:wrapped]) > 2**32 - 10
    assert counts[wrapped:] == sorted(counts[wrapped:])
    assert counts[-1] < 100
    assert not any("count" in reading.q for reading in after)  # nothing says that it may not
    assert {reading.q.get("level", TRUE) for reading in after} >= {"bad:out_of_range", TRUE}
    assert {reading.q.get("tilt") for reading in after} == {"bad:out_of_range"}  # from 3276.7 to −3276.8 degrees
