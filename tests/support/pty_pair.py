"""Two pseudo-terminals joined like a null-modem cable: what one end's program sends, the other's hears."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from types import TracebackType
from typing import Self

READ_BYTES = 4096


class PtyPair:
    """An async context manager; programs open the paths `one` and `other` as their serial ports."""

    async def __aenter__(self) -> Self:
        self._ends = [os.openpty(), os.openpty()]
        for _, theirs in self._ends:
            tty.setraw(theirs)
        self.one, self.other = (os.ttyname(theirs) for _, theirs in self._ends)
        (first, _), (second, _) = self._ends
        loop = asyncio.get_running_loop()
        for source, sink in ((first, second), (second, first)):
            os.set_blocking(source, False)
            loop.add_reader(source, _carry, source, sink)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for ours, theirs in self._ends:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            os.close(theirs)


def _carry(source: int, sink: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(sink, os.read(source, READ_BYTES))
