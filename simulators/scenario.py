"""What every device of the simulated city measures at a moment, with one premises burning or none.

Pure and repeatable: a value depends on the seed, the device and the time only, so that two processes tell the same story.
Times are seconds UTC since 1970; the day is that of Vietnam (UTC+7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from random import Random
from typing import Any
from zlib import crc32

from iotcore.reading import Scalar
from simulators import city
from simulators.fire_growth import STILL, Fire, Jet, at_detector

HOUR_S, DAY_S = 3_600.0, 86_400.0
VIETNAM_UTC_OFFSET_S = 7 * HOUR_S
CEILING_M = 3.0  # above the fuel
SENSOR_FULL_SCALE_DB_PER_M = 20.0  # an optical chamber tells no more
DETECTOR_OWN_ALARM_DB_PER_M = 0.4  # the maker's own setting of the simulated detector, the less sensitive end
SAME_ROOM_M, SAME_FLOOR_M = (1.5, 5.0), (12.0, 20.0)  # distance from the plume's axis
YELLOW_S, ALL_RED_S = 3, 2
GREEN, YELLOW, RED = "1", "N", "A"  # S0001 characters of RSMP 3


@dataclass(frozen=True, slots=True)
class Burning:
    """A fire in one zone of one premises, from `ignition_s` on."""

    premises: str
    zone: str
    ignition_s: float
    fire: Fire


class Scenario:
    """The values of a city. `burning` may be set and taken away while it runs."""

    def __init__(self, document: Mapping[str, Sequence[Mapping[str, Any]]], seed: int = 1) -> None:
        self.seed = seed
        self.burning: Burning | None = None
        self._devices = {device["id"]: device for device in document["devices"]}
        self._zones = {zone["id"]: zone for zone in document["zones"]}

    def ignite(self, premises: str, ignition_s: float, fire: Fire | None = None) -> Burning:
        """Set a premises on fire, in the zone of its first smoke detector.

        Raises:
            ValueError: the city has no such premises, or no detector in it.
        """
        zones = [
            device["zone"]
            for device in self._devices.values()
            if device["model"] == city.DETECTOR_MODEL and device["premises"] == premises
        ]
        if not zones:
            raise ValueError(f"no smoke detector stands in premises {premises!r}")
        self.burning = Burning(premises, zones[0], ignition_s, fire or Fire())
        return self.burning

    def values(self, device: str, now_s: float) -> dict[str, Scalar]:
        """Every point of the device's model at `now_s`.

        Raises:
            KeyError: the city has no such device.
        """
        entry = self._devices[device]
        noise = Random(f"{self.seed}/{device}/{now_s:.3f}")
        if entry["model"] == city.DETECTOR_MODEL:
            return detector(device, now_s, self.jet(device, now_s), noise)
        return OTHERS[entry["model"]](device, now_s, noise)

    def jet(self, device: str, now_s: float) -> Jet:
        """What of the fire reaches a detector; still air where none does."""
        distance_m = self.distance_m(device)
        if self.burning is None or distance_m is None:
            return STILL
        return at_detector(self.burning.fire, now_s - self.burning.ignition_s, distance_m, CEILING_M)

    def distance_m(self, device: str) -> float | None:
        """How far a detector stands from the fire; None where floors or walls are between."""
        entry = self._devices[device]
        if self.burning is None or entry.get("premises") != self.burning.premises:
            return None
        here, there = self._zones[self.burning.zone], self._zones[entry["zone"]]
        if here["floor"] != there["floor"]:
            return None
        nearest, farthest = SAME_ROOM_M if here["id"] == there["id"] else SAME_FLOOR_M
        return nearest + (farthest - nearest) * own(device, "place")


def detector(device: str, now_s: float, jet: Jet, noise: Random) -> dict[str, Scalar]:
    """A smoke and heat detector in a room: smoke in dB/m, temperature in °C, its own decision, battery in %."""
    smoke = 0.005 + 0.015 * own(device, "zero") + jet.smoke + noise.gauss(0.0, 0.004)
    smoke = min(max(smoke, 0.0), SENSOR_FULL_SCALE_DB_PER_M)
    room_c = 25.0 + 3.0 * own(device, "room") + 2.0 * afternoon(now_s)
    return {
        "smoke": round(smoke, 4),
        "temperature": round(room_c + jet.rise_c + noise.gauss(0.0, 0.08), 2),
        "alarm": smoke >= DETECTOR_OWN_ALARM_DB_PER_M,
        "button": False,
        "battery": round(70.0 + 30.0 * own(device, "battery")),
    }


def call_point(device: str, now_s: float, noise: Random) -> dict[str, Scalar]:
    """A call point that nobody presses."""
    del device, now_s, noise
    return {"pressed": False}


def air(device: str, now_s: float, noise: Random) -> dict[str, Scalar]:
    """Town air: traffic peaks at 7 and 18 h, ozone in the afternoon; gases in ppb, particles in µg/m³."""
    traffic = 0.35 + 0.65 * max(peak(now_s, 7.0, 2.0), peak(now_s, 18.0, 2.5))
    dirt = 0.7 + 0.6 * own(device, "site")
    sun = max(afternoon(now_s), 0.0)
    pm25 = dirt * (18.0 + 30.0 * traffic) + noise.gauss(0.0, 1.5)
    warm_c = 26.0 + 5.0 * afternoon(now_s)
    return {
        "no2": round(dirt * (8.0 + 24.0 * traffic) + noise.gauss(0.0, 1.0)),
        "so2": round(3.0 + 2.0 * dirt + noise.gauss(0.0, 0.5)),
        "co": round(dirt * (350.0 + 700.0 * traffic) + noise.gauss(0.0, 15.0)),
        "h2s": round(max(1.0 + noise.gauss(0.0, 0.5), 0.0)),
        "o3": round(12.0 + 38.0 * sun * (1.2 - 0.4 * traffic) + noise.gauss(0.0, 1.0)),
        "no": round(max(dirt * 15.0 * traffic + noise.gauss(0.0, 1.0), 0.0)),
        "pm25": round(max(pm25, 1.0), 1),
        "pm10": round(max(1.6 * pm25 + noise.gauss(0.0, 2.0), 2.0), 1),
        "temperature": round(warm_c + noise.gauss(0.0, 0.1), 1),
        "humidity": round(min(max(80.0 - 15.0 * afternoon(now_s) + noise.gauss(0.0, 0.5), 20.0), 100.0), 1),
        "pressure": round(1008.0 + 1.5 * cos(4.0 * pi * (now_s + VIETNAM_UTC_OFFSET_S - 10 * HOUR_S) / DAY_S), 1),
    }


def water(device: str, now_s: float, noise: Random) -> dict[str, Scalar]:
    """River or lake: algae lift oxygen (mg/L) and pH by day; conductivity in mS/cm, temperature in °C."""
    algae = own(device, "algae") * afternoon(now_s)
    return {
        "ph": round(7.3 + 0.4 * own(device, "site") + 0.25 * algae + noise.gauss(0.0, 0.01), 2),
        "dissolved_oxygen": round(6.2 + 1.2 * algae + noise.gauss(0.0, 0.05), 2),
        "conductivity": round(0.25 + 0.5 * own(device, "salt") + noise.gauss(0.0, 0.003), 3),
        "temperature": round(26.0 + 1.2 * afternoon(now_s) + noise.gauss(0.0, 0.02), 2),
    }


def signal(device: str, now_s: float, noise: Random) -> dict[str, Scalar]:
    """A two-phase junction under a fixed-time plan; groups 1 and 3 cross 2 and 4, in S0001 characters."""
    del noise
    hour = (now_s + VIETNAM_UTC_OFFSET_S) % DAY_S / HOUR_S
    plan, cycle_s = next(
        (p, c) for until, p, c in ((6, 1, 60), (9, 2, 110), (16, 3, 90), (20, 4, 120), (25, 1, 60)) if hour < until
    )
    offset_s = int(own(device, "offset") * cycle_s)
    along, across = phases((now_s - offset_s) % cycle_s, cycle_s)
    return {
        "plan": plan,
        "mode": "local",
        "cycle_s": cycle_s,
        "offset_s": offset_s,
        "groups": along + across + along + across,
        "preempt_number": 0,
        "priority_number": 0,
        "remote_left_s": 0,
        **dict.fromkeys(("lamp_fault", "conflict", "door_open", "police_key", "detector_fault"), False),
    }


def gateway(device: str, now_s: float, noise: Random) -> dict[str, Scalar]:
    """A gateway that restarts on the first of each thirty days."""
    del device, noise
    return {"uptime_s": now_s % (30 * DAY_S)}


def phases(t_s: float, cycle_s: int) -> tuple[str, str]:
    """The two directions' characters at `t_s` in the cycle: green, yellow, all red, then the other direction."""
    green_s = (cycle_s - 2 * (YELLOW_S + ALL_RED_S)) / 2
    half, into_s = divmod(t_s, cycle_s / 2)
    shown = GREEN if into_s < green_s else YELLOW if into_s < green_s + YELLOW_S else RED
    return (shown, RED) if half == 0 else (RED, shown)


def afternoon(now_s: float) -> float:
    """1 at 14 h local time, −1 at 2 h."""
    return cos(2.0 * pi * (now_s + VIETNAM_UTC_OFFSET_S - 14 * HOUR_S) / DAY_S)


def peak(now_s: float, at_hour: float, width_h: float) -> float:
    """A bump of height 1 around an hour of the local day, 0 farther away than `width_h`."""
    away_h = abs((now_s + VIETNAM_UTC_OFFSET_S) % DAY_S / HOUR_S - at_hour)
    away_h = min(away_h, 24.0 - away_h)
    return 0.5 * (1.0 + cos(pi * away_h / width_h)) if away_h < width_h else 0.0


def own(device: str, trait: str) -> float:
    """A number in [0, 1) that is the device's own, the same in every run."""
    return crc32(f"{device}/{trait}".encode()) / 2**32


OTHERS: dict[str, Callable[[str, float, Random], dict[str, Scalar]]] = {
    city.CALL_POINT_MODEL: call_point,
    city.AIR_MODEL: air,
    city.WATER_MODEL: water,
    city.SIGNAL_MODEL: signal,
    city.GATEWAY_MODEL: gateway,
}
