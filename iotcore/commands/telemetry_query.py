"""iotcore telemetry query and latest: what a device has measured, as a table, JSON, CSV or a chart in the terminal.

registry: is there such a device, what is the point's unit ─┐
                                                            ├─► Answer ─► table | json | csv | chart (`telemetry_shown`)
store (`open_query`): samples, or intervals with --every  ──┘
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import closing
from dataclasses import dataclass

from iotcore.app import common
from iotcore.clock import Clock
from iotcore.commands import telemetry_shown
from iotcore.commands.near import near
from iotcore.commands.telemetry_shown import Answer
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.registry.directory import Binding
from iotcore.settings import Settings
from iotcore.specs.model import Point
from iotcore.telemetry.queries import Latest, TelemetryReader
from iotcore.telemetry.query import MAX_SAMPLES, Query, open_query
from iotcore.telemetry.stores import TELEMETRY_DB

UNKNOWN_INTERVAL_S = 60.0  # between readings of a device whose model nobody knows any more
NO_POINT = Point()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to show: a point within [start, end), ms UTC. `every_ms` None: the values themselves, the newest `limit`."""

    device: str
    point: str
    span_ms: tuple[float, float]
    every_ms: int | None
    limit: int


async def query(settings: Settings, clock: Clock, wanted: Wanted, output: str) -> int:
    """Ask and show.

    Raises:
        StartError: there is no such device or point.
        QueryError: the store does not answer.
    """
    if not 1 <= wanted.limit <= MAX_SAMPLES:
        raise StartError(f"--limit {wanted.limit} is not from 1 to {MAX_SAMPLES}", "Ask for intervals with --every, or export.")
    known = await _devices(settings, clock)
    async with open_query(settings, clock) as store:
        binding = known.get(wanted.device)
        point = await _point(store, wanted, binding, known)
        answer = await _ask(store, wanted, point, binding, chart=output == "chart")
    sys.stdout.write(telemetry_shown.SHOW[output](answer))
    return 0


async def latest(settings: Settings, clock: Clock, device: str | None, output: str) -> int:
    """The last value of every point, of a device or of all; as the page shows them, or else as the store has them.

    Raises:
        StartError: there is no such device.
        QueryError: the store does not answer.
    """
    known = await _devices(settings, clock)
    rows = await asyncio.to_thread(_panel, settings, device)
    if not rows and device is not None:
        rows = await _newest(settings, clock, device)
    if not rows and device is not None and device not in known:
        raise StartError(f"There is no device {device!r}", near(device, known))
    shown = [telemetry_shown.latest_row(row, _spec_point(known.get(row.device), row.point)) for row in rows]
    if output == "json":
        sys.stdout.write(f"{json.dumps(shown, ensure_ascii=False, indent=2)}\n")
    else:
        sys.stdout.write(telemetry_shown.latest_table(shown))
    return 0


async def _devices(settings: Settings, clock: Clock) -> dict[str, Binding]:
    home.check_folder(settings.folder)
    async with common.opened(settings, clock) as (_, follower):
        return dict(follower.directory.devices)


async def _point(store: Query, wanted: Wanted, binding: Binding | None, known: dict[str, Binding]) -> Point:
    """The point as its spec has it; one that only the store knows is a number without a unit."""
    if binding is not None and wanted.point in binding.spec.points:
        return binding.spec.points[wanted.point]
    stored = await store.series(wanted.device)
    if wanted.point in stored:
        return NO_POINT
    if binding is None and not stored:
        raise StartError(f"There is no device {wanted.device!r}", near(wanted.device, known))
    points = {*stored, *(binding.spec.points if binding else ())}
    raise StartError(f"{wanted.device} has no point {wanted.point!r}", near(wanted.point, points))


async def _ask(store: Query, wanted: Wanted, point: Point, binding: Binding | None, *, chart: bool) -> Answer:
    device, name, (start_ms, end_ms) = wanted.device, wanted.point, wanted.span_ms
    usual_s = binding.spec.interval_s if binding else UNKNOWN_INTERVAL_S
    answer = Answer(device, name, point, wanted.span_ms, usual_s, wanted.every_ms)
    if answer.every_ms is None:
        limit = MAX_SAMPLES if chart else wanted.limit
        samples = await store.samples(device, name, start_ms, end_ms, limit)
        if not chart or len(samples) < limit:
            newest = None if samples else await store.latest(device, name)
            return answer.replace(samples=samples, cut=len(samples) == limit, newest=newest)
        answer = answer.replace(every_ms=telemetry_shown.chart_step_ms(wanted.span_ms))
    assert answer.every_ms is not None
    intervals = await store.intervals([device], name, start_ms, end_ms, answer.every_ms)
    newest = None if intervals else await store.latest(device, name)
    return answer.replace(intervals=intervals, newest=newest)


def _panel(settings: Settings, device: str | None) -> list[Latest]:
    """What the telemetry process keeps for the page; nothing while it has never run."""
    path = settings.folder / TELEMETRY_DB
    if not path.exists():
        return []
    with closing(TelemetryReader(path)) as reader:
        return sorted(reader.latest(device))


async def _newest(settings: Settings, clock: Clock, device: str) -> list[Latest]:
    async with open_query(settings, clock) as store:
        found = [(point, await store.latest(device, point)) for point in await store.series(device)]
    return [Latest(device, point, one.value, one.quality, "", one.at_ms, one.at_ms) for point, one in found if one is not None]


def _spec_point(binding: Binding | None, point: str) -> Point:
    return binding.spec.points.get(point, NO_POINT) if binding else NO_POINT
