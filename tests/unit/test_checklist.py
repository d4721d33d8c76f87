"""The checklist of each class of device, step by step, from facts alone."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.registry.commissioning import Entry, EntryKind, LastTest
from iotcore.registry.directory import InTest
from iotcore.registry.records import Certificate
from iotcore.web import checklist
from iotcore.web.checklist import Budget, Known, Step
from iotcore.web.words import load

NOW_MS = 1_795_312_800_000.0
DAY_MS = 86_400_000
GOOD = Certificate("0a", "d1", "fire", int(NOW_MS) + DAY_MS, "ff")
MODE = InTest(int(NOW_MS) - 60_000, int(NOW_MS) + 540_000, "lan")


def value(point: str, said: Any, quality: str = "good", why: str = "", late_ms: float = 40.0) -> dict[str, Any]:
    return {"point": point, "value": said, "quality": quality, "why": why, "observed_ms": NOW_MS - late_ms, "received_ms": NOW_MS}


VALUES = [value("smoke", 0.01), value("temperature", 24.0), value("alarm", said=False), value("battery", 97.0)]


def device(**others: Any) -> dict[str, Any]:
    """A detector for which everything but a person's part is done."""
    return {
        "id": "d1",
        "class": "fire_detector",
        "protocol": "canonical",
        "proven": True,
        "publisher": "d1",
        "online": True,
        "last_seen_ms": NOW_MS,
        "points": {"smoke": "dB/m", "temperature": "°C", "alarm": "", "battery": "%"},
        "expected": ["smoke", "temperature", "battery"],
        "marks_tests": True,
        "values": VALUES,
        "faults": [],
        "conduct": {"skew_ms": None},
        "tests": [],
        **others,
    }


def entry(kind: EntryKind, number: int = 1, **body: Any) -> Entry:
    return Entry(f"c-{number}", "d1", number, kind, body, int(NOW_MS), int(NOW_MS), "lan")


def steps(shown: dict[str, Any], **known: Any) -> dict[str, Step]:
    found = checklist.steps(shown, Known(**{"certificates": (GOOD,), **known}), NOW_MS)
    assert len({step.name for step in found}) == len(found), "each step once"
    return {step.name: step for step in found}


def why(step: Step) -> tuple[str, str]:
    return step.condition, step.reason


def test_a_detector_is_done_when_all_of_it_is() -> None:
    last = LastTest("d1", int(NOW_MS), 12.5, "lan")
    found = steps(device(), last_test=last, entries=[entry("photo", 1), entry("location", 2)])
    assert list(found) == ["enrolled", "connected", "clock", "reading", "battery", "alarm", "photo", "location"]
    assert {step.condition for step in found.values()} == {"done"}
    assert found["alarm"].latency_ms == 12.5
    assert checklist.open_steps(list(found.values())) == []


def test_fresh_out_of_the_box_each_step_says_what_to_do_now() -> None:
    found = steps(device(online=None, last_seen_ms=None, values=[]), certificates=())
    assert {name: step.reason for name, step in found.items()} == {
        "enrolled": "no_certificate",
        "connected": "never_connected",
        "clock": "no_reading",
        "reading": "no_reading",
        "battery": "no_reading",
        "alarm": "start_test",
        "photo": "take_photo",
        "location": "give_location",
    }
    assert {step.condition for step in found.values()} == {"waiting"}
    for language in ("vi", "en"):
        assert all(load(language).step(step) for step in found.values())


@pytest.mark.parametrize("certificate", [None, "expired", "revoked"])
def test_a_certificate_counts_while_it_is_valid(certificate: str | None) -> None:
    expired = Certificate("0b", "d1", "fire", int(NOW_MS), "ff")
    revoked = Certificate("0c", "d1", "fire", int(NOW_MS) + DAY_MS, "ff", revoked_ms=1)
    mine = {None: (), "expired": (expired,), "revoked": (revoked,)}[certificate]
    assert why(steps(device(), certificates=mine)["enrolled"]) == ("waiting", "no_certificate")


def test_a_vendors_device_has_no_certificate_to_wait_for() -> None:
    assert "enrolled" not in steps(device(proven=False, protocol="json"))


def test_offline_is_wrong_and_not_only_waited_for() -> None:
    assert why(steps(device(online=False))["connected"]) == ("failed", "offline")


@pytest.mark.parametrize(
    ("skew_ms", "late_ms", "condition"),
    [
        (None, 40.0, "done"), (None, -29_000.0, "done"), (None, -31_000.0, "failed"), (None, 31_000.0, "failed"),
        (250.0, 40_000.0, "done"), (31_000.0, 0.0, "failed"), (-31_000.0, 0.0, "failed"),
    ],
)  # fmt: skip
def test_a_clock_is_judged_by_what_was_measured_or_else_by_the_newest_readings(
    skew_ms: float | None, late_ms: float, condition: str
) -> None:
    shown = device(conduct={"skew_ms": skew_ms}, values=[value("smoke", 0.01, late_ms=late_ms)])
    assert steps(shown)["clock"].condition == condition


def test_a_clock_that_a_lane_has_replaced_is_wrong_though_its_readings_look_right() -> None:
    found = steps(device(faults=[{"reason": "clock_past", "since_ms": NOW_MS}], values=[value("smoke", 0.01, late_ms=0.0)]))
    assert why(found["clock"]) == ("failed", "clock_wrong")


def test_who_has_no_clock_of_its_own_is_not_asked_for_one() -> None:
    assert "clock" not in steps(device(protocol="modbus"))
    assert "clock" not in steps(device(protocol="json"))


def test_a_bad_value_is_named_with_its_reason() -> None:
    found = steps(device(values=[*VALUES[1:], value("smoke", None, "bad", "timeout")]))["reading"]
    assert why(found) == ("failed", "bad_points")
    assert load("en").step(found) == "Not good: smoke (timeout)"


def test_a_point_that_was_never_told_is_waited_for_but_only_where_it_must_be_told() -> None:
    found = steps(device(values=VALUES[:1]))["reading"]
    assert (*why(found), found.values["points"]) == ("waiting", "missing_points", "temperature, battery")
    assert steps(device(values=VALUES[:1], expected=[]))["reading"].done


def test_a_hundred_bad_points_are_named_in_one_line() -> None:
    found = steps(device(values=[value(f"p{i}", None, "bad", "timeout") for i in range(100)]))["reading"]
    assert load("en").step(found).endswith("p4 (timeout) … (+95)")


@pytest.mark.parametrize(
    ("point", "unit", "said", "name", "expected"),
    [
        ("rssi", "dBm", -84.0, "signal", ("done", "")), ("rssi", "dBm", -86.0, "signal", ("failed", "weak_signal")),
        ("linkquality", "lqi", 29.0, "signal", ("failed", "weak_signal")),
        ("battery", "%", 19.0, "battery", ("failed", "low_battery")),
        ("battery", "%", None, "battery", ("waiting", "no_reading")),
        ("battery_low", "", True, "battery", ("failed", "low_battery")),
        ("battery_low", "", False, "battery", ("done", "")),
    ],
)  # fmt: skip
def test_radio_and_battery_are_judged_where_the_spec_has_them(
    point: str, unit: str, said: Any, name: str, expected: tuple[str, str]
) -> None:
    told = [] if said is None else [value(point, said)]
    found: dict[str, Step] = dict(steps(device(points={point: unit}, expected=[], values=told)))
    assert why(found[name]) == expected
    assert {"signal", "battery"} & steps(device(points={"smoke": "dB/m"})).keys() == set()


def test_the_alarm_is_waited_for_pressed_and_proved() -> None:
    assert why(steps(device())["alarm"]) == ("waiting", "start_test")
    assert why(steps(device(), in_test=MODE)["alarm"]) == ("waiting", "press_button")
    assert why(steps(device(marks_tests=False), in_test=MODE)["alarm"]) == ("waiting", "cannot_mark")
    assert steps(device(), in_test=MODE, last_test=LastTest("d1", int(NOW_MS), 9.0, "lan"))["alarm"].done
    assert "alarm" not in steps(device(**{"class": "air_station"}))


def test_an_unmarked_alarm_fails_the_step_until_a_marked_one_proves_it_and_stays_loud() -> None:
    out = {"mode_ms": float(MODE.started_ms), "incident": "F1", "proves": False}
    shown = device(tests=[out])
    old = LastTest("d1", MODE.started_ms - 1, 9.0, "lan")
    assert why(steps(shown, in_test=MODE, last_test=old)["alarm"]) == ("failed", "unmarked")
    proved = Known(in_test=MODE, last_test=LastTest("d1", MODE.started_ms + 1, 9.0, "lan"))
    assert {step.name: step for step in checklist.steps(shown, proved, NOW_MS)}["alarm"].done
    assert checklist.unmarked(shown, proved) == [out]
    assert checklist.unmarked(shown, Known()) == []
    assert checklist.unmarked(device(tests=[{**out, "mode_ms": 1.0}]), proved) == [], "of an earlier test mode"


def test_a_modbus_unit_is_checked_by_reading_it_and_by_its_bus() -> None:
    unit = device(**{"class": "air_station", "protocol": "modbus", "points": {"pm25": "µg/m³"}, "values": [value("pm25", 12.0)]})
    found = steps(unit, budget=Budget(kept=True, story="1 s + 2 s"))
    assert list(found) == ["enrolled", "connected", "reading", "identity", "plausible", "budget", "photo", "location"]
    assert why(found["identity"]) == why(found["plausible"]) == ("waiting", "run_check")
    assert found["budget"].done
    told = entry(
        "modbus",
        identity={"condition": "failed", "reason": "wrong_identity", "values": {"said": "vendor Acme", "expected": "Vaisala"}},
        plausible={"condition": "done", "reason": "", "values": {"count": 7}},
    )
    found = steps(unit, entries=[told], budget=Budget(kept=False, story="3 s > 2 s"))
    assert load("en").step(found["identity"]) == "It says: vendor Acme. Expected: Vaisala."
    assert load("en").step(found["plausible"]) == "7 points, all plausible"
    assert load("en").step(found["budget"]) == "Over the budget: 3 s > 2 s"


def test_a_gateway_without_points_needs_no_reading() -> None:
    assert list(steps(device(**{"class": "gateway", "points": {}, "values": []}))) == [
        "enrolled",
        "connected",
        "photo",
        "location",
    ]


def test_what_was_proved_of_the_unit_before_proves_nothing_of_this_one() -> None:
    told = [entry("photo", 1), entry("location", 2), entry("sign", 3, name="A")]
    last = LastTest("d1", int(NOW_MS), 12.5, "lan")
    found = steps(device(), last_test=last, entries=told, since_ms=int(NOW_MS) + 1)
    assert {name: step.done for name, step in found.items() if name in {"alarm", "photo", "location"}} == {
        "alarm": False,
        "photo": False,
        "location": True,  # it hangs where the other one hung
    }
    known = Known(entries=told, since_ms=int(NOW_MS) + 1)
    assert known.newest("sign") is None
    assert known.latest("sign") is told[2]
