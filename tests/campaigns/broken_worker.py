"""The control of the set test: a telemetry process that acknowledges first and stores a little later, as many real ones do.

`python -m tests.campaigns.broken_worker --config FILE` is `iotcore run telemetry` with one thing wrong: `Spool.commit` returns at
once and the batch reaches the disk HELD_S later. Killed in between it has receipted what it never stored, and the set test must
say so.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from iotcore.cli import main
from iotcore.telemetry.spool import Spool

HELD_S = 1.5

_commit = Spool.commit
_later: set[asyncio.Task[None]] = set()


async def _hasty(spool: Spool, *batch: Any, **more: Any) -> Any:
    """Say that it is done."""
    task = asyncio.create_task(_after_a_while(spool, *batch, **more))
    _later.add(task)
    task.add_done_callback(_later.discard)


async def _after_a_while(spool: Spool, *batch: Any, **more: Any) -> None:
    await asyncio.sleep(HELD_S)
    await _commit(spool, *batch, **more)


if __name__ == "__main__":
    Spool.commit = _hasty  # type: ignore[assignment,method-assign]  # this is what is broken
    main(["run", "telemetry", *sys.argv[1:]])
