"""Ten thousand points at once, and ten thousand devices that come back at once: what becomes of the fires.

storm        every point of every premises alarms at one moment; the first frame of each premises, exactly one incident for each,
             every point in its incident, and a console that still answers
reconnects   every certificate of the crowd loses its network and connects again (TLS, will, subscription, birth) while fires burn
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from benchmarks.fire_load import Fleets
from benchmarks.fire_phase import STAGES, Phase, quantiles
from benchmarks.fire_site import Site

LEAD_MS = 1_000.0  # between the command and the moment at which all speak
FIRST_LIMIT_S = 60.0
POINTS_LIMIT_S = 300.0
UPDATES_LIMIT_S = 600.0
CONSOLE_PAUSE_S = 0.05
CONSOLE_LIMIT_S = 30.0
QUIET_LOOKS, QUIET_LIMIT_S = 10, 120.0

Burning = Callable[[asyncio.Task[Any], Phase], Awaitable[Phase]]


@dataclass(slots=True)
class Console:
    """Somebody who looks at the page again and again, signed in."""

    waits_ms: list[float] = field(default_factory=list)
    failed: int = 0

    async def look(self, site: Site) -> None:
        """Until cancelled."""
        address = f"http://127.0.0.1:{site.platform.web_port}/"
        headers = {"Authorization": f"Bearer {await asyncio.to_thread(site.platform.api_token)}", "Accept": "text/html"}
        limit = aiohttp.ClientTimeout(total=CONSOLE_LIMIT_S)
        async with aiohttp.ClientSession(headers=headers, timeout=limit) as browser:
            while True:
                began_s = time.perf_counter()
                try:
                    async with browser.get(address) as response:
                        await response.read()
                        self.failed += response.status != HTTPStatus.OK
                except (aiohttp.ClientError, TimeoutError):
                    self.failed += 1
                self.waits_ms.append((time.perf_counter() - began_s) * 1e3)
                await asyncio.sleep(CONSOLE_PAUSE_S)

    def figures(self) -> dict[str, Any]:
        """ms, and how many looks found no page."""
        return {**quantiles(self.waits_ms), "looks": len(self.waits_ms), "failed": self.failed}


async def looked(site: Site) -> dict[str, Any]:
    """The console while nothing happens."""
    console = Console()
    looking = asyncio.create_task(console.look(site))
    await site.platform.until(lambda: len(console.waits_ms) >= QUIET_LOOKS, QUIET_LIMIT_S, "the console answers")
    looking.cancel()
    await asyncio.wait({looking})
    return console.figures()


async def reconnects(crowd: Fleets, phase: Phase, burning: Burning) -> Phase:
    """Everybody is cut off and comes back; `burning` burns fires into `phase` until they are back."""
    await crowd.do("drop")
    coming = asyncio.create_task(crowd.do("connect"))
    await burning(coming, phase)
    answers = await coming
    each = [wait for answer in answers for wait in answer["each_s"]]
    phase.more = {
        "clients": len(each),
        "all_connected_s": round(max(answer["seconds"] for answer in answers), 2),
        "each_s": quantiles(each),
        "tried_again": sum(answer["again"] for answer in answers),
    }
    return phase


async def storm(site: Site, crowd: Fleets) -> dict[str, Any]:
    """The figures; the incidents stay open.

    Raises:
        RuntimeError: a premises without exactly one incident, or a point that is in none.
    """
    premises, points = site.crowd.premises, site.crowd.premises * site.crowd.points
    await asyncio.to_thread(site.platform.api_token)
    quiet = await looked(site)
    before = site.beat("fire")
    cpu, began_s = site.cpu_s(), time.perf_counter()
    console = Console()
    looking = asyncio.create_task(console.look(site))
    try:
        answers = await crowd.do("alarm", str(time.time_ns() / 1e6 + LEAD_MS))
        published = {home: at_ms for answer in answers for home, at_ms in answer["first_ms"].items()}
        await site.platform.until(lambda: _here(site, published), FIRST_LIMIT_S, f"a frame of each of {premises} premises")
        held = "SELECT count(*) FROM incident_point JOIN incident ON incident.id = incident WHERE premises LIKE 's-%'"
        await site.platform.until(lambda: site.one(held) >= points, POINTS_LIMIT_S, f"{points} points are in their incidents")
        all_ms = time.time_ns() / 1e6
        spent = {name: at_s - cpu.get(name, 0.0) for name, at_s in site.cpu_s().items()}
        took_s = time.perf_counter() - began_s
        open_now = "SELECT count(*) FROM outbox WHERE acknowledged_ms IS NULL"
        await site.platform.until(lambda: site.one(open_now) == 0, UPDATES_LIMIT_S, "every update is acknowledged")
    finally:
        looking.cancel()
        await asyncio.wait({looking})
    incidents = site.one("SELECT count(*) FROM incident WHERE premises LIKE 's-%'")
    found = site.one(held)
    if (incidents, found) != (premises, points):
        raise RuntimeError(f"{incidents} incidents of {premises} premises, {found} points of {points}")
    firsts, start_ms = _firsts(site, published), min(published.values())
    return {
        "premises": premises,
        "points": points,
        "incidents": incidents,
        "first_frame_after_own_publish_s": quantiles([(fire["frame"] - fire["published"]) / 1e3 for fire in firsts.values()]),
        "first_frame_after_storm_began_s": quantiles([(fire["frame"] - start_ms) / 1e3 for fire in firsts.values()]),
        "stages_ms": _stages(firsts.values()),
        "all_published_s": round((max(answer["published_ms"] for answer in answers) - start_ms) / 1e3, 2),
        "all_points_durable_s": round((all_ms - start_ms) / 1e3, 2),
        "all_updates_acknowledged_s": round(time.time_ns() / 1e9 - start_ms / 1e3, 2),
        "frames": len(site.arc.received),
        "by_emergency_log": site.beat("fire")["emergency"]["fires"] - before["emergency"]["fires"],
        "console_quiet_ms": quiet,
        "console_ms": console.figures(),
        "cpu_cores": {name: round(at_s / took_s, 3) for name, at_s in spent.items()},
    }


def _stages(firsts: Iterable[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Between the moments; of a fire that went out without the journal the moment of sending may be missing."""
    whole = [fire for fire in firsts if len(fire) == len(STAGES)]
    pairs = itertools.pairwise(STAGES) if whole else ()
    return {f"{a}_to_{b}": quantiles([fire[b] - fire[a] for fire in whole]) for a, b in pairs}


def _here(site: Site, homes: Collection[str]) -> bool:
    """Whether the receiver has a frame of each of these premises."""
    names = site.premises_of()
    return {names.get(incident, "") for incident in site.frames()} >= set(homes)


def _firsts(site: Site, published: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The moments of each premises' first frame, ms UTC; `published` is when its first point spoke."""
    found = {}
    for incident, times in site.frames().items():
        story = site.story(incident)
        if story is not None and story.premises in published:
            known = dict(story.moments())
            told = {stage: known[stage] for stage in STAGES[1:-1] if stage in known}
            found[story.premises] = {"published": published[story.premises], **told, "frame": min(times)}
    return found
