"""Coverage of key sites: a page, and the same as JSON for programs and CSV for spreadsheets.

    /coverage                       the figures by area, where the history leads, and what is missing
    /coverage/areas.csv  …/missing.csv  …/history.csv
    /api/v1/coverage  …/missing  …/history

All take `area`; the history takes `from` and `to`, days such as 2026-11-26. Judging a large city takes a part of a second, so all
who ask within `FRESH_S` get the same look. What is wrong is told as a problem document (RFC 9457).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from quart import Quart, Response, request

from iotcore.clock import Clock
from iotcore.errors import StoreError
from iotcore.registry import coverage_report as report
from iotcore.registry.coverage import EVERYWHERE, REASONS, TESTED_WITHIN_DAYS, Coverage, Signs, assess, within
from iotcore.registry.coverage_days import TREND_DAYS, Day, joined, trend
from iotcore.registry.directory import Directory
from iotcore.registry.rights import Right
from iotcore.telemetry.query import Interval
from iotcore.web import chart
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.history import BAD_REQUEST, NOT_FOUND, UNAVAILABLE, answer
from iotcore.web.problem import problem
from iotcore.web.screen import Screen
from iotcore.web.words import ZONE

FRESH_S = 10.0
SITES_SHOWN = 200  # missing sites on the page; the CSV has all
HISTORY_DAYS = 90  # unless `from` says otherwise
DAY_MS = 86_400_000


class Days(Protocol):
    """What is asked of the registry's history (`registry.coverage_days.CoverageDays`)."""

    async def between(self, start: date, end: date, areas: Sequence[str]) -> list[Day]:
        """The days from `start` to `end`, both included, oldest first."""


@dataclass(slots=True)
class CoveragePages:
    """`directory` and `signs` are asked anew for each look (`signs` reads files, on a thread)."""

    directory: Callable[[], Directory]
    signs: Callable[[], Signs]
    days: Days
    clock: Clock
    tested_within_days: float = TESTED_WITHIN_DAYS
    goal_year: int = 2030
    _looked: tuple[float, Coverage, Directory] | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes: whoever sees anything sees of it what stands in their areas."""

        async def page() -> Response:
            return await self._told(lambda look: self._page(look, screen))

        door.route(app, "/coverage", page, right=Right.SEE, of=Scope.FILTERED)
        for name, make in (("areas", self._areas), ("missing", self._missing), ("history", self._history)):
            table, path = f"/coverage/{name}.csv", "/api/v1/coverage" if name == "areas" else f"/api/v1/coverage/{name}"
            door.route(app, table, self._route(make, as_csv=True), right=Right.SEE, of=Scope.FILTERED)
            door.route(app, path, self._route(make, as_csv=False), right=Right.SEE, of=Scope.FILTERED)

    def _route(self, make: Callable[[_Look], Any], *, as_csv: bool) -> Callable[[], Any]:
        async def route() -> Response:
            async def told(look: _Look) -> Response:
                name, columns, rows, document = await make(look)
                if not as_csv:
                    return answer(document)
                headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
                return Response(report.as_csv(columns, rows), headers=headers, content_type="text/csv; charset=utf-8")

            return await self._told(told)

        return route

    async def _told(self, tell: Callable[[_Look], Any]) -> Response:
        """Look, and tell of it, or of what is wrong."""
        area = request.args.get("area", EVERYWHERE)
        try:
            coverage, directory = await self._look()
            tops = [EVERYWHERE]
            visitor = visiting()
            if not visitor.may(Right.SEE):
                seen = {one for one in directory.areas if visitor.may(Right.SEE, tuple(directory.upwards(one)))}
                coverage = within(coverage, directory, seen)
                tops = [one for one in seen if directory.areas[one].parent not in seen]
            if area not in coverage.figures:
                return problem(NOT_FOUND, "unknown_area", "no such area is registered, or you may not see it")
            response: Response = await tell(_Look(coverage, directory, area, [area] if area else tops))
        except ValueError as error:
            return problem(BAD_REQUEST, "bad_parameter", str(error))
        except (StoreError, sqlite3.Error) as error:
            return problem(UNAVAILABLE, "unreadable", f"who is there cannot be read now: {error}")
        return response

    async def _look(self) -> tuple[Coverage, Directory]:
        async with self._looking:
            if self._looked is None or self.clock.monotonic_s() - self._looked[0] >= FRESH_S:
                directory = self.directory()
                signs = await asyncio.to_thread(self.signs)
                found = await asyncio.to_thread(assess, directory, signs, self.clock.wall_ms(), self.tested_within_days)
                self._looked = (self.clock.monotonic_s(), found, directory)
            return self._looked[1], self._looked[2]

    async def _areas(self, look: _Look) -> tuple[str, Sequence[str], list[report.Row], Any]:
        rows = report.areas(look.coverage, look.directory, look.area)
        line = trend(await self._year(look), date(self.goal_year, 12, 31))
        return (
            "areas",
            report.AREA_COLUMNS,
            rows,
            {
                "at_ms": look.coverage.at_ms,
                "areas": rows,
                "weakly_supervised": report.weakly_supervised(look.coverage, look.directory, look.area),
                "trend": report.trend(line),
            },
        )

    async def _missing(self, look: _Look) -> tuple[str, Sequence[str], list[report.Row], Any]:
        rows = report.missing(look.coverage, look.directory, look.area)
        return "missing", report.MISSING_COLUMNS, report.missing_flat(rows), {"at_ms": look.coverage.at_ms, "missing": rows}

    async def _history(self, look: _Look) -> tuple[str, Sequence[str], list[report.Row], Any]:
        end = _day("to", self._today())
        start = _day("from", end - timedelta(days=HISTORY_DAYS))
        rows = report.days(await self._between(look, start, end))
        return "history", report.DAY_COLUMNS, rows, {"area": look.area, "days": rows}

    async def _page(self, look: _Look, screen: Screen) -> Response:
        days = await self._year(look)
        missing = [site for site in look.coverage.missing() if report.lies_in(site, look.directory, look.area)]
        told = [lack.reason for site in missing for lack in site.lacks]
        line = trend(days, date(self.goal_year, 12, 31))
        return screen.page(
            "coverage.html",
            at_ms=look.coverage.at_ms,
            area=look.directory.areas.get(look.area),
            within=look.area,
            rows=report.areas(look.coverage, look.directory, look.area),
            figure=report.figures(look.coverage.figures[look.area]),
            missing=[(site, look.directory.premises[site.premises]) for site in missing[:SITES_SHOWN]],
            missing_count=len(missing),
            lacks={reason: count for reason in REASONS if (count := told.count(reason))},
            weak=report.weakly_supervised(look.coverage, look.directory, look.area),
            tested_within_days=self.tested_within_days,
            trend=line,
            reaches=_shown(line.reaches) if line is not None and line.reaches is not None else "",
            goal_year=self.goal_year,
            chart=self._chart(days),
        )

    async def _year(self, look: _Look) -> list[Day]:
        today = self._today()
        return await self._between(look, today - timedelta(days=TREND_DAYS), today)

    async def _between(self, look: _Look, start: date, end: date) -> list[Day]:
        found = await self.days.between(start, end, look.tops)
        return found if len(look.tops) == 1 else joined(found)

    def _chart(self, days: Sequence[Day]) -> chart.Chart | None:
        """The last year, from 0 to 100 per cent."""
        intervals = [
            Interval(one.area, _midnight_ms(one.day), percent, percent, percent, 1)
            for one in days
            if (percent := one.figure.percent) is not None
        ]
        if not intervals:
            return None
        end_ms = _midnight_ms(self._today()) + DAY_MS
        return chart.draw(intervals, intervals[0].start_ms, end_ms, DAY_MS, bounds=(0.0, 100.0))

    def _today(self) -> date:
        return datetime.fromtimestamp(self.clock.wall_ms() / 1000.0, UTC).astimezone(ZONE).date()


@dataclass(frozen=True, slots=True)
class _Look:
    coverage: Coverage
    directory: Directory
    area: str
    tops: list[str]  # whose history is that of `area`


def _day(name: str, otherwise: date) -> date:
    text = request.args.get(name, "")
    try:
        return date.fromisoformat(text) if text else otherwise
    except ValueError:
        raise ValueError(f"{name} must be a day such as 2026-11-26, not {text[:40]!r}") from None


def _midnight_ms(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp() * 1000.0


def _shown(day: date) -> str:
    return f"{day:%d/%m/%Y}"
