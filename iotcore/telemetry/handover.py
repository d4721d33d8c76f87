"""Handover: a domain has moved from one worker to another, and what is stored of its devices with it.

Without it, the new owner would take everything that is sent again for new (harmless: its lines are the same), and would wait for
readings that the former owner has receipted long ago before it receipted anything (`progress`: a hole). So at each start a worker
looks into the spools beside its own for tracks of its own devices, and takes over what they know more.

The former owner has stopped by then, or does not own the domain any more and receipts none of it: nothing is missed that its
sender would not send again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

from iotcore import disk
from iotcore.errors import StoreFull
from iotcore.journal.database import connect_readonly, perhaps_full
from iotcore.journal.progress import Row

PATTERN = "spool-*.db"
log = logging.getLogger(__name__)


def known_elsewhere(own: Path, devices: Collection[str]) -> list[Row]:
    """What the other spools in the folder of `own` know of these devices; a file that cannot be read is passed over.

    Raises:
        StoreFull: the disk has no room for what SQLite keeps beside one that is read.
    """
    found: list[Row] = []
    for path in sorted(own.parent.glob(PATTERN)):
        if path.name == own.name:
            continue
        try:
            with closing(connect_readonly(path)) as connection:
                rows = connection.execute("SELECT device, boot, up_to, above, lost FROM progress ORDER BY rowid")
                found += [Row(*row) for row in rows if row["device"] in devices]
        except sqlite3.Error as error:
            if perhaps_full(error) and disk.short_of_room(path):
                raise StoreFull(f"{path} cannot be opened: no room on the disk ({error})") from error
            log.warning("%s cannot be read (%s): what it knows of devices that moved here is not taken over", path, error)
    return found


def more(own: Iterable[Row], others: Iterable[Row]) -> list[Row]:
    """The tracks of `others` that know more than `own`, each joined with it; pure."""
    known = {(row.device, row.boot): row for row in own}
    changed: dict[tuple[str, str], Row] = {}
    for row in others:
        key = (row.device, row.boot)
        before = known.get(key)
        joined = row if before is None else _joined(before, row)
        if joined != before:
            known[key] = changed[key] = joined
    return list(changed.values())


def _joined(one: Row, other: Row) -> Row:
    """Whatever either has stored."""
    up_to = max(one.up_to, other.up_to)
    above = {*json.loads(one.above), *json.loads(other.above)}
    while up_to + 1 in above:
        up_to += 1
    rest = sorted(seq for seq in above if seq > up_to)
    return Row(one.device, one.boot, up_to, json.dumps(rest), max(one.lost, other.lost))
