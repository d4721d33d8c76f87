"""InfluxDB down for hours while the city goes on: what becomes of fires, how fast the backlog is written, what is missing.

    load (one gateway, readings of four values) ──► field broker ──► telemetry ──► spool ──► influxd: killed, later started again
    fires ──► fire broker ──► fire ──► DC-09 receiver                        (the whole platform as `iotcore up` runs it)

before   InfluxDB runs, the live rate comes in; fires are timed
outage   influxd is killed with -9; the load comes HURRY times as fast until as many readings wait as the scaled outage makes
back     influxd runs again, the live rate goes on: how soon its newest reading shows, how long until the backlog is written

Six hours at the live rate are scaled by SCALE: fewer readings of the same shape, each committed by the real lane. What they cost
the drain does not depend on how many wait: its rate over the first and the second half shows it. The ratio is the backlog's rate,
pauses before InfluxDB was asked again included, over the live rate that went on meanwhile. All of it shares this machine.

`python -m benchmarks.outage` takes about five minutes; its last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fire import burn
from benchmarks.fire_phase import Phase
from benchmarks.fire_site import TOKEN_TTL_S, Site
from benchmarks.outage_load import child
from iotcore.clock import SystemClock
from iotcore.registry.store import open_registry
from iotcore.settings import load
from iotcore.specs.load import load_folder, shipped_folder
from simulators.city import GATEWAY_MODEL
from simulators.enrol import enrol
from tests.support.influx import Influxd

HOURS = 6.0
WARM_FIRES = 10
FIRES_PER_S = 5.0
LOAD_GATEWAY, CHILDREN = "load-1", 100
COUNT, NEWEST = "SELECT count(number) FROM air_station", "SELECT last(number) FROM air_station"
METER = """
model: outage-meter
vendor: iotcore
title: Meter of the outage benchmark
device_class: air_station
protocol: canonical
source: "benchmarks/outage.py"
verified: No product; made for a benchmark.
interval_s: 0.01
points:
  number: {title: {vi: Số thứ tự, en: Number}}
  temperature: {unit: °C, title: {vi: Nhiệt độ, en: Temperature}}
  humidity: {unit: "%", title: {vi: Độ ẩm, en: Humidity}}
  pressure: {unit: hPa, title: {vi: Áp suất, en: Pressure}}
"""
POLL_S = 0.1
LIMIT_S = 600.0
SETTLED_LAG_S = 5.0  # issue's own limit of the drain lag: what is live shows within this


@dataclass(slots=True)
class Drained:
    """What was seen after InfluxDB came back; seconds since it answered."""

    backlog: int
    live_visible_s: float = 0.0
    half_s: float = 0.0
    all_s: float = 0.0
    worst_lag_s: float = 0.0  # of the newest visible reading, once live was visible
    curve: list[tuple[float, int]] = field(default_factory=list)

    def figures(self, live_rate: float) -> dict[str, Any]:
        """Rates in readings a second."""
        rate = self.backlog / self.all_s
        second = (self.backlog - self.backlog // 2) / max(1e-9, self.all_s - self.half_s)
        return {
            "backlog": self.backlog,
            "drain_s": round(self.all_s, 2),
            "drain_per_s": round(rate),
            "first_half_per_s": round(self.backlog // 2 / self.half_s),
            "second_half_per_s": round(second),
            "live_per_s": live_rate,
            "ratio": round(rate / live_rate, 2),
            "live_visible_s": round(self.live_visible_s, 2),
            "worst_live_lag_s": round(self.worst_lag_s, 2),
        }


class Load:
    """The other process; `rate` changes how fast it publishes and tells how much it has."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.made = 0

    async def rate(self, per_s: float) -> int:
        """From now on so many readings a second; how many the broker had acknowledged until now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{per_s}\n".encode())
        self.made = int(await self._process.stdout.readline())
        return self.made


@asynccontextmanager
async def loading(site: Site) -> AsyncIterator[Load]:
    """A gateway with its children, registered and connected, silent until it is given a rate."""
    settings = load(site.platform.config, {})
    children = [{"id": child(n), "title": child(n), "model": "outage-meter", "parent": LOAD_GATEWAY} for n in range(CHILDREN)]
    document = {"devices": [{"id": LOAD_GATEWAY, "title": "Load", "model": GATEWAY_MODEL}, *children]}
    async with await open_registry(settings.registry_url, SystemClock()) as registry:
        await registry.import_city(document, load_folder(Path(settings.specs)), "benchmark")
        token = await registry.create_token(LOAD_GATEWAY, TOKEN_TTL_S, "benchmark")
    est, root = f"https://127.0.0.1:{site.platform.est_port}", settings.folder / "certs" / "service-root.pem"
    identity = await enrol(est, token, LOAD_GATEWAY, root, site.platform.folder / "devices")
    await asyncio.sleep(1.5)  # bindings travel to the lanes within a second
    files = map(str, (identity.ca_file, identity.cert_file, identity.key_file))
    command = [sys.executable, "-m", "benchmarks.outage_load", str(site.platform.field_port), LOAD_GATEWAY, str(CHILDREN), *files]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Load(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def visible(influx: Influxd, until_ms: float | None = None) -> int:
    """Readings of the load in InfluxDB, of before a moment or all."""
    where = f" WHERE time < {int(until_ms * 1e6)}" if until_ms is not None else ""
    found = influx.query(f"{COUNT}{where}") if influx.databases() else []
    return int(found[0]["values"][0][1]) if found else 0


def newest_ms(influx: Influxd) -> float:
    """When the newest reading of the load that shows was made, ms UTC."""
    found = influx.query(NEWEST)
    return float(found[0]["values"][0][0]) / 1e6 if found else 0.0


async def drain(influx: Influxd, backlog: int, before: int, back_ms: float) -> Drained:
    """Watch InfluxDB from the moment it answers until it has the whole backlog."""
    seen, began_s = Drained(backlog), time.perf_counter()
    while time.perf_counter() - began_s < LIMIT_S:
        newest, now_ms = await asyncio.to_thread(newest_ms, influx), time.time_ns() / 1e6
        written = await asyncio.to_thread(visible, influx, back_ms) - before
        now_s = time.perf_counter() - began_s
        seen.curve.append((round(now_s, 2), written))
        if newest >= back_ms and not seen.live_visible_s:
            seen.live_visible_s = now_s
        if seen.live_visible_s:
            seen.worst_lag_s = max(seen.worst_lag_s, (now_ms - newest) / 1e3)
        if written * 2 >= backlog and not seen.half_s:
            seen.half_s = now_s
        if written >= backlog:
            seen.all_s = now_s
            return seen
        await asyncio.sleep(POLL_S)
    raise RuntimeError(f"the backlog was not written in {LIMIT_S:.0f} s: {seen.curve[-5:]}")


async def missing(influx: Influxd, made: int) -> int:
    """How many of the load's readings InfluxDB still lacks when it takes nothing more."""
    held, deadline_s = -1, time.perf_counter()
    while held < made and time.perf_counter() < deadline_s + SETTLED_LAG_S:
        now = await asyncio.to_thread(visible, influx)
        if now != held:
            held, deadline_s = now, time.perf_counter()
        await asyncio.sleep(POLL_S)
    return made - held


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All phases; the figures."""
    backlog = int(options.live * HOURS * 3600 / options.scale)
    async with AsyncExitStack() as stack:
        influx = stack.enter_context(Influxd(folder))
        site = Site(
            folder,
            options.premises,
            store={"kind": "influx1", "url": influx.url},
            specs=specs(folder),
        )
        await stack.enter_async_context(site)
        source = await stack.enter_async_context(loading(site))
        await source.rate(options.live)
        await burn(site, WARM_FIRES, FIRES_PER_S)
        phases = {"before": await burn(site, options.fires, FIRES_PER_S)}
        await asyncio.to_thread(influx.kill)
        await source.rate(options.live * options.hurry)
        waited_s = backlog / (options.live * options.hurry)
        phases["outage"], _ = await asyncio.gather(burn(site, options.fires, FIRES_PER_S), asyncio.sleep(waited_s))
        made = await source.rate(options.live)
        back_ms = time.time_ns() / 1e6
        await asyncio.to_thread(influx.start)
        before = await asyncio.to_thread(visible, influx, back_ms)
        watching = asyncio.create_task(drain(influx, made - before, before, back_ms))
        phases["back"] = await burn(site, options.fires, FIRES_PER_S)
        seen = await watching
        total = await source.rate(0.0)
        gaps = await missing(influx, total)
    return {
        "cpus": os.cpu_count(),
        "scale": options.scale,
        "hurry": options.hurry,
        **seen.figures(options.live),
        "missing": gaps,
        "made": total,
        "fires": {name: fires(phase) for name, phase in phases.items()},
    }


def fires(phase: Phase) -> dict[str, float]:
    """Published to frame, ms."""
    said = phase.figures()
    found: dict[str, float] = said["published_to_frame"]
    return {"fires": said["fires"], **found}


def specs(folder: Path) -> Path:
    """The shipped specs, and a meter that may speak as often as it likes."""
    ours = folder / "specs"
    shutil.copytree(shipped_folder(), ours)
    (ours / "outage-meter.yaml").write_text(METER, encoding="utf-8")
    return ours


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--live", type=float, default=1_000.0, help="readings a second, of four values (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=60.0, help="six hours become this much shorter (default: %(default)s)")
    parser.add_argument("--hurry", type=float, default=4.0, help="times the live rate during the outage (default: %(default)s)")
    parser.add_argument("--fires", type=int, default=100, help="in each phase (default: %(default)s)")
    parser.add_argument("--premises", type=int, default=50, help="each with one detector (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> dict[str, Any]:
    """Measure in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="outage-") as folder:
        return asyncio.run(measure(parsed(arguments), Path(folder)))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
