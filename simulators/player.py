"""Plays a timeline: its devices live as its town, their values follow it, and their faults begin and end in their time.

async with Player(timeline, folder) as player:      # Modbus units listen from here on
    await player.town.enrol(…); await player.town.connect(…)      # MQTT devices, where there is a platform
    await player.play()
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from iotcore.reading import Scalar
from simulators.modbus_wrong import Fault as ModbusFault
from simulators.timeline import Scheduled, Timeline
from simulators.town import Town

GATEWAY = "modbus-1"  # whom Modbus units belong to, unless a caller says otherwise


@dataclass(slots=True)
class Story:
    """A timeline on the wall clock: still at its start until `started_s`, then `speed` times as fast as life."""

    timeline: Timeline
    speed: float = 1.0
    started_s: float | None = None

    def values(self, device: str, now_s: float) -> Mapping[str, Scalar | None]:
        """As the town asks for them."""
        return self.timeline.values(device, self.at_s(now_s))

    def at_s(self, now_s: float) -> float:
        """Where the play is, s since its start."""
        return 0.0 if self.started_s is None else max(0.0, now_s - self.started_s) * self.speed


@dataclass(frozen=True, slots=True)
class Turn:
    """A fault begins or ends."""

    at_s: float
    begins: bool
    scheduled: Scheduled

    def __str__(self) -> str:
        return f"{self.scheduled.device}: {self.scheduled.name} {'begins' if self.begins else 'ends'}"


class Player:
    """An async context manager. `speed` squeezes the timeline's times and the reports' intervals, not times within a fault."""

    def __init__(
        self,
        timeline: Timeline,
        folder: Path,
        *,
        speed: float = 1.0,
        gateway: str = GATEWAY,
        host: str = "127.0.0.1",
        first_port: int = 0,
        told: Callable[[Turn], None] = lambda _turn: None,
    ) -> None:
        if not speed > 0.0:
            raise ValueError(f"speed must be greater than 0, got {speed}")
        self.story = Story(timeline, speed)
        self.timeline = timeline
        self._gateway = gateway
        self._told = told
        specs = {spec.model: spec for spec in timeline.specs.values()}
        seats = {name: (entry.bus, entry.unit) for name, entry in timeline.document.devices.items()}
        document = timeline.city({}, gateway)
        self.town = Town(document, specs, self.story, folder, seats=seats, host=host, first_port=first_port, hurry=speed)

    async def __aenter__(self) -> Self:
        await self.town.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.town.__aexit__(kind, error, trace)

    @property
    def connections(self) -> dict[str, str]:
        """Where each Modbus unit listens."""
        return {device: self.town.connection(device) for device in self.town.stations}

    def city(self) -> dict[str, list[dict[str, object]]]:
        """The document for the registry, once the units listen."""
        return self.timeline.city(self.connections, self._gateway)

    async def play(self) -> None:
        """Until the timeline's end (`lasts`), or until cancelled."""
        self.story.started_s = time.time()
        lasts_s = self.timeline.lasts_s
        with contextlib.suppress(TimeoutError):  # what its tasks raise comes in a group
            async with asyncio.timeout(None if lasts_s is None else lasts_s / self.story.speed), asyncio.TaskGroup() as group:
                group.create_task(self.town.live())
                group.create_task(self._faults())

    async def _faults(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for turn in turns(self.timeline):
            await asyncio.sleep(max(0.0, began_s + turn.at_s / self.story.speed - loop.time()))
            self._turn(turn)
            self._told(turn)

    def _turn(self, turn: Turn) -> None:
        device, fault = turn.scheduled.device, turn.scheduled.fault
        if isinstance(fault, ModbusFault):
            unit = self.town.stations[device]
            if turn.begins:
                unit.fault = fault
            elif unit.fault is fault:  # else another one has taken its place
                unit.fault = None
        elif client := self.town.devices.get(device) or self.town.vendors.get(device):
            client.begin(fault) if turn.begins else client.end(fault)


def turns(timeline: Timeline) -> list[Turn]:
    """Every begin and end of a fault in its order; at the same moment ends come first."""
    found = [Turn(one.at_s, begins=True, scheduled=one) for one in timeline.faults]
    found += [Turn(one.until_s, begins=False, scheduled=one) for one in timeline.faults if one.until_s is not None]
    return sorted(found, key=lambda turn: (turn.at_s, turn.begins))
