"""The emergency: what it keeps, names, numbers and gives back, on a real file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from iotcore.clock import ManualClock
from iotcore.journal.emergency import FIRST_NUMBER, NUMBERS, Emergency
from iotcore.journal.emergency_log import Answered, EmergencyLog, Freed, Opened
from iotcore.journal.guarded import GuardedOutbox
from iotcore.journal.records import OutboxRow, Raise, incident_id
from iotcore.two_areas import AREAS
from tests.support.fire import notice, raise_
from tests.support.outbox import MemoryOutbox

AREA_BYTES = 16 * 1024


def fire(premises: str, seq: int = 1) -> Raise:
    return raise_(seq, of=notice(device=f"sd-{premises}", premises=premises))


class Bench:
    """An emergency over a file, opened anew as by a new process."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.path = folder / "emergency-1.log"
        self.again()

    def again(self, replica: int = 1) -> int:
        self.log = EmergencyLog(self.path, area_bytes=AREA_BYTES)
        self.emergency = Emergency(self.log, ("arc", "cad"), self.clock, incident_id, replica=replica)
        return self.emergency.open()

    def burn(self, *premises: str) -> list[Opened]:
        opened = self.emergency.take([fire(name) for name in premises])
        self.emergency.keep(opened)
        return opened

    def lease(self, channel: str = "arc", now_ms: float | None = None) -> OutboxRow | None:
        return self.emergency.lease(channel, "fire", self.clock.wall_ms() if now_ms is None else now_ms, 1000.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.emergency.close()


def test_its_room_is_put_aside_before_anything_burns(bench: Bench) -> None:
    status = bench.path.stat()
    assert (status.st_size, bench.emergency.has_room) == (AREAS * AREA_BYTES, True)
    assert status.st_blocks * 512 >= status.st_size, "written, not a hole"
    assert status.st_mode & 0o077 == 0


def test_a_fire_has_the_name_that_the_journal_would_give_it_and_a_number_of_its_own(bench: Bench) -> None:
    (opened,) = bench.burn("p1")
    assert opened.incident == incident_id(fire("p1"))
    rows = [bench.lease("arc"), bench.lease("cad")]
    assert [(row.number, row.notice.incident) for row in rows if row] == [(FIRST_NUMBER, opened.incident)] * 2
    bench.path = bench.path.with_name("emergency-3.log")
    bench.again(replica=3)
    assert bench.burn("p2")[0].numbers == {"arc": FIRST_NUMBER + 2 * NUMBERS, "cad": FIRST_NUMBER + 2 * NUMBERS}


def test_a_further_fire_of_a_premises_that_burns_joins_and_is_not_sent(bench: Bench) -> None:
    bench.emergency.note_open("p1", "F1")
    assert bench.burn("p1", "p2", "p2")[0].cause.notice.premises == "p2"
    assert bench.emergency.fires == 1
    bench.emergency.note_closed("p1")
    assert len(bench.burn("p1")) == 1, "its episode was closed: this is another"


def test_after_a_restart_it_is_sent_until_it_is_acknowledged_and_not_again_then(bench: Bench) -> None:
    bench.burn("p1", "p2")
    first = bench.lease("arc")
    assert first is not None
    bench.emergency.acknowledged(first.id, bench.clock.wall_ms(), "ACK")
    assert bench.again() == 2
    again = bench.lease("arc")
    assert again is not None
    assert again.notice.premises == "p2"
    assert bench.lease("arc") is None, "leased, and the other one is acknowledged"
    assert [bench.lease("cad") is not None for _ in range(3)] == [True, True, False]
    assert bench.burn("p1", "p3")[0].cause.notice.premises == "p3", "it knows what burns"
    assert bench.burn("p4")[0].numbers["arc"] == FIRST_NUMBER + 3, "numbers go on where they were"


def test_a_lease_ends_and_a_failure_waits(bench: Bench) -> None:
    bench.burn("p1")
    now_ms = bench.clock.wall_ms()
    row = bench.lease()
    assert row is not None
    assert bench.lease() is None
    assert bench.lease(now_ms=now_ms + 1000.0) is not None, "whoever sent it has died"
    bench.emergency.retry(row.id, now_ms, "no reply", now_ms + 5000.0)
    assert bench.lease(now_ms=now_ms + 4999.0) is None
    later = bench.lease(now_ms=now_ms + 5000.0)
    assert later is not None
    assert (later.attempts, later.number) == (1, row.number)


def test_a_write_that_was_torn_by_a_power_cut_costs_that_write_only(bench: Bench) -> None:
    bench.burn("p1")
    content = bench.path.read_bytes()
    end = len(content[:AREA_BYTES].rstrip(b"\0"))
    bench.burn("p2")
    torn = bytearray(bench.path.read_bytes())
    torn[end + 100] ^= 0xFF
    bench.emergency.close()
    bench.path.write_bytes(bytes(torn))
    assert bench.again() == 1
    assert bench.burn("p3")[0].numbers["arc"] == FIRST_NUMBER + 1
    assert bench.again() == 2, "and the log goes on behind it"


def test_a_full_area_goes_over_to_the_other_with_what_still_counts(bench: Bench) -> None:
    for n in range(200):  # some 200 kB in areas of 16 kB
        bench.burn(f"p{n}")
        carried = bench.emergency.carried()
        assert len(carried) == 2
        bench.emergency.freed(carried)
    bench.burn("last")
    assert bench.emergency.unlogged == 0
    assert bench.again() == 1
    row = bench.lease()
    assert row is not None
    assert row.notice.premises == "last"


def test_what_the_log_cannot_take_is_sent_all_the_same(bench: Bench) -> None:
    opened = [bench.burn(f"p{n}")[0] for n in range(60)]
    assert bench.emergency.unlogged > 0
    sent = {row.notice.premises for _ in range(60) if (row := bench.lease()) is not None}
    assert sent == {one.cause.notice.premises for one in opened}
    unlogged = bench.emergency.unlogged
    assert bench.again() == 60 - unlogged, "what it had taken is still there"


def test_a_log_whose_disk_refuses_stops_no_fire(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="ascii")
    emergency = Emergency(EmergencyLog(tmp_path / "file" / "log"), ("arc",), ManualClock(), incident_id)
    assert (emergency.open(), emergency.has_room) == (0, False)
    opened = emergency.take([fire("p1")])
    assert not emergency.keep(opened)
    assert emergency.lease("arc", "fire", 0.0, 1000.0) is not None
    assert emergency.unlogged == 1


def test_a_record_of_another_version_hides_no_other(bench: Bench) -> None:
    bench.log.append([Freed("F0")])
    bench.burn("p1")
    text = bench.path.read_bytes()
    assert b"freed" in text
    bench.log.append([Answered("F0", "arc", None, 1.0, "ACK")])
    assert bench.again() == 1


def test_what_the_journal_has_is_freed_and_what_is_being_sent_is_carried_once_more(bench: Bench) -> None:
    (opened,) = bench.burn("p1")
    row = bench.lease("arc")
    assert row is not None
    carried = bench.emergency.carried()
    assert [(one.channel, one.busy) for one in carried] == [("arc", True), ("cad", False)]
    bench.emergency.freed(carried)
    assert bench.emergency.handles(opened.incident)
    assert bench.lease("cad") is None
    bench.emergency.acknowledged(row.id, 5.0, "ACK 9000")
    (last,) = bench.emergency.carried()
    assert (last.channel, last.busy, last.acknowledged_ms, last.reply) == ("arc", False, 5.0, "ACK 9000")
    bench.emergency.freed([last])
    assert (bench.emergency.fires, bench.again()) == (0, 0)


def test_a_notice_acknowledged_between_the_commit_and_its_end_is_not_forgotten(bench: Bench) -> None:
    bench.burn("p1")
    before = bench.emergency.carried()
    row = bench.lease("arc")
    assert row is not None
    bench.emergency.acknowledged(row.id, 7.0, "ACK")
    bench.emergency.freed(before)
    assert [(one.channel, one.acknowledged_ms) for one in bench.emergency.carried()] == [("arc", 7.0)]


def test_what_was_on_its_way_when_the_journal_fell_silent_goes_on_with_its_number(bench: Bench) -> None:
    outbox = MemoryOutbox(("arc",))
    guarded = GuardedOutbox(outbox, bench.emergency, bench.clock)
    for premises in ("p1", "p2", "p3"):
        outbox.alarm(premises)
    now_ms = bench.clock.wall_ms()
    rows = outbox.lease_all("fire", now_ms)
    guarded.given(rows)
    guarded.sent(rows[0].id, now_ms)
    guarded.acknowledged(rows[0].id, now_ms, "ACK")
    outbox.full = True
    guarded.sent(rows[1].id, now_ms + 1.0)
    guarded.acknowledged(rows[1].id, now_ms + 2.0, "ACK")
    bench.emergency.stalled = True
    guarded.stalled()
    assert guarded.lease("arc", "fire", now_ms, 1000.0) is None
    assert bench.lease(now_ms=now_ms + 500.0) is None, "it may be acknowledged any moment"
    adopted = bench.lease(now_ms=now_ms + 1000.0)
    assert adopted is not None
    assert (adopted.incident, adopted.number) == (rows[2].incident, rows[2].number)
    carried = {one.incident: one for one in bench.emergency.carried()}
    assert carried.keys() == {rows[1].incident, rows[2].incident}
    second = carried[rows[1].incident]
    assert (second.cause, second.sent_ms, second.acknowledged_ms) == (None, now_ms + 1.0, now_ms + 2.0)


def test_what_was_ours_long_ago_is_not_sent_again(bench: Bench) -> None:
    outbox = MemoryOutbox(("arc",))
    guarded = GuardedOutbox(outbox, bench.emergency, bench.clock)
    outbox.alarm("p1")
    row = guarded.lease("arc", "fire", bench.clock.wall_ms(), 1000.0)
    assert row is not None
    guarded.retry(row.id, 0.0, "no reply", 0.0)
    bench.clock.advance(60.0)  # a replica has delivered it meanwhile, for all we know
    guarded.stalled()
    assert bench.emergency.fires == 0


def test_updates_and_restores_wait_for_the_journal(bench: Bench) -> None:
    told = structs.replace(notice(), incident="F1", event="restore")
    assert bench.emergency.adopt([OutboxRow(1, "F1", "arc", 5, 0, told)]) == 0


def test_a_file_of_another_size_is_made_anew(bench: Bench) -> None:
    bench.emergency.close()
    os.truncate(bench.path, 100)
    assert bench.again() == 0
    assert bench.path.stat().st_size == AREAS * AREA_BYTES
