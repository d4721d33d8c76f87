"""Every scenario that a release must pass, on virtual time: the real lane, journal and dispatch, pysiaalarm at the end."""

from __future__ import annotations

import pytest

from tests.timelines.city import play
from tests.timelines.notation import Row, problems, told
from tests.timelines.parts import Variant
from tests.timelines.planted import DEAF_TO_THE_ALTERNATE, DISPATCHES_TWICE, FORGETS_THE_ALARM, MISSES_A_FIRE
from tests.timelines.scenarios import VIRTUAL


@pytest.mark.parametrize("row", VIRTUAL, ids=lambda row: row.id)
def test_what_must_be_seen_is_seen_in_time_and_nothing_twice(row: Row) -> None:
    seen = play(row)
    wrong = problems(row, seen)
    assert not wrong, told(row, seen, wrong)


def row_of(name: str) -> Row:
    return next(row for row in VIRTUAL if row.name == name)


@pytest.mark.parametrize(
    ("bug", "name", "word"),
    [
        (DISPATCHES_TWICE, "one smoke alarm, immediate", "one more than was wanted"),
        (FORGETS_THE_ALARM, "one smoke alarm, immediate", "DC-09 FA at the receiver"),
        (MISSES_A_FIRE, "a call point in the delay", "never seen"),
        (DEAF_TO_THE_ALTERNATE, "the primary path is a black hole", "DC-09 FA at the alternate path: never seen"),
    ],
    ids=["dispatches twice", "forgets to send", "misses a fire", "drops the alternate"],
)
def test_a_lane_with_a_bug_in_it_fails_its_row_which_says_why(bug: Variant, name: str, word: str) -> None:
    row = row_of(name)
    seen = play(row, bug)
    wrong = problems(row, seen)
    assert word in "\n".join(wrong)
    assert str(row.steps[0]) in told(row, seen, wrong)
