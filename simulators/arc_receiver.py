"""An alarm receiving centre that speaks SIA DC-09 over TCP or UDP: checks frames strictly, acknowledges, remembers.

For tests it can be told to misbehave, one `Fault` for each frame, or to fall silent altogether.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, Self, cast

from simulators.arc_frames import Fault, Frames, Received, Unacceptable, wrapped

__all__ = ["ArcReceiver", "Fault", "Received"]

MAX_RECEIVED = 100_000  # the oldest are forgotten
MAX_FRAME_BYTES = 8192
LATE_S = 0.4  # what comes late comes so late; senders of tests wait less
DRIP_S = 0.02

Steps = list[tuple[float, bytes]]  # what is answered: after how many seconds, which bytes


class ArcReceiver:
    """Listens on `host`:`port` (0: any free one) while its context is open. `key`: 16, 24 or 32 characters, "" for plain frames.

    `faults` are used up by the frames that come, one each, in order; after that it behaves. While `silent`, it hears and says
    nothing. `reply_s` is how long it thinks; `clock_error_s` and `accounts` are as in `Frames`. `on_received` is called with each
    event that it takes, before it answers.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "",
        transport: Literal["tcp", "udp"] = "tcp",
        faults: Iterable[Fault] = (),
        reply_s: float = 0.0,
        clock_error_s: float = 0.0,
        accounts: Iterable[str] = (),
        now_s: Callable[[], float] = time.time,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.faults = deque(faults)
        self.silent = False
        self.reply_s = reply_s
        self.received: deque[Received] = deque(maxlen=MAX_RECEIVED)
        self.frames: deque[bytes] = deque(maxlen=MAX_RECEIVED)  # everything that came, acceptable or not
        self.refused: Counter[str] = Counter()  # by reason
        self.incidents: Counter[str] = Counter()  # frames of each incident and code, repeats included
        self.link_tests = 0
        self.connections = 0
        self.most_open = 0
        self.open: set[asyncio.StreamWriter] = set()  # connections as of now
        self._frames = Frames(key.encode(), clock_error_s, frozenset(accounts))
        self._transport = transport
        self._now_s = now_s
        self._on_received = on_received
        self._server: asyncio.Server | None = None
        self._socket: asyncio.DatagramTransport | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._transport == "udp":
            loop = asyncio.get_running_loop()
            self._socket, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(self.host, self.port))
            self.port = self._socket.get_extra_info("sockname")[1]
        else:
            self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=MAX_FRAME_BYTES)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._server is not None:
            self._server.close()
        for writer in self.open:
            writer.transport.abort()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def datagram(self, frame: bytes, peer: object) -> None:
        """A datagram is here."""
        self._begin(self._answer_datagram(self.answer(frame)[0], peer))

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(self._serve(reader, writer))

    def _begin(self, coroutine: object) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)  # type: ignore[arg-type,var-annotated] # a coroutine of ours
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _answer_datagram(self, steps: Steps, peer: object) -> None:
        assert self._socket is not None
        for wait_s, answer in steps:
            if wait_s:
                await asyncio.sleep(wait_s)
            self._socket.sendto(answer, cast("tuple[str, int]", peer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        self.most_open = max(self.most_open, len(self.open))
        try:
            go_on = True
            while go_on:
                steps, go_on = self.answer(await reader.readuntil(b"\r"), writer)
                for wait_s, answer in steps:
                    if wait_s:
                        await asyncio.sleep(wait_s)
                    writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def answer(self, frame: bytes, writer: asyncio.StreamWriter | None = None) -> tuple[Steps, bool]:
        """What a frame is answered with, and whether the connection stays."""
        self.frames.append(frame)
        if self.silent:
            return [], True
        at_s = self._now_s()
        fault = self.faults.popleft() if self.faults else Fault.NONE
        if fault is Fault.RESET and writer is not None:
            writer.transport.abort()
        if fault in _INSTEAD:
            return [(0.0, _INSTEAD[fault])], fault not in (Fault.RESET, Fault.CLOSE)
        try:
            head, content = self._frames.read(frame, at_s)
            event = self._frames.event(head, content, at_s, frame)
        except Unacceptable as no:
            self.refused[no.reason] += 1
            return [(self.reply_s, {"NAK": self._frames.nak(at_s), "DUH": self._frames.duh(), "": b""}[no.answer])], True
        if fault in (Fault.NAK, Fault.NAK_WITHOUT_TIME, Fault.DUH):
            nak = wrapped('"NAK"0000R0L0A0[]') if fault is Fault.NAK_WITHOUT_TIME else self._frames.nak(at_s)
            return [(self.reply_s, self._frames.duh() if fault is Fault.DUH else nak)], True
        self._take(event)
        return self._acknowledged(self._frames.ack(head, at_s, fault), fault), fault is not Fault.CLOSE_AFTER

    def _acknowledged(self, ack: bytes, fault: Fault) -> Steps:
        if fault is Fault.SILENCE:
            return []
        if fault is Fault.LATE:
            return [(LATE_S, ack)]
        if fault is Fault.TWICE:
            return [(self.reply_s, ack + ack)] if self._socket is None else [(self.reply_s, ack), (0.0, ack)]
        if fault is Fault.DRIP:
            return [(DRIP_S, ack[i : i + 1]) for i in range(len(ack) - 1)]
        return [(self.reply_s, ack)]

    def _take(self, event: Received | None) -> None:
        """An operator sees it now, whatever becomes of the acknowledgement."""
        if event is None:
            self.link_tests += 1
            return
        key = f"{event.incident} {event.code}"
        event = replace(event, repeated=self.incidents[key] > 0)
        self.received.append(event)
        self.incidents[key] += 1
        if self._on_received is not None:
            self._on_received(event)


class _Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams over."""

    def __init__(self, receiver: ArcReceiver) -> None:
        self._receiver = receiver

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._receiver.datagram(data, addr)


_INSTEAD = {
    Fault.RESET: b"",
    Fault.CLOSE: b"",
    Fault.GARBAGE: b"HTTP/1.1 400 Bad Request\r\n",
    Fault.ENDLESS: b"\n" + b"A" * 20_000,
}
