"""Every shipped Modbus spec, there and back: values → simulated unit → a real port → the driver → the same values."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from drivers.modbus.poller import Poller
from iotcore.clock import SystemClock
from iotcore.reading import Quality, Scalar, Value
from iotcore.registry.directory import Binding, Directory
from iotcore.specs import decode, repeat
from iotcore.specs.model import DeviceSpec
from iotcore.wire.topics import DOMAIN_OF_CLASS
from simulators.modbus_device import ModbusDevice, ModbusLine, ModbusServer
from tests.support.modbus_truth import Book
from tests.support.until import until
from tests.unit.test_spec_invariants import MODBUS, comes_back, samples

CLOCK = SystemClock()
DEVICE = "c"  # a name whose first poll comes early: when it comes hangs on the name
POLL_S = 5.0  # at which a panel of LOOPS keeps its fire budget; one fitted to its last detector is refused, with the arithmetic
LOOPS = (1, 4)
FITTED = {
    name: repeat.narrow(spec, {"loop": LOOPS}) if any("loop" in each.over for each in spec.repeats) else spec
    for name, spec in MODBUS.items()
}
SMALL = {name: spec for name, spec in MODBUS.items() if len(spec.points) < 100}  # the others take minutes at 9,600 baud
WITHIN_S = 30.0  # for the largest panel on a slow machine


@dataclass(slots=True)
class Latest:
    """What was told last of each point; a panel's points come in several messages."""

    book: Book = field(default_factory=Book)

    def values(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for told in self.book.by_device.get(DEVICE, []):
            for point, value in told.values.items():
                quality, _, why = told.q.get(point, "good").partition(":")
                found[point] = Value(point, value, Quality(quality), why)
        return found


def _values(spec: DeviceSpec, number: int) -> dict[str, Scalar | None]:
    """One of its samples for each point; neighbours get different ones."""
    chosen: dict[str, Scalar | None] = {}
    for i, (name, point) in enumerate(spec.points.items()):
        several = samples(point)
        chosen[name] = several[(i + number) % len(several)]
    return chosen


@pytest.mark.parametrize("spec", FITTED.values(), ids=FITTED)
async def test_what_a_unit_measures_is_what_the_driver_tells(spec: DeviceSpec) -> None:
    await _there_and_back(spec, "tcp")


@pytest.mark.parametrize("spec", SMALL.values(), ids=SMALL)
async def test_and_on_a_serial_line(spec: DeviceSpec) -> None:
    await _there_and_back(spec, "rtu")


async def _there_and_back(spec: DeviceSpec, transport: str) -> None:
    wanted = _values(spec, len(spec.points))
    device = ModbusDevice(spec, wanted)
    bus = ModbusLine({1: device}) if transport == "rtu" else ModbusServer({1: device})
    latest = Latest()
    async with bus:
        domain = DOMAIN_OF_CLASS[spec.device_class]
        directory = Directory({DEVICE: Binding(DEVICE, DEVICE, spec, domain, "modbus-1", "active", connection=bus.connection(1))})
        polling = asyncio.create_task(Poller(lambda: directory, latest.book.put, CLOCK, interval_s=POLL_S).run())
        try:
            await until(lambda: len(latest.values()) == len(spec.points), WITHIN_S)
        finally:
            polling.cancel()
            await asyncio.wait([polling])
    told = latest.values()
    assert told == {value.point: value for value in decode.values(device.spec, device.words)}
    good = {name for name, value in told.items() if value.quality is Quality.GOOD}
    assert good
    alone = good - _sharing(spec)
    lost = {name: (wanted[name], told[name]) for name in alone if not _same(spec, name, wanted[name], told[name])}
    assert lost == {}
    assert (device.writes_refused, device.overlapped, device.hurried) == (0, 0, 0)


def _sharing(spec: DeviceSpec) -> set[str]:
    """Points that judge one word or field together: its code is a fire or a trouble, never both as our samples would have it."""
    fields = {name: (w.table, w.address, w.bit, w.mask) for name, point in spec.points.items() if (w := point.modbus) is not None}
    judges = Counter(fields.values())
    return {name for name, place in fields.items() if judges[place] > 1}


def _same(spec: DeviceSpec, name: str, wanted: Scalar | None, found: Value) -> bool:
    assert wanted is not None
    return comes_back(spec.points[name], wanted, found)
