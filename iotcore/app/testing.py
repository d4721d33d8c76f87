"""What is around a test mode: test alarms go back to the registry, and test modes whose time is up are written down as over."""

from __future__ import annotations

import asyncio
import logging

from iotcore.clock import Clock
from iotcore.errors import IotError, Refused
from iotcore.journal.journal import Journal
from iotcore.journal.records import TestAlarm
from iotcore.registry.commissioning import Commissioning, LastTest

log = logging.getLogger(__name__)

RETRY_S = 2.0
PAUSE_S = 0.2  # what comes meanwhile is carried together
LOOK_S = 5.0


class TestsBack:
    """Carries what a test has proved from the journal to the registry: the last step of their road, also after a restart.

    An unreachable registry loses none: what it does not have yet stands in the journal.
    """

    __test__ = False  # for pytest

    def __init__(self, journal: Journal, commissioning: Commissioning, clock: Clock) -> None:
        self._journal = journal
        self._commissioning = commissioning
        self._clock = clock
        self._news = asyncio.Event()

    def tell(self) -> None:
        """There is a new one."""
        self._news.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        settled = False
        while True:
            self._news.clear()
            try:
                if not settled:
                    await asyncio.to_thread(self._journal.settle_tests)
                    settled = True
                while found := await asyncio.to_thread(self._journal.tests_on_the_road):
                    newest = {one.device: one.id for one in found}
                    for one in found:
                        await self._carry(one, counts=newest[one.device] == one.id)
                    await asyncio.sleep(PAUSE_S)
            except IotError as error:
                log.warning("test alarms wait for the registry: %s", error)
                await asyncio.sleep(RETRY_S)
                continue
            await self._news.wait()

    async def _carry(self, one: TestAlarm, *, counts: bool) -> None:
        """Only the newest of a device counts: one that presses for ever is not one audit entry a press."""
        assert one.latency_ms is not None, "a test alarm goes on once it is durable"
        last = LastTest(one.device, int(one.received_ms), one.latency_ms, one.by)
        try:
            if counts:
                await self._commissioning.record_test(last, dict(one.moments()), incident=one.incident or "")
        except Refused as refused:
            log.warning("a test alarm of %s is not recorded: %s", one.device, refused)
        await asyncio.to_thread(self._journal.note_back, one.id, self._clock.wall_ms())


async def end_overdue(commissioning: Commissioning) -> None:
    """Write down, every few seconds, which test modes are over; until cancelled. Nobody waits for it: they end by the clock."""
    failing = False
    while True:
        try:
            for device in await commissioning.end_overdue():
                log.info("the test mode of %s is over", device)
            failing = False
        except IotError as error:
            if not failing:
                log.warning("ended test modes cannot be written down: %s", error)
            failing = True
        await asyncio.sleep(LOOK_S)
