"""What must be true of a run, whatever was broken in it.

caught        every fire that a device saw is in an incident of its premises that was open then
in time       within a second of being seen and sent, plus whatever was broken meanwhile, and T1 and T2 where the plan has them
delivered     each incident's alarm has reached every receiver, its reset too; an alternate path when its first was late
once          a second incident of a premises has a cause that was made after the reset of the first (or told late)
no phantom    every incident has a cause, and that reading was of a device that saw fire; receivers know no other incident, but
              for another name of one, which its story tells: replicas without a journal that heard two points in another order
out of order  what is disabled or walked sends nobody while it is, and what still burns afterwards does
kept          what is receipted was committed
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from iotcore.journal.database import connect_readonly
from iotcore.journal.disablements import AGAIN
from iotcore.journal.story import CANCELLED, RECONCILED
from tests.simulated.broken import HEDGED_S, disturbances, excuse_s, may_be_late
from tests.simulated.script import T1_S, T2_S, Burn, Outage
from tests.simulated.world import LINK_LOOK_S, World

LIMIT_S = 1.0  # with nothing broken; the contract's own targets are milliseconds, benchmarks measure them
MEAN_S = 8.0  # of the default rules: a mean may still be high when its newest reading is not
HOPS = 6  # latencies between a device and the acknowledgement, at most twice the script's each
REFRESH_S = 0.5  # until every replica knows what the registry says
OUTAGE_LOOK_S = 1.2  # two looks at what is no longer disabled
HOLD_LOOK_S = 0.6  # two looks at holds that are over
NO_MOMENT_S = 1e9


class Cause(NamedTuple):
    """A reading and the rule that it met; `again`: it had been exempt, and is raised anew since it is so no more."""

    device: str
    number: int
    rule: str
    again: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """As the journal has it."""

    id: str
    premises: str
    state: str
    cancelled: bool  # reset while it was held: nobody was told
    causes: tuple[Cause, ...]
    also: frozenset[str] = frozenset()  # names that it went out under, too, while two replicas had no journal to agree by


@dataclass(slots=True)
class Outcome:
    """What happened, and what should not have."""

    history: list[str]
    broken: list[str] = field(default_factory=list)
    incidents: int = 0
    undisturbed_s: list[float] = field(default_factory=list)  # seen → acknowledged by a receiver, where nothing was broken


def judge(world: World, journal: Path) -> Outcome:
    """Hold a run against what was promised."""
    incidents = _read(journal)
    outcome = Outcome(world.history, incidents=len(incidents), broken=list(world.defects))
    for check in (_phantoms, _exempt, _once, _delivered, _hedged, _caught):
        outcome.broken += check(world, incidents)
    outcome.broken += _kept(world)
    outcome.undisturbed_s = list(_undisturbed(world, incidents))
    return outcome


def _read(journal: Path) -> list[Incident]:
    with contextlib.closing(connect_readonly(journal)) as connection:
        exempt: dict[tuple[str, str], int] = {}
        causes: dict[str, list[Cause]] = {}
        for device, boot, seq, rule, incident in connection.execute(
            "SELECT device, boot, seq, rule, incident FROM cause ORDER BY rowid"
        ):
            if incident is None:
                exempt.setdefault((device, rule), seq)
            else:
                again = boot == AGAIN
                number = exempt.get((device, rule), 0) if again else seq
                causes.setdefault(incident, []).append(Cause(device, number, rule, again))
        cancelled = {one for (one,) in connection.execute("SELECT incident FROM incident_event WHERE kind = ?", (CANCELLED,))}
        also: dict[str, set[str]] = {}
        for incident, detail in connection.execute("SELECT incident, detail FROM incident_event WHERE kind = ?", (RECONCILED,)):
            also.setdefault(incident, set()).add(detail.rpartition(" as ")[2])
        rows = connection.execute("SELECT id, premises, state FROM incident ORDER BY rowid").fetchall()
    return [
        Incident(id_, place, state, id_ in cancelled, tuple(causes.get(id_, ())), frozenset(also.get(id_, ())))
        for id_, place, state in rows
    ]


def _phantoms(world: World, incidents: list[Incident]) -> Iterator[str]:
    for one in incidents:
        if not one.causes:
            yield f"{one.id} has no cause"
        for device, number, rule, _ in one.causes:
            every = world.devices[device].every
            if not any(every[n].fire and every[n].made_s >= every[number].made_s - MEAN_S for n in range(1, number + 1)):
                yield f"{one.id} is caused by {rule} of {device} {number}, which saw no fire"
    known = {name for one in incidents for name in (one.id, *one.also)}
    for name, receiver in world.receivers.items():
        for told in sorted({incident for _, incident, *_ in receiver.seen} - known):
            yield f"{name} was told of {told}, which nobody knows"


def _exempt(world: World, incidents: list[Incident]) -> Iterator[str]:
    """Nothing that is out of service sends anybody; a clock that is set forward may end that early."""
    if any(by_s > 0.0 for steps in world.script.clock_steps for _, by_s in steps):
        return
    for name, cause in ((one.id, cause) for one in incidents for cause in one.causes if not cause.again):
        made_s = world.devices[cause.device].every[cause.number].made_s
        for outage in _outages(world, cause.device):
            if outage.at_s + REFRESH_S <= made_s < outage.until_s and not may_be_late(world, made_s, outage.until_s):
                yield f"{name} is caused by {cause.device} {cause.number}, which was out of service ({outage.kind})"


def _once(world: World, incidents: list[Incident]) -> Iterator[str]:
    for place in world.script.premises:
        here = [one for one in incidents if one.premises == place]
        if sum(one.state == "open" for one in here) > 1:
            yield f"{place} has two open incidents"
        for earlier, later in itertools.pairwise(here):
            closed_s = _reset_s(world, earlier.id)
            said = [world.devices[one.device].every[one.number].made_s for one in later.causes if not one.again]
            if closed_s is None:
                yield f"{later.id} was opened although {earlier.id} was never reset"
            elif said and all(made_s < closed_s and not may_be_late(world, made_s, closed_s) for made_s in said):
                yield f"{later.id} is the fire of {earlier.id} again"


def _reset_s(world: World, incident: str) -> float | None:
    return _moment(world, f" reset {incident}")


def _moment(world: World, what: str) -> float | None:
    """When it happened first; what people do is in the history."""
    return next((float(line.split(" ", 1)[0]) for line in world.history if line.endswith(what)), None)


def _delivered(world: World, incidents: list[Incident]) -> Iterator[str]:
    for one in incidents:
        for name, receiver in world.receivers.items():
            events = [event for _, incident, event, _ in receiver.seen if incident == one.id]
            told = "alarm" in events or (name != "arc-b" and not one.cancelled)
            for event in ("alarm", *(("restore",) if one.state == "closed" else ())) if told else ():
                if (one.id, event) not in receiver.acknowledged:
                    yield f"{name} never got the {event} of {one.id}"
            if "restore" in events and ("alarm" not in events or events.index("restore") < events.index("alarm")):
                yield f"{name} got the restore of {one.id} before its alarm"


def _hedged(world: World, incidents: list[Incident]) -> Iterator[str]:
    """What the first path has not acknowledged in time has reached the alternate."""
    if not world.script.alternate:
        return
    for one in incidents:
        seen = [at_s for receiver in world.receivers.values() for at_s, incident, event, _ in receiver.seen
                if (incident, event) == (one.id, "alarm")]  # fmt: skip
        until_s = min(seen, default=NO_MOMENT_S) + HEDGED_S + HOPS * world.script.latency_s
        first, second = (world.receivers[name].acknowledged.get((one.id, "alarm"), NO_MOMENT_S) for name in ("arc", "arc-b"))
        others = [other for other in disturbances(world) if other.what != "arc" and other.at_s <= until_s]
        if first > until_s < second and not any(other.until_s + other.after_s >= min(seen) for other in others):
            yield f"arc-b got {one.id} at {second:.3f}, arc at {first:.3f}, limit {until_s:.3f}"


def _caught(world: World, incidents: list[Incident]) -> Iterator[str]:
    for burn, place in _burns(world):
        seen_s = min(said.made_s for said in world.devices[burn.device].every.values() if said.fire and said.made_s >= burn.at_s)
        live_s = _live_s(world, burn, seen_s)
        if live_s is None:
            continue  # it was over before it could send anybody
        found = _incident_of(world, burn.at_s if live_s == seen_s else live_s, place, incidents)
        if found is None and _told_late(world, burn):
            continue
        if found is None:
            yield f"the fire that {burn.device} saw at {burn.at_s:.3f} is in no incident"
            continue
        told_s = min(receiver.acknowledged.get((found.id, "alarm"), NO_MOMENT_S) for receiver in world.receivers.values())
        limit_s = live_s + LIMIT_S + HOPS * world.script.latency_s + excuse_s(world, live_s, burn.device)
        limit_s += (0.0 if live_s == seen_s else OUTAGE_LOOK_S) + _hold_s(world, burn, place)
        if told_s > limit_s and not (found.cancelled and (_reset_s(world, found.id) or NO_MOMENT_S) < limit_s):
            yield f"{found.id}: {burn.device} saw fire at {seen_s:.3f}, acknowledged at {told_s:.3f}, limit {limit_s:.3f}"
        if told_s < _earliest_s(world, seen_s, found, place):
            yield f"{found.id}: told at {told_s:.3f} although its plan waits, and nothing had cut that short"


def _outages(world: World, device: str) -> list[Outage]:
    return sorted((one for one in world.script.outages if one.holds(device)), key=lambda one: one.at_s)


def _live_s(world: World, burn: Burn, seen_s: float) -> float | None:
    """From when on a fire has to send a crew: once its device is in service. None: it was over by then."""
    live_s = seen_s
    for outage in _outages(world, burn.device):
        arrived_s = live_s + REFRESH_S + HOPS * world.script.latency_s + excuse_s(world, live_s, burn.device)
        if outage.at_s <= arrived_s and live_s < outage.until_s:
            live_s = outage.until_s
    return live_s if live_s == seen_s or burn.until_s > live_s else None


def _hold_s(world: World, burn: Burn, place: str) -> float:
    """How long the response plan may hold it back: no call point, and no second device."""
    if place not in world.script.delayed or world.devices[burn.device].is_call_point:
        return 0.0
    return T1_S + T2_S * any(where == place for where, _ in world.script.taken) + HOLD_LOOK_S


def _earliest_s(world: World, seen_s: float, incident: Incident, place: str) -> float:
    """Before that nobody is told: nothing is broken, and a single detector has seen it at premises whose plan waits."""
    alone = len({one.device for one in incident.causes}) == 1 and not world.devices[incident.causes[0].device].is_call_point
    if place not in world.script.delayed or not alone or disturbances(world) or any(one.again for one in incident.causes):
        return 0.0
    first_s = min(world.devices[one.device].every[one.number].made_s for one in incident.causes)
    taken_s = _moment(world, f" acknowledge {incident.id}")
    waits_s = first_s + T1_S if taken_s is None else min(first_s + T1_S, taken_s + T2_S)
    return waits_s if first_s <= seen_s else 0.0


def _told_late(world: World, burn: Burn) -> bool:
    """Whether it began and ended while nobody could hear its device: what is told late and is over is a record (wire contract).

    So is what came and went while every replica stood still, between a person's reset and its carrying out.
    """
    ears = [{"broker"}, {burn.device}, {f"replica-{number}" for number in range(world.script.replicas)}]
    spans = [span for span in world.script.spans if span.at_s - 0.5 <= burn.until_s and burn.at_s <= span.until_s + LINK_LOOK_S]
    return any(ear <= {one.what for one in spans} for ear in ears)


def _burns(world: World) -> Iterator[tuple[Burn, str]]:
    """Fires that a device has seen, with their premises; two that overlap are one."""
    for place, names in world.script.premises.items():
        for name in names:
            burns = sorted((burn for burn in world.script.burns if burn.device == name), key=lambda burn: burn.at_s)
            last_s = max((said.made_s for said in world.devices[name].every.values() if said.fire), default=-1.0)
            until_s = -1.0
            for burn in burns:
                if until_s < burn.at_s <= last_s:
                    yield burn, place
                until_s = max(until_s, burn.until_s)


def _incident_of(world: World, at_s: float, place: str, incidents: list[Incident]) -> Incident | None:
    """The incident that was open for a fire of then: it or an earlier point opened it, and nobody had closed it before."""
    for one in incidents:
        reset_s = _reset_s(world, one.id)
        if one.premises == place and (reset_s is None or reset_s > at_s):
            return one
    return None


def _kept(world: World) -> Iterator[str]:
    for device in world.devices.values():
        lost = [number for number in range(1, device.receipted + 1) if (device.name, number) not in world.stored]
        if lost:
            yield f"{device.name}: {lost} are receipted and were never stored"


def _undisturbed(world: World, incidents: list[Incident]) -> Iterator[float]:
    if disturbances(world) or world.script.delayed or world.script.outages:
        return
    for one in incidents:
        first = one.causes[0]
        told_s = min(receiver.acknowledged.get((one.id, "alarm"), NO_MOMENT_S) for receiver in world.receivers.values())
        yield told_s - world.devices[first.device].every[first.number].made_s
