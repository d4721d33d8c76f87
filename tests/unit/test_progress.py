"""Receipts claim exactly what is stored; duplicates are known; a hole nobody fills is given up and counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iotcore.journal.progress import GIVE_UP_ROUNDS, MAX_BOOTS, MAX_RANGES, Progress


def store(progress: Progress, *seqs: int, now_s: float = 0.0, boot: str = "b1") -> None:
    stage = progress.stage(now_s)
    for seq in seqs:
        stage.take("d1", boot, seq)
    progress.apply(stage.changed)


def test_a_receipt_stops_at_the_first_hole() -> None:
    progress = Progress()
    store(progress, 1, 2, 4, 5)
    assert progress.track("d1", "b1").up_to == 2
    store(progress, 3)
    assert progress.track("d1", "b1").up_to == 5


def test_a_batch_that_failed_to_commit_is_forgotten() -> None:
    progress = Progress()
    stage = progress.stage(0.0)
    stage.add("d1", "b1", 1)
    assert not stage.is_new("d1", "b1", 1)
    assert progress.stage(0.0).is_new("d1", "b1", 1)


def rounds(progress: Progress, *seqs: int, first_s: float, count: int = GIVE_UP_ROUNDS) -> None:
    """A sender that sends all of these again, every 30 s."""
    for number in range(count):
        store(progress, *seqs, now_s=first_s + number * 30.0)


def test_a_hole_that_its_sender_cannot_fill_is_given_up_and_counted() -> None:
    progress = Progress()
    store(progress, 1, 4, 5)
    rounds(progress, 4, 5, first_s=30.0, count=GIVE_UP_ROUNDS - 1)
    assert progress.track("d1", "b1").up_to == 1
    assert progress.track("d1", "b1").missing == 2
    rounds(progress, 4, 5, first_s=90.0, count=1)
    assert (progress.track("d1", "b1").up_to, progress.track("d1", "b1").lost) == (5, 2)
    assert progress.track("d1", "b1").missing == 0


def test_repeats_in_one_burst_are_one_round() -> None:
    progress = Progress()
    store(progress, 1, 4)
    for number in range(10):
        store(progress, 4, now_s=30.0 + number)
    assert progress.track("d1", "b1").up_to == 1


def test_time_alone_gives_no_hole_up() -> None:
    progress = Progress()
    store(progress, 1, 2, 3)  # then it is cut off; 4 to 1000 wait in its outbox
    store(progress, 1001, now_s=1000.0)  # it is back and tells the newest first, as gateways do; cut off again at once
    store(progress, 1002, now_s=90_000.0)  # back a day later, the newest first
    assert progress.track("d1", "b1").up_to == 3
    store(progress, *range(4, 1001), now_s=90_001.0)
    assert (progress.track("d1", "b1").up_to, progress.track("d1", "b1").lost) == (1002, 0)


def test_a_repeat_of_what_is_not_right_above_the_hole_proves_nothing() -> None:
    progress = Progress()
    store(progress, 1, 4, 6)
    rounds(progress, 6, first_s=30.0, count=10)
    assert progress.track("d1", "b1").up_to == 1


def test_what_is_below_the_first_reading_ever_met_may_have_been_receipted_before_and_is_not_counted_as_lost() -> None:
    progress = Progress()  # a core that has lost its memory, or a worker that took the device over
    store(progress, 1001, 1002)
    assert progress.track("d1", "b1").missing == 0
    rounds(progress, 1001, 1002, first_s=30.0)
    assert (progress.track("d1", "b1").up_to, progress.track("d1", "b1").lost) == (1002, 0)


def test_beyond_many_holes_a_repeat_is_stored_once_more_but_no_receipt_claims_too_much() -> None:
    progress = Progress()
    last = 2 * MAX_RANGES + 100
    store(progress, *range(2, last, 2))
    assert len(progress.track("d1", "b1").above) == MAX_RANGES
    assert not progress.has("d1", "b1", last - 2)
    store(progress, *range(1, last))
    assert progress.track("d1", "b1").up_to == last - 1


def test_a_hole_that_is_being_filled_is_not_given_up_however_long_that_takes() -> None:
    progress = Progress()
    store(progress, 500, now_s=0.0)  # live first, while a long backlog of the same boot drains behind it, oldest first
    for seq in range(1, 300):
        store(progress, seq, now_s=float(seq))
    assert progress.track("d1", "b1").up_to == 299
    assert progress.track("d1", "b1").lost == 0


def test_a_reboot_is_no_hole() -> None:
    progress = Progress()
    store(progress, 1, 2, 3)
    store(progress, 1, boot="b2")
    assert progress.track("d1", "b2").up_to == 1
    assert progress.track("d1", "b1").lost == progress.track("d1", "b2").lost == 0


def test_a_restart_remembers_what_was_stored() -> None:
    progress = Progress()
    stage = progress.stage(0.0)
    for seq in (1, 2, 7):
        stage.add("d1", "b1", seq)
    again = Progress(stage.rows()).stage(0.0)
    assert [seq for seq in range(1, 9) if again.is_new("d1", "b1", seq)] == [3, 4, 5, 6, 8]


def test_boots_that_nobody_sends_any_more_are_forgotten() -> None:
    progress = Progress()
    for number in range(MAX_BOOTS + 1):
        store(progress, 1, boot=f"b{number}")
    assert progress.track("d1", "b0").up_to == 0
    assert progress.track("d1", "b1").up_to == 1


@given(st.lists(st.integers(1, 40), max_size=80))
def test_in_any_order_with_any_duplicates_up_to_is_the_contiguous_prefix(seqs: list[int]) -> None:
    progress = Progress()
    new = 0
    for seq in seqs:
        stage = progress.stage(0.0)
        if stage.is_new("d1", "b1", seq):
            stage.add("d1", "b1", seq)
            new += 1
        progress.apply(stage.changed)
    stored = set(seqs)
    expected = next(n for n in range(42) if n + 1 not in stored)
    assert progress.track("d1", "b1").up_to == expected
    assert new == len(stored)
