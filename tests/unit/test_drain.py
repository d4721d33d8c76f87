"""The drain with a real spool and a store that behaves as told."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from iotcore.clock import SystemClock
from iotcore.reading import Reading
from iotcore.registry.directory import Binding
from iotcore.telemetry.drain import LONGEST_PAUSE_S, WORKERS, Drain, pause_s
from iotcore.telemetry.spool import Spool
from iotcore.telemetry.store import Later, Rejected, Written
from tests.support.telemetry_bench import until

Answer = Callable[[Sequence[bytes]], Written | Later]


class ToldStore:
    """A store that answers as told and remembers what it took."""

    format = "line1"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.taken: list[bytes] = []
        self.asked_s: list[float] = []
        self.going = asyncio.Event()
        self.going.set()
        self.at_once = self.most_at_once = 0

    def record(self, reading: Reading, binding: Binding) -> bytes:
        raise AssertionError((reading, binding))

    async def ensure(self) -> Later | None:
        return None

    async def write(self, body: bytes, lines: int) -> Written | Later:
        records = body.split(b"\n")
        assert lines == len(records)
        self.asked_s.append(time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.going.wait()
        self.at_once -= 1
        result = self.answer(records)
        if isinstance(result, Written):
            self.taken += [one for one in records if one not in {wrong.record for wrong in result.rejected}]
        return result


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    clock = SystemClock()
    async with Spool(tmp_path / "spool-t.db", clock, store_format="line1", max_bytes=10**7, max_age_s=3600.0) as one:
        yield one


@asynccontextmanager
async def draining(spool: Spool, store: ToldStore) -> AsyncIterator[Drain]:
    drain = Drain(spool, store)
    task = asyncio.create_task(drain.run())
    try:
        yield drain
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_the_store_rejects_is_quarantined_and_the_rest_is_done(spool: Spool, tmp_path: Path) -> None:
    await spool.commit([b"good", b"wrong"])
    store = ToldStore(lambda _: Written((Rejected(b"wrong", "field type conflict"),)))
    async with draining(spool, store):
        await until(lambda: store.taken == [b"good"])
        await until(lambda: _empty(spool))
    with closing(sqlite3.connect(tmp_path / "spool-t.db")) as reader:
        assert reader.execute("SELECT reason, detail, payload FROM quarantine").fetchall() == [
            ("store_rejected", "field type conflict", b"wrong")
        ]


async def test_a_batch_that_the_store_cannot_swallow_does_not_keep_newer_ones_waiting(spool: Spool) -> None:
    await spool.commit([b"poison"])
    store = ToldStore(lambda records: Later("http_500", "panic") if b"poison" in records else Written())
    async with draining(spool, store) as drain:
        await until(lambda: drain.trouble == "http_500")
        for line in (b"a", b"b"):
            await spool.commit([line])
            drain.wake()
        await until(lambda: sorted(store.taken) == [b"a", b"b"])
        assert [batch.lines for batch in await spool.newest(10)] == [b"poison"]


async def test_a_busy_store_is_not_asked_before_the_time_it_gave(spool: Spool) -> None:
    await spool.commit([b"a"])
    busy = [Later("http_429", "", after_s=0.8)]
    store = ToldStore(lambda _: busy.pop() if busy else Written())
    async with draining(spool, store) as drain:
        await until(lambda: store.taken == [b"a"])
        assert store.asked_s[1] - store.asked_s[0] >= 0.8
        await until(lambda: drain.trouble == "")


async def test_new_readings_do_not_make_it_ask_a_busy_store_before_its_time(spool: Spool) -> None:
    store = ToldStore(lambda _: Later("http_503", "", after_s=300.0))
    async with draining(spool, store) as drain:
        await spool.commit([b"a"])
        drain.wake()
        await until(lambda: len(store.asked_s) == 1)
        for number in range(20):
            await spool.commit([b"%d" % number])
            drain.wake()
        await asyncio.sleep(0)
        assert len(store.asked_s) == 1
        assert (await spool.depth()).batches == 21


async def test_confidential_batches_and_others_each_go_to_their_own_store(spool: Spool) -> None:
    await spool.commit([b"open"], confidential=[b"secret-1", b"secret-2"])
    stores = ToldStore(lambda _: Later("not_authorised", "")), ToldStore(lambda _: Written())
    stores[1].format = "line1.confidential"
    async with draining(spool, stores[0]) as first, draining(spool, stores[1]):
        await until(lambda: stores[1].taken == [b"secret-1", b"secret-2"])
        await until(lambda: first.trouble == "not_authorised")
        assert stores[0].taken == []
    depth = await spool.depth()
    assert (depth.batches, depth.size, depth.confidential, depth.foreign) == (1, 4, 0, 0)


async def test_no_more_writes_are_on_their_way_than_allowed(spool: Spool) -> None:
    store = ToldStore(lambda _: Written())
    store.going.clear()
    async with draining(spool, store) as drain:
        for number in range(10):
            await spool.commit([b"%d-%d" % (number, n) for n in range(3000)])
            drain.wake()
        await until(lambda: store.at_once == WORKERS)
        store.going.set()
        await until(lambda: len(store.taken) == 30_000)
    assert store.most_at_once == WORKERS
    assert len(set(store.taken)) == 30_000


@pytest.mark.parametrize("failures", [1, 2, 5, 50, 10_000])
def test_pauses_grow_to_a_limit_and_never_vanish(failures: int) -> None:
    pauses = [pause_s(failures) for _ in range(100)]
    assert 0.2 < min(pauses) <= max(pauses) <= LONGEST_PAUSE_S
    assert len(set(pauses)) > 50


async def _empty(spool: Spool) -> bool:
    return (await spool.depth()).batches == 0
