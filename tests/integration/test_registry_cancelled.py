"""A task that is cancelled in the middle of a registry call, as every process is at its end, leaves nothing half."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from iotcore.registry.store import open_registry
from tests.support.until import until

STEPS = 40  # each a little later than the last: from before BEGIN to after COMMIT
STEP_S = 0.0001


async def test_a_write_cancelled_at_any_moment_leaves_a_registry_that_writes_and_closes(tmp_path: Path) -> None:
    async with await open_registry(f"sqlite://{tmp_path}/registry.db") as registry:
        for step in range(STEPS):
            writing = asyncio.create_task(registry.note("test", "cancelled", str(step)))
            await asyncio.sleep(step * STEP_S)
            writing.cancel()
            await asyncio.wait({writing}, timeout=5.0)
            async with asyncio.timeout(5.0):
                await registry.note("test", "after", str(step))
        entries = await registry.audit_entries()
        assert [entry.deed.subject for entry in entries if entry.deed.action == "after"] == [str(step) for step in range(STEPS)]
        assert await registry.verify_audit() == []


async def test_an_opening_that_is_cancelled_leaves_no_connection(tmp_path: Path) -> None:
    before = threading.active_count()
    for step in range(STEPS):
        opening = asyncio.create_task(open_registry(f"sqlite://{tmp_path}/r{step}.db"))
        await asyncio.sleep(10 * step * STEP_S)
        opening.cancel()
        await asyncio.wait({opening}, timeout=5.0)
        if not opening.cancelled():
            await opening.result().close()
    await until(lambda: threading.active_count() <= before)  # a connection's thread ends a little after the connection
