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
