"""Debian's libmodbus as server and as client: two small C programs of ours, compiled when a test first needs them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from iotcore.specs.model import Table
from tests.support.services import require

SOURCES = Path(__file__).parent
ANSWER_S = 10.0


def build(program: str, folder: Path) -> Path:
    """The program `libmodbus_{program}` in `folder`."""
    require("modbus.h")
    found = folder / f"libmodbus_{program}"
    if not found.exists():
        source = SOURCES / f"libmodbus_{program}.c"
        command = [str(require("gcc")), "-Wall", "-Wextra", "-Werror", "-O1", "-o", str(found), str(source), "-lmodbus"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
    return found


class LibmodbusServer:
    """A running server: `port` of a TCP one; `wrote` reads what a client wrote."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self._process = process

    async def wrote(self) -> str:
        """The next word that a client wrote: "holding 3 17"."""
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_S):
            return (await self._process.stdout.readline()).decode().removeprefix("wrote ").strip()


@contextlib.asynccontextmanager
async def server(program: Path, words: Mapping[tuple[Table, int], int], *args: str) -> AsyncIterator[LibmodbusServer]:
    """`libmodbus_server` with these words and arguments ("tcp", or "rtu", path and unit)."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(str(program), *args, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("".join(f"{table} {address} {word}\n" for (table, address), word in words.items()).encode())
        process.stdin.write(b"go\n")
        async with asyncio.timeout(ANSWER_S):
            port = int(await process.stdout.readline())
        yield LibmodbusServer(process, port)
    finally:
        process.kill()
        await process.wait()
        process.stdin.close()


async def ask(program: Path, args: list[str], questions: list[str]) -> list[str]:
    """What `libmodbus_client` answers to `questions`, one line each."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(str(program), *args, stdin=pipe, stdout=pipe)
    try:
        async with asyncio.timeout(ANSWER_S):
            told, _ = await process.communicate("".join(f"{question}\n" for question in questions).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0
    return told.decode().splitlines()
