"""The HTTP gateway of a telephone company, and the people at its other end: takes messages and calls, presses keys as told."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import ClientError, ClientSession, web

MAX_TAKEN = 100_000  # the oldest are forgotten


@dataclass(frozen=True, slots=True)
class Taken:
    """What was asked of the gateway: to which number, and what to write or say. `callback` only of a call."""

    number: str
    text: str
    callback: str
    asked: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class PhoneGateway:
    """Listens on a free port while its context is open.

    `presses` says which key somebody presses after how many seconds, None for nobody there. `refuses` are numbers that it does
    not take (status 200, code 21). `tell` carries a key to where the call's maker wants it; without, it is posted to the
    callback address.
    """

    def __init__(
        self,
        *,
        key: str = "",
        presses: Mapping[str, tuple[str, float] | None] | None = None,
        refuses: frozenset[str] = frozenset(),
        tell: Callable[[Taken, str], None] | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.taken: deque[Taken] = deque(maxlen=MAX_TAKEN)
        self.refused: deque[str] = deque(maxlen=MAX_TAKEN)
        self.answers: list[int] = []  # statuses that callbacks were answered with
        self.refuses = refuses
        self._key = key
        self._presses = dict(presses or {})
        self._tell = tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where messages and calls are ordered."""
        return f"http://{self.host}:{self.port}/v1/send"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/v1/send", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._key and request.headers.get("Authorization") != f"Bearer {self._key}":
            return web.json_response({"code": 1, "said": "who are you?"}, status=401)
        asked = await _asked(request)
        taken = Taken(asked.get("to", ""), asked.get("text", ""), asked.get("callback", ""), asked, dict(request.headers))
        if taken.number in self.refuses:
            self.refused.append(taken.number)
            return web.json_response({"code": 21, "said": "no such subscriber"})
        self.taken.append(taken)
        pressed = self._presses.get(taken.number)
        if taken.callback and pressed is not None:
            task = asyncio.create_task(self._press(taken, *pressed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.json_response({"code": 0, "said": "queued"})

    async def _press(self, taken: Taken, key: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if self._tell is not None:
            self._tell(taken, key)
            return
        with suppress(ClientError):
            async with ClientSession() as session, session.post(taken.callback, json={"key": key}) as answer:
                self.answers.append(answer.status)


async def _asked(request: web.Request) -> dict[str, Any]:
    if request.method == "GET":
        return dict(request.query)
    if request.content_type == "application/json":
        document: dict[str, Any] = json.loads(await request.read())
        return document
    return {name: str(value) for name, value in (await request.post()).items()}
