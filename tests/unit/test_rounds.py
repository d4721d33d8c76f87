"""When kept rows are sent again."""

from __future__ import annotations

from drivers.outbox import Row
from drivers.rounds import REFUSED_RETRY_S, Rounds

HERE = "boot1"


def _row(number: int, *, put_s: float = 0.0, boot: str = HERE, device: str = "a") -> Row:
    return Row(number, "air", device, "reading", boot, number, 0.0, put_s, "", b"{}")


def _send(rounds: Rounds, page: list[Row], now_s: float) -> list[int]:
    chosen = rounds.choose(page, now_s)
    for row in chosen:
        rounds.sent(row, now_s)
    return [row.seq for row in chosen]


def test_everything_kept_before_the_connection_is_sent_at_once() -> None:
    rounds = Rounds(HERE, 100.0)
    assert rounds.room(100.0) > 0
    assert _send(rounds, [_row(1, put_s=99.0), _row(2, boot="old", put_s=5000.0)], 100.0) == [1, 2]
    assert rounds.cursor == 2


def test_a_reading_that_just_went_out_live_waits_for_30_seconds() -> None:
    rounds = Rounds(HERE, 100.0)
    live = _row(1, put_s=101.0)
    assert _send(rounds, [live], 102.0) == []
    _send(rounds, [], 102.0)
    assert rounds.room(129.9) == 0
    assert rounds.next_s(129.9) == 130.0
    assert rounds.room(131.0) > 0
    assert _send(rounds, [live], 131.0) == [1]


def test_what_is_out_is_not_sent_twice_within_30_seconds_but_is_after() -> None:
    rounds = Rounds(HERE, 100.0)
    _send(rounds, [_row(1)], 110.0)
    _send(rounds, [], 110.0)
    assert rounds.room(130.0) > 0
    assert _send(rounds, [_row(1)], 130.0) == []
    _send(rounds, [], 130.0)
    assert rounds.room(160.0) > 0
    assert _send(rounds, [_row(1)], 160.0) == [1]


def test_a_full_window_waits_for_receipts() -> None:
    rounds = Rounds(HERE, 100.0, window=2)
    _send(rounds, [_row(1), _row(2)], 100.0)
    assert rounds.room(101.0) == 0
    assert rounds.next_s(101.0) == 130.0
    rounds.receipted("a", "other", 2)
    rounds.receipted("b", HERE, 2)
    assert rounds.room(101.0) == 0
    rounds.receipted("a", HERE, 1)
    assert rounds.room(101.0) == 1


def test_rows_that_are_never_receipted_do_not_hold_up_those_behind_them() -> None:
    rounds = Rounds(HERE, 100.0, window=2)
    _send(rounds, [_row(1), _row(2)], 100.0)
    assert rounds.room(130.0) == 2
    assert _send(rounds, [_row(3), _row(4)], 130.0) == [3, 4]


def test_a_reading_that_nobody_subscribed_to_is_sent_again_soon() -> None:
    rounds = Rounds(HERE, 100.0)
    live = _row(1, put_s=101.0)
    _send(rounds, [], 101.0)
    rounds.refused(live, 101.0)
    assert rounds.room(101.5) == 0
    assert rounds.room(101.0 + REFUSED_RETRY_S) > 0
    assert _send(rounds, [live], 103.0) == [1]


def test_a_broker_without_subscribers_sees_one_window_of_the_backlog_at_a_time() -> None:
    rounds = Rounds(HERE, 100.0, window=2)
    for row in (_row(1), _row(2)):
        _send(rounds, [row], 100.0)
        rounds.refused(row, 100.0)
    assert rounds.room(101.0) == 0
    assert rounds.next_s(101.0) == 100.0 + REFUSED_RETRY_S
    assert rounds.room(102.0) == 2
