"""A junction's programme: green, yellow, red, in that order, for every plan, phase, offset and change of plan."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.signals import GREEN, RED, YELLOW, Phase, Plan, Program, problems, shown

STEP_S = 0.5
TURNS = {(GREEN, YELLOW), (YELLOW, RED), (RED, GREEN)}


@st.composite
def programs(draw: st.DrawFn) -> Program:
    groups = draw(st.integers(1, 6))
    phase = st.builds(
        Phase,
        greens=st.lists(st.integers(1, groups), min_size=1, max_size=groups, unique=True).map(tuple),
        green_s=st.integers(5, 60),
        yellow_s=st.integers(3, 6),
        all_red_s=st.integers(1, 5),
    )
    phases = st.lists(phase, min_size=1, max_size=4).map(tuple)
    hours = draw(st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True))
    plans = [Plan(i, f"{hour:02}:30", draw(phases), draw(st.integers(0, 90))) for i, hour in enumerate(hours)]
    return Program(groups, tuple(plans))


@given(programs(), st.integers(0, 86_399), st.integers(0, 90_000))
def test_no_group_ever_skips_yellow_or_turns_back(program: Program, since_s: int, later_s: int) -> None:
    assert list(problems(program)) == []
    start_s = since_s + later_s
    story = [shown(program, start_s + i * STEP_S, since_s).groups for i in range(300)]
    for before, after in pairwise(story):
        assert {turn for turn in zip(before, after, strict=True) if turn[0] != turn[1]} <= TURNS


@given(programs(), st.integers(0, 86_399))
def test_greens_of_two_phases_are_never_shown_together(program: Program, since_s: int) -> None:
    for i in range(300):
        now = shown(program, since_s + i * STEP_S, since_s)
        green = {group for group, sign in enumerate(now.groups, 1) if sign == GREEN}
        assert not green or any(green == set(phase.greens) for phase in now.plan.phases)


def test_a_plan_begins_when_the_one_before_has_finished_its_cycle() -> None:
    night = Plan(1, "22:00", (Phase((1,), 20.0), Phase((2,), 20.0)))  # 50 s
    day = Plan(2, "07:00", (Phase((1,), 40.0), Phase((2,), 30.0)))  # 80 s
    program = Program(2, (night, day))
    seven_s = 7 * 3_600.0
    since_s = seven_s - 120.0  # two cycles and 20 s before seven: the third ends at 07:00:30
    told = [
        (t_s - seven_s, shown(program, t_s, since_s))
        for t_s in (seven_s - 1.0, seven_s + 29.0, seven_s + 30.0, seven_s + 69.0, seven_s + 71.0)
    ]
    assert [(at_s, now.plan.number, now.groups) for at_s, now in told] == [
        (-1.0, 1, GREEN + RED), (29.0, 1, RED + RED), (30.0, 2, GREEN + RED), (69.0, 2, GREEN + RED), (71.0, 2, YELLOW + RED),
    ]  # fmt: skip


def test_what_no_junction_can_show_is_told() -> None:
    bad = Program(2, (Plan(1, "06:00", ()), Plan(2, "06:00", (Phase((3,), 20.0), Phase((), 20.0)))))
    assert [path for path, _ in problems(bad)] == [
        "plans",
        "plans[0].phases",
        "plans[1].phases[0].greens",
        "plans[1].phases[1].greens",
    ]
    assert [path for path, _ in problems(Program(1, ()))] == ["plans"]


@pytest.mark.parametrize("hour", ["24:00", "7:00", "07:60", "07:00\n"])
def test_an_hour_is_written_with_two_digits(hour: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"number": 1, "begins": hour, "phases": []}, Plan)
