"""Schedules: day and night, hours of the week, holidays; in force or not at a moment. Pure.

    {named: night}
    {hours: [{days: [mon, tue, wed, thu, fri], from: "07:00", to: "18:00"}, {days: [holiday], from: "00:00", to: "24:00"}],
     holidays: [2027-01-01, 2027-04-30]}

Hours are those of Vietnam, which has no summer time. On a date of `holidays` only hours of `holiday` count. Hours that end at or
before their beginning end the next day, and belong to the day that they began on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from iotcore.errors import ConfigError, Problem
from iotcore.strict import convert

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
DAYS: tuple[Day, ...] = get_args(Day)
Time = Annotated[str, Meta(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$(?!\n)", description="HH:MM, 00:00 to 24:00")]
MAX_HOURS = 100
MAX_HOLIDAYS = 400
LOOK_AHEAD_DAYS = 15  # a change farther away is looked for again when that time has come
MINUTES_A_DAY = 24 * 60


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From one time of day to another, on some days; without `days` on every one."""

    days: tuple[Day, ...] = DAYS
    from_: Time = msgspec.field(name="from")
    to: Time

    @property
    def span(self) -> tuple[int, int]:
        """Minutes after the day's midnight: the beginning, and the end, which may be the next day's."""
        begin, end = _minutes(self.from_), _minutes(self.to)
        return begin, end if end > begin else end + MINUTES_A_DAY


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When something is in force: a named part of the day, or some hours."""

    named: Literal["", "day", "night"] = ""
    hours: tuple[Hours, ...] = ()
    holidays: tuple[date, ...] = ()

    def active(self, at_ms: float) -> bool:
        """Whether it is in force at a moment, ms UTC."""
        local = datetime.fromtimestamp(at_ms / 1000.0, ZONE)
        minute = local.hour * 60 + local.minute
        today = local.date()
        return self._covers(today, minute) or self._covers(today - timedelta(days=1), minute + MINUTES_A_DAY)

    def next_change_ms(self, at_ms: float) -> float | None:
        """When it begins or ends next, ms UTC; None when it does neither for two weeks."""
        now = self.active(at_ms)
        for moment_ms in sorted(self._edges_ms(at_ms)):
            if moment_ms > at_ms and self.active(moment_ms) is not now:
                return moment_ms
        return None

    def _covers(self, day: date, minute: int) -> bool:
        kind = "holiday" if day in self.holidays else DAYS[day.weekday()]
        return any(kind in one.days and one.span[0] <= minute < one.span[1] for one in self._hours())

    def _edges_ms(self, at_ms: float) -> Iterator[float]:
        today = datetime.fromtimestamp(at_ms / 1000.0, ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
        for ahead in range(-1, LOOK_AHEAD_DAYS):
            for one in self._hours():
                for minute in one.span:
                    yield (today + timedelta(days=ahead, minutes=minute)).timestamp() * 1000.0

    def _hours(self) -> tuple[Hours, ...]:
        return NAMED[self.named] if self.named else self.hours


# 6 to 21 h: how Vietnamese noise limits count the day (QCVN 26:2010/BTNMT, from memory)
NAMED: dict[str, tuple[Hours, ...]] = {
    "day": (Hours(from_="06:00", to="21:00"),),
    "night": (Hours(from_="21:00", to="06:00"),),
}


def check(document: Any, name: str) -> Schedule:
    """A schedule from plain data; `name` stands in the errors.

    Raises:
        ConfigError: with everything that is wrong.
    """
    found = convert(document, Schedule, name)
    if wrong := problems(found, name, ""):
        raise ConfigError(wrong)
    return found


def problems(schedule: Schedule, file: str, path: str) -> list[Problem]:
    """What contradicts itself in a schedule of a larger document, where it stands at `path`."""
    if schedule.named:
        more = bool(schedule.hours or schedule.holidays)
        return [Problem(file, path, f"names {schedule.named!r} and has hours or holidays too")] if more else []
    found = []
    if not schedule.hours:
        found.append(
            Problem(file, _at(path, "hours"), "is empty, and it names neither day nor night: it would never be in force")
        )
    if len(schedule.hours) > MAX_HOURS:
        found.append(Problem(file, _at(path, "hours"), f"has more than {MAX_HOURS} entries"))
    if len(schedule.holidays) > MAX_HOLIDAYS:
        found.append(Problem(file, _at(path, "holidays"), f"has more than {MAX_HOLIDAYS} dates"))
    for i, one in enumerate(schedule.hours):
        where = _at(path, f"hours[{i}]")
        if not one.days:
            found.append(Problem(file, f"{where}.days", "is empty: leave it out for every day"))
        if one.from_ == "24:00":
            found.append(Problem(file, f"{where}.from", 'is the end of a day; write "00:00" of the next one'))
        if one.days == ("holiday",) and not schedule.holidays:
            found.append(Problem(file, f"{where}.days", "means holidays, and there are none"))
    twice = sorted({day.isoformat() for day in schedule.holidays if schedule.holidays.count(day) > 1})
    found += [Problem(file, _at(path, "holidays"), f"names {day} twice") for day in twice]
    return found


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])
