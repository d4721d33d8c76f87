"""A fire process as supervision sees it: readings, seconds that pass, a link that comes and goes, restarts, a wall that jumps."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from iotcore.alarms.supervise import Moment, Silence, Supervision
from iotcore.journal.faults import Fault
from iotcore.journal.heard import Clocked, Heard, Stored
from iotcore.reading import Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import DeviceSpec
from tests.support.fire import NOON_MS, reading
from tests.support.shipped import SPECS

SMOKE = SPECS["iotcore-smoke-heat"]  # every 10 s: limit 100 s
SLEEPER = SPECS["heiman-smoke-zigbee2mqtt"]  # once a day: limit 60 h
TICK_S = 0.25


def binding(device: str, *, spec: DeviceSpec = SMOKE, parent: str = "", state: str = "active", domain: str = "fire") -> Binding:
    return Binding(device, device, spec, domain, parent or device, state, "p1")


class Watch:
    """Time moves by `wait`; what was told comes with its second since the start."""

    def __init__(self, *bindings: Binding) -> None:
        self.now_s = 1_000.0  # monotonic
        self.uptime_s = 5_000.0
        self.wall_ms = NOON_MS
        self.machine = "m1"
        self.hears = True
        self.told: list[tuple[float, str, str]] = []  # when, device, "silent" or "-silent"
        self.silences: list[Silence] = []
        self.recent: list[Reading] = []
        self.standing: set[Fault] = set()
        self.directory = Directory({one.device: one for one in bindings})
        self._started_s = self.now_s
        self._seq = 0
        self._heard: dict[str, Heard] = {}
        self._clocks: dict[str, Clocked] = {}
        self.supervision = self._new()
        self.wait(3.0)

    def _new(self) -> Supervision:
        stored = Stored(tuple(self._heard.values()), tuple(self._clocks.values()))
        made = Supervision(self.directory, stored, self.standing, self._moment(), self.now_s)
        for one in self.recent:
            made.recalled(one)
        return made

    def _moment(self) -> Moment:
        return Moment(self.machine, self.uptime_s, self.wall_ms)

    @property
    def at_s(self) -> float:
        return self.now_s - self._started_s

    def say(self, device: str, *, age_s: float = 0.0, **values: float | bool | None) -> None:
        """A reading, committed at once."""
        self._seq += 1
        said = reading(device, self._seq, test=False, **(values or {"smoke": 0.01}))  # type: ignore[arg-type]
        said = structs.replace(said, received_ms=self.wall_ms, backlog=age_s > 0, age_ms=int(age_s * 1000))
        self.supervision.heard(said, self.directory.devices[device], self.now_s)
        self.recent.append(said)
        self._commit()

    def wait(self, seconds: float) -> None:
        """Ticks, and a commit whenever one is due."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.pass_(TICK_S)
            self.supervision.tick(self.now_s, hears=self.hears)
            if self.supervision.is_due(self.now_s):
                self._commit()

    def until_s(self, at_s: float) -> None:
        self.wait(at_s - self.at_s)

    def pass_(self, seconds: float) -> None:
        """Time passes and nobody looks."""
        self.now_s += seconds
        self.uptime_s += seconds
        self.wall_ms += seconds * 1000.0

    def register(self, *bindings: Binding) -> None:
        self.directory = Directory({one.device: one for one in bindings})
        self.supervision.follow(self.directory, self.now_s)

    def kill(self, down_s: float, *, reboot: bool = False, step_s: float = 0.0) -> None:
        """kill -9, and another process so much later; perhaps the machine starts anew, or its wall clock is set meanwhile."""
        self.pass_(down_s)
        self.wall_ms += step_s * 1000.0
        self.now_s += 77_777.0  # another process, another monotonic clock
        self._started_s += 77_777.0
        if reboot:
            self.machine, self.uptime_s = "m2", 20.0
        self.supervision = self._new()

    def _commit(self) -> None:
        began, over = self.supervision.take()
        self.silences += began
        self.told += [(self.at_s, device, f"-{reason}") for device, reason in over]
        self.told += [(self.at_s, one.device, one.reason) for one in began]
        self.standing = (self.standing - set(over)) | {(one.device, one.reason) for one in began}
        written = self.supervision.take_heard(self._moment(), self.now_s)
        self._heard |= {row.device: row for row in written.heard}
        self._clocks |= {row.by: row for row in written.clocks}

    def when(self, device: str) -> Mapping[str, float]:
        """What was told of a device, and when."""
        return {what: at_s for at_s, name, what in self.told if name == device}
