"""Scenarios of panels on Modbus: a real unit on a socket, the real poller, lane and dispatch, pysiaalarm at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from drivers.modbus.poller import Poller
from iotcore.reading import Scalar
from iotcore.registry.directory import Binding
from iotcore.specs import repeat
from iotcore.specs.model import DeviceSpec, ModbusLimits, ModbusWire, Point
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.modbus_faults import parse
from tests.support.shipped import SPECS
from tests.timelines.notation import Deed, Row, at, dc09, never, sight, want
from tests.timelines.town import BUSY_S, FIRST, Town, town

NOTIFIER = repeat.narrow(SPECS["notifier-modbus-gw"], {"loop": (1, 1), "detector": (1, 2), "module": (1, 1)})
SIEMENS = repeat.narrow(SPECS["siemens-fc20-modbus"], {"zone": (1, 1), "element": (1, 1)})
STILL_S = 0.6  # a life-check word that stands still so long; shipped: 60 s
TIMEOUT_S = 0.1
POLL_S = 0.5
FLOATS = DeviceSpec(
    model="voltage", vendor="v", title="t", device_class="fire_panel", protocol="modbus", source="s", verified="v",
    interval_s=10.0, modbus=ModbusLimits(timeout_s=TIMEOUT_S),
    points={
        "zone1_alarm": Point(kind="bool", modbus=ModbusWire("holding", 0, "uint16", bit=0)),
        "voltage": Point(unit="V", range=(15.0, 40.0), modbus=ModbusWire("holding", 10, "float32")),
    },
)  # fmt: skip


def panel(
    spec: DeviceSpec, values: Mapping[str, Scalar | None], framing: Any = "tcp", *, moves: str = ""
) -> Callable[[Path], Any]:
    """A town with a panel that is polled; `moves` is its life-check word."""
    points = {name: structs.replace(point, poll_s=POLL_S) for name, point in spec.points.items()}
    if moves:
        points[moves] = structs.replace(points[moves], stuck_after_s=STILL_S)
    limits = structs.replace(spec.modbus or ModbusLimits(), timeout_s=TIMEOUT_S)
    quick = structs.replace(spec, points=points, modbus=limits)

    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[Town]:
        unit = ModbusDevice(quick, values)
        async with ModbusServer({1: unit}, framing=framing) as server:
            bound = Binding("panel", "panel", quick, "fire", "modbus-1", "active", "p1", "z1", connection=server.connection())
            async with town(folder, more={"panel": bound}) as world:
                world.unit, world.server = unit, server
                if moves:
                    unit.on_read = lambda: unit.set(moves, float(unit.reads % 60_000)) if world.moving else None
                polling = asyncio.create_task(Poller(lambda: world.directory, _put(world), world.clock, interval_s=None).run())
                try:
                    yield world
                finally:
                    polling.cancel()
                    await asyncio.wait([polling])

    return opened


def _put(world: Town) -> Any:
    """A gateway's outbox that hands over at once."""
    numbers = itertools.count(1)

    async def put(
        domain: str, device: str, values: Any, q: Any = None, ts: int | None = None, *, kind: str = "reading", **_: Any
    ) -> None:
        del domain
        await world.hand(*world.message(device, next(numbers), values, q=dict(q or {}), ts=ts, kind=kind))

    return put


def word(value: int) -> Deed:
    def do(world: Town) -> None:
        world.unit.words[WORD] = value

    return Deed(f"the word of detector 1 is {value:04X}h", do)


def fault(name: str, *, line: bool = False) -> Deed:
    def do(world: Town) -> None:
        (world.server if line else world.unit).fault = parse(name) if name else None

    return Deed(f"the panel answers with: {name}" if name else "the panel answers rightly again", do)


def still() -> Deed:
    def do(world: Town) -> None:
        world.moving = False

    return Deed("its life-check word stands still: the gateway repeats old states", do)


WORD = ("holding", 0)  # 40001: loop 1, detector 1


def standing(severity: str, rule: str) -> Any:
    return sight("alarm", f"{severity}: {rule}", device="panel", severity=severity, rule=rule, state="active", holds=True)


def bad(point: str, why: str, *, stands: bool = True) -> Any:
    says = f"{point} is {'unknown, not as it was' if stands else 'known again'}: {why}"
    return sight("fault", says, device="panel", reason=f"bad:{point}:{why}", stands=stands)


LIFE_CHECK = sight("fault", "fault: life check", device="panel", reason="life_check", stands=True)
PANEL = panel(NOTIFIER, {})

ROWS = [
    Row(8, "0810h is fire", PANEL, [
        at(0.5, word(0x0810)),
        want(0.5 + POLL_S + BUSY_S, FIRST),
        want(0.5 + BUSY_S, standing("alarm", "point-fire:l1_d1_fire")),
    ], end_s=2.0),
    Row(8, "2000h is trouble, 4000h pre-alarm, and a low byte of FFh a missing point", PANEL, [
        at(0.3, word(0x2000)),
        want(0.3 + POLL_S + BUSY_S, standing("trouble", "point-trouble:l1_d1_trouble")),
        at(1.2, word(0x4000)),
        want(1.2 + POLL_S + BUSY_S, standing("pre-alarm", "point-prealarm:l1_d1_prealarm")),
        at(2.1, word(0x08FF)),
        want(2.1 + POLL_S + BUSY_S, standing("trouble", "missing")),
        never(dc09("FA", "any FA")),
    ], end_s=4.0),
    Row(9, "the panel does not answer", PANEL, [
        at(0.5, fault("silent")),
        want(0.5 + TIMEOUT_S + POLL_S + BUSY_S, bad("l1_d1_fire", "timeout")),
        never(bad("l1_d1_fire", "timeout", stands=False), 0.0, 2.0),
        at(2.0, fault("")),
        want(2.0 + POLL_S + BUSY_S, bad("l1_d1_fire", "timeout", stands=False)),
    ], end_s=3.5),
    Row(9, "its answers have a wrong CRC", panel(NOTIFIER, {}, "rtu"), [
        at(0.5, fault("bad_crc")),
        want(0.5 + TIMEOUT_S + POLL_S + BUSY_S, bad("l1_d1_fire", "wrong_reply:crc")),
        never(bad("l1_d1_fire", "wrong_reply:crc", stands=False)),
    ], end_s=2.0),
    Row(9, "its words are in the wrong order", panel(FLOATS, {"zone1_alarm": False, "voltage": 27.3}), [
        at(0.5, fault("swapped_words")),
        want(0.5 + POLL_S + BUSY_S, bad("voltage", "out_of_range")),
        never(bad("voltage", "out_of_range", stands=False)),
    ], end_s=2.0),
    Row(9, "its life-check word stands still", panel(SIEMENS, {}, moves="life_check"), [
        at(0.5, still()),
        want(0.5 + STILL_S + 2 * POLL_S + BUSY_S, LIFE_CHECK),
        want(0.5 + STILL_S + 2 * POLL_S + BUSY_S, standing("trouble", "life_check")),
        want(0.5 + STILL_S + 2 * POLL_S + BUSY_S, bad("zone1_alarm", "life_check")),
    ], end_s=2.5),
]  # fmt: skip
