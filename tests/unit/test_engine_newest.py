"""What the engine makes of the newest value alone, and of readings that come as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from iotcore.alarms import rules
from iotcore.alarms.decisions import Decision
from iotcore.alarms.engine import Engine
from iotcore.reading import Reading, Value
from tests.support.bound import bound
from tests.unit.test_engine import DETECTOR, START_MS, Timeline, engine_of

SAID = st.dictionaries(
    st.sampled_from(["smoke", "temperature", "battery", "alarm"]), st.sampled_from([0.0, 0.02, 0.3, 24.0, 60.0, 99.0]), min_size=1
)


def evaluated(engine: Engine, readings: Sequence[tuple[float, dict[str, float]]], *, clean: bool) -> list[list[Decision]]:
    found = []
    for seq, (at_s, said) in enumerate(readings, start=1):
        at_ms = START_MS + at_s * 1000.0
        told = () if clean else tuple(Value(point, value) for point, value in said.items())
        reading = Reading("d1", "b1", seq, "reading", at_ms, at_ms, told, clean=said if clean else None)
        found.append(engine.evaluate(reading, bound(DETECTOR), now_s=at_s))
    return found


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.0005, 2.0, 10.0]), SAID), max_size=40))
def test_plain_numbers_decide_as_values_told_one_by_one(steps: list[tuple[float, dict[str, float]]]) -> None:
    at_s, readings = 0.0, []
    for step_s, said in steps:
        at_s += step_s
        readings.append((at_s, said))
    shipped = rules.load(rules.default_path())
    assert evaluated(Engine(shipped), readings, clean=True) == evaluated(Engine(shipped), readings, clean=False)


def test_a_threshold_without_a_mean_judges_the_newest_value_also_when_two_were_seen_in_one_millisecond() -> None:
    engine = engine_of({"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.25})
    quiet, loud = evaluated(engine, [(1.0, {"smoke": 0.0}), (1.0004, {"smoke": 0.3})], clean=True)
    assert (quiet, [one.value for one in loud]) == ([], [0.3])


def test_a_mean_that_only_older_readings_hold_up_raises_nothing_after_a_reset() -> None:
    timeline = Timeline()
    timeline.say(smoke=0.01)
    for _ in range(8):
        timeline.say(smoke=0.6)
    timeline.engine.reset(["d1"])
    assert timeline.say(smoke=0.01) == []
    assert timeline.say(smoke=0.01) == []
