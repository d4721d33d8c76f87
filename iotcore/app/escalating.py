"""Escalation carried out: each fire process looks whose time for an answer is over, and whoever takes a timer tells the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from iotcore import metrics
from iotcore.alarms import escalate
from iotcore.alarms.escalate import Step
from iotcore.errors import IotError
from iotcore.journal import escalations, timers
from iotcore.journal.escalations import Telling, Unanswered
from iotcore.journal.facts import Number
from iotcore.journal.journal import Journal
from iotcore.off_loop import OffLoop, in_a_thread
from iotcore.registry.directory import Directory

log = logging.getLogger(__name__)

LOOK_S = 0.5
MS_PER_S = 1000.0


class Escalating:
    """One for a fire process. `callers` are the channels that reach people by their number; `wake` is the dispatcher's."""

    def __init__(
        self,
        journal: Journal,
        directory: Callable[[], Directory],
        callers: Sequence[str],
        wake: Callable[[], None],
        *,
        off_loop: OffLoop = in_a_thread,
    ) -> None:
        self._journal = journal
        self._directory = directory
        self._callers = tuple(callers)
        self._wake = wake
        self._off_loop = off_loop
        self.told = 0

    async def run(self) -> None:
        """Look until cancelled; a journal that fails is asked again."""
        failing = False
        while True:
            try:
                if told := await self._off_loop(self.look):
                    self.told += told
                    metrics.fire_escalations.inc(told)
                    self._wake()
                failing = False
            except IotError as error:
                if not failing:
                    log.error("escalation stands still: %s", error)  # noqa: TRY400 - an expected outage needs no stack
                failing = True
            await asyncio.sleep(LOOK_S)

    def look(self) -> int:
        """Once: how many steps were told."""
        now = self._journal.now()
        with self._journal.reading() as connection:
            waiting = escalations.rung(connection, now)
        return sum(self._climb(one, now) for one in waiting)

    def _climb(self, one: Unanswered, now: timers.Now) -> int:
        """The steps of one fire whose time has come: taken, told and timed anew in one transaction."""
        steps = escalate.ladder(self._directory().response(one.premises), one.since_ms)
        elapsed_s = max(steps[one.done].after_s if one.done < len(steps) else 0.0, (now.wall_ms - one.since_ms) / MS_PER_S)
        due = escalate.due(steps, one.done, elapsed_s)
        with self._journal.writing() as connection:
            if not timers.take(connection, escalations.KIND, one.incident):
                return 0  # another process, or somebody has answered
            for step in due:
                if not escalations.tell(connection, one, _telling(step), self._callers, now.wall_ms):
                    return 0
            done = one.done + len(due)
            escalations.go_on(connection, now, one, done, escalate.wait_s(steps, done, elapsed_s))
        log.warning("%s: nobody has acknowledged for %.0f s; step %d of %d is told", one.incident, elapsed_s, done, len(steps))
        return len(due)


def _telling(step: Step) -> Telling:
    people = tuple(Number(one.name, one.number, one.by, one.language) for one in step.numbers)
    return Telling(step.nth, step.everybody, step.receivers, people)
