"""How many simulated MQTT devices one core carries: real Mosquitto, mutual TLS, a certificate each, receipts for everything.

    this process: starts a broker and a core that receipts each report, and measures
    a child:      COUNT devices, each reporting every 10 s; its CPU, its memory, its file descriptors

`python -m benchmarks.simulated_devices [COUNT] [SECONDS]` (2,000 devices, 30 s). Its last line is one JSON object; `cpu_cores` is
the child's CPU time by the wall clock while all devices report, without the time in which they connect.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil

from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor
from iotcore.specs.load import load_folder, shipped_folder
from iotcore.wire.arrival import Endpoint
from simulators.mqtt_device import MqttDevice
from simulators.town import connected_all, room_for
from tests.support.brokers import site
from tests.support.core_stand_in import CoreStandIn
from tests.support.pki import device_files, service_files, trust_file

COUNT, SECONDS, INTERVAL_S = 2_000, 30.0, 10.0
MODEL = "iotcore-smoke-heat"
CONNECT_LIMIT_S = 300.0
QUIET = {"temperature": 24.5, "alarm": False, "button": False, "battery": 97.0}
READY = "ready"


async def devices(port: int, folder: Path, count: int, seconds: float) -> None:
    """The child: connect all, say how that went; report for a while; say what it cost."""
    room_for(count)
    spec = load_folder(shipped_folder())[MODEL]
    me = psutil.Process()
    began_s, began_cpu_s = time.monotonic(), _cpu_s(me)
    async with AsyncExitStack() as stack:
        clients = []
        for n in range(count):
            name = f"sd-{n}"
            files = (folder / "devices" / f"fire-{name}.pem", folder / "devices" / f"fire-{name}.key")
            endpoint = Endpoint("127.0.0.1", port, folder / "service-root.pem", *files)
            clients.append(MqttDevice(name, spec, endpoint, link_limit_s=60.0))
        await connected_all(clients, stack, CONNECT_LIMIT_S)
        connected = {"connect_s": time.monotonic() - began_s, "connect_cpu_s": _cpu_s(me) - began_cpu_s}
        reporting = [asyncio.create_task(_report(client)) for client in clients]
        await asyncio.sleep(INTERVAL_S)  # everybody has reported once: no more of the start in the figures
        print(READY, flush=True)
        before_s, before_cpu_s = time.monotonic(), _cpu_s(me)
        first = {client.device: client.counters.reported for client in clients}
        await asyncio.sleep(seconds)
        took_s, cpu_s = time.monotonic() - before_s, _cpu_s(me) - before_cpu_s
        said = {
            "devices": count,
            **connected,
            "seconds": took_s,
            "cpu_cores": cpu_s / took_s,
            "reports_per_s": sum(client.counters.reported - first[client.device] for client in clients) / took_s,
            "rss_mb": me.memory_info().rss / 1e6,
            "fds": me.num_fds(),
            "threads": me.num_threads(),
        }
        for task in reporting:
            task.cancel()
        await asyncio.sleep(2.0)  # the last receipts
        said |= {
            "reported": sum(client.counters.reported for client in clients),
            "receipted": sum(client.counters.receipted for client in clients),
            "resent": sum(client.counters.resent for client in clients),
            "reconnected": sum(client.counters.connections for client in clients) - count,
        }
        print(json.dumps(said), flush=True)
        os._exit(0)  # thousands of goodbyes are not what is measured


async def _report(client: MqttDevice) -> None:
    await asyncio.sleep(random.uniform(0.0, INTERVAL_S))
    while True:
        await client.report({**QUIET, "smoke": round(random.uniform(0.0, 0.02), 4)})
        await asyncio.sleep(INTERVAL_S)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(folder: Path, count: int = COUNT, seconds: float = SECONDS) -> dict[str, Any]:
    """One run: broker and core here, the devices in a process of their own; what that process said, and what came here."""
    room_for(count)
    async with site(folder, "mosquitto", [BrokerName.FIRE]) as running:
        for n in range(count):
            device_files(running.authority, folder / "devices", Anchor.FIRE, f"sd-{n}")
        trust = trust_file(running.authority, folder)
        core_files = service_files(running.authority, folder, "svc.fire.1.in")
        port = running.homes[BrokerName.FIRE].port
        endpoint = Endpoint("127.0.0.1", port, trust, *core_files)
        async with CoreStandIn(endpoint, name="svc.fire.1.in", topic_filter="iot/v1/fire/+/up/#") as core:
            command = ["-m", "benchmarks.simulated_devices", "child", str(port), str(folder), str(count), str(seconds)]
            child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
            out, _ = await child.communicate()
            said: dict[str, Any] = json.loads(out.decode().strip().splitlines()[-1])
            heard = {taken.topic.device for taken in core.readings}
            return {**said, "devices_heard": len(heard), "messages_heard": len(core.readings)}


def main(arguments: list[str]) -> None:
    """The command line."""
    if arguments[:1] == ["child"]:
        port, place, number, lasts = arguments[1:]
        asyncio.run(devices(int(port), Path(place), int(number), float(lasts)))
        return
    count = int(arguments[0]) if arguments else COUNT
    seconds = float(arguments[1]) if arguments[1:] else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), count, seconds))
    print(f"{found['devices']} devices on {found['cpu_cores']:.2f} cores, {found['rss_mb']:.0f} MB, {found['fds']} descriptors; "
          f"connected in {found['connect_s']:.0f} s ({found['connect_cpu_s']:.0f} s of CPU)")  # fmt: skip
    print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
