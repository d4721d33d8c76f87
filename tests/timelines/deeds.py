"""What can be done to a city: what detectors say, what people do, and what breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from iotcore.registry.directory import Disablement, InTest, Target
from tests.simulated.virtual import EPOCH_MS
from tests.timelines.city import ARC, BACKUP, City
from tests.timelines.notation import Deed

CALM = {"smoke": 0.01, "temperature": 24.0, "alarm": False, "battery": 95.0}
MS_PER_S = 1000.0


def says(device: str, words: str, **values: Any) -> Deed:
    """A reading with these values, all others calm."""
    told = values if device.startswith("cp-") else {**CALM, **values}
    return Deed(f"{device} {words}", lambda city: city.say(device, told))


def calm(device: str) -> Deed:
    return says(device, "sees nothing")


def smoke(device: str) -> Deed:
    """The detector's own decision."""
    return says(device, "sees smoke", alarm=True)


def press(device: str) -> Deed:
    return says(device, "is pressed", pressed=True)


def released(device: str) -> Deed:
    return says(device, "is released", pressed=False)


def act(kind: str, premises: str = "p1", by: str = "dispatcher") -> Deed:
    """A person's act on the open incident of a building."""
    return Deed(f"{by}: {kind} of {premises}", lambda city: city.intend(kind, city.incident(premises), by))


def kill(number: int = 1) -> Deed:
    return Deed(f"kill -9 of fire-{number}", lambda city: city.processes[number - 1].kill())


def start(number: int = 1) -> Deed:
    return Deed(f"fire-{number} starts", lambda city: city.processes[number - 1].start())


def stall(number: int, for_s: float) -> Deed:
    """SIGSTOP, and SIGCONT so much later."""
    return Deed(f"fire-{number} stands still for {for_s:g} s", lambda city: city.processes[number - 1].freeze(for_s))


def step_clock(by_s: float) -> Deed:
    def do(city: City) -> None:
        for process in city.processes:
            process.clock_steps.append((city.now_s, by_s))

    return Deed(f"the wall clock is set by {by_s:+g} s", do)


def dark(*names: str) -> Deed:
    def do(city: City) -> None:
        city.loop.dark |= {{"arc": ARC, "backup": BACKUP}[name] for name in names}

    return Deed(f"the path to {' and '.join(names)} is a black hole", do)


def lit(*names: str) -> Deed:
    def do(city: City) -> None:
        city.loop.dark -= {{"arc": ARC, "backup": BACKUP}[name] for name in names}

    return Deed(f"the path to {' and '.join(names)} works again", do)


def disable(device: str, for_s: float) -> Deed:
    def do(city: City) -> None:
        now_ms = EPOCH_MS + city.now_s * MS_PER_S
        premises = city.directory.devices[device].premises
        until_ms = int(now_ms + for_s * MS_PER_S)
        one = Disablement("d-1", Target("device", device), premises, "bảo trì", "lan", int(now_ms), until_ms, int(now_ms))
        city.directory = replace(city.directory, disablements={one.id: one})

    return Deed(f"{device} is disabled for {for_s:g} s", do)


def in_test(device: str, for_s: float) -> Deed:
    def do(city: City) -> None:
        now_ms = int(EPOCH_MS + city.now_s * MS_PER_S)
        city.directory = replace(city.directory, in_test={device: InTest(now_ms, now_ms + int(for_s * MS_PER_S), "lan")})

    return Deed(f"{device} is put in test mode for {for_s:g} s", do)


def marked_test(device: str) -> Deed:
    """A reading that says of itself that it is a test."""
    return Deed(f"{device} tells a test alarm", lambda city: city.say(device, {**CALM, "alarm": True}, test=True))


def backlog(device: str, age_s: float) -> Deed:
    """A reading that was held back so long."""

    def do(city: City) -> None:
        then_ms = int(EPOCH_MS + (city.now_s - age_s) * MS_PER_S)
        city.say(device, {**CALM, "alarm": True}, ts=then_ms, backlog=True, age_ms=int(age_s * MS_PER_S))

    return Deed(f"{device} brings smoke of {age_s:g} s ago, marked as backlog", do)


def wrong_clock(device: str, by_s: float) -> Deed:
    def do(city: City) -> None:
        city.say(device, {**CALM, "alarm": True}, ts=int(EPOCH_MS + (city.now_s + by_s) * MS_PER_S))

    return Deed(f"{device} sees smoke, with a clock that is wrong by {by_s:+g} s", do)


def disk(*, full: bool) -> Deed:
    def do(city: City) -> None:
        city.refusing = full

    return Deed("the journal's disk refuses" if full else "the journal's disk takes again", do)


def doom(number: int, when: str) -> Deed:
    """kill -9 as soon as an incident is on disk, before anything is sent."""

    def do(city: City) -> None:
        city.processes[number - 1].doom = lambda: any(one.kind == "incident" for one in city.seen)

    return Deed(f"fire-{number} will be killed (kill -9) {when}", do)


def again(device: str, times: int) -> Deed:
    """The broker delivers the last reading again."""

    def do(city: City) -> None:
        for _ in range(times):
            city.publish(*city.last[device])

    return Deed(f"the broker delivers the last reading of {device} {times} times more", do)


def storm(premises: int, detectors: int, burning: int) -> Deed:
    def do(city: City) -> None:
        for k in range(1, detectors + 1):
            for n in range(1, premises + 1):
                city.say(f"sd-{n}-{k}", {**CALM, "alarm": k % (detectors // burning) == 0})

    return Deed(f"all {premises * detectors:,} detectors of {premises} buildings report at once; {burning} in each see smoke", do)
