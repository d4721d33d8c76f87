"""Strays: what is said on the field broker in a domain that no worker owns, such as by a device that was set up wrong.

A broker throws away what nobody subscribes to, so with a filter for each domain such a device would fall silent unseen. One
worker hears it over a connection of its own, to which the broker hands nothing else (`provision.acl`): refused, counted, kept
for a person.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from iotcore import metrics
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry.directory import Directory
from iotcore.telemetry.panel import Panel
from iotcore.telemetry.spool import Spool
from iotcore.wire.arrival import Arrival, Broker, Decoded, Refusal
from iotcore.wire.topics import FIELD_DOMAINS

TAKE_LIMIT = 100
RETRY_COMMIT_S = 0.25
log = logging.getLogger(__name__)


class Strays:
    """`run` until cancelled."""

    def __init__(
        self,
        *,
        broker: Broker,
        decode: Callable[[Arrival, Directory, float], Decoded],
        directory: Callable[[], Directory],
        spool: Spool,
        panel: Panel,
        clock: Clock,
    ) -> None:
        self._broker = broker
        self._decode = decode
        self._directory = directory
        self._spool = spool
        self._panel = panel
        self._clock = clock

    async def run(self) -> None:
        """Refuse what comes, durably, then acknowledge it."""
        while True:
            arrivals = await self._broker.take(TAKE_LIMIT)
            directory = self._directory()
            refusals = [refusal for arrival in arrivals for refusal in self._refused(arrival, directory)]
            await self._keep(refusals)
            self._broker.acknowledge(arrivals)
            for refusal in refusals:
                metrics.refused.labels("telemetry", refusal.reason.partition(":")[0]).inc()
                if refusal.device in directory.devices:
                    self._panel.refused(refusal)

    def _refused(self, arrival: Arrival, directory: Directory) -> Sequence[Refusal]:
        """Why it is not accepted; a fire device is sound as it is, but no rule would ever see what it says here."""
        if {*arrival.topic.split("/", 3)[2:3]} & {*FIELD_DOMAINS}:
            return ()  # a broker of somebody else's without our access table: its owner hears it too
        decoded = self._decode(arrival, directory, self._clock.wall_ms())
        if not decoded.readings and decoded.presence is None:
            return decoded.refusals
        device = decoded.readings[0].device if decoded.readings else decoded.presence.device if decoded.presence else ""
        detail = f"{device} belongs on the fire broker"
        return (*decoded.refusals, Refusal("wrong_broker", detail, arrival.topic, device, arrival.payload))

    async def _keep(self, refusals: Sequence[Refusal]) -> None:
        while refusals:
            try:
                await self._spool.commit((), (), refusals)
            except StoreError as error:
                log.warning("%d refused messages could not be kept yet: %s", len(refusals), error)
                await asyncio.sleep(RETRY_COMMIT_S)
                continue
            return
