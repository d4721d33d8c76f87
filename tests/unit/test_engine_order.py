"""Whatever the order, the repeats and the doubt: no fire is lost, and no doubt makes one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from iotcore.reading import Quality
from tests.support.rule_site import Site, rule

ALARM = {"kind": "state", "point": "alarm"}
LEVEL = {"kind": "threshold", "point": "smoke", "unit": "dB/m", "above": 0.2, "clear": 0.1}
MEAN = LEVEL | {"mean_s": 6, "readings": 2}
LEAVES: list[dict[str, Any]] = [
    ALARM,
    LEVEL,
    {"kind": "bit", "point": "status", "bit": 1},
    {"kind": "word", "point": "faults", "is": ["fan"]},
]


def wrapped(part: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.lists(part, min_size=1, max_size=3).map(lambda of: {"kind": "all", "of": of}),
        st.lists(part, min_size=1, max_size=3).map(lambda of: {"kind": "any", "of": of}),
        part.map(lambda of: {"kind": "not", "of": of}),
        part.map(lambda of: {"kind": "sustained", "of": of, "for_s": 10}),
        part.map(lambda of: {"kind": "during", "of": of, "schedule": {"named": "day"}}),
    )


CONDITIONS = st.recursive(st.sampled_from(LEAVES), wrapped, max_leaves=5)
VALUES = st.fixed_dictionaries(
    {
        "alarm": st.booleans(),
        "smoke": st.sampled_from([0.0, 0.15, 0.3]),
        "status": st.sampled_from([0.0, 2.0, 0.5]),
        "faults": st.sampled_from(["", "fan", "sensor fan"]),
    }
)
DOUBT = st.one_of(
    st.tuples(st.just(Quality.BAD), VALUES),
    st.tuples(st.just(Quality.UNCERTAIN), VALUES),
    st.tuples(st.just(Quality.GOOD), st.just(dict.fromkeys(("alarm", "smoke", "status", "faults"), float("nan")))),
)


@settings(max_examples=150)
@given(
    condition=CONDITIONS,
    before=st.lists(VALUES, max_size=3),
    doubts=st.lists(DOUBT, min_size=1, max_size=6),
    latched=st.booleans(),
)
def test_what_is_in_doubt_satisfies_nothing_and_clears_nothing_through_every_combinator(
    condition: dict[str, Any],
    before: list[Any],
    doubts: list[Any],
    latched: bool,  # noqa: FBT001 - drawn
) -> None:
    site = Site([rule(condition, latched=latched)])
    for values in before:
        site.wait(2)
        site.say(**values)
    site.wait(0)
    known = len(site.decisions)
    for quality, values in doubts:
        site.say("d1", quality, **values)
        assert site.wait(20) == []
    assert len(site.decisions) == known


@given(st.permutations([True, False, False, True, False]))
def test_a_clear_that_overtakes_its_alarm_loses_no_fire(order: list[bool]) -> None:
    site = Site([rule(ALARM)])
    for alarm in order:
        site.say(alarm=alarm)
    assert [name for _, _, name, why in site.began if why == "active"] == ["r"]


STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.15, 0.3, 0.6]), st.booleans(), st.integers(1, 3)), max_size=25)


@given(steps=STEPS, profile=st.sampled_from(["immediate", "verified"]))
def test_repeats_of_a_reading_never_make_a_fire_later_or_none(steps: list[Any], profile: Any) -> None:
    once, often = Site([rule(MEAN), rule(ALARM, "own")], profile), Site([rule(MEAN), rule(ALARM, "own")], profile)
    for smoke, alarm, times in steps:
        for site, count in ((once, 1), (often, times)):
            site.wait(4)
            site.say(smoke=smoke, alarm=alarm)
            for _ in range(count - 1):
                site.engine.evaluate(site.told[-1][1], site.binding("d1"), now_s=site.now_s)
            site.wait(0)
    for name in ("r", "own"):
        plain = [at for at, _, rule_name, _ in once.began if rule_name == name]
        more = [at for at, _, rule_name, _ in often.began if rule_name == name]
        raised_aside = len(more) < len(plain)  # a repeat raised it between two readings
        assert raised_aside or not plain or more[0] <= plain[0]


@given(steps=STEPS)
def test_more_devices_around_never_take_a_fire_away(steps: list[Any]) -> None:
    places = {"d1": ("p1", "z1"), "d2": ("p1", "z1")}
    alone, joined = Site([rule(MEAN)], "verified", places), Site([rule(MEAN)], "verified", places)
    for smoke, alarm, _ in steps:
        for site in (alone, joined):
            site.wait(4)
            site.say("d1", smoke=smoke)
        joined.say("d2", smoke=0.6 if alarm else 0.0)
    first_alone = [at for at, device, name, _ in alone.began if (device, name) == ("d1", "r")]
    first_joined = [at for at, _, name, _ in joined.began if name == "r"]
    assert not first_alone or (first_joined and first_joined[0] <= first_alone[0])
