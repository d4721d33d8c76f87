"""What devices report of themselves: the firmware that stands with their presence in telemetry.db."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from iotcore.journal.database import connect_readonly

log = logging.getLogger(__name__)

FIRMWARE = "SELECT device, firmware FROM presence WHERE firmware <> ''"


def firmware(telemetry: Path) -> dict[str, str]:
    """Device → the firmware that it reported last, of those that ever did; none when there is no such file or table yet.

    A file that is none of ours is said in the log: groups by firmware are empty then, everything else goes on.
    """
    if not telemetry.exists():
        return {}
    try:
        with closing(connect_readonly(telemetry)) as connection:
            return dict(connection.execute(FIRMWARE).fetchall())
    except sqlite3.OperationalError:  # the telemetry worker is just making it
        return {}
    except sqlite3.DatabaseError as error:
        log.error("the firmware of devices cannot be read from %s: %s", telemetry, error)  # noqa: TRY400 - asked again soon
        return {}
