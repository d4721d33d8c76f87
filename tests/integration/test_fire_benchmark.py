"""The fire benchmark runs from its command line, short, and prints what its page says; a fire that came twice would end it."""

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
QUANTILES = {"p50", "p99", "p99.9", "max"}
STAGES = ["published_to_received", "received_to_decided", "decided_to_durable", "durable_to_sent", "sent_to_frame"]


def fire(*conditions: str, limit_s: float = 300.0) -> dict[str, Any]:
    for program in ("mosquitto", "influxd"):
        require(program)
    command = [sys.executable, "-m", "benchmarks.fire", *conditions]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # noqa: T201 - the figures
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def expect_every_stage(measured: dict[str, Any], fires: int) -> None:
    assert measured["fires"] >= fires
    assert list(measured["stages"]) == STAGES
    assert all(set(stage) == QUANTILES for stage in measured["stages"].values())
    assert 0.0 < measured["published_to_durable"]["p50"] <= measured["published_to_frame"]["max"]
    assert measured["cpu_cores"]["fire"] > 0.0


def test_one_run_tells_every_condition_stage_by_stage_beside_a_bare_baseline() -> None:
    figures = fire("--all")
    assert set(figures["baseline"]) == QUANTILES
    for name, fires in (("idle", 20), ("saturated", 20), ("influx-down", 20), ("reconnects", 1)):
        expect_every_stage(figures[name], fires)
        assert set(figures[f"ratio_{name}_to_baseline"]) == QUANTILES
    assert set(figures["ratio_saturated_to_idle"]) == QUANTILES


def test_saturated_is_what_the_bulk_lane_cannot_take_and_influxdb_is_truly_gone() -> None:
    figures = fire("--saturated", "--influx-down", "--fires", "10")
    assert figures["saturated"]["queue_grows_per_s"] > figures["saturated"]["telemetry_stored_per_s"] / 10
    assert figures["influx-down"]["store_trouble"] == "unreachable"


def test_a_storm_makes_one_incident_of_each_premises_and_holds_every_point() -> None:
    figures = fire("--storm", "--reconnects", "--fires", "10")
    assert figures["reconnects"]["clients"] == 44  # 20 field devices; of 8 premises 4 of 5 detectors each, 2 gateways, 2 panels
    storm = figures["storm"]
    assert (storm["premises"], storm["incidents"], storm["points"]) == (8, 8, 40)
    assert storm["console_ms"]["failed"] == 0
    assert storm["first_frame_after_own_publish_s"]["max"] < 2.0


@pytest.mark.soak
def test_ten_thousand_points_and_ten_thousand_reconnections_keep_the_targets() -> None:
    """What is asked of a quiet machine with two cores."""
    figures = fire("--all", "--full", limit_s=3_600.0)
    assert figures["idle"]["published_to_frame"]["p50"] <= 8.0
    assert figures["idle"]["published_to_frame"]["p99"] <= 40.0
    assert figures["saturated"]["published_to_frame"]["p99"] <= 100.0
    assert figures["storm"]["incidents"] == 200
    assert figures["storm"]["first_frame_after_own_publish_s"]["max"] <= 2.0
    assert figures["reconnects"]["clients"] >= 10_000
