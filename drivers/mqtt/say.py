"""Saying a few things to a broker on a connection made for them: for a service of ours that rarely speaks and never listens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiomqtt

from drivers.mqtt.link import PUBACK_LIMIT_S, Link
from iotcore.errors import DeliveryError
from iotcore.wire.arrival import Endpoint


async def say(endpoint: Endpoint, client_id: str, told: Sequence[tuple[str, bytes]]) -> None:
    """Publish each (topic, payload) at QoS 1, in their order, and wait until the broker has it; MQTT 3.1.1: any broker knows it.

    Raises:
        DeliveryError: the broker did not take all of it.
    """
    try:
        async with asyncio.timeout(PUBACK_LIMIT_S * (1 + len(told))), Link(endpoint, client_id, None, "3.1.1") as link:
            for topic, payload in told:
                async with asyncio.timeout(PUBACK_LIMIT_S):
                    await (await link.offer(topic, payload))
    except TimeoutError as error:
        raise DeliveryError("no_reply", f"{PUBACK_LIMIT_S:g} s") from error
    except (aiomqtt.MqttError, OSError) as error:
        raise DeliveryError("not_connected", str(error)) from error
