"""The judge of the set test finds what is planted, and nothing where nothing is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.set_check import Report, Sent, Stored, check, twin


def sent(number: int, *, tries: int = 1, receipted: bool = True) -> Sent:
    return Sent(number, f"d{number % 3}", number // 3 + 1, 10.0, tries, 10.5 if receipted else None)


def stored(number: int) -> Stored:
    return Stored(float(number), f"d{number % 3}", number // 3 + 1, float(twin(number)))


def counts(report: Report) -> dict[str, int]:
    kinds = ("ok", "recovered", "lost", "missing", "duplicated", "unexpected")
    return {kind: getattr(report, kind) for kind in kinds if getattr(report, kind)}


HISTORY = [sent(number) for number in range(30)]
POINTS = [stored(number) for number in range(30)]


def test_what_was_receipted_and_is_there_once_is_well() -> None:
    report = check(HISTORY, POINTS)
    assert (report.sent, counts(report), report.wrong()) == (30, {"ok": 30}, [])
    assert report.slowest_receipt_s == 0.5


def test_a_receipted_reading_that_is_not_there_is_lost_and_named() -> None:
    report = check(HISTORY, [point for point in POINTS if point.number != 7])
    assert counts(report) == {"ok": 29, "lost": 1}
    assert report.wrong() == ["1 lost: d1#3"]


def test_a_reading_without_a_receipt_that_is_not_there_is_missing_but_not_lost() -> None:
    report = check([*HISTORY, sent(30, receipted=False)], POINTS)
    assert counts(report) == {"ok": 30, "missing": 1}
    assert report.wrong()


def test_a_reading_that_came_only_when_sent_again_or_whose_receipt_never_came_is_recovered() -> None:
    history = [*HISTORY[:-2], sent(28, tries=3), sent(29, receipted=False)]
    report = check(history, POINTS)
    assert counts(report) == {"ok": 28, "recovered": 2}
    assert not report.wrong()


def test_each_further_copy_is_a_duplicate() -> None:
    report = check(HISTORY, [*POINTS, stored(4), stored(4), stored(5)])
    assert counts(report) == {"ok": 30, "duplicated": 3}
    assert report.wrong()


@pytest.mark.parametrize(
    "phantom",
    [
        stored(99),
        stored(3)._replace(number=None),
        stored(3)._replace(device="d2"),
        stored(3)._replace(seq=77),
        stored(3)._replace(twin=0.0),
        stored(3)._replace(twin=None),
        stored(3)._replace(number=3.5),
    ],
)
def test_what_nobody_sent_so_is_unexpected(phantom: Stored) -> None:
    report = check(HISTORY, [*POINTS, phantom])
    assert counts(report) == {"ok": 30, "unexpected": 1}
    assert report.wrong()


def test_a_reading_whose_content_changed_on_the_way_is_lost_and_the_changed_one_unexpected() -> None:
    points = [point._replace(twin=1.0) if point.number == 8 else point for point in POINTS]
    assert counts(check(HISTORY, points)) == {"ok": 29, "lost": 1, "unexpected": 1}


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 3)), max_size=40))
def test_every_reading_is_exactly_one_of_four_and_no_copy_is_overlooked(fates: list[tuple[bool, int, int]]) -> None:
    history = [sent(number, tries=tries, receipted=receipted) for number, (receipted, tries, _) in enumerate(fates)]
    points = [stored(number) for number, (_, _, copies) in enumerate(fates) for _ in range(copies)]
    report = check(history, points)
    assert report.ok + report.recovered + report.lost + report.missing == report.sent == len(fates)
    assert report.lost == sum(receipted and not copies for receipted, _, copies in fates)
    assert report.duplicated == sum(max(0, copies - 1) for *_, copies in fates)
    assert report.unexpected == 0
