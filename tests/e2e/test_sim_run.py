"""`iotcore sim run`: scenarios against a running platform, and Modbus units without one."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pymodbus.client import ModbusTcpClient

from simulators.arc_receiver import ArcReceiver
from tests.support.mosquitto import Mosquitto
from tests.support.platform import ARC_KEY, Platform
from tests.support.ports import free_port
from tests.support.services import require

pytestmark = [pytest.mark.timeout(240)]
together = pytest.mark.asyncio(loop_scope="module")
UPDATE = "FIRE ALSO"  # a further point of an incident that is known
MIXED = """
starts: "07:00"
lasts: 22s
rain: [{at: 9s, lasts: 1h, mm_per_h: 30}]
premises: [{id: kitchen, name: Kitchen, address: Bench 1, latitude: 19.8, longitude: 105.77, account: "2B01"}]
zones: [{id: kitchen-1, premises: kitchen, number: 1, floor: "1", name: Stove}]
devices:
  d7:
    model: iotcore-smoke-heat
    premises: kitchen
    zone: kitchen-1
    points:
      smoke: {kind: steps, steps: [[0, 0.01], [4s, 0.6]]}
      temperature: 24.5
      alarm: {kind: above, point: smoke, threshold: 0.4}
      button: false
      battery: 90
  air: {model: vaisala-aqt530, bus: mast, unit: 1, points: {pm25: {kind: ramp, from: 20, to: 80, takes: 20s}, temperature: 30}}
  river:
    model: endress-liquiline-cm44x
    bus: mast
    unit: 2
    points: {ph: 7.4, conductivity: {kind: rain, dry: 0.5, per_mm_per_h: -0.01, lag: 0, rises: 2s}}
faults:
  - {at: 1s, device: d7, fault: duplicate, args: {copies: 2}}
  - {at: 2s, device: d7, fault: disconnect, for: 1s}
  - {at: 13s, device: air, fault: "exception:4", for: 5s}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Platform, ArcReceiver]]:
    require("mosquitto")
    async with ArcReceiver(key=ARC_KEY) as arc:
        running = Platform(tmp_path_factory.mktemp("sim-run"), arc_port=arc.port)
        try:
            await running.start()
            yield running, arc
        finally:
            await running.stop()


def last(platform: Platform, device: str, point: str) -> tuple[object, str, str] | None:
    query = "SELECT value, quality, why FROM latest WHERE device = ? AND point = ?"
    found = platform.rows("telemetry.db", query, device, point)
    return found[0] if found else None


@together
async def test_devices_of_all_kinds_live_by_the_file_and_misbehave_in_their_time(
    platform: tuple[Platform, ArcReceiver], tmp_path: Path
) -> None:
    running, arc = platform
    path = tmp_path / "mixed.yaml"
    path.write_text(MIXED, encoding="utf-8")
    playing = asyncio.create_task(asyncio.to_thread(running.iotcore, "sim", "run", str(path)))
    seen: set[object] = set()
    river: list[float] = []
    while not playing.done():
        seen.add(last(running, "air", "pm25"))
        told = last(running, "river", "conductivity")
        river += [told[0]] if told is not None and isinstance(told[0], float) else []
        await asyncio.sleep(0.2)
    said = await playing
    assert re.search(r"^air  vaisala-aqt530  tcp://127\.0\.0\.1:(\d+)\?device_id=1$", said, re.MULTILINE)
    assert re.search(r"^river  endress-liquiline-cm44x  tcp://127\.0\.0\.1:(\d+)\?device_id=2$", said, re.MULTILINE)
    turns = re.findall(r"^(\w+: [\w:]+ (?:begins|ends))$", said, re.MULTILINE)
    assert turns == [
        "d7: duplicate begins",
        "d7: disconnect begins",
        "d7: disconnect ends",
        "air: exception:4 begins",
        "air: exception:4 ends",
    ]
    counted = re.search(r"^d7  reported=(\d+) receipted=(\d+) without_receipt=0 .* connections=2$", said, re.MULTILINE)
    assert counted, said
    assert counted[1] == counted[2]
    assert [event.account for event in arc.received if event.code == "FA" and UPDATE not in event.text] == ["2B01"]
    good = {one[0] for one in seen if isinstance(one, tuple) and one[1] == "good"}
    assert {True} == {20.0 <= value <= 80.0 for value in good if isinstance(value, float)}
    assert len(good) >= 3  # it climbed
    assert any(isinstance(one, tuple) and one[0] is None and one[1] == "bad" for one in seen)  # never the last value again
    assert max(river) > 0.4  # dry, and then the rain dilutes it
    assert min(river) < 0.3


@together
async def test_the_kitchen_fire_that_is_shipped_is_one_incident(platform: tuple[Platform, ArcReceiver]) -> None:
    running, arc = platform
    said = await asyncio.to_thread(running.iotcore, "sim", "run", "kitchen-fire", "--speed", "25")
    assert "hall-1: flap begins" in said
    told = [event for event in arc.received if event.code == "FA" and event.account == "2A01"]
    assert len({event.incident for event in told}) == 1
    assert len([event for event in told if UPDATE not in event.text]) == 1


def test_modbus_units_need_no_platform_and_end_with_ctrl_c() -> None:
    port = free_port()
    command = [sys.executable, "-m", "iotcore", "sim", "run", "air-day", "--standalone", "--port", str(port), "--speed", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            assert lines[0] == f"air-school  vaisala-aqt530  tcp://127.0.0.1:{port}?device_id=1\n"
            assert lines[1] == f"air-station  vaisala-aqt530  tcp://127.0.0.1:{port + 1}?device_id=1\n"
            with ModbusTcpClient("127.0.0.1", port=port) as client:
                assert not client.read_holding_registers(0, count=4).isError()
        finally:
            process.send_signal(signal.SIGINT)
        process.wait(20)


def test_a_vendor_s_device_publishes_where_it_is_told_to(tmp_path: Path) -> None:
    scenario = tmp_path / "vendor.yaml"
    scenario.write_text(
        "lasts: 10min\ndevices:\n  garden: {model: airgradient-one, points: {pm25: {kind: ramp, from: 1, to: 9, takes: 9min}}}\n"
        "faults: [{at: 5min, device: garden, fault: disconnect}]\n"
    )
    with Mosquitto(tmp_path) as broker:
        command = [sys.executable, "-m", "iotcore", "sim", "run", str(scenario), "--standalone"]
        alone = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert alone.returncode == 1
        assert "Say where they publish: --vendor-broker HOST:PORT." in alone.stderr
        command += ["--vendor-broker", f"127.0.0.1:{broker.port}", "--speed", "60"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "garden: disconnect begins" in done.stdout
    assert re.search(r"^garden  published=[1-9]\d* lost=[1-9]\d*$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "no scenario of that name is shipped; those are: air-day, junction, kitchen-fire, rain-at-the-river"),
        (["junction"], "This scenario has no Modbus unit"),
        (["air-day", "--speed", "0"], "--speed 0.0 is not greater than 0"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "iotcore", "sim", "run", "--standalone", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
