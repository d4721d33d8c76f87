"""The devices of the set test: each numbers its readings, keeps every one until the receipt, and remembers what became of it."""

from __future__ import annotations

import asyncio
import random
import time

from iotcore.specs.model import DeviceSpec
from iotcore.wire.arrival import Endpoint
from simulators.fail_over import Held
from simulators.mqtt_device import MqttDevice
from tests.support.set_check import Sent, twin

EACH_AT_MOST = 1_000_000  # readings of one device: its number is index × this + seq
POLL_S = 0.01


class NumberedDevice(MqttDevice):
    """Makes readings no faster than it is told to, and none while `window` of them wait for a receipt.

    One that has waited for `give_up_s` makes no more: a core that has lost what it receipted has a hole that no receipt crosses.
    """

    def __init__(
        self, index: int, name: str, spec: DeviceSpec, endpoint: Endpoint, *, window: int, resend_s: float, give_up_s: float
    ) -> None:
        super().__init__(
            name,
            spec,
            endpoint,
            resend_s=resend_s,
            memory_limit=2 * window,
            link_limit_s=resend_s,
            longest_pause_s=resend_s,
        )
        self._index = index
        self._window = window
        self._give_up_s = give_up_s
        self._past: list[Sent] = []

    async def make(self, count: int, rate_per_s: float) -> None:
        """Make `count` readings."""
        for _ in range(count):
            full_s = time.monotonic()
            while self.held >= self._window:
                if time.monotonic() - full_s > self._give_up_s:
                    return
                await asyncio.sleep(POLL_S)
            number = self._index * EACH_AT_MOST + self.counters.reported + 1
            await self.report({"number": number, "twin": twin(number)})
            await asyncio.sleep(random.uniform(0.0, 2.0 / rate_per_s))

    def history(self) -> list[Sent]:
        """Everything that it has made, with the receipt's moment where there was one."""
        return self._past + [self._told(held, None) for held in self._held.values()]

    def _receipted(self, held: Held) -> None:
        super()._receipted(held)
        self._past.append(self._told(held, time.monotonic()))

    def _told(self, held: Held, receipted_s: float | None) -> Sent:
        seq = held.message.seq
        return Sent(self._index * EACH_AT_MOST + seq, self.device, seq, held.made_s, held.tries, receipted_s)
