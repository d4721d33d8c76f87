"""Coverage: how much of the city is watched now, a point a minute, and for the key sites at once when it changes.

    scope=all        key sites, those with at least one live fire detector, and percent: the goal of the city's plan is 100
    scope=premises   for each key site: covered (1 or 0), detectors, live
    scope=devices    for each domain and state of the registry: devices, online, offline, silent

Live: accepted by the registry, not told offline (by its own will or its gateway's), and heard within three of its intervals, at
least five minutes. Counting is pure; `signs_of_life` reads the two files, `watch_coverage` sets the pace.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.database import connect_readonly
from iotcore.registry.directory import Binding, Directory
from iotcore.telemetry.point import PlatformSeries, Point
from iotcore.wire.topics import FIRE_DOMAIN

MINUTE_MS = 60_000
LOOK_S = 5.0
LIVE_INTERVALS = 3  # two readings may be lost on the way before a device counts as silent
LIVE_LEAST_S = 300.0
NS_PER_MS = 1_000_000
OFFLINE = "SELECT device FROM fault WHERE reason = 'offline' AND cleared_ms IS NULL"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of life: when each device was last heard, ms UTC, and who is told offline."""

    seen_ms: Mapping[str, float] = field(default_factory=dict)
    offline: frozenset[str] = frozenset()

    def of(self, binding: Binding, now_ms: float) -> str:
        """online, offline or silent."""
        if binding.device in self.offline:
            return "offline"
        within_ms = max(LIVE_LEAST_S, LIVE_INTERVALS * binding.spec.interval_s) * 1000.0
        return "online" if now_ms - self.seen_ms.get(binding.device, 0.0) <= within_ms else "silent"


def key_site_points(directory: Directory, signs: Signs, now_ms: float, at_ms: int, cell: str = "") -> list[Point]:
    """The city's figure and one for each key site; none when there is no key site."""
    sites = {name: [0, 0] for name, premises in directory.premises.items() if premises.key_site}
    for binding in directory.devices.values():
        if binding.domain == FIRE_DOMAIN and binding.premises in sites and binding.accepted:
            sites[binding.premises][0] += 1
            sites[binding.premises][1] += signs.of(binding, now_ms) == "online"
    if not sites:
        return []
    covered = sum(live > 0 for _, live in sites.values())
    fields = {"key_sites": float(len(sites)), "covered": float(covered), "percent": 100.0 * covered / len(sites)}
    at_ns = at_ms * NS_PER_MS
    points = [Point("coverage", ("all",), {"scope": "all", "cell": cell}, fields, at_ns)]
    for name, (detectors, live) in sites.items():
        told = {"covered": float(live > 0), "detectors": float(detectors), "live": float(live)}
        points.append(Point("coverage", ("premises", name), {"scope": "premises", "premises": name, "cell": cell}, told, at_ns))
    return points


def device_points(directory: Directory, signs: Signs, now_ms: float, at_ms: int, cell: str = "") -> Iterator[Point]:
    """How many devices there are, and how many of them are there."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for binding in directory.devices.values():
        counts.setdefault((binding.domain, binding.state), Counter())[signs.of(binding, now_ms)] += 1
    for (domain, state), found in sorted(counts.items()):
        fields = {"devices": float(found.total()), **{name: float(found[name]) for name in ("online", "offline", "silent")}}
        tags = {"scope": "devices", "domain": domain, "state": state, "cell": cell}
        yield Point("coverage", ("devices", domain, state), tags, fields, at_ms * NS_PER_MS)


@dataclass(frozen=True, slots=True)
class Files:
    """The files that know who is there."""

    telemetry: Path
    journal: Path


async def watch_coverage(
    directory: Callable[[], Directory], files: Files, series: PlatformSeries, clock: Clock, *, look_s: float = LOOK_S
) -> None:
    """Look every few seconds until cancelled; a look that fails is made up for by the next."""
    minute, told = -1, list[Point]()
    while True:
        now_ms = clock.wall_ms()
        this_minute = int(now_ms) // MINUTE_MS
        try:
            full = this_minute != minute
            at_ms = this_minute * MINUTE_MS if full else int(now_ms)
            sites, devices = await asyncio.to_thread(_count, directory(), files, now_ms, at_ms, series.cell)
            if full:
                await series.commit([*sites, *devices])
            elif [point.fields for point in sites] != [point.fields for point in told]:
                await series.commit(sites)
            minute, told = this_minute, sites
        except (StoreError, sqlite3.Error) as error:
            log.warning("the coverage could not be written: %s", error)
        await asyncio.sleep(look_s)


def _count(directory: Directory, files: Files, now_ms: float, at_ms: int, cell: str) -> tuple[list[Point], list[Point]]:
    """Both sorts of points; on a thread, for a hundred thousand devices take a while."""
    signs = signs_of_life(files)
    return (
        key_site_points(directory, signs, now_ms, at_ms, cell),
        list(device_points(directory, signs, now_ms, at_ms, cell)),
    )


def signs_of_life(files: Files) -> Signs:
    """What telemetry.db and the fire journal know; a journal that is not there (no fire lane here) knows nothing."""
    with closing(connect_readonly(files.telemetry)) as connection:
        rows = connection.execute("SELECT device, last_seen_ms FROM presence WHERE last_seen_ms IS NOT NULL")
        seen = {device: float(at_ms) for device, at_ms in rows}
        offline = {device for (device,) in connection.execute(OFFLINE)}
    if files.journal.exists():
        with closing(connect_readonly(files.journal)) as connection:
            offline |= {device for (device,) in connection.execute(OFFLINE)}
    return Signs(seen, frozenset(offline))
