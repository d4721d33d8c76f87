"""What a technician wants to see before leaving, step by step, as facts say it: done, waiting for something, or failed.

    every device     enrolled · connected · reading · photo · location
    with its own clock, radio, battery         clock · signal · battery
    Modbus           identity · plausible · budget        (`iotcore commissioning check` reads the unit)
    fire             alarm: a test alarm went the whole road

Pure: times are ms UTC. Every step that is not done has a named reason; the words for it, and what to do, are in the catalogues.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from iotcore.registry.city import FIRE_CLASSES
from iotcore.registry.commissioning import Entry, EntryKind, LastTest
from iotcore.registry.directory import InTest
from iotcore.registry.records import Certificate
from iotcore.web.view import Shown

StepName = Literal[
    "enrolled",
    "connected",
    "clock",
    "reading",
    "signal",
    "battery",
    "identity",
    "plausible",
    "budget",
    "alarm",
    "photo",
    "location",
]
Reason = Literal[
    "no_certificate", "never_connected", "offline", "no_reading", "clock_wrong", "bad_points", "missing_points", "weak_signal",
    "low_battery", "run_check", "nameplate", "wrong_identity", "over_budget", "start_test", "press_button", "cannot_mark",
    "unmarked",
    "take_photo", "give_location",
]  # fmt: skip
Condition = Literal["done", "waiting", "failed"]

CLOCK_LIMIT_MS = 30_000.0  # half of what the lanes bear (`journal.skew`): a clock must not be at its limit on its first day
WEAKEST = {"dBm": -85.0, "lqi": 30.0}  # by unit of the point: our own allowance for a wall that is built later
EMPTIEST_BATTERY = 20.0  # %: our own allowance: a new device has a full one
NAMED_POINTS = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the list. `values` fill the words of `reason`; `latency_ms` is from the detector's moment until durable."""

    name: StepName
    condition: Condition
    reason: Reason | Literal[""] = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    latency_ms: float | None = None

    @property
    def done(self) -> bool:
        return self.condition == "done"


@dataclass(frozen=True, slots=True)
class Budget:
    """Whether the fire budgets of a Modbus bus are kept with this unit on it, with the arithmetic."""

    kept: bool
    story: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry knows of a device: certificates of its publisher, newest first; tests; what technicians told.

    `since_ms`: the unit is there since then. A test, a photo or a signature of the one before proves nothing of it.
    """

    certificates: Sequence[Certificate] = ()
    last_test: LastTest | None = None
    in_test: InTest | None = None
    entries: Sequence[Entry] = ()
    budget: Budget | None = None
    since_ms: int = 0

    def latest(self, kind: EntryKind) -> Entry | None:
        """The last entry of this kind, of whatever unit."""
        return next((one for one in reversed(self.entries) if one.kind == kind), None)

    def newest(self, kind: EntryKind) -> Entry | None:
        """The entry of this kind that counts: the place is that of every unit there, anything else of this one."""
        found = self.latest(kind)
        return found if found is not None and (kind == "location" or found.received_ms >= self.since_ms) else None

    @property
    def proof(self) -> LastTest | None:
        """The last test of this unit."""
        return self.last_test if self.last_test is not None and self.last_test.at_ms >= self.since_ms else None


def current(certificates: Sequence[Certificate], now_ms: float) -> Certificate | None:
    """The newest certificate that is neither revoked nor expired."""
    return next((one for one in certificates if one.revoked_ms is None and one.not_after_ms > now_ms), None)


def steps(device: Shown, known: Known, now_ms: float) -> list[Step]:
    """The list for a device, in the order of the work."""
    return list(_steps(device, known, now_ms))


def open_steps(found: Sequence[Step]) -> list[StepName]:
    """What is not done yet."""
    return [step.name for step in found if not step.done]


def unmarked(device: Shown, known: Known) -> list[Shown]:
    """Alarms since the test mode began that were not marked though the device can: they went out as fires."""
    in_test = known.in_test
    if in_test is None:
        return []
    return [one for one in device["tests"] if one["mode_ms"] == in_test.started_ms and not one["proves"]]


def _steps(device: Shown, known: Known, now_ms: float) -> Iterator[Step]:
    if device["proven"]:
        has_one = current(known.certificates, now_ms) is not None
        yield Step("enrolled", "done") if has_one else Step("enrolled", "waiting", "no_certificate")
    yield _connected(device)
    if device["protocol"] == "canonical" and device["points"]:
        yield _clock(device)
    if device["points"]:
        yield _reading(device)
    yield from _radio_and_battery(device)
    if device["protocol"] == "modbus":
        yield from _unit(known)
    if device["class"] in FIRE_CLASSES:
        yield _alarm(device, known)
    yield Step("photo", "done") if known.newest("photo") else Step("photo", "waiting", "take_photo")
    yield Step("location", "done") if known.newest("location") else Step("location", "waiting", "give_location")


def _connected(device: Shown) -> Step:
    if device["online"] is False:
        return Step("connected", "failed", "offline")
    there = device["online"] is True or device["last_seen_ms"] is not None
    return Step("connected", "done") if there else Step("connected", "waiting", "never_connected")


def _clock(device: Shown) -> Step:
    """By what was measured; before that, by the newest readings: the network only ever makes them later."""
    wrong = [fault["reason"] for fault in device["faults"] if fault["reason"].startswith("clock_")]
    skew_ms = device["conduct"]["skew_ms"]
    if skew_ms is None:
        late = [value["received_ms"] - value["observed_ms"] for value in device["values"]]
        skew_ms = -min(late) if late else None
    if wrong or (skew_ms is not None and abs(skew_ms) > CLOCK_LIMIT_MS):
        return Step("clock", "failed", "clock_wrong", {"seconds": None if skew_ms is None else skew_ms / 1000.0})
    if skew_ms is None:
        return Step("clock", "waiting", "no_reading")
    return Step("clock", "done", values={"seconds": skew_ms / 1000.0})


def _reading(device: Shown) -> Step:
    """Everything that was told is good, and everything that it measures was told."""
    values = device["values"]
    if not values:
        return Step("reading", "waiting", "no_reading")
    bad = [f"{value['point']} ({value['why'] or value['quality']})" for value in values if value["quality"] != "good"]
    if bad:
        return Step("reading", "failed", "bad_points", named(bad))
    told = {value["point"] for value in values}
    missing = [point for point in device["expected"] if point not in told]
    if missing:
        return Step("reading", "waiting", "missing_points", named(missing))
    return Step("reading", "done", values={"count": len(values)})


def named(points: Sequence[str]) -> dict[str, Any]:
    """The first few of them, and how many more there are."""
    more = f" … (+{len(points) - NAMED_POINTS})" if len(points) > NAMED_POINTS else ""
    return {"points": ", ".join(points[:NAMED_POINTS]) + more}


def _radio_and_battery(device: Shown) -> Iterator[Step]:
    told = {value["point"]: value["value"] for value in device["values"] if value["quality"] == "good"}
    for name, unit in device["points"].items():
        value = told.get(name)
        if unit in WEAKEST:
            yield _at_least("signal", "weak_signal", value, WEAKEST[unit], unit)
        elif name == "battery":
            yield _at_least("battery", "low_battery", value, EMPTIEST_BATTERY, unit)
    if "battery_low" in device["points"] and "battery" not in device["points"]:
        low = told.get("battery_low")
        waiting = Step("battery", "waiting", "no_reading")
        yield waiting if low is None else Step("battery", "failed", "low_battery") if low else Step("battery", "done")


def _at_least(name: StepName, reason: Reason, value: Any, least: float, unit: str) -> Step:
    if not isinstance(value, int | float):
        return Step(name, "waiting", "no_reading")
    said = {"value": value, "least": least, "unit": unit}
    return Step(name, "done", values=said) if value >= least else Step(name, "failed", reason, said)


def _unit(known: Known) -> Iterator[Step]:
    """A Modbus unit, as `iotcore commissioning check` found it; the budget, as the whole bus has it."""
    entry = known.newest("modbus")
    if entry is None:
        yield Step("identity", "waiting", "run_check")
        yield Step("plausible", "waiting", "run_check")
    else:
        for name in ("identity", "plausible"):
            said = entry.body[name]
            yield Step(name, said["condition"], said["reason"], said["values"])
    if known.budget is not None:
        story = {"story": known.budget.story}
        yield Step("budget", "done", values=story) if known.budget.kept else Step("budget", "failed", "over_budget", story)


def _alarm(device: Shown, known: Known) -> Step:
    last = known.proof
    if known.in_test is not None and (last is None or last.at_ms < known.in_test.started_ms):
        out = unmarked(device, known)
        if out:
            return Step("alarm", "failed", "unmarked", {"incident": out[0]["incident"]})
        if last is None:
            return Step("alarm", "waiting", "press_button" if device["marks_tests"] else "cannot_mark")
    if last is None:
        return Step("alarm", "waiting", "start_test")
    return Step("alarm", "done", latency_ms=last.latency_ms, values={"at_ms": last.at_ms})
