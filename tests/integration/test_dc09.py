"""DC-09 on real sockets, against a receiver told to misbehave."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import pytest

from iotcore.clock import ManualClock, SystemClock
from iotcore.dispatch.outbox import Dispatcher
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.errors import DeliveryError
from iotcore.settings_receivers import Dc09Receiver
from simulators.arc_receiver import ArcReceiver, Fault
from tests.support.dc09 import INCIDENT, KEY, KEYS, both, channel, each_transport, ignore, row
from tests.support.outbox import MemoryOutbox
from tests.support.ports import free_port
from tests.support.until import until


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


WRONG_ANSWERS = [
    (Fault.SILENCE, "no_reply"),
    (Fault.GARBAGE, "not_a_frame"),
    (Fault.DUH, "duh"),
    (Fault.NAK_WITHOUT_TIME, "nak"),
    (Fault.BAD_CRC, "bad_crc"),
    (Fault.BAD_LENGTH, "bad_length"),
    (Fault.WRONG_NUMBER, "wrong_number"),
    (Fault.WRONG_RECEIVER, "wrong_address"),
    (Fault.WRONG_LINE, "wrong_address"),
    (Fault.WRONG_ACCOUNT, "wrong_address"),
    (Fault.LATE, "no_reply"),
]
ONLY_OF_CONNECTIONS = [
    (Fault.RESET, "connection_lost"),
    (Fault.CLOSE, "connection_lost"),
    (Fault.ENDLESS, "not_a_frame"),
    (Fault.DRIP, "no_reply"),
]


@both
@pytest.mark.parametrize(("fault", "reason"), [*WRONG_ANSWERS, *ONLY_OF_CONNECTIONS])
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


@both
@pytest.mark.parametrize(("fault", "reason"), WRONG_ANSWERS)
async def test_nothing_but_a_matching_ack_ends_a_delivery_by_datagrams(fault: Fault, reason: str, key: str) -> None:
    async with (
        ArcReceiver(key=key, faults=[fault], transport="udp") as arc,
        channel(arc.port, key, reply_timeout_s=0.15, transport="udp") as out,
    ):
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(7), ignore)
        assert caught.value.reason == reason
        assert await out.send(row(7), ignore) == "ACK 0007"
        assert await out.send(row(8), ignore) == "ACK 0008"
        assert [seen.number for seen in arc.received] in ([7, 8], [7, 7, 8])


async def test_a_lost_datagram_is_repeated_within_the_reply_timeout() -> None:
    moments: list[float] = []
    async with ArcReceiver(faults=[Fault.SILENCE], transport="udp") as arc, channel(arc.port, transport="udp") as out:
        assert await out.send(row(7), moments.append) == "ACK 0007"
    assert [seen.number for seen in arc.received] == [7, 7]
    assert len(moments) == 2
    assert arc.frames[0] == arc.frames[1]


async def test_no_port_of_datagrams_is_named() -> None:
    async with channel(free_port(), transport="udp", reply_timeout_s=0.1) as out:
        with pytest.raises(DeliveryError) as caught:
            await out.send(row(), ignore)
    assert caught.value.reason == "connection_lost"


@each_transport
async def test_a_second_reply_to_one_frame_is_not_taken_for_the_next_ones(transport: Literal["tcp", "udp"]) -> None:
    async with (
        ArcReceiver(faults=[Fault.TWICE, Fault.NONE, Fault.TWICE], transport=transport) as arc,
        channel(arc.port, transport=transport) as out,
    ):
        for number in (1, 2, 3, 4):
            assert await out.send(row(number), ignore) == f"ACK {number:04d}"
    assert [seen.number for seen in arc.received] == [1, 2, 3, 4]
    assert arc.connections == (1 if transport == "tcp" else 0)


async def test_a_late_reply_to_one_frame_is_not_taken_for_the_next_ones() -> None:
    async with ArcReceiver(faults=[Fault.LATE, Fault.SILENCE]) as arc, channel(arc.port, reply_timeout_s=0.3) as out:
        with pytest.raises(DeliveryError, match="no_reply"):
            await out.send(row(7), ignore)
        with pytest.raises(DeliveryError, match="no_reply"):  # the reply to 7 comes within this wait
            await out.send(row(7), ignore)


async def test_frames_of_different_incidents_travel_beside_each_other_each_on_a_connection_of_its_own() -> None:
    async with ArcReceiver(reply_s=0.05) as arc, channel(arc.port) as out:
        replies = await asyncio.gather(*(out.send(row(number), ignore) for number in range(1, 9)))
    assert replies == [f"ACK {number:04d}" for number in range(1, 9)]
    assert arc.most_open == 8


@each_transport
async def test_a_link_test_is_a_trial_of_the_same_path_and_tells_what_is_wrong_with_it(transport: Literal["tcp", "udp"]) -> None:
    async with (
        ArcReceiver(transport=transport, accounts=["ABC"]) as arc,
        channel(arc.port, transport=transport, account="abc", reply_timeout_s=0.1) as out,
        channel(arc.port, transport=transport, account="999", reply_timeout_s=0.1) as stranger,
    ):
        await out.supervise()
        assert arc.link_tests == 1
        with pytest.raises(DeliveryError, match="nak"):
            await stranger.supervise()
        arc.silent = True
        with pytest.raises(DeliveryError, match="no_reply"):
            await out.supervise()


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
