"""Writes to real units: what is listed is written once, seen to be taken, kept and audited; everything else is not sent."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drivers.modbus.allow import AllowList, Unit, parse
from drivers.modbus.connection import Connection
from drivers.modbus.record import AuditFile, WriteRecord
from drivers.modbus.write import Attempt, Outcome, Writer
from iotcore.clock import ManualClock, SystemClock
from iotcore.errors import StoreError
from iotcore.registry import audit
from iotcore.registry.store import open_registry
from simulators.modbus_device import ModbusDevice, ModbusLine, ModbusServer
from tests.support.pump import DEVICE, PUMP, SPECS

ATTEMPT = Attempt("a-1", "set_speed", "250", "lan")
EXTRA = {
    "registers": [
        {"name": "damping", "modbus": {"table": "holding", "address": 40, "type": "float32"}, "range": [0, 9], "every_s": 1},
        {"name": "gain", "modbus": {"table": "holding", "address": 42, "type": "uint16"}, "range": [0, 9], "every_s": 1,
         "multiple": True},
        {"name": "valve", "modbus": {"table": "holding", "address": 43, "type": "bit", "bit": 9}, "every_s": 1},
        {"name": "both", "modbus": {"table": "holding", "address": 44, "type": "int32"}, "range": [-9, 9], "every_s": 1,
         "read_write": True},
    ]
}  # fmt: skip
ADDRESSES = [("holding", address) for address in range(40, 46)]


@dataclass(slots=True)
class Bench:
    """A pump on a bench: the unit, a way to it, and what is kept."""

    pump: ModbusDevice
    unit: Unit
    line: Connection
    record: WriteRecord
    audit: AuditFile
    writer: Writer
    clock: ManualClock

    async def write(self, attempt: Attempt = ATTEMPT) -> Outcome:
        return await self.writer.write(self.unit, self.line, attempt)

    def audited(self) -> list[tuple[str, str]]:
        """Action and state of each entry."""
        return [(entry.deed.action, json.loads(entry.deed.detail)["state"]) for entry in self.audit.entries()]


def allowed(connection: str) -> AllowList:
    document = {"devices": [{**DEVICE, **EXTRA, "connection": connection}]}
    return parse(json.dumps(document).encode(), "allow.yaml", SPECS)


@asynccontextmanager
async def bench(folder: Path, server: Callable[[ModbusDevice], ModbusServer | ModbusLine]) -> AsyncIterator[Bench]:
    pump = ModbusDevice(PUMP, {"speed": 10.0, "mode": "off"}, writable=ADDRESSES)  # type: ignore[arg-type]
    clock = ManualClock()
    async with server(pump) as running:
        unit = allowed(running.connection(4)).units[0]
        unit = replace(unit, targets={name: replace(target, settles_s=0.0) for name, target in unit.targets.items()})
        line = Connection(unit.address.line)
        keeping = AuditFile(folder / "audit", clock)
        with WriteRecord(folder / "writes.db") as record:
            try:
                yield Bench(pump, unit, line, record, keeping, Writer(record, keeping.note, clock), clock)
            finally:
                line.close()


@pytest.fixture
async def pump(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, lambda pump: ModbusServer({4: pump})) as made:
        yield made


LINES: dict[str, Callable[[ModbusDevice], ModbusServer | ModbusLine]] = {
    "tcp": lambda pump: ModbusServer({4: pump}),
    "rtu over tcp": lambda pump: ModbusServer({4: pump}, framing="rtu"),
    "serial": lambda pump: ModbusLine({4: pump}),
}


@pytest.mark.parametrize("server", LINES.values(), ids=LINES)
async def test_every_function_code_writes_and_is_read_back_over_every_line(
    tmp_path: Path, server: Callable[[ModbusDevice], ModbusServer | ModbusLine]
) -> None:
    wishes = [
        ("set_speed", "250"), ("set_mode", "auto"), ("run", "on"), ("damping", "1.5"), ("gain", "7"), ("valve", "on"),
        ("both", "-3"),
    ]  # fmt: skip
    async with bench(tmp_path, server) as made:
        made.pump.words["holding", 43] = 0x8001
        for number, (target, value) in enumerate(wishes):
            outcome = await made.write(Attempt(f"a-{number}", target, value, "lan", "minh"))
            assert (outcome.state, target) == ("verified", target), outcome
        assert made.pump.values["speed"] == 25.0
        assert made.pump.words["holding", 11] == 1
        assert made.pump.words["coil", 3] == 1
        assert made.pump.words["holding", 43] == 0x8201  # the other bits are as they were
        assert [made.pump.words["holding", 44 + i] for i in range(2)] == [0xFFFD, 0xFFFF]  # CDAB
        assert len(made.audited()) == 2 * len(wishes)


async def test_what_is_refused_is_audited_and_never_sent(pump: Bench) -> None:
    refused = [
        replace(ATTEMPT, target="erase", value="1"),
        replace(ATTEMPT, value="501"),
        replace(ATTEMPT, target="set_mode", value="auto"),
        replace(ATTEMPT, by=""),
    ]
    outcomes = [await pump.write(attempt) for attempt in refused]
    assert [outcome.reason for outcome in outcomes] == ["not_listed", "out_of_range", "second_person_needed", "nobody"]
    assert pump.audited() == [("modbus.write", "refused")] * 4
    assert not pump.pump.writes
    assert pump.line.connects == 0


async def test_the_same_id_is_answered_from_the_record_and_not_written_twice(pump: Bench) -> None:
    first = await pump.write()
    again = await pump.write()
    assert (again.state, again.repeated, again.detail) == (first.state, True, first.detail)
    assert len(pump.pump.writes) == 1


async def test_an_id_of_another_wish_is_refused(pump: Bench) -> None:
    await pump.write()
    outcome = await pump.write(replace(ATTEMPT, value="251"))
    assert outcome.reason == "id_taken"
    assert len(pump.pump.writes) == 1


async def test_writes_keep_their_distance(pump: Bench) -> None:
    await pump.write()
    pump.clock.advance(59.0)
    assert (await pump.write(replace(ATTEMPT, id="a-2"))).reason == "too_soon"
    pump.clock.advance(1.0)
    assert (await pump.write(replace(ATTEMPT, id="a-3"))).state == "verified"


async def test_a_unit_that_takes_the_write_and_shows_another_value_is_a_failure_with_both_values(pump: Bench) -> None:
    pump.pump.on_read = lambda: pump.pump.set("speed", 3.0)
    outcome = await pump.write()
    assert (outcome.state, outcome.reason) == ("failed", "reads_back_different")
    assert "reads back 3.0, not 25.0" in outcome.detail
    assert pump.audited() == [("modbus.write", "accepted"), ("modbus.write.end", "failed")]


async def test_a_value_that_shows_only_after_a_while_is_waited_for(pump: Bench) -> None:
    target = replace(pump.unit.targets["set_speed"], settles_s=5.0)
    slow = replace(pump.unit, targets={"set_speed": target})
    before = [2]

    def shown_late() -> None:
        pump.pump.set("speed", 25.0 if not before[0] else 3.0)
        before[0] = max(0, before[0] - 1)

    pump.pump.on_read = shown_late
    assert (await pump.writer.write(slow, pump.line, ATTEMPT)).state == "verified"
    assert pump.pump.reads == 3


async def test_an_exception_of_the_unit_is_a_failure_by_its_code(pump: Bench) -> None:
    pump.pump.exception = 4
    outcome = await pump.write()
    assert (outcome.state, outcome.reason) == ("failed", "exception:4")


async def test_an_unanswered_write_is_looked_after_and_its_answer_is_the_unit_s_own_value(pump: Bench) -> None:
    pump.pump.silent = True
    outcome = await pump.write()
    assert (outcome.state, outcome.reason) == ("failed", "not_read_back")
    assert "write: timeout; reading back: timeout" in outcome.detail


async def test_a_first_try_that_was_cut_short_is_looked_up_and_not_repeated(pump: Bench) -> None:
    pump.record.begin(ATTEMPT, "pump-1", pump.clock.wall_ms())  # then the process was killed, before the write or after it
    pump.pump.set("speed", 25.0)
    assert (await pump.write()).state == "verified"
    pump.record.begin(replace(ATTEMPT, id="a-2", value="300"), "pump-1", pump.clock.wall_ms())
    outcome = await pump.write(replace(ATTEMPT, id="a-2", value="300"))
    assert (outcome.state, outcome.reason) == ("failed", "not_written")
    assert not pump.pump.writes


async def test_what_cannot_be_kept_or_audited_is_not_written(pump: Bench, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "writes.db")
    other.execute("DROP TABLE asked")
    with pytest.raises(StoreError, match="nothing is written that cannot be kept"):
        await pump.write()
    other.close()

    async def broken(_by: str, _action: str, _subject: str, _detail: str) -> None:
        raise StoreError("the disk is full")

    with WriteRecord(tmp_path / "other.db") as record, pytest.raises(StoreError, match="the disk is full"):
        await Writer(record, broken, pump.clock).write(pump.unit, pump.line, ATTEMPT)
    assert not pump.pump.writes


async def test_an_audit_file_that_somebody_changed_stops_every_write(pump: Bench, tmp_path: Path) -> None:
    await pump.write(replace(ATTEMPT, value="501"))
    path = tmp_path / "audit"
    path.write_text(path.read_text().replace("lan", "tam"))
    with pytest.raises(StoreError, match="the audit does not hold"):
        await pump.write()
    assert not pump.pump.writes


async def test_a_line_of_the_audit_that_a_power_cut_left_is_passed_over(pump: Bench, tmp_path: Path) -> None:
    await pump.write(replace(ATTEMPT, value="501"))
    with (tmp_path / "audit").open("ab") as file:
        file.write(b"[2, 17953128")
    assert (await pump.write()).state == "verified"
    assert [entry.deed.seq for entry in pump.audit.entries()] == [1, 2, 3]


async def test_two_processes_with_one_id_write_once(pump: Bench, tmp_path: Path) -> None:
    with WriteRecord(tmp_path / "writes.db") as other:
        twin = Writer(other, pump.audit.note, pump.clock)
        second = Connection(pump.unit.address.line)
        outcomes = await asyncio.gather(pump.write(), twin.write(pump.unit, second, ATTEMPT))
        second.close()
    assert len(pump.pump.writes) == 1
    assert "verified" in {outcome.state for outcome in outcomes}
    pump.record.end(ATTEMPT.id, Outcome("failed", "not_written"))  # the other one, later
    kept = pump.record.known(ATTEMPT.id)
    assert kept is not None
    assert kept.state == "verified"


async def test_the_registry_s_audit_chain_holds_the_attempts_too(pump: Bench, tmp_path: Path) -> None:
    async with await open_registry(f"sqlite://{tmp_path / 'registry.db'}", SystemClock()) as registry:
        writer = Writer(pump.record, registry.note, pump.clock)
        assert (await writer.write(pump.unit, pump.line, ATTEMPT)).state == "verified"
        entries = await registry.audit_entries()
        assert [(entry.deed.by, entry.deed.action, entry.deed.subject) for entry in entries] == [
            ("lan", "modbus.write", "pump-1"),
            ("lan", "modbus.write.end", "pump-1"),
        ]
        assert await registry.verify_audit() == []


async def test_the_local_audit_is_the_same_chain(pump: Bench) -> None:
    await pump.write()
    entries = pump.audit.entries()
    assert audit.verify(entries, 2, entries[-1].hash) == []
