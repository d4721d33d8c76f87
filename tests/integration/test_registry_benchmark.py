"""The registry's benchmark runs on both databases, made small: its last line is the JSON object that people quote."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine


@pytest.mark.parametrize("options", [[], ["--postgres"]], ids=["sqlite", "postgres"])
async def test_the_registry_benchmark_ends_with_figures_of_import_export_and_waiting(options: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.registry", "4000", *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(out.splitlines()[-1])
    assert (found["import"]["added"], found["again"]["same"], found["again_xlsx"]["same"]) == (4000, 4000, 4000)
    assert found["audit_entries"] == 4000 + found["acknowledge"]["count"]
    assert found["acknowledge"]["count"] > 0
    for name in ("import", "again", "export_csv", "export_json", "export_xlsx"):
        assert found[name]["cpu_s"] > 0
        assert found[name]["peak_mib"] > 0
