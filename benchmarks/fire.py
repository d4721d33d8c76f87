"""The fire lane from the detector's publish to the frame at the receiver, on the whole platform as `iotcore up` runs it.

    published ─► received ─► decided ─► durable ─► sent ─► frame at the receiver ─► acknowledgement taken
    (a real MQTT client of each detector: mutual TLS, QoS 1)                (SIA DC-09 over TCP, encrypted)

Each premises burns once a round and is reset between rounds, so that every fire is an incident of its own. First idle, then with
the bulk lane saturated: another process floods the field broker as fast as it takes messages. Everything is on loopback of this
machine, the load included. `python -m benchmarks.fire` takes about three minutes; its last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.fire_site import SITE_FLOOD_DEVICES, Site
from iotcore.journal.timeline import Timeline

WARM_FIRES = 20
FLOOD_RAMP_S = 5.0  # until the bulk lane has a queue
STAGES = ("published", "received", "decided", "durable", "sent", "frame")
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
DELIVERY_LIMIT_S = 60.0


@dataclass(slots=True)
class Phase:
    """What was measured under one kind of load. Moments are ms UTC by one clock, that of this machine."""

    fires: list[dict[str, float]] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    flood_per_s: float = 0.0
    stored: int = 0  # messages of the bulk lane
    killed: int = 0  # fire processes, by kill -9

    def figures(self) -> dict[str, Any]:
        """Quantiles of each stage and of the whole, ms; CPU in cores, by process."""
        stages = {f"{a}_to_{b}": quantiles([f[b] - f[a] for f in self.fires]) for a, b in itertools.pairwise(STAGES)}
        return {
            "fires": len(self.fires),
            "killed": self.killed,
            "published_to_frame": quantiles([f["frame"] - f["published"] for f in self.fires]),
            "published_to_durable": quantiles([f["durable"] - f["published"] for f in self.fires]),
            "published_to_acknowledged": quantiles([f["acknowledged"] - f["published"] for f in self.fires]),
            "stages": stages,
            "flood_messages_per_s": round(self.flood_per_s),
            "telemetry_stored_per_s": round(self.stored / self.seconds),
            "cpu_cores": {name: round(spent / self.seconds, 3) for name, spent in self.cpu_s.items()},
        }


def quantiles(waits_ms: Sequence[float]) -> dict[str, float]:
    """The named quantiles and the greatest, ms."""
    ordered = sorted(waits_ms)
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in SHARES.items()}
    return {name: round(at, 3) for name, at in (*found.items(), ("max", ordered[-1]))}


async def burn(site: Site, fires: int, rate_per_s: float, *, kill: bool = False) -> Phase:
    """So many fires, each at a premises without one, at random moments; reset after each round.

    `kill`: in the middle of each round one fire process is killed with -9, and both run again before the next.
    """
    phase = Phase()
    while len(phase.fires) < fires:
        if kill:
            await site.both_up(DELIVERY_LIMIT_S)
        round_of = random.sample(site.detectors, min(fires - len(phase.fires), len(site.detectors)))
        published: dict[str, float] = {}
        cpu, stored, began_s = site.cpu_s(), site.stored(), time.perf_counter()
        for nth, detector in enumerate(round_of):
            if kill and nth == len(round_of) // 2:
                site.kill_one()
                phase.killed += 1
            published[detector] = await site.alarm(detector)
            await asyncio.sleep(random.uniform(0.5, 1.5) / rate_per_s)
        stories = await site.delivered(len(round_of), DELIVERY_LIMIT_S)
        phase.seconds += time.perf_counter() - began_s
        phase.stored += site.stored() - stored
        for name, spent in site.cpu_s().items():
            phase.cpu_s[name] = phase.cpu_s.get(name, 0.0) + spent - cpu.get(name, 0.0)
        frames = site.frames()
        phase.fires += [moments(story, published, frames, repeats=kill) for story in stories]
        await site.reset(stories, DELIVERY_LIMIT_S)
    return phase


def moments(
    story: Timeline, published: Mapping[str, float], frames: Mapping[str, list[float]], *, repeats: bool = False
) -> dict[str, float]:
    """All moments of one fire, ms UTC.

    Raises:
        RuntimeError: it did not reach the receiver, or with `repeats` False more than once.
    """
    times = frames.get(story.incident, [])
    if not times or (len(times) > 1 and not repeats) or story.durable_ms is None or story.delivered_ms is None:
        raise RuntimeError(f"{story.incident} of {story.notice.device}: {len(times)} frames at the receiver, {story}")
    found = dict(story.moments())
    return {
        "published": published[story.notice.device],
        "received": found["received"],
        "decided": found["decided"],
        "durable": story.durable_ms,
        "sent": found["sent"],
        "frame": times[0],
        "acknowledged": story.delivered_ms,
    }


@contextmanager
def flooding(site: Site) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Other processes that publish into the field broker without a pause; they end with the context."""
    commands = [[sys.executable, "-m", "benchmarks.flood", *site.flood_arguments(device)] for device in SITE_FLOOD_DEVICES]
    floods = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands]
    try:
        yield floods
    finally:
        for flood in floods:
            flood.kill()
            flood.communicate()


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Idle, then saturated."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site(folder, options.premises, replicas=options.replicas))
        await burn(site, WARM_FIRES, options.rate)
        phases = {"idle": await burn(site, options.fires, options.rate)}
        say("idle", phases["idle"])
        if options.kill:
            phases["killing"] = await burn(site, options.fires, options.rate, kill=True)
            say("killing", phases["killing"])
        if not options.idle_only:
            with flooding(site) as floods:
                site.also = {f"flood {n}": psutil.Process(flood.pid) for n, flood in enumerate(floods, start=1)}
                await asyncio.sleep(FLOOD_RAMP_S)
                phase = phases["saturated"] = await burn(site, options.fires, options.rate)
                for flood in floods:
                    said, _ = await asyncio.to_thread(flood.communicate, b"", 30.0)
                    phase.flood_per_s += float(said)
            say("saturated", phase)
    figures: dict[str, Any] = {"cpus": os.cpu_count(), **{name: phase.figures() for name, phase in phases.items()}}
    if "killing" in figures:
        idle, killing = figures["idle"]["published_to_frame"], figures["killing"]["published_to_frame"]
        figures["ratio_killing_to_idle"] = {name: round(killing[name] / idle[name], 2) for name in idle}
    if "saturated" in figures:
        idle, saturated = figures["idle"]["published_to_frame"], figures["saturated"]["published_to_frame"]
        figures["ratio_saturated_to_idle"] = {name: round(saturated[name] / idle[name], 2) for name in idle}
    return figures


def say(name: str, phase: Phase) -> None:
    """A table for people."""
    figures = phase.figures()
    rows = {**figures["stages"], **{key: figures[key] for key in figures if key.startswith("published_to_")}}
    print(f"\n{name}: {figures['fires']} fires, flood {figures['flood_messages_per_s']} msg/s, "
          f"telemetry {figures['telemetry_stored_per_s']} msg/s")  # fmt: skip
    for row, values in rows.items():
        print(f"  {row:28} " + "  ".join(f"{key} {value:9.3f}" for key, value in values.items()) + "  ms")
    print("  CPU, cores: " + ", ".join(f"{part} {cores:.2f}" for part, cores in figures["cpu_cores"].items()), flush=True)


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fires", type=int, default=500, help="in each phase (default: %(default)s)")
    parser.add_argument("--premises", type=int, default=100, help="each with one detector (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="fires a second (default: %(default)s)")
    parser.add_argument("--idle-only", action="store_true", help="leave out the saturated phase")
    parser.add_argument("--replicas", type=int, default=1, help="fire processes (default: %(default)s)")
    parser.add_argument("--kill", action="store_true", help="with replicas: a phase in which one is killed in each round")
    options = parser.parse_args()
    if options.kill and options.replicas == 1:
        parser.error("--kill wants --replicas 2: with one there is nobody left")
    with tempfile.TemporaryDirectory(prefix="fire-") as folder:
        print(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
