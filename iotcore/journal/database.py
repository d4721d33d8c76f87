"""Opening SQLite the one way this platform does: WAL, synchronous FULL, busy timeout, explicit transactions.

The journal may be on PostgreSQL instead: its place is then a URL, and `postgres.py` makes the connection.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from iotcore import disk
from iotcore.errors import StartError, StoreError, StoreFull

if TYPE_CHECKING:
    from iotcore.journal.postgres import PostgresConnection

BUSY_TIMEOUT_S = 5.0
BUSY_RETRY_S = 0.01
Place = Path | str  # a file, or the URL of a PostgreSQL database
UNREADABLE = (sqlite3.Error, StoreError)  # what a reader's query may raise; it opens again and goes on


class Cursor(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """Rows that it changed."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """An open journal: SQLite's own connection, or PostgreSQL's in the same manner (`postgres.py`). Marks are `?` or `:name`."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)


def dialect(connection: Connection) -> str:
    """Which database it is: sqlite | postgres."""
    return str(getattr(connection, "dialect", "sqlite"))


def is_there(place: Place) -> bool:
    """Whether there may be a database at a place: a file that exists, or any URL."""
    return isinstance(place, str) or place.exists()


def server_ms(connection: Connection) -> float | None:
    """The wall clock of the server, which all replicas share; None for a file, where the caller's own clock counts."""
    if dialect(connection) == "sqlite":
        return None
    row = connection.execute("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000.0 AS DOUBLE PRECISION)").fetchone()
    return float(row[0])


def connect(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """A writing connection in autocommit mode, once `prepare` has made its tables; begin with `transaction`.

    Raises:
        StoreFull: the disk has no room for it; the same call succeeds once there is some.
        StartError: the file cannot be made or is not a database.
    """
    try:
        try:
            return _opened(path, prepare)
        except sqlite3.OperationalError as error:
            if perhaps_full(error) and not disk.short_of_room(path):
                return _opened(path, prepare)  # room came in between, or it is something else
            raise
    except sqlite3.Error as error:
        if perhaps_full(error) and (_says_full(error) or disk.short_of_room(path)):
            raise StoreFull(f"{path} cannot be opened: no room on the disk ({error})") from error
        raise StartError(f"{path} cannot be opened as a database: {error}", "Check the folder's permissions and disk.") from error


def _opened(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _says_full(error: sqlite3.Error) -> bool:
    """Whether SQLite itself says so: it wanted more than the little that `disk` asks for."""
    return getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


def perhaps_full(error: sqlite3.Error) -> bool:
    """Whether that may come of a full disk; the disk knows."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN"))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL. SQLite does not wait for this lock, and two telemetry workers may make one file at once."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() >= deadline_s:
                raise
            time.sleep(BUSY_RETRY_S)
        else:
            return


@overload
def connect_readonly(place: Path) -> sqlite3.Connection: ...


@overload
def connect_readonly(place: Place) -> Connection: ...


def connect_readonly(place: Place) -> Connection:
    """A reading connection that never waits for the writer and can never write; rows know their columns' names.

    Raises:
        sqlite3.Error, StoreError: it cannot be opened now (`UNREADABLE`); a server may also say so with the first query.
    """
    if isinstance(place, str):
        from iotcore.journal.postgres import PostgresConnection  # noqa: PLC0415 - only who is on it pays for its library

        return PostgresConnection(place, readonly=True)
    uri = f"{place.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def transaction(connection: C) -> Iterator[C]:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on any error; on PostgreSQL the same, in its turn.

    Raises:
        StoreFull: the disk is full.
        StoreError: anything else that kept the commit from being durable.
    """
    if dialect(connection) != "sqlite":
        with cast("PostgresConnection", connection).transaction():
            yield connection
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except sqlite3.Error as error:
        if error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise StoreFull(f"cannot write: {error}; free disk space and it goes on by itself") from error
        raise StoreError(f"cannot commit: {error}") from error


@contextmanager
def snapshot(connection: C) -> Iterator[C]:
    """Several questions to a reader's connection answered as of one moment; whatever is committed meanwhile is not seen."""
    connection.execute("BEGIN" if dialect(connection) == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        yield connection
    finally:
        connection.execute("ROLLBACK")
