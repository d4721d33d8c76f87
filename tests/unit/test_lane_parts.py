"""A storm becomes many short commits: what opens an incident first, whole alarms whole, and nothing twice or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from iotcore.alarms.lane_commit import COMMIT_LIMIT_S, HELD_RAISES, Commits, unlogged
from iotcore.alarms.lane_parts import MOST_RAISES, parted
from iotcore.clock import SystemClock
from iotcore.journal.progress import Row
from iotcore.journal.records import Batch, Committed, Hold, Raise
from tests.support.fire import notice, raise_, reading

POINTS = 50
T = TypeVar("T")


def storm(premises: int = 10, points: int = POINTS) -> Batch:
    """Premises of so many detectors, interleaved as a broker brings them."""
    names = [(f"d{home}-{point}", f"p{home}") for point in range(points) for home in range(premises)]
    return Batch(
        readings=tuple(reading(device, smoke=0.4) for device, _ in names),
        raises=tuple(raise_(of=notice(device, home)) for device, home in names),
        progress=(Row("d0-0", "b1", 1, "", 0),),
        presence=(("gw-1", True),),
    )


def nowhere(_: str) -> bool:
    return False


def test_a_short_batch_that_waits_for_none_is_one_commit() -> None:
    batch = storm(2, 2)
    assert parted(batch, nowhere, behind=False) == ([], [batch])


def test_the_first_word_of_every_premises_goes_before_everything_else() -> None:
    opening, rest = parted(storm(), nowhere, behind=False)
    assert [one.notice.premises for one in opening[0].raises] == [f"p{n}" for n in range(10)]
    assert len(opening) == 1
    assert all(len(part.raises) <= MOST_RAISES for part in rest)


def test_every_decision_and_every_reading_is_in_exactly_one_part() -> None:
    batch = storm()
    opening, rest = parted(batch, nowhere, behind=False)
    parts = [*opening, *rest]
    assert sorted(one.notice.device for part in parts for one in part.raises) == sorted(r.notice.device for r in batch.raises)
    assert sorted(one.device for part in parts for one in part.readings) == sorted(one.device for one in batch.readings)


def test_a_decision_is_never_made_durable_after_that_its_reading_counts_as_handled() -> None:
    """Else a process that dies between two parts would take the redelivered message for a repeat, and lose a fire."""
    opening, rest = parted(storm(), nowhere, behind=False)
    assert all(not part.progress and not part.presence for part in (*opening, *rest[:-1]))
    assert rest[-1].progress
    assert rest[-1].presence


def test_the_zones_of_one_panel_stay_in_its_alarm_and_do_not_hold_back_smaller_ones() -> None:
    zones = tuple(raise_(n, of=notice("panel-1", "big", rule=f"zone{n}")) for n in range(1, 2 * MOST_RAISES))
    small = raise_(of=notice("d1", "small"))
    opening, rest = parted(Batch(raises=(*zones, small)), nowhere, behind=False)
    assert [part.raises for part in opening] == [(small,), zones]
    assert not rest[-1].raises


def test_where_it_burns_already_a_fire_only_joins_and_waits_its_turn() -> None:
    batch = Batch(raises=(raise_(of=notice("d1", "p1")), raise_(of=notice("d2", "p2"))))
    opening, rest = parted(batch, lambda premises: premises == "p1", behind=True)
    assert [one.notice.premises for part in opening for one in part.raises] == ["p2"]
    assert [one.notice.premises for part in rest for one in part.raises] == ["p1"]


def test_what_ends_a_hold_goes_with_the_alarm_that_it_ends() -> None:
    held = replace(raise_(of=notice("d1", "p1")), hold=Hold(30.0, 300.0))
    button = raise_(of=notice("cp-1", "p1", rule="manual-call"))
    opening, _ = parted(Batch(raises=(held, button)), nowhere, behind=True)
    assert opening[0].raises == (held, button)


def test_tests_records_and_troubles_open_nothing_and_go_nowhere_first() -> None:
    quiet = (raise_(of=notice("d1", "p1"), test=True), raise_(of=notice("d2", "p2"), historical=True))
    trouble = raise_(of=notice("d3", "p3", severity="trouble"))
    opening, rest = parted(Batch(raises=(*quiet, trouble)), nowhere, behind=True)
    assert opening == []
    assert [part.raises for part in rest] == [(*quiet, trouble)]


class Slow:
    """A journal whose commits take so long each, once they may; it remembers what it was given."""

    def __init__(self, *, each_s: float = 0.0, open_: bool = True) -> None:
        self.taken: list[tuple[Raise, ...]] = []
        self.go = asyncio.Event()
        if open_:
            self.go.set()
        self._each_s = each_s

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Off the loop."""
        await self.go.wait()
        await asyncio.sleep(self._each_s)
        return work()

    def commit(self, batch: Batch) -> Committed:
        self.taken.append(batch.raises)
        return Committed(opened=())


def commits(journal: Slow) -> Commits:
    clock = SystemClock()
    return Commits(journal.commit, replace(unlogged(clock), off_loop=journal), clock, lambda: None)


def batch_of(name: str, count: int = 1) -> Batch:
    return Batch(raises=tuple(raise_(n, of=notice(name)) for n in range(1, count + 1)))


async def test_a_commit_that_is_ahead_waits_for_the_one_that_runs_and_for_no_other() -> None:
    journal = Slow(open_=False)
    queue = commits(journal)
    for name in ("runs", "waits-1", "waits-2"):
        queue.put(batch_of(name), lambda _: None)
    await asyncio.sleep(0)
    for name in ("ahead-1", "ahead-2"):
        last = queue.put(batch_of(name), lambda _: None, ahead=True)
    assert queue.behind
    journal.go.set()
    assert await queue.durable(last, ())
    assert [raises[0].notice.device for raises in journal.taken][:3] == ["runs", "ahead-1", "ahead-2"]


async def test_a_commit_behind_many_that_return_in_time_stalls_nothing() -> None:
    queue = commits(Slow(each_s=COMMIT_LIMIT_S / 10.0))
    for n in range(12):
        last = queue.put(batch_of(f"b{n}"), lambda _: None)
    assert await queue.durable(last, ())
    assert queue.stalled_since_ms is None


async def test_a_commit_that_does_not_return_stalls_whoever_waits_behind_it() -> None:
    queue = commits(Slow(open_=False))
    queue.put(batch_of("hangs"), lambda _: None)
    last = queue.put(batch_of("behind"), lambda _: None)
    assert not await queue.durable(last, ())
    assert queue.stalled_since_ms is not None


async def test_what_waits_is_bounded_by_its_decisions() -> None:
    journal = Slow(open_=False)
    queue = commits(journal)
    queue.put(batch_of("many", HELD_RAISES), lambda _: None)
    room = asyncio.create_task(queue.room())
    await asyncio.sleep(0.01)
    assert not room.done()
    journal.go.set()
    await asyncio.wait_for(room, 1.0)
