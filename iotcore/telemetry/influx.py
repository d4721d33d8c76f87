"""InfluxDB: ready lines over HTTP, to 1.x (`/write`) or to the v2 API (InfluxDB 2 and 3).

The answer decides what happens to the lines:

    2xx                          taken
    400, 422                     some lines are wrong, the others were written: halve until the wrong ones are alone, reject those
    413                          too many at once: halve
    401, 403, 404                somebody has to mend the set-up: later (404: after `ensure`)
    429, 503                     busy: later, not before Retry-After
    other 5xx, no connection     later

Nothing is dropped for want of a connection or a right; writing lines twice is harmless (`line`). Sources: InfluxDB OSS 1.8 API
reference, "/write HTTP endpoint"; InfluxDB OSS v2 API reference, "Write data"; RFC 9110, Retry-After.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import NamedTuple, Self, cast

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from iotcore import settings
from iotcore.clock import Clock
from iotcore.reading import Reading
from iotcore.registry.directory import Binding
from iotcore.telemetry.line import line
from iotcore.telemetry.store import Later, Rejected, Written

REQUEST_TIMEOUT_S = 15.0  # above InfluxDB's own write timeout of 10 s ([coordinator] write-timeout)
MAX_RETRY_AFTER_S = 300.0  # a server that says "tomorrow" is asked again sooner
OK, OK_END = 200, 300
BAD_REQUEST, UNAUTHORISED, FORBIDDEN, NOT_FOUND, TOO_LARGE, UNPROCESSABLE = 400, 401, 403, 404, 413, 422
DROPPED = re.compile(r"dropped=(\d+)")
MAX_DETAIL = 300
NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)


class Answer(NamedTuple):
    """What the server said to one POST; status 0 when it said nothing."""

    status: int
    detail: str
    retry_after: str = ""


Post = Callable[[bytes], Awaitable[Answer]]


class _Influx:
    """What both versions share: lines in, answers judged."""

    format = "line1"

    def __init__(self, store: settings.Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def record(self, reading: Reading, binding: Binding) -> bytes:
        """The reading in line protocol."""
        return line(reading, binding)

    async def _write(self, body: bytes, lines: int, post: Post) -> Written | Later:
        answer = await post(body)
        if OK <= answer.status < OK_END:
            return Written()
        if answer.status not in (BAD_REQUEST, UNPROCESSABLE, TOO_LARGE):
            return self._later(answer)
        records = body.split(b"\n")
        if lines == 1 or _all_dropped(answer, lines):
            return Written(tuple(Rejected(record, answer.detail) for record in records))
        rejected: tuple[Rejected, ...] = ()
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            result = await self._write(b"\n".join(half), len(half), post)
            if isinstance(result, Later):
                return result
            rejected += result.rejected
        return Written(rejected)

    def _later(self, answer: Answer) -> Later:
        names = {0: "unreachable", UNAUTHORISED: "not_authorised", FORBIDDEN: "not_authorised", NOT_FOUND: "no_database"}
        return Later(names.get(answer.status, f"http_{answer.status}"), answer.detail, self._seconds(answer.retry_after))

    def _seconds(self, retry_after: str) -> float:
        """Retry-After is a number of seconds or an HTTP date; anything else counts as not given."""
        if retry_after.isdecimal():
            return min(float(retry_after), MAX_RETRY_AFTER_S)
        try:
            date = parsedate_to_datetime(retry_after)
        except ValueError:
            return 0.0
        now = datetime.fromtimestamp(self._clock.wall_ms() / 1000.0, UTC)
        return max(0.0, min((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds(), MAX_RETRY_AFTER_S))


class Influx1(_Influx):
    """InfluxDB 1.x: `async with Influx1(settings.store, clock) as store`."""

    def __init__(self, store: settings.Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {}
        if self._store.username:
            pair = b64encode(f"{self._store.username}:{self._store.password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S), headers=headers)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def ensure(self) -> Later | None:
        """Create the database; one that exists stays as it is."""
        name = self._store.database.replace("\\", "\\\\").replace('"', '\\"')
        answer = await self._post("/query", {}, aiohttp.FormData({"q": f'CREATE DATABASE "{name}"'}))
        return None if OK <= answer.status < OK_END else self._later(answer)

    async def write(self, body: bytes, lines: int) -> Written | Later:
        """Write lines once; a database that is gone is created for the next time."""
        query = {"db": self._store.database, "precision": "ns"}
        result = await self._write(body, lines, lambda part: self._post("/write", query, part))
        if isinstance(result, Later) and result.reason == "no_database":
            await self.ensure()
        return result

    async def _post(self, path: str, query: dict[str, str], body: bytes | aiohttp.FormData) -> Answer:
        assert self._session is not None, "use `async with Influx1(...)`"
        try:
            async with self._session.post(f"{self._store.url.rstrip('/')}{path}", params=query, data=body) as response:
                text = await response.text(errors="replace")
                return Answer(response.status, text[:MAX_DETAIL].strip(), response.headers.get("Retry-After", ""))
        except NO_ANSWER as error:
            return Answer(0, f"{type(error).__name__}: {error}")


class Influx2(_Influx):
    """The v2 API: InfluxDB 2 and 3. The bucket is made by whoever made the token."""

    def __init__(self, store: settings.Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._client: InfluxDBClientAsync | None = None

    async def __aenter__(self) -> Self:
        timeout_ms = int(REQUEST_TIMEOUT_S * 1000)
        self._client = InfluxDBClientAsync(self._store.url, self._store.token, self._store.org, timeout=timeout_ms)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call] # the library types its public calls only in part

    async def ensure(self) -> Later | None:
        """Only ask whether it is there; whether the token and the bucket are right shows with the first write."""
        assert self._client is not None, "use `async with Influx2(...)`"
        try:
            await self._client.ping()
        except ApiException as error:
            return Later(f"http_{error.status}", str(error.reason))
        except NO_ANSWER as error:
            return Later("unreachable", f"{type(error).__name__}: {error}")
        return None

    async def write(self, body: bytes, lines: int) -> Written | Later:
        """Write lines once."""
        return await self._write(body, lines, self._post)

    async def _post(self, body: bytes) -> Answer:
        assert self._client is not None, "use `async with Influx2(...)`"
        precision = cast("WritePrecision", WritePrecision.NS)  # its members are plain strings
        try:
            await self._client.write_api().write(self._store.database, self._store.org, body, precision)
        except ApiException as error:
            detail = (error.body or b"").decode(errors="replace") or str(error.reason)
            retry_after = error.headers.get("Retry-After", "") if error.headers else ""
            return Answer(error.status or 0, detail[:MAX_DETAIL].strip(), retry_after)
        except NO_ANSWER as error:
            return Answer(0, f"{type(error).__name__}: {error}")
        return Answer(OK, "")


def _all_dropped(answer: Answer, count: int) -> bool:
    """InfluxDB 1.x says how many points of a partial write it dropped: if it was all of them, halving finds nothing new."""
    found = DROPPED.search(answer.detail)
    return found is not None and int(found.group(1)) >= count
