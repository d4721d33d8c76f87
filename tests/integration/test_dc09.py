"""DC-09 on real sockets: against pysiaalarm, which shares nothing with us, and against a receiver told to misbehave."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from pysiaalarm.account import SIAAccount
from pysiaalarm.aio.client import SIAClient
from pysiaalarm.event import SIAEvent

from iotcore.clock import Clock, ManualClock, SystemClock
from iotcore.dispatch.outbox import Dispatcher
from iotcore.dispatch.sia_dc09 import LINK_IDLE_S, Dc09Channel
from iotcore.errors import DeliveryError
from iotcore.journal.records import OutboxRow
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver, Fault
from tests.support.fire import notice
from tests.support.outbox import MemoryOutbox
from tests.support.ports import free_port
from tests.support.until import until

INCIDENT = "F20261122-020000-3FA9C1"
KEYS = ["", "0123456789ABCDEF", "0123456789ABCDEF01234567", "0123456789ABCDEF0123456789ABCDEF"]
KEY = KEYS[1]

both = pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])


def row(number: int = 7, **changes: object) -> OutboxRow:
    told = msgspec.structs.replace(notice(), **{"incident": INCIDENT, **changes})
    return OutboxRow(number, told.incident, "arc", number, 0, told)


@asynccontextmanager
async def channel(
    port: int, key: str = "", clock: Clock | None = None, *, reply_timeout_s: float = 2.0, link_idle_s: float = LINK_IDLE_S
) -> AsyncIterator[Dc09Channel]:
    settings = Dc09Receiver("arc", "127.0.0.1", port, key=key, reply_timeout_s=reply_timeout_s)
    channel = Dc09Channel(settings, clock or SystemClock(), link_idle_s=link_idle_s)
    try:
        yield channel
    finally:
        await channel.close()


def ignore(at_ms: float) -> None:
    del at_ms


@asynccontextmanager
async def sia_client(key: str, function: Callable[[SIAEvent], Awaitable[None]]) -> AsyncIterator[int]:
    """pysiaalarm on a free port. Not its own context manager: that one swallows a failed assertion."""
    port = free_port()
    account = SIAAccount("1001", key or None, allowed_timeband=(40, 20))
    client = SIAClient("127.0.0.1", port, [account], function=function)  # type: ignore[abstract] # its __new__ takes the TCP one
    await client.async_start()
    try:
        yield port
    finally:
        await client.async_stop()
        await asyncio.sleep(0.01)  # its connections end by themselves


@pytest.mark.parametrize("key", KEYS, ids=["plain", "aes-128", "aes-192", "aes-256"])
async def test_an_independent_receiver_understands_and_acknowledges_an_alarm_and_its_restore(key: str) -> None:
    events: list[SIAEvent] = []

    async def take(event: SIAEvent) -> None:
        events.append(event)

    async with sia_client(key, take) as port, channel(port, key) as arc:
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


@both
async def test_our_own_receiver_sees_all_that_a_crew_needs(key: str) -> None:
    moments: list[float] = []
    async with ArcReceiver(key=key) as arc, channel(arc.port, key) as out:
        before = SystemClock().wall_ms()
        assert await out.send(row(9999, hazard="heat", zone_number=15), moments.append) == "ACK 9999"
        after = SystemClock().wall_ms()
    (seen,) = arc.received
    assert (seen.account, seen.code, seen.zone, seen.number, seen.incident) == ("1001", "KA", 15, 9999, INCIDENT)
    assert (seen.site, seen.location) == ("Cho Vuon Hoa, Duong Le Hoan, Thanh Hoa", "Tang 1, Gian hang")
    assert (seen.longitude, seen.latitude, seen.occurred) == ("105E46.560", "19N48.420", "_02:00:00,11-22-2026")
    assert seen.text == f"{INCIDENT} FIRE heat 0.4 dB/m sd-0001"
    assert not seen.repeated
    assert before <= moments[0] <= after


@both
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.SILENCE, "no_reply"),
        (Fault.RESET, "connection_lost"),
        (Fault.CLOSE, "connection_lost"),
        (Fault.GARBAGE, "not_a_frame"),
        (Fault.ENDLESS, "not_a_frame"),
        (Fault.DUH, "duh"),
        (Fault.NAK_WITHOUT_TIME, "nak"),
        (Fault.BAD_CRC, "bad_crc"),
        (Fault.BAD_LENGTH, "bad_length"),
        (Fault.WRONG_NUMBER, "wrong_number"),
        (Fault.WRONG_RECEIVER, "wrong_address"),
        (Fault.WRONG_LINE, "wrong_address"),
        (Fault.WRONG_ACCOUNT, "wrong_address"),
    ],
)
async def test_nothing_but_a_matching_ack_ends_a_delivery_and_the_next_attempt_repeats_the_number(
    fault: Fault, reason: str, key: str
) -> None:
    async with ArcReceiver(key=key, faults=[fault]) as arc, channel(arc.port, key, reply_timeout_s=0.15) as out:
        moments: list[float] = []
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(7), moments.append)
        assert (caught.value.reason, caught.value.recoverable, len(moments)) == (reason, True, 1)
        assert await out.send(row(7), moments.append) == "ACK 0007"
        assert {seen.number for seen in arc.received} == {7}
        assert set(arc.incidents) == {f"{INCIDENT} FA"}
        assert [seen.repeated for seen in arc.received] in ([False], [False, True])
        assert arc.connections == 2  # what failed is not used again: a late reply would be taken for the next one's


@pytest.mark.parametrize(("fault", "reason"), [(Fault.OTHER_CIPHER, "not_encrypted"), (Fault.WRONG_KEY, "wrong_key")])
async def test_an_ack_that_anybody_could_have_sent_ends_no_encrypted_delivery(fault: Fault, reason: str) -> None:
    async with ArcReceiver(key=KEY, faults=[fault]) as arc, channel(arc.port, KEY) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
    assert caught.value.reason == reason


@both
@pytest.mark.parametrize("ahead_s", [-86_400.0, -60.0, 90.0, 40_000.0])
async def test_a_nak_with_time_is_answered_at_once_by_the_same_number_and_the_receivers_time(ahead_s: float, key: str) -> None:
    async with ArcReceiver(key=key, clock_error_s=ahead_s) as arc, channel(arc.port, key) as out:
        assert await out.send(row(7), ignore) == "ACK 0007"
        assert await out.send(row(8), ignore) == "ACK 0008"
    assert arc.refused == {"bad_time": 1}
    assert [seen.number for seen in arc.received] == [7, 8]
    assert len(arc.frames) == 3


@pytest.mark.parametrize("drift_s", [-35.0, 15.0])
async def test_a_clock_within_the_standards_window_needs_no_second_frame(drift_s: float) -> None:
    drifted = ManualClock(now_ms=SystemClock().wall_ms() + drift_s * 1000.0)
    async with ArcReceiver() as arc, channel(arc.port, clock=drifted) as out:
        await out.send(row(), ignore)
    assert len(arc.frames) == 1


async def test_a_receiver_that_always_naks_is_tried_twice_and_then_named() -> None:
    async with ArcReceiver(faults=[Fault.NAK] * 2) as arc, channel(arc.port) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
        assert (caught.value.reason, len(arc.frames)) == ("nak", 2)


async def test_nobody_listening_is_named() -> None:
    async with channel(free_port()) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
    assert caught.value.reason == "connect_failed"


async def test_a_wrong_key_is_not_delivered() -> None:
    async with ArcReceiver(key=KEY) as arc, channel(arc.port, KEYS[3]) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
        assert caught.value.reason == "nak"
        assert not arc.received


async def test_a_storm_goes_over_one_connection() -> None:
    async with ArcReceiver() as arc, channel(arc.port) as out:
        for number in range(1, 101):
            await out.send(row(number), ignore)
    assert (arc.connections, len(arc.received)) == (1, 100)


async def test_a_connection_that_its_receiver_closed_after_the_ack_is_replaced_without_a_failed_attempt() -> None:
    async with ArcReceiver(faults=[Fault.CLOSE_AFTER] * 3) as arc, channel(arc.port) as out:
        for number in (1, 2, 3, 4):
            assert await out.send(row(number), ignore) == f"ACK {number:04d}"
    assert (arc.connections, [seen.number for seen in arc.received]) == (4, [1, 2, 3, 4])


async def test_a_kept_connection_that_dies_with_the_frame_is_replaced_without_a_failed_attempt() -> None:
    async with ArcReceiver(faults=[Fault.NONE, Fault.RESET, Fault.NONE, Fault.CLOSE]) as arc, channel(arc.port) as out:
        for number in (1, 2, 3):
            assert await out.send(row(number), ignore) == f"ACK {number:04d}"
    assert [seen.number for seen in arc.received] == [1, 2, 3]
    assert arc.connections == 3


async def test_an_idle_connection_is_closed_before_a_firewall_forgets_it() -> None:
    async with ArcReceiver() as arc, channel(arc.port, link_idle_s=0.02) as out:
        await out.send(row(1), ignore)
        await until(lambda: not arc.open)
        assert await out.send(row(2), ignore) == "ACK 0002"
    assert arc.connections == 2


async def test_a_cancelled_send_leaves_no_connection_whose_reply_could_be_mistaken() -> None:
    async with ArcReceiver(faults=[Fault.SILENCE]) as arc, channel(arc.port) as out:
        sending = asyncio.create_task(out.send(row(7), ignore))
        await until(lambda: len(arc.frames) == 1)
        sending.cancel()
        await asyncio.wait({sending})
        assert await out.send(row(8), ignore) == "ACK 0008"
        assert arc.connections == 2


async def test_the_dispatcher_delivers_through_every_fault_in_turn_and_the_centre_knows_one_incident(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    outbox = MemoryOutbox(("arc",))
    incident = outbox.alarm("p1")
    faults = [Fault.RESET, Fault.BAD_CRC, Fault.NAK, Fault.DUH]
    async with ArcReceiver(key=KEY, faults=faults) as arc:
        out = Dc09Channel(Dc09Receiver("arc", "127.0.0.1", arc.port, key=KEY, reply_timeout_s=0.2), SystemClock())
        dispatcher = Dispatcher(outbox, {"arc": out}, SystemClock(), "fire-1", jitter=lambda: 1.0)
        running = asyncio.create_task(dispatcher.run())
        await until(lambda: outbox.deliveries(incident)[0].acknowledged_ms is not None, within_s=10.0)
        running.cancel()
        await asyncio.wait({running})
    (told,) = outbox.deliveries(incident)
    assert told.reply == "ACK 0001"
    assert {seen.number for seen in arc.received} == {1}
    assert set(arc.incidents) == {f"{incident} FA"}
