"""A decision of the rules as the journal takes it: where it burns, what says so, and what may be done with it. Pure."""

from __future__ import annotations

from iotcore.alarms import escalate, responders
from iotcore.alarms.decisions import Decision
from iotcore.alarms.planned import planned
from iotcore.journal.records import FIRE_SEVERITY, Raise
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory

LATE_DISPATCH_MS = 15 * 60_000  # a backlog reading older than this is a historical record (wire contract, Time)


def old(reading: Reading) -> bool:
    """Whether it was held back for so long that it is a record, and no reason to send a crew."""
    return reading.backlog and reading.age_ms > LATE_DISPATCH_MS


def is_live_fire(one: Raise) -> bool:
    """Whether a crew must hear of it: no test, no record, no trouble, nothing of what is disabled."""
    return one.notice.severity == FIRE_SEVERITY and not one.test and not one.historical and not one.disabled


def raised(decision: Decision, reading: Reading, binding: Binding, directory: Directory, decided_ms: float) -> Raise:
    """What the journal makes a cause, an alarm and perhaps an incident of."""
    in_test = directory.in_test.get(binding.device)
    if in_test is not None and (reading.backlog or reading.retained or not in_test.covers(reading.received_ms)):
        in_test = None
    plan = directory.response(binding.premises)
    one = Raise(
        boot=reading.boot,
        seq=reading.seq,
        notice=responders.notice(decision, reading, binding, directory, decided_ms),
        detector_ms=reading.observed_ms,
        received_ms=reading.received_ms,
        decided_ms=decided_ms,
        test=reading.test,
        historical=old(reading),
        in_test=in_test,
        can_mark=binding.spec.marks_tests,
        answer_s=escalate.ladder(plan, decided_ms)[0].after_s,
    )
    return planned(one, plan, immediate=decision.immediate)
