"""The fire benchmark runs from its command line and prints what its page says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.services import require

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine

ROOT = Path(__file__).parents[2]
QUANTILES = {"p50", "p99", "p99.9", "max"}


def test_a_short_run_prints_each_stage_idle_and_saturated_in_one_json_object_last() -> None:
    require("mosquitto")
    command = [sys.executable, "-m", "benchmarks.fire", "--fires", "10", "--premises", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for load in ("idle", "saturated"):
        measured = figures[load]
        assert measured["fires"] == 10
        assert list(measured["stages"]) == [
            "published_to_received", "received_to_decided", "decided_to_durable", "durable_to_sent", "sent_to_frame",
        ]  # fmt: skip
        assert all(set(stage) == QUANTILES for stage in measured["stages"].values())
        assert 0.0 < measured["published_to_durable"]["p50"] <= measured["published_to_frame"]["max"]
        assert measured["cpu_cores"]["fire"] > 0.0
    assert (figures["idle"]["flood_messages_per_s"], figures["saturated"]["flood_messages_per_s"] > 1000) == (0, True)
    assert set(figures["ratio_saturated_to_idle"]) == QUANTILES
