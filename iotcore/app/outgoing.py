"""The fire process's ways out: the journal's outbox while it answers, the emergency's when it does not, over the same channels.

commit ─► opened ──► guarded outbox ─► dispatcher ─┐
                          │ journal silent         ├─► channels
lane ──► rescued ──► emergency ──────► dispatcher ─┘
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from iotcore.alarms.lane_commit import Safety
from iotcore.app.receivers import paths_of, told_of_all, ways_of
from iotcore.clock import Clock
from iotcore.dispatch.outbox import Channel, Dispatcher
from iotcore.dispatch.paths import Paths
from iotcore.errors import StoreError
from iotcore.journal.emergency import Emergency
from iotcore.journal.emergency_log import EmergencyLog
from iotcore.journal.guarded import GuardedOutbox
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.records import LEASE_MS, Committed, incident_id
from iotcore.off_loop import Threads, in_a_thread
from iotcore.process.replicas import Replica
from iotcore.settings import Settings

log = logging.getLogger(__name__)

AFTER_LEASE_S = LEASE_MS / 1000.0 + 0.01


class Rescue:
    """The emergency and its dispatcher: they run before the journal is open, for what the last run left."""

    def __init__(self, settings: Settings, replica: Replica, channels: Mapping[str, Channel], clock: Clock, owner: str) -> None:
        self.commits = Threads("commits")  # of the journal: what hangs there holds nothing else up
        self.beside = Threads("emergency")
        kept = EmergencyLog(replica.emergency_log(settings))
        self.emergency = Emergency(kept, told_of_all(settings), clock, incident_id, replica=replica.number)
        self._sending = Threads("emergency dispatch", 2)  # whatever hangs on the journal takes these away from nobody
        self.dispatcher = Dispatcher(
            self.emergency,
            channels,
            clock,
            f"{owner}-emergency",
            ways=ways_of(settings),
            down=self._is_down,
            off_loop=self._sending,
        )
        self.down: Callable[[str], bool] = lambda _: False  # known once the journal is open
        self.opened = asyncio.Event()  # the log is read, and its room put aside; the lane waits some seconds for it

    def _is_down(self, channel: str) -> bool:
        return self.down(channel)

    async def run(self) -> None:
        """Send what went to the emergency, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.dispatcher.run())
                left = await self.beside(self.emergency.open)
                self.opened.set()
                if left:
                    log.critical("%d fires are in the emergency log and not in the journal: sent until acknowledged", left)
                    self.dispatcher.wake()
        finally:
            self.commits.close()
            self.beside.close()
            self._sending.close()
            await in_a_thread(self.emergency.close)


class Outgoing:
    """What the lane's commits give to the dispatcher."""

    def __init__(  # noqa: PLR0917 - what it joins
        self,
        settings: Settings,
        journal: Journal,
        rescue: Rescue,
        channels: Mapping[str, Channel],
        clock: Clock,
        owner: str,
    ) -> None:
        self.owner = owner
        self._rescue = rescue
        self._outbox = SqlOutbox(journal)
        self._guarded = GuardedOutbox(self._outbox, rescue.emergency, clock)
        self.paths = paths_of(settings, channels, journal, clock)
        rescue.down = self.paths.down
        self.dispatcher = Dispatcher(
            self._guarded, channels, clock, owner, ways=ways_of(settings), down=self.paths.down, heard=self.paths.heard
        )

    @property
    def parts(self) -> tuple[Dispatcher, Paths]:
        """What runs for as long as the process does."""
        return self.dispatcher, self.paths

    @property
    def safety(self) -> Safety:
        """For the lane."""
        rescue = self._rescue
        return Safety(rescue.emergency, self._rescued, self._stalled, self._seconded, rescue.commits, rescue.beside)

    def opened(self, committed: Committed) -> None:
        """New incidents are durable: at once, but for what is on its way without the journal."""
        rows = [row for row in committed.leased if not self._rescue.emergency.handles(row.incident)]
        self._guarded.given(rows)
        self.dispatcher.send_now(rows)

    def _rescued(self) -> None:
        """Fires have gone to the emergency."""
        self._rescue.dispatcher.wake()

    def _stalled(self) -> None:
        """The journal is silent: what was on its way goes on without it."""
        self._guarded.stalled()
        self._rescue.dispatcher.wake()

    def _seconded(self) -> None:
        """Another replica has opened what we decided too. Should it die, its notices are ours when its lease ends: look then."""
        asyncio.get_running_loop().call_later(AFTER_LEASE_S, self.dispatcher.wake)

    async def take_over(self, owner: str) -> None:
        """A replica has ended: what was leased to it is sent now."""
        try:
            await in_a_thread(lambda: self._outbox.release(owner))
        except StoreError as error:
            log.warning("the leases of %s end by themselves: %s", owner, error)
        self.dispatcher.wake()
