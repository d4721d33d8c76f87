"""The keeper: periodic work, and a watchdog that does not depend on the lane that it watches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from iotcore.clock import Clock, Uptime
from iotcore.errors import IotError
from iotcore.journal import paths, timers, watching
from iotcore.journal.database import UNREADABLE, Place, connect_readonly, is_there
from iotcore.journal.timeline import PARKED

log = logging.getLogger(__name__)

REPUBLISH_S = 3600.0  # a revocation list that expires locks out the whole fleet; ours live 7 days
LOOK_S = 5.0
OVERDUE_MS = 100_000.0  # an alarm without the receiving centre's acknowledgement is a fault of its own (EN 54-21, type 1)


class Keeper:
    """Runs for ever; what fails is said and tried again at its next turn."""

    def __init__(
        self,
        *,
        republish: Callable[[], None],
        overdue: Callable[[], list[str]],
        still: Callable[[], list[str]] = list,
        clock: Clock,
    ) -> None:
        self._republish = republish
        self._overdue = overdue
        self._still_now = still
        self._still: list[str] = []
        self._clock = clock
        self._late: list[str] = []
        self._trouble = ""  # why the lists could not be published, as it was said last

    def state(self) -> dict[str, Any]:
        """For `iotcore doctor`: the notices that no receiver has taken in time, and what stands still."""
        return {"overdue": self._late, "standing_still": self._still}

    async def run(self) -> None:
        """Look every few seconds, publish every hour."""
        published_s: float | None = None
        while True:
            now_s = self._clock.monotonic_s()
            if published_s is None or now_s - published_s >= REPUBLISH_S:
                try:
                    await asyncio.to_thread(self._republish)
                    published_s, self._trouble = now_s, ""
                except (IotError, OSError) as error:
                    if str(error) != self._trouble:
                        log.error("the revocation lists could not be published; it is tried again: %s", error)  # noqa: TRY400
                    self._trouble = str(error)
            late = await asyncio.to_thread(self._overdue)
            for notice in late:
                if notice not in self._late:
                    log.critical("NOT DELIVERED for %.0f s: %s", OVERDUE_MS / 1000.0, notice)
            self._late = late
            still = await asyncio.to_thread(self._still_now)
            for what in still:
                if what not in self._still:
                    log.critical("DISPATCH STANDS STILL: %s", what)
            self._still = still
            await asyncio.sleep(LOOK_S)


def overdue_notices(journal: Place, clock: Clock, alternates: Mapping[str, str]) -> list[str]:
    """Notices that no receiver has acknowledged in time, on neither of its paths, each as: incident event → channel."""
    if not is_there(journal):
        return []
    try:
        with closing(connect_readonly(journal)) as connection:
            late = paths.overdue(connection, alternates, clock.wall_ms() - OVERDUE_MS)
            held = connection.execute("SELECT incident, event, channel FROM parked WHERE decision IS NULL ORDER BY id").fetchall()
    except UNREADABLE as error:  # the fire process is just making it, or the server is gone
        log.info("the journal cannot be read yet: %s", error)
        return []
    return [
        *(f"{incident} {event} → {channel}" for incident, event, channel in late),
        *(f"{incident} {event} → {channel} ({PARKED})" for incident, event, channel in held),
    ]


def standing_still(journal: Place, uptime: Uptime, clock: Clock) -> list[str]:
    """Alarms that no process offers to their receiver, fires that nobody escalates; none while the journal cannot be read."""
    if not is_there(journal):
        return []
    try:
        with closing(connect_readonly(journal)) as connection:
            return watching.standing_still(connection, timers.Now(uptime.machine, uptime.seconds(), clock.wall_ms()))
    except UNREADABLE as error:
        log.info("the journal cannot be read yet: %s", error)
        return []
