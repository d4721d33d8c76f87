"""The audit chain: whatever is done to it is found, named and placed; what is whole is never accused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotcore.registry import audit
from iotcore.registry.audit import Break, Deed, Entry, Head


def chain(count: int, first: Sequence[Entry] = ()) -> list[Entry]:
    made = list(first)
    for seq in range(len(made) + 1, count + 1):
        made.append(
            audit.link(made[-1].hash if made else audit.GENESIS, Deed(seq, seq * 10, "ca", "device.state", f"d{seq}", "{}"))
        )
    return made


def end(entries: Sequence[Entry]) -> Head:
    return Head(entries[-1].deed.seq, entries[-1].hash)


def found(entries: Sequence[Entry], head: Head, *heads: Head) -> list[tuple[int, str]]:
    walk = audit.Walk(heads)
    for entry in entries:
        walk.take(entry)
    return [(one.seq, one.reason) for one in walk.end(head)]


def swapped(entries: Sequence[Entry], one: int, other: int) -> list[Entry]:
    """What two entries say, exchanged between their numbers."""
    rows = list(entries)
    a, b = rows[one - 1], rows[other - 1]
    rows[one - 1] = Entry(b.deed._replace(seq=one), b.hash)
    rows[other - 1] = Entry(a.deed._replace(seq=other), a.hash)
    return rows


def edited(entry: Entry) -> Entry:
    return Entry(entry.deed._replace(by="nobody"), entry.hash)


WHOLE = chain(20)


def test_a_whole_chain_holds_all_its_heads() -> None:
    assert found(WHOLE, end(WHOLE), *(Head(entry.deed.seq, entry.hash) for entry in WHOLE), Head(0, audit.GENESIS)) == []


@given(st.integers(1, 20))
def test_an_edit_is_found_where_it_is_and_nowhere_else(seq: int) -> None:
    rows = list(WHOLE)
    rows[seq - 1] = edited(rows[seq - 1])
    assert found(rows, end(WHOLE)) == [(seq, "edited")]


@given(st.integers(1, 19))
def test_a_deletion_is_found_where_it_is(seq: int) -> None:
    assert found([*WHOLE[: seq - 1], *WHOLE[seq:]], end(WHOLE)) == [(seq, "missing")]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=2, unique=True).map(sorted))
def test_two_entries_that_changed_places_are_found_at_both(pair: list[int]) -> None:
    one, other = pair
    rows = swapped(WHOLE, one, other)
    expected = [(one, "reordered"), (other, "reordered")]
    assert found(rows, end(WHOLE)) == (expected if other < 20 else [*expected, (20, "edited")])


def test_a_move_says_where_what_belongs_there_stands_now() -> None:
    walk = audit.Walk()
    for entry in swapped(WHOLE, 3, 9):
        walk.take(entry)
    assert walk.end(end(WHOLE))[0] == Break(3, "reordered", "what belongs here stands at entry 9")


def test_an_edit_beside_a_move_is_told_apart() -> None:
    rows = swapped(WHOLE, 3, 9)
    rows[5] = edited(rows[5])
    assert found(rows, end(WHOLE)) == [(3, "reordered"), (6, "edited"), (9, "reordered")]


@given(st.integers(0, 19))
def test_a_tail_that_is_gone_is_found_by_the_head_of_the_database(left: int) -> None:
    assert found(WHOLE[:left], end(WHOLE)) == [(left + 1, "truncated")]


@given(st.integers(1, 19))
def test_a_tail_that_is_gone_with_the_head_put_back_is_found_by_an_exported_head_alone(left: int) -> None:
    cut = WHOLE[:left]
    assert found(cut, end(cut)) == []
    assert found(cut, end(cut), end(WHOLE)) == [(left + 1, "truncated")]


@given(st.integers(1, 15))
def test_a_chain_made_anew_from_somewhere_is_found_by_the_first_head_after_it(seq: int) -> None:
    forged = chain(
        20, [*WHOLE[: seq - 1], audit.link(WHOLE[seq - 2].hash if seq > 1 else audit.GENESIS, edited(WHOLE[seq - 1]).deed)]
    )
    assert found(forged, end(forged)) == []
    heads = [Head(at, WHOLE[at - 1].hash) for at in (4, 8, 12, 16, 20)]
    (one,) = found(forged, end(forged), *heads)
    assert one == (next(at for at in (4, 8, 12, 16, 20) if at >= seq), "rewritten")


def test_a_tail_that_is_gone_and_grown_again_is_found() -> None:
    cut = WHOLE[:10]
    grown = [*cut, audit.link(cut[-1].hash, Deed(11, 1, "thief", "device.state", "d1", "{}"))]
    grown = chain(30, grown)
    assert found(grown, end(grown), end(WHOLE)) == [(20, "rewritten")]


def test_a_chain_that_is_broken_everywhere_is_kept_in_bounds_and_says_how_much() -> None:
    rows = [edited(entry) for entry in chain(audit.MAX_SUSPECTS + 300)]
    walk = audit.Walk()
    for entry in rows:
        walk.take(entry)
    breaks = walk.end(end(rows))
    assert len(breaks) == audit.MAX_SUSPECTS + 1
    assert "300 further entries" in str(breaks[-1])


@pytest.mark.parametrize("reason", ["edited", "missing"])
def test_a_break_reads_as_a_sentence(reason: str) -> None:
    assert str(Break(7, reason)) == f"{reason} at entry 7"
