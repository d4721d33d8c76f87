"""The history of coverage: a row for each day and area, never filled in afterwards; and where its line leads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import date, timedelta

from tortoise.expressions import Q

from iotcore.registry.coverage import EVERYWHERE, Coverage, Figure
from iotcore.registry.database import Database, whole
from iotcore.registry.tables_coverage import CoverageRow

TREND_DAYS = 365  # of history that the line is drawn through
TREND_LEAST_DAYS = 14  # between the first and the last of them: a shorter line says nothing
YEAR_DAYS = 365.25
BATCH_ROWS = 500  # in one statement
HORIZON_DAYS = 200 * 366  # a line that needs longer never arrives


@dataclass(frozen=True, slots=True)
class Day:
    """The figure of an area on a day of the city's calendar; with several cells their sum. `at_ms`: as of when, ms UTC."""

    day: date
    area: str
    figure: Figure
    at_ms: int


@dataclass(frozen=True, slots=True)
class Trend:
    """The straight line through the history (least squares), in points of a per cent.

    `reaches` is the day on which it comes to 100 from where it stands; None: never. `needed_per_year` leads there by the goal.
    """

    per_year: float
    reaches: date | None
    goal: date
    needed_per_year: float

    @property
    def on_course(self) -> bool:
        """Whether the goal is met."""
        return self.reaches is not None and self.reaches <= self.goal


class CoverageDays:
    """The registry's history of coverage. All methods raise StoreError when the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @whole
    async def keep(self, day: date, coverage: Coverage, by: str, cell: str = "") -> None:
        """Keep the figures of a day as they are now, in place of earlier ones of that day."""
        async with self._database.writing() as work:
            await CoverageRow.filter(day=day.isoformat(), cell=cell).using_db(work.db).delete()
            rows = [
                CoverageRow(
                    day=day.isoformat(),
                    cell=cell,
                    area=area,
                    key_sites=figure.key_sites,
                    watched=figure.watched,
                    covered=figure.covered,
                    at_ms=work.now_ms,
                )
                for area, figure in coverage.figures.items()
                if figure.key_sites or area == EVERYWHERE
            ]
            await CoverageRow.bulk_create(rows, batch_size=BATCH_ROWS, using_db=work.db)
            city = coverage.figures[EVERYWHERE]
            counts = {"key_sites": city.key_sites, "watched": city.watched, "covered": city.covered}
            work.note(by, "coverage.day", day.isoformat(), cell=cell, **counts)

    async def between(self, start: date, end: date, areas: Sequence[str] = (EVERYWHERE,)) -> list[Day]:
        """The days from `start` to `end`, both included, oldest first, of each of `areas`. Days without a look are not there."""
        condition = Q(day__gte=start.isoformat(), day__lte=end.isoformat(), area__in=list(areas))
        async with self._database.reading() as db:
            rows = await CoverageRow.filter(condition).using_db(db).order_by("day", "area", "cell")
        return _summed(rows)


def _summed(rows: Iterable[CoverageRow]) -> list[Day]:
    """Each cell watches its own devices of the same key sites."""
    found: dict[tuple[str, str], Day] = {}
    for row in rows:
        known = found.get((row.day, row.area))
        figure, at_ms = Figure(row.key_sites, row.watched, row.covered), row.at_ms
        if known is not None:
            key_sites = max(known.figure.key_sites, figure.key_sites)
            watched = min(key_sites, known.figure.watched + figure.watched)
            covered = min(key_sites, known.figure.covered + figure.covered)
            figure, at_ms = Figure(key_sites, watched, covered), max(known.at_ms, at_ms)
        found[row.day, row.area] = Day(date.fromisoformat(row.day), row.area, figure, at_ms)
    return list(found.values())


def joined(days: Iterable[Day]) -> list[Day]:
    """The days of several areas, none of which lies in another, as those of one without a name."""
    found: dict[date, Day] = {}
    for one in days:
        known = found.get(one.day, Day(one.day, EVERYWHERE, Figure(), one.at_ms))
        pairs = zip(astuple(known.figure), astuple(one.figure), strict=True)
        found[one.day] = Day(one.day, EVERYWHERE, Figure(*(a + b for a, b in pairs)), max(known.at_ms, one.at_ms))
    return list(found.values())


def trend(days: Sequence[Day], goal: date) -> Trend | None:
    """The line through the days of one area, oldest first; None when they are too few to say anything."""
    known = [(day.day, day.figure.percent) for day in days if day.figure.percent is not None]
    known = [(day, percent) for day, percent in known if (known[-1][0] - day).days <= TREND_DAYS]
    if not known or (known[-1][0] - known[0][0]).days < TREND_LEAST_DAYS:
        return None
    last, now = known[-1]
    spans = [(day - last).days for day, _ in known]
    middle_day, middle = sum(spans) / len(spans), sum(percent for _, percent in known) / len(known)
    above = sum((span - middle_day) * (percent - middle) for span, (_, percent) in zip(spans, known, strict=True))
    per_day = above / sum((span - middle_day) ** 2 for span in spans)
    left = 100.0 - now
    years = max((goal - last).days, 1) / YEAR_DAYS
    return Trend(per_day * YEAR_DAYS, _reached(last, left, per_day), goal, left / years)


def _reached(last: date, left: float, per_day: float) -> date | None:
    if left <= 0.0:
        return last
    if per_day <= 0.0 or left / per_day > HORIZON_DAYS:
        return None
    return last + timedelta(days=math.ceil(left / per_day))
