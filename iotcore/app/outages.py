"""What is out of service or in walk test, followed by the fire process: told when it begins; over, what still burns fires."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from iotcore import metrics
from iotcore.alarms.disabled import Exempt
from iotcore.app import lesser_notices
from iotcore.clock import Clock
from iotcore.errors import IotError
from iotcore.journal import disablements, outages
from iotcore.journal.disablements import Waiting
from iotcore.journal.journal import Journal
from iotcore.journal.outages import Begun
from iotcore.journal.records import Raise
from iotcore.off_loop import in_a_thread
from iotcore.registry.database import Database
from iotcore.registry.directory import Binding, Directory, Disablement, Walk
from iotcore.registry.disablements import Disablements
from iotcore.registry.outages import unended
from iotcore.registry.walks import Walks

log = logging.getLogger(__name__)

LOOK_S = 0.5
WRITE_S = 5.0
MS_PER_S = 1000.0


class Unlatches(Protocol):
    """What is asked of the engine."""

    def reset(self, devices: Iterable[str]) -> None:
        """Forget what these have decided: a point that is still active decides anew."""


class Outages:
    """One for a fire process.

    `raise_` carries decisions to a commit, and to dispatch. `database` is the registry's, for what the directory does not say.
    """

    def __init__(  # noqa: PLR0917 - the parts it stands between
        self,
        journal: Journal,
        directory: Callable[[], Directory],
        exempt: Exempt,
        engine: Unlatches,
        raise_: Callable[[Sequence[Raise]], Awaitable[None]],
        clock: Clock,
        database: Database,
    ) -> None:
        self._journal = journal
        self._database = database
        self._directory = directory
        self._exempt = exempt
        self._engine = engine
        self._raise = raise_
        self._clock = clock
        self._standing: Mapping[str, Disablement | Walk] = {}
        self._begun: frozenset[str] = frozenset()  # what this process has put down for the receivers
        self.again = 0  # alarms that fired when what exempted them was over
        metrics.fire_disablements.ask(lambda: float(sum(isinstance(one, Disablement) for one in self._standing.values())))
        metrics.fire_walks.ask(lambda: float(sum(isinstance(one, Walk) for one in self._standing.values())))
        metrics.fire_released.ask(lambda: float(self.again))

    async def run(self) -> None:
        """Look until cancelled; a journal that fails is asked again."""
        failing = False
        while True:
            try:
                await self.look()
                failing = False
            except IotError as error:
                if not failing:
                    log.error("what is disabled cannot be followed: %s", error)  # noqa: TRY400 - an expected outage
                failing = True
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once: what has begun is timed, and what is over sets its points free."""
        directory, now_ms = self._directory(), self._clock.wall_ms()
        rows: dict[str, Disablement | Walk] = {**directory.disablements, **directory.walks}
        standing = {id_: one for id_, one in rows.items() if one.covers(now_ms)}
        if not standing and not self._standing and not await in_a_thread(self._left):
            return
        remaining_s = {id_: (one.until_ms - now_ms) / MS_PER_S for id_, one in standing.items()}
        found, over, known = await in_a_thread(lambda: self._follow(remaining_s))
        self._exempt.over = over
        standing = {id_: one for id_, one in standing.items() if id_ not in over}
        ended = [one for id_, one in self._standing.items() if id_ not in standing]
        self._standing = standing
        if ended:
            await self._unlatch(ended, directory)
        if free := [one for one in found if not self._exempted(one, directory, now_ms)]:
            raises = await in_a_thread(lambda: self._stamp(free, now_ms))
            await self._raise(raises)
            await in_a_thread(lambda: self._done(free))
            self.again += len(free)
            log.warning("%d alarms of what is no longer disabled or tested are live now", len(free))
        await self._put_down(known, over | rows.keys(), directory)

    async def _put_down(self, known: frozenset[str], certain: frozenset[str], directory: Directory) -> None:
        """What has begun and what is over, for `dispatch.troubles` to tell. One that the directory lacks may have just begun."""
        standing = self._standing
        begun = [lesser_notices.of_outage(one, directory) for id_, one in standing.items() if id_ not in self._begun]
        left = known - standing.keys()
        if unmet := left - certain:
            left -= await unended(self._database, unmet)
        if begun or left:
            await in_a_thread(lambda: self._begin_and_end(begun, left))
        self._begun = frozenset(standing)

    async def _unlatch(self, ended: Iterable[Disablement | Walk], directory: Directory) -> None:
        """Nothing may stay latched by a decision that went to nobody; what burns in an open incident stays."""
        freed = {b.device for one in ended for b in directory.devices.values() if _within(one, b)}
        latched = await in_a_thread(self._journal.alarmed_devices)
        self._engine.reset(freed - latched)

    def _exempted(self, one: Waiting, directory: Directory, now_ms: float) -> bool:
        binding = directory.devices.get(one.notice.device)
        if binding is None:
            return False  # unregistered meanwhile: who knows; it was a fire
        out = self._exempt.disablement(directory, binding, one.notice.point, now_ms)
        return out is not None or self._exempt.walk(directory, binding, now_ms) is not None

    def _left(self) -> bool:
        with self._journal.reading() as connection:
            return bool(disablements.waiting(connection) or outages.standing(connection))

    def _follow(self, remaining_s: Mapping[str, float]) -> tuple[list[Waiting], frozenset[str], frozenset[str]]:
        now = self._journal.now()
        with self._journal.writing() as connection:
            disablements.watch(connection, now, remaining_s)
            disablements.end_due(connection, now)
            return disablements.waiting(connection), disablements.over(connection), outages.standing(connection)

    def _begin_and_end(self, begun: Iterable[Begun], ended: Collection[str]) -> None:
        with self._journal.writing() as connection:
            outages.begin(connection, begun, self._journal.channels)
            outages.end(connection, ended, self._journal.now_ms())

    def _stamp(self, found: Sequence[Waiting], now_ms: float) -> list[Raise]:
        with self._journal.writing() as connection:
            return disablements.stamped(connection, found, now_ms)

    def _done(self, found: Sequence[Waiting]) -> None:
        with self._journal.writing() as connection:
            disablements.raised(connection, [one.id for one in found])


def _within(one: Disablement | Walk, binding: Binding) -> bool:
    if isinstance(one, Walk):
        return one.holds(binding)
    kind, subject, _ = one.target
    return subject == {"zone": binding.zone, "premises": binding.premises}.get(kind, binding.device)


async def end_overdue(out: Disablements, walks: Walks) -> None:
    """Write down, every few seconds, what is over; until cancelled. Nobody waits for it: they end by the clock."""
    failing = False
    while True:
        try:
            for name in (*await out.end_overdue(), *await walks.end_overdue()):
                log.info("%s is over", name)
            failing = False
        except IotError as error:
            if not failing:
                log.warning("what is no longer disabled cannot be written down: %s", error)
            failing = True
        await asyncio.sleep(WRITE_S)
