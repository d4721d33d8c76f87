"""Requests: what people want of a telemetry worker's quarantine, told by the registry, answered in the worker's own file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from iotcore.journal import retry
from iotcore.registry.records import Intent
from iotcore.telemetry.lane import TelemetryLane
from iotcore.telemetry.spool import Spool


def carried_out(lane: TelemetryLane, spool: Spool) -> Callable[[Intent], Awaitable[None]]:
    """What to do with an intent; all that is not for this worker is passed over."""

    async def apply(intent: Intent) -> None:
        if intent.kind in {"retry", "drop"} and (wanted := retry.asked(spool.lane, intent.key)) is not None:
            answer = await retry.carry_out(intent.kind, wanted, lane)
            await spool.answer(intent.id, msgspec.json.encode(answer).decode())

    return apply
