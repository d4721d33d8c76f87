"""What devices say that they are set to, from both real brokers through the lanes' own processes to the registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iotcore.app import configs_back
from iotcore.app.configs_back import ConfigsBack
from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StoreError
from iotcore.process import home
from iotcore.process.serve import beats
from iotcore.provision.ca import Anchor
from iotcore.registry.configurations import Pair
from iotcore.registry.places import Places
from iotcore.registry.store import Registry, open_registry
from iotcore.registry.subjects import Subject
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint, Presence
from iotcore.wire.messages import ReportedConfig, StatusMessage
from simulators.mqtt_device import MqttDevice
from tests.support.cell import GATEWAY, LIMIT_S, Cell
from tests.support.pki import device_files
from tests.support.postgres import Postgres
from tests.support.shipped import SPECS

SMOKE = "iotcore-smoke-heat"
CITY: dict[str, Any] = {
    "premises": [{"id": "p1", "name": "Trường", "address": "1 Lê Lợi", "latitude": 19.8, "longitude": 105.77, "account": "a001"}],
    "devices": [
        {"id": GATEWAY, "title": "Cổng", "model": "iotcore-modbus-gateway"},
        {"id": "a-1", "title": "Trạm khí", "model": "vaisala-aqt530", "parent": GATEWAY,
         "connection": "tcp://127.0.0.1:5020?device_id=1"},
        {"id": "sd-1", "title": "Đầu báo", "model": SMOKE, "premises": "p1"},
    ]
}  # fmt: skip
TEN, FIVE = {"interval_s": 10}, {"interval_s": 5}


async def until(condition: Callable[[], bool], within_s: float = LIMIT_S) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - other programs' doing
            await asyncio.sleep(0.05)


async def has(registry: Registry, device: str) -> Pair:
    return (await Places(registry.database).known(Subject("device", device))).config


async def stands(registry: Registry, device: str, standing: str, within_s: float = LIMIT_S) -> Pair:
    """Wait until a device stands so to what is wanted of it."""
    async with asyncio.timeout(within_s):
        while (found := await has(registry, device)).standing != standing:  # noqa: ASYNC110 - another program's doing
            await asyncio.sleep(0.05)
    return found


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    made = Cell(tmp_path / "cell", [["air", "water", "traffic", "gateway", "fire"]])
    city = tmp_path / "city.json"
    city.write_text(json.dumps(CITY), encoding="utf-8")
    made.iotcore("import", str(city))
    with made:
        made.start("fire")
        made.until(lambda: bool(beats(made.data, SystemClock()).get("fire", {}).get("connected")), "fire is connected")
        yield made


async def test_a_detector_and_a_gateways_sub_device_report_on_their_own_brokers(cell: Cell) -> None:
    async with await open_registry(cell.settings.registry_url, SystemClock()) as registry:
        places = Places(registry.database)
        for device in ("sd-1", "a-1"):
            await places.desire(device, TEN, "minh")
            await registry.set_state(device, "provisioned", "test")
        await registry.set_state(GATEWAY, "provisioned", "test")
        authority = home.authority(cell.settings, SystemClock())
        certificate, key, _ = device_files(authority, cell.folder / "devices", Anchor.FIRE, "sd-1")
        trust = cell.data / "certs" / "service-root.pem"
        endpoint = Endpoint("127.0.0.1", cell.settings.brokers.fire.port, trust, certificate, key)
        async with MqttDevice("sd-1", SPECS[SMOKE], endpoint) as detector, cell.gateway() as gateway:
            await until(lambda: detector.connected)
            detector.take_config(1, TEN)
            birth = {"v": 1, "state": "online", "config": {"version": 1, "body": FIVE}}
            await gateway.send(topics.up("air", GATEWAY, "status", "a-1"), json.dumps(birth).encode())
            found = await stands(registry, "sd-1", "applied")
            assert found.reported is not None
            assert (found.reported.by, found.reported.body) == ("sd-1", TEN)
            found = await stands(registry, "a-1", "differs")
            assert found.reported is not None
            assert (found.reported.by, found.reported.body) == (GATEWAY, FIVE)
        deeds = [(one.deed.by, one.deed.subject) for one in await registry.audit_entries() if one.deed.action == "config.report"]
        assert sorted(deeds) == [(GATEWAY, "a-1"), ("sd-1", "sd-1")]


def said(device: str, version: int, body: dict[str, Any]) -> Presence:
    return Presence(device, device, StatusMessage(state="online", config=ReportedConfig(version=version, body=body)))


class Running:
    """Reports on their way to a registry on a server that comes and goes; their own pace is no matter here."""

    def __init__(self, registry: Registry, clock: ManualClock, every_s: float = 0.01) -> None:
        self.back = ConfigsBack(Places(registry.database), clock, every_s=every_s)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ConfigsBack:
        self._task = asyncio.create_task(self.back.run())
        return self.back

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        assert not self._task.done(), "it must outlive whatever it is told"
        self._task.cancel()
        await asyncio.wait({self._task})


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as made:
        yield made


async def wanting(registry: Registry) -> None:
    await registry.import_city(CITY, SPECS, "test")
    for body in (TEN, FIVE):
        await Places(registry.database).desire("sd-1", body, "minh")


async def test_the_newest_waits_for_a_registry_that_is_away(
    server: Postgres, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs_back, "RETRY_S", 0.1)
    clock = ManualClock()
    async with await open_registry(server.url(server.fresh()), clock) as registry:
        await wanting(registry)
        async with Running(registry, clock) as back:
            await asyncio.to_thread(server.pause)
            back.tell(said("sd-1", 1, TEN))
            await until(lambda: "wait for the registry" in caplog.text)
            back.tell(said("sd-1", 2, FIVE))
            server.resume()  # here: a server ends with the thread that started it
            await until_back(registry)
            await stands(registry, "sd-1", "applied")
        assert [one.version for one in await Places(registry.database).configured("sd-1", "reported")] == [2]


async def until_back(registry: Registry) -> None:
    """A pool finds out connection by connection that its server was away."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                await has(registry, "sd-1")
            except StoreError:
                await asyncio.sleep(0.1)
            else:
                return


async def test_only_what_is_new_is_written_and_no_oftener_than_the_pace(registry_url: str) -> None:
    clock = ManualClock()
    async with await open_registry(registry_url, clock) as registry:
        await wanting(registry)
        async with Running(registry, clock, every_s=0.2) as back:
            back.tell(said("sd-1", 1, TEN))
            await stands(registry, "sd-1", "behind")
            wrote = len(await registry.audit_entries())
            for n in range(50):
                back.tell(said("sd-1", 2, {"interval_s": n}))
            back.tell(said("sd-1", 2, FIVE))
            await asyncio.sleep(0.5)  # its time does not come while the clock stands
            assert len(await registry.audit_entries()) == wrote
            clock.advance(1.0)
            await stands(registry, "sd-1", "applied")
            assert len(await registry.audit_entries()) == wrote + 1
        async with Running(registry, clock) as back:  # after a restart the same comes again, retained
            back.tell(said("sd-1", 2, FIVE))
            back.tell(said("a-1", 1, {}))
            await asyncio.sleep(0.5)
        assert len(await registry.audit_entries()) == wrote + 1


async def test_what_cannot_be_kept_is_said_once_and_holds_up_nothing(registry_url: str, caplog: pytest.LogCaptureFixture) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    clock = ManualClock()
    async with await open_registry(registry_url, clock) as registry:
        await wanting(registry)
        async with Running(registry, clock) as back:
            for one in (said("sd-9", 1, {}), said("a-1", 7, {}), said(GATEWAY, 1, {"x": float("nan")}), said(GATEWAY, 1, deep)):
                back.tell(one)
            back.tell(said("sd-1", 2, FIVE))
            await stands(registry, "sd-1", "applied")
            clock.advance(1.0)
            back.tell(said("a-1", 7, {}))
            await asyncio.sleep(0.3)
        assert caplog.text.count("unknown_device") == 1
        assert caplog.text.count("version 7 was never wanted") == 1
        assert caplog.text.count(f"that {GATEWAY} reported is not kept") == 2
    while deep:
        deep = deep.pop("a")


async def test_a_flood_is_bounded(registry_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(configs_back, "MAX_WAITING_BYTES", 1_000)
    async with await open_registry(registry_url, ManualClock()) as registry:
        await wanting(registry)
        running = Running(registry, ManualClock())
        for n in range(100):
            running.back.tell(said(f"x-{n}", 1, {"filler": "y" * 180}))  # five fit
        running.back.tell(said("x-0", 1, {}))  # the newest takes the place of what it said before
        running.back.tell(said("sd-1", 2, FIVE))
        async with running:
            await stands(registry, "sd-1", "applied")
        assert caplog.text.count("no more are taken") == 1
        assert caplog.text.count("unknown_device") == 5
