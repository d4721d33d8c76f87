"""Gaps are counted per device and visible; a reboot is none, and neither is what a core that lost its memory cannot know."""

from __future__ import annotations

from iotcore.journal.conduct import GAP, GAP_QUIET_S, LONG_HOLE_S, THROTTLED, Conduct, Row
from iotcore.journal.faults import Faults
from iotcore.journal.progress import GIVE_UP_ROUNDS, Progress
from iotcore.journal.throttle import CALM_S, Throttle

ROUND_S = 30.0  # between two times that a sender sends again what was not receipted


class Lane:
    """Readings in batches, and time."""

    def __init__(self, conduct: Conduct | None = None) -> None:
        self.progress = Progress()
        self.faults = Faults()
        self.conduct = conduct or Conduct("fire")
        self.throttle = Throttle(live_credit_s=0.0, least_credit=1)
        self.now_s = 0.0
        self.lost = 0
        self.missing = 0
        self.since_ms: float | None = None

    def come(self, *seqs: int, device: str = "a", boot: str = "b1", after_s: float = 10.0) -> None:
        self.now_s += after_s
        stage = self.progress.stage(self.now_s)
        for seq in seqs:
            stage.take(device, boot, seq)
        self.conduct.tracked(self.progress, stage.changed, self.now_s, self.now_s * 1000.0)
        self.conduct.judge(self.faults, self.throttle, self.now_s)
        self.progress.apply(stage.changed)
        for row in self.conduct.take({}):
            self.lost += row.lost
            self.missing, self.since_ms = row.missing, row.hole_since_ms

    def send_again(self, seq: int) -> None:
        """Round after round, until its sender has shown that it has nothing below."""
        for _ in range(GIVE_UP_ROUNDS):
            self.come(seq, after_s=ROUND_S)

    def standing(self, device: str = "a") -> set[str]:
        self.come(1, device="other")
        return set(self.faults.standing(device))


def test_a_hole_is_shown_as_open_since_it_came_and_not_once_it_is_filled() -> None:
    lane = Lane()
    lane.come(1, 2)
    lane.come(5)
    assert (lane.missing, lane.since_ms) == (2, 20_000.0)
    lane.come(3, 6)
    assert (lane.missing, lane.since_ms) == (1, 20_000.0)
    lane.come(4)
    assert (lane.missing, lane.since_ms, lane.lost) == (0, None, 0)
    assert GAP not in lane.standing()


def test_a_hole_that_is_given_up_counts_its_readings_and_is_the_devices_fault_until_it_is_quiet() -> None:
    lane = Lane()
    lane.come(1)
    lane.come(5)
    lane.send_again(5)
    assert (lane.lost, lane.missing, lane.since_ms) == (3, 0, None)
    assert GAP in lane.standing()
    lane.come(6, after_s=GAP_QUIET_S)
    assert GAP not in lane.standing()


def test_a_reboot_is_no_gap() -> None:
    lane = Lane()
    lane.come(1, 2, 3)
    lane.come(1, 2, boot="b2", after_s=3_600.0)
    lane.come(3, boot="b2", after_s=3_600.0)
    assert (lane.lost, lane.missing, lane.standing()) == (0, 0, set())


def test_a_core_that_lost_its_memory_counts_nothing_before_the_first_reading_that_it_hears() -> None:
    lane = Lane()
    lane.come(5_000)
    assert (lane.missing, lane.since_ms) == (0, None)
    lane.send_again(5_000)
    assert lane.progress.track("a", "b1").up_to == 5_000  # the receipt goes on
    assert (lane.lost, lane.missing, lane.standing()) == (0, 0, set())
    lane.come(5_001, 5_004)
    lane.send_again(5_004)
    assert lane.lost == 2


def test_a_hole_that_nobody_fills_nor_gives_up_becomes_a_fault_and_stays_in_sight() -> None:
    lane = Lane()
    lane.come(1)
    lane.come(5, 7)
    lane.come(1, boot="b2")
    assert GAP not in lane.standing()
    lane.come(2, boot="b2", after_s=LONG_HOLE_S)
    assert GAP in lane.standing()
    lane.come(3, boot="b2", after_s=GAP_QUIET_S)
    assert GAP not in lane.standing()
    lane.come(6)
    assert (lane.lost, lane.missing) == (0, 3)
    assert lane.since_ms is not None


def test_holes_that_are_open_when_the_process_starts_are_in_sight() -> None:
    lane = Lane()
    lane.come(1)
    lane.come(5)
    after = Conduct("fire")
    after.tracked(lane.progress, lane.progress.tracks, 100.0, 5_000.0)
    assert after.take({}) == [Row("a", 0, 0, 3, 5_000.0, None)]


def test_a_fault_that_stood_when_the_process_ended_ends_by_itself() -> None:
    lane = Lane(conduct=Conduct("fire", [("a", GAP), ("b", THROTTLED)]))
    lane.faults = Faults([("a", GAP), ("b", THROTTLED)])
    assert lane.standing("a") == {GAP}
    lane.come(1, after_s=GAP_QUIET_S)
    assert (lane.standing("a"), lane.standing("b")) == (set(), set())


def test_throttled_readings_are_counted_per_device_and_the_fault_ends_when_it_calms_down() -> None:
    lane = Lane()
    refused = sum(not lane.throttle.admit("a", 10.0, 0.0) for _ in range(50))
    lane.now_s += 10.0
    lane.conduct.judge(lane.faults, lane.throttle, lane.now_s)
    assert lane.conduct.take({}) == [Row("a", 0, refused, 0, None, None)]
    assert lane.faults.standing("a") == {THROTTLED}
    lane.come(1, after_s=CALM_S)
    assert lane.faults.standing("a") == frozenset()
