"""A child of `test_spool_disk_full`: opens every file of the platform on a disk that was full before. Prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

from drivers.outbox import Outbox
from iotcore.clock import SystemClock
from iotcore.errors import IotError
from iotcore.journal.journal import Journal
from iotcore.registry.store import open_registry
from iotcore.telemetry.embedded import TelemetryFile
from iotcore.telemetry.handover import known_elsewhere
from iotcore.telemetry.spool import Spool, reserve_of
from tests.support.full_disk import LINE
from tests.support.small_disk import Filler

CLOCK = SystemClock()
BATCHES = 400  # some 16 MB: twice the reserve
Opening = Callable[[], AbstractAsyncContextManager[object]]


def spool(folder: Path) -> Spool:
    return Spool(folder / "spool-t.db", CLOCK, store_format="line", max_bytes=10**9, max_age_s=1e6)


@asynccontextmanager
async def journal(path: Path) -> AsyncIterator[None]:
    with closing(Journal(path, CLOCK, [])):
        yield


@asynccontextmanager
async def registry(path: Path) -> AsyncIterator[None]:
    async with await open_registry(f"sqlite://{path}", CLOCK) as opened:
        await opened.last_change()
        yield


@asynccontextmanager
async def elsewhere(own: Path) -> AsyncIterator[None]:
    await asyncio.to_thread(known_elsewhere, own, ())
    yield


def others(folder: Path) -> dict[str, Opening]:
    """The files that have no reserve of their own."""
    return {
        "telemetry.db": lambda: TelemetryFile(folder / "telemetry.db"),
        "confidential.db": lambda: TelemetryFile(folder / "confidential.db", private=True),
        "journal.db": lambda: journal(folder / "journal.db"),
        "registry.db": lambda: registry(folder / "registry.db"),
        "another's spool": lambda: elsewhere(folder / "spool-u.db"),
    }


def broken(folder: Path) -> dict[str, Opening]:
    """What no room mends."""
    return {
        "garbage": lambda: TelemetryFile(folder / "garbage"),
        "garbage registry": lambda: registry(folder / "garbage"),
        "a folder": lambda: TelemetryFile(folder / "folder"),
        "no folder": lambda: TelemetryFile(folder / "none" / "telemetry.db"),
    }


async def tried(openings: dict[str, Opening]) -> dict[str, str]:
    """What each ends in: the kind of its error, or "open"."""
    found = {}
    for name, opening in openings.items():
        try:
            async with opening():
                found[name] = "open"
        except IotError as error:
            found[name] = type(error).__name__
    return found


async def drained(opened: Spool) -> int:
    count = 0
    while batches := await opened.newest(1):
        await opened.done([batch.id for batch in batches])
        count += len(batches)
    return count


async def main(folder: Path) -> None:
    filler = Filler(folder)
    (folder / "garbage").write_bytes(b"this is no database " * 1000)
    (folder / "folder").mkdir()
    everything = others(folder) | {"spool": lambda: spool(folder), "outbox": lambda: Outbox(folder / "outbox.db", CLOCK)}
    result: dict[str, object] = {"with room": await tried(everything), "put": BATCHES}

    async with spool(folder) as opened:
        for _ in range(BATCHES):
            await opened.commit([LINE])
    filler.fill()
    async with spool(folder) as opened:  # at the cost of the reserve
        result["refused"] = (await tried({"commit": lambda: _committed(opened)}))["commit"]
        result["drained"] = await drained(opened)
        result["again"] = (await tried({"commit": lambda: _committed(opened)}))["commit"]

    reserve_of(folder / "spool-t.db").spend()
    filler.fill()
    result["full"] = await tried(everything)
    result["broken"] = await tried(broken(folder))
    filler.free()
    result["freed"] = await tried(everything)
    async with spool(folder) as opened:
        result["left"] = await drained(opened)
    print(json.dumps(result))  # noqa: T201 - the parent reads it


@asynccontextmanager
async def _committed(opened: Spool) -> AsyncIterator[None]:
    await opened.commit([LINE])
    yield


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
