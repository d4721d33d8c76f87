"""Alarm receiving centres of a timeline: pysiaalarm, which shares nothing with us, and a hostile one of our own.

Each notes what an operator sees. The same pysiaalarm server serves the network on virtual time and a real socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pysiaalarm.account import SIAAccount
from pysiaalarm.aio.server import SIAServerTCP
from pysiaalarm.event import SIAEvent
from pysiaalarm.utils.counter import Counter
from pysiaalarm.utils.enums import MessageTypes

from simulators.arc_receiver import ArcReceiver, Fault, Received

INCIDENT = re.compile(r"F\d{8}-\d{6}-[0-9A-F]{6}")
LINK_ACCOUNT = "0000"  # that of our link tests
WITHIN = (40, 20)  # s: how old and how far ahead a frame may be (DC-09)

Note = Callable[..., None]


def seen_event(event: SIAEvent) -> dict[str, Any]:
    """What pysiaalarm has understood, in the words of a timeline."""
    told = {block.identifier: str(block.value) for block in event.extended_data or []}
    text = told.get("I", "")
    found = INCIDENT.search(text)
    return {
        "code": event.code,
        "account": event.account,
        "zone": event.message,
        "text": INCIDENT.sub("", text).strip(),
        "incident": found[0] if found else "",
        "number": event.sequence,
    }


class Independent:
    """A receiving centre that is pysiaalarm. With `strict_time` it refuses frames by its own clock, which is the machine's."""

    def __init__(self, name: str, accounts: Iterable[str], note: Note, *, strict_time: bool = False) -> None:
        self.name = name
        self._note = note
        band = WITHIN if strict_time else None
        known = {one: SIAAccount(one, None, allowed_timeband=band) for one in (LINK_ACCOUNT, *accounts)}
        self.server = SIAServerTCP(known, self._take, Counter())
        self.link_tests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(asyncio.CancelledError):  # the end of the row
            await self.server.handle_line(reader, writer)

    async def _take(self, event: SIAEvent) -> None:
        if event.message_type is MessageTypes.NULL:
            self.link_tests += 1
        else:
            self._note("dc09", at=self.name, **seen_event(event))


class Hostile(ArcReceiver):
    """A receiving centre that answers each frame as `faults` say, in order, and rightly when they are used up."""

    def __init__(self, name: str, faults: Iterable[Fault], note: Note, now_s: Callable[[], float], reply_s: float) -> None:
        super().__init__(faults=faults, now_s=now_s, reply_s=reply_s, on_received=self._seen)
        self.name = name
        self._note = note

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    def answer(self, frame: bytes, writer: asyncio.StreamWriter | None = None) -> Any:
        if b'"NULL"' in frame:  # link tests are answered as one should: the faults are for alarms
            faults, self.faults = self.faults, deque()
            try:
                return super().answer(frame, writer)
            finally:
                self.faults = faults
        self._note("answer", at=self.name, how=(self.faults[0] if self.faults else Fault.NONE).name)
        return super().answer(frame, writer)

    def _seen(self, one: Received) -> None:
        self._note(
            "dc09", at=self.name, code=one.code, account=one.account, zone=f"{one.zone:03d}", text="", incident=one.incident,
            number=f"{one.number:04d}",
        )  # fmt: skip
