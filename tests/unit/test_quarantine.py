"""The quarantine is bounded three ways, one culprit cannot fill it for others, and its counts never forget."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.journal import quarantine
from iotcore.journal.quarantine import MAX_BYTES, MAX_ROWS, MAX_ROWS_OF_ONE, ROWS_A_MINUTE, Wanted
from iotcore.wire.arrival import Refusal
from tests.support.fire import NOON_MS

MINUTE_MS = 60_000.0
FIRST_VERSION = """
CREATE TABLE quarantine (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms REAL NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    topic TEXT NOT NULL, device TEXT NOT NULL, payload BLOB NOT NULL, size INTEGER NOT NULL);
INSERT INTO quarantine (at_ms, reason, detail, topic, device, payload, size) VALUES (1, 'schema', '', 't', 'a', x'7b', 1);
"""


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        quarantine.prepare(connection)
        yield connection


def refusal(device: str = "a", reason: str = "not_json", payload: bytes = b"{", publisher: str = "") -> Refusal:
    return Refusal(
        reason,
        "Expecting value: line 1 column 2 (char 1)",
        f"iot/v1/air/{publisher or device}/up/reading/{device}",
        device,
        payload,
    )


def rows(file: sqlite3.Connection, where: str = "1") -> int:
    return int(file.execute(f"SELECT count(*) FROM quarantine WHERE {where}").fetchone()[0])


def test_a_thousand_messages_that_cannot_be_read_leave_everybody_elses_rows_where_they_are(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [refusal(f"d{n}") for n in range(50)], NOON_MS)
    for n in range(10):
        quarantine.keep(file, [refusal("babbler")] * 100, NOON_MS + n * 1000.0)
    assert rows(file, "device <> 'babbler'") == 50
    assert rows(file, "device = 'babbler' AND more = 0") == ROWS_A_MINUTE
    assert file.execute("SELECT reason, more, payload FROM quarantine WHERE more > 0").fetchall() == [("not_json", 980, b"")]
    assert file.execute("SELECT count FROM quarantine_count").fetchone() == (1_050,)


def test_after_a_minute_it_may_be_looked_at_again(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [refusal()] * 100, NOON_MS)
    quarantine.keep(file, [refusal()] * 100, NOON_MS + MINUTE_MS + 1.0)
    assert rows(file, "more = 0") == 2 * ROWS_A_MINUTE
    assert file.execute("SELECT more FROM quarantine WHERE more > 0").fetchall() == [(200 - 2 * ROWS_A_MINUTE,)]


def test_each_reason_is_summed_up_apart(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [refusal()] * 30 + [refusal(reason="schema")] * 5, NOON_MS)
    assert dict(file.execute("SELECT reason, more FROM quarantine WHERE more > 0").fetchall()) == {"not_json": 10, "schema": 5}


def test_one_that_babbles_for_days_keeps_only_its_newest_rows(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [refusal("quiet")], NOON_MS)
    for minute in range(2 * MAX_ROWS_OF_ONE // ROWS_A_MINUTE):
        quarantine.keep(file, [refusal("babbler")] * ROWS_A_MINUTE, NOON_MS + minute * (MINUTE_MS + 1.0))
    assert rows(file, "device = 'babbler'") == MAX_ROWS_OF_ONE
    assert rows(file, "device = 'quiet'") == 1


def test_invented_names_count_for_the_certificate_that_published_them(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [refusal(f"x{n}", "unknown_device", publisher="gw-1") for n in range(100)], NOON_MS)
    assert rows(file, "more = 0") == ROWS_A_MINUTE


def test_lines_that_the_store_refused_are_never_only_counted(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [Refusal("store_rejected", "", "", "", b"a v=1 1")] * 700, NOON_MS)
    assert rows(file) == 700


def test_a_whole_legal_payload_is_kept_and_their_sum_is_bounded(file: sqlite3.Connection) -> None:
    payload = b"x" * quarantine.MAX_PAYLOAD_BYTES
    for n in range(MAX_BYTES // len(payload) + 10):
        quarantine.keep(file, [refusal(f"d{n}", payload=payload)], NOON_MS)
    kept = quarantine.found(file, Wanted(), 10_000)
    assert sum(len(row.payload) for row in kept) == MAX_BYTES
    assert kept[0].device == "d10"
    assert not kept[0].truncated


def test_all_rows_are_bounded_at_the_cost_of_the_oldest(file: sqlite3.Connection) -> None:
    for n in range(MAX_ROWS // 10 + 1):
        quarantine.keep(file, [refusal(f"d{n}-{i}") for i in range(10)], NOON_MS)
    assert rows(file) == MAX_ROWS
    assert rows(file, "device LIKE 'd0-%'") == 0


def test_what_was_cut_counted_or_retained_says_why_it_cannot_be_tried_again(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [Refusal("oversized", "", "t", "a", b"[", 1_000_000), refusal("b", "retained")], NOON_MS)
    quarantine.keep(file, [refusal("c")] * 21, NOON_MS)
    unfit = {row.device: row.unfit for row in quarantine.found(file, Wanted(), 100)}
    assert unfit == {
        "a": "only 1 of its 1000000 bytes were kept",
        "b": "a retained message is of an age that nobody knows",
        "c": "it stands for 1 messages that were only counted",
    }


def test_rows_are_chosen_by_number_device_reason_and_age_and_drop_leaves_the_counts(file: sqlite3.Connection) -> None:
    quarantine.keep(file, [refusal("a"), refusal("b"), refusal("a", "schema")], NOON_MS)
    quarantine.keep(file, [refusal("a")], NOON_MS + 1000.0)

    def chosen(**how: object) -> list[int]:
        return [row.id for row in quarantine.found(file, Wanted(**how), 10)]  # type: ignore[arg-type]

    assert chosen() == [1, 2, 3, 4]
    assert chosen(ids=(2, 3)) == [2, 3]
    assert chosen(device="a") == [1, 3, 4]
    assert chosen(device="a", reason="not_json") == [1, 4]
    assert chosen(since_ms=NOON_MS + 1.0) == [4]
    assert chosen(up_to=2) == [1, 2]
    assert quarantine.drop_wanted(file, Wanted(device="a", up_to=3)) == 2
    assert chosen() == [2, 4]
    assert dict(file.execute("SELECT reason, count FROM quarantine_count").fetchall()) == {"not_json": 3, "schema": 1}


def test_a_file_of_the_first_version_is_completed(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as file:
        file.executescript(FIRST_VERSION)
        quarantine.prepare(file)
        quarantine.prepare(file)
        quarantine.keep(file, [refusal()], NOON_MS)
        assert [row.payload for row in quarantine.found(file, Wanted(), 10)] == [b"{", b"{"]
        assert file.execute("SELECT rows, bytes FROM quarantine_kept").fetchone() == (2, 2)
