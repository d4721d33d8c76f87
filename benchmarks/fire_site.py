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

from benchmarks.fire_city import ALARM, Crowd, detectors
from benchmarks.fleet import Client
from iotcore.clock import SystemClock
from iotcore.journal.database import connect_readonly
from iotcore.journal.timeline import Timeline, timeline
from iotcore.process.serve import beats
from iotcore.registry.store import Registry, open_registry
from iotcore.settings import load
from iotcore.specs.load import load_folder, shipped_folder
from simulators.arc_receiver import ArcReceiver
from simulators.city import DETECTOR_MODEL
from simulators.scenario import Scenario
from simulators.town import Town
from tests.support.platform import ARC_KEY, Platform

START_LIMIT_S = 180.0  # of a machine that does other things, too
CONNECT_LIMIT_S = 180.0
TOKEN_TTL_S = 600.0
BEAT_S = 6.0
NOBODY = Crowd()


class Site:
    """Async context manager: everything is up, enrolled and connected inside; nothing is left after it."""

    def __init__(
        self,
        folder: Path,
        premises: int,
        *,
        crowd: Crowd = NOBODY,
        store: dict[str, Any] | None = None,
        specs: Path | None = None,
        replicas: int = 1,
    ) -> None:
        self._folder = folder
        self._replicas = replicas
        self._store = store
        self._specs = specs or shipped_folder()
        self.crowd = crowd
        self._document = detectors(premises)
        self._stack = AsyncExitStack()
        self._seen: set[str] = set()
        self._processes: dict[str, psutil.Process] = {}
        self.also: Mapping[str, psutil.Process] = {}  # processes whose CPU is told besides ours
        self.detectors = [entry["id"] for entry in self._document["devices"] if entry["model"] == DETECTOR_MODEL]

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        self.arc = await self._stack.enter_async_context(ArcReceiver(key=ARC_KEY))
        self.platform = Platform(self._folder, arc_port=self.arc.port, store=self._store)
        self.platform.settings["throttle_times"] = 0.0  # else a lane that drops the flood would be called saturated
        self.platform.configure(specs=str(self._specs), fire={"replicas": self._replicas})
        self._stack.push_async_callback(self.platform.stop)
        await self.platform.start(START_LIMIT_S)
        settings = load(self.platform.config, {})
        self._registry: Registry = await self._stack.enter_async_context(
            await open_registry(settings.registry_url, SystemClock())
        )
        specs = load_folder(self._specs)
        await self._registry.import_city(_joined(self._document, self.crowd.document()), specs, "benchmark")
        self.town = await self._stack.enter_async_context(
            Town(self._document, specs, Scenario(self._document), self._folder / "devices")
        )
        service = self.platform.data / "certs" / "service-root.pem"
        await self.town.enrol(f"https://127.0.0.1:{self.platform.est_port}", service, self._token, lambda: None)
        ours = {device: identity for device, identity in self.town.identities.items() if device in self.detectors}
        await self.town.connect(("127.0.0.1", self.platform.fire_port), ("127.0.0.1", self.platform.field_port), "5", ours)
        await self.platform.until(lambda: self.town.connected == len(ours), CONNECT_LIMIT_S, "every detector is connected")
        await self.platform.until(self.platform.ready, CONNECT_LIMIT_S, "every part is ready")
        self._processes = {part: psutil.Process(self.platform.pid(part)) for part in self.platform.parts}
        for broker in ("mosquitto fire", "mosquitto field"):
            self._processes[broker] = psutil.Process(self.platform.pid(broker))
        self._processes["detectors and receiver"] = psutil.Process()
        self._journal = connect_readonly(self.platform.data / "journal.db")
        self._stack.callback(self._journal.close)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _token(self, device: str) -> str:
        return await self._registry.create_token(device, TOKEN_TTL_S, "benchmark")

    async def alarm(self, detector: str) -> float:
        """The detector decides to alarm and publishes it; ms UTC just before."""
        now_ms = time.time_ns() / 1e6
        await self.town.devices[detector].report(ALARM, kind="event")
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

    def beat(self, part: str) -> dict[str, Any]:
        """What a process last said of itself."""
        return dict(beats(self.platform.data, SystemClock()).get(part, {}))

    def stored(self) -> int:
        """Messages that the bulk lane has on disk."""
        return int(self.beat("telemetry").get("stored", 0))

    def one(self, query: str, *values: Any) -> Any:
        """The first value of a query to the journal."""
        return self._journal.execute(query, values).fetchone()[0]

    def story(self, incident: str) -> Timeline | None:
        """All moments of an incident."""
        return timeline(self._journal, incident)

    def premises_of(self) -> dict[str, str]:
        """Incident → its premises."""
        return {row[0]: row[1] for row in self._journal.execute("SELECT id, premises FROM incident")}

    def clients(self, folder: Path) -> list[Client]:
        """The crowd's certificates; issuing ten thousand takes some seconds."""
        return self.crowd.clients((self.platform.fire_port, self.platform.field_port), self.platform.data, folder)

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


def _joined(one: dict[str, list[dict[str, Any]]], other: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {kind: one[kind] + other[kind] for kind in one}
