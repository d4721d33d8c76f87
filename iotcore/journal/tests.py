"""What a device in test mode told the fire lane: marked test alarms, which go to nobody, and unmarked ones, which were fires.

A marked one is proof that the road works, with its moments in ms UTC: detector, received, decided, durable, and back, when the
registry has it. An unmarked one opened or joined an incident like any other; it is kept here so that the technician sees it, and
is proof only where the device has no way to mark a test.
"""

from __future__ import annotations

from collections.abc import Iterable

from iotcore.journal.database import Connection
from iotcore.journal.records import Raise, TestAlarm

SCHEMA = """
CREATE TABLE IF NOT EXISTS test_alarm (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    device      TEXT NOT NULL,
    by          TEXT NOT NULL,                -- who began the test mode
    mode_ms     DOUBLE PRECISION NOT NULL,                -- when it began
    incident    TEXT,                         -- NULL: marked as a test; else the incident that the unmarked one opened or joined
    proves      INTEGER NOT NULL,             -- marked as a test, or of a device that cannot mark one
    rule        TEXT NOT NULL,
    point       TEXT NOT NULL,
    detector_ms DOUBLE PRECISION NOT NULL,
    received_ms DOUBLE PRECISION NOT NULL,
    decided_ms  DOUBLE PRECISION NOT NULL,
    durable_ms  DOUBLE PRECISION,
    back_ms     DOUBLE PRECISION                          -- the registry has it as the device's last test
);
CREATE INDEX IF NOT EXISTS test_alarm_by_device ON test_alarm (device, id);
CREATE INDEX IF NOT EXISTS test_alarm_on_the_road ON test_alarm (id) WHERE back_ms IS NULL AND proves = 1;
"""
COLUMNS = "id, device, by, mode_ms, incident, proves, rule, point, detector_ms, received_ms, decided_ms, durable_ms, back_ms"
SHOWN = 20  # of one device: the last presses
AT_ONCE = 100
KEPT = 10_000  # rows: a record has its own copy, the audit every test that counted


def keep(connection: Connection, one: Raise, incident: str | None) -> int:
    """Keep an alarm of a device in test mode, inside the transaction of its decision; its number."""
    assert one.in_test is not None
    notice = one.notice
    row = connection.execute(
        "INSERT INTO test_alarm (device, by, mode_ms, incident, proves, rule, point, detector_ms, received_ms, decided_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (notice.device, one.in_test.by, one.in_test.started_ms, incident, int(one.test or not one.can_mark), notice.rule,
         notice.point, one.detector_ms, one.received_ms, one.decided_ms),
    ).fetchone()  # fmt: skip
    return int(row[0])


def durable(connection: Connection, numbers: Iterable[int], at_ms: float) -> None:
    """Keep the moment at which the commit that holds them had returned."""
    connection.executemany("UPDATE test_alarm SET durable_ms = ? WHERE id = ?", [(at_ms, number) for number in numbers])


def settle(connection: Connection, at_ms: float) -> None:
    """After a restart: whatever is in the file is durable, at the latest since now."""
    connection.execute("UPDATE test_alarm SET durable_ms = ? WHERE durable_ms IS NULL", (at_ms,))


def back(connection: Connection, number: int, at_ms: float) -> None:
    """Keep the moment at which the registry had it."""
    connection.execute("UPDATE test_alarm SET back_ms = ? WHERE id = ?", (at_ms, number))


def on_the_road(connection: Connection) -> list[TestAlarm]:
    """Durable ones that prove something and that the registry does not have yet, oldest first."""
    where = "WHERE back_ms IS NULL AND proves = 1 AND durable_ms IS NOT NULL ORDER BY id LIMIT ?"
    return [TestAlarm(*row) for row in connection.execute(f"SELECT {COLUMNS} FROM test_alarm {where}", (AT_ONCE,))]  # noqa: S608 - constants


def prune(connection: Connection) -> None:
    """Forget the oldest: a babbling device under test must not fill the disk."""
    connection.execute("DELETE FROM test_alarm WHERE id <= (SELECT max(id) FROM test_alarm) - ?", (KEPT,))
