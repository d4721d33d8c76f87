"""`iotcore commissioning check` against units that are other programs: pymodbus's server with an identity, and our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pymodbus import ModbusDeviceIdentification
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.modbus import roster
from iotcore.clock import SystemClock
from iotcore.commands import commissioning
from iotcore.commands.commissioning_check import identity
from iotcore.commands.modbus_asking import How
from iotcore.errors import IotError, StartError
from iotcore.registry.city import DeviceEntry
from iotcore.registry.commissioning import Commissioning
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from tests.support.console import CITY
from tests.support.ports import free_port
from tests.support.shipped import SPECS
from tests.support.technician import served

pytestmark = pytest.mark.timeout(60)
HOW = How(timeout_s=1.0)
STATION = "vaisala-aqt530"
FLAME = "generic-flame-detector"


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    settings = Settings(data=str(tmp_path))
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        await registry.import_city(CITY, SPECS, "tester")
    return settings


async def registered(settings: Settings, model: str, connection: str) -> None:
    """A unit u1 of the central gateway."""
    entry = DeviceEntry(id="u1", title="U", model=model, parent="modbus-1", premises="p1", zone="p1-z1", connection=connection)
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        await registry.add_device(entry, SPECS, "tester")


async def checked(settings: Settings, *, nameplate_seen: bool = False) -> dict[str, tuple[str, str]]:
    found = await commissioning.check(settings, "u1", HOW, "lan", nameplate_seen=nameplate_seen)
    return {step["name"]: (step["condition"], step["reason"]) for step in found}


async def status(settings: Settings) -> dict[str, tuple[str, str]]:
    found = await commissioning.status(settings, "u1")
    return {step["name"]: (step["condition"], step["reason"]) for step in found["steps"]}


async def test_a_sound_unit_that_cannot_say_who_it_is_needs_a_look_at_its_nameplate(settings: Settings, tmp_path: Path) -> None:
    good = [part for name in SPECS[STATION].points for part in ("--set", f"{name}=20")]
    async with served(STATION, "--port", "0", *good, cwd=tmp_path) as connection:
        await registered(settings, STATION, connection)
        assert (await status(settings))["identity"] == ("waiting", "run_check")
        assert await checked(settings) == {"identity": ("waiting", "nameplate"), "plausible": ("failed", "bad_points")}
        found = await checked(settings, nameplate_seen=True)
        assert found["identity"] == ("done", "")
    now = await status(settings)
    assert now["identity"] == ("done", "")
    assert now["budget"] == ("done", "")
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        kept = await Commissioning(registry.database).entries("u1")
    assert [(one.kind, one.by) for one in kept] == [("modbus", "lan")] * 2


@pytest.fixture
async def told() -> AsyncIterator[str]:
    """A unit of pymodbus's that says who made it: three relays, all quiet."""
    port = free_port()
    who = ModbusDeviceIdentification(  # type: ignore[no-untyped-call]
        info_name={"VendorName": "Acme", "ProductCode": "FL-3", "MajorMinorRevision": "1.2"}
    )
    relays = SimDevice(1, simdata=SimData(0, count=3, values=0, datatype=DataType.REGISTERS))
    server = ModbusTcpServer(relays, address=("127.0.0.1", port), identity=who)
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0.2)
    yield f"tcp://127.0.0.1:{port}?device_id=1"
    await server.shutdown()  # type: ignore[no-untyped-call]
    serving.cancel()


async def test_a_unit_of_another_maker_is_told_apart_though_its_registers_make_sense(settings: Settings, told: str) -> None:
    await registered(settings, FLAME, told)
    assert await checked(settings) == {"identity": ("failed", "wrong_identity"), "plausible": ("done", "")}


async def test_a_unit_that_does_not_answer_is_no_result(settings: Settings) -> None:
    await registered(settings, STATION, f"tcp://127.0.0.1:{free_port()}?device_id=1")
    with pytest.raises(IotError, match="does not answer: refused: Nothing listens there"):
        await checked(settings)
    assert (await status(settings))["identity"] == ("waiting", "run_check")


async def test_only_a_modbus_unit_can_be_read(settings: Settings) -> None:
    with pytest.raises(StartError, match="no Modbus unit"):
        await commissioning.check(settings, "d1", HOW, "lan", nameplate_seen=False)
    with pytest.raises(StartError, match="not registered"):
        await commissioning.check(settings, "nobody", HOW, "lan", nameplate_seen=False)


def test_who_a_unit_is_is_judged_by_its_maker_and_its_firmware() -> None:
    faast, station = SPECS["system-sensor-faast"], SPECS[STATION]

    def said(spec: str, told: dict[str, str], version: str = "", *, known: bool = True, seen: bool = False) -> str:
        step = identity(SPECS[spec], told, version, known=known, nameplate_seen=seen)
        return f"{step.condition} {step.reason}".strip()

    assert said(station.model, {"vendor": "VAISALA Oyj", "product": "AQT530"}) == "done"
    assert said(station.model, {"vendor": "Acme", "product": "Modbus sensor"}) == "failed wrong_identity"
    assert said(station.model, {"vendor": "Acme"}, seen=True) == "failed wrong_identity", "a nameplate does not overrule the unit"
    assert said(faast.model, {}, "1") == "done"
    assert said(faast.model, {}, "7", known=False) == "failed wrong_identity"
    assert said(faast.model, {}) == "waiting nameplate"


async def test_the_budget_is_that_of_the_gateways_own_bus(settings: Settings) -> None:
    line = "rtu:///dev/ttyUSB0?baud=9600&parity=N&stop_bits=1&device_id="
    entries = [
        DeviceEntry(id=f"f{i}", title="F", model=FLAME, parent="modbus-1", premises="p1", zone="p1-z1", connection=f"{line}{i}")
        for i in range(1, 40)
    ]
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        for entry in entries[:2]:
            await registry.add_device(entry, SPECS, "tester")
        directory = await registry.directory(SPECS)
        kept = roster.verdict(directory, "f1", None)
        for entry in entries[2:]:
            await registry.add_device(entry, SPECS, "tester")
        crowded = await registry.directory(SPECS)
    assert kept is not None
    assert kept[0]
    assert "within the fire budget" in kept[1]
    verdicts = {name: roster.verdict(crowded, name, None) for name in (entry.id for entry in entries)}
    over = [name for name, verdict in verdicts.items() if verdict is not None and not verdict[0]]
    assert over
    assert "f1" not in over, "who is there first stays"
    assert "more than the fire budget" in str(verdicts[over[0]]) or "of the bus" in str(verdicts[over[0]])
    assert roster.verdict(crowded, "d1", None) is None
