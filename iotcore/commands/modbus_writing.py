"""`iotcore modbus write`: one write that an allow-list names, kept and audited where it can be found again."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from drivers.modbus import allow
from drivers.modbus.allow import AllowList, Unit
from drivers.modbus.connection import Connection, serial_of
from drivers.modbus.record import AuditFile, WriteRecord
from drivers.modbus.write import Attempt, Note, Outcome, Writer
from iotcore.clock import Clock, SystemClock
from iotcore.commands.modbus_asking import How, address_of, remedy
from iotcore.errors import StartError
from iotcore.process.home import check_folder
from iotcore.registry.store import open_registry
from iotcore.settings import Settings
from iotcore.specs.model import DeviceSpec

RECORD_FILE = "modbus-writes.db"
AUDIT_FILE = "modbus-writes.audit"
ADVICE = {
    "not_listed": "Only what the allow-list names is written.",
    "too_soon": "Wait, or allow it more often with every_s.",
    "id_taken": "Use a new --id, or leave it out.",
    "second_person_needed": "Name the second with --second.",
    "same_person_twice": "Name another one with --second.",
    "nobody": "Name yourself with --by.",
    "reads_back_different": "The unit took the write and shows another value: look at the unit before trying again.",
    "not_written": "Try again with a new --id.",
    "not_read_back": "Whether it was written is not known: read the unit before trying again.",
    "unknown_firmware": "Add the firmware to the spec, from the maker's document.",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for. `model` "": the allow-list's own."""

    connection: str
    attempt: Attempt
    model: str = ""


def load_allowed(file: Path | None, settings: Settings | None, specs: dict[str, DeviceSpec]) -> tuple[AllowList, Path]:
    """The allow-list of the command line, else of the settings.

    Raises:
        StartError: neither names one.
        ConfigError: with all its problems.
    """
    path = file or (Path(settings.modbus_allow) if settings is not None and settings.modbus_allow else None)
    if path is None:
        raise StartError(
            "Nothing may be written: there is no allow-list", "Name one with --allow FILE, or modbus_allow in the settings."
        )
    return allow.load(path, specs), path


async def write(wish: Wish, allowed: AllowList, keep: Path, settings: Settings | None, how: How) -> int:
    """Write once; 0 when the unit was seen to take it.

    With settings of a platform the record is in its data folder and the audit is its registry's; else both are in `keep`.
    """
    unit = _unit(wish, allowed)
    clock = SystemClock()
    async with _audit(settings, keep, clock) as (note, where):
        folder = settings.folder if settings is not None else keep
        limits = unit.spec.modbus if unit.targets else None
        connection = Connection(unit.address.line, serial_of(unit.address, limits), how.certs)
        try:
            with WriteRecord(folder / RECORD_FILE) as record:
                outcome = await Writer(record, note, clock).write(unit, connection, wish.attempt)
        finally:
            connection.close()
    _show(wish, unit, outcome, where, how.output)
    return 0 if outcome.state == "verified" else 1


def _unit(wish: Wish, allowed: AllowList) -> Unit:
    """The unit of the allow-list; one without targets, which refuses everything, when it is not there."""
    address = address_of(wish.connection)
    unit = allowed.at(wish.connection)
    if unit is None:
        nothing = DeviceSpec(wish.model or "unknown", "", "", "gateway", "modbus", "not in the allow-list", "", interval_s=1.0)
        return Unit(wish.connection, address, nothing, {})
    if wish.model and wish.model != unit.spec.model:
        raise StartError(
            f"{wish.connection} is a {unit.spec.model} in the allow-list, not a {wish.model}",
            "Leave --model out, or mend the list.",
        )
    return Unit(unit.device, address, unit.spec, unit.targets)


@asynccontextmanager
async def _audit(settings: Settings | None, keep: Path, clock: Clock) -> AsyncIterator[tuple[Note, str]]:
    """Where every attempt is noted: the registry's chain, or a file of our own."""
    if settings is None:
        path = keep / AUDIT_FILE
        yield AuditFile(path, clock).note, str(path)
        return
    check_folder(settings.folder)
    registry = await open_registry(settings.registry_url, clock)
    try:
        yield registry.note, "the registry"
    finally:
        await registry.close()


def _show(wish: Wish, unit: Unit, outcome: Outcome, where: str, output: str) -> None:
    attempt = wish.attempt
    if output == "json":
        shown = {"id": attempt.id, "device": unit.device, "target": attempt.target, "value": attempt.value, **asdict(outcome)}
        sys.stdout.write(json.dumps(shown, ensure_ascii=False, indent=2) + "\n")
        return
    repeated = ", as told before: nothing was sent" if outcome.repeated else ""
    lines = [f"{outcome.state}: {attempt.target} = {attempt.value} of {unit.device}: {outcome.reason}{repeated}"]
    lines += [f"  {outcome.detail}"] if outcome.detail else []
    if outcome.state != "verified":
        lines.append(f"  → {ADVICE.get(outcome.reason) or remedy(outcome.reason)}")
    lines.append(f"  id {attempt.id}, audited in {where}")
    sys.stdout.write("\n".join(lines) + "\n")
