"""A child of `test_spool_disk_full`: `iotcore run telemetry` started where not a page is left. Prints one JSON object.

First with its reserve, which it opens by; then with nothing at all, until there is room. In the end the fire process alike.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iotcore.clock import SystemClock
from iotcore.process.serve import beats
from tests.campaigns import set_store
from tests.campaigns.nemesis import Fault
from tests.campaigns.set_devices import NumberedDevice
from tests.campaigns.set_site import Site
from tests.support.set_check import check

LIMIT_S = 40.0
WHILE_S = 3.0  # more than a re-send, a beat, and ten tries to open
READINGS = 20  # of each device in each part
RATE_PER_S = 100.0


class Trial:
    """A site with two devices; every method is a part of the story."""

    def __init__(self, site: Site, devices: list[NumberedDevice]) -> None:
        self._site = site
        self._devices = devices

    async def make(self) -> None:
        await asyncio.gather(*(device.make(READINGS, RATE_PER_S) for device in self._devices))

    async def all_receipted(self) -> None:
        await self.until(lambda: not any(device.held for device in self._devices), "all is receipted")

    async def start_on_a_full_disk(self) -> dict[str, Any]:
        """kill -9, no page left, start; what the process says of itself once it says anything."""
        site, before = self._site, self.said().get("pid")
        await site.begin(Fault.KILL_TELEMETRY)
        await self.until(lambda: not site.running, "it is killed")
        await site.begin(Fault.FILL_DISK)
        await site.end(Fault.KILL_TELEMETRY)
        await self.until(lambda: self.said().get("pid") != before and self.settled(), "it says how it is")
        await self.make()
        await asyncio.sleep(WHILE_S)
        return self.said() | {"held": [device.held for device in self._devices]}

    async def make_room(self) -> dict[str, Any]:
        await self._site.end(Fault.FILL_DISK)
        await self.all_receipted()
        await self.until(lambda: "waits_for" not in self.said(), "it waits no more")
        return self.said()

    def said(self, process: str = "telemetry") -> dict[str, Any]:
        return beats(self._site.data, SystemClock()).get(process, {})

    def settled(self, process: str = "telemetry") -> bool:
        """Whether a process says that it is connected, or what it waits for."""
        return bool(self.said(process).get("connected") or self.said(process).get("waits_for"))

    async def start_fire_on_a_full_disk(self) -> dict[str, Any]:
        """Started with room, ended, and started where not a page is left; what it says then, and once there is room."""
        first = self._fire()
        await self.until(lambda: bool(self.said("fire").get("connected")), "the fire process is up")
        await self._site.begin(Fault.KILL_TELEMETRY)  # it reads the fire files too, and would keep them open
        await self.until(lambda: not self._site.running, "it is killed")
        first.terminate()
        await asyncio.to_thread(first.wait)
        await self._site.begin(Fault.FILL_DISK)
        second = self._fire()
        try:
            await self.until(lambda: self.said("fire").get("pid") == second.pid and self.settled("fire"), "it says how it is")
            full = self.said("fire")
            await self._site.end(Fault.FILL_DISK)
            freed_s = time.monotonic()
            await self.until(lambda: bool(self.said("fire").get("connected")), "the fire process goes on")
            took_s = time.monotonic() - freed_s
            return {"full": full, "after": self.said("fire"), "ended": second.poll(), "took_s": took_s}
        finally:
            second.kill()
            await self._site.end(Fault.KILL_TELEMETRY)
            await asyncio.to_thread(second.wait)

    def _fire(self) -> subprocess.Popen[bytes]:
        with (self._site.folder / "fire.log").open("ab") as log:
            command = [sys.executable, "-m", "iotcore", "run", "fire", "--config", str(self._site.config)]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def doctor(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "iotcore", "doctor", "-o", "json", "--config", str(self._site.config)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        found: dict[str, Any] = next(one for one in json.loads(done.stdout) if one["name"] == "process telemetry")
        return found

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(LIMIT_S):
                while not condition():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not in {LIMIT_S:.0f} s: {what}\n{self._site.log[-4000:]}") from None


async def main(folder: Path) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Site(folder, "embedded", 2))
        devices = [
            await stack.enter_async_context(
                NumberedDevice(i, name, site.spec, site.endpoint(name), window=4 * READINGS, resend_s=1.0, give_up_s=LIMIT_S)
            )
            for i, name in enumerate(site.names)
        ]
        trial = Trial(site, devices)
        await trial.make()
        await trial.all_receipted()
        by_reserve = await trial.start_on_a_full_disk()
        await trial.make_room()
        site.give_reserve_away()
        waiting = await trial.start_on_a_full_disk()
        doctor = await trial.doctor()
        after = await trial.make_room()
        fire = await trial.start_fire_on_a_full_disk()
        made = sum(device.counters.reported for device in devices)
        await trial.until(lambda: set_store.count(site) >= made, "the store has them")
        report = check((one for device in devices for one in device.history()), set_store.points(site))
    told = {
        "each": READINGS,
        "by_reserve": by_reserve,
        "waiting": waiting,
        "doctor": doctor,
        "after": after,
        "report": asdict(report),
    }
    lines = site.log.count("free some space and the start goes on by itself")
    print(json.dumps(told | {"made": made, "fire": fire, "ended": site.ended_by_itself, "lines": lines}))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
