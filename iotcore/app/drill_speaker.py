"""The keeper speaks for drills: what waits in the journal is said on the fire broker, as a detector would, until it is heard.

    journal (read only) ─► drills that wait and were not heard ─► mTLS, QoS 1 ─► iotcore/v1/drill/svc.drill.1.out/{device}

It writes nothing: the lane records what it hears, each drill once. So several keepers may speak, and one that is killed between
speaking and the record leaves a drill that another says again. The connection is made for what is to be said, and closed again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import NamedTuple

import msgspec

from drivers.mqtt.say import say
from iotcore.clock import Clock
from iotcore.errors import DeliveryError
from iotcore.journal.database import UNREADABLE, Place, connect_readonly, is_there
from iotcore.process import home
from iotcore.provision.acl import BrokerName
from iotcore.settings import Settings
from iotcore.wire import topics
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, Scalar, encode

LOOK_S = 1.0
AGAIN_S = 10.0  # after it was said and is not recorded: the lane was down, or a fire went first
MOST = 20  # said in one connection; no more wait
log = logging.getLogger(__name__)


class Said(NamedTuple):
    """A drill that waits, and what its point is to say, one value a reading."""

    id: str
    device: str
    point: str
    values: list[Scalar]


class DrillSpeaker:
    """Of one keeper."""

    def __init__(self, journal: Place, endpoint: Endpoint, clock: Clock) -> None:
        self._journal = journal
        self._endpoint = endpoint
        self._clock = clock
        self._said_s: dict[str, float] = {}  # when, by drill; of those that wait
        self._failing = ""

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            try:
                await self.speak()
            except DeliveryError as error:
                if str(error) != self._failing:
                    log.warning("drills cannot be said on the fire broker; it is tried again: %s", error)
                self._failing = str(error)
                await asyncio.sleep(AGAIN_S)
            else:
                self._failing = ""
            await asyncio.sleep(LOOK_S)

    async def speak(self) -> int:
        """Say what waits and was not said lately; how many that was.

        Raises:
            DeliveryError: the broker did not take it.
        """
        waiting = await asyncio.to_thread(waits, self._journal)
        now_s = self._clock.monotonic_s()
        self._said_s = {one.id: self._said_s[one.id] for one in waiting if one.id in self._said_s}
        due = [one for one in waiting if now_s - self._said_s.get(one.id, -AGAIN_S) >= AGAIN_S]
        if not due:
            return 0
        told = [(topics.drill(home.DRILL_OUT, one.device), self.payload(one)) for one in due]
        await say(self._endpoint, home.DRILL_OUT, told)
        self._said_s |= dict.fromkeys((one.id for one in due), now_s)
        return len(due)

    def payload(self, one: Said) -> bytes:
        """The drill's id is its boot: what is said twice is the same drill."""
        now_ms = int(self._clock.wall_ms())
        messages = [
            ReadingMessage(boot=one.id, seq=seq, values={one.point: value}, ts=now_ms, test=True)
            for seq, value in enumerate(one.values, 1)
        ]
        return b"[" + b",".join(map(encode, messages)) + b"]"


def waits(journal: Place) -> list[Said]:
    """The simulated drills that were not heard yet; none while the journal cannot be read."""
    if not is_there(journal):
        return []
    try:
        with closing(connect_readonly(journal)) as connection:
            rows = connection.execute(
                "SELECT id, device, point, value FROM drill WHERE state = 'waiting' AND source = 'simulated' "
                "AND received_ms IS NULL ORDER BY asked_ms LIMIT ?",
                (MOST,),
            ).fetchall()
    except UNREADABLE as error:  # a server may be gone already when it is connected to
        log.info("the journal cannot be read yet: %s", error)
        return []
    return [Said(row[0], row[1], row[2], msgspec.json.decode(row[3], type=list[Scalar])) for row in rows]


def speaker(settings: Settings, clock: Clock) -> DrillSpeaker:
    """As the settings say."""
    endpoint = home.endpoint(settings, BrokerName.FIRE, home.DRILL_OUT)
    return DrillSpeaker(settings.journal_place, endpoint, clock)
