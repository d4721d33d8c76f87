"""Scenarios: read strictly, evaluated purely; what rain, a fire and a recording do to a point."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.errors import ConfigError
from simulators import mqtt_faults, timeline
from simulators.modbus_wrong import ExceptionAnswer
from simulators.player import turns
from simulators.sources import Source
from simulators.timeline import Timeline
from simulators.weather import Rain, peaks, response
from tests.support.shipped import SPECS
from tests.unit.test_docs import DOCS, blocks

SHIPPED = sorted(timeline.SHIPPED.glob("*.yaml"))


def play(text: str, folder: Path = Path()) -> Timeline:
    return timeline.parse(text, SPECS, folder / "scenario.yaml")


def refused(text: str, folder: Path = Path()) -> dict[str, str]:
    """Path → reason of everything that is wrong."""
    with pytest.raises(ConfigError) as caught:
        play(text, folder)
    return {problem.path: problem.reason for problem in caught.value.problems}


def one(points: str, *, more: str = "", model: str = "vaisala-aqt530") -> str:
    return f"{more}\ndevices:\n  d: {{model: {model}, points: {{{points}}}}}\n"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_scenario_is_sound_and_lives_through_a_day(path: Path) -> None:
    found = timeline.load(path, SPECS)
    assert set(found.document.title) == {"vi", "en"}
    for device, spec in found.specs.items():
        for t_s in range(0, 86_400, 997):
            for point, said in found.values(device, t_s).items():
                span = spec.points[point].range
                assert not isinstance(said, int | float) or isinstance(said, bool) or span is None or span[0] <= said <= span[1]


def test_the_same_seed_tells_the_same_story_and_another_one_another() -> None:
    noisy = "pm25: {kind: constant, value: 30, noise: 2}"
    first, again, other = (play(one(noisy, more=f"seed: {seed}")) for seed in (1, 1, 2))
    story = [first.values("d", t_s)["pm25"] for t_s in range(20)]
    assert story == [again.values("d", t_s)["pm25"] for t_s in range(20)]
    assert story != [other.values("d", t_s)["pm25"] for t_s in range(20)]
    assert len(set(story)) > 15


def test_a_ramp_is_level_before_and_after_and_drifts_if_told() -> None:
    found = play(one("pm25: {kind: ramp, from: 10, to: 30, begins: 1min, takes: 100s, drift_per_h: 6}"))
    assert [found.values("d", t_s)["pm25"] for t_s in (0, 60, 110, 160, 3_600)] == pytest.approx(
        [10, 10.1, 20.1833, 30.2667, 36.0], abs=1e-3
    )


def test_steps_follow_each_other_and_begin_again() -> None:
    found = play(one("pm25: {kind: steps, steps: [[0, 5], [10s, 9], [20s, null]], again: 30s}"))
    assert [found.values("d", t_s)["pm25"] for t_s in (0, 9.9, 10, 25, 31, 41)] == [5, 5, 9, None, 5, 9]


def test_a_recorded_column_is_scaled_played_faster_and_held_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "co.csv").write_text("t,ppm\n100,1\n110,3\n130,3.5\n")
    found = play(one("co: {kind: replay, file: co.csv, time: t, column: ppm, scale: 1000, speed: 2, begins: 5s}"), tmp_path)
    assert [found.values("d", t_s)["co"] for t_s in (0, 5, 7.5, 10, 15, 99)] == [1000, 1000, 2000, 3000, 3250, 3500]
    again = play(one("co: {kind: replay, file: co.csv, time: t, column: ppm, scale: 1000, loop: true}"), tmp_path)
    assert again.values("d", 35)["co"] == again.values("d", 5)["co"] == 2000


def test_turbid_water_comes_late_rises_fast_and_clears_slowly() -> None:
    rain = [Rain(600.0, 2_400.0, 30.0)]
    at = [response(rain, t_s, lag_s=300.0, rises_s=600.0, recovers_s=7_200.0) for t_s in range(0, 40_000, 60)]
    top = max(at)
    assert at[: 900 // 60 + 1] == [0.0] * 16
    assert 28.0 < top < 30.0
    assert at.index(top) * 60 == 3_300  # when the rain has ended and the last of it is there
    rises = next(i for i, a in enumerate(at) if a > top / 2) * 60 - 900
    falls = next(i for i, a in enumerate(at) if i * 60 > 3_300 and a < top / 2) * 60 - 3_300
    assert 4 * rises < falls
    assert at[-1] < top / 100


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_two_rains_add_up(first_s: float, second_s: float) -> None:
    speeds = {"lag_s": 60.0, "rises_s": 500.0, "recovers_s": 3_000.0}
    one_, two = Rain(first_s, 600.0, 10.0), Rain(second_s, 900.0, 20.0)
    for t_s in (0.0, 5e3, 5e4, 2e5):
        assert response([one_, two], t_s, **speeds) == pytest.approx(
            response([one_], t_s, **speeds) + response([two], t_s, **speeds)
        )


def test_rush_hours_are_at_their_hours_across_midnight_too() -> None:
    hour_s = 3_600.0
    assert peaks(7 * hour_s, (7.0, 18.0), 2.0) == pytest.approx(1.0)
    assert peaks(12 * hour_s, (7.0, 18.0), 2.0) == 0.0
    assert peaks(23.5 * hour_s, (0.5,), 2.0) == pytest.approx(peaks(1.5 * hour_s, (0.5,), 2.0))


def test_a_fire_grows_at_its_detector_which_decides_by_itself_and_goes_out() -> None:
    fire = "fires: {stove: {at: 1min, growth: ultra-fast, burns: 2min, clears: 1min}}"
    points = (
        "smoke: {kind: fire, fire: stove, show: smoke}, temperature: {kind: fire, fire: stove, show: rise, quiet: 25}, "
        "alarm: {kind: above, point: smoke, threshold: 0.4}"
    )
    found = play(one(points, more=fire, model="iotcore-smoke-heat"))
    assert found.values("d", 59) == {"smoke": 0.0, "temperature": 25.0, "alarm": False}
    burning, after, long_after = (found.values("d", t_s) for t_s in (170, 240, 1_200))
    assert burning["alarm"] is True
    assert burning["smoke"] > after["smoke"] > long_after["smoke"]  # type: ignore[operator]  # numbers
    assert long_after["alarm"] is False


def test_faults_turn_in_their_order_by_the_names_of_each_protocol() -> None:
    devices = "devices:\n  a: {model: vaisala-aqt530}\n  m: {model: iotcore-mqtt-signal}\n"
    faults = """faults:
  - {at: 30s, device: m, fault: disconnect, for: 10s}
  - {at: 5s, device: a, fault: "exception:6", for: 25s}
  - {at: 1min, device: m, fault: duplicate, args: {copies: 3}}
"""
    found = play(devices + faults)
    assert [str(turn) for turn in turns(found)] == [
        "a: exception:6 begins", "a: exception:6 ends", "m: disconnect begins", "m: disconnect ends", "m: duplicate begins",
    ]  # fmt: skip
    assert [one.fault for one in found.faults] == [ExceptionAnswer(6), mqtt_faults.Disconnect(), mqtt_faults.Duplicate(3)]


def test_a_model_speaks_for_its_devices_and_a_device_for_itself() -> None:
    found = play(
        "models: {vaisala-aqt530: {pm25: 20, pm10: 30}}\n"
        "devices: {a: {model: vaisala-aqt530}, b: {model: vaisala-aqt530, points: {pm25: 99}}}"
    )
    assert found.values("a", 0) == {"pm25": 20, "pm10": 30}
    assert found.values("b", 0) == {"pm25": 99, "pm10": 30}


def test_a_missing_key_and_an_unknown_one_are_told_together() -> None:
    assert refused("devices: {d: {modell: x}}\nrain: [{at: 1, lasts: 2h}]\nspeed: 3") == {
        "devices.d.modell": "unknown key; known are: bus, model, points, premises, title, unit, zone",
        "devices.d.model": "missing",
        "rain[0].mm_per_h": "missing",
        "speed": "unknown key; known are: "
        "devices, faults, fires, lasts, models, premises, programs, rain, seed, starts, title, zones",
    }


def test_names_that_lead_nowhere_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("t,x\n1,2\n1,3\n")
    text = """
models: {no-such: {x: 1}}
programs: {p: {groups: 2, plans: [{number: 1, begins: "06:00", phases: [{greens: [3], green_s: 20}]}]}}
devices:
  a:
    model: vaisala-aqt530
    bus: b
    points:
      pm25: {kind: fire, fire: stove, show: smoke}
      co: {kind: replay, file: gone.csv, column: x}
      no2: {kind: replay, file: short.csv, time: t, column: x}
      so2: {kind: replay, file: short.csv, time: t, column: y}
      o3: {kind: steps, steps: [[5s, 1], [5s, 2]]}
      smell: 3
  b: {model: vaisala-aqt530, bus: b}
  c: {model: vaisala-aqt530, unit: 300}
faults:
  - {at: 1s, device: ghost, fault: disconnect}
  - {at: 1s, device: a, fault: disconnect}
  - {at: 1s, device: a, fault: "exception", args: {code: "high"}}
"""
    found = refused(text, tmp_path)
    assert set(found) == {
        "models.no-such",
        "programs.p.plans[0].phases[0].greens",
        "devices.a.points.pm25",
        "devices.a.points.co",
        "devices.a.points.no2",
        "devices.a.points.so2",
        "devices.a.points.o3",
        "devices.a.smell",
        "devices.b.unit",
        "devices.c.unit",
        "faults[0].device",
        "faults[1].fault",
        "faults[2].args.code",
    }
    assert found["devices.a.points.no2"] == "short.csv line 3: times must rise and numbers be finite, got 1, 3"
    assert found["devices.a.points.so2"] == "short.csv has no column y; it has: t, x"
    assert found["faults[1].fault"].startswith("no Modbus fault 'disconnect'; known are: exception,")


def test_a_value_that_its_device_cannot_tell_is_refused() -> None:
    assert refused(one("pm25: high")) == {"devices.d.points.pm25": "'high' is not a number"}
    assert refused(one("alarm: 1", model="iotcore-smoke-heat")) == {"devices.d.points.alarm": "1.0 is not true or false"}
    assert "no2" in next(iter(refused(one("no2: 1000000"))))
    assert refused(one("alarm: {kind: above, point: smoke, threshold: 1}", model="iotcore-smoke-heat")) == {
        "devices.d.points.alarm": "follows 'smoke', which the scenario does not give a value of its own"
    }


def test_the_scenario_on_the_page_is_sound_and_the_page_has_every_kind_and_every_fault() -> None:
    page = DOCS / "simulators.md"
    ((_, text),) = [found for found in blocks(page, "yaml") if found[0] == "scenario"]
    assert {one.name for one in play(text).faults} == {"disconnect", "duplicate", "exception:6"}
    words = set(re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE))
    kinds = {kind.__struct_config__.tag for kind in get_args(Source)}
    assert kinds | set(mqtt_faults.FAULTS) <= words


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    with contextlib.suppress(ConfigError):
        play(text)


@pytest.mark.parametrize("name", mqtt_faults.FAULTS)
def test_every_mqtt_fault_has_sound_defaults_and_refuses_what_it_does_not_know(name: str) -> None:
    assert type(mqtt_faults.parse(name)) is mqtt_faults.FAULTS[name]
    with pytest.raises(ConfigError, match="colour"):
        mqtt_faults.parse(name, {"colour": "red"})


def test_an_unknown_fault_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no MQTT fault 'unplug'; known are: disconnect, flap_link"):
        mqtt_faults.parse("unplug")
