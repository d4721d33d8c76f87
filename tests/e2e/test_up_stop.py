"""`iotcore up` ends whole, also when one of its processes does not want to, and has its folder for itself."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from simulators.arc_receiver import ArcReceiver
from tests.support.platform import ARC_KEY, Platform
from tests.support.services import require


async def test_a_process_that_hangs_is_killed_and_the_brokers_end_after_it(tmp_path: Path) -> None:
    require("mosquitto")
    async with ArcReceiver(key=ARC_KEY) as arc:
        platform = Platform(tmp_path, arc_port=arc.port)
        try:
            await platform.start()
            hanging = psutil.Process(platform.pid("telemetry"))
            hanging.suspend()
        finally:
            # nothing is left behind, which it would complain of first; that one had to be killed is in the log
            with pytest.raises(AssertionError, match=r"telemetry \(process \d+\) did not end in 8 s; killed"):
                await platform.stop()
    assert not hanging.is_running()


async def test_a_second_platform_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    require("mosquitto")
    async with ArcReceiver(key=ARC_KEY) as arc:
        platform = Platform(tmp_path, arc_port=arc.port)
        try:
            await platform.start()
            assert platform.iotcore("up", code=1) == ""
        finally:
            await platform.stop()
