"""How a gateway is, as readings of its own: what waits, what was given up, which units fail, how long its certificates last."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.modbus.poller import Poller
from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.gateway.children import Children
from iotcore.gateway.side import Side
from iotcore.specs.model import DeviceSpec
from iotcore.wire.messages import Scalar

MODEL = "iotcore-modbus-gateway"
TOLD_UNITS = 10  # that fail, in the beat


@dataclass(slots=True)
class Health:
    """What there is to say of a gateway that runs since `started_s` (monotonic)."""

    fire: Side
    field: Side
    poller: Poller
    children: Children
    clock: Clock
    started_s: float
    not_told: int = 0  # readings of its own that the outbox could not keep

    def values(self) -> dict[str, Scalar | None]:
        """One value for each point of the gateway's spec; a side that is not used has none of its own."""
        told: dict[str, Scalar | None] = {
            "uptime_s": self.clock.monotonic_s() - self.started_s,
            "units": float(len(self.children().devices)),
            "units_failing": float(len(self.failing())),
            "not_kept": float(self.poller.counters.not_kept + self.not_told),
        }
        for name, side in (("fire", self.fire), ("field", self.field)):
            if side.used:
                told |= _of(name, side)
        if self.fire.used:
            told["reserve_ready"] = self.fire.outbox.reserve_held
            told["reserve_kept"] = float(self.fire.outbox.in_reserve)
        return told

    def failing(self) -> dict[str, str]:
        """Device → why it is not read: refused (a fire budget, a bad connection), or its last poll failed."""
        return {**self.poller.failing, **self.poller.refused}

    def state(self) -> dict[str, object]:
        """The same for the beat, which `iotcore doctor` reads."""
        sides = (self.fire, self.field)
        return {
            "connected": all(side.connected for side in sides),
            "kept": sum(side.outbox.rows for side in sides),
            "evicted": sum(side.outbox.evicted for side in sides),
            "polls": self.poller.counters.polls,
            "failing": dict(sorted(self.failing().items())[:TOLD_UNITS]),
            "said": "; ".join(side.said for side in sides if side.said),
            "gateway": {point: value for point, value in self.values().items() if isinstance(value, float | bool)},
        }

    async def tell(self, gateway: str, spec: DeviceSpec, interval_s: float) -> None:
        """Put a reading of the points that `spec` knows every `interval_s`, for ever."""
        while True:
            values = {point: value for point, value in self.values().items() if point in spec.points}
            if values:
                await self._put(gateway, values)
            await asyncio.sleep(interval_s)

    async def _put(self, gateway: str, values: Mapping[str, Scalar | None]) -> None:
        try:
            await self.field.outbox.put("gateway", gateway, values, {}, round(self.clock.wall_ms()))
        except StoreError:
            self.not_told += 1


def _of(name: str, side: Side) -> dict[str, Scalar | None]:
    return {
        f"{name}_connected": side.connected,
        f"{name}_kept": float(side.outbox.rows),
        f"{name}_evicted": float(side.outbox.evicted),
        f"{name}_oldest_s": side.outbox.oldest_s(),
        f"{name}_certificate_days": side.upkeep.days_left(),
    }
