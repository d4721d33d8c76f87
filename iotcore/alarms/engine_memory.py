"""What is remembered of a device's stream, what a look at it carries, and who has voted where. Pure, and bounded.

Times are seconds: `at_s` on the device's own timeline, `now_s` on the caller's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from iotcore.alarms.decisions import Reason
from iotcore.alarms.window import Timeline, Window
from iotcore.reading import Reading
from iotcore.registry.directory import Binding

if TYPE_CHECKING:
    from iotcore.alarms.engine_nodes import LeafNode

TrackKey = tuple[str, int, bool, bool]  # device; live, backlog, old; test; retained
Ref = tuple[TrackKey, int]  # a rule of a track
Excused = Callable[[str, str, float, bool], bool]  # device, point, at which moment (ms UTC), by an immediate rule
VOTES_MAX = 64  # of one place; no rule asks for more than 20


@dataclass(slots=True)
class Pending:
    """A first alarm that is not yet confirmed, or the confirmed one for as long as it holds."""

    first_s: float
    leaf: LeafNode
    reading: Reading
    moment_s: float
    cleared_s: float | None = None
    top: float = -inf  # the highest value since
    confirmed: bool = False
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Raised:
    """A latch: what made the rule hold, and by which reading."""

    leaf: LeafNode
    reading: Reading


@dataclass(slots=True)
class Memory:
    """What is remembered of one device's live, backlog, old, test or retained stream. Bounded by its rules."""

    latches: bool  # a test stream does not: every press of a test button is seen
    timeline: Timeline = field(default_factory=Timeline)
    seen_s: float = 0.0  # when the newest reading came, on the caller's clock
    windows: dict[str, Window] = field(default_factory=dict)  # of points whose rules look further back than the newest value
    newest: dict[str, tuple[float, float | bool | str]] = field(default_factory=dict)  # when, what; good values only
    doubtful: set[str] = field(default_factory=set)  # points whose newest value is not good
    holding: set[int] = field(default_factory=set)  # numbers of the thresholds that hold: their hysteresis
    since: dict[int, tuple[float, Reading]] = field(default_factory=dict)  # since when a sustained condition's part holds
    pending: dict[int, Pending] = field(default_factory=dict)
    raised: dict[int, Raised] = field(default_factory=dict)  # by the numbers of the rules that decided and were not reset
    returned: set[int] = field(default_factory=set)  # those of them that are back to normal
    criteria: frozenset[int] = frozenset()  # rules of another hazard, which bear out smoke


@dataclass(slots=True)
class Look:
    """One look at what is remembered: by a reading, or by a timer at a moment that has come."""

    memory: Memory
    binding: Binding
    key: TrackKey
    reading: Reading
    at_s: float  # now, on the device's timeline
    moment_s: float  # now, on a clock that its stream shares with other devices
    wall_ms: float
    places: Places
    number: int = -1  # of the rule
    immediate: bool = False  # the rule
    again_s: float = inf  # on the timeline: when time alone may change what is said now
    unknown: bool = False
    armed: Reading | None = None  # the reading that a timer goes back to: where what is under way began
    reason: Reason | None = None
    notes: list[tuple[Reason, LeafNode]] = field(default_factory=list)
    points: tuple[str, ...] = ()
    pokes: list[Ref] = field(default_factory=list)

    def begin(self, number: int, *, immediate: bool = False) -> None:
        """Go on to another rule."""
        self.number = number
        self.immediate = immediate
        self.again_s = inf
        self.unknown = False
        self.reason = self.armed = None
        self.points = ()
        if self.notes or self.pokes:
            self.notes, self.pokes = [], []

    def again(self, at_s: float) -> None:
        """Ask to be looked at again at this time."""
        self.again_s = min(self.again_s, at_s)

    def excused(self, device: str, point: str) -> bool:
        """Whether what a point says is no reason to believe another: it is out of service, or in walk test."""
        return self.places.excused(device, point, self.wall_ms, self.immediate)


@dataclass(slots=True)
class _Vote:
    label: str
    ref: Ref
    until_s: float  # inf while it holds


class Places:
    """Which points of a place have seen something, for each rule that asks for several. Bounded: `VOTES_MAX` a place and rule.

    `excused` says which of them bear nothing out.
    """

    def __init__(self) -> None:
        self._votes: dict[tuple[object, ...], dict[tuple[str, str], _Vote]] = {}
        self.dropped = 0
        self.excused: Excused = lambda *_: False

    def __len__(self) -> int:
        return len(self._votes)

    def hold(self, ballot: tuple[object, ...], voter: tuple[str, str], ref: Ref) -> None:
        """A point sees it, until it says otherwise."""
        votes = self._votes.setdefault(ballot, {})
        if voter not in votes and len(votes) >= VOTES_MAX:
            del votes[min(votes, key=lambda one: votes[one].until_s)]
            self.dropped += 1
        votes[voter] = _Vote("/".join(voter), ref, inf)

    def until(self, ballot: tuple[object, ...], voter: tuple[str, str], until_s: float) -> None:
        """A point sees it no more; it counts until then."""
        votes = self._votes.get(ballot)
        if votes is not None and voter in votes:
            votes[voter].until_s = until_s

    def withdraw(self, ballot: tuple[object, ...], voter: tuple[str, str]) -> None:
        """A point counts no more."""
        votes = self._votes.get(ballot)
        if votes is not None and votes.pop(voter, None) is not None and not votes:
            del self._votes[ballot]

    def forget(self, ref: Ref) -> None:
        """What a rule of a track has voted counts no more: the rule is gone."""
        for ballot in list(self._votes):
            for voter in [name for name, vote in self._votes[ballot].items() if vote.ref == ref]:
                self.withdraw(ballot, voter)

    def others(self, ballot: tuple[object, ...], voter: tuple[str, str], moment_s: float) -> Iterator[tuple[str, Ref]]:
        """The other points that count at this moment: label and rule of each; what has run out is forgotten."""
        votes = self._votes.get(ballot, {})
        for other in [name for name, vote in votes.items() if vote.until_s < moment_s and name != voter]:
            del votes[other]
        for name, vote in votes.items():
            if name != voter:
                yield vote.label, vote.ref
