"""Several fire processes on one journal: each sees everything, and what is made of it is made once; on both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from iotcore.clock import ManualClock
from iotcore.journal.conduct import Row as Conducted
from iotcore.journal.database import Place, connect_readonly
from iotcore.journal.duty import TURN_MS
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.progress import Row
from iotcore.journal.records import LEASE_MS, Batch
from iotcore.wire.arrival import Refusal
from tests.support.fire import notice, raise_, reading


class Pair:
    """Two processes, and what a third one reads."""

    def __init__(self, place: Place) -> None:
        self.clock = ManualClock()
        self.one = Journal(place, self.clock, ["arc"], "fire-1")
        self.two = Journal(place, self.clock, ["arc"], "fire-2")

    def both(self, batch: Batch) -> None:
        self.one.commit(batch)
        self.two.commit(batch)

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self.one.connection.execute(statement).fetchall()]


@pytest.fixture
def pair(journal_place: Place) -> Iterator[Pair]:
    pair = Pair(journal_place)
    with closing(pair.one), closing(pair.two):
        yield pair


def test_what_both_evaluate_is_one_incident_with_one_notice(pair: Pair) -> None:
    batch = Batch(readings=(reading(smoke=0.4),), raises=(raise_(),))
    first, second = pair.one.commit(batch), pair.two.commit(batch)
    assert (len(first.opened), len(first.leased), second.opened, second.leased) == (1, 1, (), ())
    for table in ("reading", "cause", "incident", "alarm", "outbox"):
        assert pair.rows(f"SELECT count(*) FROM {table}") == [(1,)], table


def test_the_notices_of_a_dead_process_are_taken_over_under_their_numbers(pair: Pair) -> None:
    (leased,) = pair.one.commit(Batch(raises=(raise_(),))).leased
    outbox = SqlOutbox(pair.two)
    assert outbox.lease("arc", "fire-2", pair.clock.wall_ms() + LEASE_MS - 1.0, LEASE_MS) is None
    assert outbox.lease("arc", "fire-2", pair.clock.wall_ms() + LEASE_MS, LEASE_MS) == leased


def test_progress_never_goes_back(pair: Pair) -> None:
    pair.one.commit(Batch(progress=(Row("d1", "b1", 10, "[]", 2),)))
    pair.two.commit(Batch(progress=(Row("d1", "b1", 8, "[[12, 13]]", 1),)))
    assert pair.two.progress() == [Row("d1", "b1", 10, "[]", 2)]
    pair.two.commit(Batch(progress=(Row("d1", "b1", 10, "[[12, 14]]", 2),)))
    assert pair.one.progress() == [Row("d1", "b1", 10, "[[12, 14]]", 2)]


def test_a_cursor_never_goes_back(pair: Pair) -> None:
    pair.one.move_cursor("intent", 7)
    pair.two.move_cursor("intent", 5)
    assert pair.two.cursor("intent") == 7


def test_losses_and_faults_count_once_whoever_tells_them_first(pair: Pair) -> None:
    batch = Batch(conduct=(Conducted("d1", 3, 5, 2, 1000.0, 12.0),), faults=(("d1", "gap"),))
    pair.both(batch)
    pair.two.commit(batch)
    pair.one.commit(batch)
    assert pair.rows("SELECT lost, throttled, missing, skew_ms FROM conduct") == [(6, 10, 2, 12.0)]
    assert pair.rows("SELECT count FROM fault") == [(2,)]


def test_when_the_process_on_duty_is_gone_another_counts(pair: Pair) -> None:
    batch = Batch(conduct=(Conducted("d1", 1, 0, 0, None, None),))
    pair.one.commit(batch)
    pair.clock.advance(TURN_MS / 1000.0 + 1.0)
    pair.two.commit(batch)
    pair.one.commit(batch)
    assert pair.rows("SELECT lost FROM conduct") == [(2,)]


def test_a_message_that_both_refuse_is_in_quarantine_once_and_each_time_that_it_comes(pair: Pair) -> None:
    refusal = Refusal("not_json", "", "iot/v1/fire/d1/up/reading/d1", "d1", b"\xff")
    pair.both(Batch(refusals=(refusal, refusal)))
    pair.two.commit(Batch(refusals=(refusal,)))
    pair.one.commit(Batch(refusals=(refusal,)))
    assert pair.rows("SELECT kept_by FROM quarantine ORDER BY id") == [("[fire-1][fire-2]",)] * 2 + [("[fire-2][fire-1]",)]
    assert pair.rows("SELECT count FROM quarantine_count") == [(3,)]


def test_a_message_that_only_one_has_seen_is_kept(pair: Pair) -> None:
    for name, journal in (("d1", pair.one), ("d2", pair.two)):
        journal.commit(Batch(refusals=(Refusal("not_json", "", f"iot/v1/fire/{name}/up/reading/{name}", name, b"\xff"),)))
    assert pair.rows("SELECT device FROM quarantine ORDER BY id") == [("d1",), ("d2",)]


def test_a_flood_that_both_refuse_is_counted_once(pair: Pair) -> None:
    flood = Batch(refusals=tuple(Refusal("not_json", "", "iot/v1/fire/d1/up/reading/d1", "d1", b"%d" % n) for n in range(50)))
    pair.both(flood)
    assert pair.rows("SELECT count FROM quarantine_count") == [(50,)]
    assert pair.rows("SELECT count(*), sum(more) FROM quarantine") == [(21, 30)]


def test_a_replica_that_stalled_across_a_reset_makes_no_second_incident_and_is_told_to_unlatch(pair: Pair) -> None:
    fire = Batch(readings=(reading(seq=1, smoke=0.4), reading(seq=2, smoke=0.4)), raises=(raise_(1),))
    (incident,) = pair.one.commit(fire).opened
    assert pair.one.reset(incident, ["sd-0001"], "an", pair.clock.wall_ms())
    late = pair.two.commit(Batch(raises=(raise_(1), raise_(2))))
    assert late.opened == ()
    assert [one.seq for one in late.past] == [1, 2]
    assert pair.rows("SELECT count(*) FROM incident") == [(1,)]
    assert pair.rows("SELECT DISTINCT state FROM alarm") == [("reset",)]
    (second,) = pair.two.commit(Batch(readings=(reading(seq=3, smoke=0.4),), raises=(raise_(3),))).opened
    assert second != incident


def test_a_reading_of_an_earlier_boot_belongs_to_the_closed_episode_too(pair: Pair) -> None:
    pair.one.commit(Batch(readings=(reading(seq=9, boot="b0"),), progress=(Row("sd-0001", "b0", 9, "[]", 0),)))
    (incident,) = pair.one.commit(Batch(readings=(reading(seq=1),), raises=(raise_(1),))).opened
    assert pair.one.reset(incident, ["sd-0001"], "an", pair.clock.wall_ms())
    late = pair.two.commit(Batch(raises=(raise_(9, "b0"),)))
    assert (late.opened, len(late.past)) == ((), 1)


def test_acts_that_both_apply_are_done_once(pair: Pair) -> None:
    (incident,) = pair.one.commit(Batch(raises=(raise_(),))).opened
    for act in ("acknowledge", "reset"):
        done = [
            getattr(journal, act)(incident, *([["sd-0001"]] if act == "reset" else []), "an", 5.0)
            for journal in (pair.one, pair.two)
        ]
        assert done == [True, False]
    assert pair.rows("SELECT event FROM outbox ORDER BY id") == [("alarm",), ("restore",)]


def test_a_reader_that_follows_the_changes_by_number_misses_none(pair: Pair, journal_place: Place) -> None:
    def burn(journal: Journal, name: str) -> None:
        for n in range(40):
            journal.commit(Batch(raises=(raise_(of=notice(f"{name}{n}", f"{name}{n}")),)))

    threads = [threading.Thread(target=burn, args=(pair.one, "a")), threading.Thread(target=burn, args=(pair.two, "b"))]
    seen, cursor = 0, 0
    with closing(connect_readonly(journal_place)) as reader:
        for thread in threads:
            thread.start()
        while True:
            alive = any(thread.is_alive() for thread in threads)
            rows = reader.execute("SELECT id FROM change WHERE id > ? ORDER BY id", (cursor,)).fetchall()
            seen += len(rows)
            cursor = rows[-1][0] if rows else cursor
            if not alive and not rows:
                break
    assert (seen,) == tuple(pair.rows("SELECT count(*) FROM change")[0])


STORM = """
import sys
from pathlib import Path
from iotcore.clock import SystemClock
from iotcore.journal.journal import Journal
from iotcore.journal.records import Batch
from tests.support.fire import notice, raise_, reading
place, name = sys.argv[1:]
journal = Journal(place if "://" in place else Path(place), SystemClock(), ["arc"], name)
print("ready", flush=True)
sys.stdin.readline()
for n in range(150):
    made = raise_(of=notice(f"d{n}", f"p{n // 3}"))
    journal.commit(Batch(readings=(reading(f"d{n}", 1, smoke=0.4),), raises=(made,)))
    print(n, flush=True)
"""


def test_two_processes_in_one_storm_one_of_them_killed_make_one_incident_for_each_premises(journal_place: Place) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STORM, str(journal_place), f"fire-{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (1, 2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for line in processes[0].stdout or ():
            if int(line) == 60:
                os.kill(processes[0].pid, signal.SIGKILL)
                break
        assert processes[1].wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    with closing(connect_readonly(journal_place)) as reader:
        assert reader.execute("SELECT count(*), count(DISTINCT premises) FROM incident").fetchone()[:] == (50, 50)
        assert reader.execute("SELECT count(*) FROM outbox WHERE event = 'alarm'").fetchone()[0] == 50
        assert reader.execute("SELECT count(*) FROM cause WHERE incident IS NULL").fetchone()[0] == 0
        assert reader.execute("SELECT count(*) FROM cause").fetchone()[0] == 150
