"""Supervise: silence is trouble. Who was heard when, whose limit is over, and what is silent: a device, its gateway, our link.

    reading ─► heard: when it last spoke (memory at once; at most once a minute on disk)
    tick    ─► do we hear at all? ─► who is due ─► silent │ its gateway is │ heard meanwhile: looked at later

Limits run in the time in which we listen. A process that is back within `DEAF_S` has missed nothing: its broker kept what was
said, and the time counts as silence. What lasts longer is an outage of ours: it counts for nobody, and is the link's trouble.
Listening time is kept on disk and goes on over restarts of the process and of the machine; the wall clock only measures an outage
over a restart of the machine, so that one which is set changes nothing. Pure: `now_s` is the caller's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from iotcore.alarms.ears import Ear, Gateway, Wheel
from iotcore.journal.faults import Fault
from iotcore.journal.heard import Clocked, Heard, Stored
from iotcore.reading import Quality, Reading
from iotcore.registry.directory import Binding, Directory
from iotcore.specs.model import SILENCE_INTERVALS
from iotcore.wire.topics import FIRE_DOMAIN

DEAF_S = 10.0  # our own reconnects take a second or two; the shortest honest limit is ten times that
SETTLE_S = 2.0  # after a connect: what the broker kept comes in before anybody is judged
SAVE_EVERY_S = 60.0
LOOK_AT_ONCE = 2_500  # devices in one step: after an outage of ours all are due to be looked at, and no fire may wait for it
SAVE_AT_ONCE = 2_000  # rows in one commit: a city that is waited for for the first time must not hold up a fire
CLOCK_EVERY_S = 5.0  # how much of an outage can be overlooked when nothing was said before it
NEVER_S = 86_400.0  # a device that was enrolled yesterday and has said nothing was forgotten by somebody
SILENT, BY_GATEWAY, NEVER, LINK_DOWN = "silent", "gateway_silent", "never_heard", "link_down"
FAMILY = frozenset({SILENT, BY_GATEWAY, NEVER, LINK_DOWN})
LINK = "link:fire"  # stands where a fault names its device: the lane's own connection to the fire broker
BAD = Quality.BAD  # looked up once: an attribute of an enum costs as much as all else that is done for a reading
AWAITED = frozenset({"provisioned", "active"})


class Moment(NamedTuple):
    """Now, by three clocks: which start of the machine, seconds since it, and the wall (ms UTC)."""

    machine: str
    uptime_s: float
    wall_ms: float


class Silence(NamedTuple):
    """Somebody's limit is over. `boot` and `seq` are of the reading that was heard last, `for_s` is how long ago."""

    device: str
    reason: str
    boot: str
    seq: int
    for_s: float


class Supervision:
    """Of one fire process; `by` names it, for several may run. `standing` are the faults that stand in the journal."""

    def __init__(
        self, directory: Directory, stored: Stored, standing: Iterable[Fault], moment: Moment, now_s: float, *, by: str = "fire"
    ) -> None:
        self.weak: set[str] = set()  # active fire devices that are weakly supervised
        self._by = by
        self._machine = moment.machine
        self._ears: dict[str, Ear] = {}
        self._gateways: dict[str, Gateway] = {}
        self._wheel = Wheel(now_s)
        self._seen: Mapping[str, Binding] = {}
        self._standing = {device: reason for device, reason in standing if reason in FAMILY}
        self._began: list[Silence] = []
        self._over: list[Fault] = []
        self._unsaved: dict[str, Ear] = {}
        self._gone = {row.device for row in stored.heard if row.device not in directory.devices}  # still on disk
        self._clock_due_s = self._tick_s = self._settled_s = now_s
        clocks = {clock.by: clock for clock in stored.clocks}
        outages = {clock.by: _outage_s(clock, moment) for clock in stored.clocks}
        self._deaf_here_s: float | None = now_s  # since when this process does not hear
        self._deaf_s: float | None = now_s - min(outages.values(), default=0.0)  # the same, with the time before it ran
        base = clocks.get(by) or max(stored.clocks, key=lambda clock: clock.listened_s, default=None)
        self._offset_s = -now_s if base is None else base.listened_s - (now_s - outages[base.by])
        self._stored = {
            row.device: (now_s - outages[row.by] - (clocks[row.by].listened_s - row.listened_s), row)
            for row in stored.heard
            if row.by in clocks
        }
        self.follow(directory, now_s)
        for device in set(self._standing) - set(self._ears) - set(self._gateways) - {LINK}:
            self._end(device)

    @property
    def silent(self) -> list[str]:
        """Devices and gateways that are silent now, whatever the cause."""
        return sorted(device for device, reason in self._standing.items() if reason in (SILENT, BY_GATEWAY))

    def follow(self, directory: Directory, now_s: float) -> None:
        """Wait for whom the registry says, and for no others."""
        if directory.devices is self._seen:
            return
        before, self._seen = self._seen, directory.devices
        left = {name for name, one in before.items() if name not in directory.devices and one.domain == FIRE_DOMAIN}
        for name in left:
            self._forget(name)
        self._gone = (self._gone | left) - directory.devices.keys()
        for name, binding in directory.devices.items():
            if before.get(name) is not binding and (binding.domain == FIRE_DOMAIN or name in self._ears):
                self._admit(binding, now_s)

    def recalled(self, reading: Reading) -> None:
        """A reading of the last process that the journal still holds; before the first `tick`.

        It is not later than a minute after what was last written down of its device: the wall clock is believed for so much.
        """
        ear, known = self._ears.get(reading.device), self._stored.get(reading.device)
        if ear is None or known is None or reading.retained or not _says(reading):
            return
        after_s = (reading.received_ms - reading.age_ms - known[1].wall_ms) / 1000.0
        if 0.0 < after_s <= SAVE_EVERY_S + 1.0 and known[0] + after_s >= ear.at_s:
            ear.at_s, ear.boot, ear.seq = known[0] + after_s, reading.boot, reading.seq

    def heard(self, reading: Reading, binding: Binding, now_s: float) -> None:
        """A reading was accepted."""
        ear = self._ears.get(reading.device)
        if (
            ear is None
            or now_s >= ear.slow_s
            or reading.backlog
            or reading.retained
            or (reading.clean is None and reading.told and reading.told[0].quality is BAD)
        ):
            self._look(reading, binding, now_s)
            return
        ear.at_s = now_s
        ear.boot = reading.boot
        ear.seq = reading.seq

    def tick(self, now_s: float, *, hears: bool) -> None:
        """Look at those whose time has come; several times a second. `hears`: the broker is there, and the lane keeps up."""
        last_s, self._tick_s = self._tick_s, now_s
        if not hears or now_s - last_s > DEAF_S:
            self._deaf_s = last_s if self._deaf_s is None else self._deaf_s
            self._deaf_here_s = last_s if self._deaf_here_s is None else self._deaf_here_s
        if hears:
            if self._deaf_s is not None:
                self._hears_again(now_s)
            if now_s >= self._settled_s:
                for ear in self._wheel.turn(now_s, LOOK_AT_ONCE):
                    self._judge(ear, now_s)
        elif self._deaf_here_s is not None and now_s - self._deaf_here_s >= DEAF_S:
            self._begin(LINK, LINK_DOWN, f"{self._by}-{self._machine}", int(now_s), now_s - self._deaf_here_s)

    def is_due(self, now_s: float) -> bool:
        """Whether there is something to write down that should not wait for the next reading."""
        return bool(self._began or self._over) or now_s >= self._clock_due_s

    def take(self) -> tuple[list[Silence], list[Fault]]:
        """Whose silence began, and what is over, since the last call."""
        told = self._began, self._over
        self._began, self._over = [], []
        return told

    def take_heard(self, moment: Moment, now_s: float) -> Stored:
        """What is to be written down now; of very many the rest a little later."""
        names = list(islice(self._unsaved, SAVE_AT_ONCE))
        self._clock_due_s = now_s + (CLOCK_EVERY_S if len(names) == len(self._unsaved) else 0.0)
        rows = []
        for name in names:
            ear = self._unsaved.pop(name)
            wall_ms = moment.wall_ms - (now_s - ear.at_s) * 1000.0
            rows.append(Heard(name, self._by, ear.at_s + self._offset_s, wall_ms, ear.boot, ear.seq))
        gone = tuple(islice(self._gone, SAVE_AT_ONCE))
        self._gone.difference_update(gone)
        deaf_s = 0.0 if self._deaf_s is None else now_s - self._deaf_s  # in that time nobody listened
        clock = Clocked(
            self._by,
            moment.machine,
            moment.uptime_s - deaf_s,
            moment.wall_ms - deaf_s * 1000.0,
            now_s - deaf_s + self._offset_s,
        )
        return Stored(tuple(rows), (clock,), gone)

    def _hears_again(self, now_s: float) -> None:
        """The link is back: an outage of ours is nobody's silence, unless it was over in no time."""
        assert self._deaf_s is not None
        lost_s = now_s - self._deaf_s
        if lost_s > DEAF_S:
            self._offset_s -= lost_s
            for ear in self._ears.values():
                ear.at_s = min(ear.at_s + lost_s, now_s)
            for gateway in self._gateways.values():
                gateway.at_s = min(gateway.at_s + lost_s, now_s)
        self._deaf_s = self._deaf_here_s = None
        self._settled_s = now_s + SETTLE_S
        self._stored.clear()
        self._end(LINK)

    def _look(self, reading: Reading, binding: Binding, now_s: float) -> None:
        """The second look at a reading: held back, all bad, the first of a minute, or the first after a silence."""
        ear = None if reading.retained else self._ears.get(reading.device) or self._admit(binding, now_s)
        if ear is None:
            return
        at_s = now_s - reading.age_ms / 1000.0
        if ear.gateway is not None:
            self._brought(ear.gateway, at_s, now_s)
        if not _says(reading) or (ear.boot and at_s < ear.at_s):
            return
        ear.at_s, ear.boot, ear.seq = at_s, reading.boot, reading.seq
        if ear.device in self._standing and ear.due_s > now_s:
            self._end(ear.device)
            self._wheel.put(ear)
        if now_s >= ear.slow_s:
            self._unsaved[ear.device] = ear
            ear.slow_s = 0.0 if ear.device in self._standing else now_s + SAVE_EVERY_S

    def _brought(self, gateway: Gateway, at_s: float, now_s: float) -> None:
        """A gateway brought something. After a silence its other children get the time to be heard again."""
        gateway.at_s = max(gateway.at_s, at_s)
        if gateway.name not in self._standing or gateway.is_quiet(now_s):
            return
        self._end(gateway.name)
        for ear in gateway.children.values():
            ear.at_s = max(ear.at_s, now_s + SILENCE_INTERVALS * ear.interval_s - ear.limit_s)
            self._wheel.put(ear)

    def _judge(self, ear: Ear, now_s: float) -> None:
        """Its bucket has come: it was heard meanwhile, or is silent by itself, or by its gateway."""
        if ear.due_s > now_s:
            self._wheel.put(ear)
            return
        ear.slow_s = 0.0
        gateway, reason = ear.gateway, SILENT if ear.active or ear.boot else NEVER
        if gateway is not None and gateway.name not in self._standing and gateway.is_quiet(now_s):
            newest = gateway.newest()
            self._begin(gateway.name, SILENT, newest.boot, newest.seq, now_s - max(gateway.at_s, newest.at_s))
        if gateway is not None and gateway.name in self._standing and reason == SILENT:
            reason = BY_GATEWAY
        self._begin(ear.device, reason, ear.boot, ear.seq, now_s - ear.at_s)

    def _begin(self, device: str, reason: str, boot: str, seq: int, for_s: float) -> None:
        if self._standing.get(device) != reason:
            self._end(device)
            self._standing[device] = reason
            self._began.append(Silence(device, reason, boot, seq, for_s))

    def _end(self, device: str) -> None:
        reason = self._standing.pop(device, "")
        if reason:
            self._over.append((device, reason))

    def _admit(self, binding: Binding, now_s: float) -> Ear | None:
        """Wait for a device from now on, by what the registry says of it now."""
        name, ear = binding.device, self._ears.get(binding.device)
        if binding.domain != FIRE_DOMAIN or binding.state not in AWAITED:
            self._forget(name)
            return None
        active = binding.state == "active"
        if ear is None:
            at_s, row = self._stored.get(name, (now_s, None))
            ear = self._ears[name] = Ear(name, at_s, 0.0, 0.0, active=active)
            if row is None:  # it is waited for since now, also after a restart
                self._unsaved[name] = ear
            else:
                ear.boot, ear.seq = row.boot, row.seq
        elif active and not ear.active and not ear.boot:
            ear.at_s = now_s
        ear.active = active
        ear.limit_s = binding.spec.silence_limit_s if active or ear.boot else NEVER_S
        ear.interval_s = binding.spec.interval_s
        if active and binding.spec.weakly_supervised:
            self.weak.add(name)
        else:
            self.weak.discard(name)
        self._place(ear, binding.publisher if binding.publisher != name else "")
        if ear.bucket < 0:
            self._wheel.spread(ear)
        else:
            self._wheel.put(ear)
        return ear

    def _place(self, ear: Ear, parent: str) -> None:
        """Behind its gateway, if it has one."""
        if ear.gateway is not None and ear.gateway.name != parent:
            self._leave(ear)
        if parent and ear.gateway is None:
            ear.gateway = self._gateways.setdefault(parent, Gateway(parent, ear.at_s))
            ear.gateway.children[ear.device] = ear

    def _leave(self, ear: Ear) -> None:
        """It is not behind this gateway any more."""
        assert ear.gateway is not None
        del ear.gateway.children[ear.device]
        if not ear.gateway.children:
            del self._gateways[ear.gateway.name]
            self._end(ear.gateway.name)
        ear.gateway = None

    def _forget(self, name: str) -> None:
        """It is waited for no more."""
        ear = self._ears.pop(name, None)
        if ear is None:
            return
        ear.bucket = -1
        self.weak.discard(name)
        self._unsaved.pop(name, None)
        if ear.gateway is not None:
            self._leave(ear)
        self._end(name)


def _says(reading: Reading) -> bool:
    """Whether the device itself says something: of a unit that does not answer its driver tells only what is bad."""
    told = reading.told
    return reading.clean is not None or not told or any(value.quality is not Quality.BAD for value in told)


def _outage_s(clock: Clocked, moment: Moment) -> float:
    """How long nobody listened: by the machine's uptime, or over its restart by the wall; a clock set back has lost nothing."""
    if clock.machine and clock.machine == moment.machine:
        return max(0.0, moment.uptime_s - clock.uptime_s)
    return max(0.0, (moment.wall_ms - clock.wall_ms) / 1000.0)
