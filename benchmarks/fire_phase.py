"""What the fire benchmark measures of fires: the moments of each, and quantiles of what lies between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotcore.journal.timeline import Timeline

STAGES = ("published", "received", "decided", "durable", "sent", "frame")
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


@dataclass(slots=True)
class Phase:
    """What was measured under one kind of load. Moments are ms UTC by one clock, that of this machine."""

    fires: list[dict[str, float]] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    flood_per_s: float = 0.0
    stored: int = 0  # messages of the bulk lane
    killed: int = 0  # fire processes, by kill -9
    more: dict[str, Any] = field(default_factory=dict)  # what only this condition tells

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
            **self.more,
        }

    def say(self, name: str) -> None:
        """A table for people."""
        figures = self.figures()
        rows = {**figures["stages"], **{key: figures[key] for key in figures if key.startswith("published_to_")}}
        print(f"\n{name}: {figures['fires']} fires, flood {figures['flood_messages_per_s']} msg/s, "
              f"telemetry {figures['telemetry_stored_per_s']} msg/s, {self.more}")  # fmt: skip
        for row, values in rows.items():
            print(f"  {row:28} " + "  ".join(f"{key} {value:9.3f}" for key, value in values.items()) + "  ms")
        print("  CPU, cores: " + ", ".join(f"{part} {cores:.2f}" for part, cores in figures["cpu_cores"].items()), flush=True)


def quantiles(waits: Sequence[float]) -> dict[str, float]:
    """The named quantiles and the greatest, in the unit of what is given."""
    ordered = sorted(waits)
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in SHARES.items()}
    return {name: round(at, 3) for name, at in (*found.items(), ("max", ordered[-1]))}


def ratio(of: Mapping[str, float], to: Mapping[str, float]) -> dict[str, float]:
    """Each quantile of one over that of the other."""
    return {name: round(of[name] / to[name], 2) for name in to}


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
