"""A platform that is destroyed and restored elsewhere: devices come back with their certificates, the next fire arrives once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path

import psutil
import pytest

from iotcore.reading import Scalar
from simulators.mqtt_device import MqttDevice
from tests.support import commands
from tests.support.platform import Platform
from tests.support.road import QUIET, SIGNAL_REPORT, SMOKE, Receivers, enrolled, receivers, town

pytestmark = pytest.mark.timeout(240)
EVERY_S = 0.05
LIMIT_S = 20.0


async def flow(device: MqttDevice, values: Mapping[str, Scalar]) -> None:
    while True:
        await device.report(values)
        await asyncio.sleep(EVERY_S)


async def burn(platform: Platform, told: Receivers, device: MqttDevice, *, receipted: bool = True) -> str:
    """Smoke at a detector: one new incident at both receivers, and its receipts; the incident's name."""
    before = set(told.arc_incidents())
    for _ in range(2):
        await device.report(SMOKE)
    await platform.until(
        lambda: (
            len(set(told.arc_incidents()) - before) >= 1
            and set(told.arc_incidents()) - before <= set(told.cad_incidents())
            and (device.held == 0 or not receipted)
        ),
        LIMIT_S,
        f"the fire at {device.device} is known to both receivers",
    )
    (new,) = set(told.arc_incidents()) - before
    return new


async def destroy(platform: Platform) -> None:
    """Every process dies at once, and the folder is gone."""
    supervisor = psutil.Process(platform.pid("broker fire")).parent()
    assert supervisor is not None
    family = [supervisor, *supervisor.children(recursive=True)]
    for one in family:
        os.kill(one.pid, signal.SIGKILL)
    await asyncio.to_thread(psutil.wait_procs, family, 10)
    await platform.stop()  # reaps the supervisor
    delivered = platform.data / "certs" / "service-root.pem"  # what devices were delivered with: they have it still
    content = delivered.read_bytes()
    await asyncio.to_thread(shutil.rmtree, platform.data)
    delivered.parent.mkdir(parents=True)
    delivered.write_bytes(content)


async def iotcore(platform: Platform, *arguments: str) -> str:
    return await asyncio.to_thread(platform.iotcore, *arguments)


async def restored(platform: Platform, file: Path) -> str:
    """Restore into another folder, and be the platform of that folder from now on."""
    new = platform.folder / "elsewhere"
    command = ("restore", str(file), "--to", str(new), "--identity", str(platform.folder / "key"))
    platform.config.unlink()  # it was on the machine that is gone
    platform.data, platform.config = new, new / "iotcore.toml"
    done = await asyncio.to_thread(commands.run, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def park(platform: Platform, incident: str) -> None:
    """As if this notice had been on its way for an hour when the backup was made."""
    with closing(sqlite3.connect(platform.data / "journal.db")) as journal:
        where = "FROM outbox WHERE incident = ? AND channel = 'arc'"
        columns = "id, incident, channel, event, notice, created_ms, sent_ms"
        journal.execute(f"INSERT INTO parked ({columns}, parked_ms) SELECT {columns}, created_ms {where}", (incident,))
        journal.execute(f"DELETE {where}", (incident,))
        journal.commit()


def parked_notices(platform: Platform) -> list[tuple[object, ...]]:
    return platform.rows("journal.db", "SELECT id FROM parked WHERE decision IS NULL")


async def test_the_next_fire_after_a_restore_arrives_once_and_under_a_new_number(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        told = await stack.enter_async_context(receivers())
        platform = Platform(tmp_path, arc_port=told.arc_port, cad_url=told.cad.url)
        platform.import_city(town(5, signals=1))
        stack.push_async_callback(platform.stop)
        await platform.start()
        names = ("sd-1", "sd-2", "sd-3", "ts-1")
        devices = {name: await stack.enter_async_context(await enrolled(platform, name)) for name in names}
        devices["sd-5"] = await stack.enter_async_context(await enrolled(platform, "sd-5"))
        old = await burn(platform, told, devices["sd-5"])
        flows = [asyncio.create_task(flow(devices["sd-1"], QUIET)), asyncio.create_task(flow(devices["ts-1"], SIGNAL_REPORT))]
        public = await iotcore(platform, "backup", "key", str(tmp_path / "key"))
        making = asyncio.create_task(iotcore(platform, "backup", str(tmp_path / "b.age"), "--recipient", public))
        first = await burn(platform, told, devices["sd-2"])
        await making
        devices["sd-4"] = await stack.enter_async_context(await enrolled(platform, "sd-4"))  # enrolled after the backup
        lost = await burn(platform, told, devices["sd-4"])  # and burnt: the backup knows nothing of it
        for one in flows:
            one.cancel()
        await asyncio.wait(flows)
        await destroy(platform)
        before = set(told.arc_incidents())
        assert before == {old, first, lost}
        numbers = [int(event.sequence or 0) for event in told.frames]

        said = await restored(platform, tmp_path / "b.age")
        assert "certificates issued since" in said
        assert "sd-4" in said
        park(platform, old)
        await platform.start()
        new = await burn(platform, told, devices["sd-3"])
        assert set(told.arc_incidents()) == {*before, new}
        assert told.arc_incidents().count(new) == 1
        number = int(told.frames[-1].sequence or 0)
        assert number > max(numbers)
        assert {row["incident"] for row in await platform.said("notice", "list")} == {old}
        assert told.arc_incidents().count(old) == 1
        await iotcore(platform, "notice", "send", old)
        await platform.until(lambda: told.arc_incidents().count(old) == 2, LIMIT_S, "the old notice is sent after all")
        await platform.until(lambda: not parked_notices(platform), LIMIT_S, "nothing waits")
        # its certificate is not in the inventory, and still good; its receipts wait for what it had sent since the backup
        again = await burn(platform, told, devices["sd-4"], receipted=False)
        assert again not in {*before, new}
        signal_seen = "SELECT count(*) FROM presence WHERE device = 'ts-1' AND state = 'online'"
        await platform.until(lambda: platform.rows("telemetry.db", signal_seen) == [(1,)], LIMIT_S, "the signal is back")
        heads = platform.data / "audit" / "heads" / "heads.jsonl"
        verdict = await iotcore(platform, "audit", "verify", "--head", str(heads))
        assert "GAP  restored at entry" in verdict
        assert "the audit is whole but for what a restore has lost" in verdict
