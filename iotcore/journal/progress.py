"""Progress: which readings of a device are stored, so that none counts twice and receipts never claim too much.

    stored 1 ──────────── up_to   hole   above ─────   hole   above ──
           receipted this far     ▲ open until it is filled, or given up because its sender does not have it either

A receipt says "all up to N", and lets the sender forget them: N must never pass a reading that the sender may still hold. Time
alone proves nothing (a sender may be cut off again before it comes to its oldest). What does: senders re-send what was not
receipted, oldest first, every 30 s (wire contract). One that sends again what lies just above the hole, round after round, has
nothing below. Then the hole is given up and counted as lost. Who never re-sends keeps its holes, open for everyone to see.

A sender that numbers nothing has boots of ours, which begin with "@": no boot of the contract does, and nothing is receipted for
them. `BY_TIME` holds readings whose number is made of their own time: they come in any order, and what lies between is no hole.

Pure: tracks are immutable; a batch works on a `Stage` that is applied after its commit, or forgotten when the commit failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import structs

ROUND_S = 20.0  # repeats closer than this belong to one round: senders re-send every 30 s (wire contract, Payloads)
GIVE_UP_ROUNDS = 3  # a broker whose queue is full may drop what a sender sent again, once or twice
MAX_RANGES = 256  # stretches remembered above holes of one boot; of what lies beyond, a repeat is stored once more
MAX_BOOTS = 64  # boots remembered for a device: a site gateway may restart often while its outbox waits

OURS = "@"
BY_TIME = "@time"
UNORDERED = -1
KEPT_BY_TIME = 32  # of a device's readings by time: a broker sends again what it had no answer for, the newest

Key = tuple[str, str]  # device, boot
Ranges = tuple[tuple[int, int], ...]  # first and last of each stretch, ascending, never touching


class Track(msgspec.Struct, frozen=True, gc=False):
    """What is stored of one boot: everything up to `up_to`, and the stretches `above` beyond a hole open since `hole_s`.

    `up_to` is `UNORDERED` for readings by time, of which nothing is missing.

    `rounds` is how often its sender began again above the hole, last at `round_s`; `lost` how many readings were given up.
    """

    up_to: int = 0
    above: Ranges = ()
    hole_s: float = 0.0
    lost: int = 0
    rounds: int = 0
    round_s: float = 0.0

    @property
    def missing(self) -> int:
        """Readings in open holes. What lies below the first reading that was ever met of a boot is not known to be missing."""
        if not self.above or self.up_to == UNORDERED:
            return 0
        stored = sum(last - first + 1 for first, last in self.above)
        below = self.up_to or self.above[0][0] - 1
        return self.above[-1][1] - below - stored


EMPTY = Track()


class Row(NamedTuple):
    """A track as it is kept in a database table `progress`."""

    device: str
    boot: str
    up_to: int
    above: str
    lost: int


class Progress:
    """All tracks of a lane. `tracks` is for its stages to read."""

    def __init__(self, rows: Iterable[Row] = (), now_s: float = 0.0) -> None:
        self.tracks: dict[Key, Track] = {}
        self._boots: dict[str, list[str]] = {}
        for row in rows:
            self._keep((row.device, row.boot), Track(row.up_to, _ranges(row.above), now_s, row.lost))

    def track(self, device: str, boot: str) -> Track:
        """What is stored of this boot; an empty track when it is unknown."""
        return self.tracks.get((device, boot), EMPTY)

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
        tracks = self.tracks
        for key, track in changed.items():
            if key in tracks:
                tracks[key] = track
            else:
                self._keep(key, track)

    def _keep(self, key: Key, track: Track) -> None:
        device, boot = key
        if key not in self.tracks:
            boots = self._boots.setdefault(device, [])
            boots.append(boot)
            if len(boots) > MAX_BOOTS:
                self.tracks.pop((device, boots.pop(0)), None)
        self.tracks[key] = track


class Stage:
    """One batch's view: what was stored, plus what the batch adds."""

    def __init__(self, base: Progress, now_s: float) -> None:
        self._base = base
        self._now_s = now_s
        self.changed: dict[Key, Track] = {}

    def take(self, device: str, boot: str, seq: int) -> bool:
        """Count a reading as part of this batch, and say whether it is new: neither stored nor in this batch already.

        One that is not means that its sender has not seen the receipt: this batch will receipt it again.
        """
        key = (device, boot)
        track = self.changed.get(key) or self._base.tracks.get(key) or EMPTY
        if seq == track.up_to + 1 and not track.above:  # nearly always
            self.changed[key] = Track(seq, (), 0.0, track.lost)
            return True
        if _has(track, seq):
            self.changed[key] = _repeated(track, seq, self._now_s)
            return False
        self.changed[key] = _beside(track, seq) if boot == BY_TIME else _with(track, seq, self._now_s)
        return True

    def is_new(self, device: str, boot: str, seq: int) -> bool:
        """Whether this reading is neither stored nor already in this batch."""
        return not _has(self._current(device, boot), seq)

    def add(self, device: str, boot: str, seq: int) -> None:
        """Count a reading as part of this batch."""
        before = self._current(device, boot)
        self.changed[device, boot] = _beside(before, seq) if boot == BY_TIME else _with(before, seq, self._now_s)

    def repeat(self, device: str, boot: str, seq: int) -> None:
        """A duplicate came: its sender has not seen the receipt, so make this batch receipt it again."""
        self.changed[device, boot] = _repeated(self._current(device, boot), seq, self._now_s)

    def rows(self) -> list[Row]:
        """The changed tracks as rows to upsert in the batch's own transaction."""
        return [
            Row(device, boot, track.up_to, json.dumps(track.above) if track.above else "[]", track.lost)
            for (device, boot), track in self.changed.items()
        ]

    def _current(self, device: str, boot: str) -> Track:
        return self.changed.get((device, boot)) or self._base.track(device, boot)


def _has(track: Track, seq: int) -> bool:
    return seq <= track.up_to or any(first <= seq <= last for first, last in track.above)


def _with(track: Track, seq: int, now_s: float) -> Track:
    """`track` after storing `seq`, which it does not have. A hole that is being filled is none that its sender lacks."""
    if seq == track.up_to + 1:
        return _closed(structs.replace(track, up_to=seq, rounds=0))
    opened_s = track.hole_s if track.above else now_s
    above = _added(track.above, seq)[:MAX_RANGES]
    filled = bool(track.above) and seq < track.above[0][0]
    return structs.replace(track, above=above, hole_s=opened_s, rounds=0 if filled else track.rounds)


def _beside(track: Track, seq: int) -> Track:
    """`track` after storing a reading by time; the oldest is forgotten."""
    return structs.replace(track, up_to=UNORDERED, above=_added(track.above, seq)[-KEPT_BY_TIME:])


def _added(ranges: Ranges, seq: int) -> Ranges:
    """The ranges with `seq`, which is in none of them, joined to its neighbours."""
    before = [one for one in ranges if one[1] < seq]
    after = [one for one in ranges if one[0] > seq]
    first = before.pop()[0] if before and before[-1][1] == seq - 1 else seq
    last = after.pop(0)[1] if after and after[0][0] == seq + 1 else seq
    return (*before, (first, last), *after)


def _closed(track: Track) -> Track:
    """Move `up_to` over what is stored right above it."""
    if track.above and track.above[0][0] == track.up_to + 1:
        return structs.replace(track, up_to=track.above[0][1], above=track.above[1:], rounds=0)
    return track


def _repeated(track: Track, seq: int, now_s: float) -> Track:
    """`track` after `seq`, which it has, came again: when that is the lowest above the hole, its sender may have none below."""
    if (
        track.up_to == UNORDERED
        or not track.above
        or seq != track.above[0][0]
        or (track.rounds and now_s - track.round_s < ROUND_S)
    ):
        return track
    if track.rounds + 1 < GIVE_UP_ROUNDS:
        return structs.replace(track, rounds=track.rounds + 1, round_s=now_s)
    lost = seq - 1 - track.up_to if track.up_to else 0
    return _closed(Track(seq - 1, track.above, now_s, track.lost + lost))


def _ranges(text: str) -> Ranges:
    """As `rows` writes them; single numbers are of an earlier version."""
    ranges: Ranges = ()
    for one in json.loads(text):
        ranges = (*ranges, (one[0], one[1])) if isinstance(one, list) else _added(ranges, one)
    return ranges
