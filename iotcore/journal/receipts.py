"""Receipts: the promise to a sender that its readings are on disk; sent only after the commit, and cumulative.

Owed receipts of one boot coalesce to the latest, so what waits is bounded by the number of boots, and a lost receipt is made good
by the next one or by the sender's own re-send.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import DeliveryError
from iotcore.journal.progress import OURS
from iotcore.registry.directory import Binding
from iotcore.wire import topics
from iotcore.wire.messages import ReceiptMessage, encode

log = logging.getLogger(__name__)


class Receipts:
    """Receipts on their way out of one lane; with `pause_s` those of so long become one for each boot."""

    def __init__(self, publish: Callable[[str, bytes], Awaitable[None]], clock: Clock, *, pause_s: float = 0.0) -> None:
        self._pause_s = pause_s
        self._publish = publish
        self._clock = clock
        self._owed: dict[tuple[str, str], int] = {}  # topic, boot → up_to
        self._merged = 0  # since the last round
        self._wake = asyncio.Event()

    def owe(self, binding: Binding, boot: str, up_to: int) -> None:
        """Promise that everything of `boot` up to `up_to` is stored; nothing to a vendor's device, which would not understand."""
        if up_to > 0 and not boot.startswith(OURS):
            topic = topics.down(binding.domain, binding.publisher, "receipt", binding.device)
            self._merged += (topic, boot) in self._owed
            self._owed[topic, boot] = up_to
            self._wake.set()

    async def run(self) -> None:
        """Send what is owed until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
            owed, self._owed = self._owed, {}
            metrics.receipts.labels("merged").inc(self._merged)
            self._merged = failed = 0
            for (topic, boot), up_to in owed.items():
                message = ReceiptMessage(boot=boot, up_to=up_to, ts=int(self._clock.wall_ms()))
                try:
                    await self._publish(topic, encode(message))
                except DeliveryError as error:
                    failed += 1
                    log.info("receipt on %s not sent (%s); the sender will ask again by re-sending", topic, error.reason)
            metrics.receipts.labels("failed").inc(failed)
            metrics.receipts.labels("sent").inc(len(owed) - failed)
