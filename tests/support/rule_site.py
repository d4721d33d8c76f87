"""Detectors of a site that speak to one engine, second by second; timers are driven as the fire lane drives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from iotcore.alarms import rules
from iotcore.alarms.decisions import Armed, Decision
from iotcore.alarms.engine import Engine, Profile
from iotcore.reading import Quality, Reading, Scalar, Value
from iotcore.registry.directory import Binding
from iotcore.specs.model import DeviceSpec, Point

START_MS = 1_795_312_800_000.0  # 2026-11-22T02:00:00Z, 09:00 in Vietnam
SMOKE = DeviceSpec(
    "acme-site", "Acme", "Detector", "fire_detector", "canonical", "this test", "no", 10.0,
    {
        "smoke": Point(unit="dB/m"), "temperature": Point(unit="°C"), "alarm": Point(kind="bool"), "button": Point(kind="bool"),
        "status": Point(), "mode": Point(kind="enum", states={"0": "normal", "1": "isolated"}),
        "faults": Point(kind="flags", states={"0": "sensor", "3": "fan"}), "load1": Point(unit="kW"), "load2": Point(unit="kW"),
    },
)  # fmt: skip
Event = tuple[float, str, str, str]  # seconds, device, rule, reason


def rule(when: dict[str, Any], rule_id: str = "r", **changes: Any) -> dict[str, Any]:
    """A rule as a document."""
    return {"id": rule_id, "hazard": "smoke", "severity": "alarm", "source": "this test", "when": when} | changes


def engine_of(documents: Sequence[dict[str, Any]], profile: Profile = "immediate") -> Engine:
    """An engine of these rules."""
    checked = rules.check({"profile": "immediate", "rules": list(documents)}, "rules.yaml")
    return Engine(checked, profiles=lambda _: profile)


class Site:
    """Devices by name; all at premises p1 unless told otherwise. Keeps what began and what ended."""

    def __init__(
        self,
        documents: Sequence[dict[str, Any]],
        profile: Profile = "immediate",
        places: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.documents, self.profile = documents, profile
        self.engine = engine_of(documents, profile)
        self.places = places or {}
        self.bindings: dict[str, Binding] = {}
        self.now_s = 0.0
        self.wall_ms = START_MS
        self.seq: dict[str, int] = {}
        self.told: list[tuple[float, Reading]] = []
        self.began: list[Event] = []
        self.ended: list[Event] = []
        self.decisions: list[Decision] = []

    def binding(self, device: str) -> Binding:
        """Where a device stands."""
        if device not in self.bindings:
            premises, zone = self.places.get(device, ("p1", "z1"))
            self.bindings[device] = Binding(device, device, SMOKE, "fire", device, "active", premises, zone)
        return self.bindings[device]

    def say(self, device: str = "d1", quality: Quality = Quality.GOOD, /, **values: Scalar | None) -> list[str]:
        """One reading now; the rules that began by it, or by a timer that it made due."""
        told = tuple(Value(point, value, quality) for point, value in values.items())
        return self.hear(Reading(device, "b1", self._next(device), "reading", self.wall_ms, self.wall_ms, told))

    def say_as(self, changes: Mapping[str, Any], device: str = "d1", /, **values: Scalar | None) -> list[str]:
        """The same, marked otherwise."""
        told = tuple(Value(point, value) for point, value in values.items())
        reading = Reading(device, "b1", self._next(device), "reading", self.wall_ms, self.wall_ms, told)
        return self.hear(msgspec.structs.replace(reading, **changes))

    def hear(self, reading: Reading) -> list[str]:
        """A reading as it is."""
        self.told.append((self.now_s, reading))
        decisions = self.engine.evaluate(reading, self.binding(reading.device), now_s=self.now_s)
        return self._keep(reading.device, decisions) + self._tick()

    def wait(self, seconds: float) -> list[str]:
        """Nothing is said; timers come due when they do."""
        began: list[str] = []
        end_s = self.now_s + seconds
        while (due_s := self.engine.next_due_s()) is not None and due_s <= end_s:
            self._move(max(due_s, self.now_s))
            began += self._tick()
        self._move(end_s)
        return began

    def repeat(self, seconds: float, every_s: float, device: str = "d1", /, **values: Scalar | None) -> list[str]:
        """The same reading each so often."""
        began: list[str] = []
        for _ in range(round(seconds / every_s)):
            began += self.wait(every_s)
            began += self.say(device, **values)
        return began

    def restart(self, armed: Sequence[Armed] | None = None, *, off_s: float = 0.0, warm_s: float = 900.0) -> None:
        """A new engine, warm from the newest readings; timers as they were kept, or as they were armed a moment ago."""
        kept = self.engine.armed(self.now_s) if armed is None else armed
        self.engine = engine_of(self.documents, self.profile)
        self._move(self.now_s + off_s)
        for at_s, reading in self.told:
            if at_s >= self.now_s - warm_s:
                self.engine.tick(at_s)
                self.engine.evaluate(reading, self.binding(reading.device), now_s=at_s)
        left = [Armed(one.rule, max(0.0, one.due_in_s - off_s), one.reading, one.old) for one in kept]
        self.engine.restore(left, self.bindings, self.now_s)

    def _next(self, device: str) -> int:
        self.seq[device] = self.seq.get(device, 0) + 1
        return self.seq[device]

    def _tick(self) -> list[str]:
        began: list[str] = []
        while (due_s := self.engine.next_due_s()) is not None and due_s <= self.now_s:
            for timed in self.engine.tick(self.now_s):
                began += self._keep(timed.reading.device, [timed.decision])
        return began

    def _keep(self, device: str, decisions: Sequence[Decision]) -> list[str]:
        for one in decisions:
            event = (round(self.now_s, 2), device, one.rule, one.reason.value)
            (self.began if one.change == "raise" else self.ended).append(event)
        self.decisions += decisions
        return [one.rule for one in decisions if one.opens]

    def _move(self, now_s: float) -> None:
        self.wall_ms += (now_s - self.now_s) * 1000.0
        self.now_s = now_s
