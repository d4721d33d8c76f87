"""What a line's units told, on its way into the outbox: fire points do not wait behind others, and no poll waits for a disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from drivers.modbus.unit import Told, Unit
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.reading import Quality, Scalar, Value

VALUES_A_MESSAGE = 250
ALWAYS_FIT = 40  # values, were each of them the longest text
BYTES_A_MESSAGE = 48 * 1024  # a message holds 64 KiB with what else it says
VALUE_BYTES = 40  # a number with its quotes, colons and commas
TEXT_FACTOR = 3  # bytes of a character, on the safe side: Vietnamese letters in UTF-8
LONGEST_FW = 64  # characters; the wire's limit
WAITING_LIMIT = 1_000  # messages of one line and lane that an outbox has not taken yet; the oldest give way


class Put(Protocol):
    """Keeps a reading, as `Outbox.put` does."""

    async def __call__(
        self,
        domain: str,
        device: str,
        values: Mapping[str, Scalar | None],
        q: Mapping[str, str] | None = None,
        ts: int | None = None,
        *,
        kind: str = "reading",
        fw: str = "",
        test: bool = False,
    ) -> object: ...


@dataclass(slots=True)
class Counters:
    """Since the start."""

    polls: int = 0
    failed: int = 0  # polls in which not every request was answered
    not_kept: int = 0  # messages that the outbox could not keep
    events: int = 0  # changes of fire points that were told at once


@dataclass(frozen=True, slots=True)
class _Message:
    unit: Unit
    values: dict[str, Scalar | None]
    q: dict[str, str]
    ts: int
    kind: str
    fw: str
    test: bool


class Outgoing:
    """One lane of one line. `tell` never waits; `run` puts one message after the other, in order."""

    def __init__(self, put: Put, counters: Counters, clock: Clock) -> None:
        self._put = put
        self._counters = counters
        self._clock = clock
        self._waiting: deque[_Message] = deque()
        self._idle: asyncio.Future[None] | None = None  # while `run` has nothing to do

    def tell(self, unit: Unit, told: Told) -> None:
        """Values of one moment: now. More than fit a message are told in several."""
        ts = round(self._clock.wall_ms())
        kind = "event" if told.is_event else "reading"
        self._counters.events += told.is_event
        for part in parts(told.values):
            values = {said.point: said.value for said in part}
            q = {
                said.point: f"{said.quality.value}:{said.why}" if said.why else said.quality.value
                for said in part
                if said.quality is not Quality.GOOD
            }
            self._waiting.append(_Message(unit, values, q, ts, kind, unit.version[:LONGEST_FW], told.test))
        while len(self._waiting) > WAITING_LIMIT:
            self._lost(self._waiting.popleft())
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def run(self) -> None:
        """Ends only by cancellation."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._idle = loop.create_future()
                await self._idle
            while self._waiting:
                message = self._waiting.popleft()
                unit = message.unit
                try:
                    await self._put(
                        unit.domain,
                        unit.device,
                        message.values,
                        message.q,
                        message.ts,
                        kind=message.kind,
                        fw=message.fw,
                        test=message.test,
                    )
                except StoreError:
                    self._lost(message)

    def _lost(self, message: _Message) -> None:
        self._counters.not_kept += 1
        message.unit.forget()


def parts(values: tuple[Value, ...]) -> Iterator[tuple[Value, ...]]:
    """As many values together as fit a message."""
    if 0 < len(values) <= ALWAYS_FIT:
        yield values
        return
    low = size = 0
    for i, value in enumerate(values):
        text = len(value.value) if isinstance(value.value, str) else 0
        more = VALUE_BYTES + 2 * len(value.point) + TEXT_FACTOR * text + len(value.why)
        if i - low == VALUES_A_MESSAGE or size + more > BYTES_A_MESSAGE:
            yield values[low:i]
            low, size = i, 0
        size += more
    if low < len(values):
        yield values[low:]
