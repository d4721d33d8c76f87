"""What responders are told of an alarm: the place, the first point, and what is known around it. Pure, from the Directory alone.

    decision + reading + binding ─► notice() ─► Notice
                                       └ people and water, signals and stations

It costs the fire lane a few microseconds and never a query. What air stations measured is not known here: that follows as an
update.
"""

from __future__ import annotations

from iotcore.alarms.decisions import Decision
from iotcore.journal.facts import Near, Number, Person
from iotcore.journal.records import Notice
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory, Premises
from iotcore.registry.landmarks import LandmarkClass, near

SIGNALS_WITHIN_M = 1_000.0  # junctions on the last minute of the way
STATIONS_WITHIN_M = 5_000.0  # smoke of a large fire reaches as far; stations stand far apart
MOST_SIGNALS = 5
MOST_STATIONS = 3
MOST_PEOPLE = 8
NO_ACCOUNT = "0000"


def notice(decision: Decision, reading: Reading, binding: Binding, directory: Directory, decided_ms: float) -> Notice:
    """The notice of a decision, complete but for its incident's id."""
    premises = directory.premises.get(binding.premises)
    zone = directory.zones.get(binding.zone)
    return Notice(
        incident="",
        event="alarm",
        hazard=decision.hazard,
        severity=decision.severity,
        premises=binding.premises or binding.device,  # a detector without a building still burns: its own name is the place
        premises_name=premises.name if premises else binding.title,
        address=premises.address if premises else "",
        latitude=premises.latitude if premises else 0.0,
        longitude=premises.longitude if premises else 0.0,
        account=premises.account if premises else NO_ACCOUNT,
        zone=binding.zone,
        zone_number=zone.number if zone else 0,
        zone_name=zone.name if zone else "",
        floor=zone.floor if zone else "",
        device=binding.device,
        point=decision.point,
        value=decision.value,
        unit=decision.unit,
        rule=decision.rule,
        reason=str.__str__(decision.reason),  # the name itself, not "Reason.…"
        occurred_ms=reading.observed_ms,
        delayed=reading.backlog,
        unconfirmed=reading.retained,
        title=binding.title,
        location=binding.location,
        risk_class=premises.risk_class if premises else "",
        hydrants=premises.hydrants if premises else "",
        people=people(directory, binding.premises),
        signals=_near(directory, premises, "traffic_signal", SIGNALS_WITHIN_M, MOST_SIGNALS),
        stations=_near(directory, premises, "air_station", STATIONS_WITHIN_M, MOST_STATIONS),
        numbers=numbers(directory, binding.premises),
        decided_ms=decided_ms,
    )


def people(directory: Directory, premises: str) -> tuple[Person, ...]:
    """Whom a crew calls for a building, who has the keys first."""
    known = directory.contacts.get(premises, ())[:MOST_PEOPLE]
    return tuple(Person(one.name, one.phone, one.role, one.key_holder) for one in known)


def numbers(directory: Directory, premises: str) -> tuple[Number, ...]:
    """The telephones of a building's response plan, in the order in which they are called."""
    return tuple(Number(one.name, one.number, one.by, one.language) for one in directory.response(premises).numbers)


def _near(directory: Directory, at: Premises | None, kind: LandmarkClass, within_m: float, most: int) -> tuple[Near, ...]:
    if at is None:
        return ()
    found = near(directory.landmarks, at.latitude, at.longitude, kind, within_m=within_m, most=most)
    return tuple(Near(one.landmark.device, one.landmark.title, round(one.metres)) for one in found)
