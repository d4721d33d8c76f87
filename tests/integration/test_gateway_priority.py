"""Fire before all: neither half a million bulk readings that wait nor a flood of new ones delays a fire."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import ThrowawayAuthority
from tests.support.core_stand_in import CoreStandIn
from tests.support.gateway_child import keep_backlog
from tests.support.mosquitto import Mosquitto

BACKLOG = 500_000
USUAL_S = 0.25  # a loaded machine; some 5 ms on an idle one
WORST_S = 2.0

pytestmark = pytest.mark.timeout(180)


@asynccontextmanager
async def _bulk_core(broker: Mosquitto, authority: ThrowawayAuthority) -> AsyncIterator[None]:
    pair = authority.issue("core")
    files = (str(authority.ca_file), str(pair.cert_file), str(pair.key_file))
    command = (sys.executable, "-m", "tests.support.core_child", str(broker.port), *files)
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 20.0) == b"ready\n"
        yield
    finally:
        child.kill()
        await child.wait()


async def test_a_fire_goes_at_once_through_a_flood_and_a_backlog_of_half_a_million(tmp_path: Path) -> None:
    authority = ThrowawayAuthority(tmp_path / "ca")
    await asyncio.to_thread(keep_backlog, tmp_path / "bulk.db", BACKLOG)
    with (
        Mosquitto(tmp_path / "fire", tls=authority.server(), durable=False) as fire,
        Mosquitto(tmp_path / "bulk", tls=authority.server(), durable=False) as bulk,
    ):
        watcher, own = authority.issue("watcher"), authority.issue("gw1")
        job = {
            "do": "busy", "folder": str(tmp_path), "next": 1, "backlog": BACKLOG,
            "ports": {"fire": fire.port, "bulk": bulk.port},
            "tls": [str(authority.ca_file), str(own.cert_file), str(own.key_file)],
        }  # fmt: skip
        async with (
            CoreStandIn(fire.endpoint(watcher.cert_file, watcher.key_file), name="watcher") as core,
            _bulk_core(bulk, authority),
        ):
            command = (sys.executable, "-m", "tests.support.gateway_child", json.dumps(job))
            child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            out, _ = await asyncio.wait_for(child.communicate(), 90.0)
            assert child.returncode == 0
    state = json.loads(out.splitlines()[-1])[1]
    assert state["resent"] > 100, "the backlog went out meanwhile"
    assert state["published"] > state["resent"], "and new readings too"
    late = [taken.message.seq for taken in core.readings if taken.message.backlog]
    waits = sorted(taken.at_s - float(taken.message.values["sent_s"] or 0) for taken in core.readings)
    print(f"put to core, ms: median {waits[50] * 1e3:.1f}, worst {waits[-1] * 1e3:.1f}; {state}")  # noqa: T201 - to compare
    assert (len(waits), late) == (100, [])
    assert waits[90] < USUAL_S
    assert waits[-1] < WORST_S
