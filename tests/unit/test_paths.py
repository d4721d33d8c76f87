"""The watch over the paths to receivers: a trouble at its limit, over when it answers, across restarts and stepped clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from iotcore.clock import ManualClock, Uptime
from iotcore.dispatch.paths import Paths, Watched
from iotcore.errors import DeliveryError
from iotcore.journal import paths, story
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.path_watch import SqlPaths
from iotcore.journal.records import Batch
from tests.support.fire import notice, raise_

LIMIT_S = 75.0
HOUR_S = 3600.0


class Site:
    """A journal that can be closed and opened again, on a machine that can start again."""

    def __init__(self, file: Path) -> None:
        self.clock = ManualClock()
        self.machine = "boot-1"
        self._file = file
        self.open()

    def restart(self) -> None:
        self.journal.close()
        self.open()

    def open(self) -> None:
        self.journal = Journal(self._file, self.clock, ["arc", "cad"])
        self.store = SqlPaths(self.journal, self.clock, Uptime(self.machine, self.clock.monotonic_s))
        self.store.begin({"arc": LIMIT_S})

    @property
    def faults(self) -> list[tuple[str, str]]:
        return self.journal.standing_faults()

    def alarm(self, premises: str = "p1") -> str:
        (incident,) = self.journal.commit(Batch(raises=(raise_(of=notice(f"sd-{premises}", premises)),))).opened
        return incident


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "journal.db")
    yield made
    made.journal.close()


def test_a_path_that_is_silent_for_its_limit_is_a_trouble_and_over_when_it_answers(site: Site) -> None:
    site.store.heard("arc", LIMIT_S)
    site.clock.advance(74.0)
    assert site.store.expired() == []
    site.clock.advance(1.0)
    assert site.store.expired() == ["arc"]
    assert site.store.expired() == []  # told once
    assert site.faults == [("path:arc", "path_down")]
    assert site.store.down() == {"arc"}
    site.store.failed("arc", "no_reply: 5 s")
    (path,) = paths.shown(site.journal.connection)
    assert (path.up, path.reason, path.since_ms) == (False, "no_reply: 5 s", site.clock.wall_ms())
    site.clock.advance(10.0)
    site.store.heard("arc", LIMIT_S)
    assert (site.faults, site.store.down()) == ([], frozenset())
    (path,) = paths.shown(site.journal.connection)
    assert (path.up, path.reason, path.heard_ms) == (True, "", site.clock.wall_ms())


def test_a_path_that_never_answered_is_a_trouble_at_its_limit(site: Site) -> None:
    site.clock.advance(LIMIT_S)
    assert site.store.expired() == ["arc"]


def test_a_restart_begins_no_limit_anew_and_ends_no_trouble(site: Site) -> None:
    site.store.heard("arc", LIMIT_S)
    site.clock.advance(60.0)
    site.restart()
    site.clock.advance(15.0)
    assert site.store.expired() == ["arc"]
    site.restart()
    assert site.faults == [("path:arc", "path_down")]
    assert site.store.down() == {"arc"}
    assert site.store.expired() == []
    site.store.heard("arc", LIMIT_S)
    assert site.faults == []


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
def test_a_stepped_clock_moves_no_limit(site: Site, step_s: float) -> None:
    site.store.heard("arc", LIMIT_S)
    site.clock.now_ms += step_s * 1000.0
    site.clock.advance(74.0)
    assert site.store.expired() == []
    site.clock.advance(1.0)
    assert site.store.expired() == ["arc"]


def test_after_a_reboot_the_wall_clock_tells_how_long_it_was(site: Site) -> None:
    site.store.heard("arc", LIMIT_S)
    site.clock.now_ms += 80_000.0
    site.clock.elapsed_s, site.machine = 1.0, "boot-2"
    site.restart()
    assert site.store.expired() == ["arc"]


def test_a_receiver_that_is_in_the_settings_no_more_has_no_trouble(site: Site) -> None:
    site.clock.advance(LIMIT_S)
    site.store.expired()
    site.store.begin({})
    assert (site.faults, paths.shown(site.journal.connection)) == ([], [])


def test_what_neither_path_acknowledges_in_a_hundred_seconds_is_a_trouble_of_its_receiver(site: Site) -> None:
    outbox = SqlOutbox(site.journal)
    incident = site.alarm()
    both = {"arc": "backup"}
    before_ms = site.clock.wall_ms() + 1.0
    assert outbox.hedge("arc", "backup", site.clock.wall_ms() + 3000.0, 3000.0) == 1
    assert site.store.undelivered(both, before_ms) == {"arc", "backup", "cad"}
    site.restart()
    assert set(site.faults) == {(f"path:{name}", "undelivered") for name in ("arc", "backup", "cad")}
    outbox = SqlOutbox(site.journal)
    row = outbox.lease("backup", "one", site.clock.wall_ms(), 1000.0)
    assert row is not None
    outbox.acknowledged(row.id, site.clock.wall_ms(), "ACK")
    assert site.store.undelivered(both, before_ms) == {"cad"}  # either path counts
    assert site.faults == [("path:cad", "undelivered")]
    assert [one.kind for one in story.told(site.journal.connection, incident)].count(story.HEDGED) == 1


class Line:
    """A path that answers as it is told."""

    def __init__(self) -> None:
        self.answer: Callable[[], bool] = lambda: True

    async def supervise(self) -> bool:
        return self.answer()


def _refuses() -> bool:
    raise DeliveryError("no_reply", "5 s")


async def _here(call: Callable[[], Any], /) -> Any:
    return call()


def watch(site: Site, line: Line, alternates: Mapping[str, str] | None = None) -> Paths:
    watched = {"arc": Watched(line, 30.0, LIMIT_S)}
    return Paths(site.store, watched, alternates or {}, site.clock, off_loop=_here)


async def test_link_tests_keep_a_path_up_and_a_black_hole_is_loud_within_ninety_seconds(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line()
    watched = watch(site, line)
    for _ in range(5):
        assert await watched.test("arc")
        site.clock.advance(30.0)
        await watched.look()
    assert not watched.down("arc")
    line.answer = _refuses
    dark_s = 0.0
    while not watched.down("arc"):
        assert not await watched.test("arc")
        site.clock.advance(10.0)
        dark_s += 10.0
        await watched.look()
    assert dark_s <= 90.0
    assert watched.state() == {"paths_down": ["arc"], "undelivered": []}
    assert "NO PATH to arc" in caplog.text
    line.answer = lambda: True
    assert await watched.test("arc")
    assert not watched.down("arc")


async def test_a_busy_receiver_of_one_frame_at_a_time_is_not_called_dead(site: Site) -> None:
    line = Line()
    line.answer = lambda: False
    assert await watch(site, line).test("arc")


async def test_what_another_replica_hears_counts(site: Site) -> None:
    here, there = watch(site, Line()), watch(site, Line())
    site.clock.advance(LIMIT_S)
    await here.look()
    await there.look()
    assert here.down("arc")
    assert there.down("arc")
    await there.test("arc")
    await here.look()
    assert not here.down("arc")
