"""The world around the lanes: devices that keep what was not receipted, a broker with a session for each replica, receivers.

A message takes the script's latency with jitter; the broker keeps the order of one sender, hands a message out again after its
consumer died, sometimes twice without reason, and may forget all it holds when it is restarted ("forgetful").
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from iotcore.errors import DeliveryError
from iotcore.journal.records import OutboxRow
from iotcore.wire import topics
from iotcore.wire.arrival import Arrival
from iotcore.wire.messages import ReadingMessage, ReceiptMessage, encode
from tests.simulated.script import Script
from tests.simulated.virtual import EPOCH_MS, VirtualLoop

INTERVAL_S = 10.0
BURNING_S = 1.0  # a device that sees fire reports each second
ROUND_S = 30.0  # between two re-sends of what is not receipted (wire contract)
LINK_LOOK_S = 1.0
REPLY_TIMEOUT_S = 5.0


@dataclass(slots=True)
class Said:
    """A reading as its device made it."""

    message: ReadingMessage
    made_s: float
    fire: bool
    sent_s: float | None = None  # last


@dataclass(slots=True)
class Device:
    """A detector that reports, and forgets only what is receipted."""

    name: str
    boot: str
    held: dict[int, Said] = field(default_factory=dict)
    every: dict[int, Said] = field(default_factory=dict)
    receipted: int = 0
    connected_s: float = 0.0

    @property
    def is_call_point(self) -> bool:
        return "-cp" in self.name


class Session:
    """What the broker keeps for one replica; implements `iotcore.wire.arrival.Broker` while that lives."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._queue: deque[tuple[str, bytes]] = deque()
        self._out: dict[int, tuple[str, bytes]] = {}
        self._next = 0
        self._news = asyncio.Event()
        self.clock: Any = None

    def bring(self, topic: str, payload: bytes) -> None:
        self._queue.append((topic, payload))
        self._news.set()

    def consumer_died(self) -> None:
        """What it had not acknowledged is handed out again, before the rest."""
        self._queue.extendleft(reversed(self._out.values()))
        self._out.clear()
        self._news = asyncio.Event()
        if self._queue:
            self._news.set()

    def forget(self) -> None:
        self._queue.clear()
        self._out.clear()

    async def take(self, limit: int) -> list[Arrival]:
        while True:
            await self._news.wait()
            await self._world.thawed(self._name)
            arrivals: list[Arrival] = []
            while self._queue and len(arrivals) < limit:
                self._next += 1
                topic, payload = self._out[self._next] = self._queue.popleft()
                arrivals.append(Arrival(topic, payload, retained=False, received_ms=self.clock.wall_ms(), token=self._next))
            if not self._queue:
                self._news.clear()
            if arrivals:
                return arrivals

    def acknowledge(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._out.pop(arrival.token, None)

    def working(self) -> None:
        """Nobody watches this lane."""

    async def publish(self, topic: str, payload: bytes) -> None:
        self._world.receipt(topic, payload)


class Receiver:
    """An alarm receiving centre; what it has seen stays, whoever sends."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self.seen: list[tuple[float, str, str, int]] = []  # when it came, incident, event, part
        self.acknowledged: dict[tuple[str, str], float] = {}

    async def send(self, row: OutboxRow, sent: Callable[[float], None], clock: Any) -> str:
        state = self._world.script.during(self._name, self._world.loop.now_s)
        await asyncio.sleep(self._world.delay())
        if state == "refuses":
            raise DeliveryError("connect_failed", self._name)
        sent(clock.wall_ms())
        if state != "deaf":  # deaf: the frame is lost on the way; silent: it arrives, the answer does not
            self._take(row)
        if state in {"deaf", "silent"}:
            await asyncio.sleep(REPLY_TIMEOUT_S)
            raise DeliveryError("no_reply", self._name)
        await asyncio.sleep(self._world.delay())
        return "ACK"

    def _take(self, row: OutboxRow) -> None:
        now_s = self._world.loop.now_s
        self.seen.append((now_s, row.incident, row.notice.event, getattr(row, "part", 0)))
        self.acknowledged.setdefault((row.incident, row.notice.event), now_s)
        self._world.note(f"{self._name} has {row.notice.event} {row.incident}")


class World:
    """Devices, broker, receivers; and the history, which is all that happened, in order."""

    def __init__(self, script: Script, loop: VirtualLoop) -> None:
        self.script = script
        self.loop = loop
        self.rng = random.Random(script.seed ^ 0x5EED)
        self.history: list[str] = []
        names = [device for place in script.premises.values() for device in place]
        self.devices = {name: Device(name, f"b{number}") for number, name in enumerate(names)}
        self.sessions = {f"replica-{n}": Session(self, f"replica-{n}") for n in range(script.replicas)}
        self.receivers = {name: Receiver(self, name) for name in script.receivers}
        self.stored: set[tuple[str, int]] = set()  # device, number: committed
        self.crashes = dict.fromkeys(script.crashes, 0)  # that are to come, and how many calls each has counted
        self.journal_spans = [span for span in script.spans if span.what == "journal"]
        self.slow_call = False  # the work that was just done off the loop takes long
        self.intents: list[tuple[str, str, str]] = []  # kind, premises, incident: what people did on the page
        self.defects: list[str] = []  # in the processes themselves: what no kill explains
        self._line: dict[tuple[str, str], float] = {}  # sender, session → when its last message arrives: order is kept

    @property
    def journal_state(self) -> str:
        """What is wrong with the journal now: full, refuses, gone, slow; "" for nothing."""
        return next((span.kind for span in self.journal_spans if span.covers(self.loop.now_s)), "")

    def note(self, what: str) -> None:
        self.history.append(f"{self.loop.now_s:.6f} {what}")

    def delay(self) -> float:
        return self.script.latency_s * self.rng.uniform(0.5, 2.0)

    async def thawed(self, replica: str) -> None:
        """Go on when a stalled process goes on."""
        for span in self.script.spans:
            if span.what == replica and span.covers(self.loop.now_s):
                await asyncio.sleep(span.until_s - self.loop.now_s)

    async def device(self, name: str) -> None:
        """One device's life: it reports, faster while it sees fire, and sends again what nobody has receipted."""
        device = self.devices[name]
        await asyncio.sleep(self.rng.uniform(0.0, INTERVAL_S))
        burns = sorted((burn for burn in self.script.burns if burn.device == name), key=lambda burn: burn.at_s)
        while True:
            now_s = self.loop.now_s
            fire = any(burn.at_s <= now_s < burn.until_s for burn in burns)
            self._report(device, fire=fire)
            edges = [at_s for burn in burns for at_s in (burn.at_s, burn.until_s) if at_s > now_s]
            await asyncio.sleep(max(1e-6, min([now_s + (BURNING_S if fire else INTERVAL_S), *edges]) - now_s))

    async def link(self, name: str) -> None:
        """Its connection: what is held goes out again after an outage, and each re-send round."""
        device, was_up = self.devices[name], True
        while True:
            await asyncio.sleep(LINK_LOOK_S)
            is_up = self._up(name)
            if is_up and not was_up:
                device.connected_s = self.loop.now_s
                for said in device.held.values():
                    self._send(device, said)
            elif is_up:
                for said in device.held.values():
                    if said.sent_s is None or self.loop.now_s - said.sent_s >= ROUND_S:
                        self._send(device, said)
            was_up = is_up

    def receipt(self, topic: str, payload: bytes) -> None:
        device = self.devices[topics.parse(topic).device]
        message = msgspec.json.decode(payload, type=ReceiptMessage)
        if not self._up(device.name) or message.boot != device.boot:
            return
        device.receipted = max(device.receipted, message.up_to)
        for number in [number for number in device.held if number <= message.up_to]:
            del device.held[number]

    def _up(self, device: str) -> bool:
        now_s = self.loop.now_s
        return not self.script.during(device, now_s) and not self.script.during("broker", now_s)

    def _report(self, device: Device, *, fire: bool) -> None:
        number = len(device.every) + 1
        values: dict[str, Any] = {"pressed": fire} if device.is_call_point else {"alarm": fire, "smoke": 0.4 if fire else 0.01}
        message = ReadingMessage(boot=device.boot, seq=number, values=values, ts=int(EPOCH_MS + self.loop.now_s * 1000.0))
        said = device.every[number] = device.held[number] = Said(message, self.loop.now_s, fire)
        if fire:
            self.note(f"{device.name} sees fire ({number})")
        if self._up(device.name):
            self._send(device, said)

    def _send(self, device: Device, said: Said) -> None:
        age_s, message = self.loop.now_s - said.made_s, said.message
        if said.sent_s is not None or said.made_s < device.connected_s:
            message = msgspec.structs.replace(message, backlog=True, age_ms=int(age_s * 1000.0))
        said.sent_s = self.loop.now_s
        topic, payload = topics.up("fire", device.name, "reading", device.name), encode(message)
        for name, session in self.sessions.items():
            for _ in range(1 + (self.rng.random() < self.script.duplicates)):
                at_s = max(self._line.get((device.name, name), 0.0), self.loop.now_s + self.delay())
                self._line[device.name, name] = at_s
                self.loop.call_at(at_s, self._arrive, session, topic, payload)

    def _arrive(self, session: Session, topic: str, payload: bytes) -> None:
        if not self.script.during("broker", self.loop.now_s):
            session.bring(topic, payload)

    async def broker(self) -> None:
        """A broker that is killed and forgets."""
        for span in [span for span in self.script.spans if span.what == "broker" and span.kind == "forgetful"]:
            await asyncio.sleep(max(0.0, span.at_s - self.loop.now_s))
            for session in self.sessions.values():
                session.forget()
