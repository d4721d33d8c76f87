"""Times as people write them on a command line, and as they read them: `now`, `-2h`, `today`, `2026-11-22 09:30`, 15m.

A time without a zone is one of the city's own clock; a program reads UTC. Pure: the present is handed over.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from iotcore.errors import StartError

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
MS_PER_S = 1000.0
UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
DURATION = re.compile(r"(\d{1,7})([smhdw])\Z", re.ASCII)
LAST_MS = (2**63 - 1) // 1_000_000  # the year 2262: beyond it nanoseconds do not fit 64 bits
MAX_EVERY_S = 366 * 86_400
DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}
WAYS = "an ISO time (2026-11-22T09:30, with or without a zone), now, today, yesterday, or how long ago: -30m, -2h, -7d"


def moment_ms(text: str, now_ms: float, what: str) -> float:
    """The time that `text` names, ms UTC; `what` is the option that it stands in.

    Raises:
        StartError: when it names none.
    """
    word = text.strip()
    now = datetime.fromtimestamp(now_ms / MS_PER_S, ZONE)
    if word == "now":
        return now_ms
    if word in DAYS:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=DAYS[word])
        return midnight.timestamp() * MS_PER_S
    if word.startswith("-") and (found := DURATION.match(word[1:])):
        return now_ms - int(found[1]) * UNIT_S[found[2]] * MS_PER_S
    try:
        at = datetime.fromisoformat(word)
        at_ms = (at if at.tzinfo else at.replace(tzinfo=ZONE)).timestamp() * MS_PER_S
    except (ValueError, OverflowError) as error:
        raise StartError(f"{what} {text!r} is no time", f"Write {WAYS}.") from error
    if not 0.0 <= at_ms <= LAST_MS:
        raise StartError(f"{what} {text!r} is no time of a reading", "They lie between 1970 and 2262.")
    return at_ms


def span_ms(start: str, end: str, now_ms: float) -> tuple[float, float]:
    """`--from` and `--to`, the end not included.

    Raises:
        StartError: when one is no time, or they hold nothing between them.
    """
    found = moment_ms(start, now_ms, "--from"), moment_ms(end, now_ms, "--to")
    if found[0] >= found[1]:
        raise StartError(f"--from {start} is not before --to {end}", "Give the earlier time first; --to is now unless said.")
    return found


def every_ms(text: str) -> int:
    """The length of an interval: a number and s, m, h, d or w.

    Raises:
        StartError: when it is none, or longer than a year.
    """
    found = DURATION.match(text.strip())
    seconds = int(found[1]) * UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= MAX_EVERY_S:
        raise StartError(f"--every {text!r} is no interval", "Write a number and s, m, h, d or w: 1m, 15m, 1h, 1d.")
    return seconds * int(MS_PER_S)


def utc(at_ms: float) -> str:
    """ISO 8601 in UTC with milliseconds, for programs."""
    whole = datetime.fromtimestamp(at_ms // MS_PER_S, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{int(at_ms % MS_PER_S):03d}Z"


def local(at_ms: float) -> str:
    """Date and time of the city's clock with milliseconds, for people."""
    whole = datetime.fromtimestamp(at_ms // MS_PER_S, ZONE)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{int(at_ms % MS_PER_S):03d}"
