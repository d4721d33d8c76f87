"""Supervising: the pace at which the fire process looks who is silent, and what it tells of it: metrics, and its beat."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from iotcore import metrics
from iotcore.alarms.ears import STEP_S
from iotcore.alarms.lane import FireLane
from iotcore.alarms.supervise import Supervision

BEHIND_S = 2.0  # what waits for the lane for longer is not heard: a full disk of ours is no device's silence
TOLD = 10  # names in the beat


class Link(Protocol):
    """What is asked of the connection to the fire broker (`drivers.mqtt.ingest.Ingest`)."""

    @property
    def connected(self) -> bool:
        """Whether its subscriptions stand."""

    @property
    def oldest_s(self) -> float:
        """How long the oldest arrival has waited that the lane has not taken; 0 when there is none."""


async def run(lane: FireLane, supervision: Supervision, link: Link) -> None:
    """Look several times a second, until cancelled."""
    metrics.silent_devices.ask(lambda: float(len(supervision.silent)))
    metrics.weak_devices.ask(lambda: float(len(supervision.weak)))
    metrics.fire_flapping.ask(lambda: float(lane.flapping))
    while True:
        await lane.supervise(hears=link.connected and link.oldest_s < BEHIND_S)
        await asyncio.sleep(STEP_S)


def state(supervision: Supervision) -> dict[str, Any]:
    """For the beat, which `iotcore doctor` reads."""
    silent, weak = supervision.silent, supervision.weak
    return {
        "silent": len(silent),
        "silent_first": silent[:TOLD],
        "weak": len(weak),
        "weak_first": sorted(weak)[:TOLD],
    }
