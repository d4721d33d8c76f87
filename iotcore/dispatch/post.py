"""One way to ask over HTTP for everything that is sent so: kept connections, no redirects, bounded answers, named failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import aiohttp

from iotcore.clock import Clock
from iotcore.dispatch.egress import CheckedResolver, Egress, NotAllowed
from iotcore.errors import DeliveryError

MAX_ANSWER_BYTES = 65_536
MAX_LINE_BYTES = 8_190  # of the status line and of each header of an answer
KEEPALIVE_S = 5.0  # a connection that a firewall has forgotten costs a whole reply timeout
SHOWN_BYTES = 200  # of an answer that is an error


class HttpLink:
    """Connections to one receiver; `egress` says where they may lead."""

    def __init__(self, clock: Clock, reply_timeout_s: float, egress: Egress) -> None:
        self._egress = egress
        self._clock = clock
        self._timeout_s = reply_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, method: str, url: str, body: bytes | None, headers: Callable[[], Mapping[str, str]], sent: Callable[[float], None]
    ) -> tuple[int, bytes]:
        """Status and answer. `headers()` is asked at each attempt; `sent` is told ms UTC when the body has left.

        Raises:
            DeliveryError: `no_reply`, `connect_failed`, `connection_lost`, `not_an_answer` for one without end, or `not_allowed`.
        """
        self._egress.check(url)
        try:
            try:
                return await self._once(method, url, body, headers(), sent)
            except aiohttp.ServerDisconnectedError:  # a kept connection that its server had closed: once more, on a new one
                return await self._once(method, url, body, headers(), sent)
        except TimeoutError as error:
            raise DeliveryError("no_reply", f"{self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, NotAllowed):
                raise DeliveryError("not_allowed", str(error.os_error)) from error
            raise DeliveryError("connect_failed", str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise DeliveryError("connection_lost", str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _once(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], sent: Callable[[float], None]
    ) -> tuple[int, bytes]:
        if self._session is None:
            self._session = self._open()
        async with self._session.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,  # a redirect would carry an alarm to a place that nobody configured
            trace_request_ctx=SimpleNamespace(sent=sent, with_body=bool(body)),
        ) as response:
            text = bytearray()
            async for chunk in response.content.iter_any():
                text += chunk
                if len(text) > MAX_ANSWER_BYTES:
                    raise DeliveryError("not_an_answer", f"over {MAX_ANSWER_BYTES} bytes")
            return response.status, bytes(text)

    def _open(self) -> aiohttp.ClientSession:
        written = aiohttp.TraceConfig()
        written.on_request_chunk_sent.append(self._chunk_written)
        written.on_request_headers_sent.append(self._headers_written)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE_S, resolver=CheckedResolver(self._egress)),
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            trust_env=False,  # a proxy would resolve names for itself
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            trace_configs=[written],
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _chunk_written(self, _: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.sent(self._clock.wall_ms())

    async def _headers_written(self, _: object, context: SimpleNamespace, __: object) -> None:
        if not context.trace_request_ctx.with_body:
            context.trace_request_ctx.sent(self._clock.wall_ms())


def refusal(status: int, text: bytes) -> DeliveryError | None:
    """What a status outside 200-299 means: try again later; None for one inside."""
    if 200 <= status <= 299:  # noqa: PLR2004 - the HTTP success class
        return None
    return DeliveryError(f"http_{status}", text[:SHOWN_BYTES].decode(errors="replace"))
