"""One InfluxDB server over HTTP: certificates always verified, who we are in every request, no redirect followed.

A redirect would turn a POST into a GET of some page, whose "200 OK" means nothing. Bodies are not compressed: on loopback and in
a data centre that costs more CPU than it saves. A secret is only ever in a header; what is said of a failure never holds one.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from types import TracebackType
from typing import Self

import aiohttp

from iotcore import settings
from iotcore.errors import StartError
from iotcore.telemetry.influx_answers import Answer

REQUEST_TIMEOUT_S = 15.0  # above InfluxDB's own write timeout of 10 s ([coordinator] write-timeout)
MAX_ANSWER_BYTES = 4_000_000  # 1.x quotes every line that it could not parse: a whole batch of them


class Link:
    """`async with Link(settings.store) as link`; `ask` never raises for a server that is down or wrong."""

    def __init__(self, store: settings.Store, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._url = store.url.rstrip("/")
        self._headers = authorisation(store)
        self._tls = context(store) if store.url.startswith("https://") else True
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            headers=self._headers,
            connector=aiohttp.TCPConnector(ssl=self._tls),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes | str | None = None,
        *,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """One request; a body of text is JSON. What is beyond `max_bytes` of the answer is left out."""
        assert self._session is not None, "use `async with Link(...)`"
        headers = {"Content-Type": "application/json" if isinstance(body, str) else "text/plain; charset=utf-8"}
        try:
            async with self._session.request(
                method, f"{self._url}{path}", params=query, data=body, headers=headers, allow_redirects=False
            ) as response:
                text = (await response.read())[:max_bytes].decode(errors="replace")
                said = response.headers
                version = said.get("X-Influxdb-Version", "")
                return Answer(response.status, text, said.get("Retry-After", ""), version=version, date=said.get("Date", ""))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return no_answer(error)


def no_answer(error: BaseException) -> Answer:
    """The answer of a server that gave none."""
    failure = "untrusted" if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError) else "unreachable"
    return Answer(0, f"{type(error).__name__}: {error}", failure=failure)


def authorisation(store: settings.Store) -> dict[str, str]:
    """Basic for a user with a password (1.x), a token otherwise (2 and 3 take the same word)."""
    if store.username:
        pair = b64encode(f"{store.username}:{store.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {"Authorization": f"Token {store.token}"} if store.token else {}


def context(store: settings.Store) -> ssl.SSLContext:
    """TLS as the settings say; without `ca_file` the machine's own authorities count.

    Raises:
        StartError: a file cannot be read, or is no certificate or key.
    """
    try:
        tls = ssl.create_default_context(cafile=store.ca_file or None)
        if store.cert_file:
            tls.load_cert_chain(store.cert_file, store.key_file or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        remedy = "Check store.ca_file, store.cert_file and store.key_file: PEM files that this process may read."
        raise StartError(f"The TLS files of the store cannot be used: {error}", remedy) from error
    return tls
