"""The fire lane from the detector's publish to the frame at the receiver, on the whole platform as `iotcore up` runs it.

    published ─► received ─► decided ─► durable ─► sent ─► frame at the receiver ─► acknowledgement taken
    (a real MQTT client of each detector: mutual TLS, QoS 1)                (SIA DC-09 over TCP, encrypted)

idle         fires at random moments, each at a premises of its own; reset between rounds, so that each is an incident
saturated    the same, while two processes flood the field broker as fast as it takes messages
influx-down  the same, with influxd killed and the bulk lane going
killing      the same, one of two fire processes killed with -9 in the middle of each round
reconnects   the same, while every device of a crowd connects again
storm        every point of the crowd at once

`python -m benchmarks.fire` is a short idle run; flags name conditions, `--all` is every one of them in one run, `--full` makes
each as long as its quantiles need. Everything is on loopback of this machine, the load included. Beside them stands a baseline
of the same run (`fire_baseline`). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fire_city import Crowd, panel_spec
from benchmarks.fire_load import Fleets, ended, fleets, flooding
from benchmarks.fire_phase import Phase, moments, ratio
from benchmarks.fire_site import Site
from benchmarks.fire_storm import reconnects, storm
from iotcore.specs.load import shipped_folder
from tests.support.influx import Influxd

CONDITIONS = ("idle", "saturated", "influx-down", "killing", "reconnects", "storm")
CROWDED = {"reconnects", "storm"}
WARM_FIRES = 10
FLOOD_RAMP_S = 5.0  # until the bulk lane has a queue
PACED_PER_S = 500.0  # of each of two floods while InfluxDB is down
DELIVERY_LIMIT_S = 60.0
BASELINE_PER_S = 50.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    fires: int  # of the idle phase; the others have `others`
    others: int
    premises: int
    crowd: Crowd


SHORT = Size(fires=20, others=20, premises=10, crowd=Crowd(premises=8, points=5, field=20))
FULL = Size(fires=1_000, others=500, premises=100, crowd=Crowd(premises=200, points=50, field=4_900))


async def burn(
    site: Site,
    fires: int,
    rate_per_s: float,
    *,
    kill: bool = False,
    phase: Phase | None = None,
    enough: Callable[[], bool] = lambda: True,
) -> Phase:
    """So many fires and until it is `enough`, each at a premises without one, at random moments; reset after each round.

    `kill`: in the middle of each round one fire process is killed with -9, and both run again before the next.
    """
    phase = Phase() if phase is None else phase
    while len(phase.fires) < fires or not enough():
        if kill:
            await site.both_up(DELIVERY_LIMIT_S)
        most = len(site.detectors) if not enough() else min(fires - len(phase.fires), len(site.detectors))
        round_of = random.sample(site.detectors, most)
        published: dict[str, float] = {}
        cpu, stored, began_s = site.cpu_s(), site.stored(), time.perf_counter()
        for nth, detector in enumerate(round_of):
            if len(phase.fires) + nth >= fires and enough():
                break
            if kill and nth == len(round_of) // 2:
                site.kill_one()
                phase.killed += 1
            published[detector] = await site.alarm(detector)
            await asyncio.sleep(random.uniform(0.5, 1.5) / rate_per_s)
        stories = await site.delivered(len(published), DELIVERY_LIMIT_S)
        phase.seconds += time.perf_counter() - began_s
        phase.stored += site.stored() - stored
        for name, spent in site.cpu_s().items():
            phase.cpu_s[name] = phase.cpu_s.get(name, 0.0) + spent - cpu.get(name, 0.0)
        frames = site.frames()
        phase.fires += [moments(story, published, frames, repeats=kill) for story in stories]
        await site.reset(stories, DELIVERY_LIMIT_S)
    return phase


@dataclass(slots=True)
class Run:
    """One run on one site."""

    site: Site
    influx: Influxd | None
    crowd: Fleets | None
    fires: int
    rate: float

    async def condition(self, name: str) -> Phase | dict[str, Any]:
        """Measure under one of `CONDITIONS` but the idle one."""
        match name:
            case "saturated":
                return await self._flooded(0.0)
            case "influx-down":
                assert self.influx is not None
                await asyncio.to_thread(self.influx.kill)
                try:
                    phase = await self._flooded(PACED_PER_S)
                finally:
                    await asyncio.to_thread(self.influx.start)
                return phase
            case "killing":
                return await burn(self.site, self.fires, self.rate, kill=True)
            case "reconnects":
                assert self.crowd is not None
                return await reconnects(self.crowd, Phase(), self._until)
            case _:
                assert self.crowd is not None
                return await storm(self.site, self.crowd)

    async def _until(self, done: asyncio.Task[Any], phase: Phase) -> Phase:
        return await burn(self.site, 1, self.rate, phase=phase, enough=done.done)

    async def _flooded(self, rate: float) -> Phase:
        """Beside two floods. What they publish and the lane does not store waits in the broker, or is dropped there."""
        with flooding(self.site, rate) as floods:
            await asyncio.sleep(FLOOD_RAMP_S)
            phase = await burn(self.site, self.fires, self.rate)
            trouble = str(self.site.beat("telemetry").get("store_trouble", ""))
            phase.flood_per_s = await ended(floods)
        behind_per_s = round(phase.flood_per_s - phase.stored / phase.seconds)
        phase.more = {"queue_grows_per_s": behind_per_s, "store_trouble": trouble}
        return phase


async def baseline(count: int) -> dict[str, float]:
    """In a process of its own, so that its threads share no lock with ours."""
    command = [sys.executable, "-m", "benchmarks.fire_baseline", str(count), str(BASELINE_PER_S)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the baseline ended with {process.returncode}")
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


async def measure(options: argparse.Namespace, conditions: list[str], folder: Path) -> dict[str, Any]:
    """Every condition in turn, on one site; the storm last, for its incidents stay open."""
    size, said = options.size, dict[str, Any]()
    async with AsyncExitStack() as stack:
        influx = stack.enter_context(Influxd(folder)) if "influx-down" in conditions else None
        crowd = size.crowd if CROWDED & set(conditions) else Crowd()
        site = Site(
            folder, size.premises, crowd=crowd, specs=specs(folder, crowd.points), replicas=options.replicas,
            store={"kind": "influx1", "url": influx.url} if influx is not None else None,
        )  # fmt: skip
        await stack.enter_async_context(site)
        people = await stack.enter_async_context(fleets(site, folder / "crowd")) if crowd.premises else None
        if people is not None:
            arrived = await people.do("connect")
            said["first_connection_s"] = round(max(one["seconds"] for one in arrived), 2)
        run = Run(site, influx, people, size.others, options.rate)
        await burn(site, WARM_FIRES, options.rate)
        said["baseline"] = await baseline(size.fires)
        for name in conditions:
            found = await burn(site, size.fires, options.rate) if name == "idle" else await run.condition(name)
            if isinstance(found, Phase):
                found.say(name)
                said[name] = found.figures()
            else:
                print(f"\n{name}: {json.dumps(found, indent=2)}", flush=True)
                said[name] = found
    return compared(said)


def compared(said: dict[str, Any]) -> dict[str, Any]:
    """The figures with their ratios: to the baseline, and to the idle phase of the same run."""
    idle = said.get("idle", {}).get("published_to_frame")
    figures = {"cpus": os.cpu_count(), "load_average": os.getloadavg(), **said}
    for name, phase in said.items():
        if isinstance(phase, dict) and "published_to_frame" in phase:
            figures[f"ratio_{name}_to_baseline"] = ratio(phase["published_to_frame"], said["baseline"])
            if idle is not None and name != "idle":
                figures[f"ratio_{name}_to_idle"] = ratio(phase["published_to_frame"], idle)
    return figures


def specs(folder: Path, zones: int) -> Path:
    """The shipped specs, and the panel of the storm."""
    ours = folder / "specs"
    shutil.copytree(shipped_folder(), ours)
    (ours / "benchmark-panel.yaml").write_text(panel_spec(zones), encoding="utf-8")
    return ours


def parsed() -> tuple[argparse.Namespace, list[str]]:
    """The command line: its options, and the conditions in their order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in CONDITIONS:
        parser.add_argument(f"--{name}", action="store_true", help="measure this condition")
    parser.add_argument("--all", action="store_true", help="every condition but killing, which wants --replicas 2")
    parser.add_argument("--full", action="store_true", help="1,000 idle fires, 500 under load, a crowd of 10,000 points")
    parser.add_argument("--fires", type=int, help="in each phase")
    parser.add_argument("--premises", type=int, help="each with one detector")
    parser.add_argument("--crowd", type=int, nargs=3, metavar=("PREMISES", "POINTS", "FIELD"), help="another than --full has")
    parser.add_argument("--rate", type=float, default=10.0, help="fires a second (default: %(default)s)")
    parser.add_argument("--replicas", type=int, default=1, help="fire processes (default: %(default)s)")
    options = parser.parse_args()
    if options.killing and options.replicas == 1:
        parser.error("--killing wants --replicas 2: with one there is nobody left")
    size = FULL if options.full else SHORT
    options.size = Size(
        options.fires or size.fires,
        options.fires or size.others,
        options.premises or size.premises,
        Crowd(*options.crowd) if options.crowd else size.crowd,
    )
    wanted = [
        name
        for name in CONDITIONS
        if getattr(options, name.replace("-", "_")) or (options.all and (name != "killing" or options.replicas > 1))
    ]
    return options, wanted or ["idle"]


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    options, conditions = parsed()
    with tempfile.TemporaryDirectory(prefix="fire-") as folder:
        print(json.dumps(asyncio.run(measure(options, conditions, Path(folder)))))


if __name__ == "__main__":
    main()
