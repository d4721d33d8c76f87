"""A device's own page on its local network: a technician types the enrolment token on a phone, and the device enrols itself.

    GET  /        what the device is, and a form for the token
    POST /token   enrols with it (EST, `enrol`), and shows what came of it: certificate, refused and why, or wait

The token is used and forgotten: it is neither kept nor logged. A form of another site is refused, and so is a token for a device
that has its certificate already.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from cryptography import x509

from iotcore.errors import EnrolmentError, StartError
from simulators.enrol import Identity, enrol, valid_identity

MAX_FORM_BYTES = 1_024
PAGE = """<!doctype html><html lang="vi"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{device}</title><h1>{device}</h1>
<p id="state">{state}</p>{form}</html>
"""
FORM = """<form method="post" action="/token"><p><label for="token">Mã ghi danh / enrolment token</label><br>
<input id="token" name="token" autocomplete="off" autocapitalize="none" required>
<p><button>Ghi danh / enrol</button></form>"""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Platform:
    """Where the device enrols, and whom it trusts."""

    url: str
    ca_file: Path


class LocalPage:
    """An async context manager: within it the page is served. `port` 0 takes a free one, which `port` then names."""

    def __init__(self, device: str, platform: Platform, folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.device, self.host, self.port = device, host, port
        self._platform, self._folder = platform, folder
        self._runner: web.AppRunner | None = None

    @property
    def identity(self) -> Identity | None:
        """The device's certificate, once it has one that is valid."""
        return valid_identity(self.device, self._platform.ca_file, self._folder)

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=MAX_FORM_BYTES)
        application.router.add_get("/", self._shown)
        application.router.add_post("/token", self._token)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise StartError(f"The page cannot listen on {self.host}:{self.port}: {error.strerror}", "Choose --port.") from error
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _shown(self, _: web.Request) -> web.Response:
        identity = self.identity
        if identity is None:
            return self._page(HTTPStatus.OK, "Chưa có chứng thư / no certificate yet", form=True)
        return self._page(HTTPStatus.OK, _told(identity))

    async def _token(self, request: web.Request) -> web.Response:
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            return self._page(HTTPStatus.FORBIDDEN, "Trang khác gửi / sent by another site")
        if self.identity is not None:
            return self._page(HTTPStatus.CONFLICT, "Đã có chứng thư / it has a certificate already")
        token = str((await request.post()).get("token", "")).strip()
        try:
            identity = await enrol(self._platform.url, token, self.device, self._platform.ca_file, self._folder)
        except EnrolmentError as error:
            if error.reason == "pending":
                told = f"Chờ duyệt, rồi nhập lại mã / wait, then enter the token again: {error.detail}"
                return self._page(HTTPStatus.ACCEPTED, told, form=True)
            status = HTTPStatus.BAD_GATEWAY if error.reason == "unreachable" else HTTPStatus.UNPROCESSABLE_ENTITY
            return self._page(status, f"Không được / refused: {error}", form=True)
        return self._page(HTTPStatus.OK, _told(identity))

    def _page(self, status: HTTPStatus, state: str, *, form: bool = False) -> web.Response:
        text = PAGE.format(device=html.escape(self.device), state=html.escape(state), form=FORM if form else "")
        return web.Response(status=status, text=text, content_type="text/html", headers=HEADERS)


def _told(identity: Identity) -> str:
    until = x509.load_pem_x509_certificate(identity.cert_file.read_bytes()).not_valid_after_utc
    return f"Đã ghi danh / enrolled; đến / until {until:%Y-%m-%d %H:%M}Z"
