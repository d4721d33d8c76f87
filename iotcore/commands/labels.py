"""`iotcore labels …`: a PDF of labels for devices, each with a code that leads to the device's page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from iotcore.clock import Clock
from iotcore.commands import groups, office
from iotcore.commands.whole_file import written_whole
from iotcore.errors import ConfigError, Problem, StartError
from iotcore.paper import labels as paper
from iotcore.registry.kinds import DEVICES, PREMISES, ZONES, Fields, rows
from iotcore.registry.store import Registry
from iotcore.registry.text import unseen
from iotcore.settings import Settings
from iotcore.web.words import load

MAX_LABELS = 10_000  # of one file: 417 pages of 24
MAX_SERIAL = 64  # characters, as the registry keeps them
ENROL = "/enrol/"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which labels, on which sheet; `serials` is a file with a device or a serial number a line, registered or not yet."""

    output: Path
    devices: Sequence[str] = ()
    premises: Sequence[str] = ()
    groups: Sequence[str] = ()
    serials: Path | None = None
    layout: str = "3x8-70x37"
    skip: int = 0


async def run(settings: Settings, wanted: Wanted, clock: Clock) -> int:
    """Write the labels; how many.

    Raises:
        ConfigError: devices or premises that are not registered, or lines that can be no serial.
        StartError: no such group, no `web.public_url`, too many labels, or the file cannot be written.
    """
    if not settings.web.public_url:
        remedy = (
            "A label's code leads to the console: set the address under which technicians reach it, such as https://iot.example"
        )
        raise StartError("web.public_url is not set", remedy)
    layout = paper.LAYOUTS[wanted.layout]
    if not 0 <= wanted.skip < layout.count:
        raise StartError(f"--skip {wanted.skip}: a sheet has {layout.count} labels", "Skip fewer than a whole sheet.")
    lines = await asyncio.to_thread(_lines, wanted.serials) if wanted.serials else []
    members = await _members(settings, wanted.groups) if wanted.groups else []
    async with office.opened(settings) as registry:
        found = await _found(registry, wanted, [*members, *lines])
        labels = await _labels(registry, settings, found)
    if not labels:
        raise StartError("There is nothing to print", "Name devices, --premises, --group or --file.")
    if len(labels) > MAX_LABELS:
        raise StartError(f"{len(labels)} labels are too many for one file ({MAX_LABELS})", "Print them in parts.")
    language = settings.web.language
    made = datetime.fromtimestamp(clock.wall_ms() / 1000.0, UTC)
    title = load(language).of("labels", "title")
    drawn = await asyncio.to_thread(paper.draw, labels, layout, made, language, title=title, skip=wanted.skip)
    with written_whole(wanted.output) as file:
        file.write(drawn)
    return len(labels)


async def _members(settings: Settings, names: Sequence[str]) -> list[str]:
    async with groups.known(settings) as here:
        return [binding.device for name in names for binding in here.bindings(name)]


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read as UTF-8 text: {error}")]) from error
    problems = []
    for number, line in enumerate(lines, 1):
        reason = unseen(line) or (f"longer than {MAX_SERIAL} characters" if len(line) > MAX_SERIAL else "")
        if reason:
            problems.append(Problem(str(path), f"line {number}", reason))
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(line for line in lines if line))


async def _found(registry: Registry, wanted: Wanted, lines: Sequence[str]) -> list[Fields | str]:
    """Devices as plain entries, and serials of which none is registered, in the order in which they were asked for."""
    names = [*wanted.devices, *lines]
    async with registry.database.reading() as db:
        by_id = {row[0]: DEVICES.plain(row) for row in await rows(db, DEVICES, DEVICES.columns, names)}
        of_serial = [DEVICES.plain(row) for row in await rows(db, DEVICES, DEVICES.columns, filter(None, names), "serial")]
        within = [DEVICES.plain(row) for row in await rows(db, DEVICES, DEVICES.columns, wanted.premises, "premises_id")]
        places = {row[0] for row in await rows(db, PREMISES, ("id",), wanted.premises)}
    by_serial: dict[str, list[Fields]] = {}
    for one in of_serial:
        by_serial.setdefault(one["serial"], []).append(one)
    problems = [Problem("labels", one, "no such premises") for one in wanted.premises if one not in places]
    found: list[Fields | str] = []
    for name in names:
        ones = [by_id[name]] if name in by_id else by_serial.get(name, [])
        if len(ones) > 1:
            ids = ", ".join(sorted(one["id"] for one in ones))
            problems.append(Problem("labels", name, f"a serial of several devices; name one of: {ids}"))
        elif not ones and name in wanted.devices:
            problems.append(Problem("labels", name, "no such device; for serials that are not registered yet: --file"))
        found.append(ones[0] if ones else name)
    if problems:
        raise ConfigError(problems)
    return [*found, *sorted(within, key=lambda one: (one["premises"], one["zone"], one["id"]))]


async def _labels(registry: Registry, settings: Settings, found: Sequence[Fields | str]) -> list[paper.Label]:
    """Each device once, with its model and its place in words."""
    devices = [one for one in found if not isinstance(one, str)]
    async with registry.database.reading() as db:
        premises = await rows(db, PREMISES, ("id", "name"), _filled(one["premises"] for one in devices))
        zones = await rows(db, ZONES, ("id", "floor", "name"), _filled(one["zone"] for one in devices))
    words = load(settings.web.language)
    places = dict(premises) | {f"zone {one}": f"{words.floor(floor)} · {name}" for one, floor, name in zones}
    base = settings.web.public_url.rstrip("/") + ENROL
    labels: dict[str, paper.Label] = {}
    for one in found:
        name = one if isinstance(one, str) else one["id"]
        lines = () if isinstance(one, str) else _told(one, places)
        labels.setdefault(name, paper.Label(base + quote(name, safe=""), name, lines))
    return list(labels.values())


def _filled(names: Iterable[str]) -> set[str]:
    return {name for name in names if name}


def _told(device: Fields, places: Mapping[str, str]) -> tuple[str, ...]:
    serial = f"S/N {device['serial']}" if device["serial"] else ""
    place = [places.get(device["premises"], ""), places.get(f"zone {device['zone']}", ""), device["location"]]
    lines = (device["title"], device["model"], serial, " · ".join(part for part in place if part))
    return tuple(line for line in lines if line)
