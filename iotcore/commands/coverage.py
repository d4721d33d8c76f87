"""`iotcore coverage`: the share of covered key sites by area, what is missing, and its history, as a table, JSON or CSV."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple

from iotcore.app import common, coverage_history
from iotcore.clock import Clock
from iotcore.commands import office
from iotcore.commands.moments import moment_ms
from iotcore.commands.near import near
from iotcore.errors import StartError
from iotcore.registry import coverage_report as report
from iotcore.registry.coverage import EVERYWHERE, REASONS, assess
from iotcore.registry.coverage_days import TREND_DAYS, CoverageDays, Trend, trend
from iotcore.settings import Settings

Form = Literal["table", "json", "csv"]
BAR_SIGNS = 20
NO_TREND = "no trend: the history is shorter than two weeks"


class Asked(NamedTuple):
    """What to show: figures of areas, the sites that are `missing`, or the days from `start` to `end`."""

    area: str = EVERYWHERE
    missing: bool = False
    history: bool = False
    start: str = "-90d"
    end: str = "now"
    form: Form = "table"


async def run(settings: Settings, clock: Clock, asked: Asked) -> str:
    """The answer as text.

    Raises:
        StartError: there is no such area.
    """
    async with office.opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
        if asked.area and asked.area not in directory.areas:
            raise StartError(f"There is no area {asked.area}", near(asked.area, directory.areas))
        days = CoverageDays(registry.database)
        if asked.history:
            return await _history(days, clock, asked)
        today = coverage_history.day_of(clock.wall_ms())
        known = await days.between(today - timedelta(days=TREND_DAYS), today, [asked.area])
    signs = await asyncio.to_thread(coverage_history.signs_now, settings)
    found = assess(directory, signs, clock.wall_ms(), settings.coverage.tested_within_days)
    missing = report.missing(found, directory, asked.area)
    if asked.missing:
        return _missing(missing, asked.form)
    line = trend(known, date(settings.coverage.goal_year, 12, 31))
    weak = report.weakly_supervised(found, directory, asked.area)
    return _areas(report.areas(found, directory, asked.area), missing, weak, line, asked.form)


async def _history(days: CoverageDays, clock: Clock, asked: Asked) -> str:
    now_ms = clock.wall_ms()
    start = coverage_history.day_of(moment_ms(asked.start, now_ms, "--from"))
    end = coverage_history.day_of(moment_ms(asked.end, now_ms, "--to"))
    if start > end:
        raise StartError(f"--from {asked.start} is after --to {asked.end}", "Give the earlier day first; both days are shown.")
    rows = report.days(await days.between(start, end, [asked.area]))
    if asked.form == "json":
        return _json(rows)
    if asked.form == "csv":
        return report.as_csv(report.DAY_COLUMNS, rows)
    lines = [f"{row['day']}  {_numbers(row)}" for row in rows]
    return "\n".join(lines or [f"nothing was kept from {start} to {end}; the keeper keeps a row a day"]) + "\n"


def _areas(rows: list[report.Row], missing: list[report.Row], weak: list[str], line: Trend | None, form: Form) -> str:
    if form == "json":
        return _json({"areas": rows, "missing": _counts(missing), "weakly_supervised": weak, "trend": report.trend(line)})
    if form == "csv":
        return report.as_csv(report.AREA_COLUMNS, rows)
    names = ["  " * row["depth"] + _name(row) for row in rows]
    width = max(len(name) for name in names)
    lines = [f"{name:<{width}}  {_numbers(row)}" for name, row in zip(names, rows, strict=True)]
    lines += [f"missing: {reason} at {count} key sites" for reason, count in _counts(missing).items() if count]
    if weak:
        more = f" and {len(weak) - 1} more" if len(weak) > 1 else ""
        lines.append(f"weakly supervised (noticed after more than 300 s): {weak[0]}{more}")
    return "\n".join([*lines, _said(line)]) + "\n"


def _missing(rows: list[report.Row], form: Form) -> str:
    if form == "json":
        return _json(rows)
    if form == "csv":
        return report.as_csv(report.MISSING_COLUMNS, report.missing_flat(rows))
    lines = []
    for row in rows:
        lacks = "; ".join(_lack(one) for one in row["lacks"])
        lines.append(f"{row['premises']}  {row['name']}, {row['address']}: {lacks}")
    return "\n".join(lines or ["every key site is covered"]) + "\n"


def _lack(one: report.Row) -> str:
    if not one["devices"]:
        return str(one["reason"])
    since = f" since {one['since']}" if one["since"] else ""
    return f"{one['reason']}{since}: {one['example']}" + (f" and {one['devices'] - 1} more" if one["devices"] > 1 else "")


def _counts(missing: Iterable[report.Row]) -> dict[str, int]:
    """At how many sites each reason stands; a site may have several."""
    told = [lack["reason"] for row in missing for lack in row["lacks"]]
    return {reason: told.count(reason) for reason in REASONS}


def _name(row: report.Row) -> str:
    named = {"whole": "all key sites", "none": "without an area"}
    return named.get(row["kind"]) or f"{row['name']} ({row['area']})"


def _numbers(row: report.Row) -> str:
    percent = row["percent"]
    if percent is None:
        return "no key site"
    bar = "#" * round(percent / 100 * BAR_SIGNS)
    return f"{percent:5.1f} %  [{bar:<{BAR_SIGNS}}]  {row['covered']} of {row['key_sites']} covered, {row['watched']} watched"


def _said(line: Trend | None) -> str:
    if line is None:
        return NO_TREND
    arrives = f"100 % on {line.reaches}" if line.reaches is not None else "never 100 %"
    course = "on course" if line.on_course else f"needs {line.needed_per_year:.1f} points a year"
    return f"trend: {line.per_year:+.1f} points a year, {arrives}; goal {line.goal}: {course}"


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
