"""When a premises is drilled: by day, each at its own minute of the day, so that a city's drills are spread. Pure.

    last passed + every_days ─► that day, 08:00 + a share of the nine hours by the premises' name ─► due
    a run that did not pass  ─► an hour later while it is day, else the next morning at its own minute

Hours are those of Vietnam, which has no summer time.
"""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta

from iotcore.schedule import ZONE

FIRST_HOUR, LAST_HOUR = 8, 17  # somebody is at work who can mend what a drill finds, on both ends
WINDOW_S = (LAST_HOUR - FIRST_HOUR) * 3600.0
RETRY_S = 3600.0
MS_PER_S = 1000.0


def is_day(at_ms: float) -> bool:
    """Whether drills may begin at this moment, ms UTC."""
    return FIRST_HOUR <= _local(at_ms).hour < LAST_HOUR


def due_ms(premises: str, passed_ms: float | None, every_days: int, now_ms: float) -> float:
    """When the next drill of a premises is due, ms UTC: never in the past; of one that never passed, at its next minute."""
    if passed_ms is None:
        return slot_ms(premises, now_ms)
    passed = _local(min(passed_ms, now_ms)).replace(hour=0, minute=0, second=0, microsecond=0)
    day_ms = (passed + timedelta(days=every_days)).timestamp() * MS_PER_S
    return slot_ms(premises, max(day_ms, now_ms))


def slot_ms(premises: str, after_ms: float) -> float:
    """The first minute of this premises at or after a moment, ms UTC."""
    begin = _local(after_ms).replace(hour=FIRST_HOUR, minute=0, second=0, microsecond=0)
    at = begin + timedelta(seconds=WINDOW_S * (zlib.crc32(premises.encode()) / 2**32))
    found_ms = at.timestamp() * MS_PER_S
    return found_ms if found_ms >= after_ms else (at + timedelta(days=1)).timestamp() * MS_PER_S


def again_ms(premises: str, now_ms: float, *, missed: bool) -> float:
    """When it is tried again after a run that did not pass: of one that is `missed` and in trouble already, once a day."""
    later_ms = now_ms + RETRY_S * MS_PER_S
    return later_ms if not missed and is_day(later_ms) else slot_ms(premises, later_ms)


def _local(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / MS_PER_S, ZONE)
