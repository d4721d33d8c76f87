"""The virtual world of a timeline: buildings with detectors, a broker, fire processes, and receiving centres; and what is seen.

Each building N has detectors sd-N-1 … and a call point cp-N, and account 100N at the centres: `arc`, with `backup` as its
alternate path, both pysiaalarm unless the setting makes `arc` a hostile one.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iotcore.alarms import rules
from iotcore.registry import response
from iotcore.registry.directory import Binding, Directory, Premises, Zone
from iotcore.registry.records import Intent
from iotcore.settings import check
from iotcore.wire import topics
from iotcore.wire.messages import ReadingMessage, encode
from simulators.arc_receiver import Fault
from tests.simulated.virtual import EPOCH_MS
from tests.support.shipped import SPECS
from tests.timelines.centre import Hostile, Independent
from tests.timelines.network import NetworkLoop
from tests.timelines.notation import Row, Seen
from tests.timelines.observer import Observer
from tests.timelines.parts import Variant
from tests.timelines.process import FireProcess
from tests.timelines.stage import act

RULES = rules.load(rules.default_path())
MEMORY = Path("/dev/shm")  # a disk that costs no time, where there is one
BROKER_S = 0.002  # from a device through the broker
ARC, BACKUP = 7001, 7002  # ports
REPLY_S = 5.0  # the shipped reply timeout


@dataclass(frozen=True, slots=True)
class Setting:
    """What a timeline's city is made of."""

    premises: int = 1
    detectors: int = 2  # in each building
    replicas: int = 1
    plan: Mapping[str, Any] = field(default_factory=dict)  # the response plan of each building; none: immediate
    rules: Sequence[Mapping[str, Any]] = ()  # documents instead of the shipped rules
    arc_faults: Sequence[Fault] | None = None  # `arc` is the hostile receiver, with these faults
    reply_s: float = 0.0  # how long the hostile receiver thinks
    strict_time: bool = False  # `arc` judges timestamps by its own clock, which differs
    alternate: bool = True
    watches: bool = True  # what becomes of alarms and notices is noted, and not of incidents alone
    lean: bool = False  # for hours: lane and dispatch alone, one frame at a time


class Loud(logging.Handler):
    """What the process says as loudly as it can."""

    def __init__(self, note: Callable[..., None]) -> None:
        super().__init__(logging.CRITICAL)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note("loud", said=record.getMessage())


class City:
    """The world of one row."""

    def __init__(self, setting: Setting, loop: NetworkLoop, folder: Path, variant: Variant) -> None:
        self.setting, self.loop, self.folder, self.variant = setting, loop, folder, variant
        self.seen: list[Seen] = []
        self.intents: list[Intent] = []
        self.boots: dict[str, str] = {}
        self.seqs: dict[str, int] = {}
        self.last: dict[str, tuple[str, bytes]] = {}  # what a device said last: topic, payload
        self.receipts: dict[str, int] = {}
        self.rules = rules.check({"profile": "immediate", "rules": list(setting.rules)}, "row") if setting.rules else RULES
        self.directory = directory(setting)
        self.settings = settings(setting, folder)
        accounts = [place.account for place in self.directory.premises.values()]
        wall_s = lambda: EPOCH_MS / 1000.0 + loop.now_s  # noqa: E731 - of the hostile receiver
        self.arc: Hostile | Independent = (
            Independent("arc", accounts, self.note, strict_time=setting.strict_time)
            if setting.arc_faults is None
            else Hostile("arc", setting.arc_faults, self.note, wall_s, setting.reply_s)
        )
        self.backup = Independent("backup", accounts, self.note)
        loop.places = {ARC: self.arc.serve, BACKUP: self.backup.serve}
        self.observer = Observer(folder / "journal.db", self.note, details=setting.watches)
        self.refusing = False  # whether the journal's disk refuses
        self.processes = [FireProcess(number, self, folder) for number in range(1, setting.replicas + 1)]

    @property
    def now_s(self) -> float:
        return self.loop.now_s

    def note(self, kind: str, /, **facts: Any) -> None:
        self.seen.append(Seen(self.loop.now_s, kind, facts))

    def look(self) -> None:
        """See what has become of the journal."""
        self.observer.look()

    async def until(self, at_s: float) -> None:
        if at_s > self.loop.now_s:
            await asyncio.sleep(at_s - self.loop.now_s)

    def say(self, device: str, values: Mapping[str, Any], *, seq: int = 0, **more: Any) -> None:
        """A reading of a device reaches every process's session; with `seq` it is that one again."""
        if not seq:
            seq = self.seqs[device] = self.seqs.get(device, 0) + 1
        ts = more.pop("ts", int(EPOCH_MS + self.loop.now_s * 1000.0))
        message = ReadingMessage(boot=self.boots.get(device, "b1"), seq=seq, values=dict(values), ts=ts, **more)
        self.last[device] = (topics.up("fire", device, "reading", device), encode(message))
        self.publish(*self.last[device])

    def publish(self, topic: str, payload: bytes) -> None:
        for process in self.processes:
            self.loop.call_later(BROKER_S, process.session.bring, topic, payload)

    def receipt(self, topic: str, _: bytes) -> None:
        device = topics.parse(topic).device
        self.receipts[device] = self.receipts.get(device, 0) + 1

    def intend(self, kind: Any, key: str, by: str) -> None:
        """A person's act, as the console hands it to the registry."""
        at_ms = int(EPOCH_MS + self.loop.now_s * 1000.0)
        self.intents.append(Intent(len(self.intents) + 1, kind, key, by, at_ms))

    def incident(self, premises: str) -> str:
        """The incident of a building that is open."""
        found = [one.facts["id"] for one in self.seen if one.kind == "incident" and one.facts["premises"] == premises]
        assert found, f"{premises} has no incident"
        return str(found[-1])


def directory(setting: Setting) -> Directory:
    """The setting's buildings as the registry has them."""
    devices: dict[str, Binding] = {}
    numbers = range(1, setting.premises + 1)
    for n in numbers:
        names = [(f"sd-{n}-{k}", "iotcore-smoke-heat") for k in range(1, setting.detectors + 1)]
        for name, model in (*names, (f"cp-{n}", "iotcore-call-point")):
            devices[name] = Binding(name, name, SPECS[model], "fire", name, "active", f"p{n}", f"p{n}-z1")
    places = {f"p{n}": Premises(f"p{n}", f"Nhà {n}", f"{n} Lê Hoàn, Thanh Hóa", 19.8, 105.77, f"{1000 + n}") for n in numbers}
    zones = {f"p{n}-z1": Zone(f"p{n}-z1", f"p{n}", 1, "Tầng 1", "Sảnh") for n in numbers}
    plans = {name: response.check(dict(setting.plan), ["arc"]) for name in places} if setting.plan else {}
    return Directory(devices, places, zones, responses=plans)


def settings(setting: Setting, folder: Path) -> Any:
    """Two DC-09 receivers, the second the alternate path of the first; everything else as shipped."""
    arc = {"kind": "sia_dc09", "name": "arc", "host": "arc", "port": ARC}
    receivers: list[dict[str, Any]] = [arc | ({"parallel": 1} if setting.lean else {})]
    if setting.alternate and not setting.lean:
        receivers[0]["alternate"] = "backup"
        receivers.append({"kind": "sia_dc09", "name": "backup", "host": "backup", "port": BACKUP})
    return check({"data": str(folder), "fire": {"replicas": 4}, "receivers": receivers}, "row")


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="timeline-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def play(row: Row, variant: Variant | None = None) -> list[Seen]:
    """Play a row in its city; what was seen."""
    loop = NetworkLoop()
    try:
        with _folder() as folder:
            city = City(row.setting, loop, folder, variant or Variant())
            loud = Loud(city.note)
            logging.getLogger().addHandler(loud)
            try:
                loop.run_until_complete(_run(row, city))
            finally:
                logging.getLogger().removeHandler(loud)
                city.observer.close()
            return city.seen
    finally:
        loop.close()


async def _run(row: Row, city: City) -> None:
    for process in city.processes:
        process.start()
    try:
        await act(row, city)
    finally:
        lives = [process.end() for process in city.processes if process.runs]
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*lives, *others, return_exceptions=True)
