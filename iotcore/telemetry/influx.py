"""InfluxDB: ready lines over HTTP, to 1.x (`/write`) or to the v2 API (InfluxDB 2 and 3).

    write ── taken ────────────────────────────────────────────────► Written
      │ ── not now (busy, no right, no database, no answer) ────────► Later, not before Retry-After
      └── some lines are wrong, or too many at once (`influx_answers`)
            ├─ the answer names them: reject those, write the rest again
            ├─ it says what to look for: those lines apart from the others
            └─ it says nothing: two halves, and so on until the wrong ones are alone

A line is rejected only on an answer to itself, or by its own number or text. Nothing is dropped for want of a connection or a
right; writing lines twice is harmless (`line`). A 400 that does not speak of lines rejects none until the server has taken or
judged others of the same write: otherwise it is the request that is wrong (a name, a proxy), and every line would be.

InfluxDB 3 names wrong lines only on its own `/api/v3/write_lp`; it is asked there when its `/api/v2/write` names none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, cast

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from iotcore import settings
from iotcore.clock import Clock
from iotcore.telemetry.influx_answers import (
    NAMELESS,
    NOT_FOUND,
    TAKEN,
    Answer,
    Verdict,
    all_dropped,
    named,
    parts,
    retry_after_s,
    verdict,
)
from iotcore.telemetry.influx_link import REQUEST_TIMEOUT_S, Link, context, no_answer
from iotcore.telemetry.influx_setup import ensure_database
from iotcore.telemetry.line import line
from iotcore.telemetry.store import CONFIDENTIAL, Later, Rejected, Written

LINE_FORMAT = "line1"
MAX_BODY_BYTES = 1_000_000  # below aiohttp's 1 MiB for bytes sent in one go; also far below every server's own limit
MAX_DOUBTS = 8  # lines that nothing but a doubtful answer speaks against, before the write is given up as a whole

Post = Callable[[bytes], Awaitable[Answer]]


class _Search:
    """The wrong lines of one write; `settle` says Later when the server cannot go on."""

    def __init__(self, post: Post, later: Callable[[Answer], Later]) -> None:
        self.rejected: list[Rejected] = []
        self.doubted: list[Rejected] = []
        self._proven = False  # the server has taken or judged something, so the request as such is well
        self._post = post
        self._later = later

    async def settle(self, records: Sequence[bytes], answer: Answer) -> Later | None:
        """Find what is wrong in `records`, which got `answer`."""
        means = verdict(answer)
        if means is Verdict.LATER:
            return self._later(answer)
        self._proven = self._proven or means is Verdict.LINES
        wrong = named(answer, records)
        if wrong:
            self.rejected += [Rejected(records[index], why) for index, why in wrong.items()]
            return await self._send([record for index, record in enumerate(records) if index not in wrong])
        if len(records) == 1 or all_dropped(answer, len(records)):
            return self._reject(records, answer, means)
        for part in parts(answer, records):
            if (later := await self._send(part)) is not None:
                return later
        return None

    async def _send(self, records: Sequence[bytes]) -> Later | None:
        if not records:
            return None
        answer = await self._post(b"\n".join(records))
        if verdict(answer) is Verdict.TAKEN:
            self._proven = True
            return None
        return await self.settle(records, answer)

    def _reject(self, records: Sequence[bytes], answer: Answer, means: Verdict) -> Later | None:
        found = [Rejected(record, answer.detail()) for record in records]
        if means is not Verdict.DOUBTFUL:
            self.rejected += found
            return None
        self.doubted += found
        return self._later(answer) if len(self.doubted) >= MAX_DOUBTS and not self._proven else None

    def result(self) -> Written | Later:
        """What became of the write as a whole."""
        if self.doubted and not self._proven:
            return Later("http_400", self.doubted[0].detail)
        return Written((*self.rejected, *self.doubted))


def _pieces(body: bytes) -> Iterator[bytes]:
    """The body itself, or if it is large, parts of whole lines."""
    start = 0
    while len(body) - start > MAX_BODY_BYTES:
        end = body.rfind(b"\n", start, start + MAX_BODY_BYTES)
        end = end if end > start else body.find(b"\n", start + MAX_BODY_BYTES)
        if end < 0:
            break
        yield body[start:end]
        start = end + 1
    yield body[start:]


class _Influx:
    """What both versions share: lines in, answers judged."""

    def __init__(
        self, store: settings.Store, clock: Clock, *, confidential: bool = False, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self.format = f"{LINE_FORMAT}{CONFIDENTIAL}" if confidential else LINE_FORMAT
        self.database = store.database_confidential if confidential else store.database
        self._store = store
        self._clock = clock
        self._timeout_s = timeout_s
        self._link = Link(store, timeout_s)

    record = staticmethod(line)  # a reading in line protocol

    async def _write(self, body: bytes, post: Post) -> Written | Later:
        rejected: tuple[Rejected, ...] = ()
        for piece in _pieces(body):
            answer = await post(piece)
            if answer.status == TAKEN:
                continue
            search = _Search(post, self._later)
            result = await search.settle(piece.split(b"\n"), answer) or search.result()
            if isinstance(result, Later):
                return result
            rejected += result.rejected
        return Written(rejected)

    def _later(self, answer: Answer) -> Later:
        detail = answer.detail()
        if answer.ok:
            detail = f"answered {answer.status} where InfluxDB says {TAKEN}; is this its address? {detail}".strip()
        return Later(answer.reason, detail, retry_after_s(answer.retry_after, self._clock.wall_ms()))


class Influx1(_Influx):
    """InfluxDB 1.x: `async with Influx1(settings.store, clock) as store`."""

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._link.__aexit__(kind, error, trace)

    async def ensure(self) -> Later | None:
        """Create the database; one that exists stays as it is (`iotcore store init` says how it differs)."""
        problem = await ensure_database(self._link, self.database)
        return None if problem is None else self._later(problem)

    async def write(self, body: bytes, lines: int) -> Written | Later:  # noqa: ARG002 - a count would only be checked
        """Write lines once; a database that is gone is created for the next time."""
        query = {"db": self.database, "precision": "ns"}
        result = await self._write(body, lambda part: self._link.ask("POST", "/write", query, part))
        if isinstance(result, Later) and result.reason == "no_database":
            await self.ensure()
        return result


class Influx2(_Influx):
    """The v2 API: InfluxDB 2 and 3. Buckets are made by `iotcore store init`, or by whoever made the token."""

    _client: InfluxDBClientAsync | None = None

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._client = InfluxDBClientAsync(
            self._store.url,
            self._store.token,
            self._store.org,
            timeout=int(self._timeout_s * 1000),
            ssl_context=context(self._store) if self._store.url.startswith("https://") else None,
            allow_redirects=False,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call] # the library types its public calls only in part
        await self._link.__aexit__(kind, error, trace)

    async def ensure(self) -> Later | None:
        """Only ask whether it is there; whether the token and the bucket are right shows with the first write."""
        answer = await self._link.ask("GET", "/ping")
        return None if answer.ok else self._later(answer)

    async def write(self, body: bytes, lines: int) -> Written | Later:  # noqa: ARG002 - a count would only be checked
        """Write lines once."""
        return await self._write(body, self._post)

    async def _post(self, body: bytes) -> Answer:
        answer = await self._post_v2(body)
        if NAMELESS not in answer.message() or answer.document().get("data"):
            return answer
        query = {"db": self.database, "precision": "nanosecond"}
        explained = await self._link.ask("POST", "/api/v3/write_lp", query, body)
        return answer if explained.status == NOT_FOUND else explained

    async def _post_v2(self, body: bytes) -> Answer:
        assert self._client is not None, "use `async with Influx2(...)`"
        precision = cast("WritePrecision", WritePrecision.NS)  # its members are plain strings
        try:
            taken = await self._client.write_api().write(self.database, self._store.org, body, precision)
        except ApiException as error:
            text = (error.body or b"").decode(errors="replace") or str(error.reason)
            retry_after = error.headers.get("Retry-After", "") if error.headers else ""
            return Answer(error.status or 0, text, retry_after)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return no_answer(error)
        return Answer(TAKEN if taken else 200, "")
