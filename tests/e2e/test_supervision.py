"""Heartbeat lost: trouble at its limit, also across a kill -9 of the fire process; in journal, page, command line and doctor."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from iotcore.alarms.supervise import DEAF_S
from iotcore.specs.load import load_folder, shipped_folder
from simulators.mqtt_device import MqttDevice
from simulators.mqtt_faults import Silent
from tests.support.platform import Platform
from tests.support.road import DETECTOR, QUIET, receivers, town
from tests.support.services import require

pytestmark = [pytest.mark.soak, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
INTERVAL_S, LIMIT_S = 2.0, 16.0
EXACT_S = 1.0
PLAYS = 3  # on a machine that is too busy a restart takes longer than what counts as silence


def specs(folder: Path) -> Path:
    """The shipped specs with a detector that reports every 2 s, and whose silence is a trouble after 16 s."""
    made = folder / "specs"
    shutil.copytree(shipped_folder(), made)
    path = made / f"{DETECTOR}.yaml"
    text = path.read_text(encoding="utf-8")
    assert "\ninterval_s: 10\n" in text
    path.write_text(
        text.replace("\ninterval_s: 10\n", f"\ninterval_s: {INTERVAL_S:g}\nsilence_s: {LIMIT_S:g}\n"), encoding="utf-8"
    )
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    require("mosquitto")
    async with AsyncExitStack() as stack:
        ends = await stack.enter_async_context(receivers())
        folder = tmp_path_factory.mktemp("supervision")
        made = Platform(folder, arc_port=ends.arc_port)
        made.configure(specs=str(specs(folder)))
        made.import_city(town(3))
        stack.push_async_callback(made.stop)
        await made.start()
        yield made


def fault(platform: Platform, device: str) -> list[tuple[float, float | None]]:
    """When its silence became a fault, and ended, ms UTC."""
    query = "SELECT first_ms, cleared_ms FROM fault WHERE device = ? AND reason = 'silent'"
    return [(first, cleared) for first, cleared in platform.rows("journal.db", query, device)]


async def beat(device: MqttDevice) -> None:
    """A reading every interval, for ever."""
    while True:
        await device.report(QUIET)
        await asyncio.sleep(INTERVAL_S)


async def test_a_lost_heartbeat_is_trouble_at_its_limit_across_a_kill_of_the_fire_process(platform: Platform) -> None:
    spec = load_folder(platform.folder / "specs")[DETECTOR]
    async with AsyncExitStack() as stack:
        devices = {}
        for name in ("sd-1", "sd-2"):
            endpoint = await platform.enrol(name, "fire")
            devices[name] = await stack.enter_async_context(MqttDevice(name, spec, endpoint, mqtt=platform.mqtt))
            beating = asyncio.create_task(beat(devices[name]))
            stack.callback(beating.cancel)
        states = "SELECT count(*) FROM device WHERE state = 'active'"
        await platform.until(lambda: platform.rows("registry.db", states) == [(2,)], 15.0, "both are active")
        await asyncio.sleep(2 * INTERVAL_S)
        for play in range(PLAYS):
            silent = Silent()
            devices["sd-1"].begin(silent)  # it keeps its connection: no will tells anything
            await platform.until(lambda: devices["sd-1"].held == 0, 15.0, "its last word is receipted")
            ((last_ms,),) = platform.rows("journal.db", "SELECT max(received_ms) FROM reading WHERE device = 'sd-1'")
            await asyncio.sleep(3.0)
            took_s = await platform.kill("fire")
            if took_s < DEAF_S or play == PLAYS - 1:
                break
            devices["sd-1"].end(silent)
            await asyncio.sleep(2 * INTERVAL_S)
        assert took_s < DEAF_S, "each restart was an outage of ours: nothing is shown"
        await platform.until(lambda: bool(fault(platform, "sd-1")), LIMIT_S + 5.0, "the silence is a fault")
        ((first_ms, _),) = fault(platform, "sd-1")
        assert abs((first_ms - last_ms) / 1000.0 - LIMIT_S) <= EXACT_S
        alarms = "SELECT severity, state FROM alarm WHERE device = 'sd-1' AND rule = 'silent'"
        assert platform.rows("journal.db", alarms) == [("trouble", "active")]
        await shown(platform)
        devices["sd-1"].end(silent)
        await platform.until(lambda: fault(platform, "sd-1")[0][1] is not None, 10.0, "it is heard again")
        assert platform.rows("journal.db", alarms) == [("trouble", "ended")]
        assert fault(platform, "sd-2") == []


async def shown(platform: Platform) -> None:
    """People see it wherever they look."""
    page = await platform.page("/devices/sd-1")
    assert "Silent for longer than its limit" in page
    assert "trouble after 16 s of silence" in page
    told = await asyncio.to_thread(platform.iotcore, "device", "show", "sd-1")
    assert "fault          silent since" in told
    assert "trouble after 16 s of silence" in told
    found = {one["name"]: one for one in await platform.said("doctor", code=1)}
    assert found["supervision"]["said"].startswith("1 silent: sd-1")
    assert not found["supervision"]["well"]
