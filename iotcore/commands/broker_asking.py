"""A broker, asked as our own services meet it: a message to ourselves, and what it says of itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from drivers.mqtt.ingest import Ingest
from iotcore.clock import Clock
from iotcore.process import home
from iotcore.provision.acl import BrokerName
from iotcore.settings import Settings

TOPIC = "iotcore/doctor"
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """How long a message to ourselves took; `trouble` is why there was none, else ""."""

    took_ms: float = 0.0
    trouble: str = ""


async def round_trip(settings: Settings, name: BrokerName, clock: Clock, limit_s: float) -> Answer:
    """Connect with the doctor's certificate, subscribe, publish, hear it.

    Raises:
        IotError: what we connect with is not there, or the broker refuses the publish.
        TimeoutError: the message did not come back in `limit_s`.
    """
    cn = home.DOCTOR_FIRE if name is BrokerName.FIRE else home.DOCTOR_FIELD
    async with Ingest(home.endpoint(settings, name, cn), cn, [TOPIC], clock, heartbeat=False) as mqtt:
        began_s = clock.monotonic_s()
        while not mqtt.connected:
            if clock.monotonic_s() - began_s > limit_s:
                return Answer(trouble=mqtt.last_error or "no connection")
            await asyncio.sleep(LOOK_S)
        sent_s = clock.monotonic_s()
        async with asyncio.timeout(limit_s):
            await mqtt.publish(TOPIC, b"?")
            mqtt.acknowledge(await mqtt.take(1))
        return Answer((clock.monotonic_s() - sent_s) * 1000.0)
