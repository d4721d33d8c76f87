"""Link: one open connection, one question at a time. asyncio.Protocol, no task and no copy on the way.

An answer is taken only while its question waits. On TCP and TLS a byte that nobody asked for ends the link; on a serial line
it is noise or somebody's late answer, and is dropped.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from drivers.modbus import frames
from drivers.modbus.questions import Fault, Question, Reply

TIMEOUT = Reply(why="timeout", fault=Fault.DEAD)
RESET = Reply(why="reset", fault=Fault.DEAD)
TLS_REFUSED = Reply(why="tls_refused", fault=Fault.LINE)
LAST_TRANSACTION = 0xFFFF
LAST_LOOK_S = 0.002  # after a timeout, for bytes that are there and were not looked at yet


class Link(asyncio.Protocol):
    """`answers` counts what was answered, `unasked` the bytes that answered nothing; `heard_s` is the loop's time of the last."""

    def __init__(self, *, is_rtu: bool) -> None:
        self.lost = False
        self.heard_s = 0.0
        self.answers = 0
        self.unasked = 0
        self._is_rtu = is_rtu
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._transaction = 0
        self._unit = 0
        self._question: Question | None = None
        self._stream = b""
        self._why = ""  # of frames that were dropped while the question waited
        self._waiting: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.made: asyncio.Future[None] = self._loop.create_future()

    def ask(self, unit: int, question: Question, timeout_s: float) -> asyncio.Future[Reply]:
        """Send a question; its future holds a reply at the latest after `timeout_s`, and is never an exception."""
        waiting = self._waiting = self._loop.create_future()
        self._unit, self._question, self._stream, self._why = unit, question, b"", ""
        if self._transport is None or self.lost:
            self._settle(RESET)
            return waiting
        if self._is_rtu:
            self._transport.write(frames.rtu(unit, question.pdu))
        else:
            self._transaction = self._transaction % LAST_TRANSACTION + 1  # never 0: some units put 0 into every answer
            self._transport.write(frames.mbap(self._transaction, unit, question.pdu))
        self._timer = self._loop.call_later(timeout_s, self._too_late, waiting, True)  # noqa: FBT003 - called back so
        return waiting

    def close(self) -> None:
        """Drop the connection; who waits is told."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._settle(RESET)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        if self.lost:
            self._transport.abort()
        if not self.made.done():
            self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        waiting, question = self._waiting, self._question
        if self._is_rtu:
            self.heard_s = self._loop.time()
        if waiting is None or question is None or waiting.done():
            self.unasked += len(data)
            if not self._is_rtu:
                self.close()
            return
        stream = self._stream + data if self._stream else data
        if self._is_rtu:
            heard = frames.heard_rtu(stream, self._unit, question)
        else:
            heard = frames.heard_mbap(stream, self._transaction, self._unit, question)
        if heard.reply is not None:
            self.answers += 1
            self._settle(heard.reply)
        else:
            self._stream, self._why = heard.left, heard.why or self._why

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._transport = None
        self._settle(TLS_REFUSED if isinstance(exc, ssl.SSLError) else RESET)

    def _too_late(self, waiting: asyncio.Future[Reply], first: bool) -> None:  # noqa: FBT001 - called back so
        """A loop that was busy for long may call this before it looks at what has arrived: so look once more."""
        if waiting is not self._waiting:
            return
        if first:
            self._timer = self._loop.call_later(LAST_LOOK_S, self._too_late, waiting, False)  # noqa: FBT003
        else:
            self._settle(Reply(why=self._why, fault=Fault.DEAD) if self._why else TIMEOUT)

    def _settle(self, reply: Reply) -> None:
        waiting, self._waiting, self._question = self._waiting, None, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)
