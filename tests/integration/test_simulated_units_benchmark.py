"""1,000 simulated Modbus units on one core: the benchmark runs, and its last line is the JSON object that people quote."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine


@pytest.mark.parametrize("ports", [1000, 5])
async def test_a_thousand_units_are_read_once_a_second_and_take_less_than_a_core(ports: int) -> None:
    command = [sys.executable, "-m", "benchmarks.simulated_units", "--units", "1000", "--ports", str(ports), "--seconds", "3"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(out.splitlines()[-1])
    assert (figures["units"], figures["reads"], figures["wrong"]) == (1000, 3000, 0)
    assert 0.0 < figures["core_share"] < 0.8
