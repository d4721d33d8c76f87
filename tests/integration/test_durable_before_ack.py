"""What the kernel saw: the disk has a reading before the broker has our PUBACK and its sender a receipt, on both lanes.

The real processes run under strace against the real brokers, over mutual TLS; SSLKEYLOGFILE lets the test read along.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import SystemClock
from iotcore.process import home
from iotcore.process.serve import beats
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker_process import BrokerProcess
from iotcore.provision.ca import Anchor
from iotcore.registry.store import open_registry
from iotcore.settings import Settings, load
from iotcore.wire.arrival import Endpoint
from simulators.mqtt_device import MqttDevice
from tests.support.mqtt_reader import Puback, Publish, packets
from tests.support.pki import device_files
from tests.support.ports import free_port
from tests.support.road import DETECTOR, QUIET, SIGNAL, SIGNAL_REPORT, SMOKE, town
from tests.support.services import require
from tests.support.shipped import SPECS
from tests.support.strace_log import READS, WRITES, Call, calls, command, synced_between
from tests.support.tls_reader import CLIENT_HELLO_RANDOM, Direction, secrets_in
from tests.support.until import until

READINGS = 25  # of each device; all at once, so that some share a commit
LIMIT_S = 40.0
LANES = {"telemetry": (BrokerName.FIELD, "spool-1.db-wal"), "fire": (BrokerName.FIRE, "journal.db-wal")}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    require("mosquitto")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "secrets"))
    config = tmp_path / "iotcore.toml"
    ports = [free_port() for _ in range(2)]
    config.write_text(
        f'data = "{tmp_path / "data"}"\n[brokers.fire]\nport = {ports[0]}\n[brokers.field]\nport = {ports[1]}\n', encoding="utf-8"
    )
    return load(config, {})


@asynccontextmanager
async def watched(settings: Settings, lane: str, worker: Sequence[str]) -> AsyncIterator[list[MqttDevice]]:
    """A lane's process under strace, connected, with two devices at its broker."""
    broker, folder = LANES[lane][0], settings.folder.parent
    authority = home.prepare(settings, SystemClock())
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        await registry.import_city(town(2, signals=2), SPECS, "test")
    names = [f"{'sd' if lane == 'fire' else 'ts'}-{n}" for n in (1, 2)]
    process = None
    with BrokerProcess(home.broker_home(settings, BrokerName.FIRE)), BrokerProcess(home.broker_home(settings, BrokerName.FIELD)):
        try:
            ours = [sys.executable, "-m", *worker, "--config", str(folder / "iotcore.toml")]
            process = await asyncio.create_subprocess_exec(*command(folder / "calls"), *ours)
            await until(lambda: _beat(settings, lane).get("connected", False), LIMIT_S)
            yield [_device(settings, authority, broker, name) for name in names]
            os.kill(_beat(settings, lane)["pid"], signal.SIGTERM)
            await asyncio.wait_for(process.wait(), LIMIT_S)
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()


def _beat(settings: Settings, lane: str) -> dict[str, Any]:
    return beats(settings.folder, SystemClock()).get(lane, {})


def _device(settings: Settings, authority: Any, broker: BrokerName, name: str) -> MqttDevice:
    cert, key, _ = device_files(authority, settings.folder / "devices", Anchor(broker.value), name)
    port = home.broker_settings(settings, broker).port
    endpoint = Endpoint("127.0.0.1", port, settings.folder / "certs" / "service-root.pem", cert, key)
    return MqttDevice(name, SPECS[DETECTOR if name.startswith("sd") else SIGNAL], endpoint)


def traffic(made: list[Call], port: int, secrets: Mapping[tuple[str, str], bytes]) -> Iterator[tuple[str, Publish | Puback]]:
    """What passed between the process and the broker on this port: ("in" | "out", packet) of each of its connections."""
    for whose in {one.whose for one in made if one.whose.endswith(f"->127.0.0.1:{port}]")}:
        ours = [one for one in made if one.whose == whose]
        sent = [(one.entry, one.content) for one in ours if one.name in WRITES]
        came = [(one.result, one.content) for one in ours if one.name in READS]
        random = b"".join(content for _, content in sent)[CLIENT_HELLO_RANDOM].hex()
        for way, label, pieces in (("in", "SERVER", came), ("out", "CLIENT", sent)):
            secret = secrets.get((f"{label}_TRAFFIC_SECRET_0", random))
            if secret is not None:
                yield from ((way, packet) for packet in packets(Direction(secret).read(pieces)))


@pytest.mark.parametrize("lane", LANES)
async def test_the_disk_has_a_reading_before_the_broker_has_our_puback_and_its_sender_a_receipt(
    settings: Settings, lane: str
) -> None:
    await _expect_disk_first(settings, lane, ("iotcore", "run", lane))


async def test_a_build_that_acknowledges_before_it_stores_is_found_out(settings: Settings) -> None:
    with pytest.raises(AssertionError, match="PUBACK before the disk"):
        await _expect_disk_first(settings, "telemetry", ("tests.campaigns.broken_worker",))


async def _expect_disk_first(settings: Settings, lane: str, worker: Sequence[str]) -> None:
    (broker, file), folder = LANES[lane], settings.folder.parent
    async with watched(settings, lane, worker) as devices:
        for device in devices:
            async with device:
                for number in range(READINGS):
                    fire = SMOKE if number == READINGS // 2 else QUIET
                    await device.report(fire if lane == "fire" else SIGNAL_REPORT)
                await until(lambda device=device: device.held == 0, LIMIT_S)  # type: ignore[misc]
    made = list(calls((folder / "calls").read_text(encoding="ascii", errors="replace").splitlines()))
    port = home.broker_settings(settings, broker).port
    passed = list(traffic(made, port, secrets_in(folder / "secrets")))
    came = [one for way, one in passed if way == "in" and isinstance(one, Publish) and "/up/reading/" in one.topic]
    sent = [one for way, one in passed if way == "out"]
    assert len({one.payload for one in came}) == 2 * READINGS
    assert _answered(made, file, came, sent) >= 2 * READINGS
    assert _receipted(made, file, came, sent) == {device.device: READINGS for device in devices}


def _answered(made: list[Call], file: str, came: list[Publish], sent: list[Publish | Puback]) -> int:
    """How many PUBACKs answered a reading; each after a sync that began after the reading had come."""
    count = 0
    for puback in (one for one in sent if isinstance(one, Puback)):
        asked = [one for one in came if one.packet == puback.packet and one.moment < puback.moment]
        if asked:
            count += 1
            assert synced_between(made, file, asked[-1].moment, puback.moment), f"PUBACK before the disk: {asked[-1]}"
    return count


def _receipted(made: list[Call], file: str, came: list[Publish], sent: list[Publish | Puback]) -> dict[str, int]:
    """The highest receipt of each device; each after a sync that began after the last reading that it names had come."""
    highest: dict[str, int] = {}
    for receipt in (one for one in sent if isinstance(one, Publish) and "/down/receipt/" in one.topic):
        device, up_to = receipt.topic.rsplit("/", 1)[1], json.loads(receipt.payload)["up_to"]
        first: dict[int, int] = {}
        for one in came:
            if one.topic.endswith(f"/{device}"):
                first.setdefault(json.loads(one.payload)["seq"], one.moment)
        named = [moment for seq, moment in first.items() if seq <= up_to]
        assert len(named) == up_to, f"a receipt for {up_to} of {device}, of which only {len(named)} ever came"
        assert synced_between(made, file, max(named), receipt.moment), f"receipt before the disk: {receipt}"
        highest[device] = max(up_to, highest.get(device, 0))
    return highest
