"""Admissions: right used up, certificate, state and audit in one commit, up to 32 requests at a time.

admit() ──► queue (≤ 1,000; full: busy) ──► writer: read facts ─► judge each ─► sign ─► write ─► commit ──► answers

One task writes. While a batch waits for its disk the next one gathers: the more come, the fewer commits for each. Each request is
judged by itself: a bad one is refused, its neighbours are not. Other processes do the same on the same database: the head of the
audit chain, which every writer locks first, lines them up, so that a token is used once whoever asks whom.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tortoise.exceptions import IntegrityError

from iotcore.errors import EnrolmentError, IotError, StoreError
from iotcore.registry import certified, facts, requests
from iotcore.registry.asked import BUSY, BUSY_S, POLL_S, Admitted, Asked, ByCertificate, RefusedRequest, Verdict, Waiting
from iotcore.registry.database import Database, Writing, whole
from iotcore.registry.judge import Judge
from iotcore.registry.records import Certificate

QUEUE = 1_000  # requests that wait to be judged
BATCH = 32  # requests in one commit: it holds the registry's one writer lock for some 20 ms
BY = "est"  # who stands in the audit
STOPS = EnrolmentError(BUSY, "the listener stops; ask again", BUSY_S)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused before it came to the registry: an entry in the audit, nothing else."""

    action: str
    subject: str
    detail: str
    address: str


@dataclass(slots=True)
class _Waits:
    """A request, and whoever waits for its answer."""

    what: Asked | Refusal
    answer: asyncio.Future[Certificate | None]


@dataclass(slots=True)
class _Signed:
    """An admitted request with its certificate, or why there is none."""

    waits: _Waits
    asked: Asked
    admitted: Admitted
    certificate: Certificate | None = None
    failed: IotError | None = None


@dataclass(slots=True)
class _Batch:
    """What becomes of each; told after the commit."""

    signed: list[_Signed] = field(default_factory=list)
    errors: list[tuple[_Waits, IotError | None]] = field(default_factory=list)


class Admissions:
    """An async context manager: within it requests are judged.

    `anchors_of(model)`: the anchors that a device of this model may have, its usual one first.
    `approval`: a person has to approve every request that comes with a secret. `poll_s`: when who waits may ask again.
    """

    def __init__(
        self, database: Database, anchors_of: Callable[[str], Sequence[str]], *, approval: bool = False, poll_s: float = POLL_S
    ) -> None:
        self._database = database
        self._anchors_of = anchors_of
        self._approval, self._poll_s = approval, poll_s
        self._queue: asyncio.Queue[_Waits] = asyncio.Queue(QUEUE)
        self._writer: asyncio.Task[None] | None = None
        self.busy = 0  # requests turned away because the queue was full

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
        while not self._queue.empty():
            _tell(self._queue.get_nowait(), STOPS)

    @property
    def waiting(self) -> int:
        """Requests that nobody has looked at yet."""
        return self._queue.qsize()

    async def admit(self, asked: Asked) -> Certificate:
        """The certificate of a request, committed.

        Raises:
            EnrolmentError: refused, pending or busy; with a `retry_s` where asking again may help.
            StoreError: the registry did not commit, and nothing was used up.
        """
        certificate = await self._judged(asked)
        assert certificate is not None
        return certificate

    async def refuse(self, refusal: Refusal) -> None:
        """Audit a refusal, together with others."""
        await self._judged(refusal)

    async def _judged(self, what: Asked | Refusal) -> Certificate | None:
        waits = _Waits(what, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waits)
        except asyncio.QueueFull:
            self.busy += 1
            raise EnrolmentError(BUSY, "too many requests at once; ask again", BUSY_S) from None
        return await waits.answer

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._handle(batch)

    async def _handle(self, batch: list[_Waits]) -> None:
        """Answer all of a batch. Rows that the database itself refuses are found by trying one request after another."""
        try:
            done = await self._commit(batch)
        except asyncio.CancelledError:
            _tell_all(batch, STOPS)
            raise
        except IotError as error:
            if len(batch) > 1 and isinstance(error.__cause__, IntegrityError):
                for waits in batch:
                    await self._handle([waits])
            else:
                _tell_all(batch, error)
        except Exception:  # a fault of ours must not end the writer: everybody who comes after would wait for ever
            log.exception("requests for certificates could not be judged")
            _tell_all(batch, StoreError("the request could not be judged; the log of the web process says why"))
        else:
            for signed in done.signed:
                _tell(signed.waits, signed.certificate if signed.failed is None else signed.failed)
            for waits, refusal in done.errors:
                _tell(waits, refusal)

    @whole
    async def _commit(self, waiting: Sequence[_Waits]) -> _Batch:
        """Judge, sign, write; the whole batch commits or nothing of it."""
        batch = _Batch()
        wanted = [waits for waits in waiting if not waits.answer.cancelled()]
        if not wanted:
            return batch
        async with self._database.writing() as work:
            asked = [waits.what for waits in wanted if isinstance(waits.what, Asked)]
            known = await facts.read(work.db, work.now_ms, asked)
            judge = Judge(known, self._anchors_of, self._approval, self._poll_s)
            if to_ask := [one for one in asked if judge.asks_a_person(one)]:
                await facts.read_requests(work.db, known, to_ask)
            opened: list[tuple[Asked, Waiting]] = []
            for waits in wanted:
                if isinstance(waits.what, Refusal):
                    _note_refusal(work, waits.what)
                    batch.errors.append((waits, None))
                    continue
                verdict = judge.verdict(waits.what)
                if isinstance(verdict, Admitted):
                    batch.signed.append(_Signed(waits, waits.what, verdict))
                    continue
                batch.errors.append((waits, verdict.error()))
                if isinstance(verdict, Waiting) and verdict.opens:
                    opened.append((waits.what, verdict))
                elif isinstance(verdict, RefusedRequest):
                    _note(work, waits.what, verdict)
            await requests.opened(work, opened)
            if batch.signed:
                await asyncio.to_thread(_sign, batch.signed)
            granted = [(one.asked, one.admitted, one.certificate) for one in batch.signed if one.certificate is not None]
            await certified.write(work, granted)
        return batch


def _sign(admitted: Sequence[_Signed]) -> None:
    """In a thread: the key may be in a security module, which takes its time."""
    for one in admitted:
        try:
            one.certificate = one.asked.issue(one.admitted.device, one.admitted.anchor)
        except IotError as error:
            one.failed = error


def _note(work: Writing, asked: Asked, verdict: Verdict) -> None:
    assert isinstance(verdict, RefusedRequest)
    if asked.audited():
        action = "renewal_refused" if isinstance(asked.right, ByCertificate) else "enrolment_refused"
        detail = {"detail": str(verdict.error()), "why": verdict.why, "address": asked.address}
        work.note(BY, action, asked.name, **{name: value for name, value in detail.items() if value})


def _note_refusal(work: Writing, refusal: Refusal) -> None:
    work.note(BY, refusal.action, refusal.subject, detail=refusal.detail, address=refusal.address)


def _tell_all(batch: Sequence[_Waits], error: IotError) -> None:
    for waits in batch:
        _tell(waits, error)


def _tell(waits: _Waits, answer: Certificate | IotError | None) -> None:
    if waits.answer.done():  # whoever asked is gone
        return
    if isinstance(answer, IotError):
        waits.answer.set_exception(answer)
    else:
        waits.answer.set_result(answer)
