"""The technician's commands as processes, and a simulated unit as one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import commands

START_LIMIT_S = 30.0
RUN_LIMIT_S = 60.0


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def iotcore(*arguments: str, cwd: Path) -> Said:
    """Run a command where no settings file is."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("IOTCORE_")}
    done = commands.run(*arguments, env=environment, cwd=cwd)
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


async def said(*arguments: str, cwd: Path) -> Said:
    """The same without stopping this process's loop."""
    return await asyncio.to_thread(lambda: iotcore(*arguments, cwd=cwd))


@asynccontextmanager
async def served(*arguments: str, cwd: Path) -> AsyncIterator[str]:
    """`iotcore modbus serve …`: the connection string that it says; it must end well when it is told to."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "iotcore", "modbus", "serve", *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=cwd, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_LIMIT_S):
            line = (await process.stdout.readline()).decode()
        assert " answers at " in line, line
        yield line.rsplit(" ", 1)[1].strip()
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
