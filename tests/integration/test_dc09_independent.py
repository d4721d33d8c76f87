"""DC-09 with an independent receiver: pysiaalarm, which shares nothing with us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

import pytest
from pysiaalarm.account import SIAAccount
from pysiaalarm.aio.client import SIAClient
from pysiaalarm.aio.server import SIAServerUDP
from pysiaalarm.event import SIAEvent
from pysiaalarm.utils.counter import Counter
from pysiaalarm.utils.enums import MessageTypes

from iotcore.clock import ManualClock, SystemClock
from iotcore.dispatch.outbox import Dispatcher, Way
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.errors import DeliveryError
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver
from tests.support.dc09 import INCIDENT, KEY, channel, each_key, each_transport, ignore, row
from tests.support.outbox import MemoryOutbox
from tests.support.ports import free_port
from tests.support.until import until


class _Datagrams(SIAServerUDP):
    """pysiaalarm's server; its own `connection_made` asserts a class that asyncio of Python 3.11 does not use."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, _: Any) -> None:
        self.transport = None


@asynccontextmanager
async def sia_client(
    key: str, function: Callable[[SIAEvent], Awaitable[None]], transport: str = "tcp", account: str = "1001"
) -> AsyncIterator[int]:
    """pysiaalarm on a free port. Not its own context manager: that one swallows a failed assertion."""
    known = {account: SIAAccount(account, key or None, allowed_timeband=(40, 20))}
    if transport == "udp":
        loop = asyncio.get_running_loop()
        server = _Datagrams(known, function, Counter())
        socket, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=("127.0.0.1", 0))
        yield socket.get_extra_info("sockname")[1]
        server.shutdown_flag = True
        socket.close()
        return
    port = free_port()
    client = SIAClient("127.0.0.1", port, list(known.values()), function=function)  # type: ignore[abstract] # __new__ chooses
    await client.async_start()
    try:
        yield port
    finally:
        await client.async_stop()
        await asyncio.sleep(0.01)  # its connections end by themselves


@each_transport
@each_key
async def test_an_independent_receiver_understands_and_acknowledges_an_alarm_and_its_restore(key: str, transport: str) -> None:
    events: list[SIAEvent] = []

    async def take(event: SIAEvent) -> None:
        events.append(event)

    async with sia_client(key, take, transport) as port, channel(port, key, transport=transport) as arc:
        assert await arc.send(row(7), ignore) == "ACK 0007"
        assert await arc.send(row(8, event="restore"), ignore) == "ACK 0008"
        await until(lambda: len(events) == 2)
    alarm, restore = events
    assert (alarm.code, alarm.ri, alarm.message, alarm.account, alarm.sequence) == ("FA", "01", "001", "1001", "0007")
    assert alarm.encrypted is bool(key)
    assert {block.identifier: block.value for block in alarm.extended_data or []} == {
        "H": "_02:00:00,11-22-2026",
        "I": f"{INCIDENT} FIRE smoke 0.4 dB/m sd-0001",
        "L": "Tang 1, Gian hang",
        "S": "Cho Vuon Hoa, Duong Le Hoan, Thanh Hoa",
        "X": "105E46.560",
        "Y": "19N48.420",
    }
    assert (restore.code, restore.sequence) == ("FH", "0008")


@each_transport
@each_key
async def test_an_independent_receiver_of_contact_id_understands_alarm_trouble_test_and_restore(key: str, transport: str) -> None:
    events: list[SIAEvent] = []

    async def take(event: SIAEvent) -> None:
        events.append(event)

    told = [
        row(1, zone_number=15),
        row(2, zone_number=15, event="restore"),
        row(3, hazard="heat", event="update"),
        row(4, severity="trouble", reason="gap"),
        row(5, severity="trouble", reason="gap", event="restore"),
        row(6, event="test"),
    ]
    async with (
        sia_client(key, take, transport) as port,
        channel(port, key, transport=transport, format="ADM-CID") as arc,
    ):
        for one in told:
            assert await arc.send(one, ignore) == f"ACK {one.number:04d}"
        await until(lambda: len(events) == len(told))
    assert [(event.event_qualifier, event.event_type, event.partition, event.ri) for event in events] == [
        ("1", "111", "15", "015"),
        ("3", "111", "15", "015"),
        ("1", "114", "01", "001"),
        ("1", "373", "01", "001"),
        ("3", "373", "01", "001"),
        ("1", "604", "01", "001"),
    ]
    assert [event.code for event in events] == ["FA", "FH", "KA", "FT", "FJ", "FX"]
    (text,) = events[0].extended_data or []
    assert text.value == (f"{INCIDENT} FIRE smoke 0.4 dB/m sd-0001; Tang 1, Gian hang; Cho Vuon Hoa, Duong Le Hoan, Thanh Hoa")


@each_transport
@each_key
async def test_an_independent_receiver_acknowledges_a_link_test(key: str, transport: str) -> None:
    tests: list[SIAEvent] = []

    async def take(event: SIAEvent) -> None:
        tests.append(event)

    async with sia_client(key, take, transport) as port, channel(port, key, transport=transport, account="1001") as arc:
        await arc.supervise()
        await until(lambda: bool(tests))
    assert (tests[0].message_type, tests[0].sequence, tests[0].account) == (MessageTypes.NULL, "0000", "1001")


async def test_an_independent_receiver_whose_time_differs_gets_the_alarm_by_its_own_time() -> None:
    events: list[SIAEvent] = []

    async def take(event: SIAEvent) -> None:
        events.append(event)

    hours_behind = ManualClock(now_ms=SystemClock().wall_ms() - 5 * 3_600_000.0)
    async with sia_client(KEY, take) as port, channel(port, KEY, hours_behind) as arc:
        moments: list[float] = []
        assert await arc.send(row(7), moments.append) == "ACK 0007"
        assert await arc.send(row(8), moments.append) == "ACK 0008"
        await until(lambda: len(events) == 2)
    assert [event.sequence for event in events] == ["0007", "0008"]
    assert len(moments) == 3  # NAK, again at once, and from then on by the receiver's time


async def test_an_account_that_an_independent_receiver_does_not_know_is_not_delivered() -> None:
    async def take(event: SIAEvent) -> None:
        raise AssertionError(event)

    async with sia_client(KEY, take) as port, channel(port, KEY, reply_timeout_s=0.2) as arc:
        with pytest.raises(DeliveryError) as caught:
            await arc.send(row(account="9999"), ignore)
    assert caught.value.reason == "nak"


@each_transport
async def test_a_fire_whose_first_path_is_a_black_hole_reaches_an_independent_receiver_by_the_alternate(
    transport: Literal["tcp", "udp"],
) -> None:
    events: list[SIAEvent] = []

    async def take(event: SIAEvent) -> None:
        events.append(event)

    dark = ArcReceiver()
    dark.silent = True
    outbox = MemoryOutbox(("arc",))
    async with dark, sia_client(KEY, take, transport) as port:
        receivers = [
            Dc09Receiver("arc", "127.0.0.1", dark.port, reply_timeout_s=0.3),
            Dc09Receiver("backup", "127.0.0.1", port, key=KEY, transport=transport),
        ]
        channels = {one.name: Dc09Channel(one, SystemClock()) for one in receivers}
        ways = {"arc": Way(alternate="backup", hedge_s=0.5)}
        dispatcher = Dispatcher(outbox, channels, SystemClock(), "fire-1", ways=ways)
        running = asyncio.create_task(dispatcher.run())
        incident = outbox.alarm("p1")
        await until(lambda: bool(events), within_s=2.0)
        await until(lambda: any(told.acknowledged_ms for told in outbox.deliveries(incident)))
        running.cancel()
        await asyncio.wait({running})
    assert [(event.code, event.account) for event in events] == [("FA", "1001")]
    assert incident in str((events[0].extended_data or [])[1].value)
