"""Paths, hedged notices and what receivers were told of, on a file and on a PostgreSQL server alike."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from iotcore.clock import ManualClock, Uptime
from iotcore.journal import paths
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.path_watch import SqlPaths
from iotcore.journal.records import Batch
from iotcore.journal.telling import SqlTold
from tests.support.fire import notice, raise_

LIMIT_S = 75.0


def test_a_copy_that_nobody_has_begun_to_send_is_withdrawn_when_the_first_path_acknowledges(journal_place: Path | str) -> None:
    clock = ManualClock()
    with closing(Journal(journal_place, clock, ["arc"])) as journal:
        outbox, now_ms = SqlOutbox(journal), clock.wall_ms()

        def burn(premises: str) -> str:
            (incident,) = journal.commit(Batch(raises=(raise_(of=notice(f"d-{premises}", premises)),))).opened
            assert outbox.hedge("arc", "backup", now_ms + 3000.0, 3000.0) == 1
            return incident

        def answer(incident: str) -> None:
            (row_id,) = journal.connection.execute(
                "SELECT id FROM outbox WHERE incident = ? AND channel = 'arc' AND event = 'alarm'", (incident,)
            ).fetchone()
            outbox.acknowledged(row_id, now_ms, "ACK")
            assert outbox.hedge("arc", "backup", now_ms + 9000.0, 3000.0) == 0, "and it is not hedged again"

        def told_backup(incident: str) -> list[str]:
            found = "SELECT event FROM outbox WHERE channel = 'backup' AND incident = ?"
            return [event for (event,) in journal.connection.execute(found, (incident,)).fetchall()]

        sending, failed = burn("p1"), burn("p2")
        under_way = outbox.lease("backup", "one", now_ms, 1000.0)
        assert under_way is not None
        answer(sending)
        assert told_backup(sending) == ["alarm"], "it is being sent"
        assert outbox.release("one") == 1
        answer(sending)
        assert told_backup(sending) == ["alarm"], "its sender died, and may have sent it"
        refused = outbox.lease("backup", "one", now_ms, 1000.0)
        assert refused == under_way, "and it is tried again"
        outbox.acknowledged(refused.id, now_ms, "ACK")
        refused = outbox.lease("backup", "one", now_ms, 1000.0)
        assert refused is not None
        outbox.retry(refused.id, now_ms, "connect_failed", now_ms + 10_000.0)
        answer(failed)
        assert told_backup(failed) == [], "no frame of it has left"
        waiting, over = burn("p3"), burn("p4")
        answer(waiting)
        assert told_backup(waiting) == []
        assert outbox.lease("backup", "one", now_ms, 1000.0) is not None, "that of p4 alone is left"
        journal.connection.execute("UPDATE outbox SET lease_owner = NULL WHERE channel = 'backup'")
        journal.reset(over, ["d-p4"], "an", now_ms)
        answer(over)
        assert told_backup(over) == ["alarm", "restore"], "a restore is told with its alarm, and never alone"


def test_a_path_falls_silent_is_told_of_and_answers_and_its_notices_are_hedged(journal_place: Path | str) -> None:
    clock = ManualClock()
    with closing(Journal(journal_place, clock, ["arc"])) as journal:
        store, told, outbox = SqlPaths(journal, clock, Uptime("boot-1", clock.monotonic_s)), SqlTold(journal), SqlOutbox(journal)
        store.begin({"arc": 0.2, "backup": LIMIT_S})
        store.heard("arc", 0.2)
        (incident,) = journal.commit(Batch(raises=(raise_(of=notice()),))).opened
        assert outbox.hedge("arc", "backup", clock.wall_ms() + 3000.0, 3000.0) == 1
        assert outbox.hedge("arc", "backup", clock.wall_ms() + 3000.0, 3000.0) == 0
        row = outbox.lease("backup", "one", clock.wall_ms(), 1000.0)
        assert row is not None
        assert row.incident == incident
        late_ms = clock.wall_ms() + 1.0
        assert store.undelivered({"arc": "backup"}, late_ms) == {"arc", "backup"}
        outbox.acknowledged(row.id, clock.wall_ms(), "ACK")
        assert store.undelivered({"arc": "backup"}, late_ms) == frozenset()

        silent: list[str] = []
        while not silent:  # the server's own clock decides there, in a fifth of a second
            clock.advance(0.05)
            silent = store.expired()
        assert silent == ["arc"]
        assert store.down() == {"arc"}
        store.failed("arc", "no_reply: 5 s")
        work = told.next("arc", {"trouble"}, clock.wall_ms())
        assert work is not None
        assert (work.device, work.reason, work.state) == ("path:arc", "path_down", "raise")
        assert told.next("arc", {"trouble"}, clock.wall_ms()) is None  # somebody tells it
        told.later(work, clock.wall_ms())
        assert told.next("arc", {"trouble"}, clock.wall_ms()) == work  # with its number
        told.done(work)
        store.heard("arc", LIMIT_S)
        over = told.next("arc", {"trouble"}, clock.wall_ms())
        assert over is not None
        assert (over.state, over.number != work.number) == ("restore", True)
        told.done(over)
        assert told.next("arc", {"trouble"}, clock.wall_ms()) is None
        assert [(one.name, one.up, one.undelivered) for one in paths.shown(journal.connection)] == [
            ("arc", True, False),
            ("backup", True, False),
        ]
