"""One side of a gateway: everything between it and one broker.

outbox (file) ──► uplink ──► broker          upkeep: the certificate that the uplink shows, renewed in time
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drivers.outbox import Outbox
from drivers.uplink import Uplink
from iotcore.provision.gateway import Upkeep
from iotcore.wire.arrival import Endpoint


@dataclass(slots=True)
class Side:
    """`endpoint(file)` is the broker met with the identity in `file`; `uplink(endpoint)` makes the uplink to it."""

    outbox: Outbox
    upkeep: Upkeep
    endpoint: Callable[[Path], Endpoint]
    make_uplink: Callable[[Endpoint, Outbox], Uplink]
    urgent: Callable[[], bool] = lambda: False  # whether something of the other side goes first
    used: bool = False  # whether this broker is spoken to at all
    uplink: Uplink | None = None

    @property
    def pending(self) -> bool:
        """Whether a live reading is on its way to the wire."""
        return self.uplink.pending if self.uplink is not None else self.outbox.pending

    @property
    def connected(self) -> bool:
        """Whether the broker is there; true for a side that is not used."""
        return not self.used or (self.uplink is not None and self.uplink.connected)

    @property
    def said(self) -> str:
        """What is wrong, in words; "" when nothing is."""
        if self.connected or self.uplink is None:
            return self.upkeep.last_error if self.used else ""
        return self.uplink.last_error or self.upkeep.last_error

    async def switch(self, following: Path) -> str:
        """Go over to the identity in `following`: "", or why the broker does not take it."""
        assert self.uplink is not None, "run() comes first"
        said = await self.uplink.go_over(self.endpoint(following))
        if not said:
            self.uplink.endpoint = self.endpoint(self.upkeep.file)  # where the new identity is from now on
        return said

    async def run(self) -> None:
        """Get a certificate, then publish and renew; ends only by cancellation."""
        self.used = True
        file = await self.upkeep.first()
        uplink = self.uplink = self.make_uplink(self.endpoint(file), self.outbox)
        uplink.urgent = self.urgent

        async with asyncio.TaskGroup() as group:
            group.create_task(uplink.run())
            group.create_task(self.upkeep.run(self.switch))
            group.create_task(self.upkeep.tell(lambda: uplink.connected))
