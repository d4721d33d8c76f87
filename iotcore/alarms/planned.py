"""What the response plan of a premises makes of a decision there: who is told, who is called, whether it waits. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from iotcore.journal.facts import Number
from iotcore.journal.records import FIRE_SEVERITY, Hold, Raise
from iotcore.registry.response import DEFAULT, Delay, Response


def planned(one: Raise, plan: Response, *, immediate: bool) -> Raise:
    """The decision with the plan's receivers, numbers and hold. A call point, a waterflow and late news wait for nobody."""
    if plan is DEFAULT or one.notice.severity != FIRE_SEVERITY:
        return one
    numbers = tuple(Number(who.name, who.number, who.by, who.language) for who in plan.numbers)
    notice = msgspec.structs.replace(one.notice, numbers=numbers) if numbers else one.notice
    waits = not immediate and not one.notice.delayed and not one.notice.unconfirmed
    return replace(one, notice=notice, receivers=plan.receivers, hold=_hold(plan.delay, one.decided_ms) if waits else None)


def _hold(delay: Delay | None, at_ms: float) -> Hold | None:
    if delay is None or (delay.when is not None and not delay.when.active(at_ms)):
        return None
    return Hold(float(delay.t1_s), float(delay.t2_s))
