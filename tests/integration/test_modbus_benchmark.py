"""The Modbus benchmark runs: its last line is the JSON object that people quote."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine


async def test_the_modbus_benchmark_ends_with_rates_beside_pymodbus_and_the_latency_of_a_fire_among_dead_units() -> None:
    command = [sys.executable, "-m", "benchmarks.modbus", "0.2", "1", "3"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(out.splitlines()[-1])
    for count in ("1", "3"):
        assert min(figures["rates"][count][f"{what}_per_s"] for what in ("bare", "link", "same", "moving")) > 0
        assert min(figures["rates"][count][f"{what}_ratio"] for what in ("link", "same", "moving")) > 0
    assert figures["fire"]["dead"] > 0
    for run in ("alone", "among_dead"):
        assert 0 < figures["fire"][run]["p50_ms"] <= figures["fire"][run]["max_ms"] < 10_000
