"""The campaign: every fault of a Modbus unit or its line against the real driver, all at once, beside neighbours that are well.

Of each fault: no GOOD value that is not true; trouble within one poll interval and one timeout; neighbours on the same line and
on other lines keep at least 90 % of their polls; a good reading within one interval after its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from drivers.modbus.poller import Poller
from iotcore.clock import SystemClock
from iotcore.registry.directory import Binding, Directory
from simulators.modbus_device import ModbusDevice, ModbusLine, ModbusServer
from simulators.modbus_faults import parse
from simulators.modbus_wrong import Fault
from tests.support.modbus_truth import Book, TruthUnit, lies, truth_spec

CLOCK = SystemClock()
INTERVAL_S = 0.3
TIMEOUT_S = 0.1
MARGIN_S = 0.2  # what a busy machine may take on top
WELL_S, WRONG_S, AFTER_S = 0.9, 6.0, 0.9  # before, during and after the faults
SPEC = truth_spec(TIMEOUT_S)
Transport = Literal["tcp", "rtu+tcp", "rtu"]
TRANSPORTS: tuple[Transport, ...] = ("tcp", "rtu+tcp", "rtu")
UNITS = (1, 2, 3)  # of a line; 1 is the faulty one


@dataclass(frozen=True, slots=True)
class Case:
    """One fault on one line. `scope` "line": of everything on it. `told`: trouble must show; without, all may stay well.

    `late_s`: how much older than a prompt answer a true value may be.
    """

    fault: str
    transport: Transport = "tcp"
    scope: Literal["unit", "line"] = "unit"
    told: bool = True
    late_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.fault.replace(':', '-')}-{self.transport}-{self.scope}"


EVERYWHERE = [
    "exception:1", "exception:2", "exception:3", "exception:4", "exception:6", "exception:0x0A", "exception:0x0B",
    "wrong_unit", "wrong_function", "short_frame", "few_registers", "many_registers", "over_long",
    "length_too_large", "length_too_small", "slow:1", "silent", "duplicate_unit:after", "duplicate_unit:before",
]  # fmt: skip
TCP_ONLY = ["wrong_transaction", "close", "reset:request", "reset:mid_answer"]
RTU_ONLY = ["bad_crc", "duplicate_unit:collide"]
MAYBE = ["two_frames:before", "two_frames:after", "noise", "slow:0.002", "slow:0.05", "late:0.15", "late:0.35", "held:0.8"]
LINES = ["silent", "reset:connect", "slow:1", "close", "wrong_transaction", "exception:0x0B"]
CASES = [
    *(Case(fault, transport) for transport in TRANSPORTS for fault in EVERYWHERE),
    *(Case(fault, "tcp") for fault in TCP_ONLY),
    *(Case(fault, "rtu+tcp") for fault in ("close", "reset:request", "reset:mid_answer")),
    *(Case(fault, transport) for transport in ("rtu+tcp", "rtu") for fault in RTU_ONLY),
    *(Case(fault, transport, told=False) for transport in TRANSPORTS for fault in MAYBE),
    *(Case(fault, "tcp", "line") for fault in LINES),
    *(Case(fault, "rtu", "line") for fault in ("silent", "bad_crc")),
]


@dataclass(slots=True)
class Line:
    """A line of the campaign: its units, and where its fault is set."""

    units: dict[int, TruthUnit]
    target: ModbusDevice | ModbusServer | ModbusLine

    def name(self, case: Case | None, number: int) -> str:
        return f"{case or 'well'}/{number}"


@dataclass(slots=True)
class Campaign:
    """What happened: lines by case (None: one without any fault), the driver's readings, when the faults began and ended."""

    book: Book = field(default_factory=Book)
    lines: dict[Case | None, Line] = field(default_factory=dict)
    began_s: float = 0.0
    ended_s: float = 0.0


@functools.cache
def campaign(transport: Transport) -> Campaign:
    """All faults of one transport at once, played when the first test asks for it."""
    return asyncio.run(_run(transport))


async def _run(transport: Transport) -> Campaign:
    found = Campaign()
    bindings: list[Binding] = []
    async with contextlib.AsyncExitStack() as stack:
        for case in (None, *(case for case in CASES if case.transport == transport)):
            units = {number: TruthUnit(number, SPEC) for number in UNITS}
            bus = _bus({number: unit.device for number, unit in units.items()}, transport)
            await stack.enter_async_context(bus)
            line = found.lines[case] = Line(units, bus if case and case.scope == "line" else units[1].device)
            bindings += [_binding(line.name(case, number), bus.connection(number)) for number in UNITS]
        directory = Directory({binding.device: binding for binding in bindings})
        poller = Poller(lambda: directory, found.book.put, CLOCK, interval_s=INTERVAL_S)
        polling = asyncio.create_task(poller.run())
        try:
            await asyncio.sleep(WELL_S)
            found.began_s = CLOCK.monotonic_s()
            _set(found.lines, wrong=True)
            await asyncio.sleep(WRONG_S)
            found.ended_s = CLOCK.monotonic_s()
            _set(found.lines, wrong=False)
            await asyncio.sleep(AFTER_S)
        finally:
            polling.cancel()
            await asyncio.wait([polling])
        assert polling.cancelled() or polling.exception() is None
    return found


def _bus(devices: Mapping[int, ModbusDevice], transport: Transport) -> ModbusServer | ModbusLine:
    return ModbusLine(devices) if transport == "rtu" else ModbusServer(devices, framing="tcp" if transport == "tcp" else "rtu")


def _binding(device: str, connection: str) -> Binding:
    return Binding(device, device, SPEC, "air", "modbus-1", "active", connection=connection)


def _set(lines: Mapping[Case | None, Line], *, wrong: bool) -> None:
    for case, line in lines.items():
        if case is not None:
            fault: Fault | None = parse(case.fault) if wrong else None
            line.target.fault = fault


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_value_is_ever_taken_for_another(case: Case) -> None:
    played = campaign(case.transport)
    line = played.lines[case]
    oldest_s = TIMEOUT_S + MARGIN_S + case.late_s
    for number, unit in line.units.items():
        told = played.book.between(line.name(case, number), 0.0)
        assert len(told) > 3
        assert lies(unit, told, oldest_s) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.told], ids=str)
def test_trouble_is_told_within_one_interval_and_one_timeout(case: Case) -> None:
    played = campaign(case.transport)
    line = played.lines[case]
    for number in UNITS if case.scope == "line" else UNITS[:1]:
        told = played.book.between(line.name(case, number), played.began_s, played.ended_s)
        first_s = next((reading.at_s for reading in told if not reading.is_good), float("inf"))
        waits = len(UNITS) if case.scope == "line" else 1  # of a dead line each unit has its own timeout
        assert first_s - played.began_s < INTERVAL_S + waits * TIMEOUT_S + MARGIN_S
        later = [reading for reading in told if reading.at_s >= first_s]
        assert [reading for reading in later if reading.is_good] == []  # and stays told until it is over


@pytest.mark.parametrize("case", [case for case in CASES if case.scope == "unit"], ids=str)
def test_neighbours_on_the_line_keep_their_polls(case: Case) -> None:
    played = campaign(case.transport)
    line = played.lines[case]
    for number in UNITS[1:]:
        assert _kept(played, line.name(case, number)) >= 0.9


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_other_lines_keep_their_polls(transport: Transport) -> None:
    played = campaign(transport)
    for number in UNITS:
        assert _kept(played, played.lines[None].name(None, number)) >= 0.9


def _kept(played: Campaign, device: str) -> float:
    """The share of its polls that were good while the faults held."""
    good = [told for told in played.book.between(device, played.began_s, played.ended_s) if told.is_good]
    return len(good) / (int(WRONG_S / INTERVAL_S) or 1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_read_again_within_one_interval_after_the_end(case: Case) -> None:
    played = campaign(case.transport)
    line = played.lines[case]
    for number in UNITS:
        told = played.book.between(line.name(case, number), played.ended_s)
        first_s = next((reading.at_s for reading in told if reading.is_good), float("inf"))
        assert first_s - played.ended_s < INTERVAL_S + MARGIN_S
        assert all(reading.is_good for reading in told if reading.at_s > first_s)
