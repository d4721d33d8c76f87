"""A server that takes whatever is posted to it and answers as told: in place of a gateway for text messages, or a CAP system."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

MAX_TAKEN = 100_000  # the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Posted:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `delay_s`: late."""

    status: int = 200
    body: bytes = b'{"status": "ok"}'
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class PostBox:
    """Listens on a free port of `host` while its context is open. `answer` says what a request gets when no reply is queued."""

    def __init__(
        self, *, host: str = "127.0.0.1", replies: Iterable[Reply] = (), answer: Callable[[Posted], Reply] = lambda _: Reply()
    ) -> None:
        self.host = host
        self.port = 0
        self.replies = deque(replies)
        self.taken: deque[Posted] = deque(maxlen=MAX_TAKEN)
        self._answer = answer
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        posted = Posted(request.method, request.path_qs, dict(request.headers), await request.read())
        self.taken.append(posted)
        reply = self.replies.popleft() if self.replies else self._answer(posted)
        await asyncio.sleep(reply.delay_s)
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
