"""Whom to tell next of a fire that nobody has acknowledged: by the plan, by the hour, and never fewer than everybody in doubt."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.alarms import escalate
from iotcore.errors import ConfigError
from iotcore.registry import response
from iotcore.registry.response import DEFAULT, Response

NOON_MS = 1_795_312_800_000.0 + 3 * 3_600_000.0  # 12:00 in Vietnam
MIDNIGHT_MS = NOON_MS + 12 * 3_600_000.0
BY = {"a": "voice", "b": "sms", "c": "sms"}
NUMBERS = [{"name": name, "number": f"+8490000000{n}", "by": by} for n, (name, by) in enumerate(BY.items())]


def plan(*ladder: dict[str, Any]) -> Response:
    return response.check({"numbers": NUMBERS, "ladder": list(ladder)}, ["arc", "cad"])


def test_without_a_plan_everybody_is_told_after_thirty_seconds_and_once_more() -> None:
    steps = escalate.ladder(DEFAULT, NOON_MS)
    assert [(step.after_s, step.everybody) for step in steps] == [(30.0, True), (120.0, True)]


def test_a_plan_says_whom_and_when() -> None:
    steps = escalate.ladder(plan({"after_s": 20, "whom": ["cad", "a"]}, {"after_s": 60, "whom": ["b", "arc"]}), NOON_MS)
    assert [(step.after_s, step.receivers, [one.name for one in step.numbers]) for step in steps] == [
        (20.0, ("cad",), ["a"]),
        (60.0, ("arc",), ["b"]),
    ]
    assert not any(step.everybody for step in steps)


def test_the_hours_of_a_step_are_those_in_which_the_fire_was_raised() -> None:
    by_day, by_night = {"named": "day"}, {"named": "night"}
    both = plan({"after_s": 20, "whom": ["a"], "when": by_day}, {"after_s": 20, "whom": ["b"], "when": by_night})
    assert [one.name for one in escalate.ladder(both, NOON_MS)[0].numbers] == ["a"]
    assert [one.name for one in escalate.ladder(both, MIDNIGHT_MS)[0].numbers] == ["b"]


def test_where_no_step_is_for_this_hour_everybody_is_told() -> None:
    steps = escalate.ladder(plan({"after_s": 20, "whom": ["a"], "when": {"named": "night"}}), NOON_MS)
    assert steps[0].everybody
    assert len(steps[0].numbers) == 3


def test_hours_that_contradict_themselves_are_refused_with_the_rest() -> None:
    with pytest.raises(ConfigError) as refused:
        plan({"after_s": 20, "whom": ["nobody"], "when": {"named": "day", "holidays": ["2027-01-01"]}})
    assert {one.path for one in refused.value.problems} == {"ladder[0].whom[0]", "ladder[0].when"}


def test_after_an_outage_all_steps_whose_time_has_come_are_told_at_once() -> None:
    steps = escalate.ladder(DEFAULT, NOON_MS)
    assert [step.nth for step in escalate.due(steps, 0, 29.0)] == []
    assert [step.nth for step in escalate.due(steps, 0, 30.0)] == [1]
    assert [step.nth for step in escalate.due(steps, 0, 500.0)] == [1, 2]
    assert escalate.wait_s(steps, 1, 31.0) == 89.0
    assert escalate.wait_s(steps, 2, 500.0) is None
