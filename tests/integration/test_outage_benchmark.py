"""InfluxDB gone for six hours, scaled: fires go on, the backlog is written while live readings show, none is missing.

The short form is ten seconds of load; the long one (`make soak`) is a sixtieth of six hours at 1,000 readings a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.services import require

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine

ROOT = Path(__file__).parents[2]
LIVE_SHOWS_S = 8.0  # the drain's longest pause (5 s), and room for a machine that does other things


def outage(*arguments: str, limit_s: float) -> dict[str, Any]:
    for program in ("mosquitto", "influxd"):
        require(program)
    command = [sys.executable, "-m", "benchmarks.outage", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # noqa: T201 - the figures
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def expect_nothing_missing_and_fires_unaffected(figures: dict[str, Any], fires: int) -> None:
    assert figures["missing"] == 0
    assert figures["ratio"] >= 3.0
    assert figures["live_visible_s"] < LIVE_SHOWS_S
    assert [measured["fires"] for measured in figures["fires"].values()] == [fires] * 3, "each reached the receiver exactly once"


def test_influxdb_down_loses_nothing_and_the_backlog_is_written_faster_than_it_came() -> None:
    figures = outage("--live", "300", "--scale", "1080", "--fires", "10", "--premises", "10", limit_s=110.0)
    assert figures["backlog"] > 5_000
    expect_nothing_missing_and_fires_unaffected(figures, 10)


@pytest.mark.soak
def test_six_hours_without_influxdb_scaled_by_sixty_leave_fires_alone_and_are_written_in_a_third_of_the_time() -> None:
    figures = outage(limit_s=3_600.0)
    expect_nothing_missing_and_fires_unaffected(figures, 100)
    before, during = figures["fires"]["before"], figures["fires"]["outage"]
    assert during["p99"] <= max(100.0, 3.0 * before["p99"])  # ms: the contract's limit with the bulk lane saturated
