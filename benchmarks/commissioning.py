"""The technician's path on a whole platform: token → certificate → connected → test alarm → signed record, for several devices.

    python -m benchmarks.commissioning [--devices 10]

Every device is a simulated detector with keys of its own; steps that a person does (a photo, a place, a name) take no time here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import aiohttp

from iotcore.clock import SystemClock
from simulators.button import press, quiet
from simulators.mqtt_device import MqttDevice
from tests.integration.test_paper_record import picture
from tests.support.platform import Platform
from tests.support.road import DETECTOR, receivers, town
from tests.support.shipped import SPECS

FOLLOWED_S = 0.5  # the fire lane follows the registry each 0.2 s; who presses a button takes longer
LIMIT_S = 20.0
POLL_S = 0.005
STEPS = ("token, certificate", "connected", "test mode", "test alarm", "photo, place", "signed record")


async def main() -> None:
    """Print a table of the steps in seconds, and the test alarms in ms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10)
    count: int = parser.parse_args().devices
    with tempfile.TemporaryDirectory() as folder:
        async with receivers() as heard:
            platform = Platform(Path(folder), arc_port=heard.arc_port)
            platform.import_city(town(min(count, 9)))
            await platform.start()
            try:
                platform.iotcore("user", "add", "lan", "--role", "technician")
                token = platform.iotcore("apitoken", "create", "lan", "phone", "--role", "technician")
                taken = [await path(platform, f"sd-{number}", token) for number in range(1, min(count, 9) + 1)]
                roads = [one for (one,) in platform.rows("registry.db", "SELECT latency_ms FROM device_test")]
                dispatched = len(heard.frames)
            finally:
                await platform.stop()
    for name in STEPS:
        every = sorted(one[name] for one in taken)
        print(f"{name:20} median {statistics.median(every):6.3f} s   longest {every[-1]:6.3f} s")
    whole = [sum(one.values()) for one in taken]
    print(f"{'together':20} median {statistics.median(whole):6.3f} s   longest {max(whole):6.3f} s   ({len(taken)} devices)")
    print(f"test alarm, detector until durable: median {statistics.median(roads):.1f} ms, longest {max(roads):.1f} ms")
    print(f"frames at the receiving centre: {dispatched}")


async def path(platform: Platform, name: str, token: str) -> dict[str, float]:
    """Seconds of each step for one device."""
    took: dict[str, float] = {}
    last_s = time.monotonic()

    def step(label: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        took[label], last_s = now_s - last_s, now_s

    spec = SPECS[DETECTOR]
    endpoint = await platform.enrol(name, "fire")
    step(STEPS[0])
    url = f"http://127.0.0.1:{platform.web_port}"
    signed_in = {"Authorization": f"Bearer {token}"}
    async with MqttDevice(name, spec, endpoint) as device, aiohttp.ClientSession(headers=signed_in) as session:
        await _until(lambda: device.connected)
        await device.report(quiet(spec))
        step(STEPS[1])
        await _well(session.post(f"{url}/commissioning/{name}/test"))
        await asyncio.sleep(FOLLOWED_S)
        step(STEPS[2])
        await press(device)
        await _until(lambda: bool(platform.rows("registry.db", "SELECT 1 FROM device_test WHERE device_id = ?", name)))
        step(STEPS[3])
        await _tell(session, url, name, "photo", picture())
        await _tell(session, url, name, "location", json.dumps({"text": "here"}).encode())
        step(STEPS[4])
        opened = ["connected", "clock", "reading", "battery"]  # the bulk lane may be a moment behind
        await _tell(session, url, name, "sign", json.dumps({"name": "A", "open": opened}).encode())
        step(STEPS[5])
    return took


async def _tell(session: aiohttp.ClientSession, url: str, device: str, kind: str, content: bytes) -> None:
    query = {"kind": kind, "at_ms": str(int(SystemClock().wall_ms()))}
    await _well(session.put(f"{url}/commissioning/{device}/entries/{device}-{kind}", params=query, data=content))


async def _well(answer: Awaitable[aiohttp.ClientResponse]) -> None:
    response = await answer
    assert response.status == HTTPStatus.OK, await response.text()
    response.release()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - another program's doing
            await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    asyncio.run(main())
