"""The store's benchmark runs, and checks what it reads back: its last line is the JSON object that people quote."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine


async def test_the_store_benchmark_ends_with_figures_of_writing_and_asking_beside_bare_sqlite() -> None:
    command = [sys.executable, "-m", "benchmarks.store", "40000"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(out.splitlines()[-1])
    assert figures["values"] == 40_000
    for measured in (figures["write"], figures["bare_sqlite"], figures["write_beside_readers"]):
        assert measured["values_per_s"] > 0
        assert measured["cpu_us_per_value"] > 0
    assert figures["ratio_cpu"] > 0
    assert figures["ask"]["minute_means_1h_100_devices_p50_ms"] > 0
    assert figures["write_beside_readers"]["reader_answers"] >= figures["write_beside_readers"]["readers"]
    assert 10 < figures["bytes_per_value"] < 500
