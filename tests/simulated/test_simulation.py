"""The simulation itself: the same seed is the same history, planted bugs are found, and what nothing breaks is quick.

The runs of `make test` are in test_runs_0 to 3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulated.planted import ACKNOWLEDGES_FIRST, NOT_UNIQUE, looks_for_none_that_is_open, told_once
from tests.simulated.play import play
from tests.simulated.runs import broken_on_every_core, quiet
from tests.simulated.script import write

CALM = 60  # seeds of which those are played in which nothing breaks
CONTROLS = 25  # runs in which a planted bug has to show
SOAK_RUNS = 100_000
UNDISTURBED_S = 0.5  # with nothing broken but latencies of up to 160 ms a hop


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def test_with_nothing_broken_it_takes_no_longer_than_the_network() -> None:
    calm = [script for script in map(write, range(CALM)) if not script.spans and not script.crashes]
    waits = [wait for script in calm for wait in play(script).undisturbed_s]
    assert waits
    assert max(waits) < UNDISTURBED_S


def test_the_same_seed_is_the_same_history() -> None:
    for seed in range(12):
        assert play(write(seed)).history == play(write(seed)).history


def test_acknowledging_before_the_commit_would_be_found() -> None:
    assert any(play(told_once(seed), ACKNOWLEDGES_FIRST).broken for seed in range(CONTROLS))
    assert all(not play(told_once(seed)).broken for seed in range(CONTROLS))


def test_an_incident_that_is_not_unique_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    looks_for_none_that_is_open(monkeypatch)
    assert any(play(write(seed), NOT_UNIQUE).broken for seed in range(CONTROLS))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_hundred_thousand_runs() -> None:
    first = int(os.environ.get("IOTCORE_SIMULATION_FROM", "0"))
    assert broken_on_every_core(first, int(os.environ.get("IOTCORE_SIMULATION_RUNS", SOAK_RUNS))) == {}
