"""Revocation for whoever checks certificates, over plain HTTP: what is served is signed, and a check must not need a check.

GET  /crl/<anchor>-<n>.crl  the list of an issuer, DER (RFC 5280); the place that certificates name
POST /ocsp                 one certificate's state (RFC 6960); also GET /ocsp/<base64 of the request>
"""

from __future__ import annotations

import base64
from types import TracebackType
from typing import Self
from urllib.parse import unquote

from aiohttp import web

from iotcore.clock import Clock
from iotcore.errors import StartError
from iotcore.provision import ocsp
from iotcore.provision.ca import Authority

MAX_REQUEST_BYTES = 4_096  # OpenSSL's have about 120
REQUEST_TYPE, RESPONSE_TYPE = "application/ocsp-request", "application/ocsp-response"


class RevocationListener:
    """An async context manager. `port` 0 takes a free one, which `port` then names."""

    def __init__(self, authority: Authority, known: ocsp.Known, clock: Clock, *, host: str, port: int) -> None:
        self._authority, self._known, self._clock = authority, known, clock
        self._runner: web.AppRunner | None = None
        self.host, self.port = host, port

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_get("/crl/{name}.crl", self._crl)
        application.router.add_post("/ocsp", self._posted)
        application.router.add_get("/ocsp/{request:.+}", self._asked)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise StartError(
                f"The revocation listener cannot listen on {self.host}:{self.port}: {error.strerror}",
                "Stop the program that uses the port, or set web.crl_port to another.",
            ) from error
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _crl(self, request: web.Request) -> web.Response:
        crl = self._authority.published_crl(request.match_info["name"])
        if crl is None:
            raise web.HTTPNotFound(text="no such list\n")
        return web.Response(body=crl, content_type="application/pkix-crl")

    async def _posted(self, request: web.Request) -> web.Response:
        if request.content_type != REQUEST_TYPE:
            raise web.HTTPUnsupportedMediaType(text=f"the body is {REQUEST_TYPE}\n")
        return await self._answered(await request.read())

    async def _asked(self, request: web.Request) -> web.Response:
        try:
            der = base64.b64decode(unquote(request.match_info["request"]), validate=True)
        except ValueError:
            der = b""
        return await self._answered(der)

    async def _answered(self, der: bytes) -> web.Response:
        body = await ocsp.answer(self._authority, self._known, self._clock, der)
        return web.Response(body=body, content_type=RESPONSE_TYPE)
