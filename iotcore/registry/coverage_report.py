"""Coverage as rows: the same for the page, for programs and for a spreadsheet. Pure; times are ISO 8601, UTC."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from iotcore.registry.coverage import EVERYWHERE, Coverage, Figure, Site
from iotcore.registry.coverage_days import Day, Trend
from iotcore.registry.directory import Directory
from iotcore.wire.topics import FIRE_DOMAIN

Row = dict[str, Any]
NOWHERE = "-"  # the row of the key sites without an area; no area has this name
AREA_COLUMNS = ("area", "name", "kind", "depth", "key_sites", "watched", "covered", "percent")
MISSING_COLUMNS = ("premises", "name", "address", "area", "area_name", "detectors", "reason", "devices", "example", "since")
DAY_COLUMNS = ("day", "area", "key_sites", "watched", "covered", "percent", "at")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins so


def areas(coverage: Coverage, directory: Directory, within: str = EVERYWHERE) -> list[Row]:
    """A row for each area that has a key site, each before those that lie in it; at first the whole, or the area `within`."""
    below: dict[str, list[str]] = {}
    for area in directory.areas.values():
        if area.id in coverage.figures and coverage.figures[area.id].key_sites:
            below.setdefault(area.parent if area.parent in coverage.figures else EVERYWHERE, []).append(area.id)
    rows = list(_tree(coverage, directory, below, within, 0))
    if within == EVERYWHERE and (placeless := _nowhere(coverage, directory)).key_sites and len(rows) > 1:
        rows.append({"area": NOWHERE, "name": "", "kind": "none", "depth": 1, **figures(placeless)})
    return rows


def missing(coverage: Coverage, directory: Directory, within: str = EVERYWHERE) -> list[Row]:
    """The key sites that are not covered, with `lacks`: reason, devices, example, since."""
    return [_site(site, directory) for site in coverage.missing() if lies_in(site, directory, within)]


def lies_in(site: Site, directory: Directory, within: str) -> bool:
    """Whether a site lies in an area, or in one below it."""
    return within == EVERYWHERE or within in directory.upwards(site.area)


def weakly_supervised(coverage: Coverage, directory: Directory, within: str = EVERYWHERE) -> list[str]:
    """Active fire devices of key sites whose death would be noticed late (`DeviceSpec.weakly_supervised`)."""
    there = {name for name, site in coverage.sites.items() if lies_in(site, directory, within)}
    return sorted(
        one.device
        for one in directory.devices.values()
        if one.premises in there and one.domain == FIRE_DOMAIN and one.state == "active" and one.spec.weakly_supervised
    )


def missing_flat(rows: Iterable[Row]) -> list[Row]:
    """The same with a row for each reason."""
    return [{**{name: row[name] for name in MISSING_COLUMNS if name in row}, **lack} for row in rows for lack in row["lacks"]]


def days(found: Iterable[Day]) -> list[Row]:
    """A row for each day."""
    return [{"day": one.day.isoformat(), "area": one.area, **figures(one.figure), "at": iso(one.at_ms)} for one in found]


def trend(found: Trend | None) -> Row | None:
    """The line of the history, in points of a per cent for a year."""
    if found is None:
        return None
    return {
        "per_year": round(found.per_year, 2),
        "reaches": found.reaches.isoformat() if found.reaches is not None else None,
        "goal": found.goal.isoformat(),
        "needed_per_year": round(found.needed_per_year, 2),
        "on_course": found.on_course,
    }


def figures(figure: Figure) -> Row:
    """The numbers of an area."""
    percent = figure.percent
    return {
        "key_sites": figure.key_sites,
        "watched": figure.watched,
        "covered": figure.covered,
        "percent": None if percent is None else round(percent, 1),
    }


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """RFC 4180, with a byte order mark, without which Excel does not see that it is UTF-8; no cell is a formula."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(columns)
    for row in rows:
        table.writerow([_cell(row.get(name)) for name in columns])
    return "\ufeff" + out.getvalue()


def iso(at_ms: float | None) -> str | None:
    """A time for programs."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tree(coverage: Coverage, directory: Directory, below: Mapping[str, list[str]], area: str, depth: int) -> Iterator[Row]:
    known = directory.areas.get(area)
    named = {"area": area, "name": known.name if known else "", "kind": known.kind if known else "whole", "depth": depth}
    yield {**named, **figures(coverage.figures[area])}
    for inner in sorted(below.get(area, ()), key=lambda one: (_order(directory.areas[one].name), one)):
        yield from _tree(coverage, directory, below, inner, depth + 1)


def _order(name: str) -> tuple[str, str]:
    """As a Vietnamese list is ordered, nearly: letters first, their marks only between equals."""
    letters = unicodedata.normalize("NFD", name.casefold().replace("đ", "d"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)), name


def _nowhere(coverage: Coverage, directory: Directory) -> Figure:
    sites = [site for site in coverage.sites.values() if site.area not in directory.areas]
    return Figure(len(sites), sum(site.live > 0 for site in sites), sum(site.covered for site in sites))


def _site(site: Site, directory: Directory) -> Row:
    premises = directory.premises[site.premises]
    area = directory.areas.get(site.area)
    return {
        "premises": site.premises,
        "name": premises.name,
        "address": premises.address,
        "area": site.area,
        "area_name": area.name if area is not None else "",
        "detectors": site.detectors,
        "lacks": [
            {"reason": one.reason, "devices": one.devices, "example": one.example, "since": iso(one.since_ms)}
            for one in site.lacks
        ],
    }


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
