"""A broken detector is replaced where it hangs, and later taken down: commands against a running platform and real Mosquittos."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from simulators.enrol import enrol
from simulators.mqtt_device import MqttDevice
from tests.support.platform import Platform
from tests.support.road import DETECTOR, QUIET, SMOKE, Receivers, enrolled, receivers, town
from tests.support.services import require
from tests.support.shipped import SPECS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
CUT_LIMIT_S = 10.0
OLD, NEW = 21.5, 22.5  # °C that the old and the new unit measure


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def road(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Platform, Receivers]]:
    require("mosquitto")
    async with receivers() as listening:
        made = Platform(tmp_path_factory.mktemp("replaced"), arc_port=listening.arc_port)
        document = town(2)
        document["devices"][0]["serial"] = "SN-1"
        made.configure()
        made.import_city(document)
        try:
            await made.start()
            yield made, listening
        finally:
            await made.stop()


async def heard(platform: Platform, device: MqttDevice, temperature: float) -> None:
    """Connected, and a reading of it is stored."""
    await platform.until(lambda: device.connected, 10.0, f"{device.device} is in: {device.last_error}")
    await device.report({**QUIET, "temperature": temperature})
    await platform.until(lambda: device.held == 0, 10.0, f"{device.device} has its receipts")


async def temperatures(platform: Platform, wanted: float) -> list[float]:
    """What the store holds of the place, oldest first, once the newest is there."""
    deadline = time.monotonic() + 15.0
    while True:
        answer = await platform.said("telemetry", "query", "sd-1", "temperature", "--from", "-1h")
        values = [float(row["value"]) for row in answer["values"] if row["value"] is not None]
        if wanted in values or time.monotonic() > deadline:
            return values
        await asyncio.sleep(0.3)


async def burns(platform: Platform, listening: Receivers, device: MqttDevice) -> None:
    """Smoke that lasts is one incident at the receiver: a single reading may have quiet ones beside it in the rule's mean."""
    deadline = time.monotonic() + 30.0
    while not listening.arc_incidents():
        assert time.monotonic() < deadline, platform.log()
        await device.report(SMOKE)
        await asyncio.sleep(0.5)
    assert len(set(listening.arc_incidents())) == 1


async def test_a_unit_is_replaced_and_later_taken_down(road: tuple[Platform, Receivers]) -> None:
    platform, listening = road
    async with await enrolled(platform, "sd-1") as old:
        await heard(platform, old, OLD)
        assert OLD in await temperatures(platform, OLD)
        began_s = time.monotonic()
        token = await asyncio.to_thread(platform.iotcore, "device", "replace", "sd-1", "--serial", "SN-2", "--why", "vỏ vỡ")
        await platform.until(lambda: not old.connected, CUT_LIMIT_S, "the old unit is cut")
        print(f"cut {time.monotonic() - began_s:.2f} s after the command began")  # noqa: T201 - pytest -s shows the figures
        service = platform.data / "certs" / "service-root.pem"
        identity = await enrol(f"https://127.0.0.1:{platform.est_port}", token, "sd-1", service, platform.folder / "new")
        async with MqttDevice("sd-1", SPECS[DETECTOR], identity.endpoint("127.0.0.1", platform.fire_port)) as new:
            await heard(platform, new, NEW)
            print(f"the new unit is heard {time.monotonic() - began_s:.2f} s after the command began")  # noqa: T201
            assert [value for value in await temperatures(platform, NEW) if value in {OLD, NEW}] == [OLD, NEW]
            await burns(platform, listening, new)
            assert not old.connected
            shown = await platform.said("device", "show", "sd-1")
            assert (shown["state"], shown["premises_name"]) == ("active", "Nhà 1")
            assert [unit["serial"] for unit in shown["registered"]["units"]] == ["SN-2", "SN-1"]

            plan = await asyncio.to_thread(platform.iotcore, "device", "retire", "sd-1", "--plan")
            assert "asks for --anyway: no working fire device would be left in premises p1" in plan
            assert new.connected
            await asyncio.to_thread(platform.iotcore, "device", "retire", "sd-1", "--why", "tháo dỡ", code=1)
            await asyncio.to_thread(platform.iotcore, "device", "retire", "sd-1", "--why", "tháo dỡ", "--anyway")
            await platform.until(lambda: not new.connected, CUT_LIMIT_S, "the retired unit is cut")
        await asyncio.to_thread(platform.iotcore, "token", "create", "sd-1", code=1)
        audit = await asyncio.to_thread(platform.iotcore, "audit", "verify")
        assert "whole" in audit, audit
