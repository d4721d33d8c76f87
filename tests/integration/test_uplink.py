"""A gateway's uplink on a real Mosquitto: what is not receipted is not forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from drivers.outbox import Limits, Outbox
from drivers.outbox.file import ROW_BYTES
from drivers.uplink import Uplink
from iotcore.clock import SystemClock
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, StatusMessage
from tests.support.certificates import ThrowawayAuthority
from tests.support.core_stand_in import CoreStandIn, until
from tests.support.mosquitto import Mosquitto

CLOCK = SystemClock()


@pytest.fixture
def authority(tmp_path: Path) -> ThrowawayAuthority:
    return ThrowawayAuthority(tmp_path / "ca")


@pytest.fixture
def broker(tmp_path: Path, authority: ThrowawayAuthority) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path, tls=authority.server()) as broker:
        yield broker


def _endpoint(broker: Mosquitto, authority: ThrowawayAuthority, cn: str) -> Endpoint:
    pair = authority.issue(cn)
    return broker.endpoint(pair.cert_file, pair.key_file)


@contextlib.asynccontextmanager
async def _running(uplink: Uplink) -> AsyncIterator[Uplink]:
    task = asyncio.create_task(uplink.run())
    try:
        yield uplink
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None


async def test_a_receipt_clears_the_rows_and_live_readings_are_not_marked(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with (
        CoreStandIn(_endpoint(broker, authority, "core")) as core,
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
        _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK)) as uplink,
    ):
        await until(lambda: uplink.connected, "connected")
        for number in range(20):
            await outbox.put("air", f"aqt-{number % 4}", {"pm10": float(number)}, ts=1_795_312_800_000 + number)
        await until(lambda: outbox.rows == 0, "all receipted")
        assert sorted(taken.message.values["pm10"] or 0.0 for taken in core.readings) == [float(n) for n in range(20)]
        assert not any(taken.message.backlog for taken in core.readings)
        assert {str(taken.topic) for taken in core.readings} == {f"iot/v1/air/gw1/up/reading/aqt-{n}" for n in range(4)}
        assert (outbox.receipted, uplink.counters.published, uplink.counters.resent) == (20, 20, 0)


async def test_without_a_receipt_a_reading_is_sent_again_marked_as_backlog(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with (
        CoreStandIn(_endpoint(broker, authority, "core"), receipting=False) as core,
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
        _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK, resend_s=0.5)) as uplink,
    ):
        await until(lambda: uplink.connected, "connected")
        await outbox.put("air", "aqt-1", {"pm10": 1.0})
        await until(lambda: len(core.readings) >= 2, "sent twice")
        live, again = core.readings[0].message, core.readings[1].message
        assert not live.backlog
        assert again == msgspec.structs.replace(live, backlog=True, age_ms=again.age_ms)
        assert 500 <= again.age_ms < 5_000
        core.receipting = True
        await until(lambda: outbox.rows == 0, "receipted after all")


async def test_readings_of_an_earlier_run_come_after_the_live_ones_with_their_own_boot(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with Outbox(tmp_path / "o.db", CLOCK) as outbox:
        old_boot = outbox.boot
        for _ in range(300):
            await outbox.put("air", "aqt-1", {"pm10": 1.0})
    async with (
        CoreStandIn(_endpoint(broker, authority, "core")) as core,
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
        _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK)) as uplink,
    ):
        await until(lambda: uplink.connected, "connected")
        await outbox.put("air", "aqt-1", {"pm10": 2.0})
        await until(lambda: outbox.rows == 0, "all receipted")
        assert core.stored("aqt-1", old_boot) == set(range(1, 301))
        assert core.stored("aqt-1", outbox.boot) == {1}
        old = [taken.message for taken in core.readings if taken.message.boot == old_boot]
        assert [message.seq for message in old] == list(range(1, 301))
        assert all(message.backlog for message in old)
        order = [taken.message.boot for taken in core.readings]
        assert order.index(outbox.boot) < 200  # live went in between, not behind


async def test_a_killed_broker_loses_nothing_that_was_put(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with (
        CoreStandIn(_endpoint(broker, authority, "core")) as core,
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
        _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK, resend_s=2.0)) as uplink,
    ):
        await until(lambda: uplink.connected, "connected")
        for number in range(600):
            await outbox.put("air", "aqt-1", {"pm10": float(number)})
            if number in {200, 400}:
                await asyncio.to_thread(broker.kill)
            if number == 300:
                await asyncio.to_thread(broker.start)
        await until(lambda: not uplink.connected, "noticed")
        await asyncio.to_thread(broker.start)
        await until(lambda: outbox.rows == 0, "all receipted", 40.0)
        assert core.stored("aqt-1", outbox.boot) == set(range(1, 601))
        assert uplink.counters.connections >= 2
        late = [taken.message for taken in core.readings if taken.message.backlog]
        assert late
        assert all(message.age_ms > 0 for message in late)


async def test_a_full_outbox_goes_on_with_what_is_left_and_says_what_was_lost(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with Outbox(tmp_path / "o.db", CLOCK, limits=Limits(max_bytes=10 * (53 + ROW_BYTES))) as outbox:  # ten readings
        for _ in range(25):
            await outbox.put("air", "aqt-1", {"pm10": 1.0})
        assert outbox.evicted == 15
        async with (
            CoreStandIn(_endpoint(broker, authority, "core")) as core,
            _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK)),
        ):
            await until(lambda: len(core.readings) >= 10, "what is left arrives")
            assert [taken.message.seq for taken in core.readings] == list(range(16, 26))


async def test_a_publish_that_nobody_subscribes_to_is_not_accepted_and_sent_again_soon(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with (
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
        _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK)) as uplink,
    ):
        await until(lambda: uplink.connected, "connected")
        await outbox.put("air", "aqt-1", {"pm10": 1.0})
        await until(lambda: uplink.counters.unmatched == 1, "the broker says 0x10")
        async with CoreStandIn(_endpoint(broker, authority, "core")) as core:
            await until(lambda: outbox.rows == 0, "sent again long before 30 s", 10.0)
            assert [taken.message.backlog for taken in core.readings] == [True]


async def test_birth_and_goodbye_are_retained_and_a_lost_link_publishes_the_will(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    def states(core: CoreStandIn) -> list[StatusMessage]:
        return [msgspec.json.decode(taken.payload, type=StatusMessage) for taken in core.taken if taken.topic.kind == "status"]

    endpoint = _endpoint(broker, authority, "gw1")
    core_endpoint = _endpoint(broker, authority, "core")
    async with Outbox(tmp_path / "o.db", CLOCK) as outbox:
        async with _running(Uplink(endpoint, "gw1", outbox, CLOCK, firmware="0.1")) as uplink:
            await until(lambda: uplink.connected, "connected")
            async with CoreStandIn(core_endpoint) as core:
                await until(lambda: core.taken, "the birth is retained")
                assert core.taken[0].retained
                assert str(core.taken[0].topic) == "iot/v1/gateway/gw1/up/status/gw1"
                assert states(core) == [StatusMessage(state="online", boot=outbox.boot, fw="0.1")]
        async with CoreStandIn(core_endpoint) as core:
            await until(lambda: core.taken, "the goodbye is retained")
            assert states(core) == [StatusMessage(state="offline")]
        async with _running(Uplink(endpoint, "gw1", outbox, CLOCK)) as first, CoreStandIn(core_endpoint) as core:
            await until(lambda: first.connected, "connected")
            second = Uplink(endpoint, "gw1", outbox, CLOCK)  # the same client id throws the first one out: its will is published
            async with _running(second):
                await until(lambda: StatusMessage(state="offline") in states(core)[1:], "the will")


async def test_a_broker_that_is_not_there_is_tried_for_ever_and_named(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    endpoint = _endpoint(broker, authority, "gw1")
    await asyncio.to_thread(broker.stop)
    async with Outbox(tmp_path / "o.db", CLOCK) as outbox, _running(Uplink(endpoint, "gw1", outbox, CLOCK)) as uplink:
        await outbox.put("air", "aqt-1", {"pm10": 1.0})
        await until(lambda: "refused" in uplink.last_error, "the error is told")
        await asyncio.to_thread(broker.start)
        async with CoreStandIn(_endpoint(broker, authority, "core")):
            await until(lambda: outbox.rows == 0, "sent when the broker is there")


async def test_a_receipt_that_makes_no_sense_is_counted_and_changes_nothing(
    tmp_path: Path, broker: Mosquitto, authority: ThrowawayAuthority
) -> None:
    async with (
        CoreStandIn(_endpoint(broker, authority, "core"), receipting=False) as core,
        Outbox(tmp_path / "o.db", CLOCK) as outbox,
        _running(Uplink(_endpoint(broker, authority, "gw1"), "gw1", outbox, CLOCK)) as uplink,
    ):
        await until(lambda: uplink.connected, "connected")
        await outbox.put("air", "aqt-1", {"pm10": 1.0})
        for payload in (b"", b"{", b'{"boot":"x"}', b'{"boot":"x","up_to":0,"ts":1}', b"\xff"):
            await core.publish("iot/v1/air/gw1/down/receipt/aqt-1", payload)
        await until(lambda: uplink.counters.unreadable == 5, "all refused")
        assert (outbox.rows, uplink.connected) == (1, True)
        assert msgspec.json.decode((await outbox.page(0, 1))[0].body, type=ReadingMessage).seq == 1
