"""Conduct: how each device delivers: readings lost, holes still open, readings not kept, its clock. Both lanes keep theirs.

    lost        readings of a hole that was given up (`progress`)                   fault `gap`
    missing     readings of holes that are open, and since when                     fault `gap` after `LONG_HOLE_S`
    throttled   readings above ten times the rate of its spec (`throttle`)          fault `throttled`
    skew_ms     how far its clock is ahead (`skew`)                                 fault `clock_skew`, with each such reading

What is no gap: a reboot (each boot counts from 1); a reading that came twice or out of order; and what lies below the first
reading of a boot that we ever hear. A core that lost its files, or took over from another, cannot tell what was stored before
from what never came: the receipt waits for the beginning as for any hole, but nothing is counted as missing or lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from iotcore import metrics
from iotcore.journal.database import Connection
from iotcore.journal.faults import Fault, Faults
from iotcore.journal.progress import Key, Progress, Track
from iotcore.journal.throttle import Throttle

GAP = "gap"
THROTTLED = "throttled"
GAP_QUIET_S = 600.0  # without a new loss and without an open hole, and the fault is over
LONG_HOLE_S = 900.0  # thirty re-send rounds: whoever could fill it would have
SWEEP_EVERY_S = 1.0
MS_PER_S = 1000.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS conduct (
    device        TEXT PRIMARY KEY,
    lost          INTEGER NOT NULL,     -- readings, for ever
    throttled     INTEGER NOT NULL,     -- readings above the rate, for ever
    missing       INTEGER NOT NULL,     -- readings of holes that are open now
    hole_since_ms DOUBLE PRECISION,                 -- NULL: no hole is open
    skew_ms       DOUBLE PRECISION,                 -- positive: its clock is ahead; NULL: not measured
    at_ms         DOUBLE PRECISION NOT NULL
) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """What changed of one device: how many more lost and throttled, and what stands now. `skew_ms` None: not measured anew."""

    device: str
    lost: int
    throttled: int
    missing: int
    hole_since_ms: float | None
    skew_ms: float | None

    def joined(self, later: Row) -> Row:
        """Both as one."""
        skew_ms = self.skew_ms if later.skew_ms is None else later.skew_ms
        return later._replace(lost=self.lost + later.lost, throttled=self.throttled + later.throttled, skew_ms=skew_ms)


class Conduct:
    """Of one lane. `standing` are the faults that stood when the last process ended."""

    def __init__(self, lane: str, standing: Iterable[Fault] = (), now_s: float = 0.0) -> None:
        self._lane = lane
        self._last_gap_s = {device: now_s for device, reason in standing if reason == GAP}
        self._throttled = {device for device, reason in standing if reason == THROTTLED}
        self._holes: dict[str, dict[str, tuple[int, float]]] = {}  # device → boot → readings missing, and since when, ms UTC
        self._young: dict[Key, float] = {}  # holes that are no fault yet, and since when, monotonic
        self._changed: dict[str, list[int]] = {}  # device → lost, throttled, since the last `take`
        self._swept_s = now_s

    def tracked(self, progress: Progress, changed: Mapping[Key, Track], now_s: float, now_ms: float) -> None:
        """Look at what a batch is about to change; before it is applied to `progress`."""
        for key, track in changed.items():
            if track.lost and (lost := track.lost - progress.track(*key).lost) > 0:
                self._change(key[0])[0] += lost
                self._last_gap_s[key[0]] = now_s
                metrics.gap_readings.labels(self._lane).inc(lost)
            if track.above or key[0] in self._holes:
                self._note_hole(key, track.missing, now_s, now_ms)

    def judge(self, faults: Faults, throttle: Throttle, now_s: float) -> list[str]:
        """Raise and end the faults that time decides, at most every few seconds; returns the devices that have calmed down."""
        if now_s - self._swept_s < SWEEP_EVERY_S:
            return []
        self._swept_s = now_s
        for device, count in throttle.take_counts().items():
            self._change(device)[1] += count
            metrics.throttled.labels(self._lane).inc(count)
            self._throttled.add(device)
            faults.note(device, THROTTLED)
        calmed = [device for device in self._throttled if not throttle.over(device, now_s)]
        for device in calmed:
            self._throttled.discard(device)
            faults.over(device, THROTTLED)
        for key in [key for key, since_s in self._young.items() if now_s - since_s >= LONG_HOLE_S]:
            del self._young[key]
            self._last_gap_s[key[0]] = now_s
        for device, last_s in list(self._last_gap_s.items()):
            faults.note(device, GAP)
            if now_s - last_s >= GAP_QUIET_S:
                del self._last_gap_s[device]
                faults.over(device, GAP)
        return calmed

    def take(self, skews: Mapping[str, float]) -> list[Row]:
        """What changed since the last call; `skews` are clocks measured meanwhile, ms ahead."""
        if not self._changed and not skews:
            return []
        changed, self._changed = self._changed, {}
        rows = []
        for device in {**changed, **skews}:
            lost, throttled = changed.get(device, (0, 0))
            holes = self._holes.get(device, {}).values()
            missing, since_ms = sum(hole[0] for hole in holes), min((hole[1] for hole in holes), default=None)
            rows.append(Row(device, lost, throttled, missing, since_ms, skews.get(device)))
        return rows

    def _note_hole(self, key: Key, missing: int, now_s: float, now_ms: float) -> None:
        device, boot = key
        holes = self._holes.get(device, {})
        known = holes.get(boot)
        if missing == (known[0] if known else 0):
            return
        self._change(device)
        if missing:
            self._holes.setdefault(device, holes)[boot] = (missing, known[1] if known else now_ms)
            self._young.setdefault(key, now_s)
            return
        del holes[boot]
        self._young.pop(key, None)
        if not holes:
            del self._holes[device]

    def _change(self, device: str) -> list[int]:
        return self._changed.setdefault(device, [0, 0])


def save(connection: Connection, rows: Iterable[Row], at_ms: float) -> None:
    """Add to what is known of the devices; inside the caller's transaction."""
    connection.executemany(
        "INSERT INTO conduct (device, lost, throttled, missing, hole_since_ms, skew_ms, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (device) DO UPDATE SET lost = conduct.lost + excluded.lost, "
        "throttled = conduct.throttled + excluded.throttled, "
        "missing = excluded.missing, hole_since_ms = CASE WHEN excluded.missing > 0 AND conduct.missing > 0 "
        "AND conduct.hole_since_ms < excluded.hole_since_ms THEN conduct.hole_since_ms ELSE excluded.hole_since_ms END, "
        "skew_ms = coalesce(excluded.skew_ms, conduct.skew_ms), at_ms = excluded.at_ms",
        [(*row, at_ms) for row in rows],
    )
