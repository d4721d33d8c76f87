"""What a real PostgreSQL does to the journal: it goes, it comes back, it is full; a client stalls. Nothing waits for ever."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from iotcore.clock import ManualClock
from iotcore.errors import StartError, StoreError, StoreFull
from iotcore.journal import timers
from iotcore.journal.database import connect_readonly, transaction
from iotcore.journal.journal import Journal
from iotcore.journal.postgres import Bounds, PostgresConnection, made, marked, split
from iotcore.journal.records import Batch
from iotcore.journal.timeline import incidents
from iotcore.settings import Settings, check
from tests.support.fire import notice, raise_
from tests.support.outbox_contract import OutboxContract
from tests.support.ports import free_port
from tests.support.postgres import Postgres
from tests.unit.test_outbox_contract import JournalBench

COMMIT_LIMIT_S = 10.0


@pytest.fixture
def url(postgres_server: Postgres) -> str:
    return postgres_server.url(postgres_server.fresh())


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    with closing(Journal(url, ManualClock(), ["arc"], "fire-1")) as journal:
        yield journal


class TestOutboxOnPostgres(OutboxContract):
    @pytest.fixture
    def bench(self, url: str) -> Iterator[JournalBench]:
        bench = JournalBench(url)
        yield bench
        bench.journal.close()


def test_a_server_that_goes_is_an_error_in_time_and_the_next_turn_finds_it_again() -> None:
    with Postgres() as server:
        place = server.url(server.fresh())
        with closing(Journal(place, ManualClock(), ["arc"], "fire-1")) as journal, closing(connect_readonly(place)) as reader:
            (first,) = journal.commit(Batch(raises=(raise_(),))).opened
            assert [one.incident for one in incidents(reader)] == [first]
            server.pause()
            for _ in range(2):
                began_s = time.monotonic()
                with pytest.raises(StoreError):
                    journal.commit(Batch(raises=(raise_(of=notice("d2", "p2")),)))
                assert time.monotonic() - began_s < COMMIT_LIMIT_S
            with pytest.raises(StoreError):
                incidents(reader)
            server.resume()
            (second,) = journal.commit(Batch(raises=(raise_(of=notice("d2", "p2")),))).opened
            assert {one.incident for one in incidents(reader)} == {first, second}


def test_a_client_that_stalls_within_its_transaction_is_cut_off_and_the_others_go_on(url: str, journal: Journal) -> None:
    with closing(PostgresConnection(url, bounds=Bounds(stalled_ms=200))) as stalled:

        def stall() -> None:
            with transaction(stalled):
                stalled.execute("INSERT INTO presence (device, online, at_ms) VALUES ('d1', 1, 0)")
                assert len(journal.commit(Batch(raises=(raise_(),))).opened) == 1  # waits until the other is cut off
                stalled.execute("SELECT 1")

        with pytest.raises(StoreError):
            stall()
        assert stalled.execute("SELECT count(*) FROM presence").fetchone() == (0,)


def test_nobody_waits_longer_than_agreed_for_another_that_writes(url: str, journal: Journal) -> None:
    other = PostgresConnection(url, bounds=Bounds(wait_ms=200))
    with closing(other), journal.writing(), pytest.raises(StoreError, match="lock"), transaction(other):
        pytest.fail("two wrote at once")


def test_a_query_has_a_limit(url: str) -> None:
    with (
        closing(PostgresConnection(url, bounds=Bounds(statement_ms=100))) as connection,
        pytest.raises(StoreError, match="timeout"),
    ):
        connection.execute("SELECT pg_sleep(10)")


def test_a_full_disk_of_the_server_is_told_as_one(journal: Journal) -> None:
    with pytest.raises(StoreFull), journal.writing() as connection:
        connection.execute("DO 'BEGIN RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''disk_full''; END'")
    assert len(journal.commit(Batch(raises=(raise_(),))).opened) == 1


def test_what_fails_within_a_transaction_leaves_nothing_behind(journal: Journal) -> None:
    def half() -> None:
        with journal.writing() as connection:
            connection.execute("INSERT INTO presence (device, online, at_ms) VALUES ('d1', 1, 0)")
            connection.execute("SELECT nothing FROM nowhere")

    with pytest.raises(StoreError, match="nowhere"):
        half()
    assert journal.connection.execute("SELECT count(*) FROM presence").fetchone() == (0,)


def test_a_reader_cannot_write(url: str, journal: Journal) -> None:
    journal.commit(Batch(raises=(raise_(),)))
    with closing(connect_readonly(url)) as reader, pytest.raises(StoreError, match="read-only"):
        reader.execute("DELETE FROM outbox")


def test_a_server_that_is_not_there_and_a_journal_of_a_newer_version_are_refused_at_the_start(url: str, journal: Journal) -> None:
    with pytest.raises(StartError, match="cannot be opened"):
        Journal(f"postgres://nobody@127.0.0.1:{free_port()}/city", ManualClock(), [])
    journal.connection.execute("INSERT INTO version (number) VALUES (999)")
    with pytest.raises(StartError, match="newer"):
        Journal(url, ManualClock(), [])


def test_commits_are_durable_when_they_return(journal: Journal) -> None:
    assert journal.connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_schema_of_another_name_is_another_journal(url: str, journal: Journal) -> None:
    journal.commit(Batch(raises=(raise_(),)))
    with closing(Journal(f"{url}?schema=district_1", ManualClock(), ["arc"])) as other:
        assert other.connection.execute("SELECT count(*) FROM incident").fetchone() == (0,)
    with pytest.raises(StartError, match="schema"):
        Journal(f"{url}?schema=a;b", ManualClock(), [])


def test_timers_go_by_the_clock_of_the_server(url: str, journal: Journal) -> None:
    with closing(psycopg.connect(split(url)[0])) as session:
        before_ms = session.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000.0").fetchone()
    assert before_ms is not None
    timers.set(journal.connection, timers.Now("machine-1", 5.0, 1.0), "hold_t1", "F-1", 30.0)
    machine, wall_ms = journal.connection.execute("SELECT machine, wall_ms FROM timer").fetchone()
    assert machine == ""
    assert 30_000.0 <= wall_ms - float(before_ms[0]) < 40_000.0


def test_marks_and_words_are_translated_and_texts_are_not() -> None:
    assert (
        marked("SELECT '?%:x', a FROM t WHERE a = ? AND b % 2 = :mod")
        == b"SELECT '?%%:x', a FROM t WHERE a = %s AND b %% 2 = %(mod)s"
    )
    assert made("CREATE TABLE IF NOT EXISTS x (id INTEGER PRIMARY KEY AUTOINCREMENT, b BLOB) WITHOUT ROWID;") == (
        "CREATE TABLE IF NOT EXISTS x (id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, b BYTEA);"
    )


def test_the_settings_take_a_postgres_url_and_keep_it_out_of_what_is_logged(tmp_path: Path) -> None:
    url = "postgres://iotcore:geheim@127.0.0.1/city"
    settings = check({"data": str(tmp_path), "journal": {"url": url}}, "test")
    assert settings.journal_place == url
    assert "geheim" not in repr(settings)
    assert Settings(data=str(tmp_path)).journal_place == tmp_path / "journal.db"


def test_a_transaction_whose_session_is_cut_never_goes_on_in_another_one(url: str, journal: Journal) -> None:
    def deaf() -> None:
        with journal.writing() as connection:
            pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
            with closing(psycopg.connect(split(url)[0], autocommit=True)) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            for _ in range(3):  # somebody who does not care for errors
                with contextlib.suppress(StoreError):
                    connection.execute("INSERT INTO presence (device, online, at_ms) VALUES ('d1', 1, 0)")

    with pytest.raises(StoreError):
        deaf()
    assert journal.connection.execute("SELECT count(*) FROM presence").fetchone() == (0,)
