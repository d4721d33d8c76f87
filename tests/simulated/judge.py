"""What must be true of a run, whatever was broken in it.

caught        every fire that a device saw is in an incident of its premises that was open then
in time       within a second of being seen and sent, plus whatever was broken meanwhile
delivered     each incident's alarm has reached every receiver, its reset too
once          a second incident of a premises has a cause that was made after the reset of the first (or told late)
no phantom    every incident has a cause, and that reading was of a device that saw fire; receivers know no other incident
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
from tests.simulated.script import RESEND_S, Burn
from tests.simulated.world import LINK_LOOK_S, World

LIMIT_S = 1.0  # with nothing broken; the contract's own targets are milliseconds, benchmarks measure them
RETRY_S = 16.0  # after a receiver was mended: the longest pause of a dispatcher, and a reply that never came
TAKEOVER_S = 2.5  # after a replica died or came back: a lease of one second, a poll, a start
BEGUN_S = 1.0  # what a replica had in its hands when it died
MEAN_S = 8.0  # of the default rules: a mean may still be high when its newest reading is not


@dataclass(slots=True)
class Outcome:
    """What happened, and what should not have."""

    history: list[str]
    broken: list[str] = field(default_factory=list)
    incidents: int = 0
    undisturbed_s: list[float] = field(default_factory=list)  # seen → acknowledged by a receiver, where nothing was broken


class _Incident(NamedTuple):
    id: str
    premises: str
    state: str
    decided_ms: float
    closed_ms: float | None
    causes: tuple[tuple[str, int, str], ...]  # device, number, rule


def judge(world: World, journal: Path) -> Outcome:
    """Hold a run against what was promised."""
    with contextlib.closing(connect_readonly(journal)) as connection:
        causes: dict[str, list[tuple[str, int, str]]] = {}
        for row in connection.execute("SELECT incident, device, seq, rule FROM cause WHERE incident IS NOT NULL"):
            causes.setdefault(row[0], []).append((row[1], row[2], row[3]))
        rows = connection.execute("SELECT id, premises, state, decided_ms, closed_ms FROM incident ORDER BY rowid").fetchall()
        incidents = [_Incident(row[0], row[1], row[2], row[3], row[4], tuple(causes.get(row[0], ()))) for row in rows]
    outcome = Outcome(world.history, incidents=len(incidents))
    for check in (_phantoms, _once, _delivered, _caught):
        outcome.broken += check(world, incidents)
    outcome.broken += _kept(world)
    outcome.undisturbed_s = list(_undisturbed(world, incidents))
    return outcome


def _phantoms(world: World, incidents: list[_Incident]) -> Iterator[str]:
    for one in incidents:
        if not one.causes:
            yield f"{one.id} has no cause"
        for device, number, rule in one.causes:
            every = world.devices[device].every
            if not any(every[n].fire and every[n].made_s >= every[number].made_s - MEAN_S for n in range(1, number + 1)):
                yield f"{one.id} is caused by {rule} of {device} {number}, which saw no fire"
    known = {one.id for one in incidents}
    for name, receiver in world.receivers.items():
        for told in sorted({incident for _, incident, *_ in receiver.seen} - known):
            yield f"{name} was told of {told}, which nobody knows"


def _once(world: World, incidents: list[_Incident]) -> Iterator[str]:
    for place in world.script.premises:
        here = [one for one in incidents if one.premises == place]
        if sum(one.state == "open" for one in here) > 1:
            yield f"{place} has two open incidents"
        for earlier, later in itertools.pairwise(here):
            closed_s = _reset_s(world, earlier.id)
            said = [world.devices[device].every[number] for device, number, _ in later.causes]
            if closed_s is None:
                yield f"{later.id} was opened although {earlier.id} was never reset"
            elif all(one.made_s < closed_s and not _late(world, one.made_s, closed_s) for one in said):
                yield f"{later.id} is the fire of {earlier.id} again"


def _reset_s(world: World, incident: str) -> float | None:
    return next((float(line.split(" ", 1)[0]) for line in world.history if line.endswith(f" reset {incident}")), None)


def _late(world: World, made_s: float, closed_s: float) -> bool:
    """Whether a reading may have been on its way when the incident was reset: something was broken in between."""
    return any(span.at_s <= closed_s + 1.0 and span.until_s + span.after_s >= made_s for span in _disturbances(world)) or (
        closed_s - made_s < 4 * world.script.latency_s + 0.5
    )


def _delivered(world: World, incidents: list[_Incident]) -> Iterator[str]:
    for one in incidents:
        for name, receiver in world.receivers.items():
            for event in ("alarm", *(("restore",) if one.state == "closed" else ())):
                if (one.id, event) not in receiver.acknowledged:
                    yield f"{name} never got the {event} of {one.id}"
            events = [event for _, incident, event, _ in receiver.seen if incident == one.id]
            if "restore" in events and events.index("restore") < events.index("alarm"):
                yield f"{name} got the restore of {one.id} before its alarm"


def _caught(world: World, incidents: list[_Incident]) -> Iterator[str]:
    for burn, place in _burns(world):
        found = _incident_of(world, burn, place, incidents)
        if found is None and _told_late(world, burn):
            continue
        if found is None:
            yield f"the fire that {burn.device} saw at {burn.at_s:.3f} is in no incident"
            continue
        told_s = min(receiver.acknowledged.get((found.id, "alarm"), 1e9) for receiver in world.receivers.values())
        seen_s = min(said.made_s for said in world.devices[burn.device].every.values() if said.fire and said.made_s >= burn.at_s)
        limit_s = seen_s + LIMIT_S + 6 * world.script.latency_s + _excuse_s(world, seen_s, burn.device)
        if told_s > limit_s:
            yield f"{found.id}: {burn.device} saw fire at {seen_s:.3f}, acknowledged at {told_s:.3f}, limit {limit_s:.3f}"


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


def _incident_of(world: World, burn: Burn, place: str, incidents: list[_Incident]) -> _Incident | None:
    """The incident that was open for this fire: it or an earlier point opened it, and nobody had closed it before."""
    for one in incidents:
        reset_s = _reset_s(world, one.id)
        if one.premises == place and (reset_s is None or reset_s > burn.at_s):
            return one
    return None


class _Disturbance(NamedTuple):
    """Something was broken, and how long its consequences last."""

    what: str
    at_s: float
    until_s: float
    after_s: float


def _disturbances(world: World) -> list[_Disturbance]:
    after_s = {"broker": RESEND_S, "arc": RETRY_S, "cad": RETRY_S}
    found = [
        _Disturbance(span.what, span.at_s, span.until_s, RESEND_S if span.kind == "cut" else after_s.get(span.what, TAKEOVER_S))
        for span in world.script.spans
    ]
    return found + [_Disturbance(name, at_s, until_s, TAKEOVER_S) for name, at_s, until_s in _deaths(world)]


def _deaths(world: World) -> Iterator[tuple[str, float, float]]:
    """Each time that a replica was dead."""
    dead: dict[str, float] = {}
    for line in world.history:
        at_s, what = line.split(" ", 1)
        name, _, word = what.partition(" ")
        if word == "is killed":
            dead[name] = float(at_s)
        elif word == "starts" and name in dead:
            yield name, dead.pop(name), float(at_s)


def _excuse_s(world: World, seen_s: float, device: str) -> float:
    """How much longer it may take than it should: until what stood in its way is mended, and the consequences have passed.

    One replica of several, or one receiver of two, is no excuse but for what the dead one had begun: its lease.
    """
    wrong = [one for one in _disturbances(world) if one.until_s + one.after_s > seen_s]
    excuses = [0.0]
    for one in wrong:
        left_s = one.until_s + one.after_s - seen_s
        peers = {f"replica-{n}" for n in range(world.script.replicas)} if one.what.startswith("replica") else {"arc", "cad"}
        if one.what in {"broker", "journal", device} or peers <= {other.what for other in wrong}:
            excuses.append(left_s)
        elif one.what.startswith("replica") and one.at_s < seen_s + BEGUN_S:
            excuses.append(TAKEOVER_S)
    return max(excuses)


def _kept(world: World) -> Iterator[str]:
    for device in world.devices.values():
        lost = [number for number in range(1, device.receipted + 1) if (device.name, number) not in world.stored]
        if lost:
            yield f"{device.name}: {lost} are receipted and were never stored"


def _undisturbed(world: World, incidents: list[_Incident]) -> Iterator[float]:
    if _disturbances(world):
        return
    for one in incidents:
        device, number, _ = one.causes[0]
        told_s = min(receiver.acknowledged.get((one.id, "alarm"), 1e9) for receiver in world.receivers.values())
        yield told_s - world.devices[device].every[number].made_s
