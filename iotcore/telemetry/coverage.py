"""Coverage as series: how much of the city is watched now, a point a minute, and for the key sites at once when it changes.

    scope=all        key sites, those watched, those covered, and percent covered: the goal of the city's plan is 100
    scope=area       the same for each area with everything below it, where it has a key site
    scope=premises   for each key site: covered (1 or 0), detectors, live, counting
    scope=devices    for each domain and state of the registry: devices, online, offline, silent, weak (weakly supervised)

What counts is judged in one place, `registry.coverage`; `signs_of_life` reads the two files, `watch_coverage` sets the pace.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.journal.database import Place, connect_readonly, is_there
from iotcore.registry.coverage import EVERYWHERE, TESTED_WITHIN_DAYS, Coverage, Figure, Signs, assess
from iotcore.registry.directory import Directory
from iotcore.telemetry.point import PlatformSeries, Point
from iotcore.wire.topics import FIRE_DOMAIN

MINUTE_MS = 60_000
LOOK_S = 5.0
NS_PER_MS = 1_000_000
OFFLINE = "SELECT device FROM fault WHERE reason = 'offline' AND cleared_ms IS NULL"
SILENT = "SELECT device FROM fault WHERE reason IN ('silent', 'gateway_silent') AND cleared_ms IS NULL"
log = logging.getLogger(__name__)


def key_site_points(coverage: Coverage, at_ms: int, cell: str = "") -> list[Point]:
    """The whole figure, one for each area and one for each key site; none when there is no key site."""
    at_ns = at_ms * NS_PER_MS
    points = []
    for area, figure in coverage.figures.items():
        if figure.key_sites and area == EVERYWHERE:
            points.append(Point("coverage", ("all",), {"scope": "all", "cell": cell}, _fields(figure), at_ns))
        elif figure.key_sites:
            tags = {"scope": "area", "area": area, "cell": cell}
            points.append(Point("coverage", ("area", area), tags, _fields(figure), at_ns))
    for name, site in coverage.sites.items():
        told = {
            "covered": float(site.covered),
            "detectors": float(site.detectors),
            "live": float(site.live),
            "counting": float(site.counting),
        }
        points.append(Point("coverage", ("premises", name), {"scope": "premises", "premises": name, "cell": cell}, told, at_ns))
    return points


def _fields(figure: Figure) -> dict[str, float]:
    return {
        "key_sites": float(figure.key_sites),
        "watched": float(figure.watched),
        "covered": float(figure.covered),
        "percent": figure.percent or 0.0,
    }


def device_points(directory: Directory, signs: Signs, now_ms: float, at_ms: int, cell: str = "") -> Iterator[Point]:
    """How many devices there are, and how many of them are there."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    weak: Counter[tuple[str, str]] = Counter()
    for binding in directory.devices.values():
        counts.setdefault((binding.domain, binding.state), Counter())[signs.of(binding, now_ms)] += 1
        weak[binding.domain, binding.state] += binding.domain == FIRE_DOMAIN and binding.spec.weakly_supervised
    for (domain, state), found in sorted(counts.items()):
        fields = {"devices": float(found.total()), **{name: float(found[name]) for name in ("online", "offline", "silent")}}
        fields["weak"] = float(weak[domain, state])
        tags = {"scope": "devices", "domain": domain, "state": state, "cell": cell}
        yield Point("coverage", ("devices", domain, state), tags, fields, at_ms * NS_PER_MS)


@dataclass(frozen=True, slots=True)
class Files:
    """The files that know who is there."""

    telemetry: Path
    journal: Place


async def watch_coverage(
    directory: Callable[[], Directory],
    files: Files,
    series: PlatformSeries,
    clock: Clock,
    *,
    tested_within_days: float = TESTED_WITHIN_DAYS,
    look_s: float = LOOK_S,
) -> None:
    """Look every few seconds until cancelled; a look that fails is made up for by the next."""
    minute, told = -1, list[Point]()
    while True:
        now_ms = clock.wall_ms()
        this_minute = int(now_ms) // MINUTE_MS
        try:
            full = this_minute != minute
            at_ms = this_minute * MINUTE_MS if full else int(now_ms)
            looked = _Look(directory(), files, now_ms, tested_within_days)
            sites, devices = await asyncio.to_thread(_count, looked, at_ms, series.cell)
            if full:
                await series.commit([*sites, *devices])
            elif [point.fields for point in sites] != [point.fields for point in told]:
                await series.commit(sites)
            minute, told = this_minute, sites
        except (StoreError, sqlite3.Error) as error:
            log.warning("the coverage could not be written: %s", error)
        await asyncio.sleep(look_s)


@dataclass(frozen=True, slots=True)
class _Look:
    directory: Directory
    files: Files
    now_ms: float
    tested_within_days: float


def _count(look: _Look, at_ms: int, cell: str) -> tuple[list[Point], list[Point]]:
    """Both sorts of points; on a thread, for a hundred thousand devices take a while."""
    signs = signs_of_life(look.files)
    coverage = assess(look.directory, signs, look.now_ms, look.tested_within_days)
    return key_site_points(coverage, at_ms, cell), list(device_points(look.directory, signs, look.now_ms, at_ms, cell))


def signs_of_life(files: Files) -> Signs:
    """What telemetry.db and the fire journal know; a journal that is not there (no fire lane here) knows nothing."""
    with closing(connect_readonly(files.telemetry)) as connection:
        rows = connection.execute("SELECT device, last_seen_ms FROM presence WHERE last_seen_ms IS NOT NULL")
        seen = {device: float(at_ms) for device, at_ms in rows}
        offline = {device for (device,) in connection.execute(OFFLINE)}
    silent: set[str] = set()
    if is_there(files.journal):
        with closing(connect_readonly(files.journal)) as connection:
            offline |= {device for (device,) in connection.execute(OFFLINE)}
            silent = {device for (device,) in connection.execute(SILENT)}
    return Signs(seen, frozenset(offline), frozenset(silent))
