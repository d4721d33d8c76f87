"""One run: replicas of the real lane, journal and dispatcher in a simulated world, and what must be true of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from iotcore.journal.database import connect_readonly
from tests.simulated.judge import Outcome, judge
from tests.simulated.replica import Replica, Variant
from tests.simulated.script import Script
from tests.simulated.virtual import VirtualLoop
from tests.simulated.world import World

MEMORY = Path("/dev/shm")  # a disk that costs no time, where there is one
LOOK_S = 0.5  # between looks whether anything is still under way
TAIL_S = 2.5  # once nothing is: longer than a lease, a poll, a look at what is open
UNDER_WAY = "SELECT 1 FROM outbox WHERE acknowledged_ms IS NULL UNION ALL SELECT 1 FROM incident WHERE hold IS NOT NULL"


def play(script: Script, variant: Variant | None = None) -> Outcome:
    """Run a script to its end and judge it."""
    folder = Path(tempfile.mkdtemp(prefix="lane-", dir=MEMORY if MEMORY.is_dir() else None))
    loop = VirtualLoop()
    try:
        world = World(script, loop)
        loop.run_until_complete(_run(world, folder, variant or Variant()))
        return judge(world, folder / "journal.db")
    finally:
        loop.close()
        shutil.rmtree(folder)


async def _run(world: World, folder: Path, variant: Variant) -> None:
    replicas = [Replica(number, world, folder, variant) for number in range(world.script.replicas)]
    for replica in replicas:
        replica.start()
    around: list[Coroutine[Any, Any, None]] = [world.broker(), *(world.device(name) for name in world.devices)]
    around += [world.link(name) for name in world.devices]
    around += [_person(world, folder, "reset", place, at_s) for place, at_s in world.script.resets]
    around += [_person(world, folder, "acknowledge", place, at_s) for place, at_s in world.script.taken]
    tasks = [asyncio.create_task(one) for one in around]
    await _calm(world, replicas, folder)
    lives = [replica.stop() for replica in replicas]
    for task in (*tasks, *lives):
        task.cancel()
    await asyncio.gather(*tasks, *lives, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]


async def _calm(world: World, replicas: Sequence[Replica], folder: Path) -> None:
    """Until all is over, told and receipted, and a while longer; a patient run goes on to its end in any case."""
    script = world.script
    await asyncio.sleep(script.end_s if script.patient else script.busy_s)
    with contextlib.closing(connect_readonly(folder / "journal.db")) as journal:
        while world.loop.now_s < script.end_s - TAIL_S:
            waits = any(device.held for device in world.devices.values()) or not all(one.is_settled for one in replicas)
            if not waits and journal.execute(UNDER_WAY).fetchone() is None:
                await asyncio.sleep(TAIL_S)
                return
            await asyncio.sleep(LOOK_S)
    await asyncio.sleep(max(0.0, script.end_s - world.loop.now_s))


async def _person(world: World, folder: Path, kind: str, place: str, at_s: float) -> None:
    """A person takes or resets the premises' incident if there is one; else they have nothing to press."""
    await asyncio.sleep(at_s)
    with contextlib.closing(connect_readonly(folder / "journal.db")) as connection:
        row = connection.execute("SELECT id FROM incident WHERE premises = ? AND state = 'open'", (place,)).fetchone()
    if row is not None:
        world.note(f"{kind} {row[0]}")
        world.intents.append((kind, place, row[0]))
