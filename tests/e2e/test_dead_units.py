"""Modbus units that are dead, garbled, wired the wrong way round or stuck: a fault in time, and never shown as healthy anywhere.

unit    what is wrong                                        fault
u-1     it does not answer                                   bad:…:timeout at once, silent at its limit
u-2     every frame has a wrong CRC                          likewise
u-3     the words of its numbers come the wrong way round    bad:loop_current:out_of_range: a 4-20 mA loop is never at 0
u-4     its life-check word stands still                     life_check, with a trouble alarm
u-5     nothing                                              none
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from iotcore.specs.load import load_folder, shipped_folder
from simulators.modbus_device import ModbusDevice, ModbusServer
from simulators.modbus_faults import parse
from tests.support.platform import Platform
from tests.support.road import GATEWAY, receivers, town
from tests.support.services import require

pytestmark = [pytest.mark.soak, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
MODEL = "test-flame-panel"
LIMIT_S, STUCK_S = 8.0, 3.0
POLL_S, TIMEOUT_S = 1.0, 0.5
IN_TIME_S = 5.0  # a poll, its time-out and the road; more than the fault needs, for a machine that others use too
SPEC = f"""model: {MODEL}
vendor: Test
title: Flame panel of a test
device_class: fire_panel
protocol: modbus
source: made up for a test
verified: Only against the simulator.
interval_s: 2
silence_s: {LIMIT_S:g}
life_check: life
modbus: {{timeout_s: {TIMEOUT_S}}}
points:
  life: {{poll_s: 1, stuck_after_s: {STUCK_S:g}, range: [0, 65535], modbus: {{table: holding, address: 0, type: uint16}}}}
  flame_fire: {{kind: bool, poll_s: 1, modbus: {{table: holding, address: 1, type: bit, bit: 0}}}}
  loop_current: {{unit: mA, poll_s: 1, range: [3.6, 21], modbus: {{table: holding, address: 2, type: float32}}}}
"""
FAULTS = {"u-1": "silent", "u-2": "bad_crc", "u-3": "swapped_words"}
WANTED = {
    "u-1": "bad:flame_fire:timeout",
    "u-2": "bad:flame_fire:wrong_reply:crc",
    "u-3": "bad:loop_current:out_of_range",
    "u-4": "life_check",
}
POINT = {"u-1": "flame_fire", "u-2": "flame_fire", "u-3": "loop_current", "u-4": "flame_fire"}


@dataclass(slots=True)
class Panels:
    """A platform that polls five units, alive as long as `moving` names them."""

    platform: Platform
    units: dict[str, ModbusDevice]
    moving: set[str]

    async def live(self) -> None:
        number = 0
        while True:
            number += 1
            for name in self.moving:
                self.units[name].set("life", number)
            await asyncio.sleep(0.25)

    def faults(self, device: str) -> set[str]:
        rows = self.platform.rows("journal.db", "SELECT reason FROM fault WHERE device = ? AND cleared_ms IS NULL", device)
        return {reason for (reason,) in rows}

    def series(self, device: str) -> list[int]:
        """The quality of the values in the store that Grafana asks, newest first: 0 good, 2 bad."""
        query = (
            "SELECT quality FROM value JOIN series ON series.id = value.series WHERE device = ? AND point = ? "
            "ORDER BY at_ns DESC LIMIT 3"
        )
        return [quality for (quality,) in self.platform.rows("telemetry.db", query, device, POINT[device])]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def panels(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Panels]:
    require("mosquitto")
    async with AsyncExitStack() as stack:
        folder = tmp_path_factory.mktemp("dead-units")
        shutil.copytree(shipped_folder(), folder / "specs")
        (folder / "specs" / f"{MODEL}.yaml").write_text(SPEC, encoding="utf-8")
        spec = load_folder(folder / "specs")[MODEL]
        names = [f"u-{i}" for i in range(1, 6)]
        units = {name: ModbusDevice(spec, {"life": 0.0, "flame_fire": False, "loop_current": 5.0}) for name in names}
        servers = {
            name: await stack.enter_async_context(ModbusServer({1: unit}, framing="rtu" if name == "u-2" else "tcp"))
            for name, unit in units.items()
        }
        ends = await stack.enter_async_context(receivers())
        made = Platform(folder, arc_port=ends.arc_port)
        made.configure(specs=str(folder / "specs"), modbus_interval_s=POLL_S)
        document = town(1)
        document["devices"] = [
            {"id": "modbus-1", "title": "Modbus", "model": GATEWAY},
            *(
                {"id": name, "title": name, "model": MODEL, "premises": "p1", "zone": "p1-z1", "parent": "modbus-1",
                 "connection": servers[name].connection(1)}
                for name in names
            ),
        ]  # fmt: skip
        made.import_city(document)
        stack.push_async_callback(made.stop)
        found = Panels(made, units, set(names))
        living = asyncio.create_task(found.live())
        stack.callback(living.cancel)
        await made.start()
        yield found


async def test_a_dead_garbled_swapped_or_stuck_unit_is_a_fault_in_time_and_never_healthy(panels: Panels) -> None:
    platform = panels.platform
    states = "SELECT count(*) FROM device WHERE state = 'active' AND id LIKE 'u-%'"
    await platform.until(lambda: platform.rows("registry.db", states) == [(5,)], 20.0, "all five are active")
    await platform.until(lambda: all(panels.series(name)[:1] == [0] for name in POINT), 20.0, "all are good in the store")
    assert all(panels.faults(name) == set() for name in panels.units)
    for name, fault in FAULTS.items():
        panels.units[name].fault = parse(fault)
    panels.moving.discard("u-4")

    def told() -> bool:
        return all(WANTED[name] in panels.faults(name) for name in WANTED)

    await platform.until(told, IN_TIME_S + STUCK_S, "each has its fault")
    await platform.until(lambda: all(panels.series(name)[:1] == [2] for name in POINT), IN_TIME_S, "and its series is bad")
    await platform.until(lambda: all("silent" in panels.faults(name) for name in ("u-1", "u-2")), LIMIT_S + 3.0, "silent")
    assert panels.faults("u-5") == set()
    assert "silent" not in panels.faults("u-3")
    alarms = "SELECT device, rule FROM alarm WHERE severity = 'trouble' AND state = 'active' ORDER BY device"
    found = set(platform.rows("journal.db", alarms)) - {("u-4", "silent")}  # of whom nothing new is heard
    assert found == {("u-1", "silent"), ("u-2", "silent"), ("u-4", "life_check")}
    assert all(panels.series(name) == [2, 2, 2] for name in POINT), "no good value among the last ones"
    await nowhere_healthy(platform)

    for name in FAULTS:
        panels.units[name].fault = None
    panels.moving.add("u-4")
    await platform.until(lambda: all(panels.faults(name) == set() for name in panels.units), 15.0, "all is well again")


async def nowhere_healthy(platform: Platform) -> None:
    """Neither the command line nor the page shows what it last was as if it were now."""
    for name, point in POINT.items():
        shown = await platform.said("device", "show", name)
        (value,) = [value for value in shown["values"] if value["point"] == point]
        assert value["quality"] == "bad", (name, value)
        samples = json.loads(await platform.page(f"/api/v1/devices/{name}/points/{point}/samples"))
        assert samples["samples"][-1]["quality"] == "bad", samples["samples"][-1]
        page = await platform.page(f"/devices/{name}")
        assert "No fault." not in page
        assert 'class="bad"' in page
    well = await platform.said("device", "show", "u-5")
    assert {value["quality"] for value in well["values"]} == {"good"}
