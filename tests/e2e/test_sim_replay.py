"""`iotcore sim replay`: a measured fire through the rules alone, and through a real detector of a running platform."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from iotcore.clock import SystemClock
from iotcore.process.serve import beats
from simulators.arc_receiver import ArcReceiver
from tests.support import commands
from tests.support.platform import ARC_KEY, Platform
from tests.support.services import require
from tests.support.until import until

pytestmark = [pytest.mark.timeout(180)]
together = pytest.mark.asyncio(loop_scope="module")

NIST = Path(os.environ.get("IOTCORE_FIRE_DATA", Path(__file__).parents[2].parent / "shared/data/fire")) / "nist_sdc02.csv"
UPDATE = "FIRE ALSO"  # a further point of an incident that is known
RESTORE = "FH"  # SIA DC-03: fire alarm restore
COLUMNS = ("--time", "seconds", "--smoke", "obscuration", "--temperature", "celsius", "--smoke-unit", "dB/m")


@pytest.fixture(scope="module")
def fire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of quiet, then smoke that climbs by 0.02 dB/m a second."""
    path = tmp_path_factory.mktemp("curves") / "fire.csv"
    rows = [f"{second},{max(0.0, 0.02 * (second - 60)):.3f},{24 + second % 2 / 10}" for second in range(100)]
    path.write_text("\n".join(["seconds,obscuration,celsius", *rows]))
    return path


@pytest.fixture(scope="module")
def quiet(fire: Path) -> Path:
    """The same room, without the fire."""
    path = fire.with_name("quiet.csv")
    path.write_text("".join(fire.read_text().splitlines(keepends=True)[:60]))
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Platform, ArcReceiver]]:
    """A running platform with one receiving centre."""
    require("mosquitto")
    async with ArcReceiver(key=ARC_KEY) as arc:
        running = Platform(tmp_path_factory.mktemp("platform"), arc_port=arc.port)
        try:
            await running.start()
            yield running, arc
        finally:
            await running.stop()


def offline(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a replay that needs no platform."""
    done = commands.run("sim", "replay", "--offline", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_offline_the_rules_say_when_by_which_rule_and_at_what_value(fire: Path) -> None:
    code, said = offline(str(fire), *COLUMNS)
    assert code == 0
    found = re.fullmatch(r"alarm at (\d+\.\d) s by smoke-rise \(rising\): smoke (\d\.\d+) dB/m\n", said)
    assert found, said
    assert 67.0 <= float(found[1]) <= 76.0  # 0.15 dB/m above its own level, as a mean of 6 s


def test_offline_a_quiet_room_is_no_alarm_and_says_so_by_its_exit_code(quiet: Path) -> None:
    assert offline(str(quiet), *COLUMNS, "--baseline", "600") == (1, "no alarm\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--speed", "0"), "--speed 0.0 is not greater than 0"),
        (("--smoke-unit", "fog"), "unknown 'fog'; known are:"),
        (("--smoke", "SMA_1"), "SMA_1: no such column; the file has: seconds, obscuration, celsius"),
    ],
)
def test_a_replay_that_cannot_be_is_refused_with_what_there_is(fire: Path, options: tuple[str, str], said: str) -> None:
    code, output = offline(str(fire), *COLUMNS, *options)
    assert code == 1
    assert said in output
    assert "Traceback" not in output


def test_without_a_platform_it_says_what_to_start(fire: Path, tmp_path: Path) -> None:
    config = tmp_path / "iotcore.toml"
    config.write_text(f'data = "{tmp_path / "data"}"\n')
    command = [sys.executable, "-m", "iotcore", "sim", "replay", str(fire), *COLUMNS, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"iotcore: There is no platform in {tmp_path / 'data'}")
    assert "make demo" in done.stderr
    assert not (tmp_path / "data").exists()


@together
async def test_through_a_running_platform_a_fire_is_one_incident_that_the_receiver_acknowledged(
    platform: tuple[Platform, ArcReceiver], fire: Path
) -> None:
    running, arc = platform
    await forget(running, arc)
    before = len(arc.received)
    said = await replayed(running, fire, *COLUMNS, "--speed", "20", "--device", "sd-curve")
    (event,) = [event for event in list(arc.received)[before:] if UPDATE not in event.text]
    assert event.incident in said
    assert re.search(r"\(smoke-(rise|level)\)", said), said
    assert "detector_to_receiver_acknowledged" in said


@together
@pytest.mark.skipif(not NIST.exists(), reason=f"the measured fires are not here: {NIST}")
async def test_a_measured_house_fire_through_a_running_platform_is_one_incident(platform: tuple[Platform, ArcReceiver]) -> None:
    running, arc = platform
    await forget(running, arc)
    before = len(arc.received)
    said = await replayed(running, NIST, "--speed", "50", "--baseline", "300", "--device", "sd-nist")
    alarms = [event for event in list(arc.received)[before:] if event.code.endswith("A") and UPDATE not in event.text]
    assert [event.incident in said for event in alarms] == [True], said


@together
async def test_a_quiet_room_through_a_running_platform_is_no_incident(
    platform: tuple[Platform, ArcReceiver], quiet: Path
) -> None:
    running, arc = platform
    before = len(arc.received)
    said = await replayed(running, quiet, *COLUMNS, "--speed", "20", "--device", "sd-quiet", code=1)
    assert "no receiver has acknowledged an incident of this device" in said
    assert len(arc.received) == before


@together
async def test_a_rule_saved_while_the_platform_runs_judges_the_next_reading_of_its_fire_process(
    platform: tuple[Platform, ArcReceiver], quiet: Path
) -> None:
    running, arc = platform
    await forget(running, arc)
    before, rules = len(arc.received), beats(running.data, SystemClock())["fire"]["rules"]
    document = {
        "id": "any-heat",
        "hazard": "smoke",
        "severity": "alarm",
        "source": "this test",
        "models": ["iotcore-smoke-heat"],
        "when": {"kind": "threshold", "point": "temperature", "unit": "°C", "above": 20},
    }
    path = running.folder / "any-heat.yaml"
    path.write_text(json.dumps(document))
    await asyncio.to_thread(running.iotcore, "rule", "save", str(path))
    await until(lambda: beats(running.data, SystemClock())["fire"]["rules"] == rules + 1, 15.0)  # as its next beat says
    try:
        said = await replayed(running, quiet, *COLUMNS, "--speed", "20", "--device", "sd-ruled")
        assert "any-heat" in said
        assert len(arc.received) == before + 1
    finally:
        await asyncio.to_thread(running.iotcore, "rule", "remove", "any-heat@models:iotcore-smoke-heat")
        await forget(running, arc)


async def replayed(running: Platform, file: Path, *options: str, code: int = 0) -> str:
    """What a replay says, while the receiver in this process goes on."""
    return await asyncio.to_thread(running.iotcore, "sim", "replay", str(file), *options, code=code)


async def forget(running: Platform, arc: ArcReceiver) -> None:
    """Reset every open incident: the replays of this file share a premises."""
    for story in await running.said("incidents"):
        if story["state"] == "open":
            await asyncio.to_thread(running.iotcore, "reset", story["incident"])
            await until(functools.partial(arc.incidents.__contains__, f"{story['incident']} {RESTORE}"))
