"""Normal life: the part that is not played decides nothing, and a day of it sends no crew (docs/normal-life.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks import nuisances
from benchmarks.eventful import Episode, Resting, all_of_it, asked, episodes, possible
from benchmarks.normal_life import CITY, Premises, city
from benchmarks.nuisances import HEAT, IMMEDIATE, VERIFIED, Life, Player, Told, Way, shipped
from iotcore.alarms.decisions import FIRST

DAYS = 0.3  # a morning, with breakfast


def smoky(days: float) -> Iterator[Premises]:
    """Two houses in which everything is far smokier and warmer than it is, so that much is decided."""
    for one in city(days, 3, {"shophouse": 2}):
        yield replace(
            one, events=tuple(replace(event, peak=30.0 * event.peak, heat_c=2.0 * event.heat_c) for event in one.events)
        )


def concerning_fires(told: list[Told]) -> list[tuple[float, str, str, str, str]]:
    """The decisions that make, confirm, cancel or end a fire; what is only a sign of one is not played where no fire could be."""
    return [
        (round(one.at_s, 6), one.device, one.decision.rule, one.decision.reason.value, one.decision.change)
        for one in told
        if one.decision.severity == "alarm" or one.decision.rule.endswith(FIRST)
    ]


@pytest.mark.parametrize("way", [IMMEDIATE, VERIFIED], ids=lambda way: way.name)
def test_what_is_not_played_would_decide_nothing(way: Way) -> None:
    rules, spec = shipped()
    played = whole = decided = 0
    for premises in smoky(DAYS):
        quick, slow = Player(premises, rules, spec, way), Player(premises, rules, spec, way)
        everything, before_s = all_of_it(premises, DAYS), 0.0
        for episode in episodes(premises, quick.judging, DAYS):
            for player, part in ((quick, episode), (slow, replace(everything, from_s=before_s, until_s=episode.until_s))):
                player.play(part)
                player.reset()
            before_s = episode.until_s
        slow.play(replace(everything, from_s=before_s))
        assert concerning_fires(quick.told) == concerning_fires(slow.told)
        decided += len(concerning_fires(quick.told))
        played, whole = played + quick.readings, whole + slow.readings
    assert decided >= 6
    assert played < whole / 2


def test_a_day_of_a_thousand_detectors_sends_no_crew_for_nothing_under_verified() -> None:
    life = nuisances.live(1.0, seed=1, ways=(VERIFIED, HEAT))
    assert life.detectors == 1000
    assert life.events["cooking"] > 200
    assert life.dispatches == {VERIFIED.name: [], HEAT.name: []}


def test_immediate_pays_for_its_seconds_with_dispatches_that_verified_spares() -> None:
    life = nuisances.live(1.0, seed=1, counts={"shophouse": 12}, ways=(IMMEDIATE, VERIFIED))
    assert len(life.dispatches[IMMEDIATE.name]) >= 3
    assert life.dispatches[VERIFIED.name] == []


def test_the_city_has_a_thousand_detectors_and_the_same_seed_gives_the_same_life() -> None:
    assert sum(plan.count * len(plan.spots) for plan in CITY) == 1000
    counts = {"shophouse": 2}
    assert list(city(2.0, 7, counts)) == list(city(2.0, 7, counts))
    assert list(city(2.0, 7, counts)) != list(city(2.0, 8, counts))


def test_a_cell_that_runs_low_is_a_trouble_and_no_fire() -> None:
    rules, spec = shipped()
    (premises,) = city(1.0, 1, {"shophouse": 1})
    premises = replace(premises, detectors=tuple(replace(one, battery=14.9, losses=()) for one in premises.detectors), events=())
    player = Player(premises, rules, spec, IMMEDIATE)
    player.play(Episode(0.0, 60.0, (), {0: ()}))
    assert [(one.decision.rule, one.decision.severity) for one in player.told] == [("battery-low", "trouble")]


def test_a_reading_on_a_lost_link_never_comes() -> None:
    rules, spec = shipped()
    (premises,) = city(1.0, 1, {"shophouse": 1})
    gap = replace(premises.detectors[0], losses=((20.0, 50.0),), phase_s=0.0)
    player = Player(replace(premises, detectors=(gap,), events=()), rules, spec, IMMEDIATE)
    player.play(Episode(0.0, 100.0, (), {0: ()}))
    assert player.readings == 7


def test_quiet_can_decide_nothing_and_what_could_is_seen() -> None:
    rules, _ = shipped()
    rest = Resting(smoke=0.13, celsius=36.0)
    wanted = asked([one for one in rules if not one.places])
    assert not any(possible(one, 0.0, 0.0, rest) for one in wanted)
    assert any(possible(one, 0.15, 0.0, rest) for one in wanted)
    assert any(possible(one, 0.05, 2.5, rest) for one in wanted)
    assert any(possible(one, 0.0, 8.3, rest) for one in wanted)


@pytest.mark.soak
@pytest.mark.parametrize(("seed", "most"), [(1, 1), (2, 3)])
def test_a_month_of_a_thousand_detectors_calls_no_more_crews_for_nothing_than_is_documented(seed: int, most: int) -> None:
    life: Life = nuisances.live(30.0, seed, ways=(VERIFIED,))
    assert life.detectors == 1000
    assert life.events["cooking"] > 7000
    assert len(life.low_batteries) > 5
    assert len(life.dispatches[VERIFIED.name]) <= most


@pytest.mark.soak
def test_with_heat_detectors_above_stoves_it_is_less_than_one_a_month() -> None:
    months = [nuisances.live(30.0, seed, ways=(HEAT,)) for seed in (1, 2, 3)]
    assert all(life.detectors == 1000 for life in months)
    assert sum(len(life.dispatches[HEAT.name]) for life in months) < len(months)
