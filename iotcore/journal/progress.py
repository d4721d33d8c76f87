"""Progress: which readings of a device are stored, so that none counts twice and receipts never claim too much.

A receipt says "all up to N". N may only grow over a hole when nobody will fill it: senders re-send what was not receipted
every 30 s, oldest first, so a hole older than three such rounds, in a boot that keeps talking, is lost and is counted.

Pure: tracks are immutable; a batch works on a `Stage` that is applied after its commit, or forgotten when the commit failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

GAP_WAIT_S = 90.0  # three re-send rounds of 30 s (wire contract, Payloads)
MAX_ABOVE = 10_000  # readings held above a hole; more than this and the hole is given up
MAX_BOOTS = 8  # boots remembered for a device; an older one is no longer re-sent by anybody

Key = tuple[str, str]  # device, boot


class Track(NamedTuple):
    """What is stored of one boot: everything up to `up_to`, and the numbers in `above` beyond a hole open since `hole_s`."""

    up_to: int = 0
    above: frozenset[int] = frozenset()
    hole_s: float = 0.0
    lost: int = 0


class Row(NamedTuple):
    """A track as it is kept in a database table `progress`."""

    device: str
    boot: str
    up_to: int
    above: str
    lost: int


class Progress:
    """All tracks of a lane."""

    def __init__(self, rows: Iterable[Row] = (), now_s: float = 0.0) -> None:
        self._tracks: dict[Key, Track] = {}
        self._boots: dict[str, list[str]] = {}
        for row in rows:
            self._keep((row.device, row.boot), Track(row.up_to, frozenset(json.loads(row.above)), now_s, row.lost))

    def track(self, device: str, boot: str) -> Track:
        """What is stored of this boot; an empty track when it is unknown."""
        return self._tracks.get((device, boot), Track())

    def knows(self, device: str) -> bool:
        """Whether any boot of this device is known."""
        return device in self._boots

    def has(self, device: str, boot: str, seq: int) -> bool:
        """Whether this reading is stored, or given up."""
        return _has(self.track(device, boot), seq)

    def stage(self, now_s: float) -> Stage:
        """Begin a batch at monotonic time `now_s`."""
        return Stage(self, now_s)

    def apply(self, changed: Mapping[Key, Track]) -> None:
        """Take over what a committed batch changed."""
        for key, track in changed.items():
            self._keep(key, track)

    def _keep(self, key: Key, track: Track) -> None:
        device, boot = key
        if key not in self._tracks:
            boots = self._boots.setdefault(device, [])
            boots.append(boot)
            if len(boots) > MAX_BOOTS:
                self._tracks.pop((device, boots.pop(0)), None)
        self._tracks[key] = track


class Stage:
    """One batch's view: what was stored, plus what the batch adds."""

    def __init__(self, base: Progress, now_s: float) -> None:
        self._base = base
        self._now_s = now_s
        self.changed: dict[Key, Track] = {}

    def is_new(self, device: str, boot: str, seq: int) -> bool:
        """Whether this reading is neither stored nor already in this batch."""
        return not _has(self._current(device, boot), seq)

    def add(self, device: str, boot: str, seq: int) -> None:
        """Count a reading as part of this batch."""
        self.changed[device, boot] = _with(self._current(device, boot), seq, self._now_s)

    def touch(self, device: str, boot: str) -> None:
        """A duplicate came: its sender has not seen the receipt, so make this batch receipt it again."""
        self.changed.setdefault((device, boot), _settled(self._current(device, boot), self._now_s))

    def rows(self) -> list[Row]:
        """The changed tracks as rows to upsert in the batch's own transaction."""
        return [
            Row(device, boot, track.up_to, json.dumps(sorted(track.above)), track.lost)
            for (device, boot), track in self.changed.items()
        ]

    def _current(self, device: str, boot: str) -> Track:
        return self.changed.get((device, boot)) or self._base.track(device, boot)


def _has(track: Track, seq: int) -> bool:
    return seq <= track.up_to or seq in track.above


def _with(track: Track, seq: int, now_s: float) -> Track:
    """`track` after storing `seq`."""
    if seq != track.up_to + 1:
        hole_s = track.hole_s if track.above else now_s
        return _settled(Track(track.up_to, track.above | {seq}, hole_s, track.lost), now_s)
    return _settled(_closed(track._replace(up_to=seq, hole_s=now_s)), now_s)  # being filled: not one that nobody fills


def _closed(track: Track) -> Track:
    """Move `up_to` over what is stored right above it."""
    if not track.above:
        return track
    up_to = track.up_to
    while up_to + 1 in track.above:
        up_to += 1
    return track._replace(up_to=up_to, above=frozenset(seq for seq in track.above if seq > up_to))


def _settled(track: Track, now_s: float) -> Track:
    """Give up a hole that nobody has filled for long, and count what was lost in it."""
    if not track.above or (now_s - track.hole_s < GAP_WAIT_S and len(track.above) <= MAX_ABOVE):
        return track
    first = min(track.above)
    return _closed(Track(first - 1, track.above, now_s, track.lost + first - 1 - track.up_to))
