"""What every durable outbox promises to the dispatcher; the fake of the tests and the journal run the very same cases.

class TestMyOutbox(OutboxContract):
    @pytest.fixture
    def bench(self) -> Bench: ...
"""

from __future__ import annotations

import threading
from typing import Protocol

import pytest

from iotcore.dispatch.outbox import OutboxPort
from iotcore.journal.timeline import Delivery

NOW_MS = 1_795_312_800_000.0
LEASE_MS = 1000.0
HOUR_MS = 3_600_000.0


class Bench(Protocol):
    """An outbox with two channels, `arc` and `cad`, and the other side of it: whoever posts, and whoever reads the story."""

    @property
    def outbox(self) -> OutboxPort: ...

    def alarm(self, premises: str) -> str:
        """Post an alarm to both channels; returns the incident."""

    def restore(self, incident: str) -> None:
        """Post the end of an incident to both channels."""

    def update(self, incident: str) -> None:
        """Post a later point of an incident to both channels."""

    def deliveries(self, incident: str) -> list[Delivery]:
        """What became of an incident, in order of posting."""


class OutboxContract:
    """Cases; `bench` is made by the class that inherits."""

    @pytest.fixture
    def bench(self) -> Bench:
        pytest.fail("the inheriting class makes the bench")

    def test_an_empty_outbox_leases_nothing(self, bench: Bench) -> None:
        assert bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS) is None

    def test_the_oldest_notice_comes_first_and_carries_its_number(self, bench: Bench) -> None:
        first, second = bench.alarm("p1"), bench.alarm("p2")
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        assert (row.incident, row.channel, row.number, row.attempts, row.notice.incident) == (first, "arc", 1, 0, first)
        bench.outbox.acknowledged(row.id, NOW_MS, "ACK")
        after = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert after is not None
        assert (after.incident, after.number) == (second, 2)

    def test_a_lease_hides_a_notice_from_others_until_it_ends_and_the_number_stays(self, bench: Bench) -> None:
        bench.alarm("p1")
        mine = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert bench.outbox.lease("arc", "two", NOW_MS + LEASE_MS - 1.0, LEASE_MS) is None
        theirs = bench.outbox.lease("arc", "two", NOW_MS + LEASE_MS, LEASE_MS)
        assert mine is not None
        assert theirs == mine

    def test_two_processes_share_the_work(self, bench: Bench) -> None:
        first, second = bench.alarm("p1"), bench.alarm("p2")
        rows = [bench.outbox.lease("arc", owner, NOW_MS, LEASE_MS) for owner in ("one", "two", "three")]
        assert [row.incident if row else None for row in rows] == [first, second, None]

    def test_a_renewed_lease_holds_on_and_a_lost_one_cannot_be_renewed(self, bench: Bench) -> None:
        bench.alarm("p1")
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        assert bench.outbox.renew(row.id, "one", NOW_MS + 900.0, LEASE_MS)
        assert bench.outbox.lease("arc", "two", NOW_MS + 1500.0, LEASE_MS) is None
        assert bench.outbox.lease("arc", "two", NOW_MS + 1900.0, LEASE_MS) is not None
        assert not bench.outbox.renew(row.id, "one", NOW_MS + 1950.0, LEASE_MS)

    def test_an_acknowledged_notice_is_over(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        bench.outbox.sent(row.id, NOW_MS + 1.0)
        bench.outbox.acknowledged(row.id, NOW_MS + 2.0, "ACK 0001")
        assert bench.outbox.lease("arc", "one", NOW_MS + HOUR_MS, LEASE_MS) is None
        assert not bench.outbox.renew(row.id, "one", NOW_MS + 3.0, LEASE_MS)
        told = bench.deliveries(incident)[0]
        assert (told.channel, told.sent_ms, told.acknowledged_ms, told.reply) == ("arc", NOW_MS + 1.0, NOW_MS + 2.0, "ACK 0001")

    def test_the_first_send_is_the_one_that_counts(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        bench.outbox.sent(row.id, NOW_MS + 1.0)
        bench.outbox.sent(row.id, NOW_MS + 9.0)
        assert bench.deliveries(incident)[0].sent_ms == NOW_MS + 1.0

    def test_a_failed_notice_waits_for_its_moment_and_then_anybody_may_send_it(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        bench.outbox.retry(row.id, NOW_MS, "no_reply: 5 s", NOW_MS + 500.0)
        assert bench.outbox.lease("arc", "one", NOW_MS + 499.0, LEASE_MS) is None
        again = bench.outbox.lease("arc", "two", NOW_MS + 500.0, LEASE_MS)
        assert again is not None
        assert (again.number, again.attempts) == (row.number, 1)
        told = bench.deliveries(incident)[0]
        assert (told.attempts, told.last_error, told.acknowledged_ms) == (1, "no_reply: 5 s", None)

    def test_a_notice_that_fails_holds_back_no_other_incident(self, bench: Bench) -> None:
        bench.alarm("p1")
        second = bench.alarm("p2")
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        bench.outbox.retry(row.id, NOW_MS, "rejected", NOW_MS + 60_000.0)
        other = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert other is not None
        assert other.incident == second

    def test_a_restore_never_overtakes_its_alarm(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        bench.restore(incident)
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        assert bench.outbox.lease("arc", "two", NOW_MS, LEASE_MS) is None
        bench.outbox.retry(row.id, NOW_MS, "no_reply", NOW_MS + 500.0)
        assert bench.outbox.lease("arc", "one", NOW_MS + 1.0, LEASE_MS) is None
        bench.outbox.acknowledged(row.id, NOW_MS + 600.0, "ACK")
        after = bench.outbox.lease("arc", "one", NOW_MS + 601.0, LEASE_MS)
        assert after is not None
        assert (row.notice.event, after.notice.event, after.incident) == ("alarm", "restore", incident)

    def test_an_update_waits_for_its_alarm_and_nothing_waits_for_an_update(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        bench.update(incident)
        alarm = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert alarm is not None
        assert bench.outbox.lease("arc", "two", NOW_MS, LEASE_MS) is None
        bench.outbox.acknowledged(alarm.id, NOW_MS, "ACK")
        update = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert update is not None
        assert (alarm.part, update.notice.event, update.part) == (0, "update", 1)
        bench.outbox.retry(update.id, NOW_MS, "rejected", NOW_MS + 60_000.0)
        bench.restore(incident)
        restore = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert restore is not None
        assert restore.notice.event == "restore"

    def test_channels_go_their_own_ways(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        arc = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert arc is not None
        bench.outbox.retry(arc.id, NOW_MS, "no_reply", NOW_MS + 500.0)
        cad = bench.outbox.lease("cad", "one", NOW_MS, LEASE_MS)
        assert cad is not None
        bench.outbox.acknowledged(cad.id, NOW_MS + 1.0, "accepted")
        assert [told.acknowledged_ms for told in bench.deliveries(incident)] == [None, NOW_MS + 1.0]

    def test_what_is_not_acknowledged_in_time_is_posted_to_the_alternate_once_and_its_restore_follows(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        assert bench.outbox.hedge("arc", "backup", NOW_MS, 60_000.0) == 0
        assert bench.outbox.hedge("arc", "backup", NOW_MS + 60_000.0, 60_000.0) == 1
        assert bench.outbox.hedge("arc", "backup", NOW_MS + 61_000.0, 60_000.0) == 0
        first = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        second = bench.outbox.lease("backup", "one", NOW_MS, LEASE_MS)
        assert first is not None
        assert second is not None
        assert (second.incident, second.notice) == (incident, first.notice)
        bench.outbox.acknowledged(second.id, NOW_MS, "ACK")
        assert bench.outbox.renew(first.id, "one", NOW_MS, LEASE_MS)  # the first path is still tried

    def test_what_is_acknowledged_and_what_restores_is_not_hedged(self, bench: Bench) -> None:
        incident = bench.alarm("p1")
        bench.restore(incident)
        row = bench.outbox.lease("arc", "one", NOW_MS, LEASE_MS)
        assert row is not None
        bench.outbox.acknowledged(row.id, NOW_MS, "ACK")
        assert bench.outbox.hedge("arc", "backup", NOW_MS + HOUR_MS, 1000.0) == 0

    def test_a_clock_set_back_an_hour_does_not_keep_a_fire_from_its_alternate(self, bench: Bench) -> None:
        bench.alarm("p1")
        assert bench.outbox.hedge("arc", "backup", NOW_MS - HOUR_MS, 3000.0) == 1

    def test_a_clock_set_back_an_hour_holds_holds_back_neither_a_lease_nor_a_retry(self, bench: Bench) -> None:
        bench.alarm("p1")
        leased = bench.outbox.lease("arc", "dead", NOW_MS, LEASE_MS)
        assert bench.outbox.lease("arc", "one", NOW_MS - HOUR_MS, LEASE_MS) == leased
        assert leased is not None
        bench.outbox.retry(leased.id, NOW_MS, "no_reply", NOW_MS + 10_000.0)
        assert bench.outbox.lease("arc", "one", NOW_MS - HOUR_MS, LEASE_MS) is not None

    def test_two_threads_never_lease_the_same_notice(self, bench: Bench) -> None:
        incidents = {bench.alarm(f"p{n}") for n in range(20)}
        taken: list[str] = []

        def take(owner: str) -> None:
            while row := bench.outbox.lease("arc", owner, NOW_MS, LEASE_MS):
                taken.append(row.incident)
                bench.outbox.acknowledged(row.id, NOW_MS, owner)

        threads = [threading.Thread(target=take, args=(owner,)) for owner in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == sorted(incidents)
