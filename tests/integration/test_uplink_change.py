"""Going over to a new certificate on a real Mosquitto: no will, no gap in what is live, and back when it is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from drivers.outbox import Outbox
from drivers.uplink import Uplink
from iotcore.clock import SystemClock
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import StatusMessage
from tests.support.certificates import Pair, ThrowawayAuthority
from tests.support.core_stand_in import CoreStandIn, until
from tests.support.mosquitto import Mosquitto

CLOCK = SystemClock()
ACL = "use_username_as_clientid true"


@dataclass(frozen=True, slots=True)
class Bench:
    """A gateway that publishes, and a core that listens."""

    broker: Mosquitto
    authority: ThrowawayAuthority
    core: CoreStandIn
    outbox: Outbox
    uplink: Uplink

    def endpoint(self, pair: Pair) -> Endpoint:
        return self.broker.endpoint(pair.cert_file, pair.key_file)

    def states(self) -> list[str]:
        """What was said of the gateway's presence, retained messages not counted."""
        said = [taken for taken in self.core.taken if taken.topic.kind == "status" and not taken.retained]
        return [msgspec.json.decode(taken.payload, type=StatusMessage).state for taken in said]


def _issue(authority: ThrowawayAuthority, name: str) -> Pair:
    """Another certificate of the gateway, in a folder of its own."""
    pair, home = authority.issue("gw1"), authority.folder / name
    home.mkdir()
    return Pair(pair.cert_file.rename(home / "gw1.pem"), pair.key_file.rename(home / "gw1.key"))


@pytest.fixture
def authority(tmp_path: Path) -> ThrowawayAuthority:
    return ThrowawayAuthority(tmp_path / "ca")


@pytest.fixture
def broker(tmp_path: Path, authority: ThrowawayAuthority) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, tls=authority.server(), extra=ACL) as broker:
        yield broker


@pytest.fixture
async def bench(tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority) -> AsyncIterator[Bench]:
    own, core_pair = _issue(authority, "own"), authority.issue("core")
    async with (
        CoreStandIn(broker.endpoint(core_pair.cert_file, core_pair.key_file)) as core,
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
    ):
        uplink = Uplink(broker.endpoint(own.cert_file, own.key_file), "gw1", outbox, CLOCK)
        task = asyncio.create_task(uplink.run())
        try:
            yield Bench(broker, authority, core, outbox, uplink)
        finally:
            task.cancel()
            await asyncio.wait([task])


@contextlib.asynccontextmanager
async def _flow(outbox: Outbox) -> AsyncIterator[list[int]]:
    """A reading each 5 ms."""
    put: list[int] = []
    stop = asyncio.Event()

    async def run() -> None:
        while not stop.is_set():
            put.append((await outbox.put("fire", "p1", {"alarm": True})).seq)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(run())
    try:
        yield put
    finally:
        stop.set()
        await task


async def test_a_new_certificate_is_used_without_a_will_and_every_reading_stays_live(bench: Bench) -> None:
    await until(lambda: bench.uplink.connected, "connected")
    async with _flow(bench.outbox) as put:
        await until(lambda: len(put) > 50, "readings flow")
        following = bench.endpoint(_issue(bench.authority, "next"))
        assert await bench.uplink.go_over(following) == ""
        seen = len(put)
        await until(lambda: len(put) > seen + 50, "readings flow on")
    assert bench.uplink.endpoint == following
    await until(lambda: bench.outbox.rows == 0, "all receipted")
    first: dict[int, bool] = {}
    for taken in bench.core.readings:
        first.setdefault(taken.message.seq, taken.message.backlog)
    assert sorted(first) == list(range(1, max(put) + 1))
    late = [seq for seq, backlog in first.items() if backlog]
    assert len(late) <= 1  # the one that the change of connection may have caught between queue and wire
    assert bench.states() == ["online", "online"]
    assert bench.uplink.counters.connections == 2


async def test_a_certificate_that_the_broker_does_not_take_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    await until(lambda: bench.uplink.connected, "connected")
    before = bench.uplink.endpoint
    stranger = ThrowawayAuthority(tmp_path / "stranger").issue("gw1")
    async with _flow(bench.outbox) as put:
        said = await bench.uplink.go_over(bench.endpoint(stranger))
        assert said
        await until(lambda: bench.uplink.connected, "back with the old one", 3.0)
        seen = len(put)
        await until(lambda: len(put) > seen + 20, "readings flow on")
    assert bench.uplink.endpoint == before
    await until(lambda: bench.outbox.rows == 0, "all receipted")
    assert {taken.message.seq for taken in bench.core.readings} == set(put)
    assert "offline" not in bench.states()


async def test_a_file_that_is_no_certificate_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    await until(lambda: bench.uplink.connected, "connected")
    (tmp_path / "no.pem").write_text("nothing", encoding="ascii")
    assert await bench.uplink.go_over(bench.endpoint(Pair(tmp_path / "no.pem", tmp_path / "no.pem")))
    await until(lambda: bench.uplink.connected, "back with the old one", 3.0)
    await bench.outbox.put("fire", "p1", {"alarm": True})
    await until(lambda: bench.outbox.rows == 0, "receipted")


async def test_while_the_broker_is_away_a_trial_says_so_and_the_old_certificate_connects_again(bench: Bench) -> None:
    await until(lambda: bench.uplink.connected, "connected")
    await asyncio.to_thread(bench.broker.stop)
    await until(lambda: not bench.uplink.connected, "noticed")
    assert "refused" in await bench.uplink.go_over(bench.endpoint(_issue(bench.authority, "next")))
    await asyncio.to_thread(bench.broker.start)
    await until(lambda: bench.uplink.connected, "connected again")
    await bench.outbox.put("fire", "p1", {"alarm": True})
    await until(lambda: bench.outbox.rows == 0, "receipted")
