"""What people want of the fire lane, applied in the order in which they asked, each once, also after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from iotcore.alarms.engine import Engine
from iotcore.alarms.lane import FireLane
from iotcore.dispatch.outbox import Dispatcher
from iotcore.journal import parked, retry
from iotcore.journal.journal import Journal
from iotcore.journal.quarantine import Row, Wanted
from iotcore.process.follow import Follower
from iotcore.registry.records import Intent

INTENT_CURSOR = "intent"


class Intents:
    """Applies what people want of the fire lane, and remembers how far it came."""

    def __init__(self, lane: FireLane, follower: Follower, engine: Engine, journal: Journal, dispatcher: Dispatcher) -> None:
        self._lane = lane
        self._follower = follower
        self._engine = engine
        self._journal = journal
        self._dispatcher = dispatcher

    async def __call__(self, intent: Intent) -> None:
        if intent.kind == "acknowledge":
            await asyncio.to_thread(self._journal.acknowledge, intent.key, intent.by, self._journal.now_ms())
        elif intent.kind == "reset":
            await self._reset(intent)
        elif intent.kind in {"send", "withhold"}:
            decision: Literal["send", "drop"] = "send" if intent.kind == "send" else "drop"
            await asyncio.to_thread(parked.decide, self._journal, intent.key, decision, intent.by)
            self._dispatcher.wake()
        elif (wanted := retry.asked("fire", intent.key)) is not None:
            answer = await retry.carry_out(cast("retry.Verb", intent.kind), wanted, self)
            await asyncio.to_thread(self._journal.answer, intent.id, msgspec.json.encode(answer).decode())
        await asyncio.to_thread(self._journal.move_cursor, INTENT_CURSOR, intent.id)

    async def rows(self, wanted: Wanted, limit: int, after: int) -> list[Row]:
        return await asyncio.to_thread(self._journal.quarantined, wanted, limit, after)

    async def drop(self, wanted: Wanted) -> int:
        return await asyncio.to_thread(self._journal.drop_quarantined, wanted)

    async def retry(self, rows: Sequence[Row], answer: retry.Answer) -> None:
        await self._lane.retry(rows, answer)

    async def _reset(self, intent: Intent) -> None:
        premises = await asyncio.to_thread(self._journal.premises_of, intent.key)
        devices = [b.device for b in self._follower.directory.devices.values() if (b.premises or b.device) == premises]
        if await asyncio.to_thread(self._journal.reset, intent.key, devices, intent.by, self._journal.now_ms()):
            self._engine.reset(devices)
            self._dispatcher.wake()
