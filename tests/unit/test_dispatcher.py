"""The dispatcher: at once, in every channel, for ever, whatever a channel does."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time

import pytest

from iotcore.clock import SystemClock
from iotcore.dispatch.attempt import Courier
from iotcore.dispatch.outbox import Dispatcher
from iotcore.journal.records import OutboxRow
from tests.support.dispatching import ScriptedChannel, crashes, done, fails, running, waits
from tests.support.outbox import MemoryOutbox
from tests.support.until import until


async def test_a_notice_reaches_every_channel_once_and_its_moments_are_kept() -> None:
    outbox, arc, cad = MemoryOutbox(), ScriptedChannel(), ScriptedChannel()
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc, cad=cad):
        await until(done(outbox, [incident]))
    assert (len(arc.rows), len(cad.rows)) == (1, 1)
    assert [(told.reply, told.sent_ms, told.attempts) for told in outbox.deliveries(incident)] == [("ACK 0001", 1001.0, 0)] * 2


async def test_waking_sends_at_once_and_not_at_the_next_poll() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel()
    waited_ms = []
    async with running(outbox, arc=arc) as dispatcher:
        for n in range(40):
            await asyncio.sleep(0.003)
            incident = outbox.alarm(f"p{n}")
            woken_s = time.perf_counter()
            dispatcher.wake()
            await until(done(outbox, [incident]))
            waited_ms.append((arc.begun_s[-1] - woken_s) * 1000.0)
    assert statistics.median(waited_ms) < 10.0  # 0.2 ms on an idle machine; a poll would take up to 200


async def test_a_notice_that_is_leased_already_is_sent_without_another_word_to_the_outbox() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel()
    async with running(outbox, arc=arc) as dispatcher:
        await asyncio.sleep(0.05)
        incident = outbox.alarm("p1")
        rows = outbox.lease_all("fire-1", SystemClock().wall_ms())
        dispatcher.send_now(rows)
        await until(done(outbox, [incident]))
        await asyncio.sleep(0.05)
    assert (arc.rows, outbox.leases) == (rows, 0)


async def test_leased_notices_for_a_busy_channel_are_each_sent_once_and_in_order() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(waits(0.05))
    async with running(outbox, arc=arc) as dispatcher:
        await asyncio.sleep(0.05)
        incidents = [outbox.alarm(f"p{n}") for n in range(5)]
        for row in outbox.lease_all("fire-1", SystemClock().wall_ms()):
            dispatcher.send_now([row])
        await until(done(outbox, incidents))
    assert [row.incident for row in arc.rows] == incidents


async def test_a_notice_that_nobody_announced_is_found_by_polling() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel()
    async with running(outbox, arc=arc):
        await asyncio.sleep(0.05)
        incident = outbox.alarm("p1")
        await until(done(outbox, [incident]), within_s=2.0)


async def test_a_wake_during_a_send_is_not_lost() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(waits(0.05))
    first = outbox.alarm("p1")
    async with running(outbox, arc=arc) as dispatcher:
        await until(lambda: bool(arc.rows))
        second = outbox.alarm("p2")
        dispatcher.wake()
        await until(done(outbox, [first, second]))
    assert arc.begun_s[1] - arc.begun_s[0] < 0.2


async def test_a_failed_attempt_is_recorded_with_its_reason_and_repeated_with_the_same_number() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(fails("no_reply"))
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc):
        await until(lambda: outbox.deliveries(incident)[0].last_error == "no_reply")
        assert outbox.deliveries(incident)[0].attempts == 1
        await until(done(outbox, [incident]))
    assert [row.number for row in arc.rows] == [1, 1]
    assert outbox.deliveries(incident)[0].sent_ms == 1001.0  # the first frame that left


@pytest.mark.parametrize(
    ("attempts", "jitter", "expected_s"),
    [(0, 0.0, 0.5), (1, 0.0, 1.0), (4, 0.0, 8.0), (5, 0.0, 10.0), (100_000, 0.0, 10.0), (0, 1.0, 0.25), (100_000, 1.0, 5.0)],
)
def test_waits_double_from_half_a_second_to_ten_and_jitter_takes_at_most_half(
    attempts: int, jitter: float, expected_s: float
) -> None:
    courier = Courier(MemoryOutbox(), SystemClock(), jitter=lambda: jitter, off_loop=asyncio.to_thread, heard=lambda _: None)
    assert courier.backoff_s(attempts) == expected_s


async def test_a_channel_that_fails_holds_back_neither_the_other_channels_nor_other_incidents() -> None:
    outbox, arc, cad = MemoryOutbox(), ScriptedChannel(fails("no_reply"), fails("no_reply")), ScriptedChannel()
    incidents = [outbox.alarm("p1"), outbox.alarm("p2"), outbox.alarm("p3")]
    async with running(outbox, arc=arc, cad=cad):
        await until(lambda: len(arc.rows) >= 3 and len(cad.rows) == 3, within_s=0.25)  # sooner than the first retry
        assert [row.incident for row in arc.rows[:3]] == incidents
        await until(done(outbox, incidents))


async def test_a_rejection_is_loud_and_asked_again_only_after_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    outbox, cad = MemoryOutbox(("cad",)), ScriptedChannel(fails("rejected", recoverable=False))
    incident, other = outbox.alarm("p1"), outbox.alarm("p2")
    async with running(outbox, cad=cad):
        await until(done(outbox, [other]))
        await asyncio.sleep(0.1)
    assert len(cad.rows) == 2
    (told,) = outbox.deliveries(incident)
    assert (told.acknowledged_ms, told.last_error) == (None, "rejected")
    assert [(r.levelno, incident in r.message) for r in caplog.records if "REJECTED" in r.message] == [(logging.ERROR, True)]


async def test_a_programming_error_in_one_channel_is_told_with_its_traceback_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox, arc, cad = MemoryOutbox(), ScriptedChannel(crashes), ScriptedChannel()
    incidents = [outbox.alarm("p1"), outbox.alarm("p2")]
    async with running(outbox, arc=arc, cad=cad):
        await until(lambda: outbox.deliveries(incidents[0])[0].attempts == 1)
        assert outbox.deliveries(incidents[0])[0].last_error == "crashed: TypeError('a programming error')"
        await until(done(outbox, incidents))
    crash = next(record for record in caplog.records if record.exc_info)
    assert crash.exc_info is not None
    assert crash.exc_info[0] is TypeError


class BrokenLease(MemoryOutbox):
    """An outbox with a programming error of its own, for one channel, a few times."""

    broken = 2

    def lease(self, channel: str, owner: str, now_ms: float, lease_ms: float) -> OutboxRow | None:
        if channel == "arc" and self.broken:
            self.broken -= 1
            raise KeyError("a programming error")
        return super().lease(channel, owner, now_ms, lease_ms)


async def test_a_channels_task_that_dies_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    outbox, arc, cad = BrokenLease(), ScriptedChannel(), ScriptedChannel()
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc, cad=cad):
        await until(lambda: len(cad.rows) == 1, within_s=0.4)
        await until(done(outbox, [incident]))
    assert sum("starting it again" in record.message for record in caplog.records) == 2


class BrokenSent(MemoryOutbox):
    """An outbox that cannot keep the moment of sending."""

    def sent(self, row_id: int, at_ms: float) -> None:
        raise KeyError(row_id, at_ms)


async def test_a_moment_that_cannot_be_kept_makes_no_repeat(caplog: pytest.LogCaptureFixture) -> None:
    outbox, arc = BrokenSent(("arc",)), ScriptedChannel()
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc):
        await until(done(outbox, [incident]))
    assert len(arc.rows) == 1
    assert any("could not be kept" in record.message for record in caplog.records)


async def test_a_full_disk_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel()
    incident = outbox.alarm("p1")
    outbox.full = True
    async with running(outbox, arc=arc):
        await asyncio.sleep(0.05)
        assert not arc.rows
        outbox.full = False
        await until(done(outbox, [incident]))


async def test_an_acknowledgement_that_the_disk_refuses_is_kept_and_not_sent_for_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    outbox = MemoryOutbox(("arc",))

    def fills_the_disk(_: OutboxRow) -> None:
        outbox.full = True

    arc = ScriptedChannel(fills_the_disk)
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc):
        await until(lambda: outbox.full)
        await asyncio.sleep(0.1)
        outbox.full = False
        await until(done(outbox, [incident]))
    assert len(arc.rows) == 1


async def test_a_long_send_keeps_its_lease_so_that_no_other_process_sends_beside_it() -> None:
    outbox, slow, other = MemoryOutbox(("arc",)), ScriptedChannel(waits(1.6)), ScriptedChannel()
    incident = outbox.alarm("p1")
    rival = Dispatcher(outbox, {"arc": other}, SystemClock(), "fire-2")
    async with running(outbox, arc=slow):
        await until(lambda: bool(slow.rows))
        task = asyncio.create_task(rival.run())
        await until(done(outbox, [incident]))
        task.cancel()
        await asyncio.wait({task})
    assert outbox.renewals >= 3
    assert not other.rows


async def test_what_a_dead_process_had_leased_is_taken_over_within_about_a_second() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel()
    incident = outbox.alarm("p1")
    dead = outbox.lease("arc", "dead", SystemClock().wall_ms(), 1000.0)
    began_s = time.perf_counter()
    async with running(outbox, arc=arc):
        await until(done(outbox, [incident]))
    assert 0.7 < time.perf_counter() - began_s < 2.0
    assert dead is not None
    assert arc.rows[0].number == dead.number


async def test_stopping_ends_a_running_send_and_closes_every_channel() -> None:
    outbox, arc, cad = MemoryOutbox(), ScriptedChannel(waits(60.0)), ScriptedChannel()
    incident = outbox.alarm("p1")
    async with running(outbox, arc=arc, cad=cad):
        await until(lambda: bool(arc.rows))
    assert arc.closed
    assert cad.closed
    assert outbox.deliveries(incident)[0].acknowledged_ms is None
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("send", "channel"))]


async def test_a_restore_follows_its_alarm_and_not_before() -> None:
    outbox, arc = MemoryOutbox(("arc",)), ScriptedChannel(fails("no_reply"))
    incident = outbox.alarm("p1")
    outbox.restore(incident)
    async with running(outbox, arc=arc):
        await until(done(outbox, [incident]))
    assert [(row.notice.event, row.number) for row in arc.rows] == [("alarm", 1), ("alarm", 1), ("restore", 2)]
