"""What the fire benchmark measures on: a platform under `iotcore up`, detectors as MQTT clients, and a receiving centre."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from iotcore.clock import SystemClock
from iotcore.journal.database import connect_readonly
from iotcore.journal.timeline import Timeline, timeline
from iotcore.process.serve import beats
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import load
from iotcore.specs.load import load_folder, shipped_folder
from simulators.arc_receiver import ArcReceiver
from simulators.city import DETECTOR_MODEL, GATEWAY, GATEWAY_MODEL, SIGNAL_MODEL
from simulators.scenario import Scenario
from simulators.town import Town
from tests.support.platform import ARC_KEY, Platform

SITE_FLOOD_DEVICES = ("tl-flood-1", "tl-flood-2")
CONNECT_LIMIT_S = 60.0
TOKEN_TTL_S = 600.0
BEAT_S = 6.0


def document(premises: int) -> dict[str, list[dict[str, Any]]]:
    """Premises with one zone and one smoke detector each, and the devices that flood."""
    names = [f"{n:04}" for n in range(1, premises + 1)]
    return {
        "premises": [
            {"id": f"p-{n}", "name": f"Nhà {n}", "address": f"Số {int(n)}", "latitude": 19.8, "longitude": 105.8, "account": n}
            for n in names
        ],
        "zones": [{"id": f"p-{n}-z1", "premises": f"p-{n}", "number": 1, "floor": "Tầng 1", "name": "Bếp"} for n in names],
        "devices": [
            {"id": f"sd-{n}", "title": f"Đầu báo {n}", "model": DETECTOR_MODEL, "premises": f"p-{n}", "zone": f"p-{n}-z1"}
            for n in names
        ]
        + [{"id": name, "title": "Flood", "model": SIGNAL_MODEL} for name in SITE_FLOOD_DEVICES]
        + [{"id": GATEWAY, "title": "Cổng Modbus", "model": GATEWAY_MODEL}],
    }


class Site:
    """Async context manager: everything is up, enrolled and connected inside; nothing is left after it."""

    def __init__(
        self, folder: Path, premises: int, *, store: dict[str, Any] | None = None, specs: Path | None = None, replicas: int = 1
    ) -> None:
        self._folder = folder
        self._replicas = replicas
        self._store = store
        self._specs = specs or shipped_folder()
        self._document = document(premises)
        self._stack = AsyncExitStack()
        self._seen: set[str] = set()
        self._processes: dict[str, psutil.Process] = {}
        self.also: Mapping[str, psutil.Process] = {}  # processes whose CPU is told besides ours
        self.detectors = [entry["id"] for entry in self._document["devices"] if entry["model"] == DETECTOR_MODEL]

    async def __aenter__(self) -> Self:
        self.arc = await self._stack.enter_async_context(ArcReceiver(key=ARC_KEY))
        self.platform = Platform(self._folder, arc_port=self.arc.port, store=self._store)
        self.platform.settings["throttle_times"] = 0.0  # else a lane that drops the flood would be called saturated
        self.platform.configure(specs=str(self._specs), fire={"replicas": self._replicas})
        self._stack.push_async_callback(self.platform.stop)
        await self.platform.start()
        settings = load(self.platform.config, {})
        self._registry: Registry = await self._stack.enter_async_context(
            await open_registry(settings.registry_url, SystemClock())
        )
        specs = load_folder(self._specs)
        await self._registry.import_city(self._document, specs, "benchmark")
        self.town = await self._stack.enter_async_context(
            Town(self._document, specs, Scenario(self._document), self._folder / "devices")
        )
        service = self.platform.data / "certs" / "service-root.pem"
        await self.town.enrol(f"https://127.0.0.1:{self.platform.est_port}", service, self._token, lambda: None)
        detectors = {device: identity for device, identity in self.town.identities.items() if device in self.detectors}
        await self.town.connect(("127.0.0.1", self.platform.fire_port), ("127.0.0.1", self.platform.field_port), "5", detectors)
        await self.platform.until(lambda: self.town.connected == len(detectors), CONNECT_LIMIT_S, "every detector is connected")
        await self.platform.until(self.platform.ready, CONNECT_LIMIT_S, "every part is ready")
        self._processes = {part: psutil.Process(self.platform.pid(part)) for part in self.platform.parts}
        for broker in ("mosquitto fire", "mosquitto field"):
            self._processes[broker] = psutil.Process(self.platform.pid(broker))
        self._processes["detectors and receiver"] = psutil.Process()
        self._journal = connect_readonly(self.platform.data / "journal.db")
        self._stack.callback(self._journal.close)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _token(self, device: str) -> str:
        return await self._registry.create_token(device, TOKEN_TTL_S, "benchmark")

    async def alarm(self, detector: str) -> float:
        """The detector decides to alarm and publishes it; ms UTC just before."""
        now_ms = time.time_ns() / 1e6
        values = {
            "smoke": 0.02,
            "temperature": 31.5,
            "alarm": True,
            "battery": 97,
        }  # one point: a second is an update, a frame more
        await self.town.devices[detector].report(values, kind="event")
        return now_ms

    async def delivered(self, count: int, limit_s: float) -> list[Timeline]:
        """Wait until the receiver has acknowledged so many new incidents.

        Raises:
            RuntimeError: it has another number in time.
        """
        await self.platform.until(lambda: len(self._acknowledged("alarm")) >= count, limit_s, f"{count} incidents delivered")
        await asyncio.sleep(0.5)  # time for a second incident, and for durable moments to be noted
        names = self._acknowledged("alarm")
        if len(names) != count:
            raise RuntimeError(f"{len(names)} incidents of {count} fires")
        self._seen |= names
        return [story for name in names if (story := timeline(self._journal, name)) is not None]

    async def reset(self, stories: Sequence[Timeline], limit_s: float) -> None:
        """Close the episodes, and wait until the receiver knows."""
        for story in stories:
            await self._registry.intent("reset", story.incident, "benchmark")
        names = {story.incident for story in stories}
        await self.platform.until(lambda: names <= self._told("restore"), limit_s, "all incidents reset")

    def frames(self) -> dict[str, list[float]]:
        """When the alarm frames of each incident came to the receiver, ms UTC."""
        found: dict[str, list[float]] = {}
        for event in self.arc.received:
            if event.code.endswith("A"):
                found.setdefault(event.incident, []).append(event.at_ms)
        return found

    def stored(self) -> int:
        """Messages that the bulk lane has on disk."""
        return int(beats(self.platform.data, SystemClock()).get("telemetry", {}).get("stored", 0))

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of every process until now."""
        everybody = {**self._processes, **self.also}
        times = {name: process.cpu_times() for name, process in everybody.items() if process.is_running()}
        return {name: spent.user + spent.system for name, spent in times.items()}

    def kill_one(self) -> None:
        """Kill -9 of a fire process, any of them."""
        os.kill(self.platform.pid(random.choice(self._fire_parts)), signal.SIGKILL)

    async def both_up(self, limit_s: float) -> None:
        """All fire processes run and are connected; one that was killed counts from its new start."""
        await asyncio.sleep(BEAT_S)  # a beat of the dead one is as good as fresh until then
        await self.platform.until(self.platform.ready, limit_s, "every part is ready")

    @property
    def _fire_parts(self) -> list[str]:
        return [part for part in self.platform.parts if part.partition("-")[0] == "fire"]

    def flood_arguments(self, device: str) -> list[str]:
        """The command line of a flood by this device."""
        identity = self.town.identities[device]
        files = (identity.ca_file, identity.cert_file, identity.key_file)
        return [str(self.platform.field_port), device, "traffic", *map(str, files)]

    def _acknowledged(self, event: str) -> set[str]:
        return self._told(event) - self._seen

    def _told(self, event: str) -> set[str]:
        rows = self._journal.execute("SELECT incident FROM outbox WHERE event = ? AND acknowledged_ms IS NOT NULL", (event,))
        return {row[0] for row in rows}
