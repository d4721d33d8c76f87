"""The ingest benchmark runs, and counts in the stores what it claims: its last line is the JSON object that people quote."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine


async def test_the_ingest_benchmark_ends_with_figures_of_a_bare_subscriber_and_of_the_lane_on_both_stores() -> None:
    command = [sys.executable, "-m", "benchmarks.ingest", "300", "1"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(out.splitlines()[-1])
    for measured in (figures[store][mode] for store in ("embedded", "influx1") for mode in ("live", "queued")):
        assert measured["bare_per_s"] > 0
        assert measured["lane_per_s"] > 0
        assert measured["ratio"] > 0
        assert 0 <= measured["drain_lag_s"] < 10
