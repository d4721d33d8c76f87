"""Which lines came after their minute was rolled up."""

from __future__ import annotations

from iotcore.clock import ManualClock
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.telemetry.late import LateHour, late_hours
from iotcore.telemetry.line import line
from tests.support.shipped import SPECS

CLOCK = ManualClock()
HOUR_MS = 3_600_000


def written(device: str, at_ms: float, premises: str = "") -> bytes:
    binding = Binding(device, "", SPECS["vaisala-aqt530"], "air", "gw", "active", premises=premises)
    return line(Reading(device, "b", 1, "reading", at_ms, at_ms, (Value("pm10", 1.0),)), binding)


def test_what_is_younger_is_not_looked_at() -> None:
    body = b"\n".join(written("a", CLOCK.now_ms - age) for age in (0, 1000, 89_999))
    assert late_hours(body, int(CLOCK.now_ms) - 90_000) == set()
    assert late_hours(b"", int(CLOCK.now_ms)) == set()


def test_each_late_device_and_hour_is_named_once() -> None:
    now = CLOCK.now_ms  # a whole hour
    body = b"\n".join(
        written(device, now - age, "Trạm 1, Hàm Rồng") for device in ("a", "b") for age in (0, 100_000, 200_000, HOUR_MS + 1)
    )
    last = int(now) - HOUR_MS
    assert late_hours(body, int(now) - 90_000) == {
        LateHour("air_station", device, hour) for device in ("a", "b") for hour in (last, last - HOUR_MS)
    }


def test_escaped_names_come_back_as_they_were() -> None:
    body = rb"odd\ class,device=a\,b\ c\=d,premises=x pm10=1 1000000000"
    assert late_hours(body, 10_000) == {LateHour("odd class", "a,b c=d", 0)}


def test_a_text_that_looks_like_tags_misleads_nobody() -> None:
    body = rb'traffic_signal,device=s1 mode="x,device=evil 5" 1000000000'
    assert late_hours(body, 10_000) == {LateHour("traffic_signal", "s1", 0)}
