"""Many simulated devices in one process: the benchmark itself, made small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.simulated_devices import measure
from iotcore.errors import StartError
from simulators.town import room_for

pytestmark = pytest.mark.soak  # a load of its own, for a quiet machine


@pytest.mark.timeout(180)
async def test_two_hundred_devices_report_on_a_part_of_one_core(tmp_path: Path) -> None:
    found = await measure(tmp_path, 200, 5.0)
    assert found["devices_heard"] == 200
    assert found["receipted"] == found["reported"] >= 200
    assert found["reconnected"] == 0
    assert found["threads"] < 40  # not one for each
    assert found["fds"] < 300
    assert found["cpu_cores"] < 0.5  # ten times as many must fit one core with room


def test_a_limit_of_open_files_that_is_too_low_is_said_before_it_bites() -> None:
    with pytest.raises(StartError, match=r"clients need .* open files, the limit is"):
        room_for(10**9)
