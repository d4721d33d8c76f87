"""What devices report of themselves: the firmware that stands with their presence in telemetry.db."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from iotcore.journal.database import connect_readonly

FIRMWARE = "SELECT device, firmware FROM presence WHERE firmware <> ''"


def firmware(telemetry: Path) -> dict[str, str]:
    """Device → the firmware that it reported last, of those that ever did; none when there is no such file or table yet."""
    if not telemetry.exists():
        return {}
    try:
        with closing(connect_readonly(telemetry)) as connection:
            return dict(connection.execute(FIRMWARE).fetchall())
    except sqlite3.OperationalError:  # the telemetry worker is just making it
        return {}
