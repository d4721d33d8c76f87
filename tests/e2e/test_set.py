"""Nothing receipted is lost, whatever is killed, full, cut or stopped: the set test (docs/durability.md).

The short form has each fault once. The long one, 200,000 readings, is `make soak` or `python -m tests.campaigns.set_test`.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.set_test import namespaced
from tests.support.services import require

SEED = "970"  # telemetry is killed while its disk is full
QUICK = ("--rounds=1", "--longest-s=0.8", "--window=16", "--resend-s=1.5", "--rate=2000", f"--seed={SEED}")
BROKEN = ("--worker", "-m tests.campaigns.broken_worker", "--faults", "KILL_TELEMETRY", "--settle-s", "2")
WHOLE = {"lost": 0, "missing": 0, "duplicated": 0, "unexpected": 0, "crashes": 0}


def campaign(folder: Path, *arguments: str, limit_s: float) -> dict[str, Any]:
    """Run it to its end; its figures, `code` being its exit code."""
    for program in ("mosquitto", "influxd"):
        require(program)
    process = subprocess.Popen(namespaced(arguments, folder), stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        said, _ = process.communicate(timeout=limit_s)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    print(said)  # noqa: T201 - the seed, to repeat it, and what happened
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures | {"code": process.returncode}


def expect_each_once(figures: dict[str, Any], messages: int) -> None:
    assert {kind: figures[kind] for kind in WHOLE} == WHOLE
    assert figures["ok"] + figures["recovered"] == figures["sent"] == messages
    assert figures["code"] == 0


def test_each_fault_once_loses_nothing_receipted_and_stores_nothing_twice(tmp_path: Path) -> None:
    figures = campaign(tmp_path, *QUICK, "--messages", "6000", limit_s=110.0)
    expect_each_once(figures, 6000)
    assert figures["recovered"] > 0, "no fault was felt"
    assert figures["refused_by_the_disk"] > 0, "the disk was not full"


def test_a_build_that_acknowledges_before_it_stores_is_found_out(tmp_path: Path) -> None:
    figures = campaign(tmp_path, *QUICK, *BROKEN, "--store", "embedded", "--messages", "2500", limit_s=110.0)
    assert figures["lost"] > 0
    assert figures["code"] == 1


@pytest.mark.soak
@pytest.mark.parametrize("store", ["influx1", "embedded"])
def test_many_rounds_of_every_fault_lose_nothing_receipted_and_store_nothing_twice(tmp_path: Path, store: str) -> None:
    seed = os.environ.get("IOTCORE_SEED") or secrets.token_hex(4)
    figures = campaign(tmp_path, "--store", store, "--seed", seed, limit_s=3600.0)
    expect_each_once(figures, 200_000)
