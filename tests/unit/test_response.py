"""Response plans as documents: refused whole with every error, and what makes one weaker than the one before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from iotcore.errors import ConfigError
from iotcore.registry.response import DEFAULT, Delay, Drills, Response, check, parse, weaker
from iotcore.schedule import Schedule

RECEIVERS = ("arc", "cad")
FULL = """
profile: verified
asked_by: Công văn 12/PCCC-CĐ, 2026-03-01
delay: {t1_s: 60, t2_s: 180}
receivers: [arc, cad]
numbers:
  - {name: Bảo vệ, number: "+84912345678"}
  - {name: Hiệu trưởng, number: "+84912345679", by: sms}
  - {name: Phường, number: "+842373852222", language: en}
ladder:
  - {after_s: 30, whom: [Bảo vệ]}
  - {after_s: 90, whom: [Hiệu trưởng, cad]}
owner: {name: Hiệu trưởng, number: "+84912345679"}
drills: {every_days: 30}
"""


def full() -> Response:
    return check(parse(FULL, "p1.yaml"), RECEIVERS, "p1.yaml")


def test_a_plan_is_read_as_it_is_written_and_survives_being_kept() -> None:
    plan = full()
    assert (plan.profile, plan.delay) == ("verified", Delay(t1_s=60, t2_s=180))
    assert [(one.name, one.by, one.language) for one in plan.numbers] == [
        ("Bảo vệ", "voice", "vi"), ("Hiệu trưởng", "sms", "vi"), ("Phường", "voice", "en")]  # fmt: skip
    assert [(one.after_s, one.whom) for one in plan.ladder] == [(30, ("Bảo vệ",)), (90, ("Hiệu trưởng", "cad"))]
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Response) == plan
    assert check({}, ()) == DEFAULT, "no plan is the strongest: immediate, every receiver"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    document: Any = {
        "profile": "verified",
        "delay": {"t1_s": 300, "t2_s": 301},
        "receivers": ["arc", "fax", "arc"],
        "numbers": [{"name": "A", "number": "+84912345678"}, {"name": "A", "number": "+84912345678"}],
        "ladder": [{"after_s": 60, "whom": ["A"]}, {"after_s": 30, "whom": ["cad"]}],
    }
    with pytest.raises(ConfigError) as refused:
        check(document, RECEIVERS, "p1.yaml")
    said = {(problem.path, problem.reason.partition(":")[0].partition(";")[0]) for problem in refused.value.problems}
    assert said == {
        ("asked_by", "missing"),
        ("delay", "t1_s and t2_s are 601 s together, of at most 600"),
        ("receivers[1]", "no receiver 'fax' in the settings"),
        ("receivers", "'arc' stands there twice"),
        ("numbers", "'A' stands there twice"),
        ("numbers", "'+84912345678' stands there twice"),
        ("numbers", "has 2"),
        ("ladder[1].after_s", "is before the step above it"),
        ("ladder[1].whom[0]", "'cad' is neither one of its numbers nor one of its receivers"),
    }
    assert sum(problem.path == "asked_by" for problem in refused.value.problems) == 2, "of the profile and of the delay"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"profile": "asleep"}, "profile"),
        ({"asked_by": "x", "delay": {"t1_s": 14}}, "delay.t1_s"),
        ({"asked_by": "x", "delay": {"t1_s": 301}}, "delay.t1_s"),
        ({"numbers": [{"name": "A", "number": "114"}]}, "numbers[0].number"),
        ({"owner": {"name": "A", "number": "+84 912"}}, "owner.number"),
        ({"drills": {"every_days": 0}}, "drills.every_days"),
        ({"ladder": [{"after_s": 3601, "whom": ["arc"]}]}, "ladder[0].after_s"),
        ({"ladder": [{"after_s": 0, "whom": []}]}, "ladder[0].whom"),
        ({"wait_for_it": True}, "wait_for_it"),
        ({"asked_by": "a\x07b"}, "asked_by"),
        ({"asked_by": "x", "delay": {"t1_s": 60, "when": {"hours": []}}}, "delay.when.hours"),
        ([], ""),
    ],
)
def test_each_limit_is_held_and_named_by_its_path(document: Any, path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(document, RECEIVERS)
    assert [problem.path for problem in refused.value.problems] == [path]


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "x" * 50_001])
def test_a_file_that_is_no_yaml_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=r"p\.yaml"):
        parse(text, "p.yaml")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"profile": "verified"}, "the profile becomes verified"),
        ({}, {"delay": Delay(t1_s=60, t2_s=120)}, "dispatch waits for up to 180 s"),
        ({"delay": Delay(t1_s=60, t2_s=120)}, {"delay": Delay(t1_s=61, t2_s=0)}, "dispatch waits for up to 61 s"),
        (
            {"delay": Delay(t1_s=60, when=Schedule(named="day"))},
            {"delay": Delay(t1_s=60)},
            "dispatch waits for up to 60 s",
        ),
        ({}, {"receivers": ("arc",)}, "only these receivers are told: arc"),
        ({"receivers": ("arc", "cad")}, {"receivers": ("arc",)}, "no longer told: cad"),
        ({"drills": Drills(every_days=30)}, {"drills": Drills(every_days=31)}, "there are fewer drills"),
        ({"drills": Drills(every_days=30)}, {}, "there are fewer drills"),
    ],
)
def test_what_protects_less_is_named(before: dict[str, Any], after: dict[str, Any], said: str) -> None:
    assert weaker(Response(**before), Response(**after)) == (said,)


def test_what_protects_more_or_the_same_takes_nobody_else() -> None:
    plan = full()
    assert weaker(plan, plan) == ()
    assert weaker(DEFAULT, msgspec.structs.replace(DEFAULT, numbers=plan.numbers, owner=plan.owner, drills=plan.drills)) == ()
    assert weaker(plan, msgspec.structs.replace(plan, profile="immediate", delay=None, receivers=())) == ()
    assert weaker(plan, DEFAULT) == (
        "no longer called: +842373852222, +84912345678, +84912345679",
        "the ladder has 0 steps instead of 2",
        "there are fewer drills",
    )
