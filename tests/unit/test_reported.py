"""The firmware that devices report, as far as there is a file that says so."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.telemetry import reported


def test_it_is_what_stands_with_their_presence(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE presence (device TEXT, firmware TEXT)")
        connection.execute("INSERT INTO presence VALUES ('sd-1', '2.4.1'), ('sd-2', '')")
    assert reported.firmware(file) == {"sd-1": "2.4.1"}


def test_a_file_that_is_not_there_or_just_made_says_nothing(tmp_path: Path) -> None:
    assert reported.firmware(tmp_path / "telemetry.db") == {}
    sqlite3.connect(tmp_path / "telemetry.db").close()
    assert reported.firmware(tmp_path / "telemetry.db") == {}


def test_garbage_is_said_and_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "telemetry.db"
    file.write_bytes(b"no database at all" * 1_000)
    assert reported.firmware(file) == {}
    assert "cannot be read" in caplog.text
