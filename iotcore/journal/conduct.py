"""Conduct: how each device delivers: readings lost, holes still open, readings not kept, its clock. Both lanes keep theirs.

    lost        readings of a hole that was given up: nobody sent them in time      fault `gap`
    hole_since  a hole that is still open: its sender is expected to fill it
    throttled   readings above ten times the rate of its spec (`throttle`)          fault `throttled`
    skew_ms     how far its clock is ahead (`skew`)

What is no gap: a reboot (each boot counts from 1); a reading that came twice or out of order; and where the first boot that we
ever hear of a device begins. A core that lost its files, or took over from another, cannot tell what was stored before from what
never came: the receipt waits for the beginning as for any hole, but nothing is counted as lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from iotcore import metrics
from iotcore.journal.faults import Fault, Faults
from iotcore.journal.progress import Key, Progress, Track
from iotcore.journal.throttle import Throttle

GAP = "gap"
THROTTLED = "throttled"
GAP_QUIET_S = 600.0  # without a new loss and without an open hole, and the fault is over
SILENT_HOLE_S = 900.0  # a hole in a boot that says nothing more: ten times the patience with one that talks
SWEEP_EVERY_S = 5.0
MS_PER_S = 1000.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS conduct (
    device        TEXT PRIMARY KEY,
    lost          INTEGER NOT NULL,     -- readings, for ever
    throttled     INTEGER NOT NULL,     -- readings above the rate, for ever
    hole_since_ms REAL,                 -- NULL: no hole is open
    skew_ms       REAL,                 -- positive: its clock is ahead; NULL: not measured
    at_ms         REAL NOT NULL
) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """What changed of one device: how many more, and what stands now. `skew_ms` None: not measured anew."""

    device: str
    lost: int
    throttled: int
    hole_since_ms: float | None
    skew_ms: float | None


class Conduct:
    """Of one lane. `standing` are the faults that stood when the last process ended."""

    def __init__(self, lane: str, standing: Iterable[Fault] = (), now_s: float = 0.0) -> None:
        self._lane = lane
        self._last_gap_s = {device: now_s for device, reason in standing if reason == GAP}
        self._throttled = {device for device, reason in standing if reason == THROTTLED}
        self._holes: dict[Key, float] = {}  # since when, ms UTC
        self._beginnings: set[Key] = set()  # of devices of which nothing was known
        self._changed: dict[str, list[int]] = {}  # device → lost, throttled, since the last `take`
        self._swept_s = now_s

    def tracked(self, progress: Progress, changed: Mapping[Key, Track], now_s: float, now_ms: float) -> None:
        """Look at what a batch is about to change; before it is applied to `progress`."""
        for key, track in changed.items():
            if track.lost:
                self._note_lost(key, track.lost - progress.track(*key).lost, now_s)
            if track.above:
                if key not in self._holes:
                    self._holes[key] = now_ms
                    self._change(key[0])
                    if not progress.knows(key[0]):
                        self._beginnings.add(key)
            elif key in self._holes:
                del self._holes[key]
                self._beginnings.discard(key)
                self._change(key[0])

    def judge(self, faults: Faults, progress: Progress, throttle: Throttle, now_s: float) -> list[str]:
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
        for key in [key for key in self._holes if now_s - progress.track(*key).hole_s > SILENT_HOLE_S]:
            track = progress.track(*key)
            del self._holes[key]
            if track.above:  # else it has been forgotten: a boot of long ago
                self._note_lost(key, max(track.above) - track.up_to - len(track.above), now_s)
        holed = {device for device, _ in self._holes}
        for device, last_s in list(self._last_gap_s.items()):
            faults.note(device, GAP)
            if now_s - last_s >= GAP_QUIET_S and device not in holed:
                del self._last_gap_s[device]
                faults.over(device, GAP)
        return calmed

    def take(self, skews: Mapping[str, float]) -> list[Row]:
        """What changed since the last call; `skews` are clocks measured meanwhile, ms ahead."""
        if not self._changed and not skews:
            return []
        changed, self._changed = self._changed, {}
        since: dict[str, float] = {}
        for (device, _), since_ms in self._holes.items():
            since[device] = min(since_ms, since.get(device, since_ms))
        rows = []
        for device in {**changed, **skews}:
            lost, throttled = changed.get(device, (0, 0))
            rows.append(Row(device, lost, throttled, since.get(device), skews.get(device)))
        return rows

    def _note_lost(self, key: Key, count: int, now_s: float) -> None:
        if count <= 0:
            return
        if key in self._beginnings:
            self._beginnings.discard(key)
            return
        device = key[0]
        self._change(device)[0] += count
        self._last_gap_s[device] = now_s
        metrics.gap_readings.labels(self._lane).inc(count)

    def _change(self, device: str) -> list[int]:
        return self._changed.setdefault(device, [0, 0])


def save(connection: sqlite3.Connection, rows: Iterable[Row], at_ms: float) -> None:
    """Add to what is known of the devices; inside the caller's transaction."""
    connection.executemany(
        "INSERT INTO conduct (device, lost, throttled, hole_since_ms, skew_ms, at_ms) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (device) DO UPDATE SET lost = lost + excluded.lost, throttled = throttled + excluded.throttled, "
        "hole_since_ms = excluded.hole_since_ms, skew_ms = coalesce(excluded.skew_ms, skew_ms), at_ms = excluded.at_ms",
        ((*row, at_ms) for row in rows),
    )


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table; holes are noted anew, with the next reading of their boot."""
    connection.executescript(SCHEMA)
    connection.execute("UPDATE conduct SET hole_since_ms = NULL WHERE hole_since_ms IS NOT NULL")
