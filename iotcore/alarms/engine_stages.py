"""Stages before a fire: verification of one detector, and coincidence of several. Pure.

    first seen ─► first alarm ─┬ lasts, comes again, is borne out, or not known to be over after 60 s ─► fire
                               └ known to be over, or alone for too long ─► cancelled, by name

Nothing that is cancelled blocks a second one, and what still holds counts for another all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from iotcore.alarms.conditions import DELAY_MAX_S
from iotcore.alarms.decisions import Reason, bare
from iotcore.alarms.engine_memory import Look, Pending
from iotcore.alarms.engine_nodes import LeafNode, Node, Verdict
from iotcore.alarms.window import TOLERANCE_S

Place = Literal["zone", "premises"]
FLICKER_S = 10.0  # our own: what comes and goes faster hovers at the threshold, and lasts; it is not seen twice
FALLEN = 0.7  # our own: of its highest since the first alarm; a fire grows, what somebody has sprayed or swept up thins out
SMOKE = "smoke"  # the ballot of the profile `verified`; those of rules are numbers


@dataclass(frozen=True, slots=True)
class Verified:
    """A `verification`; with `joined` a second criterion of the device, or a second detector of the premises, confirms it too."""

    number: int
    part: Node
    lasts_s: float
    again_within_s: float
    joined: bool

    def judge(self, look: Look) -> Verdict:
        """Confirmed: what its part says. Before: False, and the part's start and end are noted."""
        verdict = self.part.judge(look)
        pending = look.memory.pending.get(self.number)
        if pending is None:
            if not verdict:
                return verdict
            pending = _begin(self.number, verdict, look)
        elif pending.confirmed:
            if verdict is False:
                self._end(pending, look)
            return verdict
        look.armed = pending.reading
        value = pending.leaf.value(look.memory)
        pending.top = max(pending.top, value) if isinstance(value, float | int) else pending.top
        if self.joined:
            _attend(self._ballot(look), pending, verdict, look, until_s=look.moment_s + self.again_within_s)
        reason = self._confirmed(pending, verdict, look)
        if reason is not None:
            return _confirm(pending, reason, look)
        return self._wait(pending, verdict, look)

    def resume(self, look: Look, leaf: LeafNode) -> None:
        """Its hard maximum is at the moment of this look."""
        pending = Pending(look.at_s - DELAY_MAX_S, leaf, look.reading, look.moment_s)
        look.memory.pending[self.number] = pending

    def _confirmed(self, pending: Pending, verdict: Verdict, look: Look) -> Reason | None:  # noqa: PLR0911 - one for each reason
        """Why it is a fire by now; None when it is none yet."""
        if verdict is None:
            return Reason.NOT_VERIFIED if look.at_s >= pending.first_s + DELAY_MAX_S - TOLERANCE_S else None
        if verdict is False:
            return None
        if pending.cleared_s is not None and look.at_s < pending.cleared_s + FLICKER_S - TOLERANCE_S:
            pending.cleared_s = None  # it has gone on all the time
        if pending.cleared_s is not None:
            return Reason.SEEN_AGAIN if look.at_s <= pending.cleared_s + self.again_within_s + TOLERANCE_S else None
        if look.at_s >= self._due_s(pending, look) - TOLERANCE_S:
            return Reason.LASTED
        if not self.joined:
            return None
        memory = look.memory
        others = [memory.raised[number] for number in memory.criteria & memory.raised.keys() if number not in memory.returned]
        if not all(look.excused(look.binding.device, one.leaf.point) for one in others):
            return Reason.SECOND_CRITERION
        return Reason.SECOND_POINT if _borne_out(self._ballot(look), pending, look, 1) else None

    def _wait(self, pending: Pending, verdict: Verdict, look: Look) -> Literal[False] | None:
        """Not a fire yet: until when, or that it was none."""
        if verdict is None:
            look.again(pending.first_s + DELAY_MAX_S)
            return None
        if verdict is not False:
            if pending.cleared_s is not None:  # it came too late to be the same one
                self._end(pending, look)
                look.notes.append((Reason.NOT_CONFIRMED, pending.leaf))
                _begin(self.number, verdict, look)
                look.again(look.at_s + self.lasts_s)
            else:
                look.again(self._due_s(pending, look))
            return False
        if pending.cleared_s is None:
            pending.cleared_s = look.at_s
        if look.at_s > pending.cleared_s + self.again_within_s + TOLERANCE_S:
            self._end(pending, look)
            look.notes.append((Reason.NOT_CONFIRMED, pending.leaf))
        else:
            look.again(pending.cleared_s + self.again_within_s + 2 * TOLERANCE_S)
        return False

    def _due_s(self, pending: Pending, look: Look) -> float:
        """When it has lasted: in the profile `verified` what thins out gets the hard maximum, everything else `lasts_s`."""
        value = pending.leaf.value(look.memory)
        thinning = self.joined and isinstance(value, float | int) and value < FALLEN * pending.top
        return pending.first_s + (DELAY_MAX_S if thinning else self.lasts_s)

    def _end(self, pending: Pending, look: Look) -> None:
        del look.memory.pending[self.number]
        if self.joined:
            look.places.withdraw(self._ballot(look), _voter(pending, look))

    def _ballot(self, look: Look) -> tuple[object, ...]:
        return (SMOKE, look.binding.premises or look.binding.device, look.key[1:])


@dataclass(frozen=True, slots=True)
class Voted:
    """A `coincidence`: several points of one place. `ballot` is what they vote on, the same for all points of the rule."""

    number: int
    ballot: int
    part: Node
    place: Place
    count: int
    within_s: float

    def judge(self, look: Look) -> Verdict:
        """What its part says, while enough others of the place say so too."""
        verdict = self.part.judge(look)
        pending = look.memory.pending.get(self.number)
        if pending is None:
            if not verdict:
                return verdict
            pending = _begin(self.number, verdict, look)
        look.armed = pending.reading
        ballot = self._ballot(look)
        _attend(ballot, pending, verdict, look, until_s=max(pending.moment_s + self.within_s, look.moment_s))
        if pending.confirmed:
            if verdict is False:
                self._end(pending, look)
            return verdict
        borne_out = _borne_out(ballot, pending, look, self.count - 1)
        if not verdict:
            look.pokes = []
        elif borne_out:
            return _confirm(pending, Reason.SECOND_POINT, look)
        return self._wait(pending, verdict, look, borne_out=borne_out)

    def resume(self, look: Look, leaf: LeafNode) -> None:
        """Its first alarm is cancelled at the moment of this look; until then it counts for a second."""
        pending = Pending(look.at_s - self.within_s, leaf, look.reading, look.moment_s)
        look.memory.pending[self.number] = pending
        look.places.hold(self._ballot(look), _voter(pending, look), (look.key, look.number))

    def _wait(self, pending: Pending, verdict: Verdict, look: Look, *, borne_out: bool) -> Literal[False] | None:
        over = look.at_s >= pending.first_s + self.within_s - TOLERANCE_S
        if verdict is False and (over or borne_out):
            self._end(pending, look)
            self._cancel(pending, look, Reason.CONFIRMED if borne_out else Reason.ALONE)
        elif over:
            self._cancel(pending, look, Reason.ALONE)
        elif not pending.cancelled:
            look.again(pending.first_s + self.within_s)
        return None if verdict is None else False

    def _cancel(self, pending: Pending, look: Look, reason: Reason) -> None:
        if not pending.cancelled:
            pending.cancelled = True
            look.notes.append((reason, pending.leaf))

    def _end(self, pending: Pending, look: Look) -> None:
        del look.memory.pending[self.number]
        look.places.withdraw(self._ballot(look), _voter(pending, look))

    def _ballot(self, look: Look) -> tuple[object, ...]:
        premises = look.binding.premises or look.binding.device
        place = (premises, look.binding.zone) if self.place == "zone" else (premises,)
        return (self.ballot, place, look.key[1:])


def _begin(number: int, leaf: LeafNode, look: Look) -> Pending:
    pending = look.memory.pending[number] = Pending(look.at_s, leaf, bare(look.reading), look.moment_s)
    look.notes.append((Reason.FIRST_ALARM, leaf))
    return pending


def _confirm(pending: Pending, reason: Reason, look: Look) -> LeafNode:
    pending.confirmed = True
    look.reason = reason
    if not pending.cancelled:
        look.notes.append((Reason.CONFIRMED, pending.leaf))
    return pending.leaf


def _named(label: str) -> tuple[str, str]:
    device, _, point = label.partition("/")
    return device, point


def _voter(pending: Pending, look: Look) -> tuple[str, str]:
    return (look.binding.device, pending.leaf.point)


def _attend(ballot: tuple[object, ...], pending: Pending, verdict: Verdict, look: Look, until_s: float) -> None:
    """Say in the place whether this point sees it; of what is unknown, what was said last stays."""
    if verdict:
        look.places.hold(ballot, _voter(pending, look), (look.key, look.number))
    elif verdict is False and pending.cleared_s is None:
        look.places.until(ballot, _voter(pending, look), until_s)


def _borne_out(ballot: tuple[object, ...], pending: Pending, look: Look, wanted: int) -> bool:
    """Whether so many others see it: for the smoke of a premises other detectors, else other points; none that is disabled."""
    found = look.places.others(ballot, _voter(pending, look), look.moment_s)
    others = [one for one in found if not look.excused(*_named(one[0]))]
    if ballot[0] == SMOKE:
        others = [one for one in others if one[1][0][0] != look.binding.device]
    if len(others) < wanted:
        return False
    look.points = tuple(label for label, _ in others)
    look.pokes = [ref for _, ref in others]  # this one bears them out too
    return True
