"""A serial cable on this machine: two pseudo-terminals and what runs between them."""

from __future__ import annotations

import asyncio
import os
import pty
import tty
from types import TracebackType
from typing import Self

CHUNK = 1024


class SerialCable:
    """An async context manager: what is written to the port `one` arrives at `two`, and back. `cut` pulls the plug."""

    def __init__(self) -> None:
        self._masters: list[int] = []
        self._slaves: list[int] = []
        self._loop = asyncio.get_running_loop()
        for _ in range(2):
            master, slave = pty.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            self._masters.append(master)
            self._slaves.append(slave)
        self.one, self.two = (os.ttyname(slave) for slave in self._slaves)

    async def __aenter__(self) -> Self:
        for here, there in (self._masters, self._masters[::-1]):
            self._loop.add_reader(here, self._pump, here, there)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.cut()

    def cut(self) -> None:
        """Both ports are gone."""
        for master in self._masters:
            self._loop.remove_reader(master)
        for end in (*self._masters, *self._slaves):
            os.close(end)
        self._masters, self._slaves = [], []

    def _pump(self, here: int, there: int) -> None:
        os.write(there, os.read(here, CHUNK))
