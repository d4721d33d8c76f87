"""A line: one connection, and the units behind it taking turns, request by request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping

from drivers.modbus.connection import Connection
from drivers.modbus.questions import Fault, Reply
from drivers.modbus.schedule import Job, Schedule, Turn
from drivers.modbus.told import Counters, Outgoing, Put
from drivers.modbus.unit import Outcome, Purpose, Unit
from iotcore.clock import Clock
from iotcore.specs.bus import Serial, exchange_s


class Line:
    """Polls its units for ever. Without a connection (units that make no sense) it only tells that they are bad."""

    def __init__(
        self, connection: Connection | None, put: Put, clock: Clock, counters: Counters, serial: Serial | None = None
    ) -> None:
        self.schedule = Schedule()
        self._connection = connection
        self._clock = clock
        self._counters = counters
        self._serial = serial
        self._fire = Outgoing(put, counters, clock)
        self._bulk = Outgoing(put, counters, clock)
        self._units: Mapping[str, Unit] = {}
        self._silent: dict[str, str] = {}  # unit → why it is silent
        self._line_why = ""  # why there is no connection
        self._wake: asyncio.Future[None] | None = None

    def assign(self, units: Mapping[str, Unit]) -> None:
        """Poll these units from now on."""
        before, self._units = self._units, units
        self._silent = {device: why for device, why in self._silent.items() if device in units}
        now_s = self._clock.monotonic_s()
        self.schedule.keep({device: unit.jobs() for device, unit in units.items()}, now_s)
        for device, unit in units.items():
            if before.get(device, unit) is not unit:  # what was read for the unit as it was is nothing for this one
                self.schedule.replace(device, unit.jobs(), now_s)
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def parts(self) -> tuple[Coroutine[None, None, None], ...]:
        """What runs for this line, each ending only by cancellation."""
        return (self._run(), self._fire.run(), self._bulk.run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                turn = self.schedule.next(self._clock.monotonic_s())
                if turn is None:
                    await self._sleep(loop)
                elif turn.ask:
                    await self._ask(turn)
                else:
                    self._end([turn.job], self._why(turn.job.unit))
                    await asyncio.sleep(0)  # a thousand silent units are no reason to let others wait
        finally:
            if self._connection is not None:
                self._connection.close()

    async def _sleep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until something is due, or the units are others."""
        wake = self._wake = loop.create_future()
        due_s = self.schedule.wake_s()
        timer = None
        if due_s is not None:
            timer = loop.call_later(max(0.0, due_s - self._clock.monotonic_s()), _set, wake)
        try:
            await wake
        finally:
            if timer is not None:
                timer.cancel()

    async def _ask(self, turn: Turn) -> None:
        unit = self._units[turn.job.unit]
        assert self._connection is not None
        assert unit.address is not None  # units without one have no steps
        if self._connection.hung_up():
            self._ask_versions_again()
        purpose, question = unit.question(turn.job, turn.step, self._clock.monotonic_s())
        timeout_s = unit.limits.timeout_s + (exchange_s(question.rtu_bytes, self._serial) if self._serial else 0.0)
        reply = await self._connection.ask(unit.address.device_id, question, timeout_s)
        now_s = self._clock.monotonic_s()
        if self._units.get(turn.job.unit) is not unit:
            return  # taken away meanwhile
        if reply.fault is Fault.LINE:
            self._ask_versions_again()
            self._line_why = reply.why
            self._end(self.schedule.line_down(turn, now_s), reply.why)
            return
        self._line_why = ""
        self.schedule.line_up(now_s)
        if unit.limits.min_gap_ms:
            self.schedule.rest(unit.device, now_s + unit.limits.min_gap_ms / 1000.0)
        if reply.fault is Fault.DEAD:
            unit.lost()
            self._silent[unit.device] = reply.why
            self._end(self.schedule.dead(turn, now_s), reply.why)
        else:
            self._silent.pop(unit.device, None)
            self._heard(turn, unit, purpose, reply, now_s)

    def _heard(self, turn: Turn, unit: Unit, purpose: Purpose, reply: Reply, now_s: float) -> None:
        match unit.heard(purpose, turn.job, turn.step, reply, now_s):
            case Outcome.STAY:
                self.schedule.stay(turn, now_s)
            case Outcome.CHANGED:
                self.schedule.replace(unit.device, unit.jobs(), now_s)
            case Outcome.END:
                self.schedule.ended(turn, now_s)
                self._end([turn.job], "")
            case Outcome.NEXT:
                if self.schedule.answered(turn, now_s):
                    self._end([turn.job], "")
                elif turn.job.fire and (event := unit.event(turn.job, turn.step)):
                    self._fire.tell(unit, event)

    def _end(self, jobs: Iterable[Job], why: str) -> None:
        """Polls are over; `why`: what was not read by then is bad, for this reason."""
        now_s = self._clock.monotonic_s()
        for job in jobs:
            unit = self._units[job.unit]
            told = unit.ended(job, now_s, why)
            self._counters.polls += 1
            self._counters.failed += bool(unit.failing)
            if told is not None:
                (self._fire if job.fire else self._bulk).tell(unit, told)

    def _why(self, device: str) -> str:
        """Why a unit is told bad without being asked."""
        return self._units[device].trouble or self._line_why or self._silent.get(device, "")

    def _ask_versions_again(self) -> None:
        """Who hung up may have been replaced."""
        for unit in self._units.values():
            unit.ask_version_again()


def _set(wake: asyncio.Future[None]) -> None:
    if not wake.done():
        wake.set_result(None)
