"""Drain: spool → store. What is newest goes first, so that after an outage the page and the dashboards are live again at once.

A write that fails puts its batches back; a store that is busy or down is asked again with growing, jittered pauses, for ever, and
after a while with one batch at a time. At most `WORKERS` writes are on their way.
"""

from __future__ import annotations

import asyncio
import logging
import random

from iotcore import metrics
from iotcore.errors import StoreError
from iotcore.telemetry.spool import Batch, Spool
from iotcore.telemetry.store import Later, Store, Written
from iotcore.wire.arrival import Refusal

WORKERS = 2  # one write is prepared while the other is on the wire
WRITE_LINES = 5_000  # InfluxDB documentation, "Optimize writes": batches of 5,000 lines
ALONE_AFTER = 3  # failures in a row, and batches go one by one: one that the store cannot swallow keeps no other waiting
GATHER_S = 0.05  # after the first new batch, wait for company: a write costs more than a line
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0  # the store is used again at most so long after it came back
log = logging.getLogger(__name__)


class Drain:
    """Moves batches while `run` runs. `trouble` says what keeps it from the store, "" when nothing does."""

    def __init__(self, spool: Spool, store: Store) -> None:
        self.trouble = ""
        self._spool = spool
        self._store = store
        self._fresh = asyncio.Event()
        self._choosing = asyncio.Lock()
        self._taken: set[int] = set()
        self._failures = 0  # in a row
        self._resume_s = 0.0  # on the loop's clock

    def wake(self) -> None:
        """Something was committed."""
        self._fresh.set()

    async def run(self) -> None:
        """Drain until cancelled."""
        depth = await self._spool.depth()
        if depth.foreign:
            log.warning("%d batches in the spool are for another kind of store; start it again to drain them", depth.foreign)
        problem = await self._store.ensure()
        if problem is not None:
            self._failed(problem)
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            if (left_s := self._left_s()) > 0.0:
                await asyncio.sleep(left_s)
                continue
            self._fresh.clear()
            try:
                batches = await self._choose(WRITE_LINES if self._failures < ALONE_AFTER else 1)
                if not batches and self._left_s() <= 0.0:
                    await self._fresh.wait()
                    await asyncio.sleep(GATHER_S)
                if not batches:
                    continue
                result = await self._carry(batches)
                if isinstance(result, Later):
                    self._put_off(result.after_s)
                elif self._failures:
                    self._failures = 0
                    self._fresh.set()
            except StoreError as error:
                log.warning("the spool could not be drained: %s", error)
                self._put_off(0.0)

    def _put_off(self, after_s: float) -> None:
        """Nobody asks the store again before the time it gave, nor before a pause of our own."""
        if self._left_s() <= 0.0:  # workers that fail together fail once
            self._failures += 1
        resume_s = asyncio.get_running_loop().time() + max(after_s, pause_s(self._failures))
        self._resume_s = max(self._resume_s, resume_s)
        metrics.store_pause.set(self._left_s())

    def _left_s(self) -> float:
        return self._resume_s - asyncio.get_running_loop().time()

    async def _choose(self, max_lines: int) -> list[Batch]:
        async with self._choosing:
            batches = await self._spool.newest(max_lines, self._taken, self._store.format)
            if self._left_s() > 0.0 or (self._failures and self._taken):  # one worker alone finds out whether it goes again
                return []
            self._taken.update(batch.id for batch in batches)
        return batches

    async def _carry(self, batches: list[Batch]) -> Written | Later:
        """Write batches and forget them; put them back when the store did not take them."""
        ids = [batch.id for batch in batches]
        try:
            lines = sum(batch.line_count for batch in batches)
            body = batches[0].lines if len(batches) == 1 else b"\n".join([batch.lines for batch in batches])
            result = await self._store.write(body, lines)
            if isinstance(result, Later):
                self._failed(result)
                return result
            refusals = [Refusal("store_rejected", one.detail, self._store.format, "", one.record) for one in result.rejected]
            await self._spool.done(ids, refusals)
        finally:
            self._taken.difference_update(ids)
        for batch in batches:
            metrics.commit_to_store.observe(self._spool.age_s(batch))
        self._succeeded(lines, len(refusals))
        return result

    def _failed(self, problem: Later) -> None:
        metrics.store_failures.labels(problem.reason).inc()
        if self.trouble != problem.reason:
            log.warning(
                "the telemetry store cannot be written (%s): %s; readings wait in the spool", problem.reason, problem.detail
            )
        self.trouble = problem.reason

    def _succeeded(self, lines: int, rejected: int) -> None:
        metrics.store_writes.inc()
        metrics.store_pause.set(0.0)
        metrics.store_written.inc(lines - rejected)
        metrics.store_rejected.inc(rejected)
        if rejected:
            log.warning("the telemetry store refused %d lines for good; they are in the quarantine", rejected)
        if self.trouble:
            log.info("the telemetry store takes lines again")
        self.trouble = ""


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row: doubling, with jitter, so that workers do not come back in step."""
    longest = min(FIRST_PAUSE_S * 2.0 ** min(failures, 10), LONGEST_PAUSE_S)
    return random.uniform(longest / 2.0, longest)  # noqa: S311 - jitter is no secret
