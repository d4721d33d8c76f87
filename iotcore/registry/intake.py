"""A large import in small transactions: who writes holds the head of the audit chain, and a fire must be acknowledged meanwhile.

    judged whole ─► chunk ─► commit (about 60 ms) ─► pause, others write ─► chunk ─► …

Each chunk is checked again in its own transaction, for others may have changed the registry since. Nothing is kept but what is
committed: an import that was killed is continued by importing the same file again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iotcore.clock import Clock
from iotcore.errors import ConfigError, Problem, StoreError
from iotcore.registry import bulk, city, units
from iotcore.registry.database import Database, whole
from iotcore.registry.judging import Judged
from iotcore.registry.kinds import KINDS, Kind
from iotcore.registry.records import Imported
from iotcore.specs.model import DeviceSpec

AIM_S = 0.06  # a transaction; SQLite's waiters have tried again within 25 ms by then
PAUSE_S = 0.03  # between two transactions: longer than a waiter of SQLite sleeps
FIRST_ENTRIES = 50
MAX_ENTRIES = 500  # a transaction
GROWTH = 2.0  # of a chunk, at most, from one to the next

Step = tuple[Kind, Any]
Told = Callable[[int, int], None]  # entries stored, of how many


@dataclass(frozen=True, slots=True)
class Stored:
    """What an import did; `longest_s` is how long others could not write at most."""

    outcome: Imported
    chunks: int
    longest_s: float


async def run(
    database: Database, judged: Judged, specs: Mapping[str, DeviceSpec], by: str, *, clock: Clock, told: Told
) -> Stored:
    """Store what was judged, chunk by chunk.

    Raises:
        ConfigError: somebody changed the registry meanwhile, so that something no longer fits; the chunks before it are stored.
        StoreError: the database did not commit; likewise.
    """
    steps: list[Step] = [(kind, entry) for kind, part in bulk.in_order(judged.wanted) for entry in part]
    done, chunks, longest_s, size = 0, 0, 0.0, FIRST_ENTRIES
    added = changed = same = 0
    while done < len(steps):
        part = steps[done : done + size]
        begun_s = clock.monotonic_s()
        try:
            outcome = await _chunk(database, part, specs, by)
        except StoreError as error:
            remedy = f"{done} of {len(steps)} entries are stored; import the same file again for the rest"
            raise type(error)(f"{error} ({remedy})") from error
        took_s = clock.monotonic_s() - begun_s
        longest_s, chunks, done = max(longest_s, took_s), chunks + 1, done + len(part)
        added, changed, same = added + outcome.added, changed + outcome.changed, same + outcome.same
        size = next_size(len(part), took_s)
        told(done, len(steps))
        await asyncio.sleep(PAUSE_S)
    return Stored(Imported(added, changed, same), chunks, longest_s)


def next_size(entries: int, took_s: float) -> int:
    """How many entries the next transaction may hold, from how long the last took."""
    factor = min(GROWTH, AIM_S / max(took_s, 1e-6))
    return max(1, min(MAX_ENTRIES, int(entries * factor)))


@whole
async def _chunk(database: Database, part: Sequence[Step], specs: Mapping[str, DeviceSpec], by: str) -> Imported:
    entries = city.City(**{name: [entry for kind, entry in part if kind.plural == name] for name in KINDS})
    async with database.writing() as work:
        found = city.faults(entries, specs, await bulk.known(work.db, entries))
        found += units.moved(entries.devices, await units.standing(work.db, [entry.id for entry in entries.devices]))
        if found:
            raise ConfigError([_overtaken(entries, fault) for fault in found])
        return await bulk.store(work, entries, by)


def _overtaken(entries: city.City, fault: city.Fault) -> Problem:
    one = getattr(entries, fault.kind)[fault.number].id
    reason = f"{fault.reason}; the registry was changed meanwhile: import the file again"
    return Problem("registry", f"{fault.kind} {one}, {fault.key}", reason)
