"""The Modbus poller on a directory of a test's own, and a book of what it put."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from drivers.modbus.poller import Poller
from iotcore.clock import SystemClock
from iotcore.errors import StoreFull
from iotcore.reading import Scalar
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec, ModbusLimits

CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Kept:
    domain: str
    values: Mapping[str, Scalar | None]
    q: Mapping[str, str]
    ts: int
    at_s: float
    kind: str
    fw: str
    test: bool


@dataclass(slots=True)
class Book:
    """A `put` that writes down what it was given."""

    by_device: dict[str, list[Kept]] = field(default_factory=dict)
    full: bool = False

    async def put(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        *,
        kind: str = "reading",
        fw: str = "",
        test: bool = False,
    ) -> None:
        if self.full:
            raise StoreFull("disk full")
        kept = Kept(domain, values, q or {}, ts or 0, time.monotonic(), kind, fw, test)
        self.by_device.setdefault(device, []).append(kept)

    def of(self, device: str) -> list[Kept]:
        return self.by_device.get(device, [])


def binding(device: str, spec: DeviceSpec, connection: str, state: str = "active") -> Binding:
    domain = {"air_station": "air", "water_station": "water", "fire_panel": "fire"}[spec.device_class]
    return Binding(device, device, spec, domain, "modbus-1", state, connection=connection)


def directory_of(*bindings: Binding) -> Directory:
    return Directory({binding.device: binding for binding in bindings})


def quick(spec: DeviceSpec, timeout_s: float = 0.2) -> DeviceSpec:
    return replace(spec, modbus=replace(spec.modbus or ModbusLimits(), timeout_s=timeout_s))


@contextlib.asynccontextmanager
async def polling(directory: Directory, book: Book, interval_s: float | None = 0.1) -> AsyncIterator[Poller]:
    poller = Poller(lambda: directory, book.put, CLOCK, interval_s=interval_s)
    task = asyncio.create_task(poller.run())
    try:
        yield poller
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None


def all_bad(kept: Kept, spec: DeviceSpec, why: str) -> bool:
    return dict(kept.values) == dict.fromkeys(spec.points) and dict(kept.q) == dict.fromkeys(spec.points, f"bad:{why}")
