"""Who is asked when: timelines on a clock of their own, in which a request takes as long as the test says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from drivers.modbus.schedule import START_SPREAD_S, Job, Schedule

ANSWER_S = 0.02
TIMEOUT_S = 1.0


@dataclass
class Bus:
    """A line of pretended units: `dead` ones cost a timeout; while `is_cut` there is no connection."""

    jobs: Mapping[str, tuple[Job, ...]]
    dead: set[str] = field(default_factory=set)
    is_cut: bool = False
    now_s: float = 1000.0
    answer_s: float = ANSWER_S
    timeout_s: float = TIMEOUT_S
    asked: list[tuple[float, str, int, int]] = field(default_factory=list)
    ended: list[tuple[float, str, int, bool]] = field(default_factory=list)  # the last: was it read

    def __post_init__(self) -> None:
        self.schedule = Schedule()
        self.schedule.keep(self.jobs, self.now_s)

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            turn = self.schedule.next(self.now_s)
            if turn is None:
                self.now_s = min(until_s, max(self.schedule.wake_s() or until_s, self.now_s + 1e-6))
                continue
            unit = turn.job.unit
            if not turn.ask:
                self._end([turn.job], was_read=False)
                continue
            self.asked.append((self.now_s, unit, turn.job.group, turn.step))
            if self.is_cut:
                self._end(self.schedule.line_down(turn, self.now_s), was_read=False)
                continue
            self.schedule.line_up(self.now_s)
            self.now_s += self.timeout_s if unit in self.dead else self.answer_s
            if unit in self.dead:
                self._end(self.schedule.dead(turn, self.now_s), was_read=False)
            elif self.schedule.answered(turn, self.now_s):
                self._end([turn.job], was_read=True)

    def _end(self, jobs: list[Job], *, was_read: bool) -> None:
        self.ended += [(self.now_s, job.unit, job.group, was_read) for job in jobs]

    def polls(self, unit: str, group: int = 0, *, since_s: float = 0.0) -> list[float]:
        return [at_s for at_s, name, number, read in self.ended if (name, number) == (unit, group) and read and at_s >= since_s]

    def bad(self, unit: str, group: int = 0, *, since_s: float = 0.0) -> list[float]:
        return [
            at_s for at_s, name, number, read in self.ended if (name, number) == (unit, group) and not read and at_s >= since_s
        ]


def _job(name: str, group: int, poll_s: float, steps: int, *, fire: bool = False) -> Job:
    return Job(name, group, fire, poll_s, steps)


def _unit(name: str, poll_s: float = 1.0, steps: int = 1, *, fire: bool = False) -> tuple[Job, ...]:
    return (_job(name, 0, poll_s, steps, fire=fire),)


def _units(count: int, poll_s: float = 1.0, steps: int = 1) -> dict[str, tuple[Job, ...]]:
    return {f"u{n}": _unit(f"u{n}", poll_s, steps) for n in range(count)}


def test_each_unit_is_polled_once_an_interval_on_a_grid_of_its_own() -> None:
    bus = Bus(_units(10, poll_s=2.0))
    bus.run(60.0)
    for name in bus.jobs:
        gaps = [b - a for a, b in pairwise(bus.polls(name)[1:])]
        assert len(gaps) >= 27
        assert all(abs(gap - 2.0) < 10 * ANSWER_S for gap in gaps)
    assert bus.schedule.skipped == 0


def test_the_start_is_spread_the_same_way_each_time_and_soon_over() -> None:
    bus, again = Bus(_units(200, poll_s=600.0)), Bus(_units(200, poll_s=600.0))
    bus.run(START_SPREAD_S + 1.0)
    again.run(START_SPREAD_S + 1.0)
    assert bus.asked == again.asked
    assert Counter(name for _, name, _, _ in bus.asked).keys() == bus.jobs.keys()
    assert len(bus.asked) <= 200 + 10  # few have a point of their grid in these seconds
    in_a_tenth = Counter(math.floor((at_s - 1000.0) * 2) for at_s, _, _, _ in bus.asked)
    assert max(in_a_tenth.values()) < 40
    bus.run(600.0)
    in_a_minute = Counter(math.floor((at_s - 1000.0) / 60.0) for at_s, _, _, _ in bus.asked[200:])
    assert max(in_a_minute.values()) < 40


def test_fire_points_go_first_and_long_reads_take_turns_request_by_request() -> None:
    jobs = {"panel": (_job("panel", 0, 2.0, 1, fire=True), _job("panel", 1, 10.0, 40)), "meter": _unit("meter", 10.0, steps=60)}
    bus = Bus(jobs, answer_s=0.1)
    bus.run(60.0)
    fire = bus.polls("panel")
    assert len(fire) >= 29
    late_s = [b - a - 2.0 for a, b in pairwise(fire[2:])]
    assert max(late_s) <= 0.1 + 1e-6  # one request in flight, of whomever
    turns = [name for _, name, number, _ in bus.asked if (name, number) != ("panel", 0)]
    both = turns[max(turns.index("panel"), turns.index("meter")) :][:60]  # from when the second has begun
    assert all(a != b for a, b in pairwise(both))


def test_two_fire_panels_share_the_bus_request_by_request() -> None:
    jobs = {"big": _unit("big", 4.0, steps=30, fire=True), "small": _unit("small", 1.0, steps=1, fire=True)}
    bus = Bus(jobs, answer_s=0.1)
    bus.run(40.0)
    gaps = [b - a for a, b in pairwise(bus.polls("small"))]
    assert max(gaps[2:]) <= 1.0 + 0.2 + 1e-6


def test_a_dead_unit_is_asked_once_an_interval_and_told_bad_each_interval() -> None:
    jobs = {"dead": (_job("dead", 0, 2.0, 3, fire=True), _job("dead", 1, 6.0, 5)), "alive": _unit("alive", 2.0)}
    bus = Bus(jobs, dead={"dead"})
    bus.run(10.0)
    bus.asked.clear()
    bus.ended.clear()
    bus.run(60.0)
    asked = [entry for entry in bus.asked if entry[1] == "dead"]
    assert 29 <= len(asked) <= 31
    assert {(number, step) for _, _, number, step in asked} == {(0, 0)}
    assert 29 <= len(bus.bad("dead", 0)) <= 31
    assert 9 <= len(bus.bad("dead", 1)) <= 11
    assert len(bus.polls("alive")) >= 29


def test_dead_neighbours_delay_a_living_unit_by_one_request_and_it_keeps_its_rate() -> None:
    dead = {f"d{n}" for n in range(8)}
    bus = Bus({name: _unit(name, 2.0) for name in [*sorted(dead), "a", "b", "c"]}, dead=dead)
    bus.run(20.0)
    start_s = bus.now_s
    bus.run(120.0)
    for name in "abc":
        polls = bus.polls(name, since_s=start_s)
        assert len(polls) >= 0.9 * 60
        assert max(b - a for a, b in pairwise(polls)) <= 2.0 + TIMEOUT_S + 4 * ANSWER_S
    for name in dead:
        assert bus.bad(name, since_s=start_s)


def test_on_a_bus_with_no_time_left_silent_units_are_asked_one_an_interval_and_never_before_a_fire_request() -> None:
    dead = {f"d{n}" for n in range(6)}
    greedy = {name: _unit(name, 0.05) for name in ("bulk1", "bulk2", "bulk3")}  # ask for more than the bus has
    jobs = {name: _unit(name, 1.0) for name in dead} | greedy | {"fire": _unit("fire", 5.0, fire=True)}
    bus = Bus(jobs, dead=dead, answer_s=0.06)
    bus.run(120.0)
    probes = [(at_s, name) for at_s, name, _, _ in bus.asked if at_s > 1020.0 and name in dead]
    assert {name for _, name in probes} == dead
    assert min(b[0] - a[0] for a, b in pairwise(probes)) >= TIMEOUT_S + 0.9
    fire = bus.polls("fire", since_s=1020.0)
    assert max(b - a for a, b in pairwise(fire)) <= 5.0 + TIMEOUT_S + 0.06 + 1e-6


def test_a_unit_that_comes_back_is_read_whole_within_its_shortest_interval() -> None:
    jobs = {"u": (_job("u", 0, 2.0, 2, fire=True), _job("u", 1, 600.0, 4))}
    bus = Bus(jobs, dead={"u"})
    bus.run(700.0)
    bus.dead.clear()
    back_s = bus.now_s
    bus.run(3.0)
    assert bus.polls("u", 0, since_s=back_s)[0] - back_s <= 2.0 + 2 * ANSWER_S
    assert bus.polls("u", 1, since_s=back_s)[0] - back_s <= 2.0 + 6 * ANSWER_S
    assert bus.schedule.silent == frozenset()


def test_a_block_that_is_never_answered_is_not_asked_more_often_because_the_unit_lives() -> None:
    bus = Bus({"u": (_job("u", 0, 1.0, 1, fire=True), _job("u", 1, 30.0, 1))})
    asked = 0
    until_s = bus.now_s + 300.0
    while bus.now_s < until_s:  # group 1 never answers
        turn = bus.schedule.next(bus.now_s)
        if turn is None:
            bus.now_s = bus.schedule.wake_s() or until_s
        elif turn.ask and turn.job.group == 1:
            asked += 1
            bus.now_s += TIMEOUT_S
            bus.schedule.dead(turn, bus.now_s)
        elif turn.ask:
            bus.now_s += ANSWER_S
            bus.schedule.answered(turn, bus.now_s)
    assert asked <= 12


def test_a_line_that_is_down_is_tried_once_in_a_while_and_everything_is_told_bad_meanwhile() -> None:
    bus = Bus(_units(20, poll_s=2.0), is_cut=True)
    bus.run(10.0)
    bus.asked.clear()
    bus.ended.clear()
    bus.run(60.0)
    assert len(bus.asked) <= 60.0 / (0.75 * 2.0) + 1
    for name in bus.jobs:
        assert 29 <= len(bus.bad(name)) <= 31
    bus.is_cut = False
    back_s = bus.now_s
    bus.run(2.5)
    assert all(bus.polls(name, since_s=back_s)[0] - back_s <= 2.0 + 21 * ANSWER_S for name in bus.jobs)


def test_a_single_unit_behind_a_dead_line_is_tried_each_interval() -> None:
    bus = Bus(_units(1, poll_s=5.0), is_cut=True)
    bus.run(20.0)
    bus.asked.clear()
    bus.run(50.0)
    assert 9 <= len(bus.asked) <= 11


def test_a_unit_that_needs_a_rest_does_not_hold_up_the_others() -> None:
    bus = Bus({"slow": _unit("slow", 1.0, steps=4), "quick": _unit("quick", 0.5)})
    asked: dict[str, list[float]] = {"slow": [], "quick": []}
    until_s = bus.now_s + 30.0
    while bus.now_s < until_s:
        turn = bus.schedule.next(bus.now_s)
        if turn is None:
            bus.now_s = max(bus.now_s + 1e-6, bus.schedule.wake_s() or until_s)
            continue
        asked[turn.job.unit].append(bus.now_s)
        bus.now_s += ANSWER_S
        if turn.job.unit == "slow":
            bus.schedule.rest("slow", bus.now_s + 0.2)
        bus.schedule.answered(turn, bus.now_s)
    assert min(b - a for a, b in pairwise(asked["slow"])) >= 0.2
    assert len(asked["quick"]) >= 55


def test_grid_points_that_pass_are_counted_and_not_caught_up_in_a_burst() -> None:
    bus = Bus(_units(1, poll_s=0.1), answer_s=0.35)
    bus.run(10.0)
    assert len(bus.asked) <= 26
    assert 60 <= bus.schedule.skipped <= 80


def test_units_that_stay_keep_their_grid_when_others_come_and_go() -> None:
    bus = Bus(_units(3, poll_s=4.0))
    bus.run(20.0)
    before = bus.polls("u1")[-1]
    bus.schedule.keep({"u1": bus.jobs["u1"], "new": _unit("new", 4.0)}, bus.now_s)
    bus.run(20.0)
    assert abs((bus.polls("u1")[-1] - before) % 4.0) < 0.2 or abs((bus.polls("u1")[-1] - before) % 4.0 - 4.0) < 0.2
    assert not bus.polls("u0", since_s=1020.1)
    assert len(bus.polls("new")) >= 4


def test_a_unit_taken_away_while_it_is_asked_is_forgotten() -> None:
    bus = Bus(_units(1))
    bus.now_s += 10.0
    turn = bus.schedule.next(bus.now_s)
    assert turn is not None
    bus.schedule.keep({}, bus.now_s)
    assert bus.schedule.answered(turn, bus.now_s)
    assert bus.schedule.dead(turn, bus.now_s) == []
    assert bus.schedule.next(bus.now_s + 100.0) is None
    assert bus.schedule.wake_s() is None


def test_a_unit_in_trouble_is_only_told_bad() -> None:
    bus = Bus({"t": (_job("t", 0, 2.0, 0, fire=True),)})
    bus.run(20.0)
    assert bus.asked == []
    assert 9 <= len(bus.bad("t")) <= 11
