"""A child of `test_emergency_disk`: the lane and both its ways out on a small file system that is full to the last page.

Prints one JSON object. Run inside its own mount namespace, so that the file system vanishes with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from simulators.arc_receiver import ArcReceiver
from tests.support.fire_table import FIRE, QUIET, FireTable
from tests.support.small_disk import Filler
from tests.support.until import until

FIRES = 20


async def main(folder: Path) -> None:
    filler, result = Filler(folder), dict[str, Any]()
    async with ArcReceiver() as arc:
        table = FireTable(folder, arc)
        await table.start()
        for n in range(1, FIRES + 1):
            await table.say(f"sd-{n}", QUIET)
        filler.fill()
        await table.say("sd-40", {**QUIET, "temperature": 20.0})
        await until(lambda: table.stalled, 5.0)
        began_s = time.monotonic()
        await table.lane.turn([table.arrival(f"sd-{n}", FIRE) for n in range(1, FIRES + 1)])
        await until(lambda: len(arc.received) == FIRES, 5.0)
        result["all_out_s"] = time.monotonic() - began_s
        emergency = table.rescue.emergency
        await until(lambda: all(one.acknowledged_ms is not None for one in emergency.carried()), 5.0)
        result["unlogged"] = table.rescue.emergency.unlogged
        result["in_the_journal"] = table.rows("SELECT count(*) FROM incident")[0][0]
        result["state"] = {key: value for key, value in table.lane.state().items() if key.startswith("journal")}
        await table.stop()  # the process ends on a full disk, and another begins
        again = FireTable(folder, arc)
        again.start_rescue()
        await again.rescue.opened.wait()
        result["left_in_the_log"] = again.rescue.emergency.fires
        await asyncio.sleep(0.5)
        result["sent_again"] = len(arc.received) - FIRES
        filler.free()
        again.start_lane()
        await until(lambda: not again.rescue.emergency.fires, 10.0)
        await asyncio.sleep(0.3)
        result["incidents"] = again.rows("SELECT count(*) FROM incident")[0][0]
        found = again.rows("SELECT count(*), count(acknowledged_ms), min(number) FROM outbox WHERE event = 'alarm'")
        result["outbox"] = list(found[0])
        result["told"] = len({frame.incident for frame in arc.received})
        result["frames"] = len(arc.received)
        await again.stop()
    print(json.dumps(result))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
