"""A stage for timelines: a journal, a dispatcher and the watch over two paths, with a receiver of our own at the end of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from iotcore.clock import SystemClock
from iotcore.dispatch.outbox import Dispatcher, Way
from iotcore.dispatch.paths import Paths, Watched
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.path_watch import SqlPaths
from iotcore.journal.records import Batch
from iotcore.journal.timeline import Delivery
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver
from tests.support.fire import notice, raise_
from tests.support.until import until

EVERY_S, REPLY_S, LIMIT_S = 0.2, 0.3, 0.9  # of link tests; real ones: 30, 5 and 75 s
UNDELIVERED_MS = 1_500.0  # real: 100 s


@dataclass(slots=True)
class Stage:
    """Times are seconds since the stage was set."""

    journal: Journal
    dispatcher: Dispatcher
    paths: Paths
    arc: ArcReceiver
    backup: ArcReceiver
    began_s: float = field(default_factory=time.perf_counter)

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self.began_s

    async def at(self, moment_s: float) -> None:
        """Wait until a moment of the timeline."""
        await asyncio.sleep(max(0.0, moment_s - self.now_s))

    def smoke(self, premises: str = "p1") -> str:
        """A fire: durable and handed to the dispatcher; its incident."""
        committed = self.journal.commit(Batch(raises=(raise_(of=notice(f"sd-{premises}", premises)),)))
        self.dispatcher.send_now(committed.leased)
        (incident,) = committed.opened
        return incident

    async def want(self, what: Callable[[], bool], until_s: float) -> float:
        """Something must be true by a moment of the timeline; when it came."""
        await until(what, max(0.0, until_s - self.now_s))
        return self.now_s

    def faults(self) -> set[tuple[str, str]]:
        return set(self.journal.standing_faults())

    def deliveries(self, incident: str) -> dict[str, Delivery]:
        """What became of an incident, by channel."""
        with self.journal.lock:
            rows = self.journal.connection.execute(
                "SELECT channel, event, attempts, sent_ms, acknowledged_ms, reply, last_error FROM outbox WHERE incident = ?",
                (incident,),
            ).fetchall()
        return {row[0]: Delivery(*row) for row in rows}


@asynccontextmanager
async def stage(file: Path, arc: ArcReceiver, *, hedge_s: float = 3.0, supervised: bool = False) -> AsyncIterator[Stage]:
    """Set it: `arc` has `backup` as its alternate; with `supervised` both paths are tested, quicker than in life."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(arc)
        backup = await stack.enter_async_context(ArcReceiver())
        journal = Journal(file, clock, ["arc"], "fire-1")
        stack.callback(journal.close)
        channels = {
            name: Dc09Channel(Dc09Receiver(name, "127.0.0.1", at.port, reply_timeout_s=REPLY_S), clock)
            for name, at in (("arc", arc), ("backup", backup))
        }
        watched = {name: Watched(channel, EVERY_S, LIMIT_S) for name, channel in channels.items()} if supervised else {}
        paths = Paths(SqlPaths(journal, clock), watched, {"arc": "backup"}, clock, undelivered_ms=UNDELIVERED_MS, look_s=0.05)
        dispatcher = Dispatcher(
            SqlOutbox(journal), channels, clock, "fire-1", ways={"arc": Way(4, "backup", hedge_s)}, down=paths.down,
            heard=paths.heard, jitter=lambda: 1.0,
        )  # fmt: skip
        tasks = [asyncio.create_task(part.run()) for part in (dispatcher, paths)]
        try:
            yield Stage(journal, dispatcher, paths, arc, backup)
            assert not [task for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
