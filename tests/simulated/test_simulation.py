"""The alarm contract, in hundreds of simulated runs: whatever breaks, each fire is one incident, delivered, in time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulated.planted import ACKNOWLEDGES_FIRST, NOT_UNIQUE, looks_for_none_that_is_open, told_once
from tests.simulated.play import Variant, play
from tests.simulated.script import write

RUNS = 300
CHUNKS = 4
CONTROLS = 40  # runs in which a planted bug has to show
SOAK_RUNS = 100_000
UNDISTURBED_S = 0.5  # with nothing broken but latencies of up to 160 ms a hop


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A city's worth of broken things is not news."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def broken(seeds: range, variant: Variant | None = None) -> dict[int, list[str]]:
    return {seed: outcome.broken for seed in seeds if (outcome := play(write(seed), variant)).broken}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_fire_is_one_incident_delivered_in_time_whatever_breaks(chunk: int) -> None:
    size = RUNS // CHUNKS
    assert broken(range(chunk * size, (chunk + 1) * size)) == {}


def test_with_nothing_broken_it_takes_no_longer_than_the_network() -> None:
    calm = [seed for seed in range(200) if not write(seed).spans and not write(seed).crashes]
    waits = [wait for seed in calm for wait in play(write(seed)).undisturbed_s]
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
    assert broken(range(first, first + int(os.environ.get("IOTCORE_SIMULATION_RUNS", SOAK_RUNS)))) == {}
