"""A computer-aided dispatch system that takes signed alarms over HTTP: checks the signature, answers accepted, remembers.

Shares no code with the sender. For tests it can be told what to answer, one `Turn` for each request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import ClientSession, web

OLDEST_S = 300.0  # a signature older or newer than this is refused: a recorded request is worth nothing later
MAX_TAKEN = 100_000  # the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Turn:
    """What to answer one properly signed request with. `close`: drop the connection instead; `delay_s`: answer late."""

    status: int = 200
    body: bytes | dict[str, Any] = field(default_factory=lambda: {"status": "accepted", "reference": "CAD-1"})
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """A signed alarm. `at_ms` is when it was here, ms UTC; `repeated`: the same idempotency key had been here before."""

    key: str
    report: dict[str, Any]
    at_ms: float
    repeated: bool


class CadReceiver:
    """Listens on `host`:`port` (0: any free one) while its context is open; alarms go to `url`."""

    def __init__(
        self,
        secret: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        turns: Iterable[Turn] = (),
        now_s: Callable[[], float] = time.time,
        on_taken: Callable[[Taken], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.turns = deque(turns)
        self.taken: deque[Taken] = deque(maxlen=MAX_TAKEN)
        self.refused: Counter[str] = Counter()  # by reason
        self.keys: Counter[str] = Counter()  # requests of each idempotency key, repeats included
        self.paths: Counter[str] = Counter()
        self.connections: set[Any] = set()
        self._secret = secret.encode()
        self._now_s = now_s
        self._on_taken = on_taken
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where alarms are posted."""
        return f"http://{self.host}:{self.port}/alarms"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def tell(self, url: str, update: dict[str, Any]) -> int:
        """Tell the platform what became of an alarm, signed as its own webhook is; the status of its answer."""
        body, timestamp = json.dumps(update).encode(), str(int(self._now_s()))
        signature = hmac.digest(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hex()
        headers = {"Iotcore-Timestamp": timestamp, "Iotcore-Signature": f"v1={signature}", "Content-Type": "application/json"}
        async with ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
            return answer.status

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.paths[request.path] += 1
        self.connections.add(request.transport)
        body = await request.read()
        problem = self._problem(request, body)
        if problem:
            self.refused[problem] += 1
            return web.json_response({"error": problem}, status=401)
        turn = self.turns.popleft() if self.turns else Turn()
        await asyncio.sleep(turn.delay_s)
        if turn.close:
            assert request.transport is not None
            request.transport.abort()
        self._take(request.headers["Idempotency-Key"], json.loads(body))
        answer = turn.body if isinstance(turn.body, bytes) else json.dumps(turn.body).encode()
        return web.Response(status=turn.status, body=answer, headers=turn.headers)

    def _problem(self, request: web.Request, body: bytes) -> str:
        """Why a request is not trusted; "" when it is."""
        timestamp = request.headers.get("Iotcore-Timestamp", "")
        signature = request.headers.get("Iotcore-Signature", "")
        expected = hmac.digest(self._secret, timestamp.encode() + b"." + body, hashlib.sha256).hex()
        if not hmac.compare_digest(signature.encode(), b"v1=" + expected.encode()):
            return "bad_signature"
        if abs(self._now_s() - float(timestamp)) > OLDEST_S:
            return "bad_time"
        return "" if request.headers.get("Idempotency-Key") else "no_key"

    def _take(self, key: str, report: dict[str, Any]) -> None:
        self.keys[key] += 1
        taken = Taken(key, report, self._now_s() * 1000.0, self.keys[key] > 1)
        self.taken.append(taken)
        if self._on_taken is not None:
            self._on_taken(taken)
